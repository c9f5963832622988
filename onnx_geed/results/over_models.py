"""Several models: mean and interval of each measure over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.measures import descriptor_of, sign_words, told
from onnx_geed.results.comparability import (
    Key,
    action_differences,
    differences,
    name_of,
    records_of,
    truth_differences,
)
from onnx_geed.results.intervals import mean_interval, standard_error
from onnx_geed.results.parts import part_words
from onnx_geed.results.reading import read_record
from onnx_geed.results.result_file import check_results, of_results
from onnx_geed.results.schema import (
    Aggregate,
    AggregateEntry,
    AggregateFit,
    AnyResult,
    FitPart,
    OverModels,
    Record,
    Result,
)

__all__ = ["aggregate", "perfect_notes"]

SCHEMA = "onnx-geed/aggregate/1"


# Student t with one degree of freedom.
_OF_TWO = (
    "the interval over models comes from only two models, so it is too wide to mean much (±12.7 "
    "standard errors); measure three or more"
)


@of_results
def aggregate(results: Sequence[AnyResult]) -> Aggregate:
    """Return mean and interval over models; this is the paper's interval.

    Parameters
    ----------
    results : sequence of dict
        Results of several models, such as seeds of one training.

    Returns
    -------
    dict
        Schema ``onnx-geed/aggregate/1``: ``schema``; ``models``, a list of each result's ``file``
        and ``model``; ``group``; ``data`` (``source``, ``fingerprint``, ``available``);
        ``measurements``; ``warnings``. Each measurement has ``measure``, ``layer``,
        ``output_action``, ``samples``, ``models`` (how many have a value), ``values`` (one a
        model, or null), ``mean``, ``ci95_over_models`` (Student t over the models' values; null
        for one model), ``stderr_over_models``; the same of the unnormalised values,
        ``unnormalised``, ``unnormalised_mean``, ``unnormalised_ci95_over_models``; and of
        the values relative to different samples, ``relative``, ``relative_mean``,
        ``relative_ci95_over_models``, by which ``latent-cos`` is to be judged; ``fit``, the same of
        what a fitted value is to be read beside, or null; ``warnings``.

    Raises
    ------
    GeedError
        If there are no results.
        If their groups, data or measures differ; the message names the difference.
    """
    check_results("aggregate", results)
    results = cast(Sequence[Result], results)
    if not results:
        raise GeedError("aggregate: give at least one result file")
    first = results[0]
    for other in results[1:]:
        _refuse_mixture(first, other)
    hashes = Counter(r["model"]["sha256"] for r in results if r["model"]["sha256"])
    twice = [name_of(r) for r in results if hashes[r["model"]["sha256"]] > 1]
    warnings = [f"the same model more than once: {', '.join(twice)}"] if twice else []
    return {
        "schema": SCHEMA,
        "models": [{"file": r.get("file"), **r["model"]} for r in results],
        "group": first["group"],
        "data": {k: first["data"].get(k) for k in ("source", "fingerprint", "available")},
        "measurements": [
            _over_models(key, [records_of(r)[key] for r in results], [*map(name_of, results)])
            for key in records_of(first)
        ],
        "warnings": warnings
        + [f"{name_of(r)}: {part_words(r['part'])}" for r in results if "part" in r],
    }


def _refuse_mixture(first: Result, other: Result) -> None:
    names = f"{name_of(first)} and {name_of(other)}"
    shared = [(key, key) for key in records_of(first) if key in records_of(other)]
    differing = differences(first, other, shared) + action_differences(first, other, shared)
    if differing := differing + truth_differences(first, other, shared):
        raise GeedError(
            f"aggregate: {names} differ in {', '.join(differing)}; measure all models in the same "
            "way"
        )
    ours, theirs = set(records_of(first)), set(records_of(other))
    if ours != theirs:
        measure, layer = sorted(ours ^ theirs)[0]
        where = name_of(first if (measure, layer) in ours else other)
        raise GeedError(
            f"aggregate: {names} hold different measurements: {measure}@{layer} is only in "
            f"{where}; measure all models in the same way, naming layers with --measure NAME@LAYER"
        )


def _over_models(key: Key, records: Sequence[Record], names: Sequence[str]) -> AggregateEntry:
    named = list(zip(records, names, strict=True))
    null = [name for r, name in named if r["value"] is None]
    negative = [name for r, name in named if (r["normaliser"] or 0) < 0]
    warnings = [f"no value, since M is missing or 0: {', '.join(null)}"] if null else []
    if negative:
        warnings.append(
            f"M is negative, so the order is reversed: {', '.join(negative)}; read "
            "unnormalised_mean"
        )
    values = [r["value"] for r in records]
    if len(records) - len(null) == 2:
        warnings.append(_OF_TWO)
    whole, plain = _of_models(values), _of_models([r["unnormalised"] for r in records])
    shares = [read_record(r).relative for r in records]
    relative = _of_models(shares)
    without = [name for share, name in zip(shares, names, strict=True) if share is None]
    if 0 < len(without) < len(records):
        warnings.append(
            f"relative_mean is over {len(records) - len(without)} of {len(records)} models: none "
            f"is known of {', '.join(without)}"
        )
        if len(records) - len(without) == 2 and _OF_TWO not in warnings:
            warnings.append(_OF_TWO)
    return {
        "measure": key[0],
        "layer": key[1],
        "output_action": records[0]["output_action"],
        "samples": records[0]["samples"],
        "models": len(records) - len(null),
        "values": whole["values"],
        "mean": whole["mean"],
        "ci95_over_models": whole["ci95_over_models"],
        "stderr_over_models": standard_error([v for v in values if v is not None]),
        "unnormalised": plain["values"],
        "unnormalised_mean": plain["mean"],
        "unnormalised_ci95_over_models": plain["ci95_over_models"],
        "relative": relative["values"],
        "relative_mean": relative["mean"],
        "relative_ci95_over_models": relative["ci95_over_models"],
        "fit": _fit_over_models([r.get("fit") for r in records]),
        "warnings": warnings,
    }


def _of_models(values: Sequence[float | None]) -> OverModels:
    kept = [v for v in values if v is not None]
    ends = mean_interval(kept)
    return {
        "values": list(values),
        "mean": float(np.mean(kept)) if kept else None,
        "ci95_over_models": list(ends) if ends else None,
    }


def _fit_over_models(parts: Sequence[FitPart | None]) -> AggregateFit | None:
    """Return what stands beside fitted values over the models, all of one kind; None without."""
    fits = [fit for fit in parts if fit]
    if not fits:
        return None
    defects = [fit["defect"] for fit in fits]
    return {
        "kind": fits[0]["kind"],
        "shuffled": _of_models([fit["shuffled"] for fit in fits]),
        "identity": _of_models([fit["identity"] for fit in fits]),
        "other_element": _of_models([fit["other_element"] for fit in fits]),
        "defect": _of_models([d["median"] if d else None for d in defects]),
    }


def perfect_notes(measures: Iterable[str]) -> list[str]:
    """Say what is perfect and which way is better, and where that differs from model to model.

    Parameters
    ----------
    measures : iterable of str
        Names of measures, such as those of the rows of a table.

    Returns
    -------
    list of str
        Notes to stand under a table of several models.
    """
    names = list(dict.fromkeys(measures))
    return [
        *([sign_words((name, "value") for name in names)] if names else []),
        *(
            f"{d.name}: the perfect value is {told(d, d.perfect):g}/M, which differs between "
            "models; compare relative or unnormalised values"
            for d in map(descriptor_of, names)
            if d.perfect_over_m
        ),
    ]
