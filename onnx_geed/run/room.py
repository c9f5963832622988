"""How much of ``--memory`` a model may take, and how a message asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_geed.text import format_bytes, parse_bytes

__all__ = ["Room", "room_of"]

# A smaller budget divides a run, and refuses nothing.
_LEAST = 256 << 20

# What a process holds beside: libraries, samples and what is made of outputs. Of a small budget
# nothing is taken for it.
_BESIDE, _LARGE = 512 << 20, 2 << 30


@dataclass(frozen=True)
class Room:
    """The memory for a model.

    Parameters
    ----------
    memory : int
        The budget as it was given.
    bytes : int
        The budget, without what the process holds beside.
    """

    memory: int
    bytes: int

    def refused(self, taken: int) -> str:
        """Say what is allowed, and which ``--memory`` has room for so much."""
        allowed = f"--memory allows {format_bytes(self.bytes)}"
        if self.bytes < self.memory:
            given = format_bytes(self.memory)
            allowed = f"--memory {given} allows {format_bytes(self.bytes)} of them"
        return f"{allowed}: raise it to {_size(taken)}"


def room_of(memory: str | int) -> Room:
    """Return what a budget, as it is given, has for a model."""
    given = max(parse_bytes(memory), _LEAST)
    return Room(given, given - _BESIDE if given >= _LARGE else min(given, _LARGE - _BESIDE))


def _size(taken: int) -> str:
    """Return the least --memory, in whole tenths, in which so much has room."""
    needed = taken if taken <= _LARGE - _BESIDE else taken + _BESIDE
    power = 30 if needed >= 1 << 30 else 20
    tenths = -(-needed * 10 // (1 << power))
    return f"{tenths / 10:.1f}{'GiB' if power == 30 else 'MiB'}"
