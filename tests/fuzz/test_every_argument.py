"""A few bad values for every argument of every public function: each is one line that names it."""

import inspect
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("its limits are those of Linux", allow_module_level=True)

from every_argument import Cases, calls, fault_of, prepare, sweep

import onnx_geed
from onnx_geed import testing

#: Those that nobody makes by hand, or that take no arguments.
MADE = {"Action", "Comparison", "GeedError", "LayoutAction", "Model", "Result", "Samples", "Tensor"}

#: Arguments that the package itself gives, or that are looked at when they are used.
SPARED = {"without_row", "letters", "composes", "layout", "exactness", "fit", "partial"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calls")
    prepare(folder)
    return calls(folder)


def test_a_few_bad_values_for_every_argument_are_refused(tmp_path):
    ended = list(sweep(tmp_path, Cases(few=True)))
    assert len(ended) > 1500
    assert not [(*case, how) for case, how in ended if how not in ("refused", "answered")]


def test_every_public_function_is_tried(made):
    tried = {getattr(call.function, "func", call.function) for call in made.values()}
    public = {getattr(onnx_geed, name) for name in {*onnx_geed.__all__} - MADE}
    left = {one for one in public if callable(one)} | {getattr(testing, n) for n in testing.__all__}
    assert {one.__name__ for one in left - tried} <= {"log_mlflow"}


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("n is a whole number, found None", "refused"),
        ("it is no number", "unnamed"),
        ("n is " + "x" * 2000, "2005 letters"),
        ("n is\nnothing", "12 letters"),
    ],
)
def test_what_is_no_line_about_the_argument_is_told(message, fault):
    assert fault_of(message, "n", None).startswith(fault)


def test_every_argument_is_given(made):
    for name, call in made.items():
        if "**" in str(inspect.signature(call.function)):
            continue  # for options of a run, which are all given to one of them
        assert {*inspect.signature(call.function).parameters} - {*call.arguments} <= SPARED, name
