"""Results side by side: mean over models, paired differences, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_geed.errors import GeedError, nearest
from onnx_geed.intervals import mean_interval, standard_error
from onnx_geed.results import ranking_value
from onnx_geed.table import columns, interval, number, wrapped

__all__ = [
    "aggregate",
    "aggregate_table",
    "check_limits",
    "compare",
    "compare_table",
    "over_limits",
]

AGGREGATE_SCHEMA = "onnx-geed/aggregate/1"
COMPARE_SCHEMA = "onnx-geed/compare/1"

Key = tuple[str, str]


def aggregate(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and interval over models, which is the paper's interval.

    Parameters
    ----------
    results : sequence of mapping
        Results of several models, such as seeds of one training.

    Returns
    -------
    dict
        Schema ``onnx-geed/aggregate/1``: ``models``, ``group``, ``data``, and ``measurements``, each
        with ``mean``, ``ci95_over_models`` (Student t over the models' values; null for one model),
        ``stderr_over_models``, ``models``, ``values`` and ``unnormalised``.

    Raises
    ------
    GeedError
        If the results are of different groups, data or measures, naming what differs.
    """
    if not results:
        raise GeedError("aggregate: give at least one result file")
    first = results[0]
    for other in results[1:]:
        if differing := _differences(first, other):
            raise GeedError(
                f"aggregate: {_name(first)} and {_name(other)} differ in {', '.join(differing)}; "
                "measure all models in the same way"
            )
        if set(_records(first)) != set(_records(other)):
            apart = sorted(set(_records(first)) ^ set(_records(other)))[0]
            raise GeedError(
                f"aggregate: {_name(first)} and {_name(other)} hold different measurements, such as "
                f"{'@'.join(apart)}; measure all models in the same way"
            )
    measurements = []
    for key in _records(first):
        records = [_records(r)[key] for r in results]
        null = [_name(r) for r, record in zip(results, records, strict=True)
                if record["value"] is None]
        values = [record["value"] for record in records if record["value"] is not None]
        plain = [r["unnormalised"] for r in records if r["unnormalised"] is not None]
        found = mean_interval(values) if values else None
        raw = mean_interval(plain) if plain else None
        measurements.append(
            {
                "measure": key[0],
                "layer": key[1],
                "mean": float(np.mean(values)) if values else None,
                "ci95_over_models": list(found) if found else None,
                "stderr_over_models": standard_error(values),
                "models": len(values),
                "values": [record["value"] for record in records],
                "unnormalised_mean": float(np.mean(plain)) if plain else None,
                "unnormalised_ci95_over_models": list(raw) if raw else None,
                "unnormalised": [record["unnormalised"] for record in records],
                "warnings": [f"no value for {', '.join(null)}"] if null else [],
            }
        )
    return {
        "schema": AGGREGATE_SCHEMA,
        "models": [{"file": r.get("file"), **r["model"]} for r in results],
        "group": first["group"],
        "data": {k: first["data"][k] for k in ("source", "fingerprint", "available")},
        "measurements": measurements,
    }


def aggregate_table(made: Mapping[str, Any]) -> str:
    """Return an aggregate as text of at most 100 columns."""
    rows: list[Sequence[str]] = [("measure", "layer", "mean", "95 % over models", "models", "")]
    notes: list[str] = []
    for m in made["measurements"]:
        marks = []
        for text in m["warnings"]:
            notes.append(f"[{len(notes) + 1}] {m['measure']}@{m['layer']}: {text}")
            marks.append(f"[{len(notes)}]")
        rows.append(
            (
                m["measure"],
                m["layer"],
                number(m["mean"]),
                interval(m["ci95_over_models"]),
                str(m["models"]),
                " ".join(marks),
            )
        )
    head = f"{len(made['models'])} models   {made['group']['name']}   {made['data']['source']}"
    notes = [line for note in notes for line in wrapped(note)]
    return "\n".join((head, *columns(rows, flexible=1, right=(2, 4)), *notes))


def compare(
    a: Mapping[str, Any], b: Mapping[str, Any], *, force: bool = False
) -> dict[str, Any]:
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
        Schema ``onnx-geed/compare/1``: for every measure that both hold, ``a``, ``b``,
        ``difference`` (A − B, so negative where A is more equivariant), ``ci95`` (Student t over
        paired samples), ``ci95_bootstrap`` (BCa), ``share_a_lower``, ``compared`` (``value`` or
        ``unnormalised``), ``verdict``.

    Raises
    ------
    GeedError
        If group, data, samples, interpolation or support differ, unless ``force``.
        If no measure is in both.
    """
    differing = _differences(a, b)
    if differing and not force:
        raise GeedError(
            f"compare: {_name(a)} and {_name(b)} differ in {', '.join(differing)}, so their values "
            "do not tell which model is more equivariant; measure both in the same way, or --force"
        )
    first, second = _records(a), _records(b)
    pairs = _matched(first, second)
    if not pairs:
        raise GeedError(
            f"compare: {_name(a)} and {_name(b)} have no measure and layer in common; they hold "
            f"{', '.join('@'.join(k) for k in list(first)[:3])} and "
            f"{', '.join('@'.join(k) for k in list(second)[:3])}"
        )
    return {
        "schema": COMPARE_SCHEMA,
        "a": {"file": a.get("file"), **a["model"]},
        "b": {"file": b.get("file"), **b["model"]},
        "differ_in": differing,
        "measurements": [_paired(first[x], second[y], a["seed"]) for x, y in pairs],
    }


def _matched(first: Mapping[Key, Any], second: Mapping[Key, Any]) -> list[tuple[Key, Key]]:
    """Same measure and layer; else the only record of that measure in both."""
    pairs = [(key, key) for key in first if key in second]
    for measure in dict.fromkeys(key[0] for key in first):
        ours = [k for k in first if k[0] == measure]
        theirs = [k for k in second if k[0] == measure]
        if len(ours) == len(theirs) == 1 and ours != theirs:
            pairs.append((ours[0], theirs[0]))
    return pairs


def _paired(a: Mapping[str, Any], b: Mapping[str, Any], seed: int) -> dict[str, Any]:
    what = "value"
    warnings = []
    if "unnormalised" in (ranking_value(a)[1], ranking_value(b)[1]):
        what = "unnormalised"
        warnings.append("M is negative, zero or missing, so unnormalised values are compared")
    left, right = _per_sample(a, what), _per_sample(b, what)
    paired = len(left) == len(right)
    difference = float(left.mean() - right.mean())
    gaps = left - right if paired else None
    t = mean_interval(gaps) if gaps is not None else None
    resampled = mean_interval(gaps, "bootstrap", seed=seed) if gaps is not None else None
    return {
        "measure": a["measure"],
        "layer": a["layer"] if a["layer"] == b["layer"] else f"{a['layer']} | {b['layer']}",
        "compared": what,
        "a": float(left.mean()),
        "b": float(right.mean()),
        "difference": difference,
        "ci95": list(t) if t else None,
        "ci95_bootstrap": list(resampled) if resampled else None,
        "share_a_lower": float((gaps < 0).mean()) if gaps is not None else None,
        "samples": len(left) if paired else None,
        "verdict": _verdict(difference, resampled),
        "warnings": warnings,
    }


def _per_sample(record: Mapping[str, Any], what: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if what == "value":
        return np.asarray(record["per_sample"], dtype=np.float64)
    return np.asarray(record["deviations"], dtype=np.float64).mean(axis=1)


def _verdict(difference: float, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "too few paired samples to say"
    low, high = ends
    if low <= 0 <= high:
        return (
            f"no difference can be seen (A − B = {difference:.3g}, 95 % interval {low:.3g} to "
            f"{high:.3g})"
        )
    better, size = ("A", -difference) if difference < 0 else ("B", difference)
    ends_of = sorted((abs(low), abs(high)))
    return (
        f"{better} is more equivariant by {size:.3g} (95 % interval {ends_of[0]:.3g} to "
        f"{ends_of[1]:.3g})"
    )


def compare_table(made: Mapping[str, Any]) -> str:
    """Return a comparison as text of at most 100 columns."""
    rows: list[Sequence[str]] = [("measure", "layer", "A", "B", "A - B", "95 % paired", "A lower")]
    said = []
    for m in made["measurements"]:
        share = m["share_a_lower"]
        rows.append(
            (
                m["measure"],
                m["layer"],
                number(m["a"]),
                number(m["b"]),
                number(m["difference"]),
                interval(m["ci95_bootstrap"]),
                "-" if share is None else f"{100 * share:.0f} %",
            )
        )
        notes = "".join(f" ({w})" for w in m["warnings"])
        said += wrapped(f"{m['measure']}@{m['layer']}: {m['verdict']}{notes}")
    names = [f"{letter}  {made[letter.lower()]['file'] or made[letter.lower()]['path']}"
             for letter in "AB"]
    head = names + [f"not comparable in {w}" for w in made["differ_in"]]
    return "\n".join((*head, *columns(rows, flexible=1, right=(2, 3, 4, 6)), "", *said))


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What makes two results incomparable."""
    found = [
        name
        for name, key in (
            ("group", "name"),
            ("interpolation", "interpolation"),
            ("support", "support"),
        )
        if a["group"][key] != b["group"][key]
    ]
    counts = [[m["samples"] for m in r["measurements"]][:1] for r in (a, b)]
    if a["data"]["indices"] != b["data"]["indices"] or counts[0] != counts[1]:
        found.append("samples")
    if a["data"]["fingerprint"] != b["data"]["fingerprint"]:
        found.append("data")
    ours, theirs = _records(a), _records(b)
    if any(ours[k]["output_action"] != theirs[k]["output_action"] for k in ours if k in theirs):
        found.append("output action")
    if any(ours[k]["norm_samples"] != theirs[k]["norm_samples"] for k in ours if k in theirs):
        found.append("points of M")
    return found


def _records(made: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    return {(m["measure"], m["layer"]): m for m in made["measurements"]}


def _name(made: Mapping[str, Any]) -> str:
    return str(made.get("file") or made["model"]["path"])


def check_limits(limits: Sequence[str]) -> list[tuple[str, str | None, float]]:
    """Read ``MEASURE[@LAYER]=LIMIT``.

    Parameters
    ----------
    limits : sequence of str
        As the command line gives them.

    Returns
    -------
    list of (measure, layer or None, limit)

    Raises
    ------
    GeedError
        If one is not of that form, or names no measure.
    """
    from onnx_geed.plan import parse_request

    parsed = []
    for text in limits:
        what, equals, value = text.rpartition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = float("nan")
        if not equals or not np.isfinite(limit):
            raise GeedError(
                f"--fail-above {text}: write MEASURE=LIMIT or MEASURE@LAYER=LIMIT, such as "
                "softmax-kl=0.05"
            )
        request = parse_request(what)
        parsed.append((request.measure, request.layer, limit))
    return parsed


def over_limits(made: Mapping[str, Any], limits: Sequence[str]) -> list[str]:
    """Say which limits a result exceeds.

    Parameters
    ----------
    made : mapping
        A result.
    limits : sequence of str
        ``MEASURE[@LAYER]=LIMIT``; layers may be globs. Where M is negative, zero or missing, the
        unnormalised value is held against the limit.

    Returns
    -------
    list of str
        One line a violation, naming measure, layer, value and limit.

    Raises
    ------
    GeedError
        If a limit is for something that was not measured.
    """
    import fnmatch

    violations = []
    for measure, layer, limit in check_limits(limits):
        records = [m for m in made["measurements"] if m["measure"] == measure]
        chosen = [
            m
            for m in records
            if layer is None or m["layer"] == layer or fnmatch.fnmatchcase(m["layer"], layer)
        ]
        if not chosen:
            wanted = f"{measure}@{layer}" if layer else measure
            there = [f"{m['measure']}@{m['layer']}" for m in made["measurements"]]
            raise GeedError(
                f"--fail-above {wanted}={limit:g}: this was not measured; measured were "
                f"{', '.join(there[:5])}.{nearest(wanted, there)}"
            )
        for m in chosen:
            value, name = ranking_value(m)
            if value > limit:
                of = " (unnormalised)" if name == "unnormalised" else ""
                violations.append(f"{measure}@{m['layer']}: {value:.6g}{of} > {limit:g}")
    return violations
