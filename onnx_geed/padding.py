"""Where a graph pads its maps with zeros: what wraps around under shifts meets a border there."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from onnx_geed.graph import Model

__all__ = ["zero_padded"]

_WINDOWS = {"Conv", "FusedConv", "QLinearConv", "AveragePool", "MaxPool", "LpPool"}


def zero_padded(model: Model) -> dict[str, str]:
    """Find the nodes that add a border of constant value.

    Parameters
    ----------
    model : Model
        The model.

    Returns
    -------
    dict of str to str
        By the node's name, or that of its output: how a sentence names it. Windows whose
        ``auto_pad`` is SAME count only where they are larger than one pixel.
    """
    values = {t.name: t for t in model.proto.graph.initializer}
    found = {}
    for node in model.proto.graph.node:
        if node.output and _pads(node, values):
            name = node.name or node.output[0]
            found[name] = f"{node.op_type} {name}"
    return found


def _pads(node: onnx.NodeProto, values: dict[str, onnx.TensorProto]) -> bool:
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "Pad":
        mode = attributes["mode"].s.decode() if "mode" in attributes else "constant"
        if mode != "constant":
            return False
        if "pads" in attributes:
            return any(n > 0 for n in attributes["pads"].ints)
        stored = values.get(node.input[1]) if len(node.input) > 1 else None
        # Pads that are computed are taken to be some.
        return stored is None or bool((numpy_helper.to_array(stored) > 0).any())
    if node.op_type not in _WINDOWS:
        return False
    auto = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else "NOTSET"
    if auto.startswith("SAME"):
        window = attributes.get("kernel_shape")
        return window is None or any(n > 1 for n in window.ints)
    return auto == "NOTSET" and "pads" in attributes and any(attributes["pads"].ints)
