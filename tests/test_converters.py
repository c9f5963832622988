"""Converters stand alone, and say what is missing."""

import ast
import re
import sys

import pytest
from converting import FOLDER, refused

SCRIPTS = sorted(FOLDER.glob("*.py"))
CONVERTERS = [p for p in SCRIPTS if p.name.startswith("from_")]
# Needed so that a Python without its packages gets as far as to look for the framework.
ARGUMENTS = {"from_escnn": ("--input-shape", "1,9,9"), "from_jax": ("--input-shape", "1,9,9")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_no_converter_imports_the_package(script):
    for node in ast.walk(ast.parse(script.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not any(n.split(".")[0] == "onnx_geed" for n in names)


@pytest.mark.parametrize("script", CONVERTERS, ids=lambda p: p.stem)
def test_a_converter_states_what_it_needs(script):
    assert re.search(r"^# /// script\n(# .*\n)+# ///$", script.read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", CONVERTERS, ids=lambda p: p.stem)
def test_without_its_framework_it_says_what_to_install(script, tmp_path):
    told = refused(
        *(script.stem.removeprefix("from_"), tmp_path, "nets.py:Net"),
        *ARGUMENTS.get(script.stem, ()),
        python=(sys.executable, "-S"),
    )
    assert re.search(r"is not installed here; pip install", told)


@pytest.mark.parametrize("script", CONVERTERS, ids=lambda p: p.stem)
def test_the_page_of_converters_shows_it(script):
    assert f"/{script.name}" in (FOLDER / "README.md").read_text()
