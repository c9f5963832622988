"""Tiny ONNX graphs with known answers, made with onnx.helper and numpy alone.

Every builder returns an ``onnx.ModelProto`` (opset 17, IR 10); its docstring says what is known of
it. Images are N,C,H,W unless said otherwise; ``known(model)`` lists the tensor names that matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 10
FLOAT = TensorProto.FLOAT
Array = NDArray[np.float32]


# ------------------------------------------------------------------------------------------------
# Bricks
# ------------------------------------------------------------------------------------------------


def weights(name: str, values: object, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype, order="C"), name)


def integers(name: str, values: Sequence[int]) -> onnx.TensorProto:
    return weights(name, values, np.int64)


def build(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto],
    inputs: Sequence[tuple[str, int, Sequence[object]]],
    outputs: Sequence[tuple[str, int, Sequence[object] | None]],
    *,
    name: str = "known",
    domains: Sequence[str] = (),
    facts: dict[str, object] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(n, t, list(s)) for n, t, s in inputs],
        [
            helper.make_tensor_value_info(n, t, None if s is None else list(s))
            for n, t, s in outputs
        ],
        initializer=list(initializers),
    )
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="onnx-geed tests")
    model.ir_version = IR_VERSION
    if facts:
        helper.set_model_props(model, {"test.known": json.dumps(facts)})
    return model


def known(model: onnx.ModelProto) -> dict[str, object]:
    """The tensor names and tables that a builder left in the metadata key `test.known`."""
    for entry in model.metadata_props:
        if entry.key == "test.known":
            return dict(json.loads(entry.value))
    return {}


def with_metadata(model: onnx.ModelProto, entries: dict[str, str]) -> onnx.ModelProto:
    """A copy with these metadata entries added."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for key, value in entries.items():
        copy.metadata_props.add(key=key, value=value)
    return copy


def node(op: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """One node; names separated by blanks; the node is named after its first output."""
    out = outputs.split()
    return helper.make_node(op, inputs.split(), out, name=f"node_{out[0]}", **attributes)


def conv(x: str, w: str, y: str, *, stride: int = 1, pad: int = 1) -> onnx.NodeProto:
    return node("Conv", f"{x} {w}", y, strides=[stride] * 2, pads=[pad] * 4)


def quarter_symmetric(kernels: Array) -> Array:
    """The mean over the four quarter turns of the last two axes."""
    turned = [np.rot90(kernels, k, axes=(-2, -1)) for k in range(4)]
    return np.asarray(np.mean(turned, axis=0), dtype=np.float32)


def c4_channel_table(fields: int) -> list[list[int]]:
    """For r^k: channel 4f + j of the moved map is channel 4f + (j - k) mod 4, (4, 4 * fields)."""
    return [[4 * f + (j - k) % 4 for f in range(fields) for j in range(4)] for k in range(4)]


# ------------------------------------------------------------------------------------------------
# Symmetric by construction
# ------------------------------------------------------------------------------------------------


def turning_basis(pairs: int) -> NDArray[np.float64]:
    """Another basis for channels in pairs, so that each of them holds something of all."""
    channels = 2 * pairs
    return np.eye(channels) + np.random.default_rng(3).normal(size=(channels, channels)) / 4


def turning_pairs(turns: Sequence[object], pairs: int) -> NDArray[np.float64]:
    """A representation: channels in pairs, turned by 2 x 2 matrices and seen in another basis."""
    basis = turning_basis(pairs)
    back = np.linalg.inv(basis)
    return np.array([basis @ np.kron(np.eye(pairs), np.asarray(turn)) @ back for turn in turns])


def c4_vector_fields(pairs: int = 3, channels: int = 3, seed: int = 5) -> onnx.ModelProto:
    """A steerable layer by hand: ``fields`` (N, 2 * pairs, H, W), whose channels turn in pairs.

    Known: under C4 they move along and turn by ``turning_pairs`` of the powers of a quarter turn.
    The same as ``last`` (N, H, W, C), ``tokens`` (N, H * W, C), ``pooled`` (N, C, 1, 1) and the
    output ``vector`` (N, C).
    """
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    matrices = turning_pairs([np.linalg.matrix_power(turn, k) for k in range(4)], pairs)
    kernels = np.random.default_rng(seed).normal(size=(2 * pairs, channels, 3, 3))
    # The mean over what keeps: turning the kernels and their output channels at once.
    turned = [np.rot90(kernels, k, axes=(-2, -1)) for k in range(4)]
    steered = sum(np.tensordot(m, w, 1) for m, w in zip(matrices, turned, strict=True)) / 4
    return build(
        [
            conv("x", "steered", "fields"),
            node("Transpose", "fields", "last", perm=[0, 2, 3, 1]),
            node("Reshape", "last token_shape", "tokens"),
            node("GlobalAveragePool", "fields", "pooled"),
            node("Flatten", "pooled", "vector", axis=1),
        ],
        [
            weights("steered", steered),
            integers("token_shape", [0, -1, 2 * pairs]),
        ],
        [("x", FLOAT, ["N", channels, 7, 7])],
        [("vector", FLOAT, ["N", 2 * pairs])],
        facts={"matrices": matrices.tolist()},
    )


def _pooled_cnn(
    first: Array, second: Array, head: Array, bias: Array, size: int, stride: int
) -> onnx.ModelProto:
    channels = first.shape[1]
    return build(
        [
            conv("x", "w1", "pre1"),
            node("Relu", "pre1", "map1"),
            conv("map1", "w2", "pre2", stride=stride),
            node("Relu", "pre2", "map2"),
            node("GlobalAveragePool", "map2", "pooled"),
            node("Flatten", "pooled", "latent", axis=1),
            node("Gemm", "latent head bias", "logits"),
        ],
        [weights("w1", first), weights("w2", second), weights("head", head), weights("bias", bias)],
        [("x", FLOAT, ["N", channels, size, size])],
        [("logits", FLOAT, ["N", head.shape[1]])],
        facts={"hidden": ["map1", "map2"], "latent": "latent", "logits": "logits"},
    )


def c4_equivariant(
    size: int = 9, channels: int = 1, *, classes: int = 4, seed: int = 0, disturb: float = 0.0
) -> onnx.ModelProto:
    """Exactly C4-equivariant: symmetric 3x3 kernels, stride 2 on an odd grid, ReLU, pooling.

    Known, at C4: channel-cos of map1 (size x size) and map2 ((size + 1) / 2) is -1, latent-l2 and
    softmax-kl are 0, up to float32 rounding. A quarter-turn symmetric 3x3 kernel is mirror
    symmetric too, so the same holds at D4 and the flips. With ``disturb`` one weight of the first
    convolution is off by that much and at C4 none of the three holds any more.
    """
    if size % 2 == 0:
        raise ValueError("stride 2 is symmetric on an odd grid only")
    rng = np.random.default_rng(seed)
    first = quarter_symmetric(rng.normal(size=(5, channels, 3, 3)))
    first[0, 0, 0, 1] += disturb
    # Positive sums keep the ReLUs alive on images in [0, 1].
    second = quarter_symmetric(rng.normal(size=(6, 5, 3, 3)) + 0.1)
    return _pooled_cnn(
        np.asarray(first, np.float32),
        second,
        np.asarray(rng.normal(size=(6, classes)), np.float32),
        np.asarray(rng.normal(size=classes), np.float32),
        size,
        2,
    )


def c4_disturbed(size: int = 9, channels: int = 1, *, amount: float = 0.5) -> onnx.ModelProto:
    """``c4_equivariant`` with one weight off by ``amount``: every measure sees it."""
    return c4_equivariant(size, channels, disturb=amount)


def c4_lifting(
    size: int = 9, *, fields: int = 3, classes: int = 4, seed: int = 1
) -> onnx.ModelProto:
    """A C4 group-equivariant CNN whose channels permute: lifting and group convolution.

    Channel 4f + j answers to the f-th filter turned j times, so map(r^k x)[4f + j] is
    r^k map(x)[4f + (j - k) mod 4]. Known, at C4: with ``known(model)["channels"]`` (|G|, C) the
    channel-cos of map1 and map2 is -1, without it it is more; latent-l2 and softmax-kl are 0.
    """
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(fields, 3, 3))
    lift = np.stack([np.rot90(base[f], j) for f in range(fields) for j in range(4)])[:, None]
    mix = rng.normal(size=(fields, fields, 4, 3, 3)) + 0.05
    group = np.zeros((4 * fields, 4 * fields, 3, 3))
    for out in range(fields):
        for into in range(fields):
            for i in range(4):
                for j in range(4):
                    turned = np.rot90(mix[out, into, (j - i) % 4], i)
                    group[4 * out + i, 4 * into + j] = turned
    return build(
        [
            conv("x", "w1", "pre1"),
            node("Relu", "pre1", "map1"),
            conv("map1", "w2", "pre2"),
            node("Relu", "pre2", "map2"),
            node("GlobalAveragePool", "map2", "pooled"),
            node("Reshape", "pooled by_field", "oriented"),
            node("ReduceMean", "oriented", "latent", axes=[2], keepdims=0),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("w1", lift),
            weights("w2", group),
            integers("by_field", [-1, fields, 4]),
            weights("head", rng.normal(size=(fields, classes))),
            weights("bias", rng.normal(size=classes)),
        ],
        [("x", FLOAT, ["N", 1, size, size])],
        [("logits", FLOAT, ["N", classes])],
        facts={
            "hidden": ["map1", "map2"],
            "channels": c4_channel_table(fields),
            "latent": "latent",
            "logits": "logits",
        },
    )


def dense_scores(
    size: int = 8, *, classes: int = 3, symmetric: bool = True, softmax: bool = False, seed: int = 4
) -> onnx.ModelProto:
    """Class scores of every pixel, z (N, classes, H, W), or their Softmax y.

    Known, at C4: with ``symmetric`` kernels the scores move along with the image, so that
    softmax-kl, flip-rate and unexplained are 0; else none is. Of one class the scores are single
    logits, or a Sigmoid of such.
    """
    rng = np.random.default_rng(seed)
    kernels = [rng.normal(size=(5, 1, 3, 3)), rng.normal(size=(classes, 5, 3, 3))]
    first, second = (quarter_symmetric(k) if symmetric else k for k in kernels)
    nodes = [conv("x", "w1", "pre"), node("Relu", "pre", "map"), conv("map", "w2", "z")]
    if softmax:
        ending = {"axis": 1} if classes > 1 else {}
        nodes.append(node("Softmax" if classes > 1 else "Sigmoid", "z", "y", **ending))
    return build(
        nodes,
        [weights("w1", first), weights("w2", second)],
        [("x", FLOAT, ["N", 1, size, size])],
        [("y" if softmax else "z", FLOAT, ["N", classes, size, size])],
    )


def flip_equivariant(height: int = 6, width: int = 7, *, seed: int = 2) -> onnx.ModelProto:
    """Left-right symmetric kernels, any grid.

    Known, at flip-h: channel-cos of map1 and map2 is -1, latent-l2 and softmax-kl are 0. At flip-v
    none of these holds.
    """
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    second = rng.normal(size=(5, 4, 3, 3)).astype(np.float32)
    model = _pooled_cnn(
        (first + first[..., ::-1]) / 2,
        (second + second[..., ::-1]) / 2,
        np.asarray(rng.normal(size=(5, 3)), np.float32),
        np.asarray(rng.normal(size=3), np.float32),
        1,
        1,
    )
    shape = model.graph.input[0].type.tensor_type.shape
    shape.dim[2].dim_value, shape.dim[3].dim_value = height, width
    return model


def uneven_stride(size: int = 8, *, seed: int = 17) -> onnx.ModelProto:
    """A convolution of stride 1 by 2: a square image, a map twice as high as wide.

    Known: quarter turns are exact on the input but not on ``map``; there, half turns are.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            node("Conv", "x w", "pre", strides=[1, 2], pads=[1] * 4),
            node("Relu", "pre", "map"),
            node("GlobalAveragePool", "map", "pooled"),
            node("Flatten", "pooled", "latent", axis=1),
            node("Gemm", "latent head", "logits"),
        ],
        [weights("w", rng.normal(size=(4, 3, 3, 3))), weights("head", rng.normal(size=(4, 3)))],
        [("x", FLOAT, ["N", 3, size, size])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["map"], "latent": "latent", "logits": "logits"},
    )


def c4_invariant(size: int = 6, *, features: int = 5, classes: int = 3) -> onnx.ModelProto:
    """C4-invariant with no map inside: quarter-turn symmetric templates, ReLU, affine head.

    Known, at C4, on any (even or odd) square grid: latent-l2 and softmax-kl are 0, latent-cos
    unnormalised is -1. There is no channel tensor.
    """
    rng = np.random.default_rng(3)
    templates = quarter_symmetric(rng.normal(size=(features, size, size)))
    return build(
        [
            node("Flatten", "x", "flat", axis=1),
            node("MatMul", "flat templates", "pre"),
            node("Relu", "pre", "latent"),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("templates", templates.reshape(features, -1).T),
            weights("head", rng.normal(size=(features, classes))),
            weights("bias", rng.normal(size=classes)),
        ],
        [("x", FLOAT, ["N", 1, size, size])],
        [("logits", FLOAT, ["N", classes])],
        facts={"latent": "latent", "logits": "logits"},
    )


def constant(size: int = 5) -> onnx.ModelProto:
    """The same latent (1, 2) and logits (3, -1, 0) for every image.

    Known, at every group: softmax-kl, output-l2 and unnormalised latent-l2 are exactly 0; M of
    latent-l2 is 0, so the normalised value is null; latent-cos is -1 with M = 1.
    """
    return build(
        [
            node("Flatten", "x", "flat", axis=1),
            node("Gemm", "flat nothing offset", "pre"),
            node("Relu", "pre", "latent"),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("nothing", np.zeros((size * size, 2))),
            weights("offset", [1.0, 2.0]),
            weights("head", [[1.0, 0.0, 2.0], [1.0, 0.0, -1.0]]),
            weights("bias", [0.0, -1.0, 0.0]),
        ],
        [("x", FLOAT, ["N", 1, size, size])],
        [("logits", FLOAT, ["N", 3])],
        facts={"latent": "latent", "logits": "logits"},
    )


def cyclic_logits(size: int = 5) -> onnx.ModelProto:
    """Linear; logit j is the inner product with a template turned j times.

    Known, at C4: f(r^k x)[j] = f(x)[(j - k) mod 4], so that with ``known(model)["permutation"]``
    softmax-kl and output-l2 are 0; under the trivial action they are not.
    """
    template = np.random.default_rng(4).normal(size=(size, size))
    turned = np.stack([np.rot90(template, j).ravel() for j in range(4)])
    return build(
        [node("Flatten", "x", "flat", axis=1), node("MatMul", "flat templates", "logits")],
        [weights("templates", turned.T)],
        [("x", FLOAT, ["N", 1, size, size])],
        [("logits", FLOAT, ["N", 4])],
        facts={"permutation": c4_channel_table(1), "logits": "logits"},
    )


def sign_logit(size: int = 5) -> onnx.ModelProto:
    """One logit that changes sign under the half turn: the template is odd under it.

    Known, at C2: as two classes, softmax-kl under the swap [[0, 1], [1, 0]] is 0.
    """
    template = np.random.default_rng(5).normal(size=(size, size))
    odd = template - template[::-1, ::-1]
    return build(
        [node("Flatten", "x", "flat", axis=1), node("MatMul", "flat template", "logit")],
        [weights("template", odd.reshape(-1, 1))],
        [("x", FLOAT, ["N", 1, size, size])],
        [("logit", FLOAT, ["N", 1])],
        facts={"permutation": [[0, 1], [1, 0]], "logits": "logit"},
    )


# ------------------------------------------------------------------------------------------------
# Random convolutional networks with residual joins, in several dresses
# ------------------------------------------------------------------------------------------------


class _Cnn:
    """Nodes and weights of a random residual CNN, collected layer by layer."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def conv(self, x: str, y: str, into: int, out: int, *, k: int = 3, stride: int = 1) -> None:
        scale = 1.5 / np.sqrt(into * k * k)
        self.initializers.append(weights(f"{y}_w", self.rng.normal(size=(out, into, k, k)) * scale))
        self.initializers.append(weights(f"{y}_b", self.rng.normal(size=out) * 0.1))
        self.nodes.append(
            node("Conv", f"{x} {y}_w {y}_b", y, strides=[stride] * 2, pads=[k // 2] * 4)
        )

    def add(self, op: str, inputs: str, outputs: str, **attributes: object) -> None:
        self.nodes.append(node(op, inputs, outputs, **attributes))

    def body(self, channels: int, width: int, blocks: int) -> tuple[list[str], list[str], int]:
        """Stem and residual blocks from `x`; the second block on halves the grid and widens."""
        self.conv("x", "stem_pre", channels, width)
        self.add("Relu", "stem_pre", "stem")
        points, inside, at = ["stem"], [], "stem"
        for b in range(blocks):
            stride, out = (1, width) if b == 0 else (2, width + 2)
            self.conv(at, f"block{b}_a_pre", width, out, stride=stride)
            self.add("Relu", f"block{b}_a_pre", f"block{b}_a")
            self.conv(f"block{b}_a", f"block{b}_b", out, out)
            shortcut = at
            if b:
                shortcut = f"block{b}_short"
                self.conv(at, shortcut, width, out, k=1, stride=stride)
            self.add("Add", f"block{b}_b {shortcut}", f"block{b}_sum")
            self.add("Relu", f"block{b}_sum", f"block{b}")
            points.append(f"block{b}")
            inside.append(f"block{b}_a")
            at, width = f"block{b}", out
        return points, inside, width

    def head(self, latent: str, width: int, classes: int, logits: str = "logits") -> None:
        self.initializers.append(weights("head", self.rng.normal(size=(width, classes))))
        self.initializers.append(weights("bias", self.rng.normal(size=classes)))
        self.add("Gemm", f"{latent} head bias", logits)


def random_cnn(
    seed: int = 0,
    size: tuple[int, int] = (12, 12),
    *,
    channels: int = 3,
    width: int = 4,
    blocks: int = 2,
    classes: int = 5,
    batch: str | int = "N",
) -> onnx.ModelProto:
    """A random residual CNN.

    Known: the factorisation points of rank 4 are exactly ``hidden`` (stem, block0, ..) and the
    pooled (N, k, 1, 1); ``inside`` are activations that a shortcut goes round, no points; the
    latent is ``latent``. The second and later blocks halve the grid (odd sizes round up).
    """
    cnn = _Cnn(seed)
    points, inside, width = cnn.body(channels, width, blocks)
    cnn.add("GlobalAveragePool", points[-1], "pooled")
    cnn.add("Flatten", "pooled", "latent", axis=1)
    cnn.head("latent", width, classes)
    return build(
        cnn.nodes,
        cnn.initializers,
        [("x", FLOAT, [batch, channels, *size])],
        [("logits", FLOAT, [batch, classes])],
        facts={
            "hidden": points,
            "inside": inside,
            "pooled": "pooled",
            "latent": "latent",
            "logits": "logits",
        },
    )


def static_batch(
    seed: int = 0, size: tuple[int, int] = (8, 8), *, channels: int = 3
) -> onnx.ModelProto:
    """``random_cnn`` declared for a batch of 1, with Reshape [1, -1] before the head.

    Known: run one by one it equals ``random_cnn(seed, size)`` on the same samples; with a freed
    batch axis it must still. Freed without repairing the Reshape it fails on other batches.
    """
    model = random_cnn(seed, size, channels=channels, batch=1)
    for i, old in enumerate(model.graph.node):
        if old.op_type == "Flatten":
            model.graph.node[i].CopyFrom(node("Reshape", "pooled flat_shape", "latent"))
    model.graph.initializer.append(integers("flat_shape", [1, -1]))
    return model


def merging_batch(size: int = 6) -> onnx.ModelProto:
    """Batch 1 with Reshape [1, -1, 4] and a mean over axis 1.

    Known: f(x) = mean over pixels of 4 channels, then an affine head. With the batch axis merely
    renamed the rows of a batch are averaged into one without an error: the trap to repair.
    """
    rng = np.random.default_rng(6)
    return build(
        [
            conv("x", "w", "pre"),
            node("Relu", "pre", "map"),
            node("Transpose", "map", "last", perm=[0, 2, 3, 1]),
            node("Reshape", "last rows", "tokens"),
            node("ReduceMean", "tokens", "latent", axes=[1], keepdims=0),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("w", rng.normal(size=(4, 1, 3, 3))),
            integers("rows", [1, -1, 4]),
            weights("head", rng.normal(size=(4, 3))),
            weights("bias", rng.normal(size=3)),
        ],
        [("x", FLOAT, [1, 1, size, size])],
        [("logits", FLOAT, [1, 3])],
        facts={"hidden": ["map"], "latent": "latent", "logits": "logits"},
    )


def nhwc_input(
    seed: int = 0, size: tuple[int, int] = (8, 8), *, channels: int = 3
) -> onnx.ModelProto:
    """``random_cnn`` behind a Transpose: the input is N,H,W,C.

    Known: equals ``random_cnn(seed, size)`` on the transposed samples, tensor by tensor.
    """
    model = random_cnn(seed, size, channels=channels)
    for entry in model.graph.node:
        for i, name in enumerate(entry.input):
            if name == "x":
                entry.input[i] = "x_nchw"
    nodes = [node("Transpose", "x", "x_nchw", perm=[0, 3, 1, 2]), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    shape = model.graph.input[0].type.tensor_type.shape
    for dim, value in zip(list(shape.dim)[1:], (*size, channels), strict=True):
        dim.dim_value = value
    return model


def nhwc_hidden(size: int = 7, *, seed: int = 7) -> onnx.ModelProto:
    """N,C,H,W in; inside, the tensor ``last`` is N,H,W,C (pixelwise MatMul and ReLU there).

    Known, at C4: the first convolution is symmetric, so channel-cos is -1 for ``map`` as N,C,H,W
    and for ``last`` read as N,H,W,C, and latent-l2 is 0.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            conv("x", "w", "pre"),
            node("Relu", "pre", "map"),
            node("Transpose", "map", "moved", perm=[0, 2, 3, 1]),
            node("MatMul", "moved pixelwise", "mixed"),
            node("Relu", "mixed", "last"),
            node("ReduceMean", "last", "latent", axes=[1, 2], keepdims=0),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("w", quarter_symmetric(rng.normal(size=(4, 3, 3, 3)))),
            weights("pixelwise", rng.normal(size=(4, 5))),
            weights("head", rng.normal(size=(5, 3))),
            weights("bias", rng.normal(size=3)),
        ],
        [("x", FLOAT, ["N", 3, size, size])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["map"], "hidden_nhwc": ["last"], "latent": "latent", "logits": "logits"},
    )


def two_input(seed: int = 0, size: tuple[int, int] = (8, 8)) -> onnx.ModelProto:
    """An image ``x`` and a vector ``extra`` (N, 2) that is added to the latent.

    Known: with extra = 0 it equals ``random_cnn(seed, size)``; the acted-on input is ``x``, the
    only float input of rank 3 to 5. The sum, ``joined``, is what the head reads: the latent.
    """
    model = random_cnn(seed, size)
    facts = known(model) | {"latent": "joined"}
    helper.set_model_props(model, {"test.known": json.dumps(facts)})
    width = 6
    nodes = []
    for entry in model.graph.node:
        if entry.op_type == "Gemm":
            entry.input[0] = "joined"
            nodes.append(node("MatMul", "extra mix", "shift"))
            nodes.append(node("Add", "latent shift", "joined"))
        nodes.append(entry)
    copies = [onnx.NodeProto.FromString(entry.SerializeToString()) for entry in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    mix = np.random.default_rng(8).normal(size=(2, width))
    model.graph.initializer.append(weights("mix", mix))
    model.graph.input.append(helper.make_tensor_value_info("extra", FLOAT, ["N", 2]))
    return model


def two_images(seed: int = 0, size: tuple[int, int] = (8, 8)) -> onnx.ModelProto:
    """Two images, u and v, that are read by convolutions of their own: fields is of their sum."""
    rng = np.random.default_rng(seed)
    nodes = [
        conv("u", "wu", "cu"),
        conv("v", "wv", "cv"),
        node("Add", "cu cv", "sum"),
        node("Relu", "sum", "fields"),
        node("GlobalAveragePool", "fields", "pooled"),
        node("Flatten", "pooled", "latent"),
        node("Gemm", "latent head", "logits"),
    ]
    initializers = [
        weights("wu", rng.normal(size=(4, 3, 3, 3))),
        weights("wv", rng.normal(size=(4, 2, 3, 3))),
        weights("head", rng.normal(size=(4, 3))),
    ]
    inputs = [("u", FLOAT, ["N", 3, *size]), ("v", FLOAT, ["N", 2, *size])]
    return build(nodes, initializers, inputs, [("logits", FLOAT, ["N", 3])])


def initializer_as_input() -> onnx.ModelProto:
    """``random_cnn`` whose weights are declared as inputs too, as old exporters did.

    Known: the only true input is ``x``.
    """
    model = random_cnn(0, (8, 8))
    for tensor in model.graph.initializer:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(info)
    return model


def unsorted() -> onnx.ModelProto:
    """``random_cnn(0, (8, 8))`` with its nodes in reverse order, as some converters write them.

    Known: sorted topologically it is ``random_cnn`` again; as it stands the runtime refuses it.
    """
    model = random_cnn(0, (8, 8))
    nodes = list(
        reversed([onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node])
    )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def local_function() -> onnx.ModelProto:
    """``random_cnn(0, (8, 8))`` whose ReLUs are calls of a model-local function.

    Known: inlined it is ``random_cnn`` again.
    """
    model = random_cnn(0, (8, 8))
    for entry in model.graph.node:
        if entry.op_type == "Relu":
            entry.op_type, entry.domain = "Rectify", "local"
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", OPSET)]
    model.functions.append(helper.make_function("local", "Rectify", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def pooled_output(seed: int = 0, size: tuple[int, int] = (8, 8)) -> onnx.ModelProto:
    """A feature extractor without a classifier whose output is (N, k, 1, 1).

    Known: the output, as (N, k), is the latent of ``random_cnn(seed, size)``.
    """
    cnn = _Cnn(seed)
    points, inside, width = cnn.body(3, 4, 2)
    cnn.add("GlobalAveragePool", points[-1], "features")
    return build(
        cnn.nodes,
        cnn.initializers,
        [("x", FLOAT, ["N", 3, *size])],
        [("features", FLOAT, ["N", width, 1, 1])],
        facts={"hidden": points, "inside": inside, "latent": "features"},
    )


def conv_classifier(seed: int = 0, size: tuple[int, int] = (8, 8)) -> onnx.ModelProto:
    """SqueezeNet's ending: a 1x1 convolution as classifier, then pooling to (N, classes, 1, 1).

    Known: the latent is the last map, average-pooled (derived); the logits are affine in it.
    """
    cnn = _Cnn(seed)
    points, inside, width = cnn.body(3, 4, 2)
    cnn.conv(points[-1], "class_maps", width, 5, k=1)
    cnn.add("GlobalAveragePool", "class_maps", "logits")
    return build(
        cnn.nodes,
        cnn.initializers,
        [("x", FLOAT, ["N", 3, *size])],
        [("logits", FLOAT, ["N", 5, 1, 1])],
        facts={"hidden": points, "inside": inside, "latent": points[-1], "logits": "logits"},
    )


# ------------------------------------------------------------------------------------------------
# Precisions
# ------------------------------------------------------------------------------------------------


def fp16(seed: int = 0, size: tuple[int, int] = (8, 8)) -> onnx.ModelProto:
    """``random_cnn`` in float16 throughout, input and output too.

    Known: equals it within half precision (about 1e-2 of the values).
    """
    model = random_cnn(seed, size)
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def qdq_int8(seed: int = 0, size: tuple[int, int] = (8, 8)) -> onnx.ModelProto:
    """QuantizeLinear / DequantizeLinear in front of every convolution's data input.

    Known: equals ``random_cnn`` within the quantisation step; the ``.._q`` tensors are uint8 and
    cannot be measured, the ``.._dq`` tensors are float32 and can. Every Conv reads a ``.._dq``.
    """
    model = random_cnn(seed, size)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for entry in model.graph.node:
        if entry.op_type == "Conv":
            source = entry.input[0]
            if source not in done:
                done.add(source)
                nodes.append(node("QuantizeLinear", f"{source} step zero", f"{source}_q"))
                nodes.append(node("DequantizeLinear", f"{source}_q step zero", f"{source}_dq"))
            entry.input[0] = f"{source}_dq"
        nodes.append(entry)
    copies = [onnx.NodeProto.FromString(entry.SerializeToString()) for entry in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    model.graph.initializer.extend([weights("step", 0.04), weights("zero", 30, np.uint8)])
    return model


# ------------------------------------------------------------------------------------------------
# Other endings, other bodies
# ------------------------------------------------------------------------------------------------


def _with_ending(op: str, name: str, classes: int, **attributes: object) -> onnx.ModelProto:
    model = random_cnn(0, (8, 8), classes=classes)
    model.graph.node.append(node(op, "logits", name, **attributes))
    model.graph.output[0].name = name
    return model


def softmax_output() -> onnx.ModelProto:
    """``random_cnn(0, (8, 8))`` that ends in a Softmax, output ``probabilities`` (N, 5).

    Known: softmax-kl equals that of the logits; the tensor ``logits`` is still inside.
    """
    return _with_ending("Softmax", "probabilities", 5, axis=-1)


def log_softmax_output() -> onnx.ModelProto:
    """Ends in a LogSoftmax, ``log_probabilities``: logits to the measure, same softmax-kl."""
    return _with_ending("LogSoftmax", "log_probabilities", 5, axis=-1)


def sigmoid_output() -> onnx.ModelProto:
    """One logit, then one Sigmoid, output ``probability`` (N, 1): the two-class case."""
    return _with_ending("Sigmoid", "probability", 1)


def tokens(size: int = 8, *, patch: int = 2, width: int = 6, seed: int = 9) -> onnx.ModelProto:
    """Patches as tokens: patch convolution, class token in front, attention-free mixing, head.

    Known: ``patches`` is (N, D, g, g) with g = size / patch; ``with_class`` and ``mixed`` are
    (N, g g + 1, D), class token first, patches row-major: layout NTD:gxg+1. ``embedded``
    (N, g g, D) is NTD:gxg and equals ``patches`` moved. The latent is ``latent`` (N, D), the class
    token after mixing.
    """
    rng = np.random.default_rng(seed)
    grid = size // patch
    count = grid * grid + 1
    return build(
        [
            node("Conv", "x patch_w", "patches", strides=[patch] * 2, kernel_shape=[patch] * 2),
            node("Reshape", "patches flat_grid", "columns"),
            node("Transpose", "columns", "embedded", perm=[0, 2, 1]),
            # The class token as exporters write it: a constant expanded to the batch.
            node("Shape", "embedded", "batch", start=0, end=1),
            node("Concat", "batch one_token", "class_shape", axis=0),
            node("Expand", "class_token class_shape", "class_tokens"),
            node("Concat", "class_tokens embedded", "with_class", axis=1),
            node("MatMul", "token_mix with_class", "across"),
            node("Tanh", "across", "across_act"),
            node("Add", "with_class across_act", "mixed"),
            node("Gather", "mixed first", "latent", axis=1),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("patch_w", rng.normal(size=(width, 3, patch, patch)) * 0.5),
            integers("flat_grid", [0, width, -1]),
            integers("one_token", [1, width]),
            weights("class_token", rng.normal(size=(1, 1, width))),
            weights("token_mix", rng.normal(size=(count, count)) * 0.3),
            weights("first", 0, np.int64),
            weights("head", rng.normal(size=(width, 4))),
            weights("bias", rng.normal(size=4)),
        ],
        [("x", FLOAT, ["N", 3, size, size])],
        [("logits", FLOAT, ["N", 4])],
        facts={
            "hidden": ["patches"],
            "hidden_tokens": {"embedded": f"NTD:{grid}x{grid}", "mixed": f"NTD:{grid}x{grid}+1"},
            "latent": "latent",
            "logits": "logits",
        },
    )


def if_body() -> onnx.ModelProto:
    """An If whose branches hold the hidden tensors ``then_map`` and ``else_map``.

    Known: then (mean of all pixels > 0) gives ReLU of the convolution, else its negative part; the
    tensors of the branches cannot be exposed, ``pre`` and ``chosen`` can. The condition is over
    the whole batch, so batches of mixed sign couple; on images in (0, 1] it is always ``then``.
    """
    then_graph = helper.make_graph(
        [node("Relu", "pre", "then_map")],
        "then",
        [],
        [helper.make_tensor_value_info("then_map", FLOAT, None)],
    )
    else_graph = helper.make_graph(
        [node("Neg", "pre", "negative"), node("Relu", "negative", "else_map")],
        "else",
        [],
        [helper.make_tensor_value_info("else_map", FLOAT, None)],
    )
    rng = np.random.default_rng(10)
    return build(
        [
            conv("x", "w", "pre"),
            node("ReduceMean", "x", "mean", keepdims=0),
            node("Greater", "mean nought", "positive"),
            node("If", "positive", "chosen", then_branch=then_graph, else_branch=else_graph),
            node("GlobalAveragePool", "chosen", "pooled"),
            node("Flatten", "pooled", "latent", axis=1),
            node("Gemm", "latent head", "logits"),
        ],
        [
            weights("w", rng.normal(size=(4, 1, 3, 3))),
            weights("nought", 0.0),
            weights("head", rng.normal(size=(4, 3))),
        ],
        [("x", FLOAT, ["N", 1, 6, 6])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["chosen"], "latent": "latent", "logits": "logits"},
    )


def sequence_output() -> onnx.ModelProto:
    """The logits, split into a sequence of single rows: not a tensor, cannot be measured."""
    model = random_cnn(0, (8, 8))
    model.graph.node.append(node("SplitToSequence", "logits", "rows", axis=0))
    del model.graph.output[:]
    row = helper.make_tensor_type_proto(FLOAT, ["n", 5])
    sequence = helper.make_sequence_type_proto(row)
    model.graph.output.append(helper.make_value_info("rows", sequence))
    return model


def unknown_operator() -> onnx.ModelProto:
    """A node ``Mystery`` of the domain ``nowhere``: the runtime refuses the model."""
    return build(
        [
            helper.make_node("Mystery", ["x"], ["map"], name="node_map", domain="nowhere"),
            node("GlobalAveragePool", "map", "pooled"),
            node("Flatten", "pooled", "logits", axis=1),
        ],
        [],
        [("x", FLOAT, ["N", 3, 6, 6])],
        [("logits", FLOAT, ["N", 3])],
        domains=["nowhere"],
    )


def no_batch_axis() -> onnx.ModelProto:
    """Input (3, 6, 6), output (4,): one sample a call, no batch axis anywhere at the ends."""
    rng = np.random.default_rng(11)
    return build(
        [
            node("Unsqueeze", "x axis0", "one"),
            conv("one", "w", "pre"),
            node("Relu", "pre", "map"),
            node("GlobalAveragePool", "map", "pooled"),
            node("Reshape", "pooled whole", "logits"),
        ],
        [
            weights("w", rng.normal(size=(4, 3, 3, 3))),
            integers("axis0", [0]),
            integers("whole", [-1]),
        ],
        [("x", FLOAT, [3, 6, 6])],
        [("logits", FLOAT, [4])],
    )


def token_ids() -> onnx.ModelProto:
    """A text model: int64 token ids (N, T) in, so there is no image to act on."""
    rng = np.random.default_rng(12)
    return build(
        [
            node("Gather", "table ids", "vectors", axis=0),
            node("ReduceMean", "vectors", "latent", axes=[1], keepdims=0),
            node("Gemm", "latent head", "logits"),
        ],
        [weights("table", rng.normal(size=(20, 6))), weights("head", rng.normal(size=(6, 3)))],
        [("ids", TensorProto.INT64, ["N", "T"])],
        [("logits", FLOAT, ["N", 3])],
    )


def nan_for_dark(threshold: float = 0.2) -> onnx.ModelProto:
    """sqrt(mean(x) - threshold) is a feature: NaN exactly where an image is darker.

    Known, for x >= 0: ``map`` is finite for every sample (its channel 0 is x itself); ``latent``
    and ``logits`` hold NaN where mean(x) < threshold.
    """
    rng = np.random.default_rng(13)
    kernels = rng.normal(size=(4, 1, 3, 3))
    kernels[0] = 0
    kernels[0, 0, 1, 1] = 1
    return build(
        [
            conv("x", "w", "pre"),
            node("Relu", "pre", "map"),
            node("GlobalAveragePool", "map", "pooled"),
            node("Flatten", "pooled", "flat", axis=1),
            node("Sub", "flat thresholds", "above"),
            node("Sqrt", "above", "latent"),
            node("Gemm", "latent head", "logits"),
        ],
        [
            weights("w", kernels),
            weights("head", rng.normal(size=(4, 3))),
            weights("thresholds", [threshold, -1, -1, -1]),
        ],
        [("x", FLOAT, ["N", 1, 6, 6])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["map"], "latent": "latent", "logits": "logits"},
    )


def batch_coupled() -> onnx.ModelProto:
    """Subtracts the batch mean from the maps, as batch norm in training mode does.

    Known: alone in its batch, every sample gives the logits ``bias`` = (1, 2, 3); in company it
    does not. A measurement must run it one by one, or refuse.
    """
    rng = np.random.default_rng(14)
    return build(
        [
            conv("x", "w", "pre"),
            node("ReduceMean", "pre", "mean", axes=[0], keepdims=1),
            node("Sub", "pre mean", "centred"),
            node("Relu", "centred", "map"),
            node("GlobalAveragePool", "map", "pooled"),
            node("Flatten", "pooled", "latent", axis=1),
            node("Gemm", "latent head bias", "logits"),
        ],
        [
            weights("w", rng.normal(size=(4, 1, 3, 3))),
            weights("head", rng.normal(size=(4, 3))),
            weights("bias", [1.0, 2.0, 3.0]),
        ],
        [("x", FLOAT, ["N", 1, 6, 6])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["map"], "latent": "latent", "logits": "logits"},
    )


def noisy(scale: float = 1.0) -> onnx.ModelProto:
    """Adds RandomNormalLike noise to the maps: two runs on the same sample differ."""
    rng = np.random.default_rng(15)
    return build(
        [
            conv("x", "w", "pre"),
            node("RandomNormalLike", "pre", "noise", scale=scale),
            node("Add", "pre noise", "shaken"),
            node("Relu", "shaken", "map"),
            node("GlobalAveragePool", "map", "pooled"),
            node("Flatten", "pooled", "latent", axis=1),
            node("Gemm", "latent head", "logits"),
        ],
        [weights("w", rng.normal(size=(4, 1, 3, 3))), weights("head", rng.normal(size=(4, 3)))],
        [("x", FLOAT, ["N", 1, 6, 6])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["map"], "latent": "latent", "logits": "logits"},
    )


def shape_bypass() -> onnx.ModelProto:
    """A Shape -> Reshape edge goes round every map, as exporters write ``x.view(x.size(0), -1)``.

    Known: a path that carries only shapes does not count, so map1 and map2 stay points.
    """
    rng = np.random.default_rng(16)
    return build(
        [
            conv("x", "w1", "pre1"),
            node("Relu", "pre1", "map1"),
            conv("map1", "w2", "pre2"),
            node("Relu", "pre2", "map2"),
            node("Shape", "x", "shape"),
            node("Gather", "shape zero", "rows", axis=0),
            node("Concat", "rows rest", "flat_shape", axis=0),
            node("Reshape", "map2 flat_shape", "latent"),
            node("Gemm", "latent head", "logits"),
        ],
        [
            weights("w1", rng.normal(size=(4, 1, 3, 3))),
            weights("w2", rng.normal(size=(2, 4, 3, 3))),
            integers("zero", [0]),
            integers("rest", [-1]),
            weights("head", rng.normal(size=(72, 3))),
        ],
        [("x", FLOAT, ["N", 1, 6, 6])],
        [("logits", FLOAT, ["N", 3])],
        facts={"hidden": ["map1", "map2"], "latent": "latent", "logits": "logits"},
    )


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


def save_external(folder: Path, model: onnx.ModelProto | None = None) -> Path:
    """``random_cnn(0, (8, 8))`` as ``model.onnx`` with every weight in ``weights.bin`` beside it.

    Known: equals the model in one file; without ``weights.bin`` it cannot be loaded.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(random_cnn(0, (8, 8)) if model is None else model)
    path = folder / "model.onnx"
    onnx.save(
        copy,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    return path
