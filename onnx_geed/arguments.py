"""Arguments of public functions, looked at by their annotations before anything is done."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from onnx_geed.errors import OUT_OF_MEMORY, GeedError, looking_at
from onnx_geed.named_paths import check_path

__all__ = ["checked"]

Given = ParamSpec("Given")
Made = TypeVar("Made")


def checked(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Return a public function, or class, that looks at what it is given before it does anything.

    An argument that is not as its annotation says is refused in one line that names it. Others come
    in the form of their type: a list as a tuple, rows of numbers as an array. Of what may be a path
    only that is looked at, since readers of files say themselves what else they take.

    Parameters
    ----------
    function : callable or class
        ``Any`` and protocols among its annotations say nothing.

    Returns
    -------
    callable or class
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)  # type: ignore[misc]
        return function
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    annotations = functools.cache(lambda: get_type_hints(function))

    @functools.wraps(function)
    def looked_at(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        hints, call = annotations(), cast("Callable[..., Made]", function)
        own = (_looked_at(name, value, hints) for name, value in zip(names, args, strict=False))
        named = {name: _looked_at(name, value, hints) for name, value in kwargs.items()}
        try:
            return call(*own, *args[len(names) :], **named)
        except MemoryError:
            raise GeedError(f"{function.__name__}: {OUT_OF_MEMORY}") from None

    return looked_at


def _looked_at(name: str, value: object, hints: dict[str, Any]) -> Any:
    with looking_at(name, value):
        if isinstance(value, str):
            value = str.__str__(value)  # a class of one's own may say another
        elif isinstance(value, Mapping):
            next(iter(value), None)
        return _fitted(name, value, hints)


def _fitted(name: str, value: object, hints: dict[str, Any]) -> Any:
    hint = hints.get(name, Any)
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if Path in kinds:
        absent = value is None and NoneType in kinds
        check_path(name, value, only={*kinds} <= {str, Path, NoneType} and not absent)
        # Arrays, mappings and functions are for the reader to judge.
        if isinstance(value, str):
            return value
        if isinstance(value, os.PathLike):
            return Path(os.fspath(value))
        if not all(map(inspect.isclass, kinds)):
            return value
    if Any in kinds:
        return value
    from onnx_geed.typed import check_argument  # with NumPy, which no path needs

    return check_argument(name, value, hint)
