"""A program that a file names as its group is never run: who reads the file did not ask for it."""

import ast
import copy
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

import onnx_geed
from onnx_geed import GeedError, measure, parse_group, write_json
from onnx_geed.cache.acting import acting_group
from onnx_geed.cli import cli
from onnx_geed.groups import recorded_group

DEMO = Path(str(files("onnx_geed.demo")))
NAMES = ("bad_program:f", "C2*bad_program:f", "bad_program:f*C2")
#: What a file may say beside, to be taken for another kind of group.
LIES = ({}, {"kind": "family"}, {"kind": "family", "parameter": "member"}, {"kind": "sampled"})


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A module in the folder of work, and the file that it writes if it is run."""
    left = tmp_path / "ran"
    text = f"open({str(left)!r}, 'w').close()\ndef f():\n    return {{'dark': lambda x: x / 2}}\n"
    (tmp_path / "bad_program.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bad_program", raising=False)
    return left


@pytest.fixture(scope="module")
def result():
    return measure(DEMO / "digits_cnn.onnx", str(DEMO / "digits.npz"), "C4", samples=3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lie", LIES, ids=str)
def test_no_command_runs_what_a_result_names(ran, result, name, lie):
    content = copy.deepcopy(dict(result))
    content["group"] |= {"name": name, **lie}
    write_json(content, "r.json")
    for line in (
        ("report", "r.json", "-o", "r.html"),
        ("report", "r.json", "-o", "r.html", "--data", str(DEMO / "digits.npz")),
        (
            *("report", "r.json", "-o", "r.html", "--data", str(DEMO / "digits.npz")),
            *("--model", str(DEMO / "digits_cnn.onnx")),
        ),
        ("compare", "r.json", "r.json"),
        ("aggregate", "r.json", "r.json"),
    ):
        ended = CliRunner().invoke(cli, line)
        assert ended.exit_code in (0, 2), ended.output
        assert not ran.exists(), line


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_cache_runs_nothing_that_it_names(ran, result, name, lie):
    part = {**result["group"], "name": name, **lie}
    # The members of a family of one's own are only named, and it acts on nothing any more.
    with suppress(GeedError):
        acting_group(part)
    assert not ran.exists()


def test_a_program_is_run_where_the_user_names_it(ran):
    with pytest.raises(GeedError, match="not run because a file names it"):
        recorded_group("bad_program:f")
    assert not ran.exists()
    assert parse_group("bad_program:f").elements == ("e", "dark")
    assert ran.exists()
    assert recorded_group("C4*hue3") == parse_group("C4*hue3")


#: What takes a group from the user, who may name a program; all others read names in files.
TAKE_IT_FROM_THE_USER = {
    "groups/named.py",
    *(f"run/{name}.py" for name in ("compile", "metric", "open_source", "pipeline", "setting")),
}


def test_only_what_the_user_names_may_be_a_program():
    package = Path(onnx_geed.__file__).parent
    calls = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parse_group"
    }
    assert calls <= TAKE_IT_FROM_THE_USER
    assert "run/open_source.py" in calls
