"""Results side by side: mean over models, paired differences, limits."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_geed.comparable import differences, name_of, records_of, same_samples
from onnx_geed.errors import GeedError, nearest
from onnx_geed.intervals import mean_interval, standard_error
from onnx_geed.paired import paired
from onnx_geed.reading import read_record
from onnx_geed.results import ranking_value
from onnx_geed.table import columns, interval, number, shorten, wrapped

__all__ = [
    "LATENT_COS",
    "WHAT_IS_RELATIVE",
    "aggregate",
    "aggregate_table",
    "check_limits",
    "check_measured",
    "compare",
    "compare_table",
    "compared",
    "limited",
    "over_limits",
]

AGGREGATE_SCHEMA = "onnx-geed/aggregate/1"
COMPARE_SCHEMA = "onnx-geed/compare/1"

#: What stands in tables and pages where relative values do.
WHAT_IS_RELATIVE = "0 is perfect, 1 no closer than different samples are"
#: What stands under tables that show the normalised value of latent-cos for several models.
LATENT_COS = (
    "latent-cos: its mean is perfect at -1/M, another number for each model; judge models by "
    "relative or unnormalised values"
)

Key = tuple[str, str]
Record = Mapping[str, Any]


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


def aggregate_table(made: Record) -> str:
    """Return an aggregate as text of at most 100 columns."""
    rows: list[Sequence[str]] = [
        (
            *("measure", "layer", "mean", "95 % (models)", "unnormalised", "relative"),
            *("95 % (models)", "models", ""),
        )
    ]
    notes = list(made["warnings"])
    for m in made["measurements"]:
        fresh = [f"{m['measure']}@{m['layer']}: {text}" for text in m["warnings"]]
        marks = ",".join(str(len(notes) + i) for i in range(1, len(fresh) + 1))
        notes += fresh
        plain, related = m["unnormalised_mean"], m["relative_mean"]
        rows.append(
            (
                m["measure"],
                m["layer"],
                number(m["mean"]),
                interval(m["ci95_over_models"]),
                "" if plain is None else number(plain),
                "" if related is None else number(related),
                "" if related is None else interval(m["relative_ci95_over_models"]),
                str(m["models"]),
                f"[{marks}]" if marks else "",
            )
        )
    head = f"{len(made['models'])} models   {made['group']['name']}   "
    head += shorten(made["data"]["source"], 70)
    said = [line for i, note in enumerate(notes, 1) for line in wrapped(f"[{i}] {note}")]
    if any(m["relative_mean"] is not None for m in made["measurements"]):
        said += wrapped(f"relative: {WHAT_IS_RELATIVE}")
    if any(m["measure"] == "latent-cos" for m in made["measurements"]):
        said += wrapped(LATENT_COS)
    return "\n".join((head, *columns(rows, flexible=1, right=(2, 4, 5, 7)), *said))


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
            if said and entry["measure"] == "softmax-kl":
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
    from onnx_geed.reactions import insensitive

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


def compare_table(made: Record) -> str:
    """Return a comparison as text of at most 100 columns."""
    rows: list[Sequence[str]] = [("measure", "layer", "A", "B", "A - B", "95 % paired", "A lower")]
    said = []
    for m in made["measurements"]:
        share = m["share_a_lower"]
        rows.append(
            (
                compared(m),
                m["layer"],
                number(m["a"]),
                number(m["b"]),
                number(m["difference"]),
                interval(m["verdict_ci95"]),
                "-" if share is None else f"{100 * share:.0f} %",
            )
        )
        notes = "".join(f" ({w})" for w in m["warnings"])
        said += wrapped(f"{m['measure']}@{m['layer']}: {m['verdict']}{notes}")
    head = [f"{x.upper()}  {shorten(made[x]['file'] or made[x]['path'], 97)}" for x in "ab"]
    for what in made["differ_in"]:
        head += wrapped(f"compared although they differ in {what}")
    if any(m["compared"] == "relative" for m in made["measurements"]):
        said += wrapped(f"relative: {WHAT_IS_RELATIVE}")
    return "\n".join((*head, *columns(rows, flexible=1, right=(2, 3, 4, 6)), "", *said))


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
    if not limits:
        return []
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


def check_measured(limits: Sequence[str], measured: Sequence[tuple[str, str]]) -> None:
    """Refuse limits that name nothing that is going to be measured.

    Parameters
    ----------
    limits : sequence of str
        As :func:`check_limits` takes them.
    measured : sequence of (measure, layer)
        What is measured.

    Raises
    ------
    GeedError
        If a limit is of another form, or for something that is not measured.
    """
    entries = [{"measure": measure, "layer": layer} for measure, layer in measured]
    for name, layer, _ in check_limits(limits):
        limited(entries, name, layer)


def limited(
    measured: Sequence[Mapping[str, Any]], measure: str, layer: str | None
) -> list[Mapping[str, Any]]:
    """Return the records that a limit is for.

    Parameters
    ----------
    measured : sequence of mapping
        Entries with ``measure`` and ``layer``.
    measure : str
        The limit's measure.
    layer : str or None
        Its layer, a name or glob.

    Returns
    -------
    list of mapping

    Raises
    ------
    GeedError
        If there are none.
    """
    chosen = [
        m
        for m in measured
        if m["measure"] == measure
        and (layer is None or m["layer"] == layer or fnmatch.fnmatchcase(m["layer"], layer))
    ]
    if not chosen:
        wanted = f"{measure}@{layer}" if layer else measure
        there = [f"{m['measure']}@{m['layer']}" for m in measured]
        raise GeedError(
            f"--fail-above {wanted}: this is not measured; measured are {', '.join(there[:5])}."
            f"{nearest(wanted, there)}"
        )
    return chosen


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
    violations = []
    for measure, layer, limit in check_limits(limits):
        for m in limited(made["measurements"], measure, layer):
            value, name = ranking_value(m)
            if value > limit:
                of = " (unnormalised)" if name == "unnormalised" else ""
                violations.append(f"{measure}@{m['layer']}: {value:.6g}{of} > {limit:g}")
    return violations
