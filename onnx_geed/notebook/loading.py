"""Results that are read from their files."""

from __future__ import annotations

from pathlib import Path

from onnx_geed import results
from onnx_geed.arguments import checked
from onnx_geed.notebook.giving import giving_result
from onnx_geed.notebook.result import Result

__all__ = ["load", "read_result"]

read_result = giving_result(results.read_result, __name__)


@checked
def load(path: str | Path) -> Result:
    """Read a result file.

    Parameters
    ----------
    path : str or Path
        The file, or its address.

    Returns
    -------
    Result
        The result, with the path in the additional field ``file``.

    Raises
    ------
    GeedError
        As for :func:`onnx_geed.read_result`.

    Examples
    --------
    >>> onnx_geed.load("result.json").plot("profile")  # doctest: +SKIP
    """
    return read_result(path)
