"""What a measurement as a graph yields: deviations measure by measure, and sums of whole stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import helper

from onnx_geed.groups import LayoutAction
from onnx_geed.measures import (
    DeviationNodes,
    Layer,
    Measure,
    Plan,
    StackSums,
    activation_nodes,
    channel_mean_nodes,
    class_count_nodes,
    deviation_nodes,
    identity_nodes,
    place_class_nodes,
    predicted_class_nodes,
    stack_sum_nodes,
    stacks_of,
    value_range_nodes,
)
from onnx_geed.model import Nodes

__all__ = ["Output", "write_measures", "write_stacks"]


@dataclass(frozen=True)
class Output:
    """An output of a measurement.

    Parameters
    ----------
    name : str
        Its name.
    part : str
        ``deviation``, ``zeros``, ``energy``, ``exact``, ``inverse``, ``latent``, ``identity``,
        ``range``, ``class``, ``counts``, ``classes`` or ``at places``.
    measure : Measure
        The measure that it belongs to.
    shape : tuple of str or int
        Its shape; ``N`` is the number of samples.
    elements : tuple of str
        The elements of its axis 1, in order; empty where that axis holds none.
    """

    name: str
    part: str
    measure: Measure = field(repr=False)
    shape: tuple[str | int, ...]
    elements: tuple[str, ...] = ()


def write_measures(
    nodes: Nodes, plan: Plan, measures: Sequence[Measure], *, doubt: bool
) -> list[Output]:
    """Write some measures, each for itself; return what they yield.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    plan : Plan
        The tensors, and the group.
    measures : sequence of Measure
        Which ones.
    doubt : bool
        Whether to measure with the inverse of a given table too, and to yield what is predicted.

    Returns
    -------
    list of Output
    """
    writer = _Writer(nodes, plan, doubt)
    for measure in measures:
        writer.write(measure)
    return writer.outputs


@dataclass(eq=False)
class _Writer:
    """Writes measures one after the other; what several of them read is written once."""

    nodes: Nodes
    plan: Plan
    doubt: bool
    outputs: list[Output] = field(default_factory=list)
    _read: dict[tuple[str, str], str] = field(default_factory=dict)
    _given: set[tuple[str, str]] = field(default_factory=set)

    def write(self, measure: Measure) -> None:
        """Write a measure, and give what it yields as outputs."""
        layer = self.plan.layers[measure.layer]
        y = self._activations(measure, layer)
        self._points(measure, layer, y)
        own, n = self._within(measure), self.plan.group.order
        parts = deviation_nodes(own, measure, y, layer)
        names = self.plan.group.elements
        self._give(parts.values, "deviation", measure, n, of=names)
        if parts.zero_pairs:
            self._give(parts.zero_pairs, "zeros", measure, n, of=names)
        if parts.channels and self.doubt:
            self._channels(measure, layer, parts.channels)
        self._give(parts.energy, "energy", measure, n, of=names)
        if measure.descriptor.of_classes:
            self._scores(measure, layer, y, parts)
        self._exact(measure, layer, y)
        if other := measure.other_reading() if self.doubt else None:
            turned = deviation_nodes(own.within("inverse"), other, y, layer)
            self._give(turned.values, "inverse", measure, n, of=names)

    def _within(self, measure: Measure) -> Nodes:
        return self.nodes.within(f"{measure.name}/{measure.layer}")

    def _give(
        self, tensor: str, part: str, measure: Measure, *shape: str | int, of: Sequence[str] = ()
    ) -> None:
        """Make a tensor an output of the graph."""
        name = f"{part}/{measure.layer}"
        if part not in ("latent", "range"):
            name = f"{part}/{measure.name}/{measure.layer}"
        node = helper.make_node("Identity", [tensor], [name], name=self.nodes.named(name))
        self.nodes.written.append(node)
        self.outputs.append(Output(name, part, measure, ("N", *shape), tuple(of)))

    def _once(self, part: str, measure: Measure) -> bool:
        """Whether a part of a tensor is not yet given: it is the same for all its measures."""
        new = (part, measure.layer) not in self._given
        self._given.add((part, measure.layer))
        return new

    def _activations(self, measure: Measure, layer: Layer) -> str:
        """Return the activations in the form that a measure reads."""
        form = {"maps": "maps", "whole": "whole"}.get(measure.descriptor.view, "points")
        form = form if measure.places is None else "places"
        key = (measure.layer, form)
        if key not in self._read:
            scope, n = self.nodes.within(f"{form}/{measure.layer}"), self.plan.group.order
            self._read[key] = activation_nodes(scope, measure.layer, layer, n, measure)
        return self._read[key]

    def _points(self, measure: Measure, layer: Layer, y: str) -> None:
        """Give what M, or M₂, is computed of."""
        if measure.descriptor.normaliser is not None and self._once("latent", measure):
            identity = identity_nodes(self.nodes.within(f"points/{measure.layer}"), y)
            self._give(identity, "latent", measure, layer.point_length)
        if measure.descriptor.spread:
            within, size = self.nodes.within(f"spread/{measure.layer}"), _size(measure, layer)
            whole = within.reshape(identity_nodes(within, y), [-1, size], "end_to_end")
            self._give(whole, "identity", measure, size)

    def _channels(self, measure: Measure, layer: Layer, channels: str) -> None:
        """Give the mean of each channel, over all elements and over the exact ones."""
        over_all = range(self.plan.group.order)[measure.counted]
        exact = self.plan.exact_subgroup(measure)
        for part, chosen in (("channels", over_all), ("exact channels", exact)):
            if chosen:
                mean = channel_mean_nodes(self._within(measure).within(part), channels, [*chosen])
                self._give(mean, part, measure, f"channels of {layer.name}")

    def _scores(self, measure: Measure, layer: Layer, y: str, parts: DeviationNodes) -> None:
        """Give the range of probabilities, and which classes are predicted."""
        own, n = self._within(measure), self.plan.group.order
        if measure.reads == "probabilities" and self._once("range", measure):
            within, flat = own.within("range"), y
            if measure.places:
                flat = within.reshape(y, [-1, n, _size(measure, layer)], "flat")
            self._give(value_range_nodes(within, flat), "range", measure, 2)
        if not self.doubt:
            return
        if measure.descriptor.view == "classes":
            counts = class_count_nodes(own.within("counts"), measure, y, layer)
            self._give(counts, "counts", measure, layer.classes)
        if measure.places is None:
            number = predicted_class_nodes(own.within("class"), measure, y, layer)
            self._give(number, "class", measure, n)
        elif parts.scores:
            places = f"places of {layer.name}"
            classes = place_class_nodes(own.within("classes"), measure, parts.scores, layer)
            self._give(classes, "classes", measure, n, places)
            if measure.background is not None and parts.at_places:
                self._give(parts.at_places, "at places", measure, n, places)

    def _exact(self, measure: Measure, layer: Layer, y: str) -> None:
        """Give the deviations from the exact subgroup's own mean, where that is another one."""
        members = self.plan.exact_subgroup(measure)
        if members and not set(measure.averaged) <= set(members):
            own = self._within(measure).within("exact")
            of_subgroup = deviation_nodes(own, measure, y, layer, members)
            picked = [self.plan.group.elements[g] for g in members]
            self._give(of_subgroup.values, "exact", measure, len(members), of=picked)


def write_stacks(
    nodes: Nodes, plan: Plan, measures: Sequence[Measure], largest: int
) -> tuple[StackSums, ...]:
    """Write those of some measures that sums of maps are enough for, in stacks.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    plan : Plan
        The tensors, and the group.
    measures : sequence of Measure
        Which ones; others are left to :func:`write_measures`.
    largest : int
        Most bytes of one sample's maps in a stack of several.

    Returns
    -------
    tuple of StackSums
    """
    return tuple(
        stack_sum_nodes(nodes.within(f"stack/{k}"), stack, plan.group.order)
        for k, stack in enumerate(stacks_of(measures, plan.layers, largest))
    )


def _size(measure: Measure, layer: Layer) -> int:
    """Return the number of entries of a tensor that a measure sees whole."""
    if isinstance(measure.action, LayoutAction):
        return int(np.prod(layer.kept_shape))
    return int(np.prod(layer.shape))
