"""What is compared of a run's feature maps: whole tensors, or parts that several of them share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.groups import LayoutAction, parse_layout
from onnx_geed.measures import Layer, MapSums, Measure, Plan, map_sums, view
from onnx_geed.model import Joined
from onnx_geed.run.between_samples import Key
from onnx_geed.run.orbit_reduction import check_shapes

__all__ = ["Term", "Terms", "terms_of"]

F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Term:
    """A map that is compared once, for all measures whose channels it has.

    Parameters
    ----------
    tensor : str
        The tensor: a layer, or a part of it.
    layer : Layer
        The layer, the first one of several, with its layout.
    measure : Measure
        Its measure, with φ_Y and the pixels that are compared.
    """

    tensor: str
    layer: Layer
    measure: Measure

    @property
    def key(self) -> Key:
        """The measure, and what tells this term from its others."""
        name = self.measure.layer
        return self.measure.name, name if self.tensor == name else f"{name}\n{self.tensor}"


@dataclass(frozen=True, eq=False)
class Terms:
    """The maps that some measures are taken from.

    Parameters
    ----------
    measures : tuple of Measure
        The measures, of sums alone.
    all : tuple of Term
        Each map once.
    of_measures : tuple of tuple of int
        The terms of each measure, in the order of its channels.
    apart : mapping of str to Joined
        Layers that are run in parts.
    """

    measures: tuple[Measure, ...]
    all: tuple[Term, ...]
    of_measures: tuple[tuple[int, ...], ...]
    apart: Mapping[str, Joined]
    _tables: dict[range, MapSums] = field(default_factory=dict, init=False, repr=False)

    def tables(self, elements: range) -> MapSums:
        """Return what the sums of all terms need, of some elements; worked out once."""
        found = self._tables.get(elements)
        if found is None:
            found = self._tables[elements] = map_sums([t.measure for t in self.all], elements)
        return found

    def maps(self, arrays: Mapping[str, F32]) -> list[F32]:
        """Return the maps (N, n, rows, F) of each term."""
        return [np.ascontiguousarray(_seen(term, arrays[term.tensor])) for term in self.all]

    def together(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return of each measure what was found of its terms (..., channels, k), side by side."""
        return [
            values[terms[0]]
            if len(terms) == 1
            else np.concatenate([values[t] for t in terms], axis=-2)
            for terms in self.of_measures
        ]

    def check(self, plan: Plan, arrays: Mapping[str, F32]) -> None:
        """Refuse arrays (rows, ...) of another shape than when the model was tried out.

        Raises
        ------
        GeedError
            If there is one, or parts make a layer of another shape.
        """
        check_shapes(plan, {n: a for n, a in arrays.items() if n in plan.layers}, axes=1)
        for name, one in self.apart.items():
            shapes = [arrays[part].shape for part in one.parts]
            length = sum(shape[one.axis] for shape in shapes)
            for shape in shapes:
                whole = (*shape[: one.axis], length, *shape[one.axis + 1 :])
                if whole[1:] != plan.layers[name].shape:
                    check_shapes(plan, {name: np.broadcast_to(np.float32(0), whole)}, axes=1)


def terms_of(
    plan: Plan,
    measures: Sequence[Measure],
    joined: Mapping[str, Joined],
    alone: Collection[str],
) -> Terms:
    """Work out which maps some measures are taken from.

    Parameters
    ----------
    plan : Plan
        Their plan.
    measures : sequence of Measure
        Measures of maps that need their sums alone.
    joined : mapping of str to Joined
        Tensors that can be run in parts.
    alone : collection of str
        Layers that no other measure needs.

    Returns
    -------
    Terms

    Notes
    -----
    The sums of a channel depend on nothing but that channel, unless the action moves channels too;
    so those of a part serve every layer that has it.
    """
    whole = {m.layer for m in measures if not _is_by_channel(m, plan, joined)}
    apart = {n: one for n, one in joined.items() if n in alone and n not in whole}
    found: dict[tuple[object, ...], int] = {}
    terms: list[Term] = []
    of_measures = []
    for m in measures:
        own = []
        for tensor in apart[m.layer].parts if m.layer in apart else (m.layer,):
            layer = plan.layers[m.layer]
            # A layer of its own kind is compared as a part is, where it is part of others.
            shared = _shared(m, layer)
            key = (tensor, *(shared or (m.name, m.layer)))
            if key not in found:
                found[key] = len(terms)
                terms.append(Term(tensor, layer, m))
            own.append(found[key])
        of_measures.append(tuple(own))
    return Terms(tuple(measures), tuple(terms), tuple(of_measures), apart)


def _seen(term: Term, array: F32) -> F32:
    """Return a term's activations (N, n, ...) as its measure sees them, (N, n, rows, F)."""
    if term.tensor == term.layer.name:
        return view(term.layer, term.measure, array)
    kept = parse_layout(term.layer.layout).to_kept(array, term.tensor)
    return kept.reshape(*kept.shape[:3], -1)


def _shared(measure: Measure, layer: Layer) -> tuple[object, ...] | None:
    """Return what decides a channel's sums beside the channel.

    ``None`` where the action moves channels too, or rows of a map are no channels.
    """
    action = measure.action
    if not isinstance(action, LayoutAction) or action.moves_channels:
        return None
    moved = len(action.axes)
    if tuple(action.axes) != tuple(range(-moved, 0)) or len(action.lengths) > moved + 1:
        return None
    return layer.layout, id(action.moves), measure.support


def _is_by_channel(measure: Measure, plan: Plan, joined: Mapping[str, Joined]) -> bool:
    """Whether a measure's layer is others side by side along its channels, each its own matter."""
    layer, one = plan.layers[measure.layer], joined.get(measure.layer)
    return (
        one is not None
        and len(layer.layout) == len(layer.shape) + 1
        and layer.layout[one.axis] == "C"
        and not measure.descriptor.in_tensor_units
        and _shared(measure, layer) is not None
    )
