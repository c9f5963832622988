"""A suite's summary, read back from its folder and checked."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from onnx_geed.addresses import address_of, exists, joined
from onnx_geed.errors import GeedError, known_names, shown
from onnx_geed.files import read_json
from onnx_geed.measures import CATALOGUE
from onnx_geed.results.suite_schema import SuiteSummary
from onnx_geed.typed_json import check_json

__all__ = ["SUITE_SCHEMA", "is_suite", "read_summary"]

SUITE_SCHEMA = "onnx-geed/suite/1"

_FILE = "summary.json"


def is_suite(place: str | Path) -> bool:
    """Say whether a place is a folder, as a suite's results lie in one, and no result file."""
    if address_of(place) is None:
        return Path(place).is_dir()
    return not str(place).endswith(".json") and exists(joined(place, _FILE))


def read_summary(folder: str | Path) -> SuiteSummary:
    """Read the summary of a suite that was run.

    Parameters
    ----------
    folder : str or Path
        Where its results are.

    Returns
    -------
    dict
        As :func:`onnx_geed.benchmark` returned it.

    Raises
    ------
    GeedError
        If there is none, or it is none of a schema that this version knows.
        If a field is missing, or of another type than the schema's.
        If it has a measure that this version does not know.
    """
    path = joined(folder, _FILE)
    if address_of(folder) is None and Path(folder).suffix == ".geed":
        raise GeedError(
            f"{folder}: is a cache; measure it with onnx-geed measure {folder} --out RESULT.json, "
            "and give that file"
        )
    if not exists(path):
        raise GeedError(
            f"{folder}: has no {_FILE}, which onnx-geed benchmark writes when all is run: give it "
            f"the suite again, or take single results, such as {joined(folder, 'cells', '*.json')}"
        )
    content = read_json(path)
    schema = content.get("schema") if isinstance(content, dict) else None
    again = "run onnx-geed benchmark again"
    if schema != SUITE_SCHEMA:
        newer = isinstance(schema, str) and schema.startswith("onnx-geed/suite/")
        kind = f"of schema {shown(schema)!r}" if schema is not None else "without a schema"
        cure = "upgrade onnx-geed" if newer else again
        raise GeedError(f"{path}: is {kind}, expected {SUITE_SCHEMA!r}; {cure}")
    check_json(content, SuiteSummary, str(path), again)
    for i, row in enumerate(content["rows"]):
        if row["measure"] not in CATALOGUE:
            raise GeedError(
                f"{path}: rows[{i}] is of a measure that this version does not know, "
                f"{shown(row['measure'])!r} (it knows {known_names(tuple(CATALOGUE))}); upgrade "
                "onnx-geed"
            )
    return cast(SuiteSummary, content)
