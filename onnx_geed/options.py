"""How to measure, as the user chose it: every field checked by its own annotation."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from onnx_geed.actions import Interpolation
from onnx_geed.eed import Support
from onnx_geed.errors import GeedError, check_choice, known_names, nearest, shown
from onnx_geed.intervals import Interval
from onnx_geed.layouts import check_layout
from onnx_geed.preprocess import Preprocess
from onnx_geed.sequential import check_precision
from onnx_geed.session import Provider
from onnx_geed.sizes import parse_bytes
from onnx_geed.tables import Table

__all__ = ["Engine", "Options", "check_option", "make_options", "names_files", "refuse_unknown"]

Engine = Literal["auto", "kernels", "graph"]
StatedKind = Literal["logits", "probabilities", "embedding"]

# Size of D in the paper.
_SAMPLES = 50


@dataclass(frozen=True)
class Options:
    """How to measure; every field has a command-line option of the same name.

    Values are brought to one form: numpy's numbers to Python's, lists to tuples, one text to a
    sequence of one.

    Parameters
    ----------
    measures : sequence of str
        ``NAME`` or ``NAME@LAYER``; empty for all that make sense for the model.
    samples : int, optional
        Size of D, eq. (4): 50 by default. With ``precision`` the most to take, by default all.
    norm_samples : int
        Points for M, eq. (6).
    seed : int
        Seed of the permutation that picks them.
    provider : {"auto", "cuda", "cpu"}
        Where to run.
    batch_size : int, optional
        Most rows in one run; by default from ``memory``.
    memory : str or int
        Budget for activations, such as ``2GiB``, or a number of bytes.
    interval : {"t", "bootstrap"}
        Interval over samples.
    precision : float, optional
        Add samples until half of every interval's width is at most this share of the value's
        distance from perfect equivariance.
    references : bool
        Whether to run the round trips that values are read by.
    untrained : bool
        Whether to measure the same network with its weights drawn anew, as a scale too.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of rotations.
    support : {"full", "disk"}
        Whether samples are masked, and maps compared, inside a disk.
    output_action : mapping of str to str, Path or Table
        Given output actions by layer.
    input, output, latent : str, optional
        Names of the acted-on input, the output and the latent.
    input_layout : str, optional
        Layout of the acted-on input, one letter an axis: ``NCHW``, ``NHWC``, ``NHW``, ``NCDHW``,
        ``NDHWC``, ``NTHWC`` (T for the frames of a video), or these letters in another order.
    output_kind : {"logits", "probabilities", "embedding"}, optional
        What the output is.
    layout : mapping of str to str
        Layouts of hidden tensors by layer.
    feed : mapping of str to str, Path or ndarray
        Values of the other inputs.
    preprocess : str, Path or Preprocess, optional
        Preset, file or ``key=value`` list; by default from the model's metadata.
    labels : str, Path or sequence, optional
        Labels of the samples.
    layers : sequence of str
        Layers that a cache is to keep; without ``measures``, only these.
    engine : {"auto", "kernels", "graph"}
        Where deviations are computed: by compiled loops on the host, or by nodes in the model's own
        graph. ``auto`` takes the graph on CUDA.

    Raises
    ------
    GeedError
        If a value is not of its field's type, or none of its choices.
        If a number is out of its range.
        If there is no such layout or size.
    """

    measures: Sequence[str] = ()
    samples: int | None = None
    norm_samples: int = 200
    seed: int = 0
    provider: Provider = "auto"
    batch_size: int | None = None
    memory: str | int = "2GiB"
    interval: Interval = "t"
    precision: float | None = None
    references: bool = False
    untrained: bool = False
    interpolation: Interpolation = "bilinear"
    support: Support = "full"
    output_action: Mapping[str, str | Path | Table] = field(default_factory=dict)
    input: str | None = None
    input_layout: str | None = None
    output: str | None = None
    output_kind: StatedKind | None = None
    latent: str | None = None
    layout: Mapping[str, str] = field(default_factory=dict)
    feed: Mapping[str, str | Path | NDArray[Any]] = field(default_factory=dict)
    preprocess: str | Path | Preprocess | None = None
    labels: str | Path | NDArray[Any] | Sequence[Any] | None = None
    layers: Sequence[str] = ()
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        for name in _hints():
            object.__setattr__(self, name, check_option(name, getattr(self, name)))
        if self.samples is not None and self.samples < 1:
            raise GeedError(f"--samples {self.samples}: measure at least one sample")
        for name, value in (("norm-samples", self.norm_samples), ("seed", self.seed)):
            if value < 0:
                raise GeedError(f"--{name} {value}: must not be negative")
        if self.batch_size is not None and self.batch_size < 1:
            raise GeedError(f"--batch-size {self.batch_size}: a batch has at least one row")
        for layout in self.layout.values():
            check_layout(layout)
        parse_bytes(self.memory)
        check_precision(self.precision, self.samples)

    @property
    def wanted(self) -> int | None:
        """Samples that D is to have, or at most; ``None`` for all there are."""
        return _SAMPLES if self.samples is None and self.precision is None else self.samples


@functools.cache
def _hints() -> dict[str, Any]:
    """Types of the fields, from their annotations."""
    return get_type_hints(Options)


def names_files(name: str) -> bool:
    """Say whether an option's value may be the path of a file."""
    return Path in _parts(_hints()[name])


def make_options(given: Mapping[str, Any]) -> Options:
    """Return options from keyword arguments.

    Parameters
    ----------
    given : mapping of str to object
        Fields of :class:`Options`.

    Returns
    -------
    Options

    Raises
    ------
    GeedError
        If there is no such field, with the nearest.
        If :class:`Options` refuses a value.
    """
    names = [f.name for f in fields(Options)]
    refuse_unknown({key: value for key, value in given.items() if key not in names}, names)
    return Options(**given)


def refuse_unknown(unknown: Iterable[str], names: Sequence[str]) -> None:
    """Refuse the first of some names that are no options.

    Parameters
    ----------
    unknown : iterable of str
        Names that were not understood.
    names : sequence of str
        Those that would have been.

    Raises
    ------
    GeedError
        If there is one.
    """
    for name in unknown:
        raise GeedError(
            f"no option is called {name!r}: there are {known_names(names)}.{nearest(name, names)}"
        )


def check_option(name: str, value: object) -> Any:
    """Return the value of one option, in the form that :class:`Options` keeps it in.

    Parameters
    ----------
    name : str
        A field of :class:`Options`.
    value : object
        What was given.

    Returns
    -------
    object

    Raises
    ------
    GeedError
        If it is not of the field's type, or none of its choices.
    """
    hint, option = _hints()[name], f"--{name.replace('_', '-')}"
    found = _fitted(hint, value)
    if found is not _UNFIT:
        return found
    choices = next((get_args(h) for h in _parts(hint) if get_origin(h) is Literal), None)
    if choices:
        check_choice(option, value, choices)
    raise GeedError(f"{option} is {_words(hint)}, found {_kind(value)}")


# What no value is.
_UNFIT: Any = object()


def _parts(hint: Any) -> tuple[Any, ...]:
    """Types that a hint is made of, those within mappings and sequences too."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType, Mapping, Sequence):
        return tuple(part for arg in get_args(hint) for part in _parts(arg))
    return (hint,)


def _fitted(hint: Any, value: Any) -> Any:
    """Return a value in the form of a type, or ``_UNFIT``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        fits = (_fitted(arg, value) for arg in args)
        return next((found for found in fits if found is not _UNFIT), _UNFIT)
    if origin is Literal:
        return str(value) if isinstance(value, str) and value in args else _UNFIT
    if origin is Mapping:
        return _mapping(args, value)
    if origin is Sequence:
        return _sequence(args[0], value)
    if hint is Any:
        return value
    if hint is types.NoneType:
        return None if value is None else _UNFIT
    if hint is bool:
        return bool(value) if isinstance(value, bool | np.bool_) else _UNFIT
    if hint is int:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if whole else _UNFIT
    if hint is float:
        real = isinstance(value, int | float | np.integer | np.floating)
        return _float(value) if real and not isinstance(value, bool) else _UNFIT
    if hint is str:
        return str(value) if isinstance(value, str) else _UNFIT
    return value if isinstance(value, origin or hint) else _UNFIT


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond the range of floats
        return -math.inf if value < 0 else math.inf


def _mapping(args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _UNFIT
    found = {_fitted(args[0], k): _fitted(args[1], v) for k, v in value.items()}
    return _UNFIT if any(part is _UNFIT for pair in found.items() for part in pair) else found


def _sequence(hint: Any, value: Any) -> Any:
    """A text stands for itself, not for its letters; an array for its entries."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes | bytearray):
        return _UNFIT
    if isinstance(value, np.ndarray) and value.ndim != 1:
        return _UNFIT
    found = tuple(_fitted(hint, part) for part in value)
    return _UNFIT if any(part is _UNFIT for part in found) else found


def _words(hint: Any, several: bool = False) -> str:
    """Say in words what a type takes."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = [_words(arg, several) for arg in args if arg is not types.NoneType]
        return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
    if origin is Mapping:
        return f"a mapping of texts to {_words(args[1], True)}"
    if origin is Sequence:
        return "a list" if args[0] is Any else f"a list of {_words(args[0], True)}"
    one, many = _WORDS.get(origin or hint, (f"a {hint.__name__}", f"{hint.__name__}s"))
    return many if several else one


_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    np.ndarray: ("an array", "arrays"),
}


def _kind(value: object) -> str:
    """Say what a value is."""
    if isinstance(value, str):
        return f"a text, {shown(value)!r}"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, Mapping | Sequence | set) and not value:
        return f"an empty {type(value).__name__}"
    return f"the {type(value).__name__} {shown(value)}"
