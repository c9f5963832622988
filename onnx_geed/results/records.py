"""Results: the record of a measurement, and files of them."""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.errors import GeedError, known_names, nearest, shown
from onnx_geed.files import read_json
from onnx_geed.measures import CATALOGUE, Descriptor, descriptor_of
from onnx_geed.results.intervals import INTERVALS, Interval, mean_interval, standard_error

__all__ = [
    "ILL_CONDITIONED",
    "SCHEMA",
    "measurement",
    "ranking_value",
    "read_result",
    "result",
    "to_csv",
]

SCHEMA = "onnx-geed/result/1"


#: Below this, a mean cosine is too near zero to divide by.
ILL_CONDITIONED = 0.05


# Latents of different samples that are nearer than this share of their norm are near rounding.
_SAME = 1e-4


# What different samples differ by less than, in the measure's scale, is rounding.
_NOTHING = 1e-6


# Beyond this, squares and sums overflow.
_LARGEST = 1e150


# What a file must hold for everything that reads results.
_PARTS = {
    "model": ("path", "sha256"),
    "data": ("source", "fingerprint", "indices", "names"),
    "group": ("name", "order", "elements", "exact", "interpolation", "support"),
}


_RECORD = (
    *("measure", "layer", "layout", "output_action", "value", "ci95", "interval", "stderr"),
    *("samples", "normaliser", "unnormalised", "norm_samples", "zero_pairs", "per_element"),
    *("per_sample", "deviations", "exact", "warnings"),
)


def measurement(
    *,
    measure: str,
    layer: str,
    layout: str,
    output_action: str,
    deviations: ArrayLike,
    elements: Sequence[str],
    normaliser: float | None = None,
    norm_samples: int | None = None,
    needs_normaliser: bool = False,
    zero_pairs: float = 0.0,
    per_channel: tuple[ArrayLike, ArrayLike | None] | None = None,
    interval: str = "t",
    seed: int = 0,
    exact: tuple[Sequence[int], ArrayLike] | None = None,
    between: ArrayLike | None = None,
    reference_norm: float = 1.0,
    latent_norm: float | None = None,
    warnings: Iterable[str] = (),
) -> dict[str, Any]:
    """Return one entry of ``measurements``, spec section 6.

    Parameters
    ----------
    measure, layer, layout, output_action : str
        What was measured where.
    deviations : array_like of float64, shape (N, n)
        m(f(gx), φ_Y(g) f̂(x)), unnormalised.
    elements : sequence of str
        Names of the group's elements.
    normaliser : float, optional
        M of eq. (6).
    norm_samples : int, optional
        Points that M was taken over.
    needs_normaliser : bool
        Whether the measure is divided by M.
    zero_pairs : float
        Share of cosines between two zero vectors.
    per_channel : (array_like of float64, shape (C,), the same or None), optional
        −cos of each channel, mean over samples and elements, and over the exact elements.
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the bootstrap.
    exact : (sequence of int, array_like of shape (N, subgroup)), optional
        The exact subgroup's members and deviations.
    between : array_like of float64, shape (K, n), optional
        m(f(gx'), φ_Y(g) f̂(x)) of pairs of distinct samples, unnormalised.
    reference_norm : float
        Root mean square of ‖f̂(x)‖₂ over these pairs, which tells a distance from rounding.
    latent_norm : float, optional
        Mean norm of the points that M was taken over.
    warnings : iterable of str
        What is already to be said.

    Returns
    -------
    dict
        Python's own floats only.

    Raises
    ------
    GeedError
        If there are no samples.
        If a deviation, M or the share of zero pairs is not finite, or a pair of samples gives NaN.
        If there is no such interval.

    Notes
    -----
    Eq. (4): ``value`` is the mean of ``per_sample``, and ``per_element`` averages to it; both are
    divided by M where there is one. Choice: the interval holds M fixed and is not clipped. Where M
    is missing or 0, ``value``, ``ci95`` and ``stderr`` are ``None``, and ``per_sample`` and
    ``per_element`` belong to ``unnormalised``.

    ``between_samples`` is the mean of ``between``, in the scale of ``value`` (of ``unnormalised``
    where M moves the perfect value), and ``relative`` = (value − perfect) / (between_samples −
    perfect). Choice: ``relative`` is ``None`` where the divisor is below 1e-6: of
    ``reference_norm`` for distances, of 1 for cosines, nats and what was divided by M.
    """
    descriptor = descriptor_of(measure)
    what = f"{measure}@{layer}"
    if interval not in INTERVALS:
        near = nearest(interval, INTERVALS) if isinstance(interval, str) else ""
        raise GeedError(
            f"no interval is called {shown(interval)!r}: there are {known_names(INTERVALS)}.{near}"
        )
    array = _finite(what, deviations, elements)
    for name, number in (("M", normaliser), ("the share of zero pairs", zero_pairs)):
        if number is not None and not math.isfinite(number):
            raise GeedError(f"{what}: {name} is NaN or infinite; look at the model's outputs")
    # Python's own float, also where numpy's was given; M means nothing to the other measures.
    m = float(normaliser) if needs_normaliser and normaliser is not None else None
    usable = not needs_normaliser or _divides(array, m)
    said = list(warnings)
    if needs_normaliser:
        said += _doubts(descriptor, m, norm_samples, usable, latent_norm)
    divisor = (m if usable else 1.0) if m is not None else 1.0
    record: dict[str, Any] = {
        "measure": measure,
        "layer": layer,
        "layout": layout,
        "output_action": output_action,
    }
    options = (divisor, usable, interval, seed)
    record |= _statistics(array, elements, m, needs_normaliser, *options)
    record["between_samples"], record["relative"], doubts = _beside(
        what, record, between, 1.0 if descriptor.perfect_over_m else divisor, reference_norm
    )
    said += doubts
    record["norm_samples"] = norm_samples if needs_normaliser else None
    record["zero_pairs"] = float(zero_pairs)
    whole, part_of_exact = per_channel or (None, None)
    record["per_channel"] = _listed(whole)
    record["exact"] = None
    if exact is not None:
        names = [elements[g] for g in exact[0]]
        part = _finite(what, exact[1], names)
        record["exact"] = {"elements": names} | _statistics(
            part, names, m, needs_normaliser, *options
        )
        record["exact"]["per_channel"] = _listed(part_of_exact)
    record["references"] = None
    record["warnings"] = said
    return record


def _finite(what: str, deviations: ArrayLike, elements: Sequence[str]) -> NDArray[np.float64]:
    # In one layout, so that equal deviations have equal means, whatever they were gathered from.
    array = np.ascontiguousarray(deviations, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(elements) or len(array) == 0:
        raise GeedError(
            f"{what}: deviations are (samples, {len(elements)} elements) of at least one sample, "
            f"found the shape {array.shape}"
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        sample, element = (int(i) for i in bad[0])
        raise GeedError(
            f"{what}: the deviation of sample {sample} under {elements[element]} is NaN or "
            "infinite; look at the model's outputs there"
        )
    return array


def _divides(array: NDArray[np.float64], m: float | None) -> bool:
    """Whether values over M, and their squares, stay within the range of floats."""
    if not m:
        return False
    with np.errstate(over="ignore"):
        return bool(np.abs(array / m).max() < _LARGEST)


def _beside(
    what: str,
    record: Mapping[str, Any],
    between: ArrayLike | None,
    divisor: float,
    reference_norm: float,
) -> tuple[float | None, float | None, list[str]]:
    """``between_samples``, ``relative``, and what is to be said of them."""
    if between is None:
        return None, None, []
    descriptor = descriptor_of(record["measure"])
    pairs = np.ascontiguousarray(between, dtype=np.float64)
    infinite = np.isinf(pairs).any()
    # A class that one sample rules out and another does not is infinitely unlikely.
    if np.isnan(pairs).any() or (infinite and descriptor.view != "scores"):
        raise GeedError(
            f"{what}: a pair of samples gives NaN or infinity; look at the model's outputs"
        )
    if infinite:
        said = "no between_samples: a class is ruled out for one sample and possible for another"
        return None, None, [said]
    # The mean over g first, as value has it, so that equal orbits and pairs give equal numbers.
    unnormalised = float(pairs.mean(axis=1).mean())
    beside = unnormalised / divisor
    perfect = descriptor.perfect
    value = record["value"]
    if value is None or descriptor.perfect_over_m:
        value = record["unnormalised"]
    unit = reference_norm if descriptor.in_tensor_units else 1.0
    apart = beside - perfect
    if unnormalised - perfect <= _NOTHING * unit or (divisor != 1.0 and apart <= _NOTHING):
        said = (
            "the tensor hardly reacts to the input: different samples are "
            f"{unnormalised - perfect:.3g} from what an orbit of one would be, so the value says "
            "little"
        )
        return beside, None, [said]
    return beside, (value - perfect) / apart, []


def _doubts(
    descriptor: Descriptor,
    m: float | None,
    points: int | None,
    usable: bool,
    norm: float | None,
) -> list[str]:
    if m is None:
        return [
            f"M needs two points, {points or 0} given: only the unnormalised value stands; raise "
            "--norm-samples or give more data"
        ]
    if not usable:
        return [f"M is {m:.3g}: only the unnormalised value stands"]
    said = []
    if m < 0:
        said.append(
            f"M = {m:.3g} is negative: the order of normalised values is reversed; gates and "
            "comparisons use the unnormalised value"
        )
    if descriptor.similarity and abs(m) < ILL_CONDITIONED:
        said.append(f"M = {m:.3g} is near zero: the normalised value is ill-conditioned")
    if descriptor.in_tensor_units and norm is not None and m < _SAME * norm:
        said.append(
            f"M = {m:.3g} is near rounding beside latents of norm {norm:.3g}: different samples "
            "have all but the same latent, and the normalised value is ill-conditioned"
        )
    # Unit vectors that are δ apart have a cosine of 1 − δ²/2.
    if descriptor.similarity and 1 - m < _SAME**2 / 2:
        said.append(
            f"M is within {1 - m:.1g} of 1: different samples have all but the same latent, so "
            "how far the value is from perfect is near rounding"
        )
    return said


def _listed(values: ArrayLike | None) -> list[float] | None:
    return None if values is None else [float(v) for v in np.asarray(values)]


def _statistics(
    array: NDArray[np.float64],
    elements: Sequence[str],
    m: float | None,
    needs_normaliser: bool,
    divisor: float,
    usable: bool,
    interval: str,
    seed: int,
) -> dict[str, Any]:
    """Eq. (4), its interval and its parts, divided by M where there is one."""
    means = array.mean(axis=1)
    per_sample = means / divisor
    found = mean_interval(per_sample, cast(Interval, interval), seed=seed) if usable else None
    per_element = (array.mean(axis=0) / divisor).tolist()
    return {
        "value": float(per_sample.mean()) if usable else None,
        "ci95": list(found) if found else None,
        "interval": interval,
        "stderr": standard_error(per_sample) if usable else None,
        "samples": len(array),
        "normaliser": m,
        "unnormalised": float(means.mean()) if needs_normaliser else None,
        "per_element": dict(zip(elements, per_element, strict=True)),
        "per_sample": per_sample.tolist(),
        "deviations": array.tolist(),
    }


def ranking_value(record: Mapping[str, Any]) -> tuple[float, str]:
    """Return the value by which a record is compared, and its name.

    Parameters
    ----------
    record : mapping
        An entry of ``measurements``.

    Returns
    -------
    value : float
        Larger means less equivariant.
    name : {"value", "unnormalised"}
        The unnormalised value where M is missing, zero or negative.
    """
    m = record["normaliser"]
    if record["value"] is None or (m is not None and m < 0):
        return float(record["unnormalised"]), "unnormalised"
    return float(record["value"]), "value"


def result(
    *,
    command: str,
    software: Mapping[str, str],
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    group: Mapping[str, Any],
    runtime: Mapping[str, Any],
    seed: int,
    measurements: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return a result of schema ``onnx-geed/result/1`` from its parts."""
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "software": dict(software),
        "model": dict(model),
        "data": dict(data),
        "group": dict(group),
        "runtime": dict(runtime),
        "seed": seed,
        "measurements": [dict(m) for m in measurements],
    }


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        With ``file`` added: where it was read from.

    Raises
    ------
    GeedError
        If there is no such file, or it is not JSON.
        If it is not a result, or one of a schema that this version does not know.
        If a part is missing.
        If it holds a measure that this version does not know.
    """
    content = read_json(path)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, str) and schema.startswith("onnx-geed/result/")
        what = f"of schema {str(schema)[:60]!r}" if schema is not None else "without a schema"
        cure = "upgrade onnx-geed" if newer else "give a file that onnx-geed measure --out wrote"
        raise GeedError(f"{path}: is {what}, expected {SCHEMA!r}; {cure}")
    for part, keys in _PARTS.items():
        _require(path, content, part, keys)
    records = content.get("measurements")
    if not isinstance(records, list):
        raise GeedError(f"{path}: has no list of measurements; measure again")
    for i, record in enumerate(records):
        _require(path, {f"measurements[{i}]": record}, f"measurements[{i}]", _RECORD)
        if record["measure"] not in CATALOGUE:
            raise GeedError(
                f"{path}: measurements[{i}] is of a measure that this version does not know, "
                f"{shown(record['measure'])!r} (it knows {known_names(tuple(CATALOGUE))}); upgrade "
                "onnx-geed"
            )
    content["file"] = str(path)
    return cast(dict[str, Any], content)


def _require(path: str | Path, content: Mapping[str, Any], part: str, keys: Sequence[str]) -> None:
    found = content.get(part)
    missing = [k for k in keys if not isinstance(found, dict) or k not in found]
    if missing:
        raise GeedError(f"{path}: {part} lacks {', '.join(missing)}; measure again")


def to_csv(made: Mapping[str, Any]) -> str:
    """Return one line a measurement, numbers in full.

    Parameters
    ----------
    made : mapping
        A result.

    Returns
    -------
    str
        With a header line.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["measure", "layer", "layout", "output_action", "value", "ci95_low", "ci95_high"]
    head += ["interval", "stderr", "samples", "normaliser", "unnormalised", "norm_samples"]
    head += ["between_samples", "relative"]
    head += ["zero_pairs", "exact_value", "exact_ci95_low", "exact_ci95_high", "warnings"]
    writer.writerow(("model", "group", *head))
    for record in made["measurements"]:
        exact = record["exact"] or {"value": None, "ci95": None}
        low, high = record["ci95"] or (None, None)
        exact_low, exact_high = exact["ci95"] or (None, None)
        cells = {
            # What was measured before these were has neither.
            "between_samples": None,
            "relative": None,
            **record,
            "ci95_low": low,
            "ci95_high": high,
            "exact_value": exact["value"],
            "exact_ci95_low": exact_low,
            "exact_ci95_high": exact_high,
            "warnings": "; ".join(record["warnings"]),
        }
        # csv writes None as nothing, and a float so that it reads back as it was.
        row = [cells[name] for name in head]
        writer.writerow((made["model"]["path"], made["group"]["name"], *row))
    return stream.getvalue()
