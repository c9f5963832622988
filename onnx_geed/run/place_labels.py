"""Labels and background of class scores at places, checked against what is measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest
from onnx_geed.groups import parse_layout
from onnx_geed.measures import Known, Layer, Measure, Plan, at_places
from onnx_geed.run.mask import Mask

__all__ = ["bind_background", "known_places"]


# What a place without a label has in many data sets, besides negative numbers.
_VOID = 255


def bind_background(
    plan: Plan,
    labels: NDArray[Any] | None,
    background: int | str | None,
    names: Sequence[str] | None,
    mask: Mask | None = None,
    indices: Sequence[int] = (),
) -> Plan:
    """Return a plan whose measures of class scores at places know which class is background.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    labels : ndarray of int, shape (N, ...), optional
        The classes of the places of D.
    background : int or str, optional
        The class as the user states it.
    names : sequence of str, optional
        The model's classes, in the order of its outputs.
    mask : Mask, optional
        What is padding, whose labels do not count.
    indices : sequence of int
        D, where there is a mask.

    Returns
    -------
    Plan
        With a note on what was taken as background, where the user did not say.

    Raises
    ------
    GeedError
        If no class scores at places are measured, or none at as many places as there are labels.
        If a label is no class.
        If there is no such class.
        If labels are of samples that the group moves by elements of their own.

    Notes
    -----
    Choice: with labels, and where no background is stated, the most common label of D is taken.
    """
    dense = [m for m in plan.measures if m.places is not None]
    if labels is not None and mask is not None:
        labels = _without_padding(plan, dense, labels, mask, indices)
    if labels is not None:
        _check_labels(plan, dense, labels)
    if background is not None:
        if not dense:
            raise GeedError(
                f"--background {background}: no class scores at places are measured, such as those "
                "of a segmentation; leave it out, or name them with --measure "
                "softmax-kl@LAYER or flip-rate@LAYER"
            )
        number, notes = _number_of(plan, dense, background, names), []
    elif labels is not None:
        counts = np.bincount(labels[_labelled(labels, _classes(plan, dense, labels))])
        if not len(counts):
            raise GeedError("--labels: no place has a label, all are negative or 255")
        number = int(counts.argmax())
        dense = [m for m in dense if _fit(plan.layers[m.layer], labels)]
        notes = [
            f"background is {_called(number, names)}, the most common label "
            f"({100 * counts.max() / counts.sum():.3g} % of places); change with --background"
        ]
    else:
        return plan
    bound = tuple(replace(m, background=number) if m in dense else m for m in plan.measures)
    return replace(plan, measures=bound, notes=(*plan.notes, *notes))


def _without_padding(
    plan: Plan,
    dense: Sequence[Measure],
    labels: NDArray[Any],
    mask: Mask,
    indices: Sequence[int],
) -> NDArray[Any]:
    """Return labels (N, ...) with none at places that are padding."""
    for layer in (plan.layers[m.layer] for m in dense):
        if _fit(layer, labels) and (real := mask.real_places(layer, indices)) is not None:
            return np.where(real[:, 0] > 0, labels, -1)
    return labels


def known_places(
    plan: Plan,
    layers: Collection[str],
    labels: NDArray[Any] | None,
    mask: Mask | None,
    indices: Sequence[int],
) -> dict[str, Known]:
    """Return what is known of the places of class scores, by tensor.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    layers : collection of str
        On which tensors.
    labels : ndarray of int, shape (N, ...), optional
        The classes of the places of some samples.
    mask : Mask, optional
        What is padding.
    indices : sequence of int
        Which samples these are in the data.

    Returns
    -------
    dict of str to Known
    """
    known: dict[str, Known] = {}
    for measure in plan.measures:
        if measure.places is None or measure.layer not in layers or measure.layer in known:
            continue
        layer = plan.layers[measure.layer]
        real = None if mask is None else mask.real_places(layer, indices)
        own = labels if labels is not None and _fit(layer, labels) else None
        if own is None and real is None:
            continue
        known[measure.layer] = Known(
            None if own is None else _labels_at_places(measure, layer, own),
            None if real is None else at_places(measure, real) > 0,
        )
    return known


def _labels_at_places(measure: Measure, layer: Layer, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels (N, P) in the order of places, -1 where there is none."""
    marked = np.where(_labelled(labels, layer.classes), labels, -1).astype(np.float32)
    kept = np.broadcast_to(marked[:, None], (len(labels), *layer.kept_shape))
    return at_places(measure, kept).astype(np.int64)


def _labelled(labels: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Say which places have a label."""
    labelled: NDArray[np.bool_] = labels >= 0
    return labelled if classes > _VOID else labelled & (labels != _VOID)


def _places_of(layer: Layer) -> tuple[int, ...]:
    return layer.kept_shape[parse_layout(layer.layout).channels :]


def _fit(layer: Layer, labels: NDArray[Any]) -> bool:
    return labels.shape[1:] == _places_of(layer)


def _classes(plan: Plan, dense: Sequence[Measure], labels: NDArray[Any]) -> int:
    """Return the fewest classes of the scores that have such places."""
    layers = [plan.layers[m.layer] for m in dense]
    return min(layer.classes for layer in layers if _fit(layer, labels))


def _check_labels(plan: Plan, dense: Sequence[Measure], labels: NDArray[Any]) -> None:
    """Refuse labels that are of other places, or of other classes, than what is measured."""
    found = " × ".join(map(str, labels.shape[1:]))
    layers = {m.layer: plan.layers[m.layer] for m in dense}
    if not any(_fit(layer, labels) for layer in layers.values()):
        have = "; ".join(
            f"{name} has them at {' × '.join(map(str, _places_of(layer)))}"
            for name, layer in layers.items()
        )
        raise GeedError(
            f"--labels: has {found} labels for each sample, but no class scores at such places "
            f"are measured{f' ({have})' if have else ''}: give one label per sample, or one for "
            "each of those places"
        )
    if plan.group.behind is not None:
        raise GeedError(
            f"--labels: belong to the places of unmoved samples, but group {plan.group.name} "
            "first moves each sample by an element of its own; leave them out, or take a group "
            "such as C8"
        )
    classes = _classes(plan, dense, labels)
    labelled = labels[_labelled(labels, classes)]
    if len(labelled) and (most := int(labelled.max())) >= classes:
        raise GeedError(
            f"--labels: holds {most}, but the scores have the classes 0 to {classes - 1}; a place "
            "without a label is negative or 255"
        )


def _number_of(
    plan: Plan, dense: Sequence[Measure], background: int | str, names: Sequence[str] | None
) -> int:
    """Return the number of the class that is stated, by its name or its number."""
    layer = min((plan.layers[m.layer] for m in dense), key=lambda layer: layer.classes)
    text = str(background)
    if names is not None and text in names:
        number = list(names).index(text)
    elif text.isascii() and text.isdigit():
        number = int(text)
    else:
        has = "names no classes" if names is None else f"names {', '.join(list(names)[:5])}"
        raise GeedError(
            f"--background {text}: no class has this name, the metadata onnx_geed.classes {has}; "
            f"give a number from 0 to {layer.classes - 1}.{nearest(text, names or ())}"
        )
    if number >= layer.classes:
        raise GeedError(
            f"--background {text}: the scores {layer.name} have the classes 0 to "
            f"{layer.classes - 1}; name one of them"
        )
    return number


def _called(number: int, names: Sequence[str] | None) -> str:
    """Name a class, by its number and the name that the model gives it."""
    known = names is not None and number < len(names)
    return f"class {number} ({names[number]})" if known and names else f"class {number}"
