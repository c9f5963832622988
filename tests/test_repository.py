"""What stands around the package: workflows, hooks, images and completion call what is there."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = (ROOT / ".ci/run").read_text()


def commands_of(workflow):
    return re.findall(r"^ *(?:- )?run: (.+)$", workflow.read_text(), re.MULTILINE)


def test_workflows_call_the_scripts_that_are_called_by_hand():
    called = [words for w in WORKFLOWS for words in map(shlex.split, commands_of(w))]
    scripts = {words[1] for words in called if words[0] == "bash"}
    assert scripts == {".ci/run", ".ci/dependencies", ".ci/release"}
    assert all((ROOT / script).is_file() for script in scripts)
    # The rest is the README's test command, in two steps.
    readme = (ROOT / "README.md").read_text()
    for words in called:
        if words[0] != "bash":
            assert shlex.join(words[2:]).replace("'", "") in readme.replace("'", ""), words


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
def test_a_workflow_may_do_no_more_than_it_has_to(workflow):
    text = workflow.read_text()
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)
    assert "secrets." not in text
    yaml = pytest.importorskip("yaml")
    for job in yaml.safe_load(text)["jobs"].values():
        assert job["steps"]
        assert job["runs-on"]


def test_hooks_run_what_the_checks_run():
    entries = re.findall(r"entry: python -m (.+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert entries[:3] == ["ruff check", "ruff format", "mypy"]
    for entry in entries[:3]:
        assert f'"$python" -m {entry}' in RUN
    for word in entries[3].split():
        assert not word.startswith("tests/") or (ROOT / word).is_file()


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_install_what_there_is(name):
    text = (ROOT / "docker" / name).read_text()
    extras = re.search(r"/src\[([\w,]+)\]", text)[1].split(",")
    assert {*extras} <= {*PROJECT["optional-dependencies"]}
    bound = next(d for d in PROJECT["dependencies"] if d.startswith("onnxruntime>="))
    if name == "Dockerfile":
        assert bound.partition(";")[0].strip() in text
        assert text.index("uninstall --yes onnxruntime-gpu") < text.index("'onnxruntime>=")
    # What is read while it is built is not left out of what Docker is given.
    left_out = (ROOT / ".dockerignore").read_text().split()
    for needed in ("onnx_geed", "converters", "packing", "README.md", "pyproject.toml"):
        assert needed not in left_out
    assert "is not built by .ci/run" in text


def test_a_release_is_checked_as_every_run_checks_it():
    release = (ROOT / ".ci/release").read_text()
    assert "twine check --strict" in release
    assert "bash .ci/release" in RUN
    refused = subprocess.run(
        ["bash", ROOT / ".ci/release", "dist-of-a-test", "0.0.99"], capture_output=True, text=True
    )
    (ROOT / "dist-of-a-test").rmdir() if (ROOT / "dist-of-a-test").is_dir() else None
    assert refused.returncode == 2
    assert refused.stderr == "pyproject.toml has another version than 0.0.99\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_of_completion_are_what_click_answers(shell):
    page = (ROOT / "docs/install.md").read_text()
    assert f"_ONNX_GEED_COMPLETE={shell}_source onnx-geed" in page
    command = "import sys; sys.argv = ['onnx-geed']; from onnx_geed.__main__ import main; main()"
    run = [sys.executable, "-c", command]
    shared = {**os.environ, "PYTHONPATH": str(ROOT)}
    if shell != "bash":  # which asks the installed version of Bash
        env = {**shared, "_ONNX_GEED_COMPLETE": f"{shell}_source"}
        script = subprocess.run(run, env=env, capture_output=True, text=True)
        assert "onnx-geed" in script.stdout, script.stderr
    words = {"COMP_WORDS": "onnx-geed measure --int", "COMP_CWORD": "2"}
    if shell == "fish":
        words = {"COMP_WORDS": "onnx-geed measure --int", "COMP_CWORD": "--int"}
    env = {**shared, **words, "_ONNX_GEED_COMPLETE": f"{shell}_complete"}
    answer = subprocess.run(run, env=env, capture_output=True, text=True)
    assert "--interpolation" in answer.stdout, answer.stderr
    assert "--interval" in answer.stdout
