"""Files of results: put together, read and checked, and written as CSV."""

from __future__ import annotations

import csv
import datetime
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from onnx_geed.addresses import address_of
from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, known_names, looking_at, shown, without_secrets
from onnx_geed.files import read_json
from onnx_geed.measures import CATALOGUE
from onnx_geed.results.agreement import disagreement
from onnx_geed.results.fits import FIT_REFERENCES
from onnx_geed.results.origin import DataPart, GroupPart, ModelPart, RuntimePart
from onnx_geed.results.schema import (
    Record,
    Result,
)
from onnx_geed.safe_names import csv_cell
from onnx_geed.typed_json import check_json

__all__ = [
    "SCHEMA",
    "check_result",
    "check_results",
    "is_result",
    "of_results",
    "read_result",
    "result",
    "rows_of",
    "to_csv",
]

Given = ParamSpec("Given")
Made = TypeVar("Made")

SCHEMA = "onnx-geed/result/1"


# The columns of a record's fit, the defect apart.
_FIT = ("kind", "lambda", "samples", *FIT_REFERENCES)


# Of each element that counts.
_BY_ELEMENT = ("elements", "parameters", "per_element")
_REFERENCES = ("input_round_trip", "output_round_trip", "numeric", "untrained")
_COLUMNS = (
    *("model", "group", "measure", "layer", "layout", "output_action"),
    *("value", "ci95_low", "ci95_high", "interval", "stderr", "samples"),
    *("normaliser", "unnormalised", "norm_samples", "between_samples", "relative", "zero_pairs"),
    *("exact_value", "exact_ci95_low", "exact_ci95_high", "half_value", "warnings"),
    *(f"fit_{name}" for name in (*_FIT, "defect_median", "defect_worst")),
    *(*_BY_ELEMENT, "gain"),
    *_REFERENCES,
)


# What to do with a file that is none of a result.
_AGAIN = "measure again"


def result(
    *,
    command: str,
    software: Mapping[str, str],
    model: ModelPart,
    data: DataPart,
    group: GroupPart,
    runtime: RuntimePart,
    seed: int,
    measurements: Sequence[Record],
) -> Result:
    """Return a result of schema ``onnx-geed/result/1`` from its parts."""
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": without_secrets(command),
        "software": dict(software),
        "model": model.copy(),
        "data": data.copy(),
        "group": group.copy(),
        "runtime": runtime.copy(),
        "seed": seed,
        "measurements": [record.copy() for record in measurements],
    }


@checked
def read_result(path: str | Path) -> Result:
    """Read a result file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        The result, with the path in the additional field ``file``.

    Raises
    ------
    GeedError
        If there is no such file, or it is not JSON.
        If it is not a result, or has a schema that this version does not know.
        If a field is missing, has the wrong type, or contradicts another.
        If it has a measure that this version does not know.
    """
    if address_of(path) is None and Path(path).is_dir():
        kind = "is a folder"
        if Path(path).suffix == ".geed":
            kind = f"is a cache: onnx-geed measure {path} --out RESULT.json measures it"
        raise GeedError(f"{path}: {kind}; give a file that onnx-geed measure --out wrote")
    content = read_json(path)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, str) and schema.startswith("onnx-geed/result/")
        kind = f"of schema {str(schema)[:60]!r}" if schema is not None else "without a schema"
        cure = "upgrade onnx-geed" if newer else "give a file that onnx-geed measure --out wrote"
        if isinstance(schema, str) and schema.startswith("onnx-geed/suite/"):
            cure = "give the suite's folder to onnx-geed report, or results of its cells/"
        raise GeedError(f"{path}: is {kind}, expected {SCHEMA!r}; {cure}")
    check_result(content, str(path))
    content["file"] = without_secrets(str(path))
    return cast(Result, content)


def check_result(content: Any, source: str) -> None:
    """Refuse what is no result that could have been measured.

    Parameters
    ----------
    content : object
        A result, maybe.
    source : str
        The file, for messages.

    Raises
    ------
    GeedError
        If a field is missing, of another type than the schema's, or contradicts another.
        If it holds a measure that this version does not know.
    """
    check_json(content, Result, source, _AGAIN)
    for i, record in enumerate(content["measurements"]):
        if record["measure"] not in CATALOGUE:
            raise GeedError(
                f"{source}: measurements[{i}] is of a measure that this version does not know, "
                f"{shown(record['measure'])!r} (it knows {known_names(tuple(CATALOGUE))}); upgrade "
                "onnx-geed"
            )
    if wrong := disagreement(content):
        raise GeedError(f"{source}: {wrong}; {_AGAIN}")


def is_result(given: object) -> bool:
    """Whether something says that it is a result, of the schema that this version knows."""
    with suppress(Exception):  # of another's class
        return isinstance(given, Mapping) and given.get("schema") == SCHEMA
    return False


def check_results(where: str, results: Any) -> None:
    """Refuse what is no list of results, as :func:`onnx_geed.read_result` returns them.

    Parameters
    ----------
    where : str
        What they were given to, for the message.
    results : object
        The list, maybe.

    Raises
    ------
    GeedError
        If it is none, or one of them is no result.
    """
    listed = isinstance(results, Sequence) and not isinstance(results, str | bytes)
    with looking_at(f"{where}: results", results):
        for one in results if listed else [results]:
            if not listed or not is_result(one):
                raise GeedError(
                    f"{where}: takes a list of results, as onnx_geed.measure or "
                    f"onnx_geed.read_result returns them; found {shown(one)}"
                    f"{'' if listed else ', which is no list'}"
                )


def of_results(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Return a function of results that says which field is wrong, where it fails for one.

    Whoever holds a result may have changed it since it was measured. It is looked at only then,
    since that of a large one takes longer than most of what is done with it.
    """

    @functools.wraps(function)
    def explained(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        try:
            return function(*args, **kwargs)
        except (GeedError, MemoryError):
            raise
        except Exception:
            for given in (*args, *kwargs.values()):
                for one in given if isinstance(given, list | tuple) else (given,):
                    if isinstance(one, Mapping):
                        with looking_at(function.__name__, one):
                            check_results(function.__name__, [one])
                            check_result(one, f"{function.__name__}: a result was changed")
            raise

    return explained


def to_csv(*results: Result) -> str:
    """Return one line a measurement, numbers in full.

    Parameters
    ----------
    *results : dict
        Results.

    Returns
    -------
    str
        With a header line; ``elements``, their ``parameters`` (of a family) and ``per_element`` are
        separated by semicolons.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for result in results:
        for row in rows_of(result):
            # csv writes None as nothing, and a float so that it reads back as it was.
            elements, parameters, values = (row.pop(name) for name in _BY_ELEMENT)
            joined = (";".join(map(csv_cell, elements)), _joined(parameters), _joined(values))
            cells = {**row, **dict(zip(_BY_ELEMENT, joined, strict=True))}
            writer.writerow([csv_cell(cells[name]) for name in _COLUMNS])
    return stream.getvalue()


def rows_of(result: Result) -> list[dict[str, Any]]:
    """Return one row a measurement: its numbers and names, flat.

    Parameters
    ----------
    result : dict
        A result.

    Returns
    -------
    list of dict
        With the columns of CSV; ``elements``, ``parameters`` and ``per_element`` are lists.
    """
    parameters = dict(
        zip(result["group"]["elements"], result["group"].get("parameters", ()), strict=False)
    )
    rows = []
    for record in result["measurements"]:
        gain = record.get("gain")
        exact, fit = record["exact"], cast(Mapping[str, Any], record.get("fit") or {})
        defect: Mapping[str, float] = fit.get("defect") or {}
        references = cast(Mapping[str, Any], record.get("references") or {})
        low, high = record["ci95"] or (None, None)
        exact_low, exact_high = (exact and exact["ci95"]) or (None, None)
        cells: dict[str, Any] = {
            "model": result["model"]["path"],
            "group": result["group"]["name"],
            # What was measured before these were has neither.
            "between_samples": None,
            "relative": None,
            **record,
            "ci95_low": low,
            "ci95_high": high,
            "exact_value": exact and exact["value"],
            "exact_ci95_low": exact_low,
            "exact_ci95_high": exact_high,
            "half_value": half["value"] if (half := record.get("half")) else None,
            "warnings": "; ".join(record["warnings"]),
            **{f"fit_{name}": fit.get(name) for name in _FIT},
            # Lists, one entry an element that counts.
            "elements": list(record["per_element"]),
            "parameters": [parameters.get(e) for e in record["per_element"]],
            "per_element": list(record["per_element"].values()),
            "gain": gain and gain["value"],
            **{name: (references.get(name) or {}).get("value") for name in _REFERENCES},
            **{f"fit_defect_{name}": defect.get(name) for name in ("median", "worst")},
        }
        rows.append({name: cells[name] for name in _COLUMNS})
    return rows


def _joined(values: Sequence[float | None]) -> str:
    """Return numbers in full, separated by semicolons; nothing where there are none."""
    return (
        ""
        if all(v is None for v in values)
        else ";".join("" if v is None else str(v) for v in values)
    )
