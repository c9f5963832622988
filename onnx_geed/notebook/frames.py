"""Results as tables of pandas and polars."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Literal, get_args

from onnx_geed.errors import check_choice
from onnx_geed.extras import package
from onnx_geed.results import Result, rows_of

__all__ = ["Library", "frame_of"]

Library = Literal["pandas", "polars"]

# Columns that have a list a row.
_LISTS = ("elements", "parameters", "per_element")

# Columns of text; of all others, which are numbers, pandas has NaN where there is none.
_TEXTS = {"model", "group", "measure", "layer", "layout", "output_action", "interval", "warnings"}
_TEXTS |= {"fit_kind"}


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
    known = get_args(Library)
    installed = next((name for name in known if importlib.util.find_spec(name)), known[0])
    name = check_choice("to_dataframe", library or installed, known)
    frames = package(name, name, "to_dataframe")
    rows, none = rows_of(result), math.nan if name == "pandas" else None
    table = {
        column: [
            none if row[column] is None and column not in _TEXTS else row[column] for row in rows
        ]
        for column in (rows[0] if rows else ())
        if column not in _LISTS
    }
    return frames.DataFrame(table)
