"""The functions that measure, as Python has them: each gives a :class:`Result`."""

from __future__ import annotations

from onnx_geed import cache, run
from onnx_geed.notebook.giving import giving_result, giving_results

__all__ = ["measure", "measure_cache", "measure_groups", "merge"]

measure = giving_result(run.measure, __name__)
measure_groups = giving_results(run.measure_groups, __name__)
measure_cache = giving_result(cache.measure_cache, __name__)
merge = giving_result(run.merge, __name__)
