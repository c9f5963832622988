"""Requests and a model's tensors become measures bound to tensors, and that is the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    GridAction,
    Group,
    Interpolation,
    Matrices,
    Permutation,
    PlacedAction,
    Table,
    Trivial,
    grid_action,
    parse_layout,
    vector_action,
    with_channels,
)
from onnx_geed.measures.catalogue import (
    CATALOGUE,
    Descriptor,
    Request,
    Support,
    descriptor_of,
)
from onnx_geed.measures.measure import Measure

__all__ = ["Layer", "Plan", "make_plan", "view"]


# The input's action on maps of a shape (C, H, W).
_OnMaps = Callable[[tuple[int, int, int]], GridAction | PlacedAction]


@dataclass(frozen=True)
class Layer:
    """A tensor as the model really returns it.

    Parameters
    ----------
    name : str
        Name of the tensor.
    shape : tuple of int
        Shape of one sample's activation, without the batch axis.
    layout : str
        As :func:`onnx_geed.groups.parse_layout` reads it, such as ``NCHW`` or ``NK``; ``?`` for
        rank 4 where it is unknown.
    roles : tuple of str
        Those of ``channel``, ``latent``, ``output`` that it has by default.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    roles: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of one sample's activation in float32."""
        return 4 * int(np.prod(self.shape, dtype=np.int64))

    @property
    def point_length(self) -> int:
        """Length k of the points (N, k) that the tensor is brought to."""
        if len(self.shape) < 2:
            return (*self.shape, 1)[0]
        layout = parse_layout(self.layout)
        return self.shape[layout.planes_last[0] if layout.is_map else 0]

    @property
    def shape_text(self) -> str:
        """The shape as messages show it, with the batch axis."""
        return f"(N, {', '.join(map(str, self.shape))})"

    @property
    def layout_advice(self) -> str:
        """How to state a layout that is not known."""
        return (
            f"{self.name}, {self.shape_text}: the graph does not tell where its channels are; say "
            f"so with --layout {self.name}=NCHW or {self.name}=NHWC"
        )


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
    """

    group: Group
    measures: tuple[Measure, ...]
    layers: Mapping[str, Layer]
    exact: tuple[bool, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def _exact_subgroups(self) -> dict[tuple[str, str], tuple[int, ...] | None]:
        subgroups = {}
        for measure in self.measures:
            both = zip(self.exact, measure.action.exact(), strict=True)
            members = tuple(g for g, exact in enumerate(both) if all(exact))
            proper = 2 <= len(members) < self.group.order and self.group.is_subgroup(members)
            subgroups[measure.name, measure.layer] = members if proper else None
        return subgroups

    def exact_subgroup(self, measure: Measure) -> tuple[int, ...] | None:
        """Return the elements exact on input and tensor, if a proper subgroup of order ≥ 2.

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


def view(layer: Layer, descriptor: Descriptor, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring a tensor's activations to the form in which a measure sees them.

    Parameters
    ----------
    layer : Layer
        The tensor, with its layout.
    descriptor : Descriptor
        The measure's.
    array : ndarray of float32, shape (N, n, ...)
        Activations.

    Returns
    -------
    ndarray of float32, shape (N, n, C, H, W) or (N, n, k)
        Maps, or points and scores; a view where that is possible.

    Raises
    ------
    GeedError
        If one activation is neither a map nor a vector.
    """
    layout = parse_layout(layer.layout)
    if descriptor.view == "maps":
        return layout.to_maps(array, layer.name)
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

    Returns
    -------
    Plan

    Raises
    ------
    GeedError
        If a tensor named for a measure does not fit it.
        If an output action does not fit its tensor or the group.
        If nothing is left to measure.
    """

    def on_maps(shape: tuple[int, int, int]) -> GridAction | PlacedAction:
        """Return how maps (C, H, W) move along with the input."""
        if own is None:
            return grid_action(group, *shape[1:], interpolation)
        return _own_on_maps(own, shape)

    measures: list[Measure] = []
    told = list(notes)
    misfits: dict[str, GeedError] = {}
    for request, layer in selected:
        try:
            table, kind = tables.get(layer.name), kinds.get(layer.name)
            measure = _bind(request.measure, layer, group, on_maps, support, kind, table)
        except GeedError as error:
            if request.layer is not None or layer.name in tables:
                raise
            told.append(f"left out: {error}")
            misfits.setdefault(request.measure, error)
            continue
        if all((m.name, m.layer) != (measure.name, measure.layer) for m in measures):
            measures.append(measure)
    for request, _ in selected:
        if request.asked and all(m.name != request.measure for m in measures):
            raise misfits[request.measure]
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
    return Plan(group, tuple(measures), layers, tuple(input_exact), tuple(told))


def _bind(
    name: str,
    layer: Layer,
    group: Group,
    on_maps: _OnMaps,
    support: Support,
    kind: str | None,
    table: Table | None,
) -> Measure:
    """Bind a measure to a tensor, or refuse a tensor that does not fit it."""
    descriptor, bound = descriptor_of(name), f"{name}@{layer.name}"
    if layer.layout == "?":
        raise GeedError(f"{bound}: {layer.layout_advice}")
    if descriptor.view == "maps":
        grid = _grid_action_of(bound, layer, descriptor, on_maps, table)
        return Measure(name, layer.name, grid, support)
    blank = np.zeros((1, 1, *layer.shape), dtype=np.float32)
    try:
        length = view(layer, descriptor, blank).shape[-1]
    except GeedError as error:
        raise GeedError(f"{bound}: {error}; its shape is {layer.shape_text}") from None
    if descriptor.actions == "trivial":
        return Measure(name, layer.name, Trivial(group))
    scores = descriptor.view == "scores"
    if scores:
        _check_scores(bound, layer, kind)
        length = max(length, 2)
    action: Trivial | Permutation | Matrices = Trivial(group)
    if table is not None and table.kind != "channels":
        action = vector_action(table, group)
        if table.values.shape[1] != length:
            raise GeedError(
                f"{table.source}: a table for {table.values.shape[1]} entries, {layer.name} has "
                f"{length}"
            )
    if not scores:
        return Measure(name, layer.name, action)
    return Measure(
        name, layer.name, action, kind="probabilities" if kind == "probabilities" else "logits"
    )


def _grid_action_of(
    bound: str, layer: Layer, descriptor: Descriptor, on_maps: _OnMaps, table: Table | None
) -> GridAction | PlacedAction:
    """Return the input's action on the grid of a tensor, with a channel table if one was given."""
    if len(layer.shape) != (2 if parse_layout(layer.layout).grid else 3):
        raise GeedError(
            f"{bound}: channelwise cosine takes feature maps, found {layer.shape_text}; tokens "
            "need --layout LAYER=NTD:<H>x<W>"
        )
    blank = np.zeros((1, 1, *layer.shape), dtype=np.float32)
    channels, height, width = view(layer, descriptor, blank).shape[2:]
    if height < 2 or width < 2:
        raise GeedError(f"{bound}: a grid of {height}×{width} is no map; take a latent measure")
    try:
        action = on_maps((channels, height, width))
    except GeedError as error:
        raise GeedError(f"{bound}: {error}") from None
    if table is None or table.kind != "channels":
        return action
    if table.values.shape[1] != channels:
        raise GeedError(
            f"{table.source}: a table for {table.values.shape[1]} channels, {layer.name} has "
            f"{channels}"
        )
    if not isinstance(action, GridAction):
        raise GeedError(
            f"{table.source}: a table of channels goes with a named group; the action "
            f"{action.name!r} says itself how channels move"
        )
    return with_channels(action, table)


def _own_on_maps(own: PlacedAction, shape: tuple[int, int, int]) -> GridAction | PlacedAction:
    """Return a user's own action on hidden maps, where it says how it acts on them."""
    action = own.at(parse_layout("NCHW"), shape)
    if isinstance(action, GridAction | PlacedAction):
        return action
    raise GeedError(
        f"the action {own.name!r} does not say how maps of {' × '.join(map(str, shape))} move: "
        "give it a method at(layout, shape) that returns an action for them, or leave channel-cos "
        "out"
    )


def _check_scores(bound: str, layer: Layer, kind: str | None) -> None:
    """Refuse a tensor that holds no class scores."""
    if len(layer.shape) == 3 and max(layer.shape[:2]) > 1 and layer.shape[-2:] != (1, 1):
        raise GeedError(f"{bound}: class scores are (N, n), found {layer.shape_text}")
    if kind not in ("logits", "probabilities", "embedding", None):
        chosen = "" if "output" in layer.roles else f"--output {layer.name} and "
        raise GeedError(
            f"{bound}: holds {kind}, which are not plainly class scores; name those "
            f"with --output NAME, or say what this is with {chosen}"
            "--output-kind logits, probabilities or embedding"
        )
    if kind not in ("logits", "probabilities"):
        raise GeedError(
            f"{bound}: the output is {kind or 'of an unknown kind'}, not class scores; "
            "--output-kind logits or probabilities says otherwise"
        )
