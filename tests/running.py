"""The plainest way to run a model: one session, named tensors, no package code."""

from __future__ import annotations

import naive
import numpy as np
import onnx
import onnxruntime as ort


def session(source):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not isinstance(source, str):
        source = source.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def exposed(model, names):
    """The model with `names` as its outputs, by the runtime's own type inference."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return copy


def run(model, x, names, batch=None, **feeds):
    """Tensors of `names` for samples x, in batches of at most `batch`."""
    live = session(exposed(model, names))
    batch = len(x) if batch is None else batch
    parts = []
    for at in range(0, len(x), batch):
        more = {key: value[at : at + batch] for key, value in feeds.items()}
        parts.append(live.run(None, {"x": x[at : at + batch], **more}))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def orbits(model, group, x, names, batch):
    """Activations (N, |G|, ...) of the orbits of x."""
    moved = naive.orbit(group, x).astype(np.float32)
    flat = moved.reshape(-1, *x.shape[1:])
    values = run(model, flat, names, batch)
    return [v.reshape(*moved.shape[:2], *v.shape[1:]) for v in values]


def images(shape, n=5, seed=0):
    return np.random.default_rng(seed).random((n, *shape)).astype(np.float32)
