"""How much of a memory budget a run's own arrays may take."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_geed.errors import GeedError
from onnx_geed.text import format_bytes, parse_bytes

__all__ = ["Room", "room_in"]

# A smaller budget divides a run, and refuses nothing.
_LEAST = 256 << 20

# What is named is an eighth more than was found: what is checked after it takes some too.
_MORE = 8

# What a process holds beside: libraries, samples and what is made of outputs. Of a small budget
# nothing is taken for it.
_BESIDE, _LARGE = 512 << 20, 2 << 30


@dataclass(frozen=True)
class Room:
    """What a memory budget leaves, in bytes.

    Parameters
    ----------
    memory : int
        The budget as it was given; a small one counts as 256 MiB.
    bytes : int
        The same without what the process holds beside.
    """

    memory: int
    bytes: int

    def check(self, taken: int, what: str, cure: str) -> None:
        """Refuse what takes more.

        Parameters
        ----------
        taken : int
            Bytes that it takes.
        what : str
            What it is, and that it takes memory, up to the number.
        cure : str
            What else to do than to raise the budget.

        Raises
        ------
        GeedError
            If there are not as many.
        """
        if taken <= self.bytes:
            return
        allowed = f"--memory allows {format_bytes(self.bytes)}"
        if self.bytes < self.memory:
            budget = format_bytes(self.memory)
            allowed = f"--memory {budget} allows {format_bytes(self.bytes)} of them"
        what = what.replace("{}", format_bytes(taken))
        raise GeedError(f"{what}; {allowed}: raise it to {_size(taken)}, or {cure}")


def room_in(memory: str | int) -> Room:
    """Return what a budget leaves.

    Parameters
    ----------
    memory : str or int
        Such as ``2GiB``.
    """
    budget = max(parse_bytes(memory), _LEAST)
    return Room(budget, budget - _BESIDE if budget >= _LARGE else min(budget, _LARGE - _BESIDE))


def _size(taken: int) -> str:
    """Return a budget, in whole tenths, in which so much and some more has room."""
    taken += taken // _MORE
    needed = taken if taken <= _LARGE - _BESIDE else taken + _BESIDE
    power = 30 if needed >= 1 << 30 else 20
    tenths = -(-needed * 10 // (1 << power))
    return f"{tenths / 10:.1f}{'GiB' if power == 30 else 'MiB'}"
