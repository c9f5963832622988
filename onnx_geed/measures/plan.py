"""Requests and a model's tensors become measures bound to tensors, and that is the plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Action,
    Group,
    Interpolation,
    Layout,
    LayoutAction,
    Matrices,
    Permutation,
    PlacedAction,
    Table,
    Trivial,
    layout_action,
    moves_places,
    on_hidden,
    parse_layout,
    permutation_of,
    vector_action,
    with_channels,
    without_row,
)
from onnx_geed.measures.catalogue import (
    CATALOGUE,
    Descriptor,
    Support,
    descriptor_of,
    judge_of_fits,
)
from onnx_geed.measures.layer import ByLetters, Layer
from onnx_geed.measures.measure import Measure
from onnx_geed.measures.opposites import check_goes_with_group
from onnx_geed.measures.requests import Request
from onnx_geed.measures.scores import OutputKind
from onnx_geed.text import counted

__all__ = ["Plan", "make_plan", "view"]


# What can be done where entries of a vector are not known to stay.
_IF_THEY_STAY = "if its entries stay as they are, state --layout {}=NK"


# Tensors that do not fit a measure are named in notes up to this number, and then counted.
_MISFITS_TOLD = 3


@dataclass(frozen=True)
class Plan:
    """Measures to take, and notes for the report.

    Parameters
    ----------
    group : Group
        The acting group.
    measures : tuple of Measure
        The measures, in the order of the report.
    layers : mapping of str to Layer
        The tensors that are needed.
    exact : tuple of bool
        Per element, whether it moves the input exactly.
    notes : tuple of str
        Measures that were left out and why, and other things to be told.
    norm_samples : int, optional
        Points that M₂ is taken over, of those there are; all by default.
    truths : mapping of str to ndarray, shape (samples, ...)
        What is right for the samples of D, in order, by layer: the numbers of classes, or targets.
    support : {"full", "disk"}
        What samples are masked to; measures that compare inside it say so themselves.
    """

    group: Group
    measures: tuple[Measure, ...]
    layers: Mapping[str, Layer]
    exact: tuple[bool, ...]
    notes: tuple[str, ...] = ()
    norm_samples: int | None = None
    truths: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)
    support: Support = "full"

    @cached_property
    def _exact_subgroups(self) -> dict[tuple[str, str], tuple[int, ...] | None]:
        subgroups = {}
        for measure in self.measures:
            both = zip(self.exact, measure.action.exact(), strict=True)
            unknown = without_row(measure.action)
            members = tuple(g for g, exact in enumerate(both) if all(exact) and g not in unknown)
            proper = 2 <= len(members) < self.group.order and self.group.is_subgroup(members)
            subgroups[measure.name, measure.layer] = members if proper else None
        return subgroups

    def exact_subgroup(self, measure: Measure) -> tuple[int, ...] | None:
        """Return the elements exact on input and tensor, if a proper subgroup of order ≥ 2.

        Where a table has no row for some elements, those are left out.

        Parameters
        ----------
        measure : Measure
            One of the plan's.

        Returns
        -------
        tuple of int, or None
            Identity first.
        """
        return self._exact_subgroups[measure.name, measure.layer]

    def drawn(self, seed: int, indices: tuple[int, ...]) -> Plan:
        """Return the plan for samples that are each moved by elements of their own.

        Parameters
        ----------
        seed : int
            Seed of what is drawn.
        indices : tuple of int
            The samples, by their positions.

        Returns
        -------
        Plan
            This one, where the elements are the same for all samples.
        """
        if self.group.onward is None:
            return self
        own = [
            m if isinstance(m.action, Trivial) else replace(m, drawn=(seed, indices))
            for m in self.measures
        ]
        return replace(self, measures=tuple(own))


def view(layer: Layer, measure: Measure, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring a tensor's activations to the form in which a measure sees them.

    Parameters
    ----------
    layer : Layer
        The tensor, with its layout.
    measure : Measure
        What is measured, with φ_Y.
    array : ndarray of float32, shape (N, n, ...)
        Activations.

    Returns
    -------
    ndarray of float32, shape (N, n, rows, F) or (N, n, k)
        Rows of entries that move together, or points and scores; a view where that is possible.

    Raises
    ------
    GeedError
        If one activation is neither a map nor a vector.
    """
    layout, form = parse_layout(layer.layout), measure.descriptor.view
    action = measure.action
    if form != "points" and isinstance(action, LayoutAction | PlacedAction):
        return action.stacked(layout.to_kept(array, layer.name))
    if form == "whole":
        return array.reshape(*array.shape[:2], -1)
    return layout.to_points(array, axes=2)[0]


def make_plan(
    group: Group,
    selected: Sequence[tuple[Request, Layer]],
    *,
    input_exact: Sequence[bool],
    interpolation: Interpolation,
    support: Support,
    kinds: Mapping[str, str],
    tables: Mapping[str, Table],
    own: PlacedAction | None = None,
    notes: Sequence[str] = (),
    kept: Sequence[Layer] = (),
    targets: Collection[str] = (),
) -> Plan:
    """Bind measures to tensors.

    Parameters
    ----------
    group : Group
        The acting group.
    selected : sequence of (Request, Layer)
        Measures and tensors; a request without a layer was not made by name, so that a tensor that
        does not fit is left out with a note instead of refused.
    input_exact : sequence of bool
        Per element, whether it moves the input exactly.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of hidden maps.
    support : {"full", "disk"}
        Pixels of feature maps that are compared.
    kinds : mapping of str to str
        By tensor, ``logits`` or ``probabilities`` of class scores, else another word for its kind.
    tables : mapping of str to Table
        Given output actions by tensor.
    own : PlacedAction, optional
        The input's action, where it is one of the user's own: hidden maps move as it says.
    notes : sequence of str
        Notes to begin with.
    kept : sequence of Layer
        Layers that a cache is to keep besides those that are measured.
    targets : collection of str
        Tensors that have a target, for shares of the error.

    Returns
    -------
    Plan

    Raises
    ------
    GeedError
        If a tensor named for a measure does not fit it.
        If an output action does not fit its tensor or the group.
        If a measure does not go with the group, as none but one does with small motions.
        If nothing is left to measure.
    """

    def by_letters(layout: Layout, lengths: tuple[int, ...]) -> LayoutAction | PlacedAction:
        """Return how tensors move along with the input."""
        if own is None:
            return layout_action(group, layout, lengths, interpolation)
        return on_hidden(own, layout, lengths)

    _refuse_tables_of_others(group, tables)
    check_goes_with_group((request.measure for request, _ in selected), group)
    measures: list[Measure] = []
    told = list(notes)
    misfits: dict[str, list[GeedError]] = {}
    for request, layer in selected:
        try:
            table, kind = tables.get(layer.name), kinds.get(layer.name)
            named = descriptor_of(request.measure)
            if targeted := named.of_error and layer.name in targets:
                named = named.against_target()
            if passed_by := table is not None and _passes_by(named, table):
                table = None
            measure = _bind(named, layer, group, by_letters, support, kind, table, targeted)
            told += _on_invariance(request, layer, by_letters)
        except GeedError as error:
            given, maps = tables.get(layer.name), descriptor_of(request.measure).view == "maps"
            unseen = maps and given is not None and given.kind == "channel_matrices"
            fitted = given is not None and given.fit is not None
            if request.layer is not None or (given is not None and not unseen and not fitted):
                raise
            misfits.setdefault(request.measure, []).append(error)
            continue
        if passed_by:
            told.append(
                f"{request.measure}@{layer.name} does not use the fitted matrices; "
                f"unexplained@{layer.name} does"
            )
        if all((m.name, m.layer) != (measure.name, measure.layer) for m in measures):
            measures.append(measure)
    for request, _ in selected:
        if request.asked and all(m.name != request.measure for m in measures):
            raise misfits[request.measure][0]
    for errors in misfits.values():
        told += [f"left out: {error}" for error in errors[:_MISFITS_TOLD]]
        if (further := len(errors) - _MISFITS_TOLD) > 0:
            told.append(f"left out: {further} more layers for reasons like this")
    if not measures and not kept:
        why = "; ".join(told) or "no tensor fits"
        raise GeedError(
            f"nothing to measure: {why}; name a tensor with --measure NAME@LAYER "
            "(onnx-geed layers lists them)"
        )
    order = list(CATALOGUE)
    measures.sort(key=lambda m: order.index(m.name))
    needed = {layer.name: layer for _, layer in selected}
    layers = {m.layer: needed[m.layer] for m in measures} | {x.name: x for x in kept}
    bound = tuple(measures)
    return Plan(group, bound, layers, tuple(input_exact), tuple(told), support=support)


def _refuse_tables_of_others(group: Group, tables: Mapping[str, Table]) -> None:
    """Refuse tables for elements that are others for each sample."""
    if group.onward is not None and tables:
        raise GeedError(
            f"{next(iter(tables.values())).source}: the elements of {group.name} differ from "
            "sample to sample, so no table can describe them: take a group with the same elements "
            "for all samples"
        )


def _passes_by(measure: Descriptor, table: Table) -> bool:
    """Whether an action that was fitted is none for a measure, which has its own without it."""
    fitted = table.fit is not None and table.holds_matrices
    return fitted and measure.actions in ("letters", "permutations")


def _bind(
    descriptor: Descriptor,
    layer: Layer,
    group: Group,
    by_letters: ByLetters,
    support: Support,
    kind: str | None,
    table: Table | None,
    target: bool,
) -> Measure:
    """Bind a measure to a tensor, or refuse a tensor that does not fit it."""
    name, bound = descriptor.name, f"{descriptor.name}@{layer.name}"
    layer.check_filled(bound)
    if layer.layout == "?":
        raise GeedError(f"{bound}: {layer.layout_advice}")
    if descriptor.view == "maps":
        moved = _map_action(bound, layer, by_letters, table)
        return Measure(name, layer.name, moved, support)
    if descriptor.of_classes:
        layer.check_scores(bound, kind, targets=descriptor.of_error)
        action = _scores_action(bound, layer, group, by_letters, table)
        reads: OutputKind = "probabilities" if kind == "probabilities" else "logits"
        compared = support if isinstance(action, LayoutAction | PlacedAction) else "full"
        try:
            return Measure(name, layer.name, action, compared, reads)
        except GeedError as error:
            raise GeedError(f"{bound}: {error}") from None
    if descriptor.actions == "any":
        whole = _whole_action(bound, layer, group, by_letters, table)
        return Measure(name, layer.name, whole, target=target)
    try:
        length = layer.point_length
    except GeedError as error:
        raise GeedError(f"{bound}: {error}; its shape is {layer.shape_text}") from None
    if descriptor.actions == "trivial" or table is None or table.kind == "channels":
        return Measure(name, layer.name, Trivial(group))
    return Measure(name, layer.name, _vector_action(layer, group, table, length))


def _on_invariance(request: Request, layer: Layer, by_letters: ByLetters) -> list[str]:
    """Tell that what moves is asked to stay; refuse it where nobody asked for that.

    Raises
    ------
    GeedError
        If the measure is a default, and the tensor is known to move, or not known to stay.
    """
    if descriptor_of(request.measure).actions != "trivial":
        return []
    bound, asked = f"{request.measure}@{layer.name}", request.asked or request.layer is not None
    try:
        if layer.moved_along(by_letters) is None:
            return []
    except GeedError as error:
        if asked:
            return []
        raise GeedError(f"{bound}: {error}; {_IF_THEY_STAY.format(layer.name)}") from None
    moves = f"compares vectors as they stay, but the layout {layer.layout} moves along"
    judge = f"how well it does, {judge_of_fits()}@{layer.name} tells"
    if asked:
        return [f"{bound}: {moves}; {judge}"]
    raise GeedError(f"{bound}: {moves}; {judge}, and --measure {bound} measures it all the same")


def _scores_action(
    bound: str, layer: Layer, group: Group, by_letters: ByLetters, table: Table | None
) -> Action:
    """Return how class scores move: the classes by a table, their places by the letters."""
    layout = parse_layout(layer.layout)
    try:
        if layer.is_one_place:
            length = layer.point_length
            if table is not None and table.kind != "channels":
                return _vector_action(layer, group, table, max(length, 2))
            # Classes may be points, columns or bases themselves, which change places.
            try:
                action = layer.moved_along(by_letters)
                return Trivial(group) if action is None else permutation_of(action)
            except GeedError as error:
                raise GeedError(f"{error}; {_IF_THEY_STAY.format(layer.name)}") from None
        if len(layer.shape) != layout.rank - 1 or layout.channels != 1:
            raise GeedError(layer.classes_advice)
        placed = by_letters(layout, layer.kept_shape)
    except GeedError as error:
        raise GeedError(f"{bound}: {error}; its shape is {layer.shape_text}") from None
    if table is None:
        return placed
    if table.holds_matrices:
        raise GeedError(f"{table.source}: matrices do not keep probabilities; give a permutation")
    return _with_table(layer, placed, replace(table, kind="channels"))


def _vector_action(layer: Layer, group: Group, table: Table, length: int) -> Permutation | Matrices:
    """Return the action that a table gives on vectors, which have this length."""
    action = vector_action(table, group)
    if table.values.shape[1] != length:
        raise GeedError(
            f"{table.source}: a table for {counted(table.values.shape[1], 'entry', 'entries')}, "
            f"but {layer.name} has "
            f"{length}"
        )
    return action


def _whole_action(
    bound: str, layer: Layer, group: Group, by_letters: ByLetters, table: Table | None
) -> Action:
    """Return the action on all entries of a tensor: by its letters, or as a table gives it."""
    if table is not None and table.kind in ("permutation", "matrices"):
        return _vector_action(layer, group, table, int(np.prod(layer.shape)))
    # A vector stays in place under any group, an own one too.
    if len(layer.shape) == 1 and layer.layout in ("NK", "NC") and table is None:
        return Trivial(group)
    if not layer.axes_known and moves_places(group):
        raise GeedError(
            f"{bound}: the axes of {layer.shape_text} are not known, and so not how {group.name} "
            f"moves them: state them with --layout, such as {layer.name}={layer.example_layout}; C "
            "and K are axes that stay"
        )
    try:
        action = by_letters(parse_layout(layer.layout), layer.kept_shape)
    except GeedError as error:
        raise GeedError(f"{bound}: {error}") from None
    if table is not None:
        return _with_table(layer, action, table)
    return action if not isinstance(action, LayoutAction) or action.moved else Trivial(group)


def _map_action(
    bound: str, layer: Layer, by_letters: ByLetters, table: Table | None
) -> LayoutAction | PlacedAction:
    """Return how feature maps move along with the input, with a channel table if one was given."""
    layout = parse_layout(layer.layout)
    if len(layer.shape) != layout.rank - 1:
        raise GeedError(
            f"{bound}: channelwise cosine takes feature maps, but the axes of {layer.shape_text} "
            "are not known: state them with --layout, such as "
            f"{layer.name}={layer.example_layout}"
        )
    lengths = layer.kept_shape
    places = lengths[layout.channels :]
    if layout.kept.endswith("HW") and min(lengths[-2:]) < 2 and len(places) == 2:
        height, width = lengths[-2:]
        raise GeedError(f"{bound}: a grid of {height}×{width} is not a map; take a latent measure")
    if int(np.prod(places)) < 2:
        raise GeedError(
            f"{bound}: has one entry per channel, which is not a map; take a latent measure"
        )
    try:
        action = by_letters(layout, lengths)
    except GeedError as error:
        raise GeedError(f"{bound}: {error}") from None
    if table is not None and table.kind == "channel_matrices":
        raise GeedError(
            f"{bound}: matrices mix channels, which a cosine by channel does not see: measure "
            f"unexplained@{layer.name}"
        )
    if table is None or table.kind != "channels":
        return action
    return _with_table(layer, action, table)


def _with_table(layer: Layer, action: LayoutAction | PlacedAction, table: Table) -> LayoutAction:
    """Return an action by letters that permutes or mixes channels too."""
    if table.values.shape[1] != layer.channels:
        raise GeedError(
            f"{table.source}: a table for {counted(table.values.shape[1], 'channel')}, but "
            f"{layer.name} has "
            f"{layer.channels}"
        )
    if not isinstance(action, LayoutAction):
        raise GeedError(
            f"{table.source}: a table of channels needs a named group; the action {action.name!r} "
            "itself says how channels move"
        )
    return with_channels(action, table)
