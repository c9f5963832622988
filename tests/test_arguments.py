"""Arguments of public functions are looked at by their annotations, and come in that form."""

import sys
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from onnx_geed import GeedError
from onnx_geed.arguments import checked


class Shape(Protocol):
    def area(self) -> float: ...


class Box(TypedDict):
    side: int


class Own(dict):
    pass


@checked
def given(
    n: int = 0,
    pair: tuple[int, int] | None = None,
    names: Sequence[str] = (),
    sizes: tuple[float, ...] = (),
    kind: Literal["a", "b"] = "a",
    rows: NDArray[Any] = None,
    like: ArrayLike = None,
    out: NDArray[Any] | None = None,
    shape: Shape | None = None,
    box: Box | Mapping[str, Any] | None = None,
    path: str | Path | None = None,
    data: str | Path | NDArray[Any] = "",
    told: Callable[[int], None] | None = None,
    **options: Any,
):
    return locals()


@checked
@dataclass(frozen=True)
class Made:
    names: tuple[str, ...]
    table: NDArray[Any]


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("n", np.int8(3), 3),
        ("pair", [1, np.int64(2)], (1, 2)),
        ("names", "ab", ("ab",)),
        ("names", (c for c in "ab"), ("a", "b")),
        ("sizes", [1, 2.5], (1.0, 2.5)),
        ("kind", np.str_("b"), "b"),
        ("path", None, None),
        ("data", 3, 3),
        ("shape", 3, 3),
        ("options", 3, {"options": 3}),
    ],
)
def test_what_fits_comes_in_the_form_of_its_type(name, value, form):
    got = given(**{name: value})[name]
    assert got == form
    assert type(got) is type(form)


def test_rows_are_arrays_and_mappings_are_themselves():
    rows, box = given(rows=[[1, 2], [3, 4]], box=(own := Own(side=1)))["rows"], own
    assert rows.shape == (2, 2)
    assert given(box=box)["box"] is own
    assert given(like=[1.5])["like"].dtype == float
    made = Made(["x"], [[1]])
    assert (made.names, made.table.shape) == (("x",), (1, 1))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("n", True, "n is a whole number, found True"),
        ("n", 10**200, "n is a whole number, found one of over 100 digits"),
        ("pair", (1, 2, 3), r"pair is 2 values \(a whole number, a whole number\)"),
        ("pair", ("1", 2), "pair is 2 values"),
        ("names", iter(int, 1), "names is a list of texts"),
        ("names", range(10**12), "names is a list of texts"),
        ("sizes", "1", "sizes is a list of numbers, found a text, '1'"),
        ("kind", "c", "kind c: choose a or b"),
        ("rows", [[1], [1, 2]], "rows is one array of numbers, found .*: rows differ in length"),
        ("rows", None, r"rows is one array of numbers, found None \(object values\)"),
        ("like", range(10**12), "like: a list of 1000000000000 is too long"),
        ("like", np.broadcast_to(0.0, (10**6, 10**6)), "like: one value is repeated to"),
        ("like", np.zeros(2, complex), r"like is one array of numbers, .*\(complex128 values\)"),
        ("out", [1], r"out is an array, found the list \[1\]"),
        ("box", 3, "box is a box or a mapping, found the number 3"),
        ("path", "", "path '' is no path: it is empty"),
        ("path", 3, "path is a path, found 3"),
        ("told", 3, "told is a function, found the number 3"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_it(name, value, told):
    with pytest.raises(GeedError, match=rf"^{told}"):
        given(**{name: value})


def test_a_class_is_looked_at_too():
    with pytest.raises(GeedError, match=r"^names is a list of texts, found a text, 'x'"):
        Made("x", [[1]])
    with pytest.raises(GeedError, match=r"^table is one array"):
        Made(["x"], table="y")


def test_no_memory_is_one_line():
    @checked
    def huge(n: int):
        raise MemoryError

    with pytest.raises(GeedError, match=r"^huge: out of memory: use a smaller"):
        huge(1)


class Said(str):
    def __str__(self) -> str:
        return "another"


class Failing(str):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("none")

    __hash__ = str.__hash__


def test_a_class_of_ones_own_stands_for_its_value_and_its_methods_are_not_asked():
    assert given(kind=Said("b"))["kind"] == "b"
    assert type(given(kind=Failing("b"))["kind"]) is str
    assert given(names=Said("x"))["names"] == ("x",)
    assert given(path=Said("x"))["path"] == "x"
    view = np.ones(3).view(np.matrix)
    assert type(given(out=view)["out"]) is np.ndarray
    assert np.shares_memory(given(out=view)["out"], view)


def test_what_fails_when_it_is_looked_at_is_one_line_that_names_the_argument():
    made = type("Made", (list,), {"__len__": lambda self: -1})
    gone = weakref.proxy(Own())
    for name, value in {"n": made(), "names": gone, "path": gone, "box": gone}.items():
        with pytest.raises(GeedError, match=f"^{name}: the .* fails when it is looked at"):
            given(**{name: value})


def test_masked_arrays_are_not_asked_for_while_another_thread_loads_them(monkeypatch):
    from onnx_geed.typed import refuse_masked

    hidden = np.ma.masked_array([1.0, 2.0], mask=[True, False])
    with pytest.raises(GeedError, match="x: 1 values are masked"):
        refuse_masked("x", hidden)
    monkeypatch.setitem(sys.modules, "numpy.ma", types.ModuleType("numpy.ma"))
    refuse_masked("x", np.ones(2))
    monkeypatch.delitem(sys.modules, "numpy.ma")
    refuse_masked("x", np.ones(2))
