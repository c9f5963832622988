"""JSON files that hold no NaN and appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.files import check_writable, write_text

__all__ = ["check_writable", "read_json", "to_json", "write_json"]


def to_json(made: Mapping[str, Any]) -> str:
    """Return a result, aggregate or comparison as JSON.

    Parameters
    ----------
    made : mapping
        What to write.

    Returns
    -------
    str
        Lists of plain values on one line, so that a row of deviations is one; ends in a newline.
        Every float reads back as it was.

    Raises
    ------
    GeedError
        If it holds NaN or infinity, naming the measure and layer.
    """
    text = _text(made, "the result", "", ascii_only=False) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is no UTF-8: escapes bring it through unchanged
        text = _text(made, "the result", "", ascii_only=True) + "\n"
    return text


def _text(value: Any, where: str, pad: str, *, ascii_only: bool) -> str:
    if isinstance(value, Mapping) and value:
        if "measure" in value and "layer" in value:
            where = f"{value['measure']}@{value['layer']}"
        items = [
            f"{pad} {json.dumps(str(k), ensure_ascii=ascii_only)}: "
            + _text(v, f"{where}, {k}", pad + " ", ascii_only=ascii_only)
            for k, v in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{pad}}}"
    nested = (list, tuple, Mapping)
    if isinstance(value, list | tuple) and any(isinstance(v, nested) for v in value):
        rows = [
            f"{pad} " + _text(v, f"{where}, {i}", pad + " ", ascii_only=ascii_only)
            for i, v in enumerate(value)
        ]
        return "[\n" + ",\n".join(rows) + f"\n{pad}]"
    try:
        return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=_plain)
    except ValueError:
        raise GeedError(
            f"{where}: is NaN or infinite, which no result file may hold; look for NaN or very "
            "large numbers in the model's outputs"
        ) from None


def _plain(value: object) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a result")


def write_json(made: Mapping[str, Any], path: str | Path) -> None:
    """Write a result, aggregate or comparison; the file appears whole or not at all.

    Parameters
    ----------
    made : mapping
        What to write.
    path : str or Path
        Where. A device or pipe, such as ``/dev/stdout``, is written to as it is.

    Raises
    ------
    GeedError
        If it cannot be written.
        If it holds NaN or infinity.
    """
    write_text(path, to_json(made))


def read_json(path: str | Path) -> Any:
    """Read a JSON file, refusing the NaN and Infinity that Python would let pass.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    object

    Raises
    ------
    GeedError
        If there is no such file, or it cannot be read.
        If it is not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise GeedError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise GeedError(f"{path}: is not JSON (not UTF-8 text)") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise GeedError(f"{path}: cannot be read ({why})") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        what = "the file is empty" if not text.strip() else str(error)[:120]
        raise GeedError(f"{path}: is not JSON ({what})") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows")
