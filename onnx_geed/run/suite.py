"""The run of a suite: cell by cell, each into a file of its own, and added up over seeds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx_geed.addresses import address_of, exists, joined
from onnx_geed.arguments import checked
from onnx_geed.confinement import begin
from onnx_geed.copies import copy_file
from onnx_geed.errors import GeedError
from onnx_geed.files import check_writable, make_folder, write_json
from onnx_geed.model import load_model
from onnx_geed.ordinary import digest_of
from onnx_geed.results import (
    SUITE_SCHEMA,
    Record,
    Result,
    SuiteFailure,
    SuiteRow,
    SuiteSettings,
    SuiteSummary,
    aggregate,
    far_off,
    is_family,
    mean_interval,
    moved_accuracy,
    read_record,
    read_result,
    records_of,
)
from onnx_geed.run.executor import Executor, ExecutorName, NoWorkersError
from onnx_geed.run.executors import open_executor
from onnx_geed.run.fit_requests import without_idle_fit_options
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.open_source import source_of
from onnx_geed.run.options import Options
from onnx_geed.run.pipeline import measure
from onnx_geed.run.progress import Meter, Progress, begin_run
from onnx_geed.run.provenance import digest_of_mask, digests_of_feeds
from onnx_geed.run.source import Source
from onnx_geed.run.suite_file import Cell, Suite, read_suite
from onnx_geed.run.suite_forecast import Forecast

__all__ = ["benchmark"]


#: Errors of one cell that do not end the others.
_FAILURES = (GeedError, OSError, MemoryError)


@checked
def benchmark(
    suite: str | Path | Suite,
    folder: str | Path,
    *,
    notify: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
) -> SuiteSummary:
    """Run a suite, or the runs that are still missing, and summarise it.

    Parameters
    ----------
    suite : str, Path or Suite
        The TOML file, or a suite from ``onnx_geed.run.suite_file.read_suite``.
    folder : str or Path
        Where results go, which may be an address: ``cells/<name>.json``, of schema
        ``onnx-geed/result/1``, one a cell, and ``summary.json``.
    notify : callable, optional
        Called with one line of text per run.
    progress : callable, optional
        Called with the progress of a run; if several run at a time, with the number of finished
        runs.
    executor, address
        As :func:`onnx_geed.measure` takes them. On Ray all cells share the workers, and a few are
        under way at a time, so that a large one does not hold up small ones.

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
        number for each model; ``far_off_mean`` and its two intervals, how far off pages say that it
        is (``relative``; for predictions under a group the share of ln abs(G), where that is
        larger; absent from summaries of earlier versions); ``exact_mean`` (over the exact subgroup,
        where there is one), ``exact_ci95_over_models``; of a family ``gain_mean`` and its interval
        over models; of class scores ``stay_mean``, how often moved samples keep their class; where
        labels are known ``right_mean``, how often predictions of moved samples are right, with two
        intervals, and ``right_unmoved_mean``; ``kind`` of the group; ``fit``, as in an aggregate,
        and ``warnings``. The group is called as results call it.

    Raises
    ------
    GeedError
        If the suite cannot be read, or the folder cannot be written to.
        If no worker is left to run it.

    Notes
    -----
    An existing result is kept if model (SHA-256), data (fingerprint, samples drawn), measures and
    options are the same; otherwise it is measured again. Choice: with several seeds the interval is
    over models, as in the paper; with one it is over samples.
    """
    loaded = suite if isinstance(suite, Suite) else read_suite(suite)
    cells, whole = joined(folder, "cells"), joined(folder, "summary.json")
    make_folder(cells, option="-o")
    check_writable(whole, option="-o")
    say = notify or (lambda _: None)
    failed: list[SuiteFailure] = []
    groups: dict[tuple[str, int | None, str, str], list[tuple[Cell, str | Path]]] = {}
    with open_executor(executor, address) as running:
        runs = _Runs(loaded.cells, cells, running, say, progress)
        for cell, failure in zip(loaded.cells, runs.all(), strict=True):
            if failure is not None:
                failed.append(failure)
                continue
            key = (cell.model, cell.step, cell.data, cell.group)
            groups.setdefault(key, []).append((cell, runs.path(cell)))
    begin("")  # what follows is no cell's
    rows: list[SuiteRow] = []
    for (model, _, data, group), members in groups.items():
        try:
            rows += _suite_rows([c for c, _ in members], [read_result(p) for _, p in members])
        except GeedError as error:
            failed.append({"cell": f"{model}, {data}, {group}", "message": str(error)})
            say(f"{model}, {data}, {group}: {error}")
            continue
    summary: SuiteSummary = {
        "schema": SUITE_SCHEMA,
        "title": loaded.title,
        "failed": failed,
        "rows": rows,
    }
    write_json(summary, whole)
    return summary


@dataclass(frozen=True)
class _Runs:
    """The runs of a suite's cells, one after the other, or a few at a time.

    Parameters
    ----------
    cells : sequence of Cell
        The cells.
    folder : str or Path
        Where their results go.
    executor : Executor
        Runs their jobs.
    say : callable
        Called with one line of text per run.
    progress : callable, optional
        Told how far they are.
    """

    cells: Sequence[Cell]
    folder: str | Path
    executor: Executor
    say: Callable[[str], None]
    progress: Progress | None
    #: Fingerprints of the data, which many cells share.
    fingerprints: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def path(self, cell: Cell) -> str | Path:
        """Return a cell's file."""
        return joined(self.folder, f"{cell.name}.json")

    def all(self) -> Iterator[SuiteFailure | None]:
        """Yield why cells failed, or None, in their order."""
        beside, forecast = self.executor.runs, Forecast(self.cells, self.folder, self.say)
        if beside == 1:
            for number in range(len(self.cells)):
                yield self._run(number, self.progress)
                forecast.add()
            return
        meter = Meter("cells", len(self.cells), self.progress)
        pool = ThreadPoolExecutor(beside)
        try:
            for future in [pool.submit(self._run, i, None) for i in range(len(self.cells))]:
                yield future.result()
                meter.add(1)
                forecast.add()
        except BaseException:
            self.executor.close()  # so that what runs ends
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _run(self, number: int, progress: Progress | None) -> SuiteFailure | None:
        """Run a cell where its file is not kept; say why it failed."""
        cell = self.cells[number]
        path, head = self.path(cell), f"[{number + 1}/{len(self.cells)}] {cell}"
        try:
            begin(cell.name)
            begin_run(progress, number, len(self.cells), str(cell))
            reason = _reason_to_run(cell, path, self.fingerprints)
            self.say(f"{head}: {reason or 'kept'}")
            if reason is not None:
                write_json(_measure_cell(cell, progress, self.executor), path)
        except NoWorkersError:
            raise
        except _FAILURES as error:
            message = str(error) or type(error).__name__
            self.say(f"{head}: failed: {message}")
            return {"cell": str(cell), "message": message}
        return None


def _reason_to_run(
    cell: Cell, path: str | Path, fingerprints: dict[tuple[Any, ...], str]
) -> str | None:
    """Say why a cell has to be run; None where its file can be kept.

    ``fingerprints`` is filled with those of the data, which many cells share.
    """
    if not exists(path):
        return "measuring"
    try:
        kept = read_result(path)
    except GeedError:
        return "measuring again, its file is not a result"
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
    if _told_of(kept["data"]) != _told_of(_data_of(source, fingerprints)):
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


def _data_of(source: Source, fingerprints: dict[tuple[Any, ...], str]) -> dict[str, Any]:
    """Return what a result tells of its data, as they are now."""
    indices, labels = source.indices, source.samples.labels

    def fingerprint(moved: MovedInput) -> str:
        if (opened := moved.opening.key) is None:  # an array, such as what a mask marks
            return moved.samples.fingerprint(indices)
        if (key := (opened, indices)) not in fingerprints:
            fingerprints[key] = moved.samples.fingerprint(indices)
        return fingerprints[key]

    return {
        "fingerprint": fingerprint(source.main),
        "indices": list(indices),
        "labels": [labels[i] for i in indices] if labels else None,
        "inputs": [
            {"name": name, "fingerprint": fingerprint(moved)}
            for name, moved in source.partners.items()
        ],
        "fed": digests_of_feeds(source),
        "mask": digest_of_mask(source),
    }


def _told_of(data: Mapping[str, Any]) -> list[Any]:
    """Return what is told of data, in an order of its own; of the main input once."""
    further = {one["name"]: one.get("fingerprint") for one in data.get("inputs", ())}
    others = {name: one for name, one in further.items() if one != data["fingerprint"]}
    told = [data[key] for key in ("fingerprint", "indices", "labels")]
    return [*told, others, data.get("fed") or {}, data.get("mask")]


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
    if (address := address_of(value)) is not None:
        return _option_content(copy_file(address).text)
    if isinstance(value, str) and os.path.isfile(value):
        return digest_of(value)
    # An array in a file, such as labels.h5:/test.
    if isinstance(value, str) and os.path.isfile((parts := value.rpartition(":"))[0]):
        return [digest_of(parts[0]), parts[2]]
    return value


def _measure_cell(cell: Cell, progress: Progress | None, executor: Executor) -> Result:
    settings = _cell_settings(cell)  # before the run, during which files of options may change
    outcome = measure(
        cell.path,
        cell.source,
        cell.acting,
        progress=progress,
        executor=executor,
        command=f"onnx-geed benchmark, {cell}",
        measures=cell.measures,
        # How to fit may be told to all models, of which some are fitted.
        **without_idle_fit_options(cell.options),
    )
    outcome["suite"] = json.loads(json.dumps(settings))
    return outcome


def _suite_rows(cells: Sequence[Cell], results: Sequence[Result]) -> list[SuiteRow]:
    """Add up one model's files at one step."""
    rows: list[SuiteRow] = []
    first, group = cells[0], results[0]["group"]
    records = [records_of(r) for r in results]
    for total in aggregate(results)["measurements"]:
        own = [r[total["measure"], total["layer"]] for r in records]
        exact = [r["exact"]["value"] for r in own if r["exact"] and r["exact"]["value"] is not None]
        right = [known for r in own if (known := moved_accuracy(r.get("predictions"), group))]
        kept = [stay for r in own if (stay := _kept(r)) is not None]
        far = [share for r in own if (share := _far_off(r, family=is_family(group)))]
        gains = [g["value"] for r in own if (g := r.get("gain")) and g["value"] is not None]
        warnings = dict.fromkeys([*total["warnings"], *(w for r in own for w in r["warnings"])])
        rows.append(
            {
                "model": first.model,
                "step": first.step,
                "data": first.data,
                # As results call it; a folder beside the suite, as the suite does.
                "group": first.group if first.acting != first.group else group["name"],
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
                "far_off_mean": _mean([share for share, _ in far]),
                "far_off_ci95_over_models": _over_models([share for share, _ in far]),
                "far_off_ci95_over_samples": _ends(far[0][1])
                if len(own) == len(far) == 1
                else None,
                "exact_mean": _mean(exact),
                "exact_ci95_over_models": _over_models(exact),
                "fit": total["fit"],
                "kind": group.get("kind", "group"),
                "gain_mean": _mean(gains),
                "gain_ci95_over_models": _over_models(gains),
                "stay_mean": _mean(kept),
                "right_mean": _mean([r.moved for r in right]),
                "right_ci95_over_models": _over_models([r.moved for r in right]),
                "right_ci95_over_samples": _ends(right[0].ci95)
                if len(own) == len(right) == 1
                else None,
                "right_unmoved_mean": _mean([r.unmoved for r in right if r.unmoved is not None]),
                "warnings": list(warnings),
            }
        )
    return rows


def _kept(record: Record) -> float | None:
    """Return the share of moved samples that keep their class, over all but the first element."""
    predictions = record.get("predictions")
    return _mean([*predictions["stay"]["per_element"].values()][1:]) if predictions else None


def _far_off(record: Record, *, family: bool) -> tuple[float, tuple[float, float] | None] | None:
    """Return how far off pages say that a value is, and its interval over samples."""
    reading = read_record(record)
    if reading.relative is None:
        return None
    own = far_off(reading, reading.value, of_family=family)
    if reading.ci95 is None:
        return own, None
    low, high = (far_off(reading, end, of_family=family) for end in reading.ci95)
    return own, (low, high)


def _relative_ends(own: Sequence[Record]) -> list[float] | None:
    """Return the interval of a relative value over samples, where there is one model only."""
    return _ends(read_record(own[0]).relative_ci95) if len(own) == 1 else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _over_models(values: Sequence[float]) -> list[float] | None:
    """Return the interval over the models' values."""
    return _ends(mean_interval(values))


def _ends(pair: tuple[float, float] | None) -> list[float] | None:
    return list(pair) if pair else None
