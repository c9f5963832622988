"""Errors of libraries, told to people: no class, address, number or tuple of Python in them."""

import re
import tokenize
import zipfile

import numpy as np
import pytest

from onnx_geed import GeedError, aggregate, read_table
from onnx_geed.data import open_rows
from onnx_geed.errors import reason_of, shown

# What tells a programmer, and nobody else, what something is.
PYTHON = re.compile(
    r"<[^<>]*\bobject\b|\bobject at\b|0x[0-9a-f]{6}|\[Errno|^\(|\('|<class|<unknown>|multi-line"
    r"|malformed node|codec can't"
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (tokenize.TokenError("EOF in multi-line statement", (1, 5)), "the description at its"),
        (SyntaxError("invalid syntax"), "the description at its start is damaged"),
        (ValueError("malformed node or string on line 1: <ast.Call object at 0x7f>"), "the descr"),
        (ValueError("Cannot parse header: '{'"), "the description at its start is damaged"),
        (ValueError(f"what is {object()}?"), "what is an object?"),
        (ValueError("two", 3), "two"),
        (FileNotFoundError(2, "No such file or directory", "a"), "No such file or directory"),
        (KeyError("lambda"), "lambda is missing"),
        (KeyError(("latent-l2", "latent")), "('latent-l2', 'latent') is missing"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "not UTF-8 text"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("a\nb"), "a"),
        (ValueError("a" * 1000), "a" * 160),
    ],
)
def test_what_a_library_says_is_told_in_words(error, told):
    reason = reason_of(error)
    assert reason.startswith(told)
    assert len(reason) <= 160


HEADS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3",
    "{'descr': f(), 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, lambda: 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}",
    "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': 'nonsense', 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': '<f4', 'shape': (2, 3)}",
    "[1, 2",
    "1 +",
    "'\\x00",
    "\xff",
    "",
)


@pytest.mark.parametrize("head", HEADS)
def test_heads_of_arrays_that_are_none_are_told_in_words(tmp_path, head):
    text = head.encode("latin-1") + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(24)
    (tmp_path / "a.npy").write_bytes(content)
    np.savez(tmp_path / "a.npz", elements=np.array(["e"]))

    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("channels.npy", content)
    for read in (
        lambda: open_rows(str(tmp_path / "a.npy")),
        lambda: open_rows(f"{tmp_path / 'a.npz'}:channels"),
        lambda: read_table(tmp_path / "a.npz"),
    ):
        with pytest.raises(GeedError) as error:
            read()
        assert not PYTHON.search(str(error.value).replace(str(tmp_path), "")), error.value


class Broken:
    def __repr__(self):
        raise RuntimeError

    def __len__(self):
        return -1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros((3, 4)), "an array of shape (3, 4)"),
        (np.zeros(()), "array(0.)"),
        (sum, "the function sum"),
        (lambda: 1, "the function <lambda>"),
        (int, "the class int"),
        (object(), "<object object>"),
        (Broken(), "Broken"),
        ("a" * 100, "a" * 57 + "..."),
        ("\x1b[2J", "?[2J"),
        (1.5, "1.5"),
    ],
)
def test_what_was_found_is_told_without_its_contents(value, told):
    assert shown(value) == told


@pytest.mark.parametrize(
    "results",
    [
        *(1, 1.5, True, "r.json", b"\xff", int, range(3), Broken(), {}, {"a": 1}),
        *([None], [[]], ["r.json"], np.zeros(0), np.zeros(3)),
    ],
)
def test_what_is_no_list_of_results_is_refused(results):
    with pytest.raises(GeedError, match=r"^aggregate: takes a list of results"):
        aggregate(results)
