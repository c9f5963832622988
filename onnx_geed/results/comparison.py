"""Results side by side: mean over models, and paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.measures import descriptor_of
from onnx_geed.results.intervals import mean_interval, standard_error
from onnx_geed.results.paired_differences import paired
from onnx_geed.results.reading import read_record

__all__ = [
    "WHAT_IS_RELATIVE",
    "aggregate",
    "compare",
    "compared",
    "differences",
    "name_of",
    "perfect_notes",
    "records_of",
    "same_samples",
]

AGGREGATE_SCHEMA = "onnx-geed/aggregate/1"


COMPARE_SCHEMA = "onnx-geed/compare/1"


#: What stands in tables and pages where relative values do.
WHAT_IS_RELATIVE = "0 is perfect, 1 no closer than different samples are"


Key = tuple[str, str]


Record = Mapping[str, Any]


Made = Mapping[str, Any]


def aggregate(results: Sequence[Record]) -> dict[str, Any]:
    """Mean and interval over models, which is the paper's interval.

    Parameters
    ----------
    results : sequence of mapping
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
        ``relative_ci95_over_models``, by which ``latent-cos`` is to be judged; ``warnings``.

    Raises
    ------
    GeedError
        If there are no results.
        If they are of different groups, data or measures, naming what differs.
    """
    if not results:
        raise GeedError("aggregate: give at least one result file")
    first = results[0]
    for other in results[1:]:
        _refuse_mixture(first, other)
    hashes = Counter(r["model"]["sha256"] for r in results)
    twice = [name_of(r) for r in results if hashes[r["model"]["sha256"]] > 1]
    return {
        "schema": AGGREGATE_SCHEMA,
        "models": [{"file": r.get("file"), **r["model"]} for r in results],
        "group": first["group"],
        "data": {k: first["data"].get(k) for k in ("source", "fingerprint", "available")},
        "measurements": [
            _over_models(key, [records_of(r)[key] for r in results], [*map(name_of, results)])
            for key in records_of(first)
        ],
        "warnings": [f"the same model more than once: {', '.join(twice)}"] if twice else [],
    }


def _refuse_mixture(first: Record, other: Record) -> None:
    names = f"{name_of(first)} and {name_of(other)}"
    if differing := differences(first, other):
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


def _over_models(key: Key, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
    values = [r["value"] for r in records if r["value"] is not None]
    plain = [r["unnormalised"] for r in records if r["unnormalised"] is not None]
    named = list(zip(records, names, strict=True))
    null = [name for r, name in named if r["value"] is None]
    reversed_ = [name for r, name in named if (r["normaliser"] or 0) < 0]
    warnings = [f"no value, M being missing or 0: {', '.join(null)}"] if null else []
    if reversed_:
        warnings.append(
            f"M is negative, so that the order is reversed: {', '.join(reversed_)}; read "
            "unnormalised_mean"
        )
    relative = [read_record(r).relative for r in records]
    related = [value for value in relative if value is not None]
    ends, plain_ends, related_ends = map(mean_interval, (values, plain, related))
    return {
        "measure": key[0],
        "layer": key[1],
        "output_action": records[0]["output_action"],
        "samples": records[0]["samples"],
        "models": len(values),
        "values": [r["value"] for r in records],
        "mean": float(np.mean(values)) if values else None,
        "ci95_over_models": list(ends) if ends else None,
        "stderr_over_models": standard_error(values),
        "unnormalised": [r["unnormalised"] for r in records],
        "unnormalised_mean": float(np.mean(plain)) if plain else None,
        "unnormalised_ci95_over_models": list(plain_ends) if plain_ends else None,
        "relative": relative,
        "relative_mean": float(np.mean(related)) if related else None,
        "relative_ci95_over_models": list(related_ends) if related_ends else None,
        "warnings": warnings,
    }


def compare(a: Record, b: Record, *, force: bool = False) -> dict[str, Any]:
    """Compare two results, paired over the same samples.

    Parameters
    ----------
    a, b : mapping
        Results.
    force : bool
        Compare what is not comparable all the same.

    Returns
    -------
    dict
        Schema ``onnx-geed/compare/1``: ``schema``; ``a`` and ``b``, each result's ``file`` and
        ``model``; ``differ_in``, what was overlooked by ``force``; ``measurements``. Each of these
        has ``measure``, ``layer``, ``compared`` (``value``; ``relative``; or ``unnormalised``, see
        Notes), the means ``a`` and ``b`` of what is compared, ``value_a``, ``value_b``,
        ``relative_a``, ``relative_b``, ``normaliser_a`` and ``normaliser_b``, ``difference``
        (A - B, so negative where A is less far from equivariant), ``ci95`` (Student t over the
        paired differences), ``ci95_bootstrap`` (BCa over the same), ``interval`` (which of the two
        the verdict goes by) and ``verdict_ci95`` (that one), ``share_a_lower`` (of the samples),
        ``samples``, ``verdict`` in words and ``warnings``. Tables and pages print ``verdict`` and
        ``verdict_ci95`` as they stand here.
        Where the samples cannot be paired, all that rests on pairs is null.

    Raises
    ------
    GeedError
        If group, data, samples, interpolation or support differ, unless ``force``.
        If no measure is in both.

    Notes
    -----
    Choice: the verdict goes by the bootstrap, which bears skewed differences, from ten pairs on,
    and by Student t for fewer, of which a bootstrap interval is too narrow. Differences below 1e-6
    of the measure's scale are rounding.

    The normalised value of ``latent-cos`` is perfect at −1/M, another number for each model, and
    ``output-l2`` is in the units of each model's own outputs. Both are compared by each sample's
    deviation relative to different samples, (m − perfect) / (``between_samples`` − perfect), 0
    being perfect and 1 no closer than different samples are; so is ``latent-l2`` where an M is 0 or
    missing. Where one of the two has no ``relative``, the unnormalised values are compared, which
    is said.
    """
    differing = differences(a, b)
    if differing and not force:
        raise GeedError(
            f"compare: {name_of(a)} and {name_of(b)} differ in {', '.join(differing)}, so that "
            "their values do not tell which model is more equivariant; measure both in the same "
            "way, or compare them all the same with --force"
        )
    first, second = records_of(a), records_of(b)
    pairs = _matched(first, second)
    if not pairs:
        held = [", ".join("@".join(k) for k in list(r)[:3]) or "nothing" for r in (first, second)]
        raise GeedError(
            f"compare: {name_of(a)} and {name_of(b)} have no measure and layer in common (they "
            f"hold {held[0]}; {held[1]}); measure the same with --measure NAME@LAYER"
        )
    entries = [
        paired(first[x], second[y], a.get("seed", 0), same_samples(a, b, first[x]["samples"]))
        for x, y in pairs
    ]
    for letter, made in (("A", a), ("B", b)):
        said = _insensitive(made)
        for entry in entries:
            if said and descriptor_of(entry["measure"]).view == "scores":
                entry["warnings"].append(f"{letter}: {said}")
    return {
        "schema": COMPARE_SCHEMA,
        "a": {"file": a.get("file"), **a["model"]},
        "b": {"file": b.get("file"), **b["model"]},
        "differ_in": differing,
        "measurements": entries,
    }


def _insensitive(made: Record) -> str:
    """What is to be said of predictions that stay because nothing moves them; else nothing."""
    from onnx_geed.results.reactions import insensitive

    readings = [(record, read_record(record)) for record in made["measurements"]]
    return next((f"{f.text} {f.evidence}" for f in insensitive(made, readings)), "")


def _matched(first: Mapping[Key, Any], second: Mapping[Key, Any]) -> list[tuple[Key, Key]]:
    """Match by measure and layer; else the only record of that measure in both."""
    pairs = [(key, key) for key in first if key in second]
    for measure in dict.fromkeys(key[0] for key in first):
        ours = [k for k in first if k[0] == measure]
        theirs = [k for k in second if k[0] == measure]
        if len(ours) == len(theirs) == 1 and ours != theirs:
            pairs.append((ours[0], theirs[0]))
    return pairs


def compared(entry: Record) -> str:
    """Return the measure of a comparison's entry, with what of it was compared.

    Parameters
    ----------
    entry : mapping
        An entry of ``measurements`` of :func:`compare`.

    Returns
    -------
    str
        Such as ``latent-cos, relative``.
    """
    what = entry["compared"]
    return str(entry["measure"]) + ("" if what == "value" else f", {what}")


def perfect_notes(entries: Sequence[Record]) -> list[str]:
    """Say of which measures the normalised value is perfect at another number for each model.

    Parameters
    ----------
    entries : sequence of mapping
        Whatever has a ``measure``: records, rows of an aggregate or of a suite.

    Returns
    -------
    list of str
        A note a measure, to stand under a table of several models.
    """
    measures = (descriptor_of(name) for name in dict.fromkeys(e["measure"] for e in entries))
    return [
        f"{d.name}: its mean is perfect at {d.perfect:g}/M, another number for each model; judge "
        "models by relative or unnormalised values"
        for d in measures
        if d.perfect_over_m
    ]


def differences(a: Made, b: Made) -> list[str]:
    """Say what makes two results incomparable.

    Parameters
    ----------
    a, b : mapping
        Results.

    Returns
    -------
    list of str
        Such as ``"group (C8, C4)"``; empty where they are comparable.
    """
    found = [
        f"{what} ({a['group'][key]}, {b['group'][key]})"
        for what, key in (
            ("group", "name"),
            ("interpolation", "interpolation"),
            ("support", "support"),
        )
        if a["group"][key] != b["group"][key]
    ]
    if not found and a["group"]["elements"] != b["group"]["elements"]:
        found.append("group elements")
    found += _of_data(a, b)
    ours, theirs = records_of(a), records_of(b)
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    for what, field in (("output action", "output_action"), ("points of M", "norm_samples")):
        apart = [(x[field], y[field]) for x, y in both if x[field] != y[field]]
        if apart:
            found.append(f"{what} ({apart[0][0]}, {apart[0][1]})")
    return found


def _of_data(a: Made, b: Made) -> list[str]:
    ours, theirs = a["data"], b["data"]
    if _counts(a) != _counts(b):
        return [f"number of samples ({_counts(a)}, {_counts(b)})"]
    if ours["fingerprint"] == theirs["fingerprint"]:  # copies elsewhere are the same data
        return [] if ours["indices"] == theirs["indices"] else ["samples"]
    if ours["source"] != theirs["source"]:
        return [f"data ({ours['source']}, {theirs['source']})"]
    if ours["indices"] != theirs["indices"]:
        return ["samples drawn (--seed, --samples, --norm-samples)"]
    return ["what the models were fed (preprocessing, or files that have changed)"]


def _counts(made: Made) -> str:
    """Return the numbers of samples, commonly one."""
    return " and ".join(map(str, sorted({m["samples"] for m in made["measurements"]})))


def same_samples(a: Made, b: Made, count: int) -> bool:
    """Tell whether the first ``count`` samples of two results may be paired.

    Differently preprocessed pictures are still the same pictures; so are copies in another folder.
    """
    ours, theirs = a["data"], b["data"]
    if ours["indices"][:count] != theirs["indices"][:count]:
        return False
    if ours["fingerprint"] == theirs["fingerprint"]:
        return True
    if ours["names"] and theirs["names"]:
        return bool(ours["names"][:count] == theirs["names"][:count])
    return bool(ours["source"] == theirs["source"])


def records_of(made: Made) -> dict[Key, Made]:
    """Return the measurements by measure and layer."""
    return {(m["measure"], m["layer"]): m for m in made["measurements"]}


def name_of(made: Made) -> str:
    """Return what to call a result in a message."""
    return str(made.get("file") or made["model"]["path"])
