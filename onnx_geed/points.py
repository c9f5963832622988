"""A model's tensors: factorisation points, layouts and roles.

A factorisation point is a tensor through which every data path from the acted-on input to the
chosen output passes: enough for f = f₂ ∘ f₁ (section 3 of the paper).
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnx_geed.errors import GeedError, nearest
from onnx_geed.graph import FLOATS, Model, metadata_json, reads, subgraphs

__all__ = ["Tensor", "inferred_shapes", "resolve", "tainted_by", "tensors"]

POINTWISE = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid HardSigmoid HardSwish Swish Mish Tanh Softplus "
    "Softsign ThresholdedRelu Clip Erf Exp Log Sqrt Abs Neg BatchNormalization Dropout Identity "
    "Cast QuantizeLinear DequantizeLinear".split()
)
_ARITHMETIC = frozenset("Add Sub Mul Div Pow Min Max".split())
# Nodes whose output is a feature map because they are only ever applied to one.
_SPATIAL = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv MaxPool AveragePool LpPool QLinearAveragePool LRN "
    "InstanceNormalization Resize Upsample DepthToSpace SpaceToDepth GridSample".split()
)
_SAME_AXES = frozenset("Concat Pad Slice Where LayerNormalization GroupNormalization Sum".split())
_AFFINE = frozenset(
    "Gemm MatMul MatMulInteger QLinearMatMul QGemm FusedMatMul FusedGemm DynamicQuantizeMatMul "
    "MatMulIntegerToFloat".split()
)
# What may stand between the classifier's affine nodes and the output.
_HEAD = POINTWISE | _ARITHMETIC | frozenset(
    "Softmax LogSoftmax Reshape Flatten Squeeze Unsqueeze Transpose GlobalAveragePool "
    "GlobalMaxPool AveragePool ReduceMean ReduceSum Sum Mean QLinearAdd "
    "QLinearGlobalAveragePool DynamicQuantizeLinear".split()
)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph.

    Parameters
    ----------
    name : str
        Its name.
    dtype : str
        ``float32``, ``float16``, ``float64``, ``bfloat16``, another dtype, or ``?``.
    shape : tuple of int or None, or None
        With the batch axis; ``None`` where free or unknown.
    node : str
        The node that makes it.
    op : str
        That node's operator.
    module : str
        The framework's module paths, separated by commas; empty where unknown.
    point : bool
        Whether it is a factorisation point that is offered.
    layout : str
        ``NCHW``, ``NHWC``, ``NTD:..``, ``NTD``, ``NK`` or ``?``.
    roles : tuple of str
        Those of ``channel``, ``latent``, ``output`` that it has by default.
    refused : str
        Why it cannot be measured; empty where it can.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    node: str
    op: str
    module: str = ""
    point: bool = False
    layout: str = "?"
    roles: tuple[str, ...] = ()
    refused: str = ""


def tensors(
    model: Model,
    input: str,
    output: str,
    *,
    input_shape: Sequence[int] | None = None,
    latent: str | None = None,
    layouts: Mapping[str, str] | None = None,
) -> tuple[Tensor, ...]:
    """List a model's tensors in topological order.

    Parameters
    ----------
    model : Model
        The model.
    input, output : str
        The acted-on input and the chosen output.
    input_shape : sequence of int, optional
        Shape of the input with batch 1, where the file leaves lengths free.
    latent : str, optional
        The latent, where it is not to be looked for.
    layouts : mapping of str to str, optional
        Layouts of tensors by name, over those of the metadata.

    Returns
    -------
    tuple of Tensor
        Tensors that cannot be measured carry the reason.

    Raises
    ------
    GeedError
        If no data path leads from the input to the output.
    """
    graph = model.proto.graph
    flow = _Flow(graph, input, output)
    types = _inferred(model.proto, input, input_shape, 1)
    second = _inferred(model.proto, input, input_shape, 3)
    given = {
        key.removeprefix("onnx_geed.layout."): value
        for key, value in model.metadata.items()
        if key.startswith("onnx_geed.layout.")
    } | dict(layouts or {})
    layout = _layouts(graph, flow, types, input, given)
    modules = _modules(model)
    batch = {n for n in types if _is_batch(n, types, second)}
    offered = [p for p in flow.points if p in batch or p not in types]
    kept = _drop_pointwise(offered, flow)
    head = latent or model.metadata.get("onnx_geed.latent") or _latent(flow, offered, types, output)
    listed = []
    for node in graph.node:
        for name in node.output:
            if not name:
                continue
            dtype, shape = types.get(name, ("?", None))
            refused = _refusal(node, name, dtype, name in flow.tainted)
            point = name in kept and not refused
            roles = []
            if (
                point
                and shape is not None
                and _is_map(shape, layout.get(name, "?"))
            ) or (name in given and name in flow.tainted and not refused and name != output):
                roles.append("channel")
            if name == head:
                roles.append("latent")
            if name == output:
                roles.append("output")
            listed.append(
                Tensor(
                    name,
                    dtype,
                    _public_shape(shape, second.get(name, ("?", None))[1]),
                    node.name or f"{node.op_type}_{len(listed)}",
                    node.op_type,
                    modules.get(name, ""),
                    point,
                    layout.get(name, "?"),
                    tuple(roles),
                    refused,
                )
            )
        for inner in subgraphs(node):
            listed += [
                Tensor(o, "?", None, n.name, n.op_type, refused=f"lies inside a {node.op_type} body")
                for n in inner.node
                for o in n.output
                if o
            ]
    return tuple(listed)


def resolve(listed: Sequence[Tensor], pattern: str) -> tuple[Tensor, ...]:
    """Find tensors by tensor name, node name, module path or glob.

    Parameters
    ----------
    listed : sequence of Tensor
        From :func:`tensors`.
    pattern : str
        What the user wrote.

    Returns
    -------
    tuple of Tensor
        One tensor for a name; a module path gives its last tensor; a glob gives all that match.

    Raises
    ------
    GeedError
        If nothing matches, with near names, or what matches cannot be measured, with the reason.
    """
    fine = [t for t in listed if not t.refused]
    for test in (
        lambda t: t.name == pattern,
        lambda t: t.node == pattern,
    ):
        if found := [t for t in listed if test(t)]:
            if found[0].refused:
                raise GeedError(f"layer {pattern!r} {found[0].refused}; name another tensor")
            return (found[0],)
    inside = [
        t
        for t in fine
        if any(m == pattern or m.startswith(pattern + ".") for m in t.module.split(","))
    ]
    exact = [t for t in inside if pattern in t.module.split(",")]
    if inside:
        return ((exact or inside)[-1] if len(exact) == 1 else inside[-1],)
    if set(pattern) & set("*?["):
        matched = [t for t in fine if fnmatch.fnmatchcase(t.name, pattern)]
        if not matched:
            matched = [
                t
                for t in fine
                if fnmatch.fnmatchcase(t.node, pattern)
                or any(fnmatch.fnmatchcase(m, pattern) for m in t.module.split(",") if m)
            ]
        if matched:
            return _preferred(matched)
    names = [t.name for t in fine] + [m for t in fine for m in t.module.split(",") if m]
    raise GeedError(
        f"no layer is called {pattern!r}.{nearest(pattern, names)} onnx-geed layers lists them all"
    )


def _preferred(matched: list[Tensor]) -> tuple[Tensor, ...]:
    """Of what a glob matches, the default layers if there are any, else all that carry data."""
    measured = [t for t in matched if t.roles]
    points = [t for t in matched if t.point]
    return tuple(measured or points or matched)


def tainted_by(graph: onnx.GraphProto, input: str) -> set[str]:
    """Return the tensors that depend on an input's values, itself included."""
    tainted = {input}
    for node in graph.node:
        # Shapes are not data: what depends on the input only through them is a constant here.
        if node.op_type not in ("Shape", "Size") and tainted.intersection(reads(node)):
            tainted.update(name for name in node.output if name)
    return tainted


def inferred_shapes(proto: onnx.ModelProto, input: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes that inference finds for the batch that the file states, or 1."""
    found = _inferred(proto, input, None, 1)
    return {name: shape for name, (_, shape) in found.items() if shape is not None}


class _Flow:
    """How data flow from the acted-on input to the output."""

    def __init__(self, graph: onnx.GraphProto, input: str, output: str) -> None:
        self.tainted = tainted_by(graph, input)
        self.made_by = {name: node for node in graph.node for name in node.output if name}
        if output not in self.tainted:
            raise GeedError(
                f"no data flow from input {input!r} to output {output!r}; name another with --input "
                "or --output"
            )
        wanted = {output}
        self.nodes: list[onnx.NodeProto] = []
        for node in reversed(graph.node):
            if wanted.intersection(node.output) and self.tainted.intersection(node.output):
                self.nodes.append(node)
                wanted.update(n for n in reads(node) if n in self.tainted)
        self.nodes.reverse()
        self.live = wanted & self.tainted
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                self.consumers.setdefault(name, []).append(node)
        self.points = self._points(input, output)

    def inputs(self, node: onnx.NodeProto) -> list[str]:
        """The data that a node reads, once each."""
        return [n for n in dict.fromkeys(reads(node)) if n in self.live]

    def _points(self, input: str, output: str) -> list[str]:
        # In topological order every node is before or after a true point, so a tensor is one
        # exactly if, when it has just been made, nothing else is still waiting to be read.
        left = {name: len(self.consumers.get(name, [])) for name in self.live}
        left[output] += 1
        waiting = {input}
        points = []
        for node in self.nodes:
            for name in self.inputs(node):
                left[name] -= 1
                if left[name] == 0:
                    waiting.discard(name)
            made = [n for n in node.output if n in self.live]
            waiting.update(n for n in made if left[n])
            if len(waiting) == 1 and made and waiting == {made[0]}:
                points.append(made[0])
        return points


def _drop_pointwise(points: list[str], flow: _Flow) -> set[str]:
    """Drop a point for the next where only pointwise nodes lie between the two."""
    kept = set(points)
    for before, after in zip(points, points[1:], strict=False):
        seen, stack, pointwise = set(), [after], True
        while stack and pointwise:
            name = stack.pop()
            if name == before or name in seen:
                continue
            seen.add(name)
            node = flow.made_by[name]
            data = flow.inputs(node)
            pointwise = node.op_type in POINTWISE or node.op_type in _ARITHMETIC
            stack += data
        if pointwise:
            kept.discard(before)
    return kept


def _latent(
    flow: _Flow, points: list[str], types: Mapping[str, tuple[str, tuple[int, ...] | None]], output: str
) -> str | None:
    """The last point before the last affine nodes; the output where there is no classifier."""
    order = {name: i for i, node in enumerate(flow.nodes) for name in node.output}
    affine = [
        node
        for node in flow.nodes
        if node.op_type in _AFFINE | {"Conv", "QLinearConv", "ConvInteger"}
        and len(flow.inputs(node)) == 1
        and (node.op_type in _AFFINE or _is_1x1(node, flow, types))
    ]
    if not affine:
        return output if output in points or output in types else None
    last = affine[-1]
    # Heads side by side (LeViT averages two) all read from the same point.
    candidates = [p for p in points if order[p] < order[last.output[0]]]
    while candidates:
        point = candidates[-1]
        region = _between(flow, point, output)
        heads = [n for n in region if any(n is a for a in affine)]
        others = [n for n in region if not any(n is a for a in affine)]
        if any(n.op_type not in _HEAD for n in others):
            return output
        if heads and not _bypassed(flow, point, output, heads):
            break
        candidates.pop()
    if not candidates:
        return None
    # Batch norm directly in front counts with the classifier, as do casts and quantisation.
    maker = flow.made_by.get(candidates[-1])
    while maker is not None and maker.op_type == "BatchNormalization" and len(candidates) > 1:
        before = candidates[-2]
        if before not in maker.input:
            break
        candidates.pop()
        maker = flow.made_by.get(candidates[-1])
    return candidates[-1]


def _is_1x1(
    node: onnx.NodeProto, flow: _Flow, types: Mapping[str, tuple[str, tuple[int, ...] | None]]
) -> bool:
    kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), None)
    if kernel is None:
        shape = types.get(node.input[1], ("?", None))[1]
        kernel = list(shape[2:]) if shape else []
    return bool(kernel) and all(k == 1 for k in kernel)


def _between(flow: _Flow, point: str, output: str) -> list[onnx.NodeProto]:
    """Nodes on the paths from a point to the output."""
    reached = {point}
    for node in flow.nodes:
        if reached.intersection(flow.inputs(node)):
            reached.update(node.output)
    wanted, found = {output}, []
    for node in reversed(flow.nodes):
        if wanted.intersection(node.output) and reached.intersection(flow.inputs(node)):
            found.append(node)
            wanted.update(n for n in flow.inputs(node) if n != point)
    return found[::-1]


def _bypassed(flow: _Flow, point: str, output: str, heads: list[onnx.NodeProto]) -> bool:
    """Whether some path from the point to the output meets none of the affine nodes."""
    reached = {point}
    for node in flow.nodes:
        if any(node is h for h in heads):
            continue
        if reached.intersection(flow.inputs(node)):
            reached.update(node.output)
    return output in reached


Types = dict[str, tuple[str, tuple[int, ...] | None]]


def _inferred(
    proto: onnx.ModelProto, input: str, input_shape: Sequence[int] | None, batch: int
) -> Types:
    """Dtype and shape of every tensor that shape inference can tell, for a batch of a size."""
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    for info in light.graph.input:
        if info.name == input and info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            for i, dim in enumerate(dims):
                if i == 0 and dim.dim_value <= 0:
                    dim.dim_value = batch
                elif i and dim.dim_value <= 0 and input_shape and len(input_shape) == len(dims):
                    dim.dim_value = input_shape[i]
    # In old files initializers are inputs too, whose values inference would not dare to use.
    stored = {i.name for i in light.graph.initializer}
    free = [onnx.ValueInfoProto.FromString(i.SerializeToString())
            for i in light.graph.input if i.name not in stored]
    del light.graph.input[:]
    light.graph.input.extend(free)
    light.ir_version = max(light.ir_version, 4)
    del light.graph.value_info[:]
    for info in light.graph.output:
        # A declared output shape of another batch would make inference stop there.
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    try:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception:  # inference is a help, and stops on operators that it does not know
        return {}
    found: Types = {}
    for info in [*light.graph.value_info, *light.graph.output, *light.graph.input]:
        tensor = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            found[info.name] = (str(info.type.WhichOneof("value")).removesuffix("_type"), None)
            continue
        dtype = FLOATS.get(tensor.elem_type) or onnx.TensorProto.DataType.Name(tensor.elem_type)
        shape = None
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shape = tuple(d.dim_value for d in tensor.shape.dim)
        found[info.name] = ("?" if dtype == "UNDEFINED" else dtype.lower(), shape)
    for weights in light.graph.initializer:
        found[weights.name] = ("constant", tuple(weights.dims))
    return found


def _is_batch(name: str, one: Types, three: Types) -> bool:
    """Whether axis 0 follows the batch, as far as inference can tell."""
    a, b = one[name][1], three.get(name, ("?", None))[1]
    if a is None:
        return True
    if not a or a[0] != 1:
        return False
    # Where the file fixes the batch, both are inferred for that.
    return b is None or b[0] in (1, 3)


def _public_shape(
    one: tuple[int, ...] | None, three: tuple[int, ...] | None
) -> tuple[int | None, ...] | None:
    if one is None:
        return None
    if three is not None and len(three) == len(one):
        return tuple(a if a == b else None for a, b in zip(one, three, strict=True))
    return one


def _refusal(node: onnx.NodeProto, name: str, dtype: str, tainted: bool) -> str:
    if not tainted:
        return "does not depend on the acted-on input"
    if dtype in ("sequence", "map", "optional"):
        return f"is a {dtype}, not a tensor"
    if dtype not in (*FLOATS.values(), "?"):
        hint = ", name the DequantizeLinear output behind it" if "int8" in dtype else ""
        return f"holds {dtype}, not floating point{hint}"
    return ""


def _is_map(shape: tuple[int, ...], layout: str) -> bool:
    if len(shape) != 4 or layout not in ("NCHW", "NHWC"):
        return False
    grid = shape[2:] if layout == "NCHW" else shape[1:3]
    return min(grid) >= 2


def _layouts(
    graph: onnx.GraphProto, flow: _Flow, types: Types, input: str, given: Mapping[str, str]
) -> dict[str, str]:
    """Where the grid of each tensor is, followed from node to node."""
    known: dict[str, str] = {}
    shape = types.get(input, ("?", None))[1]
    if shape is not None and len(shape) == 4:
        last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
        known[input] = "NHWC" if last else "NCHW"
    read_by_spatial = _feeds_spatial(flow)
    for node in graph.node:
        data = [n for n in node.input if n in known]
        for name in node.output:
            if not name or name not in flow.tainted:
                continue
            found = _layout_after(node, data, known, types)
            shape = types.get(name, ("?", None))[1]
            if found is None and name in read_by_spatial and (shape is None or len(shape) == 4):
                found = "NCHW"
            if found is not None and (shape is None or len(shape) == 4):
                known[name] = found
    result = dict(known)
    for name in flow.tainted - set(known):
        shape = types.get(name, ("?", None))[1]
        if shape is not None:
            result[name] = {2: "NK", 3: "NTD"}.get(len(shape), "?")
    result.update(given)
    return result


def _layout_after(
    node: onnx.NodeProto, data: list[str], known: Mapping[str, str], types: Types
) -> str | None:
    if node.op_type in _SPATIAL or node.op_type.startswith("Global"):
        return "NCHW"
    if not data:
        return None
    before = known[data[0]]
    if node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        moves = {("NCHW", (0, 2, 3, 1)): "NHWC", ("NHWC", (0, 3, 1, 2)): "NCHW"}
        if perm in ([0, 1, 2, 3],):
            return before
        return moves.get((before, tuple(perm or ())))
    if node.op_type in POINTWISE | _ARITHMETIC | _SAME_AXES:
        return before
    if node.op_type in _AFFINE and before == "NHWC":
        return before  # a dense layer over channels
    return None


def _feeds_spatial(flow: _Flow) -> set[str]:
    """Tensors that a convolution or pooling reads, with only pointwise nodes in between."""
    found: set[str] = set()
    for node in reversed(flow.nodes):
        through = node.op_type in POINTWISE and found.intersection(node.output)
        if (node.op_type in _SPATIAL or through) and node.input:
            found.add(node.input[0])
    return found


def _modules(model: Model) -> dict[str, str]:
    """Module paths of tensors, by the three ways in which exporters keep them."""
    found: dict[str, list[str]] = {}
    for node in model.proto.graph.node:
        scopes = next(
            (p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), None
        )
        for name in filter(None, node.output):
            path = _from_scopes(scopes) if scopes else _from_name(name)
            if path:
                found.setdefault(name, []).append(path)
    stated = metadata_json(model, "onnx_geed.modules") or {}
    for path, name in stated.items():
        if path not in found.setdefault(str(name), []):
            found[str(name)].append(str(path))
    return {name: ",".join(paths) for name, paths in found.items()}


def _from_scopes(text: str) -> str:
    """The innermost module of torch's newer exporter; the last scope is the node itself."""
    try:
        scopes = [str(s) for s in ast.literal_eval(text)]
    except (ValueError, SyntaxError):
        return ""
    return next((s for s in reversed(scopes[:-1]) if s), "")


def _from_name(name: str) -> str:
    """The module in a name of torch's older exporter: ``/layer1/layer1.0/conv1/Conv_output_0``."""
    match = re.fullmatch(r"/(.+)/[^/]+_output_\d+", name)
    if not match:
        return ""
    path = ""
    for part in match[1].split("/"):
        # A child of a container repeats the container's own name: layer1/layer1.0.
        last = path.rpartition(".")[2]
        if path and part.startswith(last + "."):
            path = path.removesuffix(last) + part
        else:
            path = f"{path}.{part}" if path else part
    return path
