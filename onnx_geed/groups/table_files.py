"""Files of output actions: one that is given, or fitted ones with what they were fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.copies import Copy, copy_file, read_by_copy
from onnx_geed.errors import GeedError, reason_of
from onnx_geed.files import write_bytes
from onnx_geed.groups.action_tables import Table, table_of
from onnx_geed.groups.fit import Fit, FitKind, checked_fit
from onnx_geed.held import ALLOWED, check_held, members_of
from onnx_geed.ordinary import check_ordinary, open_ordinary

__all__ = ["FIT_FORMAT", "read_table", "read_tables", "write_fits"]

#: What a file of fitted actions says it is.
FIT_FORMAT = "onnx-geed/fit/1"


@checked
def write_fits(path: str | Path, tables: Sequence[Table]) -> None:
    """Write fitted actions as an ``.npz`` file for ``--output-action LAYER=FILE``.

    Parameters
    ----------
    path : str or Path
        The file.
    tables : sequence of Table
        One per layer, each with its fit.

    Raises
    ------
    GeedError
        If the file cannot be written.

    Notes
    -----
    With one layer, the arrays are those of any file of an output action. With several, those of
    layer number i have the prefix ``<i>/``.
    """
    arrays: dict[str, Any] = {"format": np.array(FIT_FORMAT)}
    for i, table in enumerate(tables):
        ahead = f"{i}/" if len(tables) > 1 else ""
        arrays |= {f"{ahead}{name}": array for name, array in _arrays_of(table).items()}
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue(), option="-o")


def _arrays_of(table: Table) -> dict[str, NDArray[Any]]:
    fit = table.fit
    assert fit is not None
    wholes = {"fit_inputs": fit.inputs, "fit_wholes": fit.wholes} if fit.inputs else {}
    return {
        "group": np.array(table.group),
        "elements": np.array(table.elements),
        table.kind: table.values,
        "layer": np.array(fit.layer),
        "fit_kind": np.array(fit.kind),
        "fit_samples": np.array(fit.samples),
        "fit_indices": np.array(fit.indices, dtype=np.int64),
        "fit_marks": np.array(fit.marks, dtype=str),
        **{name: np.array(texts, dtype=str) for name, texts in wholes.items()},
        "data_fingerprint": np.array(fit.fingerprint),
        "lambda": np.array(math.nan if fit.lambda_ is None else fit.lambda_),
        "defect": np.array((math.nan, math.nan) if fit.defect is None else fit.defect),
    }


@checked
def read_table(path: str | Path) -> Table:
    """Read an output action from an ``.npz`` file.

    Parameters
    ----------
    path : str or Path
        File with ``elements`` and one of ``channels``, ``permutation``, ``matrices``,
        ``channel_matrices``, for example one that ``onnx-geed fit`` wrote for one layer.

    Returns
    -------
    Table

    Raises
    ------
    GeedError
        If there is no such file.
        If it is not an ``.npz`` archive, or has pickled objects.
        If it has no ``elements``, or none or several of the four arrays.
        If it has the actions of several layers.
    """
    tables = read_tables(path)
    if len(tables) > 1:
        layers = ", ".join(table.fit.layer for table in tables if table.fit is not None)
        raise GeedError(f"output action {path}: holds the actions of several layers: {layers}")
    return tables[0]


def _told(tables: tuple[Table, ...], copy: Copy) -> tuple[Table, ...]:
    """Return tables that say the address that was given, in place of their copy."""
    return tuple(replace(table, source=copy.told(table.source)) for table in tables)


@checked
@read_by_copy(copy_file, _told)
def read_tables(path: str | Path) -> tuple[Table, ...]:
    """Read the output actions of an ``.npz`` file: given ones, or fitted ones.

    Parameters
    ----------
    path : str or Path
        A file as :func:`onnx_geed.read_table` takes it, or as :func:`write_fits` writes it.

    Returns
    -------
    tuple of Table
        At least one; those that were fitted say so.

    Raises
    ------
    GeedError
        If there is no such file, or it is no such archive.
        If it is of a newer format.
        If what it says of its fit cannot be read.
    """
    source, content = f"output action {path}", _arrays_in(path)
    form = str(content.pop("format", FIT_FORMAT))
    if form != FIT_FORMAT:
        raise GeedError(
            f"{source}: has the format {form!r}, which this version does not know; it reads "
            f"{FIT_FORMAT}"
        )
    # An archive of nothing is one table that lacks everything.
    parts: dict[str, dict[str, Any]] = {} if content else {"": {}}
    for name, array in content.items():
        ahead, _, rest = name.rpartition("/")
        parts.setdefault(ahead, {})[rest] = array
    return tuple(
        _with_fit(table_of(part, f"{path}{f', {ahead}' if ahead else ''}"), part)
        for ahead, part in sorted(parts.items())
    )


def _with_fit(table: Table, content: Mapping[str, Any]) -> Table:
    if "fit_kind" not in content:
        return table
    try:
        strength, defect = float(content["lambda"]), [float(d) for d in content["defect"]]
        fit = Fit(
            kind=cast(FitKind, str(content["fit_kind"])),
            layer=str(content["layer"]),
            samples=int(content["fit_samples"]),
            lambda_=None if math.isnan(strength) else strength,
            defect=None if math.isnan(defect[0]) else (defect[0], defect[1]),
            indices=tuple(int(i) for i in content["fit_indices"]),
            marks=tuple(str(mark) for mark in content["fit_marks"]),
            fingerprint=str(content["data_fingerprint"]),
            inputs=tuple(str(name) for name in content.get("fit_inputs", ())),
            wholes=tuple(str(mark) for mark in content.get("fit_wholes", ())),
        )
        return replace(table, fit=checked_fit(fit))
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise GeedError(
            f"{table.source}: the description of its fit cannot be read ({reason_of(error)})"
        ) from None


def _arrays_in(path: str | Path) -> dict[str, NDArray[Any]]:
    path = Path(path)
    check_ordinary(path, f"output action {path}")
    if not path.is_file():
        fitted = str(path).startswith("fit:")
        advice = "; fit it with onnx-geed fit, and give the file that it writes" * fitted
        raise GeedError(f"output action {path}: no such file{advice}")
    source = f"output action {path}"
    try:
        with open_ordinary(path, source) as file:
            members = members_of(file)
            size = sum(one.head.size for one in members.values())
            check_held(source, size, ALLOWED, "is it a file for this model's layers?")
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in members}
    except GeedError:
        raise
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise GeedError(
            f"{source}: not a readable .npz without pickled objects ({reason_of(error)})"
        ) from None
    except Exception as error:  # zipfile and zlib have errors of their own
        raise GeedError(f"{source}: not a readable .npz ({reason_of(error)})") from None
