"""What a process that ``--isolate`` has confined must know of it, and do by itself.

The command line confines a process (``cli/isolation.py``). Whoever writes a file, compiles a loop,
begins a cell of a suite or describes a run asks here; in any other process the answer is no.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from onnx_geed.errors import GeedError
from onnx_geed.typed_json import Count

__all__ = [
    "Confined",
    "Protections",
    "begin",
    "confine",
    "confined",
    "is_repeated",
    "out_of_reach",
    "staged",
]


class Protections(TypedDict):
    """What a confined process is kept from; as results say it."""

    memory_bytes: Count | None
    time_seconds: float
    network: bool
    writes: bool


@dataclass(frozen=True)
class Confined:
    """How a process is confined.

    Parameters
    ----------
    protections : Protections
        The most bytes of memory, None where the system holds no limit; the most seconds; whether
        there is no network, and no writing but to the output.
    staging : mapping of Path to Path
        Folders of output files, resolved, and where files for them are written meanwhile.
    pipe : int
        Descriptor on which the process tells which cell it has begun.
    failed : mapping of str to str
        Cells that ended such a process before, and how; the last one that did comes last.
    begun : frozenset of str
        Cells that such a process had begun before.
    """

    protections: Protections
    staging: Mapping[Path, Path] = field(default_factory=dict)
    pipe: int = -1
    failed: dict[str, str] = field(default_factory=dict)
    begun: frozenset[str] = frozenset()


_state: dict[str, Confined] = {}
_cell: list[str] = []


def confine(how: Confined) -> None:
    """Take note that this process is confined, for as long as it lives."""
    _state["confined"] = how


def confined() -> Confined | None:
    """Return how this process is confined, None where it is not."""
    return _state.get("confined")


def staged(folder: Path) -> Path:
    """Return where files for a folder are written: that folder, or the one that stands for it."""
    how = confined()
    if how is None or not how.staging:
        return folder
    real = Path(os.path.realpath(folder))
    for above in (real, *real.parents):
        if above in how.staging:
            return how.staging[above] / real.relative_to(above)
    return folder


def out_of_reach(address: str) -> GeedError:
    """Return what to tell of an address that a confined process is to read or write."""
    return GeedError(
        f"--isolate: closes the network, so {address} cannot be reached; name a copy on this "
        "machine"
    )


def begin(cell: str) -> None:
    """Take note that a cell of a suite begins, so that one that ends the process is known.

    No name stands for what comes after the last.

    Raises
    ------
    GeedError
        If it ended a process before.
    """
    how = confined()
    if how is None:
        return
    _cell[:] = [cell]
    if cell in how.failed:
        raise GeedError(how.failed[cell])
    os.write(how.pipe, f"{cell}\n".encode())


def is_repeated() -> bool:
    """Say whether the cell at work was told of already, before another ended the process."""
    how = confined()
    if how is None:
        return False
    last = next(reversed(how.failed), None)
    return any(cell in how.begun and cell != last for cell in _cell)
