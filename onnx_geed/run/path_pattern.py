"""Paths with places and globs, such as ``{net}/seed{seed}.onnx``, against the paths of files.

A regular expression tries the lengths of all its places in turn, which for some names takes for
ever. Here what was tried once is not tried again, and whatever takes too long is refused.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from onnx_geed.errors import GeedError, shown

__all__ = ["PLACE", "PathPattern"]

#: A place of a path, and its name.
PLACE = re.compile(r"\{(\w+)\}")

# A bracket that nothing closes, or that has a place in it, stands for itself.
_TOKENS = re.compile(r"(\{\w+\}|\*\*/|\*|\?|\[!?[^]{}/][^]{}/]*\])")

# Places that stand for whole numbers.
_NUMBERS = ("seed", "step")

# Parts of a pattern; and steps of all its matches, to which each name adds what names take.
_MOST_PARTS, _MOST_STEPS, _STEPS_OF_ONE = 200, 1_000_000, 100


class PathPattern:
    """A path with places and globs in it.

    Parameters
    ----------
    text : str
        Its places are ``{word}``, the same text wherever they stand; globs are those of a shell.

    Raises
    ------
    GeedError
        If it has more parts than any path.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = [part for part in _TOKENS.split(text) if part]
        if len(self._parts) > _MOST_PARTS:
            raise self._refused(f"has {len(self._parts):,} parts, more than {_MOST_PARTS}")
        names = [place[1] if (place := PLACE.fullmatch(part)) else "" for part in self._parts]
        # Of a place that comes again, its text decides what follows.
        self._again = [
            tuple(sorted({n for n in names[:i] if n and n in names[i:]})) for i in range(len(names))
        ]
        self._names = names
        self._classes = {
            part: re.compile(fnmatch.translate(part))
            for part in self._parts
            if part[0] == "[" and _TOKENS.fullmatch(part)
        }
        self._left = _MOST_STEPS

    def match(self, path: str) -> dict[str, str] | None:
        """Return what stands in the places of a path that fits as a whole, else ``None``.

        Of several ways, the one in which the first place is longest, and so on.

        Raises
        ------
        GeedError
            If all that were asked for have taken too many steps.
        """
        self._left += _STEPS_OF_ONE
        return self._rest(0, 0, path, {}, set())

    def _rest(
        self, i: int, at: int, path: str, held: dict[str, str], failed: set[tuple[object, ...]]
    ) -> dict[str, str] | None:
        """Match the parts from the ``i``-th on with the path from ``at`` on."""
        if i == len(self._parts):
            return held if at == len(path) else None
        known = (i, at, *(held[name] for name in self._again[i]))
        if known in failed:
            return None
        name = self._names[i]
        for end in self._ends(i, at, path, held):
            self._left -= 1
            if self._left < 0:
                raise self._refused("can be read in too many ways")
            now = held | {name: path[at:end]} if name else held
            if (found := self._rest(i + 1, end, path, now, failed)) is not None:
                return found
        failed.add(known)
        return None

    def _ends(self, i: int, at: int, path: str, held: dict[str, str]) -> Iterator[int]:
        """Yield where a part that begins at ``at`` may end, the farthest first."""
        part, name = self._parts[i], self._names[i]
        same = held.get(name) if name else part
        if part == "**/":
            yield from (j for j in range(len(path), at, -1) if path[j - 1] == "/")
            yield at
        elif part == "*" or (name and same is None):
            stop = at
            digits = name in _NUMBERS
            while stop < len(path) and (
                path[stop] in "0123456789" if digits else path[stop] != "/"
            ):
                stop += 1
            yield from range(stop, at if name else at - 1, -1)
        elif part == "?" or part in self._classes:
            one = path[at : at + 1]
            if one and (one != "/" if part == "?" else self._classes[part].match(one)):
                yield at + 1
        elif same is not None and path.startswith(same, at):
            yield at + len(same)

    def _refused(self, why: str) -> GeedError:
        return GeedError(f"path {shown(self._text)} {why}: write text between its places and stars")
