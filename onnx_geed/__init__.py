"""G-empirical equivariance deviation (Kvinge et al. 2022) of ONNX models.

The public names are attached when they are first used, so that importing the package loads neither
ONNX Runtime nor numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_geed.actions import (
        GridAction,
        disk_mask,
        grid_action,
        orbit,
    )
    from onnx_geed.arrays import (
        channel_cos,
        channel_sums,
        latent_cos,
        latent_l2,
        output_l2,
        softmax_kl,
    )
    from onnx_geed.caching import write_cache
    from onnx_geed.comparison import aggregate, compare
    from onnx_geed.compiling import compile_measurement
    from onnx_geed.data import Samples, open_samples
    from onnx_geed.diagnosis import diagnose
    from onnx_geed.eed import Measure, normaliser, orbit_deviations
    from onnx_geed.errors import GeedError
    from onnx_geed.graph import Model, load_model
    from onnx_geed.groups import Group, cyclic, dihedral, parse_group, product
    from onnx_geed.offline import measure_cache
    from onnx_geed.options import Options
    from onnx_geed.page import write_report
    from onnx_geed.pipeline import measure
    from onnx_geed.preprocess import Preprocess, parse_preprocess
    from onnx_geed.results import read_result, write_json
    from onnx_geed.suite import benchmark
    from onnx_geed.tables import Table, read_table, with_channels
    from onnx_geed.vectors import Matrices, Permutation, Trivial

_HOMES: dict[str, tuple[str, ...]] = {
    "actions": (
        "GridAction",
        "disk_mask",
        "grid_action",
        "orbit",
    ),
    "caching": ("write_cache",),
    "comparison": ("aggregate", "compare"),
    "compiling": ("compile_measurement",),
    "offline": ("measure_cache",),
    "data": ("Samples", "open_samples"),
    "arrays": (
        "channel_cos",
        "channel_sums",
        "latent_cos",
        "latent_l2",
        "output_l2",
        "softmax_kl",
    ),
    "eed": ("Measure", "normaliser", "orbit_deviations"),
    "vectors": ("Matrices", "Permutation", "Trivial"),
    "diagnosis": ("diagnose",),
    "page": ("write_report",),
    "errors": ("GeedError",),
    "graph": ("Model", "load_model"),
    "points": ("Tensor", "tensors"),
    "groups": ("Group", "cyclic", "dihedral", "parse_group", "product"),
    "pipeline": ("measure",),
    "options": ("Options",),
    "preprocess": ("Preprocess", "parse_preprocess"),
    "results": ("read_result", "write_json"),
    "suite": ("benchmark",),
    "tables": ("Table", "read_table", "with_channels"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'onnx_geed' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"onnx_geed.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
