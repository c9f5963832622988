"""Which engine computes the deviations: loops on the host, or nodes in the model's graph."""

from __future__ import annotations

from typing import Literal

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.fused import to_measure_inside
from onnx_geed.options import Options
from onnx_geed.orbits import Source
from onnx_geed.plan import Plan
from onnx_geed.trial import Trial

__all__ = ["Chosen", "choose_engine", "graph_bytes", "without_graph"]

Chosen = Literal["kernels", "graph"]


def choose_engine(trial: Trial, options: Options) -> tuple[Chosen, list[str]]:
    """Return the engine, and what is to be said of it.

    Raises
    ------
    GeedError
        If the graph was asked for, and the model cannot be measured inside one.
    """
    cuda = trial.session.provider == "cuda"
    if options.engine == "kernels" or (options.engine == "auto" and not cuda):
        return "kernels", []
    if trial.one_by_one:
        return without_graph(options, "the model runs one sample at a time")
    if trial.session.fixed:
        return without_graph(options, f"the model takes {trial.session.fixed} rows, no others")
    if trial.unproven and options.engine == "auto":
        return without_graph(
            options, f"the graph does not prove that rows are independent ({trial.unproven})"
        )
    try:
        to_measure_inside(trial.graph)
    except GeedError as error:
        return without_graph(options, str(error))
    if trial.session.dtype == np.float16 and not cuda:
        return "graph", [
            "half precision is not rounded to between the nodes of a graph on the processor: "
            "figures differ from those of --engine kernels by that rounding"
        ]
    return "graph", []


def without_graph(options: Options, reason: str) -> tuple[Chosen, list[str]]:
    """Return the kernels and the reason, or refuse where the graph was asked for.

    Raises
    ------
    GeedError
        If it was.
    """
    if options.engine == "graph":
        raise GeedError(f"--engine graph: {reason}; use --engine kernels, or leave it out")
    return "kernels", [f"--engine auto took kernels: {reason}"]


def graph_bytes(plan: Plan, source: Source) -> int:
    """What the nodes of the largest layer hold beside its activations, for one row.

    Both maps and their products in float64, and what one resampling reads.
    """
    bases, _, taps = map(int, source.action.index.shape)
    largest = max((layer.bytes for layer in plan.layers.values()), default=0)
    return largest * (8 + -(-2 * bases * taps // plan.group.order))
