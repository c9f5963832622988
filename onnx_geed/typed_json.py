"""JSON checked by the annotations of a ``TypedDict``, to its last number."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from onnx_geed.errors import GeedError, known_names, shown

__all__ = ["Count", "Ends", "Fraction", "Length", "Within", "check_json"]

# Squares of larger numbers overflow. The package writes none that is as large.
_LARGEST = 1e150


# Whole numbers of a file fit what NumPy and HDF5 count with.
_LONGEST = 1 << 63


@dataclass(frozen=True)
class Within:
    """Limits of a number, both included; for ``Annotated``."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Length:
    """Length of a list; for ``Annotated``."""

    least: int
    most: int


#: How many there are of something.
Count = Annotated[int, Within(0)]


#: A number of 0 to 1, as shares are.
Fraction = Annotated[float, Within(0, 1)]


#: The two ends of an interval.
Ends = Annotated[list[float], Length(2, 2)]


class _Fault(Exception):
    """Something is not of its type; where it stands is put together on the way out."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.where: list[str] = []


def check_json(content: Any, hint: Any, source: str, cure: str, where: str = "") -> None:
    """Refuse JSON that is not of a type.

    Parameters
    ----------
    content : object
        What :func:`onnx_geed.json_text.parse_json` returned.
    hint : type
        A ``TypedDict`` or another annotation. Keys that it does not know may stand there too.
    source : str
        The file, for messages.
    cure : str
        What to do, for messages.
    where : str
        Where in the file the content stands, for messages.

    Raises
    ------
    GeedError
        If a field is missing, of another type, or out of its range, naming it.
        If a number is infinite or too large to compute with.
    """
    try:
        _check(hint, content)
    except _Fault as fault:
        path = (where + "".join(reversed(fault.where))).lstrip(".")
        message = f"{path} {fault}" if path else f"{fault}"
        raise GeedError(f"{source}: {message}; {cure}") from None


def _check(hint: Any, value: Any) -> None:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (NotRequired, Annotated):
        _check(args[0], value)
        for limit in args[1:] if origin is Annotated else ():
            _check_limit(limit, value)
    elif hint is Any:
        return
    elif is_typeddict(hint):
        _check_fields(hint, value)
    elif origin in (Union, types.UnionType):
        _check_union(hint, args, value)
    elif origin is list:
        _expect(isinstance(value, list), hint, value)
        _check_list(args[0], value)
    elif origin is dict:
        _expect(isinstance(value, dict), hint, value)
        for key, entry in value.items():
            _within(f"[{shown(key)!r}]", args[1], entry)
    elif origin is tuple:
        _expect(isinstance(value, list) and len(value) == len(args), hint, value)
        for i, (part, entry) in enumerate(zip(args, value, strict=True)):
            _within(f"[{i}]", part, entry)
    elif origin is Literal:
        if value not in args or type(value) not in map(type, args):
            raise _Fault(f"is one of {known_names(args)}, found {_found(value)}")
    elif hint is float:
        _check_number(value)
    elif hint is int:
        _expect(type(value) is int, hint, value)
        if not -_LONGEST <= value < _LONGEST:
            raise _Fault(f"is a whole number below 2^63, found one of {value.bit_length()} bits")
    else:
        _expect(isinstance(value, types.NoneType if hint is None else hint), hint, value)


def _expect(fits: bool, hint: Any, value: Any) -> None:
    if not fits:
        raise _Fault(f"is {_wanted(hint)}, found {_found(value)}")


def _within(step: str, hint: Any, value: Any) -> None:
    try:
        _check(hint, value)
    except _Fault as fault:
        fault.where.append(step)
        raise


def _check_number(value: Any) -> None:
    if type(value) is int and abs(value) > _LONGEST:
        raise _Fault(f"is a number, found a whole one of {value.bit_length()} bits")
    _expect(type(value) in (int, float), float, value)
    if not abs(value) <= _LARGEST:
        raise _Fault(f"is a number of at most {_LARGEST:g}, found {value}")


def _check_list(hint: Any, values: list[Any]) -> None:
    # Deviations are millions of numbers.
    if hint is float and set(map(type, values)) <= {float}:
        largest = max(map(abs, values), default=0.0)
        # The largest of some with NaN among them may be any; their sum is NaN.
        if largest <= _LARGEST and not math.isnan(sum(values)):
            return
    elif hint is str and set(map(type, values)) <= {str}:
        return
    for i, value in enumerate(values):
        _within(f"[{i}]", hint, value)


def _check_union(hint: Any, args: tuple[Any, ...], value: Any) -> None:
    if value is None and types.NoneType in args:
        return
    others = [arg for arg in args if arg is not types.NoneType]
    if len(others) == 1:
        # Of what is of the kind, the fault is told where it stands.
        _expect(isinstance(value, _kind(others[0])), hint, value)
        return _check(others[0], value)
    for arg in others:
        try:
            return _check(arg, value)
        except _Fault:
            continue
    _expect(False, hint, value)


def _kind(hint: Any) -> Any:
    """Return the classes that a value of some type is of, as JSON has it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (NotRequired, Annotated):
        return _kind(args[0])
    if is_typeddict(hint):
        return object  # which tells what it lacks
    if origin is Literal:
        return tuple(map(type, args))
    return {tuple: list, float: (int, float)}.get(origin or hint, origin or hint)


def _check_fields(hint: Any, value: Any) -> None:
    fields = _fields(hint)
    if not isinstance(value, dict):
        needed = [name for name, (_, must) in fields.items() if must] or list(fields)
        raise _Fault(f"lacks {_few(needed)}: found {_found(value)}")
    missing = [name for name, (_, must) in fields.items() if must and name not in value]
    if missing:
        raise _Fault(f"lacks {_few(missing)}")
    for name, (part, _) in fields.items():
        if name in value:
            _within(f".{name}", part, value[name])


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:11])} and others"


@functools.cache
def _fields(hint: Any) -> Mapping[str, tuple[Any, bool]]:
    """Return the type of each field, and whether it must be there."""
    hints = get_type_hints(hint, include_extras=True)
    return {
        name: (part, hint.__total__ and get_origin(part) is not NotRequired)
        for name, part in hints.items()
    }


def _check_limit(limit: Within | Length, value: Any) -> None:
    if isinstance(limit, Within):
        if not limit.low <= value <= limit.high:
            ends = f"{limit.low:g} to {limit.high:g}" if limit.high < math.inf else ""
            raise _Fault(f"is {ends or f'at least {limit.low:g}'}, found {shown(value)}")
    elif not limit.least <= len(value) <= limit.most:
        counts = " to ".join(map(str, dict.fromkeys((limit.least, limit.most))))
        raise _Fault(f"is a list of {counts}, found one of {len(value)}")


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    types.NoneType: "null",
}


def _wanted(hint: Any) -> str:
    """Return the values of a type in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (NotRequired, Annotated):
        return _wanted(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_wanted, args))
    if origin is tuple:
        return f"a list of {len(args)}"
    if origin is Literal:
        return known_names(args)
    return _WORDS.get(origin or hint, "an object")


def _found(value: object) -> str:
    """Return a value of JSON in words, in short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {shown(value[:200])!r}"
    if isinstance(value, list | dict):
        return f"{_WORDS[type(value)]} of {len(value)}"
    return shown(value)
