"""What a measurement as a graph yields: deviations measure by measure, and sums of whole stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

from onnx_geed.groups import LayoutAction
from onnx_geed.measures import (
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
    outputs: list[Output] = []
    seen: dict[tuple[str, str], str] = {}
    points: set[str] = set()
    ranged: set[str] = set()
    names = plan.group.elements
    n = len(names)

    def give(tensor: str, part: str, measure: Measure, *shape: Any, of: Any = ()) -> None:
        name = f"{part}/{measure.layer}"
        if part not in ("latent", "range"):
            name = f"{part}/{measure.name}/{measure.layer}"
        nodes.written.append(helper.make_node("Identity", [tensor], [name], name=nodes.named(name)))
        outputs.append(Output(name, part, measure, ("N", *shape), tuple(of)))

    for measure in measures:
        layer = plan.layers[measure.layer]
        scores = measure.descriptor.of_classes
        form = {"maps": "maps", "whole": "whole"}.get(measure.descriptor.view, "points")
        form = form if measure.places is None else "places"
        key = (measure.layer, form)
        if key not in seen:
            scope = nodes.within(f"{form}/{measure.layer}")
            seen[key] = activation_nodes(scope, measure.layer, layer, n, measure)
        if measure.descriptor.normaliser is not None and measure.layer not in points:
            points.add(measure.layer)
            identity = identity_nodes(nodes.within(f"points/{measure.layer}"), seen[key])
            give(identity, "latent", measure, layer.point_length)
        y = seen[key]
        if measure.descriptor.spread:
            within, size = nodes.within(f"spread/{measure.layer}"), _size(measure, layer)
            whole = within.reshape(identity_nodes(within, y), [-1, size], "end_to_end")
            give(whole, "identity", measure, size)
        own = nodes.within(f"{measure.name}/{measure.layer}")
        parts = deviation_nodes(own, measure, y, layer)
        give(parts.values, "deviation", measure, n, of=names)
        if parts.zero_pairs:
            give(parts.zero_pairs, "zeros", measure, n, of=names)
        members = plan.exact_subgroup(measure)
        if parts.channels and doubt:
            for part, chosen in (
                ("channels", range(n)[measure.counted]),
                ("exact channels", members),
            ):
                if chosen:
                    mean = channel_mean_nodes(own.within(part), parts.channels, list(chosen))
                    give(mean, part, measure, f"channels of {layer.name}")
        give(parts.energy, "energy", measure, n, of=names)
        if scores and measure.reads == "probabilities" and measure.layer not in ranged:
            ranged.add(measure.layer)
            within = own.within("range")
            flat = (
                within.reshape(y, [-1, n, _size(measure, layer)], "flat") if measure.places else y
            )
            give(value_range_nodes(within, flat), "range", measure, 2)
        if measure.descriptor.view == "classes" and doubt:
            counts = class_count_nodes(own.within("counts"), measure, y, layer)
            give(counts, "counts", measure, layer.classes)
        if doubt and measure.places is not None and parts.scores:
            places = f"places of {layer.name}"
            own_classes = place_class_nodes(own.within("classes"), measure, parts.scores, layer)
            give(own_classes, "classes", measure, n, places)
            if measure.background is not None and parts.at_places:
                give(parts.at_places, "at places", measure, n, places)
        if scores and doubt and measure.places is None:
            number = predicted_class_nodes(own.within("class"), measure, y, layer)
            give(number, "class", measure, n)
        if members and not set(measure.averaged) <= set(members):
            of_subgroup = deviation_nodes(own.within("exact"), measure, y, layer, members)
            picked = [names[g] for g in members]
            give(of_subgroup.values, "exact", measure, len(members), of=picked)
        other = measure.other_reading() if doubt else None
        if other:
            turned = deviation_nodes(own.within("inverse"), other, y, layer)
            give(turned.values, "inverse", measure, n, of=names)
    return outputs


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
