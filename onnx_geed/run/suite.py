"""The run of a suite: cell by cell, each into a file of its own, and added up over seeds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.files import check_writable, make_folder, write_json
from onnx_geed.model import load_model
from onnx_geed.results import (
    Record,
    Result,
    SuiteFailure,
    SuiteRow,
    SuiteSettings,
    SuiteSummary,
    aggregate,
    mean_interval,
    moved_accuracy,
    read_record,
    read_result,
    records_of,
)
from onnx_geed.run.options import Options
from onnx_geed.run.pipeline import measure
from onnx_geed.run.progress import Progress
from onnx_geed.run.source import source_of
from onnx_geed.run.suite_file import Cell, Suite, read_suite

__all__ = ["SCHEMA", "benchmark"]

SCHEMA = "onnx-geed/suite/1"


#: Errors of one cell that do not end the others.
_FAILURES = (GeedError, OSError, MemoryError)


def benchmark(
    suite: str | Path | Suite,
    folder: str | Path,
    *,
    notify: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> SuiteSummary:
    """Run a suite, or what of it is not yet done, and add it up.

    Parameters
    ----------
    suite : str, Path or Suite
        The TOML file, or what ``onnx_geed.run.suite_file.read_suite`` returned.
    folder : str or Path
        Where results go: ``cells/<name>.json``, of schema ``onnx-geed/result/1``, one a cell, and
        ``summary.json``.
    notify : callable, optional
        Told a line a cell.
    progress : callable, optional
        Told how far a cell's run is.

    Returns
    -------
    dict
        Schema ``onnx-geed/suite/1``: ``schema``, ``title``, ``failed`` (``cell`` and ``message``
        each) and ``rows``. A row has ``model``, ``step``, ``data``, ``group``, ``measure``,
        ``layer``, ``output_action``, ``samples``; ``seeds``, ``values``, ``normalisers`` and
        ``unnormalised``, one each a model file; ``models`` (those with a value), ``mean``,
        ``ci95_over_models`` (Student t over the values; null for one), ``ci95_over_samples`` (that
        of the result, where there is one model only; else null), ``unnormalised_mean``,
        ``unnormalised_ci95_over_models``; ``relative``, ``relative_mean`` and its two intervals,
        by which ``latent-cos`` is to be judged, whose normalised value is perfect at another
        number for each model; ``exact_mean`` (over the exact subgroup, where there is one),
        ``exact_ci95_over_models``; ``fit``, as in an aggregate, and ``warnings``.

    Raises
    ------
    GeedError
        If the suite cannot be read, or the folder cannot be written to.

    Notes
    -----
    A cell whose file is there is kept if it is of the same model (SHA-256), data (fingerprint,
    samples drawn), measures and options, and done again otherwise. Choice: an interval over models
    where there are several seeds, which is the paper's; one over samples where there is one.
    """
    loaded = suite if isinstance(suite, Suite) else read_suite(suite)
    cells = Path(folder) / "cells"
    make_folder(cells, option="-o")
    check_writable(Path(folder) / "summary.json", option="-o")
    say = notify or (lambda _: None)
    failed: list[SuiteFailure] = []
    groups: dict[tuple[str, int | None, str, str], list[tuple[Cell, Path]]] = {}
    fingerprints: dict[tuple[Any, ...], str] = {}
    for i, cell in enumerate(loaded.cells, 1):
        path = cells / f"{cell.name}.json"
        head = f"[{i}/{len(loaded.cells)}] {cell}"
        try:
            reason = _reason_to_run(cell, path, fingerprints)
            if reason is not None:
                say(f"{head}: {reason}")
                write_json(_measure_cell(cell, progress), path)
            else:
                say(f"{head}: kept")
        except _FAILURES as error:
            message = str(error) or type(error).__name__
            failed.append({"cell": str(cell), "message": message})
            say(f"{head}: failed: {message}")
            continue
        key = (cell.model, cell.step, cell.data, cell.group)
        groups.setdefault(key, []).append((cell, path))
    rows: list[SuiteRow] = []
    for (model, _, data, group), members in groups.items():
        try:
            rows += _suite_rows([c for c, _ in members], [read_result(p) for _, p in members])
        except GeedError as error:
            failed.append({"cell": f"{model}, {data}, {group}", "message": str(error)})
            say(f"{model}, {data}, {group}: {error}")
            continue
    summary: SuiteSummary = {
        "schema": SCHEMA,
        "title": loaded.title,
        "failed": failed,
        "rows": rows,
    }
    write_json(summary, Path(folder) / "summary.json")
    return summary


def _reason_to_run(cell: Cell, path: Path, fingerprints: dict[tuple[Any, ...], str]) -> str | None:
    """Say why a cell has to be run; None where its file can be kept.

    ``fingerprints`` is filled with those of the data, which many cells share.
    """
    if not path.exists():
        return "measuring"
    try:
        kept = read_result(path)
    except GeedError:
        return "measuring again, its file is no result"
    model = load_model(cell.path)
    if kept["model"]["sha256"] != model.sha256:
        return "measuring again, the model has changed"
    if kept.get("suite") != _cell_settings(cell):
        return "measuring again, measures or options have changed"
    options = Options(measures=cell.measures, **cell.options)
    if options.precision is not None:
        # As many samples as that run took; the rest of the data were not fed.
        taken = kept["precision"]["samples"] if "precision" in kept else None
        options = replace(options, precision=None, samples=taken)
    source = source_of(model, cell.source, cell.acting, options)
    samples = source.samples
    key = (samples.source, source.layout, samples.shape, samples.preprocess, source.indices)
    if key not in fingerprints:
        fingerprints[key] = samples.fingerprint(source.indices)
    if (kept["data"]["fingerprint"], kept["data"]["indices"]) != (
        fingerprints[key],
        list(source.indices),
    ):
        return "measuring again, the data have changed"
    if (backdrop := source.main.backdrop) is not None and (
        kept["group"].get("backgrounds") != backdrop.digest
        or kept["data"].get("masks", {}).get("fingerprint")
        != backdrop.masks_fingerprint(source.indices)
    ):
        return "measuring again, backgrounds or masks have changed"
    if kept["group"].get("members", "") != source.main.members:
        return "measuring again, the members of the family have changed"
    return None


def _cell_settings(cell: Cell) -> SuiteSettings:
    """Return how a cell is measured, as its file says it."""
    return {
        "measures": list(cell.measures),
        "options": {key: _option_content(cell.options[key]) for key in sorted(cell.options)},
    }


def _option_content(value: Any) -> Any:
    """Return an option's value; a file stands for what is in it."""
    if isinstance(value, Mapping):
        return {key: _option_content(value[key]) for key in sorted(value)}
    if isinstance(value, str) and os.path.isfile(value):
        return f"sha256:{hashlib.sha256(Path(value).read_bytes()).hexdigest()}"
    return value


def _measure_cell(cell: Cell, progress: Progress | None) -> Result:
    settings = _cell_settings(cell)  # before the run, during which files of options may change
    outcome = measure(
        cell.path,
        cell.source,
        cell.acting,
        progress=progress,
        command=f"onnx-geed benchmark, {cell}",
        measures=cell.measures,
        **cell.options,
    )
    outcome["suite"] = json.loads(json.dumps(settings))
    return outcome


def _suite_rows(cells: Sequence[Cell], results: Sequence[Result]) -> list[SuiteRow]:
    """Add up one model's files at one step."""
    rows: list[SuiteRow] = []
    first = cells[0]
    records = [records_of(r) for r in results]
    for total in aggregate(results)["measurements"]:
        own = [r[total["measure"], total["layer"]] for r in records]
        exact = [r["exact"]["value"] for r in own if r["exact"] and r["exact"]["value"] is not None]
        ends = mean_interval(exact)
        right = [pair for r in own if (pair := moved_accuracy(r.get("predictions")))]
        warnings = dict.fromkeys([*total["warnings"], *(w for r in own for w in r["warnings"])])
        rows.append(
            {
                "model": first.model,
                "step": first.step,
                "data": first.data,
                "group": first.group,
                "measure": total["measure"],
                "layer": total["layer"],
                "output_action": total["output_action"],
                "samples": total["samples"],
                "seeds": [cell.seed for cell in cells],
                "models": total["models"],
                "values": total["values"],
                "mean": total["mean"],
                "ci95_over_models": total["ci95_over_models"],
                "ci95_over_samples": own[0]["ci95"] if len(own) == 1 else None,
                "normalisers": [r["normaliser"] for r in own],
                "unnormalised": total["unnormalised"],
                "unnormalised_mean": total["unnormalised_mean"],
                "unnormalised_ci95_over_models": total["unnormalised_ci95_over_models"],
                "relative": total["relative"],
                "relative_mean": total["relative_mean"],
                "relative_ci95_over_models": total["relative_ci95_over_models"],
                "relative_ci95_over_samples": _relative_ends(own),
                "exact_mean": sum(exact) / len(exact) if exact else None,
                "exact_ci95_over_models": list(ends) if ends else None,
                "fit": total["fit"],
                "kind": results[0]["group"].get("kind", "group"),
                "right_mean": sum(r[0] for r in right) / len(right) if right else None,
                "right_unmoved_mean": sum(r[1] for r in right) / len(right) if right else None,
                "warnings": list(warnings),
            }
        )
    return rows


def _relative_ends(own: Sequence[Record]) -> list[float] | None:
    """Return the interval of a relative value over samples, where there is one model only."""
    ends = read_record(own[0]).relative_ci95 if len(own) == 1 else None
    return list(ends) if ends else None
