"""Paths as they are given: each names a file that could be there, or one line says why not.

What public functions take beside paths is looked at with them.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from onnx_geed.addresses import address_of
from onnx_geed.errors import GeedError, shown

__all__ = ["taking_paths", "why_no_path"]

Given = ParamSpec("Given")
Made = TypeVar("Made")

# How the annotation of an argument that is a path and nothing else begins.
_ALONE = "str | Path"

# What other arguments are, by their annotations.
_KINDS: dict[str, Any] = {
    "bool": bool,
    "str | None": str | None,
    "Sequence[str]": Sequence[str],
    "Progress | None": Callable | None,
    "Notify | None": Callable | None,
    "Callable[[str], None] | None": Callable | None,
}

# What a system says of a name that no file can have; that there is none is said when it is opened.
_NEVER = (errno.ENAMETOOLONG, errno.ELOOP)


def why_no_path(given: str | os.PathLike[str]) -> str:
    """Say why no file can have a name; empty where one could.

    Parameters
    ----------
    given : str or path
        What the user gave; of an address nothing is said.

    Returns
    -------
    str
        Such as ``it holds the character 0``.
    """
    if address_of(given) is not None:
        return ""
    try:
        text = os.fspath(given)
        if not isinstance(text, str):
            return "it is bytes, not a text"
        if "\0" in text:
            return "it holds the character 0"
        os.lstat(text)
    except UnicodeError:
        return "it holds half a character (a lone surrogate)"
    except OSError as error:
        if error.errno in _NEVER:
            return str(error.strerror).lower()
    except Exception:  # of another's class
        return "it does not say its path"
    return ""


def taking_paths(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Return a public function that looks at what it is given before it does anything.

    Parameters
    ----------
    function : callable
        Its annotations say which arguments are paths, ``str | Path``, which may be,
        ``str | Path | None`` and such, and which are texts, truth values, lists of texts or
        functions.

    Returns
    -------
    callable
    """
    signature = inspect.signature(function)
    kinds = {
        name: _KINDS[str(one.annotation)]
        for name, one in signature.parameters.items()
        if str(one.annotation) in _KINDS
    }
    alone = {
        name: one.annotation == _ALONE
        for name, one in signature.parameters.items()
        if str(one.annotation).startswith(_ALONE)
    }

    @functools.wraps(function)
    def looked_at(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        for name, value in (dict(zip(signature.parameters, args, strict=False)) | kwargs).items():
            if name in alone:
                _check(name, value, only=alone[name])
            elif name in kinds and not _is_lazy(value):
                from onnx_geed.typed import check_value  # with NumPy, which no path needs

                check_value(name, value, kinds[name])
        return function(*args, **kwargs)

    return looked_at


def _is_lazy(value: object) -> bool:
    """Whether looking at a value's entries could take them away, or never end."""
    return isinstance(value, Iterable) and not isinstance(value, str | list | tuple | Mapping)


def _check(name: str, value: object, *, only: bool) -> None:
    if isinstance(value, str | os.PathLike):
        if why := why_no_path(value):
            said = str(value) if isinstance(value, Path) else value
            raise GeedError(f"{name} {shown(said)!r} is no path: {why}; give another")
    elif only:
        raise GeedError(f"{name} is a path, found {shown(value)}; give the path of a file")
