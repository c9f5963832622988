"""Errors for the person who meets them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["GeedError", "nearest"]


class GeedError(Exception):
    """Wrong usage or input.

    The message is one line: what was asked, what was found, what to do. The command line prints it
    and exits with status 2.
    """


def nearest(name: str, candidates: Iterable[str], n: int = 3) -> str:
    """Suggest close names, for the end of an error message.

    Parameters
    ----------
    name : str
        What the user wrote.
    candidates : iterable of str
        What would have been understood.
    n : int
        The most names to suggest.

    Returns
    -------
    str
        ``" Did you mean 'a' or 'b'?"``, or the empty string where nothing is close.
    """
    options = list(dict.fromkeys(candidates))
    close = difflib.get_close_matches(name, options, n=n, cutoff=0.55)
    if name:
        close += [c for c in options if name.lower() in c.lower() and c not in close]
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(c) for c in close[:n])}?"
