"""A scale to read values by: the same network, with its weights drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.graph import Model
from onnx_geed.prepare import Prepared
from onnx_geed.redraw import redraw
from onnx_geed.trial import reopen

__all__ = ["add_untrained", "untrained"]

# What of a record stays.
_KEPT = (
    *("value", "ci95", "unnormalised", "samples", "normaliser"),
    *("between_samples", "relative"),
)
# Samples over which layers are levelled.
_LEVELLED_OVER = 8


def untrained(prepared: Prepared) -> tuple[Prepared, list[str]]:
    """Return the same measurement of the same network untrained.

    Parameters
    ----------
    prepared : Prepared
        What was measured.

    Returns
    -------
    other : Prepared
        To be run like it: same samples, plan and passes.
    notes : list of str
        What was kept of the trained network.

    Raises
    ------
    GeedError
        If :func:`onnx_geed.redraw.redraw` refuses, or the network cannot be run.

    Notes
    -----
    Choice: weights as :func:`onnx_geed.redraw.redraw` says, from the seed of the run; then every
    linear layer is levelled over the identity of the first 8 samples of D, the classifier too.
    """
    source = prepared.source

    def spreads(model: Model, names: Sequence[str]) -> list[NDArray[np.float32]]:
        session = reopen(prepared.session, model, names)

        def run(count: int) -> list[NDArray[np.float32]]:
            rows = source.rows(range(count), orbits=False)
            return session.run(rows, source.other_inputs(range(count), 1))

        try:
            most = session.fixed or _LEVELLED_OVER
            return run(min(_LEVELLED_OVER, len(source.indices), most))
        except GeedError:
            return run(1)  # a model may take no more than one row

    found = redraw(prepared.graph, prepared.options.seed).levelled(spreads)
    notes = []
    if found.kept:
        more = f" and {len(found.kept) - 3} more" if len(found.kept) > 3 else ""
        notes.append(
            f"--untrained kept {', '.join(found.kept[:3])}{more}: constants that belong to no "
            "layer that is known as one with weights"
        )
    layers = list(prepared.plan.layers)
    session = prepared.session
    if len(prepared.passes) == 1:
        session = reopen(session, found.model, layers)
    return replace(prepared, graph=found.model, session=session), notes


def add_untrained(
    records: Sequence[dict[str, Any]], others: Sequence[Mapping[str, Any]], seed: int
) -> None:
    """Enter the untrained network's values among the records' references.

    Parameters
    ----------
    records : sequence of dict
        The network's records; changed in place.
    others : sequence of mapping
        Those of the untrained one, in the same order.
    seed : int
        Seed of its weights.
    """
    for record, other in zip(records, others, strict=True):
        entry = {key: other.get(key) for key in _KEPT} | {"seed": seed}
        record["references"] = (record["references"] or {}) | {"untrained": entry}
