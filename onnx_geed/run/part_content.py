"""What a part of a run carries for its merging, as JSON, and back to the last bit.

Numbers that a record holds anyway, the deviations of all elements and of the exact ones, stand
there alone; all others are arrays in base64 of little-endian bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import shown
from onnx_geed.groups import Fit
from onnx_geed.measures import PlaceCounts, Spread
from onnx_geed.results import Predicted, Record
from onnx_geed.run.between_samples import Pair, Pairs
from onnx_geed.run.conclusion import Evidence
from onnx_geed.run.fit_scales import FitScales
from onnx_geed.run.measured_as import MeasuredAs
from onnx_geed.run.orbit_statistics import ChannelValues, MeasureStatistics, OrbitStatistics
from onnx_geed.run.references import TRIPS, Trips

__all__ = ["array_from", "array_to", "evidence_from", "evidence_to"]

_DTYPES = ("<f8", "<f4", "<i8")

# More axes has no array of a part; and one that holds nothing must not grow to something large.
_MOST_AXES, _LONGEST_EMPTY = 3, 1 << 24

# Squares of larger numbers overflow.
_LARGEST = 1e150

# Lengths that an array has, of n elements and so many orbits; of None any.
_Lengths = Callable[[int, int, MeasuredAs], tuple[int | None, ...]]

# Arrays of an orbit's statistics that no record holds.
_ARRAYS: dict[str, _Lengths] = {
    "zero_pairs": lambda n, count, told: (count, n),
    # Those under the inverse of a table are of the first orbits of D alone.
    "inverse": lambda n, count, told: (None, n),
    "predicted": lambda n, count, told: (count, n),
    "counts": lambda n, count, told: (count, None),
    "errors": lambda n, count, told: (count, 3),
    "half": lambda n, count, told: (count, len(told.half)),
}

_PLACES = ("overlaps", "right", "foreground", "shares")

_KEY = ("measure", "layer")


def array_to(array: NDArray[Any] | None) -> dict[str, Any] | None:
    """Return an array as JSON holds it.

    Parameters
    ----------
    array : ndarray of float64, float32 or int64, optional
        The array.

    Returns
    -------
    dict or None
        ``dtype``, ``shape`` and ``base64``, in C order.
    """
    if array is None:
        return None
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    assert little.dtype.str in _DTYPES
    content = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "base64": content}


def array_from(content: Any) -> NDArray[Any] | None:
    """Return the array that :func:`array_to` made JSON of.

    Raises
    ------
    ValueError
        If it is none, or has more or fewer bytes than its shape, or more axes than any.
    """
    if content is None:
        return None
    shape, dtype = tuple(content["shape"]), content["dtype"]
    if len(shape) > _MOST_AXES or (0 in shape and max(shape) > _LONGEST_EMPTY):
        raise ValueError(f"no array of shape {shown(list(shape))}")
    if dtype not in _DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"no array of {dtype}")
    try:
        values = np.frombuffer(base64.b64decode(content["base64"], validate=True), dtype=dtype)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    return values.reshape(shape).astype(np.dtype(dtype).newbyteorder("="))


def _needed(
    content: Any, *lengths: int | None, what: str = "an array", infinite: bool = False
) -> NDArray[Any]:
    if lengths:
        array = _fitting(content, *lengths, what=what, infinite=infinite)
    else:
        array = array_from(content)
    if array is None:
        raise ValueError(f"{what} is missing")
    return array


def _fitting(
    content: Any, *lengths: int | None, what: str, infinite: bool = False
) -> NDArray[Any] | None:
    """Return an array, or None; refuse one that has not these lengths, of which None is any.

    Only what holds a class of probability 0 against another may be infinite.
    """
    array = array_from(content)
    if array is not None and not (
        array.ndim == len(lengths)
        and all(n in (None, own) for n, own in zip(lengths, array.shape, strict=True))
    ):
        raise ValueError(f"{what} of shape {shown(list(array.shape))}")
    if array is not None:
        values = array.astype(np.float64)
        if ((np.abs(values) > _LARGEST) & ~(infinite & (values == np.inf))).any():
            raise ValueError(f"{what} with numbers that are too large")
    return array


def evidence_to(
    evidence: Evidence, orbits: OrbitStatistics, points: OrbitStatistics, records: Sequence[Record]
) -> dict[str, Any]:
    """Return what was taken in of a part, but for what its records hold.

    Parameters
    ----------
    evidence : Evidence
        Of the part.
    orbits, points : OrbitStatistics
        Of its orbits, and of its points for M beyond D.
    records : sequence of dict
        Its records; empty where their deviations are to be carried too.

    Returns
    -------
    dict
        JSON.
    """
    return {
        "group": evidence.group,
        "elements": list(evidence.elements),
        "count": evidence.count,
        "norm_samples": evidence.norm_samples,
        "pointed": evidence.pointed,
        "interval": evidence.interval,
        "seed": evidence.seed,
        "idle": list(evidence.idle),
        "on_untrained": list(evidence.on_untrained),
        "orbits": _ends(orbits.orbits),
        "measures": [
            {
                # Deviations are corrected already where they are read again.
                "told": {k: v for k, v in told.told().items() if k != "correction"},
                "statistics": _statistics_to(told, orbits.measures.get(told.key), bool(records)),
            }
            for told in evidence.measures
        ],
        "points": [_points_to(orbits), _points_to(points)],
        "moved_classes": {k: array_to(own.moved) for k, own in evidence.predicted.items()},
        "trips": [
            {**dict(zip(_KEY, key, strict=True)), **{n: _trip_to(own, n) for n in TRIPS}}
            for key, own in evidence.trips.items()
        ],
        "fits": {layer: fit.told() for layer, fit in evidence.fits.items()},
        "fit_scales": [
            {
                **dict(zip(_KEY, key, strict=True)),
                "skipped": own.skipped,
                "scales": {name: array_to(rows) for name, rows in own.scales.items()},
            }
            for key, own in evidence.fit_scales.items()
        ],
    }


def _trip_to(trips: Trips, name: str) -> dict[str, Any] | None:
    return array_to(np.asarray(getattr(trips, name), dtype=np.float64))


def _ends(stretch: range) -> list[int]:
    return [stretch.start, stretch.stop]


def _statistics_to(
    told: MeasuredAs, statistics: MeasureStatistics | None, recorded: bool
) -> dict[str, Any] | None:
    """Return a measure's statistics; none of a part that has no orbits."""
    if statistics is None:
        return None
    channels, places = statistics.channels, statistics.places
    content: dict[str, Any] = {name: array_to(getattr(statistics, name)) for name in _ARRAYS}
    if not recorded:
        content["deviations"] = array_to(statistics.deviations * told.correction)
        content["exact_deviations"] = array_to(statistics.exact)
    content["channels"] = channels and {
        "rows": array_to(channels.rows),
        "total": array_to(channels.total),
        "added": channels.added,
    }
    content["places"] = places and {name: array_to(getattr(places, name)) for name in _PLACES}
    content["pairs"] = [
        {"of": list(where), "square": pair.square, "deviations": array_to(pair.deviations)}
        for where, pair in statistics.pairs.complete.items()
    ]
    return content


def _points_to(statistics: OrbitStatistics) -> dict[str, Any]:
    return {
        "positions": _ends(statistics.pointed),
        "latents": {layer: array_to(rows) for layer, rows in statistics.points.items()},
        "tensors": [
            {
                **dict(zip(_KEY, key, strict=True)),
                "rows": array_to(spread.rows),
                "mean": array_to(spread.mean),
                "total": spread.total,
                "added": spread.added,
            }
            for key, spread in statistics.spreads.items()
        ],
    }


def evidence_from(
    content: Mapping[str, Any], records: Sequence[Record]
) -> tuple[Evidence, OrbitStatistics, OrbitStatistics]:
    """Return what :func:`evidence_to` made JSON of.

    Parameters
    ----------
    content : mapping of str to object
        The JSON.
    records : sequence of dict
        The part's records, or none.

    Returns
    -------
    evidence : Evidence
        Its statistics those of the orbits.
    orbits, points : OrbitStatistics
        Of its orbits, and of its points for M beyond D.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        If it is no such JSON, or is damaged.
    """
    orbits = range(*content["orbits"])
    measures, statistics, by_layer = [], {}, {}
    recorded = {(record["measure"], record["layer"]): record for record in records}
    for entry in content["measures"]:
        told = _told_from(entry["told"])
        measures.append(told)
        if not orbits:
            continue
        own = _statistics_from(told, entry["statistics"], recorded.get(told.key), len(orbits))
        statistics[told.key] = own
        if own.predicted is not None:
            moved = _needed(content["moved_classes"][told.layer], len(told.elements), None)
            by_layer[told.layer] = Predicted(own.predicted, moved, told.elements, told.no_labels)
    (on_orbits, own_points, spreads), further = map(_points_from, content["points"])
    of_orbits = OrbitStatistics(orbits, statistics, on_orbits, own_points, spreads)
    evidence = Evidence(
        *(tuple(measures), content["group"], tuple(content["elements"]), of_orbits),
        *(content["count"], content["norm_samples"], content["pointed"]),
        interval=content["interval"],
        seed=content["seed"],
        predicted=by_layer,
        idle=tuple(content["idle"]),
        trips={
            (e["measure"], e["layer"]): Trips(*(_needed(e[name], len(orbits)) for name in TRIPS))
            for e in content["trips"]
        },
        fits=(fits := {layer: _fit_from(entry) for layer, entry in content["fits"].items()}),
        fit_scales={
            (e["measure"], e["layer"]): FitScales(
                fits[e["layer"]],
                {
                    name: _needed(rows, len(orbits), None, infinite=True)
                    for name, rows in e["scales"].items()
                },
                e["skipped"],
            )
            for e in content["fit_scales"]
        },
        on_untrained=tuple(content["on_untrained"]),
    )
    pointed, latents, tensors = further
    return evidence, of_orbits, OrbitStatistics(pointed=pointed, points=latents, spreads=tensors)


def _fit_from(entry: Mapping[str, Any]) -> Fit:
    fit, defect = Fit(**entry), entry["defect"]
    return replace(
        fit,
        defect=None if defect is None else (defect[0], defect[1]),
        indices=tuple(fit.indices),
        marks=tuple(fit.marks),
        inputs=tuple(fit.inputs),
        wholes=tuple(fit.wholes),
    )


def _told_from(entry: Mapping[str, Any]) -> MeasuredAs:
    names = [name for name in MeasuredAs.__annotations__ if name != "correction"]
    told = MeasuredAs(**{name: entry[name] for name in names if name in entry})
    return replace(
        told,
        elements=tuple(told.elements),
        exact=None if told.exact is None else tuple(told.exact),
        half=tuple(told.half),
        notes=tuple(told.notes),
        without_table=tuple(told.without_table),
        averaged=tuple(told.averaged),
    )


def _statistics_from(
    told: MeasuredAs, entry: Mapping[str, Any], record: Record | None, count: int
) -> MeasureStatistics:
    n, of = len(told.elements), f"{told.measure}@{told.layer}"
    lengths = {name: wanted(n, count, told) for name, wanted in _ARRAYS.items()}
    arrays = {
        name: _fitting(entry[name], *wanted, what=f"{of}: {name}")
        for name, wanted in lengths.items()
    }
    if record is None:
        deviations, exact = _needed(entry["deviations"]), array_from(entry["exact_deviations"])
    else:
        deviations = np.array(record["deviations"], dtype=np.float64)
        part = record["exact"]
        exact = None if part is None else np.array(part["deviations"], dtype=np.float64)
    channels, places = entry["channels"], entry["places"]
    short = exact is not None and len(exact) != count
    if short or deviations.shape != (count, n) or arrays["zero_pairs"] is None:
        raise ValueError(f"{of}: numbers of some orbits are missing")
    pairs = {
        (pair["of"][0], pair["of"][1]): Pair(
            _needed(pair["deviations"], n, infinite=True), float(pair["square"])
        )
        for pair in entry["pairs"]
    }
    return MeasureStatistics(
        deviations,
        **arrays,  # type: ignore[arg-type]
        exact=exact,
        channels=channels
        and ChannelValues(
            _needed(channels["rows"], None, 2, None),
            _fitting(channels["total"], 2, None, what=f"{of}: channels"),
            channels["added"],
        ),
        places=places
        and PlaceCounts(
            _needed(places["overlaps"]), *(array_from(places[name]) for name in _PLACES[1:])
        ),
        pairs=Pairs(pairs),
    )


def _points_from(
    content: Mapping[str, Any],
) -> tuple[range, dict[str, NDArray[Any]], dict[tuple[str, str], Spread]]:
    latents = {layer: _needed(rows, None, None) for layer, rows in content["latents"].items()}
    spreads = {
        (e["measure"], e["layer"]): Spread(
            _needed(e["rows"], None, None),
            _fitting(e["mean"], None, what=f"{e['measure']}@{e['layer']}: mean"),
            float(e["total"]),
            e["added"],
        )
        for e in content["tensors"]
    }
    return range(*content["positions"]), latents, spreads
