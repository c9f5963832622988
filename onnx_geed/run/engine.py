"""An engine: a job in, statistics of its orbits out. Which one a run takes, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.measures import Measure, check_written_as_nodes
from onnx_geed.run.fuse import check_graph_can_measure, to_measure_inside
from onnx_geed.run.job import EngineName, Job
from onnx_geed.run.options import Options
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.source import Source
from onnx_geed.run.trial import Trial

__all__ = ["Engine", "choose_engine", "without_graph"]


class Engine(Protocol):
    """Where deviations are computed. One is open for the layers of one pass."""

    def run(self, job: Job) -> OrbitStatistics:
        """Run a job and reduce it; called from several threads at once.

        Raises
        ------
        GeedError
            If a sample cannot be read, or the model fails on it or gives NaN or infinity.
            If rows of a batch depend on each other.
        """


def choose_engine(
    trial: Trial,
    options: Options,
    source: Source,
    measures: Sequence[Measure] = (),
) -> tuple[EngineName, list[str]]:
    """Return the engine, and notes on why.

    Raises
    ------
    GeedError
        If the graph was asked for, and the model or a measure cannot be measured inside one.
    """
    cuda = trial.session.provider == "cuda"
    if options.engine == "kernels" or (options.engine == "auto" and not cuda):
        return "kernels", []
    try:
        check_graph_can_measure(source)
    except GeedError as error:
        return without_graph(options, str(error))
    if trial.one_by_one:
        return without_graph(options, "the model runs one sample at a time")
    if trial.session.fixed:
        return without_graph(options, f"the model takes exactly {trial.session.fixed} rows")
    if trial.unproven and options.engine == "auto":
        return without_graph(
            options, f"the graph does not prove that rows are independent ({trial.unproven})"
        )
    try:
        check_written_as_nodes(measures)
        to_measure_inside(trial.graph)
    except GeedError as error:
        return without_graph(options, str(error))
    rounded = trial.session.dtype == np.float16 or any(m.layer in trial.half for m in measures)
    if rounded and not cuda:
        return "graph", [
            "on the CPU, a graph does not round to half precision between nodes, so values differ "
            "from those of --engine kernels by that rounding"
        ]
    return "graph", []


def without_graph(options: Options, reason: str) -> tuple[EngineName, list[str]]:
    """Return the kernels and the reason, or refuse where the graph was asked for.

    Raises
    ------
    GeedError
        If it was.
    """
    if options.engine == "graph":
        raise GeedError(f"--engine graph: {reason}; use --engine kernels, or leave it out")
    return "kernels", [f"--engine auto uses kernels: {reason}"]
