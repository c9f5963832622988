"""What stands beside the value of a fitted output action: the scales without which it says nothing.

A fit has seen data, and a flexible enough one predicts anything it has seen. So its value is taken
on samples that it did not see, and beside what the same measure says of three predictions that know
less: that of another sample, that of channels left where they are, and that of another element.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Fit
from onnx_geed.results.intervals import IntervalKind
from onnx_geed.results.records import mean_of
from onnx_geed.results.schema import FitPart, Record

__all__ = ["FIT_REFERENCES", "FitReference", "fit_notes", "fit_part"]

FitReference = Literal["shuffled", "identity", "other_element"]


#: Each sample with the next one's prediction; no channel moved; the map of another element.
FIT_REFERENCES: tuple[FitReference, ...] = get_args(FitReference)


def fit_part(
    fit: Fit,
    deviations: Mapping[str, ArrayLike],
    *,
    divisor: float | None,
    skipped: int,
    usable: bool,
    interval: str,
    seed: int,
) -> FitPart:
    """Return a record's ``fit``, from the deviations of what it is to be read beside.

    Parameters
    ----------
    fit : Fit
        How the output action was fitted.
    deviations : mapping of str to array_like of float64, shape (N, n)
        Of ``shuffled``, ``identity`` and ``other_element``, those that there are: the record's
        measure on its samples and elements, unnormalised, with other predictions in place of the
        fitted one.
    divisor : float or None
        The record's M, where it has one.
    skipped : int
        How many of the first elements are left out of means, as in the record.
    usable : bool
        Whether the record has a value: M can be divided by, or none is needed.
    interval : {"t", "bootstrap", "wilson"}
        The record's interval.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``None`` for what is not in ``deviations`` and, as ``softmax-kl`` between samples can be,
        for what is infinite. Where the record has no value neither have these, and ``per_sample``
        is unnormalised, as the record's is.

    Raises
    ------
    GeedError
        If a deviation is NaN.
    """
    values: dict[str, float | None] = dict.fromkeys(FIT_REFERENCES)
    intervals: dict[str, list[float] | None] = dict.fromkeys(FIT_REFERENCES)
    samples: dict[str, list[float] | None] = dict.fromkeys(FIT_REFERENCES)
    scale = divisor if usable and divisor is not None else 1.0
    for name, given in deviations.items():
        # In one layout, as a record's own are, so that equal deviations have equal means.
        array = np.ascontiguousarray(given, dtype=np.float64)
        if np.isnan(array).any():
            raise GeedError(
                f"{fit.layer}: the {_TOLD[cast(FitReference, name)]} gives NaN; look at the "
                "model's outputs"
            )
        if np.isinf(array).any():
            continue
        per_sample: NDArray[np.float64] = array[:, skipped:].mean(axis=1) / scale
        samples[name] = per_sample.tolist()
        if usable:
            kind = cast(IntervalKind, interval)
            values[name], intervals[name] = mean_of(per_sample, kind, seed)
    defect = fit.defect and {"median": float(fit.defect[0]), "worst": float(fit.defect[1])}
    part = {
        "kind": fit.kind,
        "lambda": None if fit.lambda_ is None else float(fit.lambda_),
        "samples": int(fit.samples),
        **values,
        "ci95": intervals,
        "per_sample": samples,
        "defect": defect,
    }
    return cast(FitPart, part)


_TOLD: dict[FitReference, str] = {
    "shuffled": "prediction from the next sample",
    "identity": "prediction that leaves channels where they are",
    "other_element": "prediction by another element's map",
}


def fit_notes(record: Record) -> list[str]:
    """Return what is to be known of a fitted record, in words.

    Parameters
    ----------
    record : dict
        An entry of ``measurements``, with or without a ``fit``.

    Returns
    -------
    list of str
        For a record's ``notes``.
    """
    fit = record.get("fit")
    if fit is None:
        return []
    notes = [
        f"the output action was fitted to {fit['samples']} other samples ({fit['kind']}): compare "
        "the value with shuffled and identity"
    ]
    defect = fit["defect"]
    if fit["kind"] == "permutation" and defect is not None and defect["worst"] == 0.0:
        notes.append(
            "the fitted permutations compose like the group's elements, as a table does; but f̂ is "
            "f(x), as for every fit, and for a table that was not fitted the mean over the "
            "elements that leave the tensor in place, which can give another value"
        )
    if fit["per_sample"]["shuffled"] is None and record["samples"] > 1:
        notes.append(
            "no shuffled prediction: a class has probability 0 for one sample and not for another"
        )
    return notes
