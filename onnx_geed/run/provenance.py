"""What a result says of its making: software, model, data, group, runtime."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path

from onnx_geed.data import Intake, preprocess_to_json
from onnx_geed.model import Model
from onnx_geed.results import DataPart, GroupPart, ModelPart, RuntimePart
from onnx_geed.run.executor import cores
from onnx_geed.run.job import Prepared

__all__ = [
    "describe_data",
    "describe_group",
    "describe_model",
    "describe_runtime",
    "software_versions",
]


def software_versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    versions = {"python": platform.python_version()}
    names = ("onnx-geed", "numpy", "numba", "onnx", "onnxruntime", "onnxruntime-gpu", "h5py")
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_model(model: Model) -> ModelPart:
    """The ``model`` part of a result."""
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        "opset": model.opset,
        "producer": model.producer,
    }


def describe_data(prepared: Prepared) -> DataPart:
    """The ``data`` part of a result."""
    source = prepared.source
    samples, indices = source.samples, source.indices
    names, labels = samples.names, samples.labels
    intake = source.intake or Intake(samples, indices)
    return {
        "source": samples.source,
        "fingerprint": intake.fingerprint(len(indices)),
        "available": len(samples),
        "indices": list(indices),
        "names": [names[i] for i in indices] if names else None,
        "labels": [labels[i] for i in indices] if labels else None,
        "marks": intake.marks(len(indices)),
        "preprocess": json.loads(preprocess_to_json(samples.preprocess)),
        "layout": source.layout,
        "shape": list(source.rows([0], orbits=False).shape[1:]),
    }


def describe_group(prepared: Prepared) -> GroupPart:
    """The ``group`` part of a result."""
    group = prepared.plan.group
    return {
        "name": group.name,
        "order": group.order,
        "elements": list(group.elements),
        "exact": list(prepared.plan.exact),
        "interpolation": prepared.options.interpolation,
        "support": prepared.options.support,
    }


def describe_runtime(prepared: Prepared, seconds: float = 0.0, inferences: int = 0) -> RuntimePart:
    """The ``runtime`` part of a result."""
    cuda = prepared.session.provider == "cuda"
    return {
        "provider": prepared.session.provider,
        "device": "CUDA device 0, TF32 off" if cuda else _processor(),
        "precision": str(prepared.session.dtype),
        "engine": prepared.engine,
        "optimisation": "all",
        "batch_size": prepared.batch,
        "seconds": round(seconds, 3),
        "inferences": inferences,
    }


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
