"""JSON files that hold no NaN and appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from onnx_geed.errors import GeedError

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


def check_writable(path: str | Path, *, option: str = "--out") -> None:
    """Make sure that a result can be written, before a long run.

    Parameters
    ----------
    path : str or Path
        Where the result is to go.
    option : str
        What the message calls it.

    Raises
    ------
    GeedError
        If the folder does not exist or cannot be written to, or the path is a folder.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise GeedError(f"{option} {path}: is a folder; name a file in it")
        parent = _target(path).parent
        if not parent.is_dir():
            raise GeedError(f"{option} {path}: there is no folder {parent}; make it first")
        if path.exists() and not os.access(path, os.W_OK):
            raise GeedError(f"{option} {path}: cannot be overwritten (permission denied)")
        if not path.exists() or path.is_file():
            trial = _unfinished(parent)
            trial.open("x").close()
            trial.unlink()
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from None


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
    path, data = Path(path), to_json(made).encode("utf-8")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        target = _target(path)
        unfinished = _unfinished(target.parent)
        try:
            with unfinished.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(target)
        except BaseException:  # Ctrl-C too leaves nothing behind
            unfinished.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None


def _target(path: Path) -> Path:
    """Follow a symbolic link, since replacing the link itself would cut it."""
    return Path(os.path.realpath(path))


def _unfinished(folder: Path) -> Path:
    """Name for a file that is not yet whole, short enough for every file system."""
    return folder / f".onnx-geed-{secrets.token_hex(8)}.unfinished"


def _unwritable(path: Path, error: Exception, option: str = "--out") -> GeedError:
    why = getattr(error, "strerror", None) or str(error)
    return GeedError(f"{option} {path}: cannot be written ({why}); name another file")


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
