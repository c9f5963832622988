"""Paths as they are given: each names a file that could be there, or one line says why not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from onnx_geed.addresses import address_of
from onnx_geed.errors import GeedError, shown

__all__ = ["check_path", "why_no_path"]

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


def check_path(name: str, value: object, *, only: bool) -> None:
    """Refuse what no file can have as its name.

    Parameters
    ----------
    name : str
        The argument.
    value : object
        As the user gave it.
    only : bool
        Whether it has to be a path. If not, anything else passes.

    Raises
    ------
    GeedError
        If it is no such path.
    """
    if isinstance(value, str | os.PathLike):
        empty = only and isinstance(value, str) and not value
        if why := "it is empty" if empty else why_no_path(value):
            said = str(value) if isinstance(value, Path) else value
            raise GeedError(f"{name} {shown(said)!r} is no path: {why}; give another")
    elif only:
        raise GeedError(f"{name} is a path, found {shown(value)}; give the path of a file")
