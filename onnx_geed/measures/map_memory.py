"""What the compiled loops over feature maps hold, and so how many channels they move at a time."""

from __future__ import annotations

from onnx_geed.groups import LayoutAction

__all__ = ["LANES", "lanes_of", "loop_bytes"]

#: Channels of a map that are moved side by side.
LANES = 8

# So many are moved together where they take no more than this; else they are moved one by one.
_EIGHT_BYTES = 1 << 27


def loop_bytes(action: LayoutAction, elements: int) -> int:
    """Return about the bytes that the loops hold beside maps, for maps of so many elements.

    Parameters
    ----------
    action : LayoutAction
        φ_Y of the largest maps.
    elements : int
        Elements whose maps are compared in one call.

    Returns
    -------
    int
        Rows against f̂ of a sample and of the one before, the maps that these are gathered from,
        and pixels that all elements share.
    """
    moves = action.moves
    gathered = len(moves.rows[1])
    rows = min(len(moves.index) + gathered, elements)
    lanes = lanes_of(moves.size, rows, len(moves.index))
    return lanes * _channel_bytes(moves.size, rows, len(moves.index)) + moves.rows[1].nbytes


def lanes_of(area: int, rows: int, bases: int) -> int:
    """Return how many channels of maps are moved side by side."""
    return LANES if LANES * _channel_bytes(area, rows, bases) <= _EIGHT_BYTES else 1


def _channel_bytes(area: int, rows: int, bases: int) -> int:
    """Return the bytes of a channel in the loops: as it is, resampled, and in rows of two f̂."""
    return 4 * area * (2 * rows + (1 if rows else 0) + (1 if bases else 0))
