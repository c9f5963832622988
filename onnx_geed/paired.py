"""The difference of two models on the same samples, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.intervals import mean_interval
from onnx_geed.results import ILL_CONDITIONED, ranking_value

__all__ = ["paired"]

F64 = NDArray[np.float64]
Record = Mapping[str, Any]
Ends = tuple[float, float] | None

# A bootstrap interval never reaches beyond the values it is made of: too narrow for fewer pairs.
_LEAST_PAIRS = 10


def paired(a: Record, b: Record, seed: int, same: bool) -> dict[str, Any]:
    """Return the paired difference of two records.

    Parameters
    ----------
    a, b : mapping
        Entries of ``measurements`` of the same measure.
    seed : int
        Seed of the bootstrap.
    same : bool
        Whether their samples are the same.

    Returns
    -------
    dict
        An entry of ``measurements`` of :func:`onnx_geed.compare`.
    """
    plain = "unnormalised" in (ranking_value(a)[1], ranking_value(b)[1])
    left, right = _per_sample(a, plain), _per_sample(b, plain)
    gaps = left - right if same and len(left) == len(right) else None
    t = None if gaps is None else mean_interval(gaps)
    resampled = None if gaps is None else mean_interval(gaps, "bootstrap", seed=seed)
    used = "t" if gaps is None or len(gaps) < _LEAST_PAIRS else "bootstrap"
    difference = float(left.mean() - right.mean())
    return {
        "measure": a["measure"],
        "layer": a["layer"] if a["layer"] == b["layer"] else f"{a['layer']} | {b['layer']}",
        "compared": "unnormalised" if plain else "value",
        "a": float(left.mean()),
        "b": float(right.mean()),
        "normaliser_a": a["normaliser"],
        "normaliser_b": b["normaliser"],
        "difference": difference,
        "ci95": list(t) if t else None,
        "ci95_bootstrap": list(resampled) if resampled else None,
        "interval": used,
        "share_a_lower": None if gaps is None else float((gaps < 0).mean()),
        "samples": None if gaps is None else len(gaps),
        "verdict": _verdict(a, b, difference, gaps, t if used == "t" else resampled),
        "warnings": _doubts(a, b, plain),
    }


def _per_sample(record: Record, plain: bool) -> F64:
    if plain:
        deviations: F64 = np.array(record["deviations"], dtype=np.float64)
        return np.asarray(deviations.mean(axis=1))
    return np.array(record["per_sample"], dtype=np.float64)


def _doubts(a: Record, b: Record, plain: bool) -> list[str]:
    if plain:
        said = "M is negative, 0 or missing, so unnormalised values are compared"
        if a["measure"] == "latent-l2":
            said += ", each in the units of its own latent space"
        return [said]
    return [
        f"M of {letter} = {record['normaliser']:.3g} is near zero: its values are ill-conditioned"
        for letter, record in (("A", a), ("B", b))
        if a["measure"] == "latent-cos" and record["normaliser"] < ILL_CONDITIONED
    ]


def _verdict(
    a: Record,
    b: Record,
    difference: float,
    gaps: F64 | None,
    ends: Ends,
) -> str:
    size = f"A - B = {difference:.3g}"
    if gaps is None:
        return f"not the same samples, so there is no paired interval ({size})"
    if ends is None:
        return f"one sample is too few to say ({size})"
    if not gaps.any():
        return "A and B are the same on every sample"
    low, high = ends
    if low <= 0 <= high:
        return f"no difference can be seen ({size}, 95 % interval {low:.3g} to {high:.3g})"
    trivial = a["output_action"] == b["output_action"] == "trivial"
    better, other = ("A", "B") if difference < 0 else ("B", "A")
    low, high = sorted((abs(low), abs(high)))
    return (
        f"{better} is more {'in' if trivial else 'equi'}variant than {other} by "
        f"{abs(difference):.3g} (95 % interval {low:.3g} to {high:.3g})"
    )
