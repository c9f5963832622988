"""What is measured where: requests and a model's tensors → measures bound to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    GridAction,
    Group,
    Interpolation,
    Permutation,
    Table,
    Trivial,
    grid_action,
    parse_layout,
    rows_for,
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

__all__ = ["Layer", "Plan", "inverse_of", "make_plan", "unknown_layout", "view"]


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
        As :func:`onnx_geed.layouts.check_layout` takes it, ``NK``, or ``?`` for rank 4 where it is
        unknown.
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


@dataclass(frozen=True)
class Plan:
    """Measures to take, with what the report says of them.

    Parameters
    ----------
    group : Group
        The acting group.
    measures : tuple of Measure
        What is measured, in the order of the report.
    layers : mapping of str to Layer
        The tensors that are needed.
    exact : tuple of bool
        Per element, whether it moves the input exactly.
    notes : tuple of str
        What was left out, and why.
    """

    group: Group
    measures: tuple[Measure, ...]
    layers: Mapping[str, Layer]
    exact: tuple[bool, ...]
    notes: tuple[str, ...] = field(default=())
    _subgroups: dict[tuple[str, str], tuple[int, ...] | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def exact_subgroup(self, measure: Measure) -> tuple[int, ...] | None:
        """Elements exact on input and tensor, if they are a proper subgroup of order ≥ 2."""
        key = measure.name, measure.layer
        if key not in self._subgroups:  # asked for with every job
            both = zip(self.exact, measure.action.exact(), strict=True)
            members = tuple(g for g, exact in enumerate(both) if all(exact))
            proper = 2 <= len(members) < self.group.order
            subgroup = members if proper and self.group.is_subgroup(members) else None
            self._subgroups[key] = subgroup
        return self._subgroups[key]


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
    notes: Sequence[str] = (),
    kept: Sequence[Layer] = (),
) -> Plan:
    """Bind measures to tensors.

    Parameters
    ----------
    group : Group
        The acting group.
    selected : sequence of (Request, Layer)
        Measures and tensors; a request without a layer was not made by name, so that what does not
        fit is left out with a note instead of refused.
    input_exact : sequence of bool
        Per element, whether it moves the input exactly.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of hidden maps.
    support : {"full", "disk"}
        Pixels that ``channel-cos`` compares.
    kinds : mapping of str to str
        By tensor, ``logits`` or ``probabilities`` where ``softmax-kl`` makes sense, else what it
        is instead.
    tables : mapping of str to Table
        Given output actions by tensor.
    notes : sequence of str
        What is already to be said.
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
    measures: list[Measure] = []
    said = list(notes)
    failed: dict[str, GeedError] = {}
    for request, layer in selected:
        try:
            measure = _bind(
                request, layer, group, interpolation, support, kinds.get(layer.name), tables
            )
        except GeedError as error:
            if request.layer is not None or layer.name in tables:
                raise
            said.append(f"left out: {error}")
            failed.setdefault(request.measure, error)
            continue
        if all((m.name, m.layer) != (measure.name, measure.layer) for m in measures):
            measures.append(measure)
    for request, _ in selected:
        if request.asked and all(m.name != request.measure for m in measures):
            raise failed[request.measure]
    if not measures and not kept:
        why = "; ".join(said) or "no tensor fits"
        raise GeedError(
            f"nothing to measure: {why}; name a tensor with --measure NAME@LAYER "
            "(onnx-geed layers lists them)"
        )
    order = list(CATALOGUE)
    measures.sort(key=lambda m: order.index(m.name))
    needed = {layer.name: layer for _, layer in selected}
    layers = {m.layer: needed[m.layer] for m in measures} | {x.name: x for x in kept}
    return Plan(group, tuple(measures), layers, tuple(input_exact), tuple(said))


def _bind(
    request: Request,
    layer: Layer,
    group: Group,
    interpolation: Interpolation,
    support: Support,
    output_kind: str | None,
    tables: Mapping[str, Table],
) -> Measure:
    name, what = request.measure, f"{request.measure}@{layer.name}"
    if layer.layout == "?":
        raise GeedError(f"{what}: {unknown_layout(layer)}")
    blank = np.zeros((1, 1, *layer.shape), dtype=np.float32)
    table = tables.get(layer.name)
    descriptor = descriptor_of(name)
    if descriptor.view == "maps":
        if len(layer.shape) != (2 if parse_layout(layer.layout).grid else 3):
            raise GeedError(
                f"{what}: channelwise cosine takes feature maps, found {_shape(layer)}; tokens "
                "need --layout LAYER=NTD:<H>x<W>"
            )
        channels, height, width = view(layer, descriptor, blank).shape[2:]
        if height < 2 or width < 2:
            raise GeedError(f"{what}: a grid of {height}×{width} is no map; take a latent measure")
        try:
            action: GridAction = grid_action(group, height, width, interpolation)
        except GeedError as error:
            raise GeedError(f"{what}: {error}") from None
        if table is not None and table.kind == "channels":
            if table.values.shape[1] != channels:
                raise GeedError(
                    f"{table.source}: a table for {table.values.shape[1]} channels, {layer.name} "
                    f"has {channels}"
                )
            action = with_channels(action, table)
        return Measure(name, layer.name, action, support)
    try:
        size = view(layer, descriptor, blank).shape[-1]
    except GeedError as error:
        raise GeedError(f"{what}: {error}; its shape is {_shape(layer)}") from None
    if descriptor.actions == "trivial":
        return Measure(name, layer.name, Trivial(group))
    if descriptor.view == "scores":
        if len(layer.shape) == 3 and max(layer.shape[:2]) > 1 and layer.shape[-2:] != (1, 1):
            raise GeedError(f"{what}: class scores are (N, n), found {_shape(layer)}")
        if output_kind not in ("logits", "probabilities", "embedding", None):
            chosen = "" if "output" in layer.roles else f"--output {layer.name} and "
            raise GeedError(
                f"{what}: holds {output_kind}, which are not plainly class scores; name those "
                f"with --output NAME, or say what this is with {chosen}"
                "--output-kind logits, probabilities or embedding"
            )
        if output_kind not in ("logits", "probabilities"):
            raise GeedError(
                f"{what}: the output is {output_kind or 'of an unknown kind'}, not class scores; "
                "--output-kind logits or probabilities says otherwise"
            )
        size = max(size, 2)
    if table is None or table.kind == "channels":
        return Measure(name, layer.name, Trivial(group), kind=_kind(output_kind))
    given = vector_action(table, group)
    if table.values.shape[1] != size:
        raise GeedError(
            f"{table.source}: a table for {table.values.shape[1]} entries, {layer.name} has {size}"
        )
    return Measure(name, layer.name, given, kind=_kind(output_kind))


def _kind(output_kind: str | None) -> Literal["logits", "probabilities"]:
    return "probabilities" if output_kind == "probabilities" else "logits"


def unknown_layout(layer: Layer) -> str:
    """Say what to do about a tensor of which the layout is not known."""
    return (
        f"{layer.name}, {_shape(layer)}: the graph does not tell where its channels are; say so "
        f"with --layout {layer.name}=NCHW or {layer.name}=NHWC"
    )


def _shape(layer: Layer) -> str:
    return f"(N, {', '.join(map(str, layer.shape))})"


def inverse_of(measure: Measure) -> Measure | None:
    """Return the measure with the inverse of a given index table, where that differs.

    Rows for g and g⁻¹ swapped are an action too where the group is abelian, so only the value can
    tell that a table was written the wrong way round.
    """
    action, group = measure.action, measure.action.group
    swapped = [group.inverse(g) for g in range(group.order)]
    if isinstance(action, GridAction) and action.channels is not None:
        turned = action.channels[swapped]
        if np.array_equal(turned, action.channels):
            return None
        table = Table(group.elements, "channels", turned, "inverse")
    elif isinstance(action, Permutation):
        turned = action.table[swapped]
        if np.array_equal(turned, action.table):
            return None
        table = Table(group.elements, "permutation", turned, "inverse")
    else:
        return None
    try:
        rows = rows_for(table, group)
    except GeedError:  # not an action at all where the group is not abelian
        return None
    if isinstance(action, GridAction):
        bare = grid_action(group, *action.shape, action.interpolation)
        return Measure(measure.name, measure.layer, with_channels(bare, table), measure.support)
    return Measure(measure.name, measure.layer, Permutation(group, rows), kind=measure.kind)
