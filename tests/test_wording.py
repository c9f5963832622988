"""What an error tells whoever called: options to a command, arguments to a function."""

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import onnx_geed
from onnx_geed import GeedError
from onnx_geed.cli import cli
from onnx_geed.wording import ARGUMENTS, as_arguments, bare, on_command_line, worded

ROOT = Path(onnx_geed.__file__).parent

# Options that only a command has: files it writes, what it does around the run, pages.
OF_COMMANDS = {
    *(
        "address",
        "data",
        "group",
        "executor",
        "format",
        "info",
        "verify",
        "isolate",
        "memory-limit",
    ),
    *("time-limit", "out", "junit", "fail-above", "report", "pictures", "model", "help"),
    *("input-shape", "classes", "output-cache", "samples-shown", "cache", "fit-representation"),
}

# What looks like one: names in style sheets.
OF_STYLES = {"head", "ink", "kind", "soft", "line"}


def known_arguments():
    names = {field.name for field in dataclasses.fields(onnx_geed.Options)}
    for name in onnx_geed.__all__:
        value = getattr(onnx_geed, name)
        if inspect.isfunction(value):
            names |= set(inspect.signature(value).parameters)
    return names | set(inspect.signature(onnx_geed.Result.compare).parameters)


def test_every_argument_that_a_message_names_is_one_of_a_public_function():
    assert set(ARGUMENTS.values()) <= known_arguments()


def test_every_field_of_options_has_its_option():
    fields = {field.name for field in dataclasses.fields(onnx_geed.Options)}
    assert fields <= set(ARGUMENTS.values())


def test_every_option_in_a_message_is_an_argument_or_of_commands_alone():
    found = set()
    for path in ROOT.rglob("*.py"):
        if path.parent.name != "cli" and path.name != "wording.py":
            found |= set(re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w-])", path.read_text()))
    assert found - set(ARGUMENTS) - OF_COMMANDS - OF_STYLES == set()


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--input-layout x=NCT: names 3 axes", ["input_layout={'x': 'NCT'}"]),
        ("say it with --input-layout NHW, or", ["input_layout='NHW'"]),
        ("--samples 0: measure one", ["samples=0"]),
        ("a smaller --batch-size or --memory, or", ["batch_size=", "memory="]),
        ("say what they are with --layout, such as", ["layout="]),
        ("write --layout LAYER=NPC.", ["layout={'LAYER': 'NPC'}"]),
        ("--preprocess 'resize=256 crop=224': bad", ["preprocess='resize=256 crop=224'"]),
        ("--engine graph: no; leave it out", ["engine='graph'"]),
        ("this --measure, or --norm-samples 30", ["measures=", "norm_samples=30"]),
        ("compare them anyway with --force", ["force=True"]),
        ("naming layers with --measure NAME@LAYER", ["measures=['NAME@LAYER']"]),
        ("--labels has 3", ["labels="]),
        ("--data images: no image", []),
        ("--fail-above x=3: is for nothing", []),
        ("a--seed 3 and ---seed", []),
    ],
)
def test_options_are_arguments(message, arguments):
    assert as_arguments(message) == arguments
    assert worded(message).startswith(message)
    assert worded(message).count("in Python") == bool(arguments)
    assert bare(worded(message)) == message
    with on_command_line():
        assert worded(message) == message


def test_an_error_made_of_another_says_it_once():
    inner = GeedError("--samples 0: measure at least one sample")
    assert str(inner).endswith("(in Python: samples=0)")
    outer = GeedError(f"group C4: {inner}; the rest goes on with --seed 3")
    assert str(outer).count("in Python") == 1
    assert str(outer).endswith("(in Python: samples=0, seed=3)")
    with on_command_line():
        assert "in Python" not in str(outer)


def test_a_function_names_arguments_and_a_command_its_options(tmp_path):
    rows = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(GeedError, match=r"\(in Python: .*input_layout=") as error:
        onnx_geed.measure(lambda x: x, rows, "C4")
    assert "\n" not in str(error.value)
    done = CliRunner().invoke(
        cli,
        ["measure", str(tmp_path / "x.onnx"), "--data", "no", "--group", "C4", "--samples", "0"],
    )
    assert done.exit_code == 2
    assert "in Python" not in done.output
