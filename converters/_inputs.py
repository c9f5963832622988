"""What a model takes: names, shapes and types of its inputs, and one letter for each axis."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

if __package__:
    from ._options import Problem, checked_layout
else:
    from _options import Problem, checked_layout

DTYPES = ("float32", "int64", "int32", "bool")


@dataclass(frozen=True)
class Input:
    """An input of a model.

    Parameters
    ----------
    name : str
        As the file has it.
    shape : tuple of int
        Of one sample.
    dtype : {"float32", "int64", "int32", "bool"}
        What it holds.
    layout : str
        One letter an axis, such as ``NCHW``; empty where nobody said.
    below : int
        Integers stay below it where they are made up: the rows of an embedding.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = ""
    below: int = 2

    @property
    def is_float(self) -> bool:
        """Whether it holds floats."""
        return self.dtype == "float32"

    @property
    def pairs(self) -> tuple[int, ...]:
        """Both axes of an adjacency, the batch counted; none where it is no such."""
        if self.layout.count("P") < 2:
            return ()
        return tuple(i for i, letter in enumerate(self.layout) if letter == "P")


def add_input_shape(group: argparse._ArgumentGroup, lengths: str, **options: object) -> None:
    """Add the option that says what the model takes; `lengths` shows an image's."""
    group.add_argument(
        "--input-shape",
        metavar=f"[NAME=]{lengths}[:DTYPE]",
        action="append",
        help=f"shape of one sample; with several inputs give NAME=SHAPE for each; DTYPE: {', '.join(DTYPES)}",
        **options,  # type: ignore[arg-type]
    )


def read_inputs(texts: Sequence[str] | None) -> list[Input]:
    """Read ``3,224,224``, or ``pos=128,3`` and ``ids=16:int64``; nothing where nothing is given."""
    inputs = [_read_input(text) for text in texts or ()]
    names = [i.name for i in inputs]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise Problem(
            f"--input-shape: names {twice} twice; with several inputs write NAME=LENGTHS for each"
        )
    return inputs


def _read_input(text: str) -> Input:
    name, _, rest = text.rpartition("=")
    lengths, _, dtype = rest.partition(":")
    try:
        shape = tuple(int(part) for part in lengths.lower().replace("x", ",").split(",") if lengths)
    except ValueError:
        shape = (0,)
    if min(shape, default=1) < 1 or (not shape and not name):
        raise Problem(
            f"--input-shape {text}: give the shape of one sample, such as 3,224,224 or pos=128,3"
        )
    if (dtype or "float32") not in DTYPES:
        raise Problem(
            f"--input-shape {text}: there is no type {dtype}; the types are {', '.join(DTYPES)}"
        )
    if name in ("latent", "output"):
        raise Problem(f"--input-shape {text}: an input cannot be called {name}; wrap the model")
    return Input(name or "input", shape, dtype or "float32")


def in_order(inputs: Sequence[Input], parameters: Sequence[str] | None) -> list[Input]:
    """Bring inputs that have names to the order in which the model takes them.

    Parameters
    ----------
    inputs : sequence of Input
        As the user gave them.
    parameters : sequence of str, optional
        Those of the model's call; None where they are not known, or any number can be given.

    Raises
    ------
    Problem
        If the model has no parameter of that name.
        If one before it is left out.
    """
    if parameters is None or (len(inputs) == 1 and inputs[0].name == "input"):
        return list(inputs)
    for one in inputs:
        if one.name not in parameters:
            raise Problem(
                f"--input-shape {one.name}=...: the model takes {', '.join(parameters)}"
                f"{_near(one.name, parameters)}"
            )
    ordered = sorted(inputs, key=lambda i: parameters.index(i.name))
    for one, parameter in zip(ordered, parameters, strict=False):
        if one.name != parameter:
            raise Problem(
                f"--input-shape {one.name}=...: the model takes {parameter} before it; give its shape "
                f"too, or wrap the model"
            )
    return ordered


def layout_by_shape(shape: Sequence[int]) -> str:
    """Return the layout of an image whose shape tells it, as onnx-geed reads it; empty elsewhere.

    An axis of length 1, 3 or 4 is the channels, if it comes first or last, not both.
    """
    if len(shape) != 3:
        return ""
    first, last = (shape[axis] in (1, 3, 4) for axis in (0, 2))
    return "" if first == last else "NCHW" if first else "NHWC"


def main_by_channels(inputs: Sequence[Input]) -> list[Input]:
    """Return several inputs, the main one with its layout if it is plainly an image.

    Others move along where they have a layout, which only the user knows.
    """
    main = inputs[0]
    layout = main.layout or (layout_by_shape(main.shape) if main.is_float else "")
    return [replace(main, layout=layout), *inputs[1:]]


def check_length(layout: str, shape: Sequence[int], source: str) -> None:
    """Refuse a layout that has not a letter for each axis of a tensor, the batch counted."""
    letters = layout.partition(":")[0]
    if len(letters) != len(shape):
        axes = ", ".join(["batch", *map(str, shape[1:])])
        raise Problem(
            f"{source}: names {len(letters)} axes, but the tensor has {len(shape)} ({axes})"
        )


def with_layouts(inputs: Iterable[Input], stated: Iterable[tuple[str, str]]) -> list[Input]:
    """Return inputs with the layouts that the user stated, which go before the framework's."""
    known = {i.name: i for i in inputs}
    for name, layout in stated:
        if not name and len(known) > 1:
            raise Problem(
                f"--input-layout {layout}: the model takes {', '.join(known)}; write NAME={layout}"
            )
        name = name or next(iter(known))
        source = f"--input-layout {name}={layout}"
        if ":" in layout:
            raise Problem(f"{source}: an input needs one letter per axis, such as NTC")
        if name not in known:
            raise Problem(f"{source}: the inputs are {', '.join(known)}{_near(name, known)}")
        known[name] = replace(known[name], layout=layout)
    for one in known.values():
        if one.layout:
            source = f"layout {one.layout} of input {one.name}"
            check_length(checked_layout(one.layout, source), (0, *one.shape), source)
    return list(known.values())


def _near(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""
