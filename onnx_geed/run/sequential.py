"""Sequential measuring: orbits in steps, until the intervals are narrow enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx_geed.measures import Plan
from onnx_geed.results import PrecisionPart, Record, ended, judge_precision, looks
from onnx_geed.run.orbit_statistics import OrbitStatistics, join

__all__ = ["Measured", "measure_until"]


@dataclass(frozen=True)
class Measured:
    """The orbits that were measured.

    Parameters
    ----------
    count : int
        How many they are.
    statistics : OrbitStatistics
        Their statistics.
    records : list of dict
        Entries of a result's ``measurements``.
    precision : dict, optional
        The ``precision`` part of the result, where one was asked for.
    """

    count: int
    statistics: OrbitStatistics
    records: list[Record]
    precision: PrecisionPart | None = None


def measure_until(
    plan: Plan,
    count: int,
    precision: float | None,
    run: Callable[[int, int], OrbitStatistics],
    records: Callable[[OrbitStatistics], list[Record]],
) -> Measured:
    """Measure all orbits, or only as many as a precision takes.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.
    count : int
        Size of D, or the most orbits.
    precision : float, optional
        As in :class:`onnx_geed.Options`.
    run : callable
        Gives the statistics of the orbits from one position to before another.
    records : callable
        Makes records of all that was run.

    Returns
    -------
    Measured
    """
    statistics, start = OrbitStatistics(), 0
    for stop in [count] if precision is None else looks(count):
        statistics = join(plan, [statistics, run(start, stop)])
        measured = Measured(stop, statistics, records(statistics))
        if precision is not None:
            judged = judge_precision(measured.records, precision)
            measured = Measured(stop, statistics, measured.records, judged)
            if ended(judged):
                break
        start = stop
    return measured
