"""Results as tables of pandas and polars."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from onnx_geed.errors import check_choice
from onnx_geed.extras import package
from onnx_geed.results import Comparison, Result, rows_of

__all__ = ["Library", "comparison_frame", "frame_of"]

Library = Literal["pandas", "polars"]

# Columns that have a list a row.
_LISTS = ("elements", "parameters", "per_element")

# Columns of text; of all others, which are numbers, pandas has NaN where there is none.
_TEXTS = {"model", "group", "measure", "layer", "layout", "output_action", "interval", "warnings"}
_TEXTS |= {"fit_kind"}

# Of a comparison.
_INTERVALS = ("ci95", "ci95_bootstrap", "verdict_ci95")
_COMPARED_TEXTS = {
    *("model_a", "model_b", "measure", "layer", "output_action_a", "output_action_b"),
    *("compared", "interval", "verdict", "warnings"),
}


def frame_of(result: Result, library: Library | None) -> Any:
    """Return one row a measurement.

    Parameters
    ----------
    result : dict
        A result.
    library : {"pandas", "polars"} or None
        Whose table; ``None`` for the first that is installed.

    Returns
    -------
    pandas.DataFrame or polars.DataFrame

    Raises
    ------
    GeedError
        If the library is unknown or not installed.
    """
    return _frame(rows_of(result), library, _TEXTS)


def comparison_frame(comparison: Comparison, library: Library | None) -> Any:
    """Return one row a pair of measurements.

    Parameters
    ----------
    comparison : dict
        A comparison.
    library : {"pandas", "polars"} or None
        Whose table; ``None`` for the first that is installed.

    Returns
    -------
    pandas.DataFrame or polars.DataFrame
        With the fields of its measurements after ``model_a`` and ``model_b``; an interval is two
        columns, such as ``ci95_low`` and ``ci95_high``.

    Raises
    ------
    GeedError
        If the library is unknown or not installed.
    """
    models = {f"model_{side}": comparison[side]["path"] for side in ("a", "b")}
    rows = []
    for entry in comparison["measurements"]:
        row: dict[str, Any] = {**models}
        for name, value in entry.items():
            if name in _INTERVALS:
                row[f"{name}_low"], row[f"{name}_high"] = value or (None, None)  # type: ignore[misc]
            else:
                row[name] = value
        rows.append(row | {"warnings": "; ".join(entry["warnings"])})
    return _frame(rows, library, _COMPARED_TEXTS)


def _frame(
    rows: Sequence[Mapping[str, Any]], library: Library | None, texts: Collection[str]
) -> Any:
    """Return rows as a table; numbers that are missing are numbers all the same."""
    known = get_args(Library)
    installed = next((name for name in known if importlib.util.find_spec(name)), known[0])
    name = check_choice("to_dataframe", library or installed, known)
    frames = package(name, name, "to_dataframe")
    none = math.nan if name == "pandas" else None
    table = {
        column: [
            none if row[column] is None and column not in texts else row[column] for row in rows
        ]
        for column in (rows[0] if rows else ())
        if column not in _LISTS
    }
    return frames.DataFrame(table)
