"""``--memory-limit``: the most memory that the process may take in which a command does its work.

The system keeps the limit, and so what ends for want of memory asks the system which one it had.
"""

from __future__ import annotations

import contextlib
import os
import sys

from onnx_geed.errors import GeedError
from onnx_geed.text import format_bytes, parse_bytes

__all__ = ["limit_memory", "limit_of_this_process"]

# What Python, numpy, the compiler of kernels and ONNX Runtime take before any work.
_LEAST = 512 << 20


def limit_memory(asked: str | None) -> int | None:
    """Give this process, for good, no more memory than so much.

    Parameters
    ----------
    asked : str or None
        Such as ``2GiB``; None: what the machine has, as far as the system holds a limit.

    Returns
    -------
    int or None
        The bytes; None where no limit was asked for, and the system holds none.

    Raises
    ------
    GeedError
        If it is no size, or too small to start with.
        If one was asked for, and the system holds none.
    """
    wanted = None if asked is None else parse_bytes(asked)
    if wanted is not None and wanted < _LEAST:
        raise GeedError(
            f"--memory-limit {asked}: starting takes {format_bytes(_LEAST)}; give at least that"
        )
    # Elsewhere one can be set, and is not held.
    if sys.platform == "linux":
        import resource

        # What is written to. Files that are mapped, as weights are, can be read again; and reserved
        # addresses, of which a GPU's driver takes many, are no memory.
        kind = resource.RLIMIT_DATA
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        there = [size for size in resource.getrlimit(kind) if size != resource.RLIM_INFINITY]
        size = min([whole if wanted is None else wanted, *there])
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (size, size))
            return size
    if asked is not None:
        raise GeedError("--memory-limit: this system cannot limit memory; leave it out")
    return None


def limit_of_this_process() -> int | None:
    """Return the bytes that this process may take, whoever limits it; None without a limit."""
    if sys.platform != "linux":
        return None
    import resource

    size = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return None if size == resource.RLIM_INFINITY else size
