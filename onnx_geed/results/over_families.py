"""Several families, and groups, of one model or more: what each of them changes, side by side."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnx_geed.measures import Descriptor, Scale, descriptor_of, within
from onnx_geed.results.families import is_family, is_sampled
from onnx_geed.results.origin import GroupPart
from onnx_geed.results.reading import read_record
from onnx_geed.results.schema import Predictions, Result
from onnx_geed.results.suite_schema import SuiteRow

__all__ = ["ACCURACY", "FamilyValue", "family_values", "moved_accuracy", "suite_family_values"]

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
        Of an accuracy, that on samples as they are, where it is known.
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
    for result, model in zip(results, _series(results, called), strict=True):
        family, accuracy = result["group"]["name"], None
        last = {r["measure"]: r for r in result["measurements"]}
        for record in sorted(last.values(), key=lambda r: _is_hidden(r["measure"])):
            reading = read_record(record)
            accuracy = accuracy or moved_accuracy(record.get("predictions"), result["group"])
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


def _series(results: Sequence[Result], called: Sequence[str]) -> list[str]:
    """Name what each result is of: its model, and in what it was measured otherwise than others.

    Of one name there is one result of each family, measured on the same data.
    """
    models = _models(results, called)
    said: list[list[str]] = [[] for _ in results]
    settings = [(always, [words(r) for r in results]) for always, words in _SETTINGS]
    for always, told in [(True, _data_called(results)), *settings]:
        names = [(model, *parts) for model, parts in zip(models, said, strict=True)]
        for i, name in enumerate(names):
            own = [k for k, other in enumerate(names) if other == name]
            families = [results[k]["group"]["name"] for k in own]
            if always or len({*families}) < len(families):
                varies = len({told[k] for k in own}) > 1
                said[i] += [told[i]] if varies else []
    seen: Counter[tuple[str, ...]] = Counter()
    series = []
    for result, model, parts in zip(results, models, said, strict=True):
        seen[key := (model, *parts, result["group"]["name"])] += 1
        parts += [f"no. {seen[key]}"] if seen[key] > 1 else []
        series.append(f"{model} ({', '.join(parts)})" if parts else model)
    return series


def _data_called(results: Sequence[Result]) -> list[str]:
    """Return what the data of each result are called: one name of the same data everywhere."""
    first: list[Result] = []
    for result in results:
        data = result["data"]
        alike = (
            other
            for other in first
            if data["source"] == other["data"]["source"]
            or data["fingerprint"] == other["data"]["fingerprint"]
        )
        first.append(next(alike, result))
    sources = [result["data"]["source"] for result in first]
    short = [Path(source).name for source in sources]
    return short if len({*short}) == len({*sources}) else sources


def _beside(result: Result) -> str:
    """Tell what was fed beside the samples, and what of these is padding."""
    data = result["data"]
    further = [[one["name"], one.get("fingerprint")] for one in data.get("inputs", [])[1:]]
    told = [further, data.get("fed", {}), data.get("mask")]
    if not any(told):
        return "nothing beside it"
    text = json.dumps(told, sort_keys=True)
    return f"beside it {hashlib.sha256(text.encode()).hexdigest()[:8]}"


# What else tells results of one model apart, and whether it always does or only those of one
# family: each has a word for a result.
_SETTINGS: tuple[tuple[bool, Callable[[Result], str]], ...] = (
    (True, lambda result: f"support {result['group']['support']}"),
    (False, lambda result: f"{result['measurements'][0]['samples']} samples"),
    (False, lambda result: result["group"]["interpolation"]),
    (False, lambda result: "clipped" if result["group"].get("clip") else "not clipped"),
    (False, lambda result: f"fed {result['data']['fingerprint'][:8]}"),
    (False, _beside),
)


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
    moved : float
        Of moved samples, as a mean over members.
    unmoved : float or None
        Of samples as they are; None for a sampled group, which moves each of them first.
    ci95 : (float, float) or None
        Interval over samples of the first, where the result tells it.
    """

    moved: float
    unmoved: float | None
    ci95: tuple[float, float] | None = None


def moved_accuracy(predictions: Predictions | None, group: GroupPart) -> MovedAccuracy | None:
    """Return the share of predictions that are right of moved samples, and of unmoved ones.

    Parameters
    ----------
    predictions : dict or None
        Those of a record.
    group : dict
        The ``group`` part of its result.

    Returns
    -------
    MovedAccuracy or None
        None where labels did not tell.
    """
    if not predictions or not predictions["right"]:
        return None
    first, *moved = predictions["right"]["per_element"].values()
    unmoved = None if is_sampled(group) else first
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
        if moved is not None and (model, family) not in told:
            told.add((model, family))
            ends = row.get("right_ci95_over_models") or row.get("right_ci95_over_samples")
            accuracy = MovedAccuracy(moved, unmoved, _share(ends))
            found.append(_of_accuracy(model, family, accuracy))
    return _marked(found, {r["group"] for r in rows if r.get("kind") != "family"})
