"""Points for M that were run once, for runs on the same data under several groups."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from onnx_geed.measures import Measure, Plan, view
from onnx_geed.run.job import Job
from onnx_geed.run.orbit_statistics import OrbitStatistics
from onnx_geed.run.prepare import Prepared

__all__ = ["KeptPoints"]

# Bytes of what is kept at most: whole maps, for M₂, may be large.
_KEPT_BYTES = 256 << 20

# Whole numbers that float32 tells apart.
_NUMBERED = 1 << 24


class KeptPoints:
    """Statistics of points for M, by all that decides their bits.

    A point is a sample as it is, whatever the group. It is the same to the last bit where the same
    session runs it among the same rows, and where measures see its tensors in the same order.
    """

    def __init__(self) -> None:
        self._parts: dict[Hashable, list[OrbitStatistics]] = {}
        self._bytes = 0

    def of(self, prepared: Prepared, jobs: Sequence[Job]) -> list[OrbitStatistics] | None:
        """Return what jobs of points would give, if the same were run before."""
        return self._parts.get(_key(prepared, jobs)) if jobs else None

    def keeping(
        self, prepared: Prepared, jobs: Sequence[Job], parts: Iterable[OrbitStatistics]
    ) -> Iterator[OrbitStatistics]:
        """Pass on what jobs give, and keep that of points."""
        points = [job for job in jobs if not job.orbits]
        key = _key(prepared, points) if points else None
        own: list[OrbitStatistics] = []
        for job, part in zip(jobs, parts, strict=True):
            yield part
            if key is None or job.orbits:
                continue
            own.append(part)
            self._bytes += _size(part)
            if self._bytes > _KEPT_BYTES:
                self._bytes -= sum(map(_size, own))
                own, key = [], None
        if key is not None:
            self._parts[key] = own


def _key(prepared: Prepared, points: Sequence[Job]) -> Hashable | None:
    """Return all that decides the bits of points; ``None`` where they are this run's alone."""
    task = prepared.task
    network, source = task.network, task.source
    session = prepared.worker.opened(network)
    # The first element of a sampled group is no identity, and a mask may be the group's own.
    if session is None or task.plan.group.behind is not None or source.mask is not None:
        return None
    layers = points[0].pooled
    seen = [_seen(task.plan, m) for m in task.plan.measures if m.layer in layers]
    if None in seen:
        return None
    how = session.runtime, network.one_by_one, session.fixed, task.batch, layers
    fed = tuple(source.partners), tuple(source.feeds), source.indices
    return how, fed, tuple((job.positions, job.layers) for job in points), tuple(seen)


def _seen(plan: Plan, measure: Measure) -> Hashable | None:
    """Return how a measure sees its tensor; ``None`` where that cannot be told."""
    layer, descriptor = plan.layers[measure.layer], measure.descriptor
    known = measure.name, layer.name, layer.layout, layer.shape
    if not descriptor.spread:
        return known
    # Which entries M₂ adds up one after the other is the output action's.
    size = int(np.prod(layer.shape))
    if size > _NUMBERED:
        return None
    numbered = np.arange(size, dtype=np.float32).reshape(1, 1, *layer.shape)
    order = np.ascontiguousarray(view(layer, measure, numbered))
    return *known, plan.norm_samples, hashlib.sha256(order.tobytes()).digest()


def _size(part: OrbitStatistics) -> int:
    spreads = sum(spread.rows.nbytes for spread in part.spreads.values())
    return spreads + sum(points.nbytes for points in part.points.values())
