"""Models that mean harm: each hangs, fills memory or breaks what reads it without care.

Every builder is decorated with ``hostile`` and returns an ``onnx.ModelProto`` or its bytes;
``CASES`` lists them by name. All take x (N, 3, 8, 8), so that one array of images is data for each.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

Made = onnx.ModelProto | bytes
CASES: dict[str, Callable[[], Made]] = {}


def hostile(
    *cases: object, **named: object
) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Add a builder to ``CASES``, once for each argument that it is to be called with."""

    def add(build: Callable[..., Made]) -> Callable[..., Made]:
        name = build.__name__
        if not cases and not named:
            CASES[name] = build
        for i, case in enumerate(cases):
            label = str(case) if len(str(case)) < 20 and str(case).isprintable() else str(i)
            CASES[f"{name}[{label}]"] = functools.partial(build, case)
        for label, case in named.items():
            CASES[f"{name}[{label}]"] = functools.partial(build, case)
        return build

    return add


def ints(name: str, values: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, values: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def net(
    nodes: Sequence[onnx.NodeProto] = (),
    weights: Sequence[onnx.TensorProto] = (),
    *,
    end: str = "x",
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A small network x → .. → end → Relu → Flatten → Gemm → y, with more nodes in front."""
    rng = np.random.default_rng(0)
    tail = [
        node("Conv", f"{end} w", "a", pads=[1, 1, 1, 1], name="/body/conv/Conv"),
        node("Relu", "a", "b", name="/body/act/Relu"),
        node("GlobalAveragePool", "b", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f m", "y"),
    ]
    own = [floats("w", rng.normal(size=(4, 3, 3, 3))), floats("m", rng.normal(size=(4, 5)))]
    graph = helper.make_graph(
        [*nodes, *tail],
        "hostile",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 5])],
        [*own, *weights],
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    model.ir_version = 10
    return model


def added(number: str) -> list[onnx.NodeProto]:
    """Nodes that add a number, whatever its shape, to x: its value matters to the result."""
    return [
        node("Cast", number, "as_float", to=FLOAT),
        node("ReduceMax", "as_float", "top", keepdims=0),
        node("Add", "x top", "x_with"),
    ]


def tail_of(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.op_type == op)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Sequence[object] | None]],
    outputs: Sequence[tuple[str, int, Sequence[object] | None]],
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.GraphProto:
    infos = [
        [helper.make_tensor_value_info(n, t, s if s is None else list(s)) for n, t, s in side]
        for side in (inputs, outputs)
    ]
    return helper.make_graph(list(nodes), "body", *infos, list(weights))


# ------------------------------------------------------------------------------------------------
# Time
# ------------------------------------------------------------------------------------------------


def _loop(count: int, start: str, name: str = "looped") -> onnx.NodeProto:
    body = graph_of(
        [node("Identity", "go", "go_on"), node("Identity", "carried", "carried_on")],
        [("i", INT64, []), ("go", TensorProto.BOOL, []), ("carried", INT64, [1])],
        [("go_on", TensorProto.BOOL, []), ("carried_on", INT64, [1])],
    )
    return node("Loop", f"count yes {start}", name, body=body)


def _loop_weights(count: int) -> list[onnx.TensorProto]:
    yes = numpy_helper.from_array(np.array(True), "yes")
    return [ints("count", count), yes, ints("one", [1])]


@hostile(2**40, 2**62)
def endless_loop_of_constants(count: int) -> Made:
    nodes = [_loop(count, "one"), *added("looped")]
    return net(nodes, _loop_weights(count), end="x_with")


@hostile()
def endless_loop_on_a_shape() -> Made:
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s zero one", "start"),
        _loop(2**62, "start"),
        *added("looped"),
    ]
    return net(nodes, [*_loop_weights(2**62), ints("zero", [0])], end="x_with")


@hostile()
def endless_loop_on_data() -> Made:
    body = graph_of(
        [node("Identity", "go", "go_on"), node("Sin", "carried", "carried_on")],
        [("i", INT64, []), ("go", TensorProto.BOOL, []), ("carried", FLOAT, ["N", 3, 8, 8])],
        [("go_on", TensorProto.BOOL, []), ("carried_on", FLOAT, ["N", 3, 8, 8])],
    )
    loop = node("Loop", "count yes x", "looped", body=body)
    return net([loop], _loop_weights(2**62), end="looped")


@hostile()
def scan_over_a_scan_of_constants() -> Made:
    one = node("Add", "t t", "t2")
    inner = graph_of([one], [("t", FLOAT, [])], [("t2", FLOAT, [])])
    scan = node("Scan", "v", "scanned", body=inner, num_scan_inputs=1)
    return net([scan, *added("scanned")], [floats("v", np.ones(1000))], end="x_with")


@hostile()
def if_in_if_in_if() -> Made:
    inner = graph_of([node("Identity", "one", "o0")], [], [("o0", INT64, [1])])
    for depth in range(1, 28):
        again = graph_of(
            [node("If", "yes", f"o{depth}", then_branch=inner, else_branch=inner)]
            if depth < 8
            else [
                helper.make_node(
                    "If",
                    ["yes"],
                    [f"o{depth}"],
                    then_branch=inner,
                    else_branch=graph_of(
                        [node("Identity", "one", f"e{depth}")], [], [(f"e{depth}", INT64, [1])]
                    ),
                )
            ],
            [],
            [(f"o{depth}", INT64, [1])],
        )
        inner = again
    nodes = [node("If", "yes", "chosen", then_branch=inner, else_branch=inner), *added("chosen")]
    return net(nodes, _loop_weights(1), end="x_with")


@hostile(10**10, 2**62)
def large_range(stop: int) -> Made:
    weights = [ints("from", 0), ints("to", stop), ints("by", 1)]
    return net([node("Range", "from to by", "r"), *added("r")], weights, end="x_with")


@hostile()
def range_of_floats() -> Made:
    weights = [floats("from", 0), floats("to", 1e30), floats("by", 1e-30)]
    return net([node("Range", "from to by", "r"), *added("r")], weights, end="x_with")


@hostile(
    [10**10], [10**5, 10**5], [2**40, 2**40], [-1], [2**62, 4], [2**63 - 1], [1] * 64, [1] * 1000
)
def large_constant_of_shape(lengths: list[int]) -> Made:
    nodes = [node("ConstantOfShape", "n", "c"), *added("c")]
    return net(nodes, [ints("n", lengths)], end="x_with")


@hostile("Expand", "Tile", "Resize", "Pad", "OneHot", "HannWindow", "EyeLike", "Trilu", "Upsample")
def growing(op: str) -> Made:
    weights = [
        ints("n", [10**6, 10**5]),
        ints("m", [[1, 2], [3, 4]]),
        ints("pads", [0, 0, 10**10, 0]),
    ]
    weights += [
        floats("scale", [1e6, 1e5]),
        floats("fm", [[1.0, 2], [3, 4]]),
        ints("depth", 10**11),
    ]
    weights += [floats("two", [0.0, 1]), ints("size", 10**10), ints("big", [10**5, 10**5])]
    nodes = {
        "Expand": [node("Expand", "m2 n", "g")],
        "Tile": [node("Tile", "m n", "g")],
        "Resize": [helper.make_node("Resize", ["fm", "", "scale"], ["g"])],
        "Upsample": [helper.make_node("Upsample", ["fm", "scale"], ["g"])],
        "Pad": [node("Pad", "m pads", "g")],
        "OneHot": [node("OneHot", "m depth two", "g")],
        "HannWindow": [node("HannWindow", "size", "g")],
        "EyeLike": [node("ConstantOfShape", "big", "c"), node("EyeLike", "c", "g")],
        "Trilu": [node("ConstantOfShape", "big", "c"), node("Trilu", "c", "g")],
    }[op]
    weights.append(ints("m2", [[1], [2]])) if op == "Expand" else None
    return net([*nodes, *added("g")], weights, end="x_with")


@hostile()
def einsum_that_sums_over_everything() -> Made:
    letters = "abcdefghij"
    equation = ",".join(letters) + "->"
    names = [f"v{i}" for i in range(len(letters))]
    nodes = [helper.make_node("Einsum", names, ["e"], equation=equation), *added("e")]
    return net(nodes, [floats(n, np.ones(1000)) for n in names], end="x_with")


@hostile()
def shape_that_doubles() -> Made:
    nodes = [node("Shape", "x", "s0")]
    nodes += [node("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0) for i in range(40)]
    return net([*nodes, *added("s40")], end="x_with")


@hostile()
def shape_that_doubles_in_a_branch() -> Made:
    nodes = [node("Shape", "x", "s0")]
    nodes += [node("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0) for i in range(40)]
    body = graph_of(nodes, [], [("s40", INT64, [None])])
    chosen = node("If", "yes", "chosen", then_branch=body, else_branch=body)
    return net([chosen, *added("chosen")], _loop_weights(1), end="x_with")


@hostile()
def text_that_doubles() -> Made:
    word = numpy_helper.from_array(np.array(["ab"], dtype=object), "t0")
    nodes = [node("StringConcat", f"t{i} t{i}", f"t{i + 1}") for i in range(45)]
    model = net([*nodes, node("Shape", "t45", "s"), *added("s")], [word], end="x_with")
    model.opset_import[0].version = 20
    return model


@hostile()
def regex_that_backtracks() -> Made:
    word = numpy_helper.from_array(np.array(["a" * 60 + "b"], dtype=object), "t")
    match = node("RegexFullMatch", "t", "r", pattern="(a|aa)+")
    model = net([match, *added("r")], [word], end="x_with")
    model.opset_import[0].version = 20
    return model


@hostile()
def nodes_by_the_hundred_thousand() -> Made:
    names = ["x", *(f"n{i}" for i in range(150_000))]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)]
    return net(nodes, end=names[-1])


@hostile(2_000, 8_000)
def long_chain(count: int) -> Made:
    names = ["x", *(f"n{i}" for i in range(count))]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)]
    return net(nodes, end=names[-1])


@hostile(3_000)
def long_chain_of_numbers(count: int) -> Made:
    names = ["one", *(f"n{i}" for i in range(count))]
    nodes = [helper.make_node("Add", [a, "one"], [b]) for a, b in itertools.pairwise(names)]
    return net([*nodes, *added(names[-1])], [ints("one", [1])], end="x_with")


@hostile()
def empty_nodes_by_the_million() -> Made:
    content = net().SerializeToString()
    nodes = b"\x0a\x00" * 5_000_000
    size, varint = len(nodes), b""
    while size > 0x7F:
        varint += bytes([size & 0x7F | 0x80])
        size >>= 7
    return content + b"\x3a" + varint + bytes([size]) + nodes


@hostile()
def empty_attributes_by_the_million() -> Made:
    model = net()
    tail_of(model, "Relu").attribute.extend([onnx.AttributeProto()] * 1_000_000)
    return model


@hostile()
def reads_one_tensor_a_million_times() -> Made:
    return net([helper.make_node("Sum", ["x"] * 1_000_000, ["s"])], end="s")


@hostile("dims", "ints", "value")
def million_axes(where: str) -> Made:
    many = [1] * 1_000_000
    if where == "dims":
        model = net()
        model.graph.value_info.append(helper.make_tensor_value_info("a", FLOAT, many))
        return model
    if where == "ints":
        model = net([node("Unsqueeze", "x", "u", axes=many), node("Identity", "x", "x2")], end="x2")
        model.opset_import[0].version = 11
        return model
    return net([], [TensorProto(name="t", data_type=FLOAT, dims=many, float_data=[1.0])])


@hostile("layers", "slashes", "scopes", "dots")
def module_path(kind: str) -> Made:
    model = net()
    conv = tail_of(model, "Conv")
    if kind == "scopes":
        key = "pkg.torch.onnx.name_scopes"
        conv.metadata_props.add(key=key, value="[" * 100_000 + "'a'" + "]" * 100_000)
        tail_of(model, "Relu").metadata_props.add(key=key, value="-" * 50_000 + "1")
        tail_of(model, "MatMul").metadata_props.add(key=key, value=f"[{'(' * 150}{')' * 150}]")
        return model
    conv.name = {
        "layers": "/" + "/".join(f"layer{i}" for i in range(300_000)) + "/Conv",
        "slashes": "/" * 3_000_000,
        "dots": "/" + "/".join("a." * 20 for _ in range(100_000)) + "/Conv",
    }[kind]
    return model


@hostile("one", "many", "deep", "wrong", "surrogate", "text")
def modules_in_metadata(kind: str) -> Made:
    model = net()
    value = {
        "one": lambda: json.dumps({f"module{i}": "b" for i in range(150_000)}),
        "many": lambda: json.dumps({f"m{i}": f"t{i}" for i in range(150_000)}),
        "deep": lambda: "[" * 100_000 + "]" * 100_000,
        "wrong": lambda: json.dumps({"a": ["b"]}),
        "surrogate": lambda: '{"\\ud800\\udc": "b", "\\udfff": "b"}',
        "text": lambda: "{" * 50_000,
    }[kind]()
    helper.set_model_props(model, {"onnx_geed.modules": value})
    return model


# ------------------------------------------------------------------------------------------------
# Memory
# ------------------------------------------------------------------------------------------------


@hostile(20, 30, 40, 64)
def data_that_double(times: int) -> Made:
    nodes = [node("Identity", "x", "d0")]
    nodes += [node("Concat", f"d{i} d{i}", f"d{i + 1}", axis=2) for i in range(times)]
    nodes.append(node("ReduceMean", f"d{times}", "less", axes=[2]))
    nodes.append(node("Unsqueeze", "less two", "d"))
    return net(nodes, [ints("two", [2])], end="d")


@hostile()
def batch_that_doubles() -> Made:
    nodes = [
        node("Concat", f"{'d' + str(i) if i else 'x'} " * 2, f"d{i + 1}", axis=0) for i in range(30)
    ]
    return net(nodes, end="d30")


@hostile("Tile", "Expand", "Pad", "Resize", "Conv", "Gather", "MatMul", "ConvTranspose")
def data_that_explode(op: str) -> Made:
    weights = [
        ints("n", [1, 1, 50_000, 20_000]),
        ints("one", [1, 1, 1, 1]),
        ints("pads", [0, 0, 10**5, 10**5, 0, 0, 0, 0]),
        floats("scale", [1, 1, 2e4, 2e4]),
        floats("k", np.ones((3, 1, 1, 1))),
    ]
    nodes = {
        "Tile": [node("Tile", "x n", "g")],
        "Expand": [
            node("ReduceMean", "x", "r", axes=[2, 3]),
            node("Expand", "r n", "g"),
        ],
        "Pad": [node("Pad", "x pads", "g")],
        "Resize": [helper.make_node("Resize", ["x", "", "scale"], ["g"])],
        "Conv": [node("Conv", "x k", "g", pads=[50_000] * 4, group=3)],
        "ConvTranspose": [node("ConvTranspose", "x k", "g", strides=[20_000] * 2, group=3)],
        "Gather": [
            node("ConstantOfShape", "many", "zeros", value=ints("v", [0])),
            node("Gather", "x zeros", "g", axis=2),
        ],
        "MatMul": [
            node("Reshape", "x column", "c"),
            node("Expand", "c wide", "c2"),
            node("Transpose", "c2", "c3", perm=[0, 1, 3, 2]),
            node("MatMul", "c2 c3", "g"),
        ],
    }[op]
    weights += [
        ints("many", [10**9]),
        ints("column", [0, 3, 64, 1]),
        ints("wide", [1, 1, 64, 10**7]),
    ]
    return net(
        [*nodes, node("ReduceMean", "g", "r2", axes=[2, 3]), node("Add", "x r2", "z")],
        weights,
        end="z",
    )


@hostile(500)
def many_tensors_alive(count: int) -> Made:
    nodes = [helper.make_node("Resize", ["x", "", "scale"], ["big"])]
    nodes += [node("Sin", "big", f"s{i}") for i in range(count)]
    nodes += [helper.make_node("Sum", [f"s{i}" for i in range(count)], ["total"])]
    nodes += [node("ReduceMean", "total", "r2", axes=[2, 3]), node("Add", "x r2", "z")]
    return net(nodes, [floats("scale", [1, 1, 120, 120])], end="z")


# ------------------------------------------------------------------------------------------------
# External data
# ------------------------------------------------------------------------------------------------


@hostile(
    offset_text={"offset": "abc"},
    offset_negative={"offset": "-4"},
    offset_huge={"offset": "9" * 5_000},
    offset_float={"offset": "1.5"},
    offset_spaces={"offset": " 1 2"},
    offset_beyond={"offset": str(2**63)},
    length_text={"length": "abc"},
    length_negative={"length": "-432"},
    length_huge={"length": "9" * 5_000},
    length_short={"length": "1"},
    length_zero={"length": "0"},
    length_beyond={"length": str(2**64)},
    offset_arabic={"offset": "٣"},
    underscore={"offset": "1_0"},
    no_location={"location": ""},
    nul={"location": "a\0b"},
    long={"location": "a" * 100_000},
    newline={"location": "a\nb"},
    escape={"location": "\x1b[2Jb"},
    folder={"location": "."},
    device={"location": "/dev/zero"},
    up={"location": "../../../../dev/zero"},
    itself={},
)
def external(entries: dict[str, str]) -> Made:
    model = net()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    stated = {"location": "model.onnx", "offset": "0", "length": "432", **entries}
    for key, value in stated.items():
        weights.external_data.add(key=key, value=value)
    return model


# ------------------------------------------------------------------------------------------------
# What is said of tensors
# ------------------------------------------------------------------------------------------------


@hostile(
    negative=[-4, 3, 3, 3],
    two_negative=[-4, -3, 3, 3],
    zero=[0, 3, 3, 3],
    huge=[2**62, 3, 3, 3],
    overflow=[2**62, 2**62, 2**62],
    most_negative=[-(2**63), 3, 3, 3],
    more=[400, 3, 3, 3],
    fewer=[1, 3, 3, 3],
    none=[],
)
def weights_of_shape(dims: list[int]) -> Made:
    model = net()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    return model


@hostile(negative=[-1], huge=[2**62], overflow=[2**62, 4], long=[5_000], zero=[0], wrong=[3])
def small_integers_of_shape(dims: list[int]) -> Made:
    stored = ints("s", [1, 3, 8, 8])
    del stored.dims[:]
    stored.dims.extend(dims)
    return net([node("Reshape", "x s", "r")], [stored], end="r")


@hostile(0, 8, 21, 22, 99, -1, 16, 23)
def weights_of_type(data_type: int) -> Made:
    model = net()
    model.graph.initializer[0].data_type = data_type
    return model


@hostile(0, 8, 99, -1, 14, 7)
def input_of_type(data_type: int) -> Made:
    model = net()
    model.graph.input[0].type.tensor_type.elem_type = data_type
    return model


@hostile(0, 8, 99, -1, 7)
def output_of_type(data_type: int) -> Made:
    model = net()
    model.graph.output[0].type.tensor_type.elem_type = data_type
    return model


@hostile(
    negative=[-5, -3, 8, 8],
    huge=["N", 2**62, 2**62, 8],
    large=["N", 3, 10**6, 10**6],
    none=[],
    zero=[0, 0, 0, 0],
    same=["N", "N", "N", "N"],
    scalar_rows=[2**31, 3, 8, 8],
    wraps=["N", 2**62, 4, 4],
    noise=["N", 3, 2**31, 2**31],
    more_than_fits=["N", 3, 30_000, 30_000],
    one=["N"],
    many=["N"] * 70,
)
def input_of_shape(shape: list[Any]) -> Made:
    model = net()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", FLOAT, shape))
    return model


@hostile(int8=b"\1" * 7, none=b"", more=b"\0" * 10_000)
def weights_with_bytes(content: bytes) -> Made:
    model = net()
    model.graph.initializer[0].raw_data = content
    return model


@hostile()
def weights_twice_over() -> Made:
    model = net()
    model.graph.initializer[0].float_data.extend([1.0] * 5)
    return model


@hostile()
def sparse_weights() -> Made:
    model = net([node("Add", "x sp", "z")], end="z")
    sparse = model.graph.sparse_initializer.add(dims=[2**40, 2**40])
    sparse.values.CopyFrom(floats("sp", [1.0]))
    sparse.indices.CopyFrom(ints("spi", [[2**50, -1]]))
    return model


@hostile("sequence", "optional", "map", "sparse", "nothing", "nested")
def input_that_is_a(kind: str) -> Made:
    model = net()
    tensor = helper.make_tensor_type_proto(FLOAT, ["N", 3, 8, 8])
    nested = helper.make_sequence_type_proto(tensor)
    for _ in range(40):
        nested = helper.make_sequence_type_proto(nested)
    model.graph.input[0].type.CopyFrom(
        {
            "sequence": helper.make_sequence_type_proto(tensor),
            "optional": helper.make_optional_type_proto(tensor),
            "map": helper.make_map_type_proto(INT64, tensor),
            "sparse": helper.make_sparse_tensor_type_proto(FLOAT, [1, 3, 8, 8]),
            "nothing": onnx.TypeProto(),
            "nested": nested,
        }[kind]
    )
    return model


@hostile("sequence", "optional")
def tensors_in_a(kind: str) -> Made:
    nodes = {
        "sequence": [node("SequenceConstruct", "x x", "q"), node("SequenceAt", "q zero", "z")],
        "optional": [node("Optional", "x", "q"), node("OptionalGetElement", "q", "z")],
    }[kind]
    return net(nodes, [ints("zero", 0)], end="z")


@hostile()
def weights_in_segments() -> Made:
    model = net()
    model.graph.initializer[0].segment.begin = 1
    return model


@hostile()
def dead_node_without_outputs() -> Made:
    model = net()
    model.graph.node.append(node("Relu", "x", ""))
    return model


# ------------------------------------------------------------------------------------------------
# The graph
# ------------------------------------------------------------------------------------------------


@hostile(0, 1, 6, 10**9, -1, 2**63 - 1, 27, 200)
def opset(version: int) -> Made:
    model = net()
    model.opset_import[0].version = version
    return model


@hostile()
def no_default_opset() -> Made:
    model = net()
    model.opset_import[0].domain = "elsewhere"
    return model


@hostile()
def opsets_twice() -> Made:
    model = net()
    model.opset_import.add(domain="", version=3)
    return model


@hostile(0, 2**62, -5, 99)
def ir(version: int) -> Made:
    model = net()
    model.ir_version = version
    return model


@hostile()
def cycle() -> Made:
    return net([node("Add", "x two", "one"), node("Add", "x one", "two")], end="two")


@hostile()
def node_that_reads_itself() -> Made:
    return net([node("Add", "x z", "z")], end="z")


@hostile("output", "initializer", "input", "empty", "empty_input", "nowhere", "graph_output")
def names(kind: str) -> Made:
    model = net()
    graph = model.graph
    if kind == "output":
        graph.node.extend([node("Relu", "x", "b")])
    elif kind == "initializer":
        graph.initializer.append(floats("w", np.ones((4, 3, 3, 3))))
    elif kind == "input":
        graph.input.append(graph.input[0])
    elif kind == "empty":
        tail_of(model, "Relu").output[0] = ""
    elif kind == "empty_input":
        tail_of(model, "Relu").input[0] = ""
    elif kind == "nowhere":
        tail_of(model, "Relu").input[0] = "not there"
    else:
        graph.output[0].name = "not there"
    return model


@hostile(
    newline="a\nb",
    crlf="a\r\nb",
    escape="\x1b[2J\x1b]0;owned\x07",
    rtl="\u202eb",
    long="z" * 100_000,
    formula="=1+1",
    blank=" ",
    tab="\t",
    nul="a\0b",
    comma="a,b",
    slash="../../etc/passwd",
    html="<script>alert(1)</script>",
    at="a@b",
    star="*",
    equals="a=b",
)
def tensor_called(name: str) -> Made:
    model = net()
    tail_of(model, "Relu").output[0] = name
    tail_of(model, "GlobalAveragePool").input[0] = name
    model.graph.node[-1].output[0] = name + "!"
    model.graph.output[0].name = name + "!"
    tail_of(model, "Conv").name = name
    return model


@hostile(b"\xff\xfe", b"\xed\xa0\x80")
def bytes_that_are_no_text(name: bytes) -> Made:
    content = net().SerializeToString()
    return content.replace(b"/body/conv/Conv", (name * 8)[:15])


@hostile("a\nb", "x" * 10_000, "é" * 50)
def input_called(name: str) -> Made:
    model = net()
    model.graph.input[0].name = name
    tail_of(model, "Conv").input[0] = name
    return model


@hostile("direct", "mutual", "bomb", "none", "missing", "long", "attributes")
def functions(kind: str) -> Made:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def function(name: str, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
        return helper.make_function("own", name, ["i"], ["o"], nodes, opsets)

    def call(name: str, i: str, o: str) -> onnx.NodeProto:
        return node(name, i, o, domain="own")

    made = {
        "direct": [function("f", [call("f", "i", "o")])],
        "mutual": [function("f", [call("g", "i", "o")]), function("g", [call("f", "i", "o")])],
        "bomb": [
            function(
                "f" if i == 0 else f"f{i}",
                [call(f"f{i + 1}", "i", "m"), call(f"f{i + 1}", "m", "o")],
            )
            for i in range(30)
        ]
        + [function("f30", [node("Relu", "i", "o")])],
        "none": [function("f", [])],
        "missing": [function("f", [call("g", "i", "o")])],
        "long": [
            function("f" if i == 0 else f"f{i}", [call(f"f{i + 1}", "i", "o")])
            for i in range(5_000)
        ]
        + [function("f5000", [node("Relu", "i", "o")])],
        "attributes": [function("f", [node("Flatten", "i", "o", axis="no")])],
    }[kind]
    return net([call("f", "x", "z")], end="z", functions=made, domains=["own"])


@hostile(17, 40)
def functions_of_one_name(count: int) -> Made:
    """Each calls the next twice; they have one name, and the last of that name calls nothing."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def overloaded(i: int, made: onnx.NodeProto | onnx.FunctionProto) -> Any:
        made.overload = f"v{i}" if i >= 0 else ""
        return made

    def function(i: int, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
        return overloaded(i, helper.make_function("own", "f", ["i"], ["o"], nodes, opsets))

    def call(i: int, ends: str) -> onnx.NodeProto:
        return overloaded(i, node("f", *ends.split(), domain="own"))

    calling = [function(i, [call(i + 1, "i m"), call(i + 1, "m o")]) for i in range(count)]
    plain = [function(i, [node("Relu", "i", "o")]) for i in (count, -1)]
    return net([call(0, "x z")], end="z", functions=[*calling, *plain], domains=["own"])


@hostile("outside", "type", "short", "segment", "text")
def tensor_in_a_function(kind: str) -> Made:
    opsets = [helper.make_opsetid("", 17)]
    constant = node("Constant", "", "c", value=_odd_tensor(kind))
    made = helper.make_function(
        "own", "f", ["i"], ["o"], [constant, node("Add", "i c", "o")], opsets
    )
    return net([node("f", "x", "z", domain="own")], end="z", functions=[made], domains=["own"])


@hostile("outside", "type", "short", "segment", "text", "lengths")
def sparse_tensor_in_an_attribute(kind: str) -> Made:
    constant = node("Constant", "", "c")
    sparse = constant.attribute.add(name="sparse_value", type=11).sparse_tensor
    sparse.values.CopyFrom(_odd_tensor(kind))
    sparse.indices.CopyFrom(ints("at", [5]))
    sparse.dims.extend([-1, 3, 8, 8] if kind == "lengths" else [1, 3, 8, 8])
    return net([constant, node("Add", "x c", "z")], end="z")


def _odd_tensor(kind: str) -> onnx.TensorProto:
    tensor = floats("odd", [1.0])
    if kind == "outside":
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../etc/passwd")
    elif kind == "type":
        tensor.data_type = 99
    elif kind == "short":
        tensor.raw_data = b"a"
    elif kind == "segment":
        tensor.segment.begin = 1
    elif kind == "text":
        tensor = TensorProto(name="odd", data_type=8, dims=[1], string_data=[b"\xff"])
    return tensor


@hostile(200_000)
def bodies_of_one_node(count: int) -> Made:
    relu = node("Relu", "x", "z")
    bodies = relu.attribute.add(name="bodies", type=onnx.AttributeProto.GRAPHS)
    bodies.graphs.extend([onnx.GraphProto(name="b")] * count)
    return net([relu], end="z")


@hostile(50, 10_000)
def bodies_in_bodies(depth: int) -> Made:
    """Written as bytes, from inside out, since helpers copy a body each time."""
    inner = graph_of([node("Identity", "one", "o")], [], [("o", INT64, [1])]).SerializeToString()

    def field(number: int, content: bytes) -> bytes:
        size, head = len(content), bytes([number << 3 | 2])
        while size > 0x7F:
            head += bytes([size & 0x7F | 0x80])
            size >>= 7
        return head + bytes([size]) + content

    output = helper.make_tensor_value_info("o", INT64, [1]).SerializeToString()
    parts = inner
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, parts) + b"\xa0\x01\x05"
        other = field(1, b"else_branch") + field(6, inner) + b"\xa0\x01\x05"
        made = field(1, b"yes") + field(2, b"o") + field(4, b"If") + field(5, attribute)
        made += field(5, other)
        parts = field(1, made) + field(2, b"body") + field(12, output)
    model = net([*added("one")], _loop_weights(1), end="x_with").SerializeToString()
    last = field(1, b"then_branch") + field(6, parts) + b"\xa0\x01\x05"
    last += field(1, b"else_branch") + field(6, inner) + b"\xa0\x01\x05"
    extra = field(1, field(1, b"yes") + field(2, b"chosen") + field(4, b"If") + field(5, last))
    return model + field(7, extra)


# ------------------------------------------------------------------------------------------------
# Nodes
# ------------------------------------------------------------------------------------------------


@hostile(20_000)
def many_inputs(count: int) -> Made:
    model = net()
    model.graph.input.extend(
        helper.make_tensor_value_info(f"i{i}", FLOAT, ["N", 3]) for i in range(count)
    )
    return model


@hostile("Conv", "Relu", "Flatten", "MatMul", "GlobalAveragePool")
def no_inputs(op: str) -> Made:
    model = net()
    del tail_of(model, op).input[:]
    return model


@hostile("Conv", "Relu", "Flatten", "MatMul", "GlobalAveragePool")
def no_outputs(op: str) -> Made:
    model = net()
    del tail_of(model, op).output[:]
    return model


_OPERATORS = (
    "Reshape Gather Slice Concat Split Transpose Squeeze Unsqueeze Expand Pad Resize Softmax Gemm "
    "If Loop Scan Shape Size Constant ConstantOfShape Range Tile Where Cast TopK NonZero Einsum "
    "LSTM BatchNormalization LayerNormalization QuantizeLinear DequantizeLinear QLinearConv "
    "MaxPool AveragePool Pow ReduceMean ReduceSum CumSum OneHot ScatterND GatherND DepthToSpace "
    "Identity CastLike Clip Dropout PRelu SplitToSequence SequenceAt Optional"
)


@hostile(*_OPERATORS.split())
def bare(op: str) -> Made:
    """A node of this operator with nothing but its output, between x and the network."""
    return net([node(op, "", "z"), node("Add", "x z", "z2")], end="z2")


@hostile(*_OPERATORS.split())
def data_alone(op: str) -> Made:
    """A node of this operator that reads x and nothing else."""
    return net([node(op, "x", "z")], end="z")


_VALUES: dict[str, Any] = {
    "text": "no",
    "number": 7,
    "float": 1.5,
    "numbers": [10**18, -(10**18)],
    "none": None,
    "tensor": floats("t", [1.0]),
    "bytes": b"\xff\xfe",
    "texts": ["a", "b"],
}


@hostile(
    *(
        f"{op} {key} {kind}"
        for op, keys in {
            "Conv": "pads strides auto_pad kernel_shape dilations group",
            "Flatten": "axis",
        }.items()
        for key in keys.split()
        for kind in _VALUES
    )
)
def attribute(asked: str) -> Made:
    op, key, kind = asked.split()
    model = net()
    changed = tail_of(model, op)
    for stated in list(changed.attribute):
        if stated.name == key:
            changed.attribute.remove(stated)
    if kind == "none":
        changed.attribute.add(name=key)
    else:
        changed.attribute.append(helper.make_attribute(key, _VALUES[kind]))
    return model


@hostile("huge", "refers", "twice", "unnamed", "type")
def attribute_that_is(kind: str) -> Made:
    model = net()
    conv = tail_of(model, "Conv")
    if kind == "huge":
        conv.attribute[0].ints[:] = [2**62] * 4
    elif kind == "refers":
        conv.attribute[0].ref_attr_name = "other"
    elif kind == "twice":
        conv.attribute.append(conv.attribute[0])
    elif kind == "unnamed":
        conv.attribute[0].name = ""
    else:
        conv.attribute[0].type = onnx.AttributeProto.GRAPH
    return model


@hostile("", "own", "com.microsoft", "ai.onnx.ml", "x" * 10_000)
def strange_operator(domain: str) -> Made:
    made = node(
        "DoesNotExist" if domain != "com.microsoft" else "FusedConv", "x", "z", domain=domain
    )
    return net([made], end="z", domains=[domain] if domain else [])


# ------------------------------------------------------------------------------------------------
# Metadata
# ------------------------------------------------------------------------------------------------

_OWN = "onnx_geed."
_DEEP = "[" * 100_000 + "]" * 100_000


@hostile(
    classes_deep={"onnx_geed.classes": _DEEP},
    classes_nan={"onnx_geed.classes": "[NaN, Infinity]"},
    classes_many={"onnx_geed.classes": json.dumps([f"c{i}" for i in range(300_000)])},
    classes_digits={"onnx_geed.classes": "[" + "9" * 6_000 + "]"},
    classes_surrogate={"onnx_geed.classes": '["\\ud800", "b", "c", "d", "e"]'},
    classes_control={"onnx_geed.classes": '["\\u001b[2J", "\\n", "\\u0000", "d", "e"]'},
    preprocess_deep={"onnx_geed.preprocess": _DEEP},
    preprocess_wrong={"onnx_geed.preprocess": '{"resize": "a"}'},
    preprocess_huge={"onnx_geed.preprocess": '{"resize": 100000000}'},
    preprocess_digits={"onnx_geed.preprocess": '{"resize": ' + "9" * 6_000 + "}"},
    preprocess_text={"onnx_geed.preprocess": "\ufffe"},
    action_deep={f"{_OWN}action.b": _DEEP},
    action_object={f"{_OWN}action.b": '{"a":' * 100_000 + "1" + "}" * 100_000},
    action_wrong={f"{_OWN}action.b": "[]"},
    action_null={f"{_OWN}action.b": "null"},
    action_digits={f"{_OWN}action.b": '{"channels": [[' + "9" * 6_000 + "]]}"},
    action_for_none={f"{_OWN}action.": "{}"},
    layout_long={f"{_OWN}layout.b": "N" * 100_000},
    layout_grid={f"{_OWN}layout.b": "NTD:" + "9" * 6_000 + "x1"},
    layout_none={f"{_OWN}layout.b": ""},
    layout_input={"onnx_geed.input_layout": "N" * 100_000},
    input_long={"onnx_geed.input": "x" * 100_000},
    output_long={"onnx_geed.output": "x" * 100_000},
    kind_long={"onnx_geed.output_kind": "x" * 100_000},
    latent_long={"onnx_geed.latent": "x" * 100_000},
    measurement={"onnx_geed.measurement": _DEEP},
    control={"onnx_geed.latent": "\x1b[2J\n\r\0"},
    huge={"comment": "x" * 30_000_000},
)
def metadata(entries: dict[str, str]) -> Made:
    model = net()
    helper.set_model_props(model, entries)
    return model


@hostile()
def metadata_by_the_hundred_thousand() -> Made:
    model = net()
    for i in range(200_000):
        model.metadata_props.add(key=f"{_OWN}action.t{i}", value="{}")
    return model


@hostile()
def metadata_twice() -> Made:
    model = net()
    for value in ("a", "b"):
        model.metadata_props.add(key="onnx_geed.output", value=value)
    return model


# ------------------------------------------------------------------------------------------------
# Divisions on which the processor ends a process
# ------------------------------------------------------------------------------------------------

_LEAST = -(2**63)


@hostile(
    zero=("Div", 5, 0),
    zeros=("Div", 5, [1] * 100 + [0]),
    least=("Div", _LEAST, -1),
    modulo_zero=("Mod", 5, 0),
    modulo_least=("Mod", _LEAST, -1),
    of_data=("Div", None, -1),
    by_identity=("Div", _LEAST, "Identity"),
    by_constant=("Div", _LEAST, "Constant"),
    filled=("Div", _LEAST, "ConstantOfShape"),
)
def division(case: tuple[str, int | None, object]) -> Made:
    op, divided, by = case
    one = numpy_helper.from_array(np.array([-1]), "one")
    made = {
        "Identity": node("Identity", "minus", "by"),
        "Constant": node("Constant", "", "by", value_int=-1),
        "ConstantOfShape": node("ConstantOfShape", "length", "by", value=one),
    }
    nodes = [made[by]] if isinstance(by, str) else []
    weights = [ints("minus", [-1]), ints("length", [1]), ints("least", _LEAST), ints("nil", 0)]
    if not nodes:
        weights.append(ints("by", by))
    if divided is None:
        nodes += [
            node("Cast", "x", "whole", to=INT64),
            node("Mul", "whole nil", "nothing"),
            node("Add", "nothing least", "divided"),
        ]
    else:
        weights.append(ints("divided", divided))
    nodes += [node(op, "divided by", "quotient", name="the_division"), *added("quotient")]
    return net(nodes, weights, end="x_with")


# ------------------------------------------------------------------------------------------------
# Attributes on which a library ends a process
# ------------------------------------------------------------------------------------------------

_MOST = 2**63 - 1
_PHRASES = {
    "mode": "TF",
    "min_gram_length": 2,
    "max_gram_length": 2,
    "max_skip_count": 0,
    "ngram_counts": [0, 4],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}


@hostile(
    group=("group 0", "ConvTranspose", "x kernels", {"group": 0}),
    batch_dims_most=(f"batch_dims {_MOST}", "GatherND", "x at", {"batch_dims": _MOST}),
    batch_dims_least=(f"batch_dims {_LEAST}", "GatherND", "x at", {"batch_dims": _LEAST}),
    batch_dims=("batch_dims -7", "GatherND", "x at", {"batch_dims": -7}),
    axis=("axis 2147483648", "LayerNormalization", "x three", {"axis": 1 << 31}),
    heads=("q_num_heads 0", "Attention", "x x x", {"q_num_heads": 0, "kv_num_heads": 1}),
    heads_of_keys=(
        "kv_num_heads 4294967296",
        "Attention",
        "x x x",
        {"q_num_heads": 1, "kv_num_heads": 1 << 32},
    ),
    sampling=("sampling_ratio 4294967296", "RoiAlign", "x boxes at", {"sampling_ratio": 1 << 32}),
    scale=("scale -1", "RandomNormal", "", {"shape": [1], "scale": -1.0}),
    scale_zero=("scale 0", "RandomNormal", "", {"shape": [1], "scale": 0.0}),
    scale_nan=("scale nan", "RandomNormal", "", {"shape": [1], "scale": float("nan")}),
    scale_like=("scale -1", "RandomNormalLike", "x", {"scale": -1.0}),
    low=("low 1 and high 0", "RandomUniform", "", {"shape": [1], "low": 1.0, "high": 0.0}),
    high=("low 0 and high -1", "RandomUniform", "", {"shape": [1], "high": -1.0}),
    low_nan=("low nan and high 1", "RandomUniformLike", "x", {"low": float("nan")}),
    dots=("equation a....b", "Einsum", "x", {"equation": "a....b"}),
    parts=("num_outputs 2", "Split", "x", {"num_outputs": 2}),
    skips=(
        "max_skip_count 2147483648",
        "TfIdfVectorizer",
        "whole",
        _PHRASES | {"max_skip_count": 1 << 31, "ngram_indexes": list(range(7))},
    ),
    phrases=("ngram_indexes of 1", "TfIdfVectorizer", "whole", _PHRASES | {"ngram_indexes": [1]}),
)
def fatal_attribute(case: tuple[str, str, str, dict[str, Any]]) -> Made:
    """The first of each case is what is told."""
    _, op, inputs, stated = case
    nodes = [
        node("Cast", "x", "wholes", to=INT64),
        node("Reshape", "wholes rest", "whole"),
        node(op, inputs, "fatal", name="the_node", **stated),
        node("Cast", "fatal", "floating", to=FLOAT),
        node("ReduceMean", "floating", "mean", keepdims=0),
        node("Add", "x mean", "z"),
    ]
    weights = [
        floats("kernels", np.ones((3, 3, 1, 1))),
        floats("three", np.ones(8)),
        floats("boxes", np.ones((2, 4))),
        ints("at", [0, 0]),
        ints("rest", [-1]),
    ]
    return net(nodes, weights, end="z")


@hostile(300_000_000, 10**9, 10**12)
def sparse_weights_of(length: int) -> Made:
    """One value, and as many zeros."""
    nodes = [node("ReduceMean", "s", "mean", keepdims=0), node("Add", "x mean", "z")]
    model = net(nodes, end="z")
    sparse = model.graph.sparse_initializer.add(dims=[length])
    sparse.values.CopyFrom(floats("s", [1.0]))
    sparse.indices.CopyFrom(ints("at", [0]))
    return model


@hostile(many=(3_000_000, 1), long=(1, 100_000_000), attribute=(0, 100_000_000))
def texts(case: tuple[int, int]) -> Made:
    count, length = case
    model = net([node("Shape", "t", "s"), *added("s")], end="x_with")
    words = [b"x" * length] * max(1, count)
    model.graph.initializer.add(name="t", data_type=8, dims=[len(words)], string_data=words)
    if not count:
        model = net(
            [node("Constant", "", "t", value_string=words[0]), *model.graph.node[:4]], end="x_with"
        )
    return model


@hostile()
def texts_that_are_not_utf_8() -> Made:
    model = net([node("Shape", "t", "s"), *added("s")], end="x_with")
    model.graph.initializer.add(name="t", data_type=8, dims=[1], string_data=[b"\xff\xfe"])
    return model


@hostile(
    depth=("OneHot", "at none pair", "without a value"),
    depth_by_shape=("OneHot", "at filled pair", "without a value"),
    trips=("Loop", "none yes x", "without a value"),
    parts=("SplitToSequence", "x nil", "of 0"),
    parts_by_constant=("SplitToSequence", "x stated", "of 0"),
    frame=("STFT", "signal one  nil", "of 0"),
    window=("STFT", "signal one no_scale", "without a value"),
    window_of_one=("STFT", "signal one number", "of 0 axes, not 1"),
    scale=("QLinearConcat", "no_scale zero byte", "without a value"),
)
def fatal_constant(case: tuple[str, str, str]) -> Made:
    op, inputs, _ = case
    body = graph_of(
        [node("Identity", "go", "go_on"), node("Identity", "carried", "carried_on")],
        [("i", INT64, []), ("go", TensorProto.BOOL, []), ("carried", FLOAT, None)],
        [("go_on", TensorProto.BOOL, []), ("carried_on", FLOAT, None)],
    )
    stated = {"Loop": {"body": body}, "QLinearConcat": {"axis": 0}}.get(op, {})
    own = helper.make_node(op, inputs.split(" "), ["fatal"], name="the_node", **stated)
    own.domain = "com.microsoft" if op == "QLinearConcat" else ""
    nodes = [
        node("Constant", "", "stated", value_int=0),
        node("ConstantOfShape", "nil_long", "filled", value=ints("v", [1])),
        own,
    ]
    if op == "SplitToSequence":
        nodes.append(node("SequenceAt", "fatal nil", "one_of"))
    elif op == "QLinearConcat":
        nodes.append(node("Cast", "fatal", "one_of", to=FLOAT))
    else:
        nodes.append(node("Identity", "fatal", "one_of"))
    nodes += [node("ReduceMean", "one_of", "mean", keepdims=0), node("Add", "x mean", "z")]
    weights = [
        ints("at", [0, 0]),
        ints("none", []),
        ints("nil", 0),
        ints("nil_long", [0]),
        ints("one", 1),
        floats("pair", [0, 1]),
        floats("signal", np.ones((1, 16, 1))),
        floats("no_scale", []),
        floats("number", 1.0),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.uint8(0), "zero"),
        numpy_helper.from_array(np.ones(3, np.uint8), "byte"),
    ]
    return net(nodes, weights, end="z", domains=[own.domain] if own.domain else [])


# ------------------------------------------------------------------------------------------------
# Bytes
# ------------------------------------------------------------------------------------------------


@hostile(
    empty=b"",
    zeros=b"\0" * 1000,
    text=b"not a model",
    ones=b"\xff" * 1000,
    long_varint=b"\x08" + b"\xff" * 100,
    length_of_all=b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    groups=b"\x3b" * 100_000,
)
def content(given: bytes) -> Made:
    return given


@hostile(0.1, 0.5, 0.9, 0.99)
def cut_at(share: float) -> Made:
    whole = net().SerializeToString()
    return whole[: int(len(whole) * share)]


@hostile("Loop", "SequenceAt", "SequenceErase", "SequenceInsert")
def computed_nothing(op: str) -> Made:
    """A position, or a number of rounds, that is computed and has no value."""
    return at_a_computed_place(op, "Sub")


def at_a_computed_place(op: str, made: str) -> onnx.ModelProto:
    """One of three values of 0, or none where ``made`` makes zeros: `Sub`, not `Sum`."""
    nodes = [
        node(made, "x x", "p_d"),
        node("NonZero", "p_d", "p_nz"),
        node("Slice", "p_nz p_b p_e", "p_row"),
    ]
    nodes += [
        node("Slice", "p_row p_b p_e p_last", "p_some"),
        node("Squeeze", "p_some p_b", "place"),
    ]
    if op == "Loop":
        rounds = graph_of(
            [node("Identity", "go", "go_on"), node("Neg", "c", "c_on")],
            [("i", INT64, []), ("go", BOOL, []), ("c", FLOAT, ["N", 3, 8, 8])],
            [("go_on", BOOL, []), ("c_on", FLOAT, ["N", 3, 8, 8])],
        )
        nodes.append(node("Loop", "place yes x", "z", body=rounds))
    else:
        reads = {"SequenceInsert": "q x place", "SequenceErase": "q place", "SequenceAt": "q place"}
        nodes.append(node("SequenceConstruct", "x x", "q"))
        nodes.append(node(op, reads[op], "z" if op == "SequenceAt" else "q2"))
        if op != "SequenceAt":
            nodes.append(node("SequenceAt", "q2 first", "z"))
    weights = [ints(n, [v]) for n, v in (("p_b", 0), ("p_e", 1), ("p_last", 1))]
    truth = numpy_helper.from_array(np.array(True), "yes")
    return net(nodes, [*weights, ints("first", 0), truth], end="z")
