"""The provenance of a result: software, model, data, group, runtime."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.confinement import confined
from onnx_geed.data import Intake, fingerprint_of, preprocess_to_json
from onnx_geed.errors import without_secrets
from onnx_geed.groups import LayoutAction, PlacedAction
from onnx_geed.measures import Plan
from onnx_geed.model import Model
from onnx_geed.results import DataPart, GroupPart, InputPart, ModelPart, RuntimePart
from onnx_geed.run.executor import Workforce, cores
from onnx_geed.run.fit_overlap import marks_in_source
from onnx_geed.run.job import Task
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.session import OPTIMISATION
from onnx_geed.run.source import Source

__all__ = [
    "describe_data",
    "describe_group",
    "describe_model",
    "describe_runtime",
    "describe_targets",
    "digest_of_mask",
    "digests_of_feeds",
    "software_versions",
]


# Hexadecimal digits that tell a sample's values from others, as those of samples themselves do.
_MARK = 16


def software_versions() -> dict[str, str]:
    """Return the versions of the software that computes the numbers."""
    versions = {"python": platform.python_version()}
    names = ("onnx-geed", "numpy", "numba", "onnx", "onnxruntime", "onnxruntime-gpu", "h5py")
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_model(model: Model) -> ModelPart:
    """Return the ``model`` part of a result."""
    described: ModelPart = {
        "path": model.called,
        "sha256": model.sha256,
        "opset": model.opset,
        "producer": model.producer,
    }
    if model.function is not None:
        described["kind"] = "callable"
    return described


def describe_data(source: Source, targets: Mapping[str, str] | None = None) -> DataPart:
    """Return the ``data`` part of a result; for its fingerprint, samples not yet fed are read.

    Parameters
    ----------
    source : Source
        The samples, and what is fed with them.
    targets : mapping of str to str, optional
        From :func:`describe_targets`.
    """
    samples, indices = source.samples, source.indices
    names, labels = samples.names, samples.labels
    intake = source.main.intake or Intake(samples, indices)
    described: DataPart = {
        "source": samples.source,
        "fingerprint": intake.fingerprint(len(indices)),
        "available": len(samples),
        "indices": list(indices),
        "names": [names[i] for i in indices] if names else None,
        "labels": [labels[i] for i in indices] if labels else None,
        "marks": intake.marks(len(indices)),
        "preprocess": json.loads(preprocess_to_json(samples.preprocess)),
        "layout": source.layout,
        "shape": list(source.row_shape),
    }
    if (backdrop := source.main.backdrop) is not None:
        described["masks"] = {
            "source": backdrop.source,
            "fingerprint": backdrop.masks_fingerprint(indices),
            "marks": backdrop.marks_of_masks(indices),
        }
    if source.partners or samples.dtype != np.float32:
        named = {source.main.opening.name or "": source.main, **source.partners}
        described["inputs"] = [
            _describe_input(name, moved, len(indices), source.main) for name, moved in named.items()
        ]
    if fed := digests_of_feeds(source):
        described["fed"] = fed
        described["fed_marks"] = _marks_of_feeds(source)
    if (marks := marks_in_source(source)).inputs:
        described["wholes"] = {"inputs": list(marks.inputs), "marks": list(marks.wholes)}
    described["mask"] = digest_of_mask(source)
    if targets:
        described["targets"] = dict(targets)
    return described


def digests_of_feeds(source: Source) -> dict[str, str]:
    """Return digests of what the other inputs are fed with the samples, by name.

    Of values, whatever their type, and whether one row was given for all or the same for each.
    """
    return {n: _digest_of(feed.rows_of(source.indices)) for n, feed in source.feeds.items()}


def _marks_of_feeds(source: Source) -> dict[str, list[str]]:
    """Return digests of what the other inputs are fed with each sample, or one for all, by name.

    A value that is fed whole, without rows, is the same for any number of samples.
    """
    return {
        name: [_digest_of(row)[:_MARK] for row in feed.rows_of(source.indices)]
        for name, feed in source.feeds.items()
        if feed.rows != "whole"
    }


def _digest_of(rows: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{rows.shape}".encode())
    wide = "<c16" if rows.dtype.kind == "c" else "<f8"
    for row in rows if rows.ndim else (rows,):  # one by one, since they are held twice
        digest.update(row.astype(wide).tobytes())
    return digest.hexdigest()


def digest_of_mask(source: Source) -> str | None:
    """Return a digest of which entries of the samples are real, where a mask leaves some out."""
    real = None if source.mask is None else source.mask.real[list(source.indices)]
    return None if real is None or real.all() else fingerprint_of(real).hexdigest()


def describe_targets(plan: Plan, count: int) -> dict[str, str]:
    """Return digests of the targets of the first samples of D, by tensor."""
    named = {m.layer for m in plan.measures if m.target}
    return {name: fingerprint_of(plan.truths[name][:count]).hexdigest() for name in sorted(named)}


def _describe_input(name: str, moved: MovedInput, count: int, main: MovedInput) -> InputPart:
    """Return what an input is that the group moves, and a fingerprint of its first samples."""
    intake = moved.intake or Intake(moved.samples, moved.indices)
    described: InputPart = {
        "name": name,
        "source": moved.samples.source,
        "layout": moved.layout,
        "shape": list(moved.row_shape),
        "dtype": str(moved.samples.dtype),
        "fingerprint": intake.fingerprint(count),
    }
    if moved is not main:
        described["marks"] = intake.marks(count)
        described["preprocess"] = json.loads(preprocess_to_json(moved.samples.preprocess))
    return described


def describe_group(task: Task) -> GroupPart:
    """Return the ``group`` part of a result."""
    group, action = task.plan.group, task.source.action
    described: GroupPart = {
        "name": without_secrets(group.name),
        "kind": group.kind,
        "order": group.order,
        "elements": list(group.elements),
        "exact": list(task.plan.exact),
        # Of an action of one's own nobody else knows how it resamples.
        "interpolation": action.interpolation if isinstance(action, LayoutAction) else "own",
        "support": "disk" if task.source.disk else "full",
    }
    if isinstance(action, PlacedAction):
        described["action"] = action.name
    if group.components != "right-down":
        described["components"] = group.components
    if group.family is not None:
        family = group.family
        described["parameters"] = list(family.values)
        described["parameter"], described["unit"] = family.parameter, family.unit
        if family.grid is not None:
            described["grid"] = list(family.grid)
        if family.clip:
            described["clip"] = True
    if (backdrop := task.source.main.backdrop) is not None:
        described["backgrounds"] = backdrop.digest
    if task.source.main.members:
        described["members"] = task.source.main.members
    if group.small is not None:
        described["step"] = float(group.small.step)
        described["grid"] = list(group.small.grid or ())
    return described


def describe_runtime(
    task: Task, seconds: float = 0.0, inferences: int = 0, workforce: Workforce | None = None
) -> RuntimePart:
    """Return the ``runtime`` part of a result, with who ran it where that is one workforce."""
    network = task.network
    described: RuntimePart = {
        "provider": network.provider,
        "device": "CUDA device 0, TF32 off" if network.provider == "cuda" else _processor(),
        "precision": str(network.dtype),
        "engine": task.engine,
        "optimisation": OPTIMISATION,
        "batch_size": task.batch,
        "seconds": round(seconds, 3),
        "inferences": inferences,
    }
    if network.graph.function is not None:
        del described["optimisation"]
        described["provider"] = "callable"
    if workforce is not None:
        described["executor"], described["nodes"] = workforce.executor, workforce.nodes
        described["workers"] = workforce.workers
    if (how := confined()) is not None:
        described["isolated"] = how.protections
    return described


def _processor() -> str:
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {cores()} cores"
