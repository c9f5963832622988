"""The nine classic graphs that the onnx wheel carries, refilled with seeded random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"
_ALL = (
    "bvlc_alexnet densenet121 inception_v1 inception_v2 resnet50 shufflenet squeezenet vgg19 "
    "zfnet512"
)
NAMES = tuple(_ALL.split())
#: Those without dense layers of hundreds of megabytes.
SMALL = tuple(n for n in NAMES if n not in ("bvlc_alexnet", "vgg19", "zfnet512"))


def path(name: str) -> Path:
    return FOLDER / f"light_{name}.onnx"


def refilled(name: str, seed: int = 0) -> onnx.ModelProto:
    """A graph whose ConstantOfShape weights are replaced by initializers."""
    model = onnx.load(path(name))
    graph, rng = model.graph, np.random.default_rng(seed)
    stored = {i.name: i for i in graph.initializer}
    readers = {x: (n, i) for n in graph.node for i, x in enumerate(n.input)}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(n) for n in numpy_helper.to_array(stored[node.input[0]]))
        reader, position = readers[node.output[0]]
        while reader.op_type == "Unsqueeze":
            reader, position = readers[reader.output[0]]
        values = rng.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            values *= np.float32((2 / np.prod(shape[1:])) ** 0.5)
        elif reader.op_type == "Mul" or (reader.op_type, position) in (
            ("BatchNormalization", 1),
            ("BatchNormalization", 4),
        ):
            values = 1 + values**2 / 10  # scales and variances
        else:
            values /= 10
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del graph.node[:]
    graph.node.extend(copies)
    return model
