"""Letters followed from inputs of any kind: one small network a kind, every tensor's asserted."""

from __future__ import annotations

import tracemalloc

import models
import numpy as np
import onnx
import pytest
import running
from models import FLOAT, integers, node, weights

import onnx_geed
from onnx_geed.errors import GeedError
from onnx_geed.groups import LETTERS, parse_layout
from onnx_geed.model import (
    annotate_model,
    find_input,
    find_output,
    free_batch_axis,
    further_inputs,
    input_layout,
    list_as_stated,
    list_layers,
    load_model,
)
from onnx_geed.model.layout_inference import find_layouts
from onnx_geed.model.metadata import layout_key
from onnx_geed.model.tensors import infer_tensors
from onnx_geed.report import layer_table

RNG = np.random.default_rng(11)
INT64 = onnx.TensorProto.INT64


def w(name, *shape):
    return weights(name, RNG.normal(size=shape))


@pytest.fixture
def read(tmp_path):
    """Letters and roles of every tensor, the inputs being stated as a user does."""

    def listed(nodes, constants, ins, stated, *, output=None, **options):
        last = output or nodes[-1].output[0]
        source = models.build(nodes, constants, ins, [(last, FLOAT, None)])
        onnx.shape_inference.infer_shapes(source, strict_mode=True, check_type=True)
        model = load_model(models.save(source, tmp_path / "model.onnx"))
        acted = find_input(model, options.pop("input", None), stated)
        layouts = {acted.name: input_layout(model, acted, stated)}
        layouts |= {i.name: text for i, text in further_inputs(model, acted, stated)}
        listing = list_as_stated(
            model, acted.name, find_output(model), input_layout=layouts, **options
        )
        return listing, source, layouts

    return listed


def x(*shape, name="x", dtype=FLOAT):
    return (name, dtype, list(shape))


def letters_of(listing):
    return {t.name: t.layout for t in listing if not t.refused}


def with_role(listing, role):
    return [t.name for t in listing if role in t.roles]


def check(read, nodes, constants, ins, stated, expected, *, along="", **options):
    """Assert letters; of an equivariant network also that its tensors move as they say."""
    listing, source, layouts = read(nodes, constants, ins, stated, **options)
    letters = letters_of(listing)
    assert {name: text for name, text in letters.items() if name in expected} == expected
    if along:
        known = {name: text for name, text in letters.items() if text != "?"}
        moves_along(source, ins, layouts, known, along)
    return listing


def moves_along(source, ins, layouts, letters, along):
    """Move the inputs' points or vectors, and look for the move in every tensor."""
    rng = np.random.default_rng(3)
    feeds = {
        name: rng.normal(size=[2 if n == "N" else n for n in shape]).astype(np.float32)
        if dtype == FLOAT
        else rng.integers(9, size=[2 if n == "N" else n for n in shape])
        for name, dtype, shape in ins
    }
    order = rng.permutation(
        next(dict(zip(t, feeds[n].shape, strict=True))["P"] for n, t in layouts.items() if "P" in t)
    )
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]

    def moved(array, text):
        for axis, letter in enumerate(text):
            if letter == "P" and array.shape[axis] > 1:
                array = np.take(array, order, axis)
            if letter == "X" and "X" in along:
                array = np.moveaxis(np.tensordot(turn, array, (1, axis)), 0, axis)
        return array.astype(array.dtype)

    names = list(letters)
    live = running.session(running.exposed(source, names))
    before = live.run(None, feeds)
    after = live.run(None, {n: moved(a, layouts[n]).astype(a.dtype) for n, a in feeds.items()})
    for name, one, two in zip(names, before, after, strict=True):
        expected = moved(one, letters[name])
        np.testing.assert_allclose(two, expected, rtol=1e-4, atol=1e-4, err_msg=name)


def beside(text):
    """A layout with K in front of C, if what is kept first then is C: the features."""
    return text if parse_layout(text).kept.startswith("C") else "?"


BATCHES = pytest.mark.parametrize("n", ["N", 1])


# ------------------------------------------------------------------------------------------------
# Lines
# ------------------------------------------------------------------------------------------------


@BATCHES
@pytest.mark.parametrize("length", [24, "T"])
def test_a_1d_cnn_keeps_its_line(read, n, length):
    nodes = [
        node("Conv", "x k", "pre", pads=[1, 1]),
        node("BatchNormalization", "pre s b m v", "normed"),
        node("Relu", "normed", "act"),
        node("Conv", "act k2", "strided", strides=[2]),
        node("MaxPool", "strided", "pooled", kernel_shape=[2], strides=[2]),
        node("GlobalAveragePool", "pooled", "mean"),
        node("Flatten", "mean", "latent"),
        node("Gemm", "latent h", "y"),
    ]
    constants = [w("k", 4, 2, 3), w("k2", 5, 4, 3), w("h", 5, 3)]
    constants += [weights(name, np.ones(4)) for name in "sbmv"]
    letters = dict.fromkeys(("pre", "normed", "act", "strided", "pooled", "mean"), "NCT")
    listing = check(
        read, nodes, constants, [x(n, 2, length)], "NCT", letters | {"latent": "NK", "y": "NK"}
    )
    assert with_role(listing, "channel") == ["act", "strided", "pooled"]
    assert with_role(listing, "latent") == ["latent"]


def test_a_transpose_in_front_and_behind_is_followed_and_no_default(read):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("Conv", "t k", "pre"),
        node("Relu", "pre", "act"),
        node("Transpose", "act", "back", perm=[0, 2, 1]),
        node("MatMul", "back d", "dense"),
        node("ReduceMean", "dense", "y", axes=[1], keepdims=0),
    ]
    expected = {"t": "NCT", "pre": "NCT", "act": "NCT", "back": "NTC", "dense": "NTC", "y": "NK"}
    listing = check(read, nodes, [w("k", 4, 2, 3), w("d", 4, 5)], [x("N", 12, 2)], "NTC", expected)
    assert with_role(listing, "channel") == ["act", "dense"]


def test_bases_become_features_and_turn_round_with_the_line(read):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("Slice", "t last first both back", "rc"),
        node("Conv", "t k", "forward"),
        node("Conv", "rc k", "reverse"),
        node("Slice", "reverse last1 first1 line back1", "again"),
        node("Max", "forward again", "best"),
        node("ReduceMax", "best", "latent", axes=[2], keepdims=0),
        node("MatMul", "latent h", "y"),
    ]
    constants = [w("k", 6, 4, 5), w("h", 6, 1), integers("both", [1, 2]), integers("line", [2])]
    constants += [integers("last", [-1, -1]), integers("first", [-99, -99])]
    constants += [integers("back", [-1, -1]), integers("last1", [-1]), integers("first1", [-99])]
    constants += [integers("back1", [-1])]
    expected = {
        **{"t": "NBT", "rc": "?", "forward": "NCT", "reverse": "?", "again": "NCT"},
        **{"best": "NCT", "latent": "NK", "y": "NK"},
    }
    check(read, nodes, constants, [x("N", 20, 4)], "NTB", expected)


def test_a_filter_as_wide_as_the_bases_makes_a_line_of_features(read):
    nodes = [
        node("Unsqueeze", "x one", "wide"),
        node("Conv", "wide k", "map"),
        node("Squeeze", "map last", "line"),
        node("Relu", "line", "y"),
    ]
    constants = [w("k", 6, 1, 5, 4), integers("one", [1]), integers("last", [3])]
    expected = {"wide": "NCTB", "line": "NCT", "y": "NCT"}
    check(read, nodes, constants, [x("N", 20, 4)], "NTB", expected)


@pytest.mark.parametrize("letter", ["T", "P"])
def test_token_ids_are_looked_up(read, letter):
    nodes = [
        node("Gather", "table x", "tokens", axis=0),
        node("Add", "tokens place", "placed"),
        node("LayerNormalization", "placed s b", "normed"),
        node("ReduceMean", "normed", "latent", axes=[1], keepdims=0),
        node("MatMul", "latent h", "y"),
    ]
    constants = [w("table", 9, 4), w("place", 7, 4), w("s", 4), w("b", 4), w("h", 4, 2)]
    each = f"N{letter}C"
    expected = {"tokens": each, "placed": each, "normed": each, "latent": "NK", "y": "NK"}
    listing = check(read, nodes, constants, [x("N", 7, dtype=INT64)], f"N{letter}", expected)
    assert with_role(listing, "latent") == ["latent"]


def test_a_recurrent_network_keeps_the_line(read):
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        onnx.helper.make_node("GRU", ["t", "w", "r"], ["all", "last"], hidden_size=3),
        node("Squeeze", "all one", "s"),
        node("Transpose", "s", "back", perm=[1, 0, 2]),
        node("ReduceMean", "back", "y", axes=[1], keepdims=0),
    ]
    constants = [w("w", 1, 9, 2), w("r", 1, 9, 3), integers("one", [1])]
    expected = {"back": "NTC", "t": "?", "y": "NK"}
    check(read, nodes, constants, [x("N", 12, 2)], "NTC", expected)


def test_patches_of_a_line_are_a_coarse_line(read):
    nodes = [node("Reshape", "x shape", "patches"), node("MatMul", "patches d", "y")]
    constants = [integers("shape", [0, 6, 4]), w("d", 4, 5)]
    check(read, nodes, constants, [x("N", 24)], "NT", {"patches": "?", "y": "NTC"})


@pytest.mark.parametrize("even", [True, False])
def test_a_line_with_its_own_ends_around_it_is_a_line_if_they_are_as_long(read, even):
    nodes = [
        node("Slice", "x m2 end axis", "tail"),
        node("Slice", "x zero stop axis", "head"),
        node("Concat", "tail x head", "ring", axis=2),
        node("Conv", "ring k", "y"),
    ]
    constants = [w("k", 4, 2, 5), integers("m2", [-2]), integers("end", [1 << 40])]
    constants += [
        integers("zero", [0]),
        integers("stop", [2 if even else 1]),
        integers("axis", [2]),
    ]
    expected = {"tail": "NCT", "ring": "NCT" if even else "?", "y": "NCT" if even else "?"}
    check(read, nodes, constants, [x("N", 2, 24)], "NCT", expected)


@pytest.mark.parametrize(
    ("places", "letters"),
    [
        ([10, 11, *range(12), 0, 1], "NCT"),
        ([11, *range(12), 0, 1], "?"),
        ([*range(2, 10)], "NCT"),
        ([*range(0, 12, 2)], "?"),
    ],
)
def test_a_ring_that_is_gathered_is_a_line_if_it_is_even(read, places, letters):
    nodes = [node("Gather", "x ring", "r", axis=2), node("Conv", "r k", "y")]
    constants = [w("k", 4, 2, 3), integers("ring", places)]
    check(read, nodes, constants, [x("N", 2, 12)], "NCT", {"r": letters, "y": letters})


def test_channels_are_split_and_joined_beside_a_line_of_free_length(read):
    nodes = [
        node("Reshape", "x split", "parts"),
        node("Relu", "parts", "act"),
        node("Reshape", "act join", "y"),
    ]
    constants = [integers("split", [0, 2, 3, -1]), integers("join", [0, 6, -1])]
    expected = {"parts": beside("NKCT"), "y": "NCT"}
    check(read, nodes, constants, [x("N", 6, "T")], "NCT", expected)


@BATCHES
def test_behind_what_nobody_knows_a_dense_layer_of_the_whole_makes_features(read, n):
    nodes = [
        node("Einsum", "x", "s", equation="...t->...t"),
        node("Reshape", "s flat", "v"),
        node("Gemm", "v d", "a"),
        node("Relu", "a", "y"),
    ]
    constants = [integers("flat", [-1, 24]), w("d", 24, 3)]
    expected = {"s": "?", "v": "?", "a": "NK", "y": "NK"}
    check(read, nodes, constants, [x(n, 2, 12)], "NCT", expected)


def test_products_of_whole_numbers_keep_the_letters(read):
    nodes = [
        onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        node("MatMulInteger", "q d zero", "i"),
        node("Cast", "i", "f", to=FLOAT),
        node("Mul", "f scale", "y"),
    ]
    constants = [weights("d", RNG.integers(-9, 9, size=(5, 4)), np.int8)]
    nodes[1] = onnx.helper.make_node("MatMulInteger", ["q", "d", "zero"], ["i"])
    check(read, nodes, constants, [x("N", 12, 5)], "NTC", {"f": "NTC", "y": "NTC"})


# ------------------------------------------------------------------------------------------------
# Points, sets, graphs
# ------------------------------------------------------------------------------------------------


@BATCHES
def test_pointnet_makes_features_of_coordinates_and_a_vector_of_features(read, n):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("Conv", "t k", "pre"),
        node("Relu", "pre", "act"),
        node("Conv", "act k2", "deep"),
        node("ReduceMax", "deep", "latent", axes=[2], keepdims=0),
        node("Gemm", "latent h", "y"),
    ]
    constants = [w("k", 8, 3, 1), w("k2", 6, 8, 1), w("h", 6, 4)]
    expected = {"t": "NXP", "pre": "NCP", "act": "NCP", "deep": "NCP", "latent": "NK", "y": "NK"}
    listing = check(read, nodes, constants, [x(n, 16, 3)], "NPX", expected, along="P")
    assert with_role(listing, "channel") == ["act", "deep"]
    assert with_role(listing, "latent") == ["latent"]


def test_scores_of_each_point_see_the_whole_set(read):
    nodes = [
        node("MatMul", "x d", "local"),
        node("ReduceMax", "local", "whole", axes=[1], keepdims=1),
        node("Shape", "local", "shape"),
        node("Expand", "whole shape", "spread"),
        node("Concat", "local spread", "both", axis=-1),
        node("MatMul", "both h", "y"),
    ]
    expected = dict.fromkeys(("local", "whole", "spread", "both", "y"), "NPC")
    listing = check(
        read, nodes, [w("d", 3, 8), w("h", 16, 4)], [x("N", 16, 3)], "NPX", expected, along="P"
    )
    assert with_role(listing, "latent") == ["both"]


def dense_by_rows(n):
    """A dense layer as exporters write it for Gemm: points in the batch."""
    return [
        node("Reshape", "x rows", "flat"),
        node("Gemm", "flat d", "wide"),
        node("Relu", "wide", "act"),
        node("Reshape", "act points", "back"),
        node("ReduceSum", "back one", "latent", keepdims=0),
        node("Gemm", "latent h", "y"),
    ]


@BATCHES
def test_deep_sets_whose_points_stand_in_the_batch_come_back(read, n):
    constants = [w("d", 5, 8), w("h", 8, 4), integers("rows", [-1, 5])]
    constants += [integers("points", [-1, 16, 8]), integers("one", [1])]
    expected = {"flat": "?", "act": "?", "back": "NPC", "latent": "NK", "y": "NK"}
    listing = check(read, dense_by_rows(n), constants, [x(n, 16, 5)], "NPC", expected, along="P")
    assert with_role(listing, "latent") == ["latent"]


def attention(heads):
    nodes = [
        node("MatMul", "x wq", "q0"),
        node("MatMul", "x wk", "k0"),
        node("MatMul", "x wv", "v0"),
    ]
    if heads:
        for a in "qkv":
            nodes += [
                node("Reshape", f"{a}0 split", f"{a}1"),
                node("Transpose", f"{a}1", f"{a}2", perm=[0, 2, 1, 3]),
            ]
        nodes += [
            node("Transpose", "k2", "kt", perm=[0, 1, 3, 2]),
            node("MatMul", "q2 kt", "scores"),
            node("Softmax", "scores", "a", axis=-1),
            node("MatMul", "a v2", "mixed"),
            node("Transpose", "mixed", "m", perm=[0, 2, 1, 3]),
            node("Reshape", "m join", "o"),
        ]
    else:
        nodes += [
            node("Transpose", "k0", "kt", perm=[0, 2, 1]),
            node("MatMul", "q0 kt", "scores"),
            node("Softmax", "scores", "a", axis=-1),
            node("MatMul", "a v0", "o"),
        ]
    nodes += [
        node("Add", "x o", "sum"),
        node("LayerNormalization", "sum s b", "block"),
        node("ReduceMean", "block", "latent", axes=[1], keepdims=0),
        node("Gemm", "latent h", "y"),
    ]
    constants = [w("wq", 8, 8), w("wk", 8, 8), w("wv", 8, 8), w("s", 8), w("b", 8), w("h", 8, 3)]
    constants += [integers("split", [0, 10, 2, 4]), integers("join", [0, 10, 8])]
    return nodes, constants if heads else constants[:-2]


@BATCHES
@pytest.mark.parametrize("heads", [False, True])
def test_attention_scores_are_pairs_of_points_and_the_block_is_points_again(read, n, heads):
    nodes, constants = attention(heads)
    scores = "NCPP" if heads else "NPP"
    expected = {"scores": scores, "a": scores, "o": "NPC", "sum": "NPC", "block": "NPC"}
    expected |= {"latent": "NK", "y": "NK"} | ({"mixed": beside("NKPC")} if heads else {})
    listing = check(read, nodes, constants, [x(n, 10, 8)], "NPC", expected, along="P")
    assert with_role(listing, "channel") == ["sum", "block"]
    assert with_role(listing, "latent") == ["latent"]


def test_seeds_that_ask_a_set_are_features(read):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("MatMul", "seeds t", "scores"),
        node("Softmax", "scores", "a", axis=-1),
        node("MatMul", "a x", "pooled"),
        node("Flatten", "pooled", "latent"),
        node("Gemm", "latent h", "y"),
    ]
    expected = {"scores": "NCP", "a": "NCP", "pooled": beside("NKC"), "latent": "NK", "y": "NK"}
    check(
        read, nodes, [w("seeds", 2, 5), w("h", 10, 3)], [x("N", 9, 5)], "NPC", expected, along="P"
    )


def asks_seeds(packed):
    """A set that asks what two seeds have heard of it, with two heads: (N, 9, 4) again.

    Keys and values are cut out of one dense layer, by place or, as PyTorch does, tokens in front.
    """
    heard = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("MatMul", "seeds t", "told"),
        node("Softmax", "told", "weights", axis=-1),
        node("MatMul", "weights x", "heard"),
        node("MatMul", "x wq", "q0"),
        node("Reshape", "q0 of_set", "q1"),
        node("Transpose", "q1", "q", perm=[0, 2, 1, 3]),
    ]
    keys = {
        "tokens in front": [
            node("Transpose", "heard", "front", perm=[1, 0, 2]),
            node("MatMul", "front wkv", "kv"),
            node("Reshape", "kv in_two", "pair"),
            node("Transpose", "pair", "pairs", perm=[2, 0, 1, 3]),
            node("Gather", "pairs first", "k0", axis=0),
            node("Gather", "pairs second", "v0", axis=0),
            node("Reshape", "k0 of_front", "k1"),
            node("Reshape", "v0 of_front", "v1"),
            node("Transpose", "k1", "kt", perm=[1, 2, 3, 0]),
            node("Transpose", "v1", "v", perm=[1, 2, 0, 3]),
        ],
        "samples in front": [
            node("MatMul", "heard wkv", "kv"),
            node("Reshape", "kv in_four", "four"),
            node("Transpose", "four", "pairs", perm=[2, 0, 3, 1, 4]),
            node("Split", "pairs ones", "k0 v0", axis=0),
            node("Squeeze", "k0 first_axis", "k"),
            node("Squeeze", "v0 first_axis", "v"),
            node("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        ],
        "one by one": [
            node("MatMul", "heard wq", "k0"),
            node("MatMul", "heard wv", "v0"),
            node("Reshape", "k0 of_seeds", "k1"),
            node("Reshape", "v0 of_seeds", "v1"),
            node("Transpose", "k1", "kt", perm=[0, 2, 3, 1]),
            node("Transpose", "v1", "v", perm=[0, 2, 1, 3]),
        ],
    }[packed]
    asked = [
        node("MatMul", "q kt", "scores"),
        node("Softmax", "scores", "a", axis=-1),
        node("MatMul", "a v", "mixed"),
        node("Transpose", "mixed", "m", perm=[0, 2, 1, 3]),
        node("Reshape", "m join", "o"),
        node("MatMul", "o wo", "p"),
        node("Add", "x p", "sum"),
        node("Relu", "sum", "block"),
        node("ReduceMean", "block", "latent", axes=[1], keepdims=0),
        node("Gemm", "latent h", "y"),
    ]
    constants = [
        *(w("seeds", 2, 4), w("wq", 4, 4), w("wv", 4, 4), w("wkv", 4, 8), w("wo", 4, 4)),
        *(w("h", 4, 3), integers("of_set", [-1, 9, 2, 2]), integers("of_seeds", [-1, 2, 2, 2])),
        *(integers("in_two", [2, -1, 2, 4]), integers("of_front", [2, -1, 2, 2])),
        *(integers("in_four", [-1, 2, 2, 2, 2]), integers("ones", [1, 1])),
        *(integers("first", 0), integers("second", 1), integers("first_axis", [0])),
        integers("join", [-1, 9, 4]),
    ]
    return [*heard, *keys, *asked], constants


@BATCHES
@pytest.mark.parametrize("packed", ["tokens in front", "samples in front", "one by one"])
def test_a_set_that_asks_what_seeds_have_heard_is_a_set(read, n, packed):
    nodes, constants = asks_seeds(packed)
    expected = {"heard": beside("NKC"), "o": "NPC", "sum": "NPC", "block": "NPC", "latent": "NK"}
    listing = check(read, nodes, constants, [x(n, 9, 4)], "NPC", expected, along="P")
    assert with_role(listing, "channel") == ["block"]
    assert with_role(listing, "latent") == ["latent"]


def asks(name, asking, heard):
    """Attention with two heads, of (N, n, 4) that asks (N, m, 4)."""
    parts = [
        [
            node("MatMul", f"{of} w{part}", f"{name}_{part}0"),
            node("Reshape", f"{name}_{part}0 in_heads", f"{name}_{part}1"),
            node("Transpose", f"{name}_{part}1", f"{name}_{part}", perm=perm),
        ]
        for part, of, perm in (
            ("q", asking, [0, 2, 1, 3]),
            ("k", heard, [0, 2, 3, 1]),
            ("v", heard, [0, 2, 1, 3]),
        )
    ]
    return [
        *(each for part in parts for each in part),
        node("MatMul", f"{name}_q {name}_k", f"{name}_scores"),
        node("Softmax", f"{name}_scores", f"{name}_a", axis=-1),
        node("MatMul", f"{name}_a {name}_v", f"{name}_mixed"),
        node("Transpose", f"{name}_mixed", f"{name}_m", perm=[0, 2, 1, 3]),
        node("Reshape", f"{name}_m joined", name),
    ]


@BATCHES
def test_seeds_that_ask_again_keep_their_letters(read, n):
    """Queries that are data, of heads that are cut out of what seeds have heard before."""
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("MatMul", "seeds t", "told"),
        node("Softmax", "told", "weights", axis=-1),
        node("MatMul", "weights x", "heard"),
        *asks("again", "heard", "x"),
        *asks("asked", "x", "again"),
        node("Relu", "asked", "block"),
        node("ReduceMean", "block", "latent", axes=[1], keepdims=0),
        node("Gemm", "latent h", "y"),
    ]
    constants = [w("seeds", 2, 4), w("wq", 4, 4), w("wk", 4, 4), w("wv", 4, 4), w("h", 4, 3)]
    constants += [integers("in_heads", [0, 0, 2, 2]), integers("joined", [0, 0, 4])]
    expected = {"again": beside("NKC"), "block": "NPC", "latent": "NK"}
    listing = check(read, nodes, constants, [x(n, 9, 4)], "NPC", expected, along="P")
    assert with_role(listing, "channel") == ["block"]


GCN = (
    [
        node("MatMul", "adj x", "heard"),
        node("MatMul", "heard w1", "h1"),
        node("Relu", "h1", "act"),
        node("MatMul", "act w2", "h2"),
        node("MatMul", "adj h2", "again"),
        node("Relu", "again", "act2"),
        node("ReduceMean", "act2", "latent", axes=[1], keepdims=0),
        node("Gemm", "latent h", "y"),
    ],
    [w("w1", 5, 8), w("w2", 8, 6), w("h", 6, 3)],
)


@pytest.mark.parametrize("n", ["N", 1])
def test_a_graph_network_moves_nodes_with_their_adjacency(read, n):
    nodes, constants = GCN
    ins = [x(n, 7, 5), x(n, 7, 7, name="adj")]
    expected = dict.fromkeys(("heard", "h1", "act", "h2", "again", "act2"), "NPC")
    listing = check(
        read,
        nodes,
        constants,
        ins,
        {"x": "NPC", "adj": "NPP"},
        expected | {"latent": "NK"},
        along="P",
    )
    # Before the adjacency is read for the last time, no tensor holds all that the output needs.
    assert with_role(listing, "channel") == ["act2"]
    assert with_role(listing, "latent") == ["latent"]


def test_an_adjacency_that_is_not_moved_has_letters_and_bypasses_nothing(tmp_path):
    model = load_model(graph_network(tmp_path))
    layouts = {"x": "NPC", "adj": "NPP"}
    listing = list_as_stated(model, "x", "y", input_layout=layouts, moved=["x"])
    assert letters_of(listing)["again"] == "NPC"
    assert with_role(listing, "channel") == ["heard", "act", "h2", "act2"]


def test_with_the_nodes_alone_stated_the_adjacency_is_fed(read):
    nodes, constants = GCN
    ins = [x("N", 7, 5), x("N", 7, 7, name="adj")]
    listing = check(read, nodes, constants, ins, {"x": "NPC"}, {"heard": "?", "y": "NK"})
    assert with_role(listing, "channel") == []


def test_degrees_and_normalised_adjacencies_are_followed(read):
    nodes = [
        node("Add", "adj eye", "loops"),
        node("ReduceSum", "loops last", "degree", keepdims=1),
        node("Div", "loops degree", "normal"),
        node("MatMul", "normal x", "heard"),
        node("ReduceSum", "heard last", "y", keepdims=0),
    ]
    constants = [weights("eye", np.eye(7)), integers("last", [-1])]
    expected = {"loops": "NPP", "degree": "NPP", "normal": "NPP", "heard": "NPC", "y": "NP"}
    ins = [x("N", 7, 5), x("N", 7, 7, name="adj")]
    listing = check(read, nodes, constants, ins, {"x": "NPC", "adj": "NPP"}, expected, along="P")
    assert "channel" in next(t for t in listing if t.name == "y").roles


def distances():
    nodes = [
        node("Unsqueeze", "x two", "rows"),
        node("Unsqueeze", "x one", "columns"),
        node("Sub", "rows columns", "between"),
        node("Mul", "between between", "squared"),
        node("ReduceSum", "squared last", "d2", keepdims=0),
        node("Exp", "d2", "near"),
        node("Unsqueeze", "near last", "near1"),
    ]
    constants = [integers("one", [1]), integers("two", [2]), integers("last", [-1])]
    return nodes, constants


@BATCHES
def test_differences_of_points_are_vectors_and_distances_are_not(read, n):
    nodes, constants = distances()
    nodes += [
        node("Mul", "between near1", "pull"),
        node("ReduceSum", "pull two", "moved", keepdims=0),
        node("Add", "x moved", "y"),
    ]
    expected = {
        **{"rows": "NPCX", "columns": "NCPX", "between": "NPPX", "squared": "?", "d2": "NPP"},
        **{"near": "NPP", "near1": "NPPC", "pull": "NPPX", "moved": "NPX", "y": "NPX"},
    }
    listing = check(read, nodes, constants, [x(n, 6, 3)], "NPX", expected, along="PX")
    assert with_role(listing, "channel") == ["y"]


def test_weighted_centroids_are_vectors(read):
    nodes = [
        node("ReduceMean", "x", "centre", axes=[1], keepdims=1),
        node("Sub", "x centre", "c"),
        node("ReduceL2", "c", "r", axes=[2], keepdims=1),
        node("Softmax", "r", "weight", axis=1),
        node("Mul", "weight c", "weighed"),
        node("ReduceSum", "weighed one", "y", keepdims=0),
    ]
    expected = {"centre": "NPX", "c": "NPX", "r": "NPC", "weight": "NPC", "weighed": "NPX"}
    check(
        read,
        nodes,
        [integers("one", [1])],
        [x("N", 6, 3)],
        "NPX",
        expected | {"y": "NX"},
        along="PX",
    )


@pytest.mark.parametrize(
    ("op", "letters"), [("Neg", "NPX"), ("Relu", "?"), ("Tanh", "?"), ("Softmax", "?")]
)
def test_vectors_stay_vectors_through_linear_steps_alone(read, op, letters):
    nodes = [node(op, "x", "a"), node("MatMul", "a d", "y")]
    check(read, nodes, [w("d", 3, 4)], [x("N", 6, 3)], "NPX", {"a": letters, "y": "NPC"})


def test_a_product_with_weights_of_points_keeps_vectors(read):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("MatMul", "x t", "gram"),
        node("Softmax", "gram", "a", axis=-1),
        node("MatMul", "a x", "y"),
    ]
    expected = {"t": "NXP", "gram": "NPP", "a": "NPP", "y": "NPX"}
    check(read, nodes, [], [x("N", 6, 3)], "NPX", expected, along="PX")


@pytest.mark.parametrize(
    ("index", "letters"),
    [([0, 2, 4], "?"), ([5, 4, 3, 2, 1, 0], "?"), ([0, 1, 2, 3, 4, 5], "NPC"), (2, "NK")],
)
def test_points_that_are_picked_by_place_are_no_set(read, index, letters):
    nodes = [node("Gather", "x i", "y", axis=1)]
    check(read, nodes, [weights("i", index, np.int64)], [x("N", 6, 3)], "NPC", {"y": letters})


def test_neighbours_that_the_data_choose_move_along(read):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("MatMul", "x t", "gram"),
        onnx.helper.make_node("TopK", ["gram", "k"], ["best", "who"]),
        node("Unsqueeze", "who last", "where"),
        node("GatherND", "x where", "near", batch_dims=1),
        node("MatMul", "near d", "edges"),
        node("ReduceMax", "edges", "y", axes=[2], keepdims=0),
    ]
    constants = [integers("k", [4]), integers("last", [-1]), w("d", 5, 8)]
    expected = {
        "gram": "NPP",
        "best": "NPC",
        "near": beside("NPKC"),
        "edges": beside("NPKC"),
        "y": "NPC",
    }
    check(read, nodes, constants, [x("N", 9, 5)], "NPC", expected, along="P")


# ------------------------------------------------------------------------------------------------
# Volumes and fields
# ------------------------------------------------------------------------------------------------


@BATCHES
def test_a_3d_cnn_keeps_its_volume(read, n):
    nodes = [
        node("Conv", "x k", "pre", pads=[1] * 6),
        node("BatchNormalization", "pre s b m v", "normed"),
        node("Relu", "normed", "act"),
        node("AveragePool", "act", "pooled", kernel_shape=[2] * 3, strides=[2] * 3),
        node("ReduceMean", "pooled", "latent", axes=[2, 3, 4], keepdims=0),
        node("Gemm", "latent h", "y"),
    ]
    constants = [w("k", 4, 1, 3, 3, 3), w("h", 4, 3)]
    constants += [weights(name, np.ones(4)) for name in "sbmv"]
    letters = dict.fromkeys(("pre", "normed", "act", "pooled"), "NCDHW")
    expected = letters | {"latent": "NK", "y": "NK"}
    listing = check(read, nodes, constants, [x(n, 1, 8, 8, 8)], None, expected)
    assert with_role(listing, "channel") == ["act", "pooled"]
    assert with_role(listing, "latent") == ["latent"]


def test_frames_of_a_video_that_stand_in_the_batch_come_back(read):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "t frames", "f"),
        node("Conv", "f k", "map"),
        node("Reshape", "map video", "v"),
        node("ReduceMean", "v", "y", axes=[3, 4], keepdims=0),
    ]
    constants = [w("k", 4, 3, 3, 3), integers("frames", [-1, 3, 8, 8])]
    constants += [integers("video", [-1, 5, 4, 6, 6])]
    expected = {"t": "NTCHW", "f": "?", "map": "?", "v": "NTCHW", "y": "NTC"}
    check(read, nodes, constants, [x("N", 3, 5, 8, 8)], "NCTHW", expected)


def test_frames_that_are_stacked_into_channels_make_maps(read):
    nodes = [
        node("Reshape", "x stack", "s"),
        node("Conv", "s k", "map"),
        node("ReduceMean", "map", "y", axes=[2, 3], keepdims=0),
    ]
    constants = [integers("stack", [0, 15, 8, 8]), w("k", 4, 15, 3, 3)]
    expected = {"s": "?", "map": "NCHW", "y": "NK"}
    listing = check(read, nodes, constants, [x("N", 5, 3, 8, 8)], "NTCHW", expected)
    assert with_role(listing, "channel") == ["map"]


def test_a_field_is_a_field_through_sums_and_a_stated_one_goes_on(read):
    nodes = [
        node("AveragePool", "x", "coarse", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "coarse k", "features"),
        node("Relu", "features", "act"),
        node("Conv", "act k2", "field"),
        node("Mul", "field half", "y"),
    ]
    constants = [w("k", 4, 2, 3, 3), w("k2", 2, 4, 1, 1), weights("half", [0.5])]
    expected = {"coarse": "NXHW", "features": "NCHW", "act": "NCHW", "field": "NCHW", "y": "NCHW"}
    check(read, nodes, constants, [x("N", 2, 8, 8)], "NXHW", expected)
    stated = expected | {"field": "NXHW", "y": "NXHW"}
    check(read, nodes, constants, [x("N", 2, 8, 8)], "NXHW", stated, layout={"field": "NXHW"})


def test_a_plane_without_channels_is_a_plane(read):
    nodes = [
        node("Relu", "x", "act"),
        node("Unsqueeze", "act one", "map"),
        node("Conv", "map k", "maps"),
        node("ReduceMax", "maps", "y", axes=[1], keepdims=0),
    ]
    expected = {"act": "NHW", "map": "NCHW", "maps": "NCHW", "y": "NHW"}
    listing = check(
        read, nodes, [w("k", 4, 1, 3, 3), integers("one", [1])], [x("N", 8, 8)], "NHW", expected
    )
    assert with_role(listing, "channel") == ["act", "maps", "y"]  # the map is what is act


# ------------------------------------------------------------------------------------------------
# Where nothing is sure
# ------------------------------------------------------------------------------------------------

HEARD = [
    node("MatMul", "seeds t", "told"),
    node("Softmax", "told", "weights", axis=-1),
    node("MatMul", "weights x", "v"),
]

UNSURE = {
    "a vector folded by a decoder": (
        [
            node("ReduceMean", "x", "v", axes=[1], keepdims=0),
            node("Gemm", "v d", "long"),
            node("Reshape", "long fold", "seed"),
            node("ConvTranspose", "seed k", "y", strides=[2]),
        ],
        [w("d", 5, 12), integers("fold", [0, 3, 4]), w("k", 3, 4, 2)],
    ),
    "a vector folded by a decoder, of which one channel is taken": (
        [
            node("ReduceMean", "x", "v", axes=[1], keepdims=0),
            node("Gemm", "v d", "long"),
            node("Reshape", "long fold", "folded"),
            node("Gather", "folded one", "taken", axis=1),
            node("Reshape", "taken alone", "y"),
        ],
        [
            w("d", 5, 12),
            integers("fold", [0, 2, 6]),
            integers("one", 0),
            integers("alone", [0, 1, 6]),
        ],
    ),
    "vectors of seeds, each folded by a decoder": (
        [
            *HEARD,
            node("MatMul", "v d", "long"),
            node("Reshape", "long fold", "folded"),
            node("ReduceMean", "folded", "y", axes=[1], keepdims=0),
        ],
        [w("seeds", 2, 5), w("d", 5, 12), integers("fold", [0, 2, 3, 4])],
    ),
    "seeds laid on a grid": (
        [
            *HEARD,
            node("Reshape", "v grid", "on_grid"),
            node("ReduceMean", "on_grid", "y", axes=[1], keepdims=0),
        ],
        [w("seeds", 6, 5), integers("grid", [0, 2, 3, 5])],
    ),
    "a dense layer over places": ([node("MatMul", "t d", "y")], [w("d", 12, 7)]),
    "places flattened with features in threes": (
        [node("Reshape", "x threes", "y")],
        [integers("threes", [0, 3, 20])],
    ),
    "a line cut into windows that change places": (
        [
            node("Reshape", "x windows", "a"),
            node("Transpose", "a", "b", perm=[0, 2, 1, 3]),
            node("Reshape", "b back", "y"),
        ],
        [integers("windows", [0, 3, 4, 5]), integers("back", [0, 12, 5])],
    ),
    "a line and its mirror": (
        [node("Slice", "x last first one back", "m"), node("Add", "x m", "y")],
        [
            *(integers("last", [-1]), integers("first", [-99])),
            *(integers("one", [1]), integers("back", [-1])),
        ],
    ),
    "two lines end to end": (
        [node("Relu", "x", "r"), node("Concat", "x r", "y", axis=1)],
        [],
    ),
    "an operator that nobody knows": ([node("CumProd", "x", "y", domain="strange")], []),
    "pairs of places": ([node("MatMul", "x t", "y")], []),
    "an affine step of features that becomes the line": (
        [
            node("MatMul", "t sq", "s"),
            node("Transpose", "s", "u", perm=[0, 2, 1]),
            node("Add", "x u", "y"),
        ],
        [w("sq", 12, 12)],
    ),
}


@pytest.mark.parametrize("way", UNSURE)
def test_what_is_not_sure_has_no_letters(tmp_path, way):
    nodes, constants = UNSURE[way]
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), *nodes]
    source = models.build(
        nodes, constants, [x("N", 12, 5)], [("y", FLOAT, None)], domains=["strange"]
    )
    model = load_model(models.save(source, tmp_path / "model.onnx"))
    listed = list_as_stated(model, "x", "y", input_layout="NTC")
    assert letters_of(listed)["y"] == "?"
    stated = list_as_stated(model, "x", "y", input_layout="NTC", layout={"y": "NTC"})
    assert letters_of(stated)["y"] == "NTC"


def test_a_flattened_set_is_a_vector(read):
    nodes = [node("Flatten", "x", "flat"), node("Gemm", "flat d", "a"), node("Relu", "a", "y")]
    expected = {"flat": "NK", "a": "NK", "y": "NK"}
    check(read, nodes, [w("d", 30, 4)], [x("N", 6, 5)], "NPC", expected)


def test_tokens_of_images_have_no_letters_of_lines(tmp_path):
    model = load_model(models.save(models.tokens(), tmp_path / "model.onnx"))
    listed = list_as_stated(model, "x", find_output(model), input_layout="NCHW")
    assert "NTD" in letters_of(listed).values()


# ------------------------------------------------------------------------------------------------
# Places taken singly, or a few of them, and put side by side again
# ------------------------------------------------------------------------------------------------


def stacked(order, n, take, *, axis=1, features=5):
    """A dense layer of each place alone, put side by side in some order."""
    nodes, constants = (
        [],
        [
            integers("axis", [axis]),
            integers("from", [1]),
            integers("split", [1] * n),
            w("w", 3, features),
        ],
    )
    constants += [weights(f"i{i}", i, np.int64) for i in range(n)]
    if take == "Split":
        nodes.append(node("Split", "x split", " ".join(f"p{i}" for i in range(n)), axis=1))
    for i in range(n):
        if take == "Gather":
            nodes.append(node("Gather", f"x i{i}", f"s{i}", axis=1))
        elif take == "Slice":
            constants += [integers(f"a{i}", [i - n]), integers(f"b{i}", [i + 1])]
            nodes.append(node("Slice", f"x a{i} b{i} from", f"p{i}"))
        if take != "Gather":
            nodes.append(node("Squeeze", f"p{i} from", f"s{i}"))
        nodes += [
            node("MatMul", f"s{i} w", f"m{i}"),
            node("Tanh", f"m{i}", f"t{i}"),
            node("Unsqueeze", f"t{i} axis", f"u{i}"),
        ]
    nodes.append(node("Concat", " ".join(f"u{i}" for i in order), "put", axis=axis))
    return [*nodes, node("Sin", "put", "y")], constants


@pytest.mark.parametrize("take", ["Gather", "Split", "Slice"])
@pytest.mark.parametrize(("letter", "axis"), [("T", 1), ("P", 1), ("T", 2)])
def test_steps_taken_singly_and_put_side_by_side_in_order_are_the_line_again(
    read, take, letter, axis
):
    nodes, constants = stacked(range(4), 4, take, axis=axis)
    layout = f"N{letter}C" if axis == 1 else f"NC{letter}"
    listing = check(read, nodes, constants, [x("N", 4, 3)], f"N{letter}C", {"y": layout})
    assert "channel" in next(t.roles for t in listing if t.name == "y")


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 1, 2), (0, 0, 1, 2, 3), (1, 1)])
def test_steps_in_another_order_or_not_all_of_them_are_no_features(read, order):
    # Twice one and the same step are features as any others.
    letters = {"y": "?" if len(set(order)) > 1 else "NKC"}
    check(read, *stacked(order, 4, "Gather"), [x("N", 4, 3)], "NTC", letters)


@pytest.mark.parametrize("letter", "TP")
def test_parts_kept_as_axes_of_one_place_are_that_axis_again(read, letter):
    nodes = [
        node("Split", "x ones", "a b c", axis=1),
        *(node("Tanh", name, f"t{name}") for name in "abc"),
        node("Concat", "ta tb tc", "y", axis=1),
    ]
    text = f"N{letter}C"
    check(read, nodes, [integers("ones", [1, 1, 1])], [x("N", 3, 2)], text, {"y": text})


def test_features_of_each_step_end_to_end_are_steps_by_features(read):
    nodes, constants = stacked(range(4), 4, "Gather")
    nodes = [n for n in nodes if n.op_type not in ("Unsqueeze", "Concat", "Sin")]
    nodes += [
        node("Concat", "t0 t1 t2 t3", "row", axis=1),
        node("Reshape", "row shape", "y"),
        node("MatMul", "row head", "scores"),
    ]
    constants += [integers("shape", [-1, 4, 5]), w("head", 20, 6)]
    letters = {"row": "NK", "y": "NTC", "scores": "NK"}
    check(read, nodes, constants, [x("N", 4, 3)], "NTC", letters, output="scores")


@pytest.mark.parametrize("way", ["segments", "windows", "even and odd", "unrolled"])
def test_segments_windows_and_unrolled_steps_are_no_features(read, way):
    nodes, constants = [], [integers("axis", [1])]
    if way == "unrolled":
        constants += [weights(f"i{i}", i, np.int64) for i in range(4)]
        nodes += [node("Gather", f"x i{i}", f"g{i}", axis=1) for i in range(4)]
        nodes += [node("Tanh", "g0", "h0")]
        nodes += [node("Add", f"h{i - 1} g{i}", f"h{i}") for i in range(1, 4)]
        parts = [f"h{i}" for i in range(4)]
    else:
        step = 2 if way == "even and odd" else 1
        for i in range(2):
            first = i if step == 2 else 4 * i
            last = 8 if step == 2 else 4 * i + 4
            constants += [integers(f"a{i}", [first]), integers(f"b{i}", [last])]
            nodes.append(node("Slice", f"x a{i} b{i} axis step", f"s{i}"))
            if way != "windows":
                nodes.append(node("ReduceMean", f"s{i}", f"m{i}", axes=[1], keepdims=0))
        constants.append(integers("step", [step]))
        parts = [f"{'s' if way == 'windows' else 'm'}{i}" for i in range(2)]
    nodes += [node("Unsqueeze", f"{p} axis", f"u{p}") for p in parts]
    nodes.append(node("Concat", " ".join(f"u{p}" for p in parts), "y", axis=1))
    length = 4 if way == "unrolled" else 8
    check(read, nodes, constants, [x("N", length, 3)], "NTC", {"y": "?"})


def unrolled(n):
    """A recurrent network step by step, each step from all before."""
    constants = [integers("axis", [1]), w("w", 3, 3)]
    constants += [weights(f"i{i}", i, np.int64) for i in range(n)]
    nodes = [node("Gather", f"x i{i}", f"g{i}", axis=1) for i in range(n)]
    nodes.append(node("Tanh", "g0", "h0"))
    for i in range(1, n):
        nodes += [node("MatMul", f"h{i - 1} w", f"m{i}"), node("Add", f"m{i} g{i}", f"h{i}")]
    nodes += [node("Unsqueeze", f"h{i} axis", f"u{i}") for i in range(n)]
    nodes.append(node("Concat", " ".join(f"u{i}" for i in range(n)), "y", axis=1))
    return models.build(nodes, constants, [x("N", n, 3)], [("y", FLOAT, None)])


def test_memory_grows_with_the_steps_of_an_unrolled_network_and_not_with_their_square(model_of):
    peaks = []
    for n in (20, 200, 400):
        model = model_of(unrolled(n))
        facts = infer_tensors(model, "x", "y", None)
        tracemalloc.start()
        layouts, _, _ = find_layouts(model.proto.graph, facts.flow, facts.one, {"x": "NTC"})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert "y" not in layouts
    assert peaks[2] < 2.5 * peaks[1]


def test_every_second_step_beside_the_others_are_channels_of_a_coarse_line(read):
    nodes = [
        node("Slice", "x zero end axis two", "even"),
        node("Slice", "x one end axis two", "odd"),
        node("Concat", "even odd", "y", axis=1),
    ]
    numbers = {"zero": 0, "one": 1, "end": 8, "axis": 2, "two": 2}
    constants = [integers(name, [value]) for name, value in numbers.items()]
    check(read, nodes, constants, [x("N", 3, 8)], "NCT", {"y": "NCT"})


def test_first_steps_of_several_layers_and_a_step_beside_the_mean_are_features(read):
    nodes = [
        node("Tanh", "x", "deep"),
        node("Gather", "x first", "one", axis=1),
        node("Gather", "deep first", "two", axis=1),
        node("ReduceMean", "deep", "mean", axes=[1], keepdims=0),
        *(node("Unsqueeze", f"{name} axis", f"u{name}") for name in ("one", "two", "mean")),
        node("Concat", "uone utwo umean", "y", axis=1),
    ]
    constants = [integers("axis", [1]), weights("first", 0, np.int64)]
    check(read, nodes, constants, [x("N", 8, 3)], "NTC", {"y": "NKC"})


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(
    ("crops", "features"),
    [
        ([(17, 29), (16, 28), (15, 27)], True),  # centres of 46, 44 and 42 steps
        ([(-12, 46)] * 3, True),
        ([(-1, 46)] * 3, True),
        ([(0, 12), (22, 34), (30, 42)], False),  # beginning, middle and end
        ([(0, 12), (11, 23), (30, 42)], False),
    ],
)
def test_short_crops_of_layers_that_grow_shorter_are_features_if_of_one_part(
    read, crops, features, pooled
):
    nodes, constants, last = [], [integers("along", [2]), integers("one", [1])], "x"
    for i, (first, end) in enumerate(crops):
        constants += [w(f"k{i}", 4, 4 if i else 2, 3), integers(f"a{i}", [first])]
        constants.append(integers(f"b{i}", [end]))
        nodes += [
            node("Conv", f"{last} k{i}", f"c{i}"),
            node("Tanh", f"c{i}", f"h{i}"),
            node("Slice", f"h{i} a{i} b{i} along", f"s{i}"),
        ]
        if pooled:
            nodes.append(node("ReduceMean", f"s{i}", f"m{i}", axes=[2], keepdims=0))
            nodes.append(node("Unsqueeze", f"m{i} one", f"u{i}"))
        last = f"h{i}"
    parts = " ".join(f"{'u' if pooled else 's'}{i}" for i in range(3))
    nodes += [node("Concat", parts, "put", axis=1), node("Relu", "put", "y")]
    single = crops[0] == (-1, 46)
    letters = ("NKC" if pooled else "NCK" if single else "NCT") if features else "?"
    listing = check(read, nodes, constants, [x("N", 2, 48)], "NCT", {"y": letters})
    assert ("channel" in next(t.roles for t in listing if t.name == "y")) == (letters == "NCT")


@pytest.mark.parametrize("width", [1, 2, 3])
def test_windows_popped_off_the_front_of_a_line_are_no_features(read, width):
    """x = x[:, 1:] again and again, and each time the mean of the first few steps."""
    nodes = []
    constants = [*(integers("none", [0]), integers("first", [1])), integers("few", [width])]
    constants += [integers("end", [99]), integers("axis", [1]), w("w", 5, 8)]
    last, count = "x", 10 - width
    for i in range(count):
        nodes += [
            node("Slice", f"{last} none few axis", f"s{i}"),
            node("ReduceMean", f"s{i}", f"m{i}", axes=[1], keepdims=0),
            node("MatMul", f"m{i} w", f"e{i}"),
            node("Unsqueeze", f"e{i} axis", f"u{i}"),
            node("Slice", f"{last} first end axis", f"x{i}"),
        ]
        last = f"x{i}"
    parts = " ".join(f"u{i}" for i in range(count - 1))  # the last may be the whole of its line
    nodes += [node("Concat", parts, "put", axis=1), node("Tanh", "put", "y")]
    check(read, nodes, constants, [x("N", 9, 5)], "NTC", {"y": "?"})


def test_a_line_cropped_beside_a_convolution_of_it_is_still_one(read):
    """A residual connection of valid convolutions, of which channels are put side by side."""
    nodes = [
        node("Conv", "x k", "c"),
        node("Slice", "x first end axis", "r"),
        node("Concat", "c r", "put", axis=1),
        node("Tanh", "put", "y"),
    ]
    constants = [w("k", 4, 2, 3), integers("first", [1]), integers("end", [-1])]
    constants.append(integers("axis", [2]))
    check(read, nodes, constants, [x("N", 2, 12)], "NCT", {"y": "NCT"})


def test_steps_put_into_rows_of_zeros_and_added_up_are_no_features(read):
    """Each step padded to its place among all: the line again, which nobody follows."""
    nodes, constants = stacked(range(3), 3, "Gather")
    nodes = [n for n in nodes if n.op_type not in ("Concat", "Sin")]
    for i in range(3):
        constants.append(integers(f"around{i}", [0, i, 0, 0, 2 - i, 0]))
        nodes.append(node("Pad", f"u{i} around{i}", f"p{i}"))
    nodes.append(node("Sum", "p0 p1 p2", "y"))
    check(read, nodes, constants, [x("N", 3, 3)], "NTC", {"p1": "?", "y": "?"})


def test_frames_taken_singly_move_with_the_video(tmp_path):
    """Frame by frame the network is equivariant, so that the channels agree: -1."""
    nodes, constants = [], [integers("axis", [1]), w("k", 4, 3, 3, 3)]
    for i in range(4):
        constants.append(weights(f"i{i}", i, np.int64))
        nodes += [
            node("Gather", f"x i{i}", f"g{i}", axis=1),
            node("Conv", f"g{i} k", f"c{i}", pads=[1] * 4),
            node("Unsqueeze", f"c{i} axis", f"u{i}"),
        ]
    nodes += [node("Concat", "u0 u1 u2 u3", "put", axis=1), node("Tanh", "put", "y")]
    source = models.build(nodes, constants, [x("N", 4, 3, 6, 6)], [("y", FLOAT, None)])
    file = models.save(source, tmp_path / "model.onnx")
    data = RNG.normal(size=(6, 4, 3, 6, 6)).astype(np.float32)
    result = onnx_geed.measure(
        file, data, "reverse", input_layout="NTCHW", measures=["channel-cos@y"], samples=4
    )
    (row,) = result["measurements"]
    assert (row["layout"], row["output_action"]) == ("NTCHW", "line")
    assert row["value"] == pytest.approx(-1, abs=1e-6)


# ------------------------------------------------------------------------------------------------
# Which inputs move
# ------------------------------------------------------------------------------------------------


def two_inputs(*shapes, metadata=()):
    ins = [x(*shape, name=name) for name, shape in zip("ab", shapes, strict=True)]
    nodes = [node("ReduceMean", name, f"m{name}", keepdims=0, axes=[1]) for name in "ab"]
    source = models.build(nodes, [], ins, [("ma", FLOAT, None), ("mb", FLOAT, None)])
    return models.with_metadata(source, dict(metadata))


@pytest.fixture
def model_of(tmp_path):
    return lambda source: load_model(models.save(source, tmp_path / "model.onnx"))


def test_several_inputs_move_each_with_its_layout_the_first_stated_is_the_main_one(model_of):
    model = model_of(two_inputs(("N", 6, 3), ("N", 6, 6)))
    for stated in ({"a": "NPX", "b": "NPP"}, {"b": "NPP", "a": "NPX"}):
        acted = find_input(model, None, stated)
        first, second = stated
        assert acted.name == first
        assert input_layout(model, acted, stated) == stated[first]
        ((other, text),) = further_inputs(model, acted, stated)
        assert (other.name, text) == (second, stated[second])
    named = find_input(model, "b", {"": "NPP", "a": "NPX"})
    assert input_layout(model, named, {"": "NPP", "a": "NPX"}) == "NPP"


def test_metadata_state_the_layouts_of_several_inputs(model_of):
    keys = {layout_key("a"): "NPX", layout_key("b"): "NPP"}
    model = model_of(two_inputs(("N", 6, 3), ("N", 6, 6), metadata=keys.items()))
    acted = find_input(model)
    assert (acted.name, input_layout(model, acted)) == ("a", "NPX")
    assert [text for _, text in further_inputs(model, acted)] == ["NPP"]
    assert input_layout(model, acted, "NPC") == "NPC"


def test_an_image_beside_a_vector_needs_no_layout(model_of):
    model = model_of(two_inputs(("N", 3, 8, 8), ("N", 5)))
    assert find_input(model).name == "a"
    assert further_inputs(model, find_input(model)) == ()
    assert further_inputs(model, find_input(model), {"b": "NK"})[0][1] == "NK"


@pytest.mark.parametrize("shape", [("N", 8, 8), (3, 8, 8), ("N", 4)])
def test_few_axes_need_a_stated_layout(model_of, shape):
    source = models.build([node("Relu", "x", "y")], [], [x(*shape)], [("y", FLOAT, None)])
    model = model_of(source)
    with pytest.raises(GeedError, match=r"no batch axis|must be stated|--input-layout"):
        input_layout(model, find_input(model))
    text = "NCT" if len(shape) == 3 else "NT"
    assert input_layout(model, find_input(model, None, text), text) == text
    in_file = models.with_metadata(source, {"onnx_geed.input_layout": text})
    assert input_layout(model_of(in_file), find_input(model_of(in_file))) == text


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"c": "NPX"}, r"--input-layout c=NPX: the model has no input 'c'; it has a, b"),
        ({"a": "NPQ"}, r"'NPQ': is not a layout of input 'a'"),
        ({"a": "NP"}, "names 2 axes"),
        ({"a": "NPX", "b": "NQ"}, "'NQ': is not a layout of input 'b'"),
    ],
)
def test_a_stated_layout_that_fits_no_input_is_refused(model_of, stated, message):
    model = model_of(two_inputs(("N", 6, 3), ("N", 6, 6)))

    def read_all():
        acted = find_input(model, "a", stated)
        input_layout(model, acted, stated)
        further_inputs(model, acted, stated)

    with pytest.raises(GeedError, match=message):
        read_all()


# ------------------------------------------------------------------------------------------------
# Listed and annotated
# ------------------------------------------------------------------------------------------------


def graph_network(folder):
    nodes, constants = GCN
    ins = [x("N", 7, 5), x("N", 7, 7, name="adj")]
    source = models.build(nodes, constants, ins, [("y", FLOAT, None)])
    return models.save(source, folder / "gcn.onnx")


def test_a_listing_has_the_letters_of_inputs_and_tensors_and_says_what_they_are(tmp_path):
    file = graph_network(tmp_path)
    listing = list_layers(file, layout_of_input={"x": "NPC", "adj": "NPP"})
    assert [i["layout"] for i in listing["inputs"]] == ["NPC", "NPP"]
    assert {t["name"]: t["layout"] for t in listing["tensors"]}["act2"] == "NPC"
    text = layer_table(listing)
    assert "acted on, NPC" in text
    assert "adj (N,7,7) float32   NPP" in text
    assert f"Letters: P: {LETTERS['P']}." in text


def test_a_listing_without_a_layout_says_which_are_usual(tmp_path):
    listing = list_layers(graph_network(tmp_path), input="x")
    assert listing["input"] == {"name": "x", "layout": None}
    assert "layout unknown: --input-layout" in layer_table(listing)


def test_images_have_no_legend(tmp_path):
    file = models.save(models.random_cnn(), tmp_path / "cnn.onnx")
    assert "Letters" not in layer_table(list_layers(file))


def test_layouts_of_several_inputs_are_written_into_a_file_and_read_from_it(tmp_path):
    out = tmp_path / "known.onnx"
    written = annotate_model(
        graph_network(tmp_path), out, input_layout={"adj": "NPP", "x": "NPC"}, input="x"
    )
    assert written == {
        "onnx_geed.input": "x",
        "onnx_geed.input_layout": "NPC",
        layout_key("adj"): "NPP",
    }
    listing = list_layers(out)
    assert [i["layout"] for i in listing["inputs"]] == ["NPC", "NPP"]
    assert {t["name"]: t["layout"] for t in listing["tensors"]}["heard"] == "NPC"


@pytest.mark.parametrize("side", ["x", "adj"])
def test_a_fixed_batch_is_freed_on_the_paths_of_all_inputs(tmp_path, side):
    nodes = [
        node("Reshape", "adj flat", "row"),
        node("Reshape", "row square", "again"),
        node("MatMul", "again x", "heard"),
        node("ReduceMean", "heard", "y", axes=[1], keepdims=0),
    ]
    constants = [integers("flat", [1, 49]), integers("square", [1, 7, 7])]
    ins = [x(1, 7, 5), x(1, 7, 7, name="adj")]
    source = models.build(nodes, constants, ins, [("y", FLOAT, None)])
    model = load_model(models.save(source, tmp_path / "model.onnx"))
    freed = free_batch_axis(model, side)
    feeds = {"x": RNG.normal(size=(3, 7, 5)), "adj": RNG.normal(size=(3, 7, 7))}
    feeds = {name: rows.astype(np.float32) for name, rows in feeds.items()}
    (rows,) = running.session(freed.proto).run(None, feeds)
    np.testing.assert_allclose(rows, (feeds["adj"] @ feeds["x"]).mean(axis=1), rtol=1e-4, atol=1e-5)


def test_three_axes_are_not_guessed_where_nobody_states_the_input(tmp_path):
    x, y = (
        onnx.helper.make_tensor_value_info(name, FLOAT, ["N", *shape])
        for name, shape in (("x", (2, 24)), ("y", (6, 22)))
    )
    kernel = onnx.numpy_helper.from_array(np.ones((6, 2, 3), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "line", [x], [y], [kernel]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    (plain,) = list_layers(tmp_path / "m.onnx")["tensors"]
    (stated,) = list_layers(tmp_path / "m.onnx", layout_of_input="NCT")["tensors"]
    assert (plain["layout"], stated["layout"]) == ("?", "NCT")
