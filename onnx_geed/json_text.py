"""JSON from files of others: read within bounds, or refused in one line."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from onnx_geed.errors import GeedError, shown

__all__ = ["LONGEST", "parse_json"]

# The most that a text may take in memory, as Python's objects too. Three hundred megabytes of
# deviations stay below it; a list of twenty million empty lists does not.
_MEMORY = 3 << 29

#: The most bytes that are worth reading.
LONGEST = _MEMORY // 2


def parse_json(content: bytes | bytearray | str, source: str) -> Any:
    """Read JSON.

    Parameters
    ----------
    content : bytes, bytearray or str
        The text; bytes are UTF-8, with or without a mark of their order.
    source : str
        Its source, for messages.

    Returns
    -------
    object

    Raises
    ------
    GeedError
        If it is not UTF-8, or not JSON: NaN, infinity and a key that is there twice are none.
        If it is nested too deep.
        If its objects would take too much memory.
    """
    if (size := _bytes_in_memory(content)) > _MEMORY:
        raise GeedError(
            f"{source}: this JSON would take {size / 2**30:.1f} GiB in memory, but at most "
            f"{_MEMORY / 2**30:.1f} are read; use fewer samples or measures per file"
        )
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise GeedError(f"{source}: is not JSON (not UTF-8 text)") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise GeedError(f"{source}: is not JSON that can be read (nested too deep)") from None
    except ValueError as error:
        reason = "the file is empty" if not text.strip() else str(error)[:120]
        raise GeedError(f"{source}: is not JSON ({reason})") from None


def _bytes_in_memory(content: bytes | bytearray | str) -> int:
    """Return about how many bytes a JSON text takes, read and as Python's objects."""

    def count(mark: str) -> int:
        return content.count(mark) if isinstance(content, str) else content.count(mark.encode())

    # A number and its place in a list, a key with its place, an empty list, an empty object.
    places = 40 * count(",") + 180 * count(":")
    return 2 * len(content) + places + 64 * count("[") + 120 * count("{")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shown(twice)!r} occurs twice in one object")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows")
