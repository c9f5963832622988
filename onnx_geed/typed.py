"""Values checked by a type annotation, and brought to its form."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, is_typeddict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.errors import GeedError, check_choice, looking_at, reason_of, shown

__all__ = ["as_array", "check_argument", "check_value", "parts_of", "refuse_masked"]

# Stands for a value that is not of a type.
_UNFIT: Any = object()


_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    np.ndarray: ("an array", "arrays"),
    Any: ("anything", "anything"),
    Callable: ("a function", "functions"),
}

# What gives a value of a class of ours.
_MAKERS = {
    "Group": "onnx_geed.parse_group('C4')",
    "LayoutAction": "onnx_geed.grid_action(group, height, width)",
    "Model": "onnx_geed.load_model(path)",
    "Result": "onnx_geed.load(path)",
    "Table": "onnx_geed.read_table(path)",
}

# Whole numbers from there on are no number of anything, and the longest have no text in Python.
_HUGE = 10**100

# Entries of a list, and of what does not say how many it has; and bytes that one value may fill.
_MOST_ENTRIES, _MOST_UNCOUNTED, _MOST_BYTES = 10**7, 10**5, 1 << 32


def check_value(option: str, value: object, hint: Any) -> Any:
    """Return a value in the form of a type: numbers as Python's, lists as tuples.

    Parameters
    ----------
    option : str
        What the value is called in a message.
    value : object
        The value that the user gave.
    hint : type
        A type annotation: unions, literals, mappings, sequences and classes.

    Returns
    -------
    object

    Raises
    ------
    GeedError
        If it is not of the type, or none of its choices.
    """
    with looking_at(option, value):
        fit = _fitted(hint, value)
        return _refuse(option, value, hint) if fit is _UNFIT else fit


def _refuse(option: str, value: object, hint: Any) -> NoReturn:
    """Say what a value is, and what it should be."""
    choices = next((get_args(h) for h in parts_of(hint) if get_origin(h) is Literal), None)
    if choices:
        check_choice(option, value, choices)
    makers = (_MAKERS.get(getattr(h, "__name__", "")) for h in parts_of(hint))
    cure = next((f": give {maker}" for maker in makers if maker), "")
    raise GeedError(f"{option} is {_type_in_words(hint)}, found {_value_in_words(value)}{cure}")


def check_argument(name: str, value: object, hint: Any) -> Any:
    """Return an argument in the form of a type, as :func:`check_value` does; rows are arrays too.

    Raises
    ------
    GeedError
        As :func:`check_value` and :func:`as_array` do.
    """
    if hint == ArrayLike or _origin(hint) is np.ndarray:
        return as_array(name, value)
    return check_value(name, value, hint)


def as_array(name: str, value: object) -> NDArray[Any]:
    """Return numbers as one array, of their own dtype.

    Parameters
    ----------
    name : str
        What they are called in a message.
    value : array_like
        As the user gave it.

    Returns
    -------
    ndarray

    Raises
    ------
    GeedError
        If it is not one array of real numbers.
        If it is longer than any memory.
    """
    refuse_masked(name, value)
    try:
        # A range holds nothing, and its array all of it.
        if isinstance(value, Sequence) and len(value) > _MOST_ENTRIES:
            raise GeedError(f"{name}: a list of {len(value)} is too long; give an array")
        array = np.asarray(value)
    except GeedError:
        raise
    except Exception as error:  # also of another's class
        why = "rows differ in length" if isinstance(value, list | tuple) else reason_of(error)
        raise GeedError(f"{name} is one array of numbers, found {shown(value)}: {why}") from None
    if array.dtype.kind not in "fiub":
        raise GeedError(
            f"{name} is one array of numbers, found {shown(value)} ({array.dtype} values)"
        )
    if array.nbytes > _MOST_BYTES and 0 in array.strides:
        raise GeedError(f"{name}: one value is repeated to {array.shape}; give an array of its own")
    return array


def refuse_masked(name: str, value: object) -> None:
    """Refuse an array with values that are masked: nothing here knows of a mask but NumPy.

    Raises
    ------
    GeedError
        If some are.
    """
    # Of a module that is not loaded there are no arrays; asked for, NumPy would load it now. Where
    # another thread is loading it, its class is not there yet.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    if masked is None or not isinstance(value, masked):
        return
    if hidden := np.count_nonzero(value.mask):
        raise GeedError(
            f"{name}: {hidden} values are masked, and would be taken for others; fill them, or "
            "give .data"
        )


def parts_of(hint: Any) -> tuple[Any, ...]:
    """Return the types that a hint is made of, those within mappings and sequences too."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType, Mapping, Sequence):
        return tuple(part for arg in get_args(hint) for part in parts_of(arg))
    return (hint,)


def _origin(hint: Any) -> Any:
    """Return the class of a type with parameters; an alias stands for what it names.

    NumPy's type of arrays is such an alias, and no class, from version 2.5 on.
    """
    origin = get_origin(hint)
    while hasattr(origin, "__value__"):
        origin = get_origin(origin.__value__)
    return origin


def _fitted(hint: Any, value: Any) -> Any:
    """Return a value in the form of a type, or ``_UNFIT``."""
    origin, args = _origin(hint), get_args(hint)
    if hint is Any or getattr(hint, "_is_protocol", False):
        return value
    if is_typeddict(hint):
        return value if isinstance(value, Mapping) else _UNFIT
    if origin in (Union, types.UnionType):
        fits = (_fitted(arg, value) for arg in args)
        return next((fit for fit in fits if fit is not _UNFIT), _UNFIT)
    if origin is Literal:
        text = str.__str__(value) if isinstance(value, str) else _UNFIT
        return text if text in args else _UNFIT
    if origin is Mapping:
        return _mapping(args, value)
    if origin is tuple and isinstance(value, str):
        return _UNFIT
    if origin is Sequence or (origin is tuple and args[1:] == (...,)):
        return _sequence(args[0], value)
    if origin is tuple:  # of as many
        parts = _sequence(Any, value)
        whole = parts is not _UNFIT and len(parts) == len(args)
        parts = tuple(map(_fitted, args, parts)) if whole else (_UNFIT,)
        return _UNFIT if any(part is _UNFIT for part in parts) else parts
    if hint is types.NoneType:
        return None if value is None else _UNFIT
    if hint is bool:
        return bool(value) if isinstance(value, bool | np.bool_) else _UNFIT
    if hint is int:
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return _int(value) if is_whole and abs(_int(value)) < _HUGE else _UNFIT
    if hint is float:
        real = isinstance(value, int | float | np.integer | np.floating)
        return _float(value) if real and not isinstance(value, bool) else _UNFIT
    if hint is str:
        return str.__str__(value) if isinstance(value, str) else _UNFIT
    if (origin or hint) is np.ndarray and isinstance(value, np.ndarray):
        # The same memory, without the methods of another's class.
        return value if type(value) is np.ndarray else np.ndarray.view(value, np.ndarray)
    # Of the class itself: an object may say that it is of another.
    return value if issubclass(type(value), origin or hint) else _UNFIT


def _int(value: Any) -> int:
    """Return the number itself, whatever a class of one's own says of it."""
    return int.__index__(value) if isinstance(value, int) else int(value)


def _float(value: Any) -> float:
    try:
        if isinstance(value, float):
            return float.__float__(value)
        return float(_int(value) if isinstance(value, int) else value)
    except OverflowError:  # a whole number beyond the range of floats
        return -math.inf if value < 0 else math.inf


def _mapping(args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _UNFIT
    if args[1] is Any:  # a class of one's own may hold more than its entries
        return value if all(isinstance(key, args[0]) for key in value) else _UNFIT
    pairs = {_fitted(args[0], k): _fitted(args[1], v) for k, v in value.items()}
    return _UNFIT if any(part is _UNFIT for pair in pairs.items() for part in pair) else pairs


def _sequence(hint: Any, value: Any) -> Any:
    """A text stands for itself, not for its letters; an array for its entries."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes | bytearray):
        return _UNFIT
    if isinstance(value, np.ndarray) and value.ndim != 1:
        return _UNFIT
    parts: list[Any] = []
    try:
        most = len(value) if isinstance(value, Sized) else _MOST_UNCOUNTED
        if most > _MOST_ENTRIES:
            return _UNFIT
        for part in value:
            parts.append(_fitted(hint, part))
            if parts[-1] is _UNFIT or len(parts) > most:
                return _UNFIT
    except Exception:  # of another's class
        return _UNFIT
    return tuple(parts)


def _type_in_words(hint: Any, several: bool = False) -> str:
    """Return the values of a type in words."""
    origin, args = _origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = [_type_in_words(arg, several) for arg in args if arg is not types.NoneType]
        return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
    if origin is tuple and args[1:] != (...,):
        return f"{len(args)} values ({', '.join(map(_type_in_words, args))})"
    if origin is Mapping:
        if args[1] is Any:
            return "mappings" if several else "a mapping"
        return f"a mapping of texts to {_type_in_words(args[1], True)}"
    if origin in (Sequence, tuple):
        return "a list" if args[0] is Any else f"a list of {_type_in_words(args[0], True)}"
    name = hint.__name__.lower() if is_typeddict(hint) else hint.__name__
    one, many = _WORDS.get(origin or hint, (f"a {name}", f"{name}s"))
    return many if several else one


def _value_in_words(value: object) -> str:
    """Return a value with the name of its type, for a message."""
    if isinstance(value, str):
        return f"a text, {shown(value)!r}"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, Mapping | Sequence | set) and not value:
        return f"an empty {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= _HUGE:
        return "one of over 100 digits"
    if isinstance(value, int | float):
        return f"the number {shown(value)}"
    # Of arrays, functions and classes, what is shown says that they are.
    named = isinstance(value, np.ndarray | type) or hasattr(value, "__qualname__")
    kind = type(value).__name__.replace("datetime", "time")
    return shown(value) if named else f"the {kind} {shown(value)}"
