"""The same network untrained: which constants are weights, and new ones in their place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnx_geed.errors import GeedError
from onnx_geed.model.builder import LEAST_OPSET, Nodes
from onnx_geed.model.io import Model
from onnx_geed.model.nodes import FLOATS, attribute, constants, integers_of, reads, subgraphs

__all__ = ["Redrawn", "redraw"]

# Roles of an operator's inputs, by position, where they are constants.
_NORMS: dict[str, dict[int, str]] = {
    "BatchNormalization": {1: "one", 2: "zero", 3: "zero", 4: "one"},
    "LayerNormalization": {1: "one", 2: "zero"},
    "InstanceNormalization": {1: "one", 2: "zero"},
    "GroupNormalization": {1: "one", 2: "zero"},
    "RMSNormalization": {1: "one"},
    "SimplifiedLayerNormalization": {1: "one"},
    "SkipLayerNormalization": {2: "one", 3: "zero", 4: "zero"},
    "BiasGelu": {1: "zero"},
    "PRelu": {1: "slope"},
}


_RECURRENT = frozenset(("RNN", "GRU", "LSTM"))


# Linear in their weight, so that a spread of the output is one of the weight.
_LINEAR = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


_FUSED = {"FusedConv": "Conv", "FusedMatMul": "MatMul", "FusedGemm": "Gemm"}


_QUANTISED = ("quantize", "qlinear", "qgemm", "qattention", "integer", "matmulnbits")


# Of these types are shapes, indices and masks; weights that were made small have none of them.
_NO_WEIGHTS = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("INT32", "INT64", "UINT32", "UINT64", "BOOL", "STRING")
)


_VALUES = {"one": 1.0, "zero": 0.0, "slope": 0.25}


# A file holds 2 GiB, and new weights are kept in it.
_MOST = (1 << 31) - (64 << 20)


@dataclass(frozen=True)
class _Role:
    """The role of a constant: ``draw`` with its fan-in, ``one``, ``zero`` or ``slope``."""

    kind: str
    fan_in: int = 0


@dataclass(frozen=True, eq=False)
class Redrawn:
    """A model with new weights.

    Parameters
    ----------
    model : Model
        The model; its fingerprint is still that of the file.
    drawn : tuple of str
        Constants that were drawn anew.
    reset : tuple of str
        Constants that were set to where training starts: biases 0, scales 1, statistics 0 and 1.
    kept : tuple of str
        Constants of more than one number that were left as they are, shapes, indices and masks
        aside: of no known layer, sparse, of another type than floats, or in the body of an If,
        Loop or Scan.
    """

    model: Model
    drawn: tuple[str, ...]
    reset: tuple[str, ...]
    kept: tuple[str, ...]
    _roles: Mapping[str, _Role] = field(repr=False, default_factory=dict)

    def levelled(
        self, spreads: Callable[[Model, Sequence[str]], Sequence[NDArray[np.float32]]]
    ) -> Redrawn:
        """Return it with every linear layer's output brought to a standard deviation of 1.

        Parameters
        ----------
        spreads : callable
            Runs a model on some samples, in one batch, and returns the named scalars.

        Returns
        -------
        Redrawn
            Layers whose output is zero are left as they are.

        Notes
        -----
        ::

            Before: x → Conv(w) → y
            Run:    x → Conv(w) → y′ → y′ / σ(y′) → y        outputs σ(y′)
            After:  x → Conv(w / σ(y′)) → y

        One run is enough, since within it every layer sees inputs that are levelled already. A
        weight that several layers share is levelled where it is used first.
        """
        proto, names = _with_spreads(self.model.proto, self._roles)
        if not names:
            return self
        sigmas = spreads(self.model.with_proto(proto), list(names.values()))
        scaled = onnx.ModelProto()
        scaled.CopyFrom(self.model.proto)
        tensors = _tensors(scaled.graph)
        for name, spread in zip(names, sigmas, strict=True):
            sigma = float(np.asarray(spread).ravel()[0])
            if math.isfinite(sigma) and sigma > 0:
                values = numpy_helper.to_array(tensors[name])
                _set(tensors[name], values.astype(np.float64) / sigma)
        return Redrawn(
            self.model.with_proto(scaled), self.drawn, self.reset, self.kept, self._roles
        )


def redraw(model: Model, seed: int = 0) -> Redrawn:
    """Return a network with its weights drawn anew, as if it had not been trained.

    Parameters
    ----------
    model : Model
        The network.
    seed : int
        Seed of the draw.

    Returns
    -------
    Redrawn

    Raises
    ------
    GeedError
        If the model is quantised, or larger than one file.
        If it has no weights that are known as such, or they are the smaller part.

    Notes
    -----
    Choice: weights of Conv, ConvTranspose, Gemm, MatMul and recurrent layers are uniform in
    ±1/√(fan-in), as PyTorch draws them; biases are 0; normalisations have scale 1, bias 0, mean 0
    and variance 1; slopes of PRelu are 0.25. Vectors that are added or multiplied behind the first
    weights count as biases and scales. Everything else is kept: shapes, single numbers, class
    tokens, embeddings of positions, tables, sparse constants, what lies in the body of an If, Loop
    or Scan. Exporters fold batch norm into the weights in front, and without it a deep network that
    is drawn anew dies or explodes; hence :meth:`Redrawn.levelled`.

    A filter that is fixed but stored like a weight is drawn anew too, and a network that is
    equivariant by construction (its filters expanded on export) becomes a plain one.
    """
    _refuse_quantised(model.proto.graph)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    tensors = _tensors(proto.graph)
    roles = _roles(proto.graph, tensors)
    kept = [n for n, t in tensors.items() if n not in roles and math.prod(t.dims) > 1]
    drawn = [n for n in tensors if n in roles and roles[n].kind == "draw"]
    others = _out_of_reach(proto.graph)
    kept += others
    sizes = others | {n: math.prod(t.dims) for n, t in tensors.items()}
    if sum(sizes[n] for n in drawn) <= sum(sizes[n] for n in kept):
        more = ", .." if len(kept) > 3 else ""
        where = (
            f" (not plain floats of a known layer in the main graph: {', '.join(kept[:3])}{more})"
            if kept
            else ""
        )
        raise GeedError(
            f"--untrained: {len(drawn)} weights can be drawn at random, {len(kept)} constants "
            f"cannot{where}; measure an untrained export of the network instead, and compare"
        )
    if sum(sizes[n] * np.dtype(FLOATS[t.data_type]).itemsize for n, t in tensors.items()) > _MOST:
        raise GeedError("--untrained: takes networks of up to 2 GiB; leave it out")
    for position, (name, tensor) in enumerate(tensors.items()):
        role = roles.get(name)
        if role is None:
            continue
        shape = tuple(tensor.dims)
        if role.kind == "draw":
            bound = 1 / math.sqrt(max(role.fan_in, 1))
            rng = np.random.default_rng([seed, position])
            _set(tensor, rng.uniform(-bound, bound, shape))
        else:
            _set(tensor, np.full(shape, _VALUES[role.kind]))
    reset = tuple(n for n in tensors if n in roles and roles[n].kind != "draw")
    return Redrawn(model.with_proto(proto), tuple(drawn), reset, tuple(kept), roles)


class _Stored(NamedTuple):
    """A constant of so many numbers; where it is not dense, `_tensors` leaves it out."""

    name: str
    dtype: int
    numbers: int
    dense: bool = True


def _stored(graph: onnx.GraphProto) -> Iterator[_Stored]:
    """Yield the constants of a graph, but not of its bodies, in every form that there is."""
    for tensor in graph.initializer:
        yield _Stored(tensor.name, tensor.data_type, math.prod(tensor.dims))
    for sparse in graph.sparse_initializer:
        held = sparse.values
        yield _Stored(held.name, held.data_type, math.prod(held.dims), dense=False)
    for node in graph.node:
        for stated in node.attribute if node.op_type == "Constant" else ():
            name, value = node.output[0], onnx.helper.get_attribute_value(stated)
            if stated.name == "value":
                yield _Stored(name, value.data_type, math.prod(value.dims))
            elif stated.name == "sparse_value":
                held = value.values
                yield _Stored(name, held.data_type, math.prod(held.dims), dense=False)
            elif stated.name == "value_floats":
                yield _Stored(name, onnx.TensorProto.FLOAT, len(value), dense=False)


def _refuse_quantised(
    graph: onnx.GraphProto, outer: Mapping[str, tuple[str, int]] | None = None
) -> None:
    """Refuse operators on integers, and layers whose weights are made of small integers."""
    # What is made of constants alone: by tensor, the small integers among them, or none, and how
    # many numbers there are.
    fixed = dict(outer or {})
    no_integers = {*FLOATS, *_NO_WEIGHTS, onnx.TensorProto.BFLOAT16}
    fixed |= {c.name: ("" if c.dtype in no_integers else c.name, c.numbers) for c in _stored(graph)}
    for node in graph.node:
        # As many floats are weights, of which integers are a mask or tell the shape.
        made = [fixed[x] for x in node.input if x in fixed]
        floats = max((count for name, count in made if not name), default=0)
        told = [(name, count) for name, count in made if name and count > floats]
        integers, numbers = told[0] if told else ("", floats)
        found = ""
        if any(word in node.op_type.lower() for word in _QUANTISED):
            found = node.op_type
        elif integers and _FUSED.get(node.op_type, node.op_type) in _LINEAR | _RECURRENT:
            found = f"{node.op_type} of {integers}"
        if found:
            raise GeedError(
                f"--untrained: the model is quantised ({found}), and integer weights "
                "cannot be drawn at random; use the float model that it was made from"
            )
        if node.input and all(x in fixed for x in node.input if x):
            fixed |= dict.fromkeys(node.output, (integers, numbers))
        for body in subgraphs(node):
            _refuse_quantised(body, fixed)


def _out_of_reach(graph: onnx.GraphProto, *, inside: bool = False) -> dict[str, int]:
    """Return constants that may be weights but are not drawn, with how many numbers they have.

    They are sparse, lists, of other types than floats, or in the body of an If, Loop or Scan.
    """
    found = Counter[str]()
    for held in _stored(graph):
        reached = held.dense and held.dtype in FLOATS and not inside
        if held.numbers > 1 and not reached and held.dtype not in _NO_WEIGHTS:
            found[held.name] += held.numbers
    for node in graph.node:
        for body in subgraphs(node):
            found.update(_out_of_reach(body, inside=True))
    return dict(found)


def _tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return float constants of the main graph by name, initializers and Constant nodes."""
    tensors = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensor = attribute(node, "value")
            tensors |= {} if tensor is None else {node.output[0]: tensor}
    return {name: tensor for name, tensor in tensors.items() if tensor.data_type in FLOATS}


def _set(tensor: onnx.TensorProto, values: NDArray[np.float64]) -> None:
    name, dtype = tensor.name, np.dtype(FLOATS[tensor.data_type])
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))


def _roles(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto]) -> dict[str, _Role]:
    """Return the roles of constants, by the first node that tells one."""
    seen = _views(graph, tensors)
    roles: dict[str, _Role] = {}
    behind: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in seen:
                continue
            others = [x for i, x in enumerate(node.input) if i != place]
            role = _role(node, place, seen[name][1], others, seen, behind)
            if role is not None:
                roles.setdefault(seen[name][0], role)
        data = [x for x in reads(node) if x and x not in seen]
        weighs = any(x in seen and seen[x][0] in roles for x in node.input)
        if data and (weighs or behind.intersection(data)):
            behind.update(node.output)
    return roles


def _role(
    node: onnx.NodeProto,
    place: int,
    shape: tuple[int, ...],
    others: Sequence[str],
    seen: Mapping[str, object],
    behind: set[str],
) -> _Role | None:
    """Return the role that a constant of this shape has in a node."""
    kind = _FUSED.get(node.op_type, node.op_type)
    if kind in _NORMS:
        role = _NORMS[kind].get(place)
        return None if role is None else _Role(role)
    if kind in _RECURRENT:
        return _Role("draw", shape[-1]) if place in (1, 2) else _Role("zero")
    if kind in ("Conv", "ConvTranspose"):
        return _Role("draw", math.prod(shape[1:])) if place == 1 else _Role("zero")
    if kind == "Gemm":
        if place == 2:
            return _Role("zero")
        turned = bool(attribute(node, ("transA", "transB")[place], 0))
        return _Role("draw", shape[turned != (place == 0)])
    if all(x in seen for x in others):
        return None
    if kind == "MatMul":
        return _Role("draw", shape[-1] if place == 0 or len(shape) == 1 else shape[-2])
    vector = math.prod(shape) > 1 and math.prod(shape) == max(shape)
    if not vector or not behind.intersection(others):
        return None
    if kind == "Mul" or (kind == "Div" and place == 1):
        return _Role("one")
    if kind == "Add" or (kind == "Sub" and place == 1):
        return _Role("zero")
    return None


def _views(
    graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return tensors that hold a constant in some order or shape: its name, and that shape."""
    seen = {name: (name, tuple(tensor.dims)) for name, tensor in tensors.items()}
    integers = constants(graph)
    for node in graph.node:
        if not node.input or node.input[0] not in seen or len(node.output) != 1:
            continue
        name, shape = seen[node.input[0]]
        if node.op_type == "Transpose":
            turned = integers_of(node, "perm") or list(reversed(range(len(shape))))
            seen[node.output[0]] = (name, tuple(shape[i] for i in turned))
        elif node.op_type == "Identity":
            seen[node.output[0]] = (name, shape)
        elif node.op_type in ("Reshape", "Unsqueeze", "Squeeze"):
            stated = integers.get(node.input[1]) if node.op_type == "Reshape" else None
            seen[node.output[0]] = (name, _reshaped(shape, stated))
    return seen


def _reshaped(shape: tuple[int, ...], stated: Sequence[int] | None) -> tuple[int, ...]:
    if stated is None:
        return shape  # axes of length 1 come or go, which matters to no fan-in here
    known = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(stated)]
    rest = math.prod(n for n in known if n > 0)
    return tuple(math.prod(shape) // max(rest, 1) if n < 0 else n for n in known)


def _with_spreads(
    source: onnx.ModelProto, roles: Mapping[str, _Role]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Divide every linear layer's output by its standard deviation, and name that by weight."""
    proto = onnx.ModelProto()
    proto.CopyFrom(source)
    graph = proto.graph
    tensors = _tensors(graph)
    seen = _views(graph, tensors)
    names: dict[str, str] = {}
    nodes = Nodes(LEAST_OPSET, "onnx_geed_levelled")
    for k, node in enumerate(graph.node):
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.written.append(copy)
        weight = _weight(copy, seen, roles)
        if weight is None:
            continue
        own, y = nodes.within(str(k)), copy.output[0]
        raw = copy.output[0] = own.named("raw")
        if weight not in names:
            names[weight] = _spread(own, raw)
        # What is zero stays zero: the spread is tiny then, and not 0.
        spread = own.cast(names[weight], tensors[weight].data_type, "spread_as_stored")
        nodes.written.append(helper.make_node("Div", [raw, spread], [y]))
    del graph.node[:]
    graph.node.extend(nodes.written)
    del graph.value_info[:]
    return proto, names


def _weight(
    node: onnx.NodeProto,
    seen: Mapping[str, tuple[str, tuple[int, ...]]],
    roles: Mapping[str, _Role],
) -> str | None:
    """Return the drawn weight that a node's output is proportional to."""
    if node.op_type not in _LINEAR or (len(node.input) > 2 and node.input[2] not in seen):
        return None
    constants_read = [seen[x][0] for x in node.input[:2] if x in seen]
    return next((x for x in constants_read if x in roles and roles[x].kind == "draw"), None)


def _spread(nodes: Nodes, raw: str) -> str:
    """Add the standard deviation over all of a tensor, in float32, at least 1e-20."""
    values = nodes.cast(raw, onnx.TensorProto.FLOAT, "float32")
    mean = nodes.add("ReduceMean", [values], "mean", keepdims=0)
    away = nodes.add("Sub", [values, mean], "away")
    squares = nodes.add("Mul", [away, away], "squares")
    variance = nodes.add("ReduceMean", [squares], "variance", keepdims=0)
    deviation = nodes.add("Sqrt", [variance], "deviation")
    least = nodes.inline("least", np.float32(1e-20))
    return nodes.add("Max", [deviation, least], "spread")
