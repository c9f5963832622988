"""How often predictions stay, or move along, under each element, and how often they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import Action
from onnx_geed.measures import descriptor_of, moved_classes
from onnx_geed.results.intervals import share_interval
from onnx_geed.results.schema import MovedShare, Predictions, Record, Share
from onnx_geed.text import counted

__all__ = ["Predicted", "add_predictions", "places_of_labels"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicted classes of D, and how the group moves classes.

    Parameters
    ----------
    classes : ndarray of int64, shape (N, n)
        Of f(gx).
    moved : ndarray of int64, shape (n, classes)
        The class that g moves each class to.
    elements : sequence of str
        Names of the n elements.
    no_labels : str
        Why labels do not tell which of them are right; empty where they do.
    """

    classes: I64
    moved: I64
    elements: Sequence[str]
    no_labels: str = ""

    @classmethod
    def under(cls, classes: I64, action: Action, count: int, no_labels: str = "") -> Predicted:
        """Return predicted classes (N, n), of so many, that φ_Y moves."""
        return cls(classes, moved_classes(action, count), action.group.elements, no_labels)


def add_predictions(
    records: Sequence[Record],
    labels: Sequence[int | str] | None,
    predicted: Mapping[str, Predicted],
    names: Sequence[str] | None,
) -> list[str]:
    """Enter ``predictions`` into records.

    Parameters
    ----------
    records : sequence of dict
        Entries of ``measurements``; changed in place.
    labels : sequence of int or str, optional
        One a sample.
    predicted : mapping of str to Predicted
        By layer of class scores.
    names : sequence of str, optional
        The model's classes, in the order of its outputs.

    Returns
    -------
    list of str
        Notes, such as that labels cannot be told from outputs.

    Notes
    -----
    A prediction stays where f(gx) is for the class that g moves the class of f(x) to, and is right
    where it is for the class that g moves the label to. As in eq. (4) the identity counts. Labels
    are found in ``names``; without these, whole numbers from 0 are positions of the output.
    """
    notes: list[str] = []
    for record in records:
        record["predictions"] = None
        scores = descriptor_of(record["measure"]).of_classes
        if not scores or record["layer"] not in predicted:
            continue
        own = predicted[record["layer"]]
        places, note = _right_classes(own, labels, names, record["layer"])
        if note and note not in notes:
            notes.append(note)
        record["predictions"] = _shares(own, places)
    return notes


def _right_classes(
    own: Predicted,
    labels: Sequence[int | str] | None,
    names: Sequence[str] | None,
    layer: str,
) -> tuple[I64 | None, str]:
    """Return the classes that are right for unmoved samples, where that is known, or a note."""
    if labels is None:
        return None, ""
    if own.no_labels:
        note = f"labels are not used for {layer}: they belong to unmoved samples, {own.no_labels}"
        return None, note
    known = labels[: len(own.classes)]
    places, fault, cure = places_of_labels(known, names, own.moved.shape[1])
    note = f"{fault}, so the share of correct predictions is left out: {cure}"
    return places, note if fault else ""


def places_of_labels(
    labels: Sequence[int | str], names: Sequence[str] | None, count: int
) -> tuple[I64 | None, str, str]:
    """Find the positions of labels among a model's outputs.

    Parameters
    ----------
    labels : sequence of int or str
        One a sample.
    names : sequence of str, optional
        The model's classes, in the order of its outputs.
    count : int
        How many outputs there are.

    Returns
    -------
    positions : ndarray of int64, shape (N,), or None
        Labels are found in ``names``; without these, whole numbers from 0 are positions.
    fault, cure : str
        Why they are not known, and what to do.
    """
    texts = [str(label) for label in labels]
    if names is not None:
        if len(names) != count:
            return (
                None,
                "the metadata onnx_geed.classes names "
                f"{counted(len(names), 'class', 'classes')}, but the output has "
                f"{count}",
                "name all classes with onnx-geed annotate --classes",
            )
        at = {name: i for i, name in enumerate(names)}
        if all(text in at for text in texts):
            return np.array([at[text] for text in texts], dtype=np.int64), "", ""
    numbers = [int(text) if text.isascii() and text.isdigit() else -1 for text in texts]
    if all(0 <= number < count for number in numbers):
        return np.array(numbers, dtype=np.int64), "", ""
    known = set(names or ())
    odd = next(
        text
        for text, number in zip(texts, numbers, strict=True)
        if text not in known and not 0 <= number < count
    )
    return (
        None,
        f"the label {odd!r} belongs to no known output",
        f"give whole numbers from 0 to {count - 1} as --labels, or name the classes in the model's "
        "metadata with onnx-geed annotate --classes",
    )


def _shares(predicted: Predicted, places: I64 | None) -> Predictions:
    classes, moved, elements = predicted.classes, predicted.moved, predicted.elements
    stays = classes == moved[:, classes[:, 0]].T
    right = None if places is None else classes == moved[:, places].T
    return {
        "stay": _share(stays, elements),
        "right": None
        if right is None
        else {**_share(right, elements), "moved": _moved_share(right[:, 1:])},
        "samples": len(classes),
    }


def _moved_share(hits: NDArray[np.bool_]) -> MovedShare | None:
    """Return the mean over samples of how often something holds of each, with its interval."""
    if not hits.size:
        return None
    ends = share_interval(hits)
    return {"value": float(hits.mean()), "ci95": list(ends) if ends else None}


def _share(hits: NDArray[np.bool_], elements: Sequence[str]) -> Share:
    per_element = hits.mean(axis=0).tolist()
    return {
        "value": float(hits.mean()),
        "per_element": dict(zip(elements, per_element, strict=True)),
    }
