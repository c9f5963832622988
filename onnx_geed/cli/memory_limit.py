"""A limit on the memory of the whole process, where the system has one."""

from __future__ import annotations

import sys

from onnx_geed.errors import GeedError

__all__ = ["limit_memory"]

# What Python, numpy, the compiler of kernels and ONNX Runtime take before any work.
_LEAST = 512 << 20


def limit_memory(size: str) -> None:
    """Give this process, and those that it starts, no more memory than so much.

    Parameters
    ----------
    size : str
        Such as ``2GiB``.

    Raises
    ------
    GeedError
        If it is no size, or too small to start with.
        If the system has no such limit.
    """
    # Imported here: help needs no numpy.
    from onnx_geed.text import format_bytes, parse_bytes

    wanted = parse_bytes(size)
    if wanted < _LEAST:
        raise GeedError(
            f"--memory-limit {size}: it takes {format_bytes(_LEAST)} to start; give at least that"
        )
    try:
        import resource
    except ImportError:
        raise GeedError("--memory-limit: this system has no such limit; leave it out") from None
    # Files that are mapped, as weights are, count on Linux for nothing: they can be read again.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(kind, (wanted, hard))
    except (OSError, ValueError):
        raise GeedError("--memory-limit: the system refuses it; leave it out") from None
