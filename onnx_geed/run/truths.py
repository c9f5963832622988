"""What is right for the samples: labels as classes of the output, and targets of tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import open_rows, rows_of
from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, Group, LayoutAction, Permutation, Table, Trivial
from onnx_geed.held import ALLOWED
from onnx_geed.measures import Layer, Measure, Plan, view
from onnx_geed.model import Tensor, patterns_first, resolve
from onnx_geed.results import places_of_labels
from onnx_geed.run.mask import Mask

__all__ = ["Targets", "targeted", "why_no_labels", "with_truths"]

#: Targets, or files of them, by tensor.
Targets = Mapping[str, str | Path | NDArray[Any]]


def targeted(listed: Sequence[Tensor], given: Targets) -> dict[str, str | Path | NDArray[Any]]:
    """Return the targets that were given, by the names of the tensors that they are for.

    Raises
    ------
    GeedError
        If no tensor has the name that one is given for.
    """
    return {
        t.name: value for key, value in patterns_first(listed, given) for t in resolve(listed, key)
    }


def with_truths(
    plan: Plan,
    *,
    indices: Sequence[int],
    available: int,
    labels: Sequence[int | str] | None,
    names: Sequence[str] | None,
    targets: Targets,
    mask: Mask | None = None,
    allowed: int = ALLOWED,
    placed: bool = False,
    tables: Mapping[str, Table] | None = None,
) -> Plan:
    """Return a plan that knows what is right, for its shares of the error.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    indices : sequence of int
        The samples of D.
    available : int
        How many samples there are.
    labels : sequence of int or str, optional
        Labels of D, in order.
    names : sequence of str, optional
        The model's classes, in the order of its outputs.
    targets : mapping of str to str, Path or ndarray
        By tensor.
    mask : Mask, optional
        Which entries are padding, which targets say nothing of.
    allowed : int
        Bytes that may be held of one target at once.
    placed : bool
        Whether the labels are of places.
    tables : mapping of str to Table, optional
        Given output actions by tensor, whose sources messages name.

    Returns
    -------
    Plan

    Raises
    ------
    GeedError
        If there are no labels for class scores, or they are none of their classes.
        If a target cannot be read, or takes too much memory.
        If a target is not a row a sample of the tensor's shape, or not finite.
        If a target is for a tensor of which no share of the error is measured.
        If what is right moves along, and the group first moves each sample by an element of its
        own.
    """
    _refuse_turned(plan, {} if tables is None else tables)
    shares = [m for m in plan.measures if m.descriptor.of_error]
    _refuse_idle(targets, {m.layer for m in shares if m.target})
    truths: dict[str, NDArray[Any]] = {}
    for measure in shares:
        layer = plan.layers[measure.layer]
        if measure.target:
            rows = _rows(layer.name, targets[layer.name], layer, indices, available, allowed)
            orbits = rows[:, None]
            if mask is not None:
                orbits = mask.clear(plan.layers, {layer.name: orbits}, indices, [0])[layer.name]
            seen = view(layer, measure, orbits)
            truths[layer.name] = np.ascontiguousarray(seen).reshape(len(orbits), -1)
        else:
            if placed:
                raise GeedError(
                    f"--labels: has a label for each place, or a row for each sample, but "
                    f"{measure.name}@{layer.name} takes one label per sample"
                )
            truths[layer.name] = _classes(measure, layer, labels, names)
    return replace(plan, truths=truths)


def _refuse_turned(plan: Plan, tables: Mapping[str, Table]) -> None:
    """Refuse what is right for unmoved samples where nothing is ever moved back to these."""
    for measure in plan.measures:
        if not measure.descriptor.of_error or not (fault := _turned(plan.group, measure)):
            continue
        instead = f"leave {measure.name} out, or take a group such as C8 (O for volumes)"
        if measure.target:
            raise GeedError(
                f"--target {measure.layer}: belongs to unmoved samples, but {fault}, to which "
                f"tensors are moved back; {instead}"
            )
        layer = measure.layer
        source = tables[layer].source if layer in tables else ""
        given = source if source.startswith("metadata ") else f"--output-action {layer}"
        raise GeedError(
            f"{measure.name}@{layer}: takes labels, which belong to unmoved samples, but {given} "
            f"permutes classes, and {fault}; {instead}"
        )


def why_no_labels(plan: Plan, measure: Measure) -> str:
    """Say why labels of the samples do not tell which of the predicted classes are right.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    measure : Measure
        One of them.

    Returns
    -------
    str
        Empty where they do, or the measure takes no classes.
    """
    if not measure.descriptor.of_classes or measure.places is not None:
        return ""
    fault = _turned(plan.group, measure)
    return f"its classes are permuted, and {fault}" if fault else ""


def _turned(group: Group, measure: Measure) -> str:
    """Say that what is right for an unmoved sample is not what is right where it starts."""
    if group.behind is None or isinstance(measure.action, Trivial):
        return ""
    if not _first_moves(measure.action):
        return ""
    return f"group {group.name} first moves each sample by an element of its own"


def _first_moves(action: Action) -> bool:
    """Whether the element that first moves a sample moves a tensor: not by letters it leaves."""
    by_letters = action.letters if isinstance(action, Permutation) else action
    if not isinstance(by_letters, LayoutAction) or by_letters.moves_channels:
        return True
    # What is drawn is no identity in all of these.
    return not all(by_letters.behind(0, k).moves.is_identity(0) for k in range(8))


def _refuse_idle(targets: Targets, used: Collection[str]) -> None:
    if idle := [name for name in targets if name not in used]:
        raise GeedError(
            f"--target {idle[0]}: no measure uses it; add --measure symmetry-share@{idle[0]}, or "
            "leave it out"
        )


def _classes(
    measure: Measure,
    layer: Layer,
    labels: Sequence[int | str] | None,
    names: Sequence[str] | None,
) -> NDArray[np.int64]:
    """Return the classes that labels are for."""
    bound = f"{measure.name}@{layer.name}"
    if labels is None:
        raise GeedError(
            f"{bound}: needs true values: labels (--labels FILE, classes as sub-folders, or an "
            "array y or labels beside the data: one whole number or name per sample), or --target "
            f"{layer.name}=FILE.npy"
        )
    places, fault, cure = places_of_labels(labels, names, layer.classes)
    if places is None:
        raise GeedError(f"{bound}: {fault}: {cure}")
    return places


def _rows(
    name: str,
    given: str | Path | NDArray[Any],
    layer: Layer,
    indices: Sequence[int],
    available: int,
    allowed: int,
) -> NDArray[Any]:
    """Return the targets of D, (samples, ...)."""
    path = isinstance(given, str | Path)
    where = f"--target {name}={given}" if path else f"--target {name}"
    option = f"--target {name}"
    rows = open_rows(str(given), option=option, allowed=allowed) if path else rows_of(given)
    shape = rows.shape
    # A column of single numbers may come without its axis.
    plain = shape[1:] == layer.shape or (shape[1:], layer.shape) == ((), (1,))
    if not plain or rows.count != available or rows.lengths is not None:
        raise GeedError(
            f"{where}: holds {shape}; give one row per sample, of the tensor's shape: "
            f"{(available, *layer.shape)}"
        )
    if rows.dtype.kind not in "fiub":
        raise GeedError(f"{where}: holds {rows.dtype}; give numbers")
    values = np.stack([np.asarray(rows.read(i), dtype=np.float64) for i in indices])
    rows.close()
    if (bad := np.argwhere(~np.isfinite(values))).size:
        raise GeedError(f"{where}: sample {indices[int(bad[0][0])]} holds NaN or infinity")
    return values.reshape(len(indices), *layer.shape)
