"""Several families, and groups, of one model or more: what each of them changes, side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnx_geed.measures import Descriptor, Scale, descriptor_of, within
from onnx_geed.results.families import is_family
from onnx_geed.results.reading import read_record
from onnx_geed.results.schema import Predictions, Result
from onnx_geed.results.suite_schema import SuiteRow

__all__ = ["FamilyValue", "family_values", "moved_accuracy", "suite_family_values"]

ACCURACY = "accuracy"


@dataclass(frozen=True)
class FamilyValue:
    """One number of one model under one family or group.

    Parameters
    ----------
    model, family : str
        Whose, and under what.
    quantity : str
        What the number is, such as ``latent-l2, relative``, ``flip-rate`` or ``accuracy``.
    value : float
        A mean over members other than the identity (for a group, over those that its measure
        counts).
    ci95 : (float, float) or None
        Its interval, over models where there are several.
    unmoved : float or None
        Of an accuracy, that on samples as they are.
    of_group : bool
        Whether it is under a group, where invariance is measured from the mean over all elements,
        and not from the unmoved sample.
    """

    model: str
    family: str
    quantity: str
    value: float
    ci95: tuple[float, float] | None = None
    unmoved: float | None = None
    of_group: bool = False


def family_values(results: Sequence[Result], called: Sequence[str] = ()) -> list[FamilyValue]:
    """Return what several families change, where results are of two or more of them.

    Parameters
    ----------
    results : sequence of dict
        Results.
    called : sequence of str
        What the model of each is called; by its file by default.

    Returns
    -------
    list of FamilyValue
        Of the last layer of each measure: relative to different samples, but for ``flip-rate``,
        which is a share already; the gain of a latent; then the accuracy. Empty where there is no
        family, or where all results are of one.
    """
    groups = {r["group"]["name"] for r in results}
    if len(groups) < 2 or not any(is_family(r["group"]) for r in results):
        return []
    found: list[FamilyValue] = []
    for result, model in zip(results, _models(results, called), strict=True):
        family, accuracy = result["group"]["name"], None
        last = {r["measure"]: r for r in result["measurements"]}
        for record in sorted(last.values(), key=lambda r: _is_hidden(r["measure"])):
            reading = read_record(record)
            accuracy = accuracy or moved_accuracy(record.get("predictions"))
            if reading.descriptor.view == "classes":
                ends = _within(reading.descriptor, reading.ci95)
                found.append(FamilyValue(model, family, reading.measure, reading.value, ends))
            elif reading.relative is not None:
                quantity = f"{reading.measure}, relative"
                ends = _within(reading.descriptor, reading.relative_ci95, "relative")
                found.append(FamilyValue(model, family, quantity, reading.relative, ends))
            gain = record.get("gain")
            if gain and gain["value"] is not None:
                found.append(FamilyValue(model, family, "gain", gain["value"]))
        if accuracy:
            found.append(_of_accuracy(model, family, accuracy))
    return _marked(found, {r["group"]["name"] for r in results if not is_family(r["group"])})


def _marked(found: Sequence[FamilyValue], groups: Collection[str]) -> list[FamilyValue]:
    return [replace(v, of_group=v.family in groups) for v in found]


def _of_accuracy(model: str, family: str, accuracy: MovedAccuracy) -> FamilyValue:
    moved, unmoved, ends = accuracy.moved, accuracy.unmoved, accuracy.ci95
    return FamilyValue(model, family, ACCURACY, moved, ends, unmoved)


def _is_hidden(measure: str) -> bool:
    """Tell whether a measure is of hidden maps, which come after what they lead to."""
    return descriptor_of(measure).role == "channel"


def _models(results: Sequence[Result], called: Sequence[str]) -> list[str]:
    """Name each result's model, as short as tells the models apart."""
    # A function has its name alone.
    hashes = [r["model"]["sha256"] or r["model"]["path"] for r in results]
    for names in (
        list(called),
        [Path(r["model"]["path"]).stem for r in results],
        [r["model"]["path"] for r in results],
    ):
        if names and len(set(zip(hashes, names, strict=True))) == len(set(names)) == len(
            set(hashes)
        ):
            return names
    return [f"{Path(r['model']['path']).stem} ({r['model']['sha256'][:8]})" for r in results]


@dataclass(frozen=True)
class MovedAccuracy:
    """How often predictions are right.

    Parameters
    ----------
    moved, unmoved : float
        Of moved samples, as a mean over members, and of samples as they are.
    ci95 : (float, float) or None
        Interval over samples of the first, where the result tells it.
    """

    moved: float
    unmoved: float
    ci95: tuple[float, float] | None = None


def moved_accuracy(predictions: Predictions | None) -> MovedAccuracy | None:
    """Return the share of predictions that are right of moved samples, and of unmoved ones.

    Parameters
    ----------
    predictions : dict or None
        Those of a record.

    Returns
    -------
    MovedAccuracy or None
        None where labels did not tell.
    """
    if not predictions or not predictions["right"]:
        return None
    unmoved, *moved = predictions["right"]["per_element"].values()
    # Files of earlier versions have no interval.
    told = predictions["right"].get("moved")
    ends = _share(told["ci95"]) if told else None
    return MovedAccuracy(float(np.mean(moved)), unmoved, ends) if moved else None


def _within(
    measure: Descriptor, ends: Sequence[float] | None, scale: Scale = "value"
) -> tuple[float, float] | None:
    return within(measure, ends, scale) if ends else None


def _share(ends: Sequence[float] | None) -> tuple[float, float] | None:
    return (max(0.0, ends[0]), min(1.0, ends[1])) if ends else None


def suite_family_values(rows: Sequence[SuiteRow]) -> list[FamilyValue]:
    """Return the same of a suite's rows, of the last step of each model.

    Parameters
    ----------
    rows : sequence of dict
        Of one data set.

    Returns
    -------
    list of FamilyValue
        Empty where there is no family, or where all rows are of one.
    """
    if len({r["group"] for r in rows}) < 2 or not any(r.get("kind") == "family" for r in rows):
        return []
    last: dict[tuple[str, str, str], SuiteRow] = {}
    for row in rows:
        key = (row["model"], row["group"], row["measure"])
        if key not in last or (row["step"] or 0) >= (last[key]["step"] or 0):
            last[key] = row
    found: list[FamilyValue] = []
    told: set[tuple[str, str]] = set()
    for model, family, measure in sorted(last, key=lambda key: _is_hidden(key[2])):
        row = last[model, family, measure]
        known = descriptor_of(measure)
        if known.view == "classes":
            quantity, value = measure, row["mean"]
            kept = _within(known, row["ci95_over_models"] or row["ci95_over_samples"])
        else:
            quantity, value = f"{measure}, relative", row["relative_mean"]
            ends = row["relative_ci95_over_models"] or row["relative_ci95_over_samples"]
            kept = _within(known, ends, "relative")
        if value is not None:
            found.append(FamilyValue(model, family, quantity, value, kept))
        if (gain := row.get("gain_mean")) is not None:
            # A quotient of two distances, and so not below 0 either.
            kept = _within(known, row.get("gain_ci95_over_models"), "relative")
            found.append(FamilyValue(model, family, "gain", gain, kept))
        moved, unmoved = row.get("right_mean"), row.get("right_unmoved_mean")
        if moved is not None and unmoved is not None and (model, family) not in told:
            told.add((model, family))
            ends = row.get("right_ci95_over_models") or row.get("right_ci95_over_samples")
            accuracy = MovedAccuracy(moved, unmoved, _share(ends))
            found.append(_of_accuracy(model, family, accuracy))
    return _marked(found, {r["group"] for r in rows if r.get("kind") != "family"})
