"""Networks on lines, points, sets, graphs, volumes, fields, DNA, colours and tokens.

Tiny graphs with known answers, made by hand with seeded weights and a free batch axis. Every
builder returns an ``onnx.ModelProto``; its docstring says what is known of it. The output is ``y``
and the only input ``x``, if not said otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from models import FLOAT, build, integers, node, turning_basis, weights
from numpy.typing import NDArray
from onnx import TensorProto, helper

Floats = NDArray[np.float64]


def _affine(rng: np.random.Generator, name: str, k: int, n: int) -> list[onnx.TensorProto]:
    """Weights ``<name>`` (k, n) and ``<name>_bias`` (n,)."""
    return [
        weights(name, rng.normal(size=(k, n)) / np.sqrt(k)),
        weights(f"{name}_bias", rng.normal(size=n) / 4),
    ]


def _layer(x: str, name: str, y: str, act: str | None = "Relu") -> list[onnx.NodeProto]:
    """An affine map of the last axis, then an activation."""
    nodes = [
        node("MatMul", f"{x} {name}", f"{y}_product"),
        node("Add", f"{y}_product {name}_bias", f"{y}_sum" if act else y),
    ]
    return [*nodes, node(act, f"{y}_sum", y)] if act else nodes


# ------------------------------------------------------------------------------------------------
# Lines
# ------------------------------------------------------------------------------------------------


def _wrapped(x: str, w: str, y: str, pad: int) -> list[onnx.NodeProto]:
    """A convolution of a circle: both ends are put in front of each other."""
    return [
        node("Slice", f"{x} from_{pad} end last", f"{y}_tail"),
        node("Slice", f"{x} start to_{pad} last", f"{y}_head"),
        node("Concat", f"{y}_tail {x} {y}_head", f"{y}_circle", axis=-1),
        node("Conv", f"{y}_circle {w}", y),
    ]


def circular_conv(
    length: int = 24, channels: int = 2, *, symmetric: bool = False, seed: int = 30
) -> onnx.ModelProto:
    """Two convolutions of a circle, NCT to the map ``y`` (N, 6, T).

    Known: under every shift<n> that divides the line ``y`` moves along; under ``reverse`` it does
    with ``symmetric`` kernels only.
    """
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(5, channels, 5))
    second = rng.normal(size=(6, 5, 3)) / 3
    if symmetric:
        first, second = ((w + w[..., ::-1]) / 2 for w in (first, second))
    return build(
        [
            *_wrapped("x", "first", "pre", 2),
            node("Relu", "pre", "map"),
            *_wrapped("map", "second", "y", 1),
        ],
        [
            weights("first", first),
            weights("second", second),
            integers("from_2", [-2]),
            integers("from_1", [-1]),
            integers("to_2", [2]),
            integers("to_1", [1]),
            integers("start", [0]),
            integers("end", [2**62]),
            integers("last", [2]),
        ],
        [("x", FLOAT, ["N", channels, length])],
        [("y", FLOAT, ["N", 6, length])],
    )


def circular_classifier(length: int = 24, channels: int = 2, *, seed: int = 31) -> onnx.ModelProto:
    """``circular_conv``, pooled over the line: ``latent`` (N, 6) and ``y`` (N, 3) class scores.

    Known: invariant under every shift<n> that divides the line, not under ``reverse``.
    """
    model = circular_conv(length, channels, seed=seed)
    graph, rng = model.graph, np.random.default_rng(seed + 1)
    graph.node[-1].output[0], graph.node[-1].name = "line", "node_line"
    graph.node.extend(
        [
            node("Relu", "line", "map2"),
            node("ReduceMean", "map2", "latent", axes=[2], keepdims=0),
            node("Gemm", "latent head head_bias", "y"),
        ]
    )
    graph.initializer.extend(_affine(rng, "head", 6, 3))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, ["N", 3]))
    return model


# ------------------------------------------------------------------------------------------------
# Points
# ------------------------------------------------------------------------------------------------


def turned_features(pairs: int = 2) -> onnx.ModelProto:
    """Points NPX in the plane to features ``y`` (N, P, 2 * pairs): each a copy of the point.

    Known: under C<n> the channels turn by ``models.turning_pairs`` of the group's own matrices.
    """
    basis = turning_basis(pairs)
    copies = np.tile(np.eye(2), pairs) @ basis.T
    return build(
        [node("MatMul", "x copies", "y")],
        [weights("copies", copies)],
        [("x", FLOAT, ["N", 6, 2])],
        [("y", FLOAT, ["N", 6, 2 * pairs])],
    )


def _squared_distances() -> list[onnx.NodeProto]:
    """``squares`` (N, P, P) of ``x`` (N, P, X)."""
    return [
        node("Unsqueeze", "x second_axis", "as_row"),
        node("Unsqueeze", "x third_axis", "as_column"),
        node("Sub", "as_row as_column", "differences"),
        node("Mul", "differences differences", "products"),
        node("ReduceSum", "products last_axis", "squares", keepdims=0),
    ]


def _axes() -> list[onnx.TensorProto]:
    return [
        integers("second_axis", [1]),
        integers("third_axis", [2]),
        integers("last_axis", [-1]),
    ]


def distance_net(points: int = 12, components: int = 3, *, seed: int = 32) -> onnx.ModelProto:
    """A network of all distances, NPX to ``y`` (N, 4).

    Known: invariant under rotations, mirrors and permutations, up to rounding.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            *_squared_distances(),
            node("Unsqueeze", "squares last_axis", "each"),
            *_layer("each", "hidden", "features", "Tanh"),
            node("ReduceMean", "features", "latent", axes=[1, 2], keepdims=0),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [*_axes(), *_affine(rng, "hidden", 1, 8), *_affine(rng, "head", 8, 4)],
        [("x", FLOAT, ["N", points, components])],
        [("y", FLOAT, ["N", 4])],
    )


def centroid_net(points: int = 12, components: int = 3, *, seed: int = 33) -> onnx.ModelProto:
    """A centroid, NPX to the vector ``y`` (N, X), with weights that are functions of distances.

    Known: the vector turns along under rotations and mirrors; permutations leave it.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            *_squared_distances(),
            node("Neg", "squares", "nearness"),
            node("Exp", "nearness", "near"),
            node("ReduceSum", "near last_axis", "crowd", keepdims=1),
            *_layer("crowd", "hidden", "features", "Tanh"),
            *_layer("features", "weight", "weights", None),
            node("Mul", "weights x", "weighted"),
            node("ReduceSum", "weighted second_axis", "y", keepdims=0),
        ],
        [*_axes(), *_affine(rng, "hidden", 1, 8), *_affine(rng, "weight", 8, 1)],
        [("x", FLOAT, ["N", points, components])],
        [("y", FLOAT, ["N", components])],
    )


def point_net(points: int = 12, components: int = 3, *, seed: int = 34) -> onnx.ModelProto:
    """PointNet: a shared network of each point, the largest over points, NPX to ``y`` (N, 4).

    Known: invariant under permutations, not under rotations.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            *_layer("x", "hidden", "features"),
            *_layer("features", "deep", "of_points"),
            node("ReduceMax", "of_points", "latent", axes=[1], keepdims=0),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [
            *_affine(rng, "hidden", components, 16),
            *_affine(rng, "deep", 16, 24),
            *_affine(rng, "head", 24, 4),
        ],
        [("x", FLOAT, ["N", points, components])],
        [("y", FLOAT, ["N", 4])],
    )


def point_segmentation(
    points: int = 12,
    features: int = 3,
    classes: int = 5,
    *,
    channels_first: bool = False,
    seed: int = 35,
) -> onnx.ModelProto:
    """Scores of each point from its own features and the set's, NPC to ``y`` (N, P, classes).

    ``channels_first``: (N, classes, P). Known: scores are permuted along with the points.
    """
    rng = np.random.default_rng(seed)
    ends = [node("Transpose", "scores", "y", perm=[0, 2, 1])] if channels_first else []
    shape = ["N", classes, points] if channels_first else ["N", points, classes]
    return build(
        [
            *_layer("x", "hidden", "own"),
            node("ReduceMax", "own", "common", axes=[1], keepdims=1),
            node("Add", "own common", "both"),
            *_layer("both", "head", "scores" if channels_first else "y", None),
            *ends,
        ],
        [*_affine(rng, "hidden", features, 16), *_affine(rng, "head", 16, classes)],
        [("x", FLOAT, ["N", points, features])],
        [("y", FLOAT, shape)],
    )


# ------------------------------------------------------------------------------------------------
# Sets and graphs
# ------------------------------------------------------------------------------------------------


def deep_sets(points: int = 16, features: int = 5, *, seed: int = 36) -> onnx.ModelProto:
    """A network of each member, summed, NPC to ``y`` (N, 4). Known: permutations leave it."""
    rng = np.random.default_rng(seed)
    return build(
        [
            *_layer("x", "hidden", "members"),
            node("ReduceMean", "members", "latent", axes=[1], keepdims=0),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [*_affine(rng, "hidden", features, 16), *_affine(rng, "head", 16, 4)],
        [("x", FLOAT, ["N", points, features])],
        [("y", FLOAT, ["N", 4])],
    )


def flat_network(points: int = 16, features: int = 5, *, seed: int = 37) -> onnx.ModelProto:
    """The set as one vector, NPC to ``y`` (N, 4). Known: no symmetry at all."""
    rng = np.random.default_rng(seed)
    return build(
        [
            node("Flatten", "x", "flat", axis=1),
            node("Gemm", "flat hidden hidden_bias", "pre"),
            node("Relu", "pre", "latent"),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [*_affine(rng, "hidden", points * features, 32), *_affine(rng, "head", 32, 4)],
        [("x", FLOAT, ["N", points, features])],
        [("y", FLOAT, ["N", 4])],
    )


def masked_sets(points: int = 16, features: int = 5, *, seed: int = 38) -> onnx.ModelProto:
    """``x`` NPC and ``mask`` NP, 1 for a member and 0 for padding, to ``y`` (N, P, 3).

    Known: moved together, scores are permuted along; a member does not see the padding.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            *_layer("x", "hidden", "members"),
            node("Unsqueeze", "mask last_axis", "here"),
            node("Mul", "members here", "only"),
            node("ReduceSum", "only second_axis", "common", keepdims=1),
            node("Add", "members common", "both"),
            *_layer("both", "head", "y", None),
        ],
        [*_axes(), *_affine(rng, "hidden", features, 16), *_affine(rng, "head", 16, 3)],
        [("x", FLOAT, ["N", points, features]), ("mask", FLOAT, ["N", points])],
        [("y", FLOAT, ["N", points, 3])],
    )


def graph_network(
    nodes: int = 10, features: int = 4, *, per_node: bool = False, seed: int = 39
) -> onnx.ModelProto:
    """A graph convolution of ``adj`` NPP and ``x`` NPC, to ``y`` (N, 3), or (N, P, 3) ``per_node``.

    Known: if both are permuted, scores of nodes are permuted along and those of graphs stay; if
    features alone are, neither holds.
    """
    rng = np.random.default_rng(seed)
    if per_node:
        ends = _layer("spread2", "head", "y", None)
    else:
        ends = [
            node("ReduceMax", "spread2", "latent", axes=[1], keepdims=0),
            node("Gemm", "latent head head_bias", "y"),
        ]
    return build(
        [
            *_layer("x", "hidden", "own"),
            node("MatMul", "adj own", "spread"),
            *_layer("spread", "deep", "own2"),
            node("MatMul", "adj own2", "spread2"),
            *ends,
        ],
        [
            *_affine(rng, "hidden", features, 8),
            *_affine(rng, "deep", 8, 8),
            *_affine(rng, "head", 8, 3),
        ],
        [("adj", FLOAT, ["N", nodes, nodes]), ("x", FLOAT, ["N", nodes, features])],
        [("y", FLOAT, ["N", nodes, 3] if per_node else ["N", 3])],
    )


def edge_network(nodes: int = 8, features: int = 3, *, seed: int = 45) -> onnx.ModelProto:
    """A network of each edge, averaged over those of a node, NPPC to ``y`` (N, P, 4).

    Known: scores of nodes are permuted along.
    """
    rng = np.random.default_rng(seed)
    return build(
        [
            *_layer("x", "hidden", "edges"),
            node("ReduceMean", "edges", "of_nodes", axes=[2], keepdims=0),
            *_layer("of_nodes", "head", "y", None),
        ],
        [*_affine(rng, "hidden", features, 8), *_affine(rng, "head", 8, 4)],
        [("x", FLOAT, ["N", nodes, nodes, features])],
        [("y", FLOAT, ["N", nodes, 4])],
    )


# ------------------------------------------------------------------------------------------------
# Volumes, fields, planes
# ------------------------------------------------------------------------------------------------


def cube_symmetric(kernels: Floats, *, mirrored: bool) -> Floats:
    """The mean over the turns of the last three axes, of equal length; or over all symmetries."""
    last = [kernels.ndim - 3 + axis for axis in range(3)]
    total, count = np.zeros_like(kernels), 0
    for places in itertools.permutations(range(3)):
        swapped = sum(a > b for a, b in itertools.combinations(places, 2)) % 2
        for flips in itertools.product((False, True), repeat=3):
            if mirrored or (swapped + sum(flips)) % 2 == 0:
                order = [*range(kernels.ndim - 3), *(last[place] for place in places)]
                axes = [axis for axis, flip in zip(last, flips, strict=True) if flip]
                total += np.flip(kernels.transpose(order), axes)
                count += 1
    return total / count


def volume_network(
    size: int | tuple[int, int, int] = 6,
    channels: int = 1,
    *,
    symmetry: str | None = "Oh",
    seed: int = 40,
) -> onnx.ModelProto:
    """Two 3x3x3 convolutions padded with zeros, NCDHW to ``map`` (N, 4, D, H, W), ``y`` (N, 3).

    Known: with kernels averaged over the rotations of the cube (``O``), or all its symmetries
    (``Oh``), the map turns along under these and ``y`` stays; with ``z`` only under C4-z; with
    ``None`` under none.
    """
    rng = np.random.default_rng(seed)
    kernels = [rng.normal(size=(5, channels, 3, 3, 3)), rng.normal(size=(4, 5, 3, 3, 3)) / 4]
    if symmetry == "z":
        kernels = [sum(np.rot90(w, k, axes=(-2, -1)) for k in range(4)) / 4 for w in kernels]
    elif symmetry:
        kernels = [cube_symmetric(w, mirrored=symmetry == "Oh") for w in kernels]
    padded = {"pads": [1] * 6}
    return build(
        [
            node("Conv", "x first", "pre", **padded),
            node("Relu", "pre", "map"),
            node("Conv", "map second", "pre2", **padded),
            node("Relu", "pre2", "map2"),
            node("GlobalAveragePool", "map2", "pooled"),
            node("Flatten", "pooled", "latent", axis=1),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [
            weights("first", kernels[0]),
            weights("second", kernels[1]),
            *_affine(rng, "head", 4, 3),
        ],
        [("x", FLOAT, ["N", channels, *np.broadcast_to(size, 3).tolist()])],
        [("y", FLOAT, ["N", 3])],
    )


def gradient_field(size: int = 8) -> onnx.ModelProto:
    """Central differences, NCHW of one channel to ``y`` (N, 2, H, W): right, down.

    Known: as vectors (NXHW) they turn along under C4, D4 and the flips; as two scalars they do not.
    """
    kernels = np.zeros((2, 1, 3, 3))
    kernels[0, 0, 1] = kernels[1, 0, :, 1] = [-0.5, 0, 0.5]
    return build(
        [node("Conv", "x differences", "y", pads=[1] * 4)],
        [weights("differences", kernels)],
        [("x", FLOAT, ["N", 1, size, size])],
        [("y", FLOAT, ["N", 2, size, size])],
    )


def divergence(size: int = 6, components: int = 2) -> onnx.ModelProto:
    """Central differences of a field NXHW, or NXDHW of 3 components, to ``y`` (N, 1, H, W) and so.

    Known: scalars that turn along with the field.
    """
    kernel = np.zeros((1, components, *[3] * components))
    for component in range(components):
        # Right is along the last axis, down along the one before it.
        along = np.moveaxis(kernel[0, component], components - 1 - component, -1)
        along[(*[1] * (components - 1),)] = [-0.5, 0, 0.5]
    return build(
        [node("Conv", "x differences", "y", pads=[1] * 2 * components)],
        [weights("differences", kernel)],
        [("x", FLOAT, ["N", components, *[size] * components])],
        [("y", FLOAT, ["N", 1, *[size] * components])],
    )


def video_network(size: int = 5, frames: int = 4, *, seed: int = 44) -> onnx.ModelProto:
    """A 3x3x3 convolution of frames, NCTHW to the map ``y`` (N, 4, T, H, W).

    Known: its kernels being symmetric so, the map moves along under D4, ``reverse`` and both.
    """
    kernel = np.random.default_rng(seed).normal(size=(4, 1, 3, 3, 3))
    kernel = sum(np.rot90(kernel, k, axes=(-2, -1)) for k in range(4)) / 4
    kernel = (kernel + kernel[:, :, ::-1]) / 2
    return build(
        [node("Conv", "x filters", "pre", pads=[1] * 6), node("Relu", "pre", "y")],
        [weights("filters", kernel)],
        [("x", FLOAT, ["N", 1, frames, size, size])],
        [("y", FLOAT, ["N", 4, frames, size, size])],
    )


def dense_segmentation(
    size: int = 8, channels: int = 1, classes: int = 4, *, symmetric: bool = True, seed: int = 41
) -> onnx.ModelProto:
    """Scores of each pixel, NCHW to ``y`` (N, classes, H, W).

    Known: with ``symmetric`` kernels scores turn along under C4, D4 and the flips.
    """
    rng = np.random.default_rng(seed)
    kernels = [rng.normal(size=(6, channels, 3, 3)), rng.normal(size=(classes, 6, 3, 3))]
    if symmetric:
        kernels = [sum(np.rot90(w, k, axes=(-2, -1)) for k in range(4)) / 4 for w in kernels]
    return build(
        [
            node("Conv", "x first", "pre", pads=[1] * 4),
            node("Relu", "pre", "map"),
            node("Conv", "map second", "y", pads=[1] * 4),
        ],
        [weights("first", kernels[0]), weights("second", kernels[1])],
        [("x", FLOAT, ["N", channels, size, size])],
        [("y", FLOAT, ["N", classes, size, size])],
    )


# ------------------------------------------------------------------------------------------------
# DNA, colours, tokens
# ------------------------------------------------------------------------------------------------


def dna_network(
    length: int = 20, *, tied: bool = True, bases_last: bool = False, seed: int = 42
) -> onnx.ModelProto:
    """A convolution of one-hot bases, the largest over places and pairs, NBT to ``y`` (N, 3).

    ``bases_last``: NTB. Filters come in pairs. Known: where the second of a ``tied`` pair is the
    first with places reversed and bases complemented, invariant under ``revcomp``.
    """
    rng = np.random.default_rng(seed)
    pairs = rng.normal(size=(8, 2, 4, 5))
    if tied:
        pairs[:, 1] = pairs[:, 0, ::-1, ::-1]
    begin = [node("Transpose", "x", "bases", perm=[0, 2, 1])] if bases_last else []
    return build(
        [
            *begin,
            node("Conv", f"{'bases' if bases_last else 'x'} filters", "pre"),
            node("Reshape", "pre by_pair", "of_pairs"),
            node("ReduceMax", "of_pairs", "latent", axes=[2], keepdims=0),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [
            weights("filters", pairs.reshape(16, 4, 5)),
            integers("by_pair", [0, 8, -1]),
            *_affine(rng, "head", 8, 3),
        ],
        [("x", FLOAT, ["N", length, 4] if bases_last else ["N", 4, length])],
        [("y", FLOAT, ["N", 3])],
    )


GREY = (1 / 3, 1 / 3, 1 / 3)
LUMA = (0.299, 0.587, 0.114)


def grey_network(colours: Sequence[float] = GREY, size: int = 6) -> onnx.ModelProto:
    """A weighted sum of red, green and blue, NCHW to the map ``y`` (N, 1, H, W).

    Known: with equal weights turns of hue leave it, with those of luma they do not.
    """
    kernel = np.array(colours).reshape(1, 3, 1, 1)
    return build(
        [node("Conv", "x colours", "y")],
        [weights("colours", kernel)],
        [("x", FLOAT, ["N", 3, size, size])],
        [("y", FLOAT, ["N", 1, size, size])],
    )


def token_network(
    length: int = 12,
    vocabulary: int = 20,
    *,
    position: bool = False,
    hashed: bool = False,
    seed: int = 43,
) -> onnx.ModelProto:
    """Ids of tokens (N, T) to their mean embedding ``latent`` (N, 8) and ``y`` (N, 3).

    ``hashed``: ids are any whole numbers, and taken modulo the vocabulary.
    Known: any order gives the same; with weights for each ``position`` it does not.
    """
    rng = np.random.default_rng(seed)
    known = [node("Mod", "x vocabulary", "known")] if hashed else []
    weighted = [node("Mul", "embedded positions", "placed")] if position else []
    stored = [weights("positions", rng.normal(size=(length, 1)))] if position else []
    return build(
        [
            *known,
            node("Gather", f"embedding {'known' if hashed else 'x'}", "embedded", axis=0),
            *weighted,
            node(
                "ReduceMean", "placed" if position else "embedded", "latent", axes=[1], keepdims=0
            ),
            node("Gemm", "latent head head_bias", "y"),
        ],
        [
            integers("vocabulary", [vocabulary]),
            weights("embedding", rng.normal(size=(vocabulary, 8))),
            *stored,
            *_affine(rng, "head", 8, 3),
        ],
        [("x", TensorProto.INT64, ["N", length])],
        [("y", FLOAT, ["N", 3])],
    )
