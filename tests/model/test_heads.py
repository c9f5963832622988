"""What is measured where: before heads of all kinds, on embeddings, and where a head is unclear."""

import importlib

import models
import naive
import numpy as np
import pytest
import running
from converting import FOLDER
from onnx import TensorProto, helper
from running import images, orbits

from onnx_geed import measure
from onnx_geed.errors import GeedError
from onnx_geed.model import (
    annotate_model as annotate,
    find_output,
    list_layers,
    list_tensors as tensors,
    load_model,
)
from onnx_geed.report import layer_table

FLOAT = TensorProto.FLOAT
node, weights, integers = models.node, models.weights, models.integers
FEW = {"samples": 3, "norm_samples": 3}


def random(name, *shape):
    seed = sum(map(ord, name))
    return weights(name, np.random.default_rng(seed).normal(size=shape).astype(np.float32))


TRUNK = [
    node("Conv", "x w0", "pre", pads=[1, 1, 1, 1]),
    node("Relu", "pre", "stem"),
    node("Conv", "stem w1", "last", pads=[1, 1, 1, 1]),
    node("Relu", "last", "map"),
]
POOL = [node("GlobalAveragePool", "map", "gap"), node("Flatten", "gap", "feat", axis=1)]
DENSE = [node("Gemm", "feat h b", "scores")]
HELD = [random("w0", 4, 3, 3, 3), random("w1", 6, 4, 3, 3), random("h", 6, 5), random("b", 5)]
HELD += [random("t", 5, 6), weights("one", np.ones(5)), weights("six", np.ones(6))]
HELD += [integers(f"a{n}", [n]) for n in (0, 1, 2, 3, 6)] + [integers("end", [-1])]


def net(nodes, constants=(), pool=True, batch="N"):
    every = TRUNK + (POOL if pool else []) + nodes
    held = [*HELD, *constants]
    read = {name for n in every for name in n.input} | {"h", "b"}
    used = [tensor for tensor in held if tensor.name in read]
    inputs, outputs = [("x", FLOAT, [batch, 3, 6, 6])], [(nodes[-1].output[0], FLOAT, None)]
    return models.build(every, used, inputs, outputs)


def branches(body, then):
    """Make an If whose bodies compute the same."""
    graphs = [
        helper.make_graph(
            [node(body, then, name)], name, [], [helper.make_tensor_value_info(name, FLOAT, None)]
        )
        for name in ("yes", "no")
    ]
    result = helper.make_node("If", ["true"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    return [result], [weights("true", True, bool)]


def spelt_norm(name, result):
    """Divide by the root of the sum of squares."""
    return [
        node("Mul", f"{name} {name}", "squares"),
        node("ReduceSum", "squares a1", "sum", keepdims=1),
        node("Sqrt", "sum", "root"),
        node("Div", f"{name} root", result),
    ]


# Name → nodes, constants, and the latent.
HEADS = {
    "slice": ([*DENSE, node("Slice", "scores a0 a3 a1", "y")], [], "feat"),
    "gather": (
        [*DENSE, node("Gather", "scores some", "y", axis=1)],
        [integers("some", [2, 0, 1])],
        "feat",
    ),
    "where": (
        [*DENSE, node("Where", "mask scores low", "y")],
        [weights("mask", [True, False, True, True, True], bool), weights("low", [-9.0])],
        "feat",
    ),
    "where by value": (
        [*DENSE, node("Greater", "scores low", "m"), node("Where", "m scores low", "y")],
        [weights("low", [-9.0])],
        "feat",
    ),
    "pad": ([*DENSE, node("Pad", "scores wide", "y")], [integers("wide", [0, 0, 0, 2])], "feat"),
    "split": (
        [*DENSE, node("Split", "scores parts", "y other", axis=1)],
        [integers("parts", [3, 2])],
        "feat",
    ),
    "layer norm": (
        [*DENSE, node("LayerNormalization", "scores one b", "y", axis=-1)],
        [],
        "feat",
    ),
    "einsum": ([node("Einsum", "feat h", "y", equation="nk,kc->nc")], [], "feat"),
    "einsum, weights first": (
        [node("Einsum", "t feat", "s", equation="ck, nk -> nc"), node("Add", "s b", "y")],
        [],
        "feat",
    ),
    "einsum with dots": ([node("Einsum", "feat t", "y", equation="...k,ck->...c")], [], "feat"),
    "einsum without arrow": ([node("Einsum", "feat h", "y", equation="ak,kc")], [], "feat"),
    "product and sum": (
        [
            node("Unsqueeze", "feat a1", "apart"),
            node("Mul", "apart t", "products"),
            node("ReduceSum", "products end", "sums", keepdims=0),
            node("Add", "sums b", "y"),
        ],
        [],
        "feat",
    ),
    "expanded product and mean": (
        [
            node("Unsqueeze", "feat a2", "apart"),
            node("Expand", "apart wide", "copies"),
            node("Mul", "h copies", "products"),
            node("ReduceMean", "products", "y", axes=[1], keepdims=0),
        ],
        [integers("wide", [1, 6, 5])],
        "feat",
    ),
    "parts of the features": (
        [
            node("Slice", "feat a0 a3 a1", "left"),
            node("Slice", "feat a3 a6 a1", "right"),
            node("Gemm", "left g", "one_half"),
            node("Gemm", "right g", "other_half"),
            node("Add", "one_half other_half", "y"),
        ],
        [random("g", 3, 5)],
        "feat",
    ),
    "distances to prototypes": (
        [
            node("Unsqueeze", "feat a1", "wide"),
            node("Sub", "wide t", "apart"),
            node("Mul", "apart apart", "squares"),
            node("ReduceSum", "squares a2", "far", keepdims=0),
            node("Neg", "far", "y"),
        ],
        [],
        "feat",
    ),
    "prototypes less the features, by their mean magnitude": (
        [
            node("Unsqueeze", "feat a1", "wide"),
            node("Expand", "wide shape", "all"),
            node("Sub", "t all", "apart"),
            node("Abs", "apart", "sizes"),
            node("ReduceMean", "sizes", "far", axes=[2], keepdims=0),
            node("Neg", "far", "y"),
        ],
        [integers("shape", [1, 5, 6])],
        "feat",
    ),
    "a transposed convolution at every place": (
        [
            node("ConvTranspose", "gap places b", "m"),
            node("Flatten", "m", "y", axis=1),
        ],
        [random("places", 6, 5, 1, 1)],
        "gap",
    ),
    "an if around a softmax": (
        DENSE + branches("Softmax", "scores")[0],
        branches("Softmax", "scores")[1],
        "feat",
    ),
}


@pytest.fixture
def listed(tmp_path):
    def read(source, **options):
        model = load_model(models.save(source, tmp_path / "model.onnx"))
        return tensors(model, "x", find_output(model), **options)

    return read


def latents(listing):
    return [t.name for t in listing if "latent" in t.roles]


def doubt(listing):
    (output,) = [t for t in listing if "output" in t.roles]
    return output.doubt


@pytest.mark.parametrize("name", HEADS)
def test_the_latent_lies_before_the_head_and_its_scores_are_measured(tmp_path, name):
    nodes, constants, latent = HEADS[name]
    source = net(nodes, constants)
    result = measure(models.save(source, tmp_path / "m.onnx"), images((3, 6, 6), 3), "C4", **FEW)
    listing = {m["measure"]: m for m in result["measurements"]}
    assert listing["latent-l2"]["layer"] == listing["latent-cos"]["layer"] == latent
    assert listing["softmax-kl"]["layer"] == "y"
    order = np.random.default_rng(0).permutation(3)
    here, out = orbits(source, "C4", images((3, 6, 6), 3)[order], [latent, "y"], 12)
    kind = "probabilities" if "softmax" in name else "logits"
    expected = naive.softmax_kl(out, "C4", kind=kind).mean()
    np.testing.assert_allclose(listing["softmax-kl"]["value"], expected, rtol=1e-4)
    expected = naive.latent_l2(here, "C4").mean()
    np.testing.assert_allclose(listing["latent-l2"]["unnormalised"], expected, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("kind", ["logits", None])
def test_a_fixed_batch_and_a_stated_kind_change_nothing(listed, name, kind):
    nodes, constants, latent = HEADS[name]
    assert latents(listed(net(nodes, constants, batch=1), kind=kind)) == [latent]


def capped():
    """Class scores that are softly capped, as by ``30 * tanh(z / 30)``."""
    held = [weights("cap", 30.0)]
    ends = [node("Div", "scores cap", "d"), node("Tanh", "d", "t"), node("Mul", "t cap", "y")]
    return [*DENSE, *ends], held


@pytest.fixture
def found_by_a_converter(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    graphs = importlib.import_module("_graph")
    return lambda source: graphs.find_latent(source, ["x"], source.graph.output[0].name)


@pytest.mark.parametrize("name", HEADS)
def test_a_converter_states_no_other_latent_than_is_found(found_by_a_converter, name):
    nodes, constants, latent = HEADS[name]
    assert found_by_a_converter(net(nodes, constants)) in (None, latent)


def test_a_converter_states_a_plain_latent_and_leaves_others_to_the_search(
    listed, found_by_a_converter
):
    plain = net([*DENSE, node("Softmax", "scores", "y")])
    assert found_by_a_converter(plain) == "feat"
    normed = [node("BatchNormalization", "feat six a a six", "n"), node("Gemm", "n h b", "y")]
    assert found_by_a_converter(net(normed, [weights("a", np.zeros(6))])) == "feat"
    soft = net(*capped())
    assert found_by_a_converter(soft) is None
    assert latents(listed(soft)) == ["feat"]
    # Neither tokens nor the transposed features are a vector, and an image made of one is none.
    rows = [
        node("Reshape", "map flat", "columns"),
        node("Transpose", "columns", "k", perm=[0, 2, 1]),
    ]
    tokens = [*rows, node("MatMul", "k h", "s"), node("ReduceMean", "s", "y", axes=[1], keepdims=0)]
    flat = [integers("flat", [0, 6, 36])]
    turned = [node("Transpose", "feat", "k", perm=[1, 0]), node("MatMul", "t k", "y")]
    image = [node("Conv", "map back", "noise"), node("Sub", "x noise", "y")]
    for source in (
        net(tokens, flat, pool=False),
        net(turned),
        net(image, [random("back", 3, 6, 1, 1)], pool=False),
        *(net(nodes, constants, pool) for nodes, constants, pool in EMBEDDINGS.values()),
        *(source for source, _ in UNCLEAR.values()),
    ):
        assert found_by_a_converter(source) is None


def test_a_convolution_of_the_whole_map_is_a_dense_layer(listed):
    nodes = [node("Conv", "map whole b", "m"), node("Flatten", "m", "y", axis=1)]
    source = net(nodes, [random("whole", 5, 6, 6, 6)], pool=False)
    assert latents(listed(source)) == ["map"]


EMBEDDINGS = {
    "pooled": ([node("Identity", "feat", "y")], [], True),
    "layer norm of a trunk": (
        [node("LayerNormalization", "feat six", "y", axis=-1)],
        [],
        True,
    ),
    "residual, then layer norm": (
        [
            node("Gemm", "feat square", "branch"),
            node("Add", "feat branch", "joined"),
            node("LayerNormalization", "joined six", "y", axis=-1),
        ],
        [random("square", 6, 6)],
        True,
    ),
    "of length 1": ([*DENSE, node("LpNormalization", "scores", "y", axis=1, p=2)], [], True),
    "of length 1, as PyTorch writes it": (
        [
            *DENSE,
            node("ReduceL2", "scores", "length", axes=[1], keepdims=1),
            node("Clip", "length tiny", "clipped"),
            node("Expand", "clipped wide", "copies"),
            node("Div", "scores copies", "y"),
        ],
        [weights("tiny", 1e-12), integers("wide", [1, 5])],
        True,
    ),
    "of length 1, spelt out": (DENSE + spelt_norm("scores", "y"), [], True),
    "a weighted pooling": (
        [node("Mul", "map mask", "masked"), node("ReduceSum", "masked grid", "y", keepdims=0)],
        [random("mask", 6, 6), integers("grid", [2, 3])],
        False,
    ),
    "a pooling by depthwise convolution": (
        [node("Conv", "map deep", "m", group=6), node("Flatten", "m", "y", axis=1)],
        [random("deep", 6, 1, 6, 6)],
        False,
    ),
    "a hidden layer over the whole map": (
        [node("Conv", "map whole b", "m"), node("Relu", "m", "r"), node("Flatten", "r", "y")],
        [random("whole", 5, 6, 6, 6)],
        False,
    ),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_an_embedding_is_its_own_latent_without_being_asked(tmp_path, listed, name):
    nodes, constants, pool = EMBEDDINGS[name]
    source = net(nodes, constants, pool=pool)
    assert latents(listed(source)) == ["y"]
    result = measure(models.save(source, tmp_path / "m.onnx"), images((3, 6, 6), 3), "C4", **FEW)
    assert {m["measure"] for m in result["measurements"]} >= {"latent-l2", "latent-cos"}
    assert "softmax-kl" not in {m["measure"] for m in result["measurements"]}
    assert any("assuming embedding" in note for note in result["notes"])


def test_the_expected_value_of_bins_is_read_from_the_class_scores(listed):
    nodes = [
        *DENSE,
        node("Softmax", "scores", "bins"),
        node("Mul", "bins one", "products"),
        node("ReduceSum", "products a1", "y", keepdims=1),
    ]
    assert latents(listed(net(nodes))) == ["feat"]


# ------------------------------------------------------------------------------------------------
# Heads that are not understood
# ------------------------------------------------------------------------------------------------


def distilled():
    """As DeiT: two heads on different tokens, averaged."""
    nodes = [
        node("Reshape", "map flat", "cols"),
        node("Transpose", "cols", "tokens", perm=[0, 2, 1]),
        node("LayerNormalization", "tokens six", "normed", axis=-1),
        node("Gather", "normed first", "class_token", axis=1),
        node("Gather", "normed second", "other_token", axis=1),
        node("Gemm", "class_token h b", "one_head"),
        node("Gemm", "other_token h", "other_head"),
        node("Add", "one_head other_head", "both"),
        node("Div", "both two", "y"),
    ]
    held = [integers("flat", [0, 6, 36]), weights("two", 2.0)]
    held += [weights(n, np.array(k), np.int64) for k, n in enumerate(("first", "second"))]
    return net(nodes, held, pool=False)


UNCLEAR = {
    "different tokens": (distilled(), "'other_token' and 'class_token'"),
    "early exits": (
        net(
            [
                node("GlobalAveragePool", "stem", "early"),
                node("Flatten", "early", "early_feat", axis=1),
                node("Gemm", "early_feat g", "exit"),
                *DENSE,
                node("Add", "scores exit", "y"),
            ],
            [random("g", 4, 5)],
        ),
        "'early_feat' and 'feat'|'feat' and 'early_feat'",
    ),
    "behind a running sum": (net([*DENSE, node("CumSum", "scores a1", "y")]), "CumSum"),
}


def hidden_in_an_if():
    graphs = []
    for name in ("yes", "no"):
        info = helper.make_tensor_value_info(name, FLOAT, None)
        graphs.append(helper.make_graph([node("Gemm", "feat h b", name)], name, [], [info]))
    result = helper.make_node("If", ["true"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    return net([result], [weights("true", True, bool)])


UNCLEAR["inside an if"] = (hidden_in_an_if(), r"\(If\)")


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_head_that_is_not_understood_is_asked_for_and_its_scores_are_measured(tmp_path, name):
    source, reason = UNCLEAR[name]
    path = models.save(source, tmp_path / "m.onnx")
    x = images((3, 6, 6), 3)
    result = measure(path, x, "C4", **FEW)
    assert not [m for m in result["measurements"] if m["measure"].startswith("latent")]
    (note,) = [n for n in result["notes"] if "latent-l2" in n]
    assert "--latent NAME" in note
    values = [m["value"] for m in result["measurements"] if m["measure"] == "softmax-kl"]
    order = np.random.default_rng(0).permutation(3)
    (out,) = orbits(source, "C4", x[order], ["y"], 12)
    np.testing.assert_allclose(values, [naive.softmax_kl(out, "C4").mean()], rtol=1e-4)
    with pytest.raises(GeedError, match=f"({reason}).*--latent NAME"):
        measure(path, x, "C4", measures=["latent-l2"], **FEW)
    shown = list_layers(path)
    assert shown["no_latent"] in note
    assert shown["no_latent"] in layer_table(shown)
    named = measure(path, x, "C4", latent="stem", **FEW)
    listing = {m["measure"]: m["layer"] for m in named["measurements"]}
    assert listing["latent-l2"] == "stem"
    assert listing["softmax-kl"] == "y"
    assert list_layers(path, latent="stem")["no_latent"] is None


def test_a_stated_kind_finds_the_classifier_behind_what_holds_no_weights(listed):
    source = net([*DENSE, node("CumSum", "scores a1", "y")])
    assert latents(listed(source)) == []
    assert latents(listed(source, kind="logits")) == ["feat"]
    assert latents(listed(source, kind="embedding")) == ["y"]


@pytest.mark.parametrize("kind", [None, "probabilities"])
def test_a_forest_on_features_is_asked_about(listed, kind):
    entry = node("TreeEnsembleClassifier", "feat", "label y", domain="ai.onnx.ml")
    listing = listed(
        models.build(
            [*TRUNK, *POOL, entry],
            HELD[:2],
            [("x", FLOAT, ["N", 3, 6, 6])],
            [("y", FLOAT, ["N", 2])],
            domains=["ai.onnx.ml"],
        ),
        kind=kind,
    )
    assert latents(listing) == []
    assert "TreeEnsembleClassifier" in doubt(listing)


def test_what_may_hold_the_classifier_is_not_looked_through(listed):
    assert latents(listed(hidden_in_an_if(), kind="logits")) == []


@pytest.mark.parametrize("stated", ["option", "metadata"])
def test_a_stated_kind_settles_what_the_latent_is(tmp_path, stated):
    path, x = models.save(net(DENSE), tmp_path / "m.onnx"), images((3, 6, 6), 3)
    options = {"output_kind": "embedding"}
    if stated == "metadata":
        annotate(path, tmp_path / "known.onnx", **options)
        path, options = tmp_path / "known.onnx", {}
    result = measure(path, x, "C4", **options, **FEW)
    assert {m["layer"] for m in result["measurements"] if "latent" in m["measure"]} == {"scores"}
    trunk = models.save(net([node("Identity", "feat", "y")]), tmp_path / "trunk.onnx")
    options = {"output_kind": "logits"}
    if stated == "metadata":
        annotate(trunk, tmp_path / "known.onnx", **options)
        trunk, options = tmp_path / "known.onnx", {}
    result = measure(trunk, x, "C4", **options, **FEW)
    assert not [m for m in result["measurements"] if "latent" in m["measure"]]
    assert [m["layer"] for m in result["measurements"] if m["measure"] == "softmax-kl"] == ["y"]


DECODED = [
    *TRUNK,
    node("Concat", "map x", "cat", axis=1),
    node("Conv", "cat wide", "mixed", pads=[1, 1, 1, 1]),
    node("Relu", "mixed", "dec"),
]
WIDE = [
    random("wide", 4, 9, 3, 3),
    # Small, so that no probability is 0.
    weights("k1", np.random.default_rng(0).normal(0, 1e-3, (3, 4, 1, 1))),
    weights("k3", np.random.default_rng(0).normal(0, 1e-3, (3, 4, 3, 3))),
]


@pytest.mark.parametrize(("kernel", "pad"), [("k1", 0), ("k3", 1)])
@pytest.mark.parametrize("end", [None, "Tanh", "Softmax"])
def test_a_dense_output_is_one_whatever_the_kernel_of_its_last_convolution(
    tmp_path, listed, kernel, pad, end
):
    """A U-Net that ends in a 3×3 convolution was taken for a trunk, its output for the latent."""
    more = [*DECODED[len(TRUNK) :], node("Conv", f"dec {kernel}", "maps", pads=[pad] * 4)]
    more += (
        [node(end, "maps", "scores", **({"axis": 1} if end == "Softmax" else {}))] if end else []
    )
    made = net(more, WIDE, pool=False)
    assert latents(listed(made)) == ["dec"]
    path = models.save(made, tmp_path / "net.onnx")
    result = measure(path, images((3, 6, 6), 3), "C4", **FEW)
    taken = {(r["measure"], r["layer"]): r["output_action"] for r in result["measurements"]}
    output = more[-1].output[0]
    assert taken["channel-cos", output] != "trivial"
    assert taken["softmax-kl", output] != "trivial"
    assert taken["latent-l2", "dec"] == "trivial"
    assert ("latent-l2", output) not in taken


@pytest.mark.parametrize("trunk", [[], TRUNK])
def test_an_image_made_of_an_image_is_no_latent_and_no_scores(tmp_path, trunk):
    read = "map" if trunk else "x"
    first = random("n0", 4, 6 if trunk else 3, 3, 3)
    more = [
        node("Conv", f"{read} n0", "n1", pads=[1, 1, 1, 1]),
        node("Relu", "n1", "n2"),
        node("Conv", "n2 n3", "noise", pads=[1, 1, 1, 1]),
        node("Sub", "x noise", "clean"),
    ]
    inputs, outputs = [("x", FLOAT, ["N", 3, 6, 6])], [("clean", FLOAT, None)]
    held = [first, random("n3", 3, 4, 3, 3), *(HELD[:2] if trunk else [])]
    path = models.save(models.build([*trunk, *more], held, inputs, outputs), tmp_path / "net.onnx")
    result = measure(path, images((3, 6, 6), 3), "C4", **FEW)
    assert {r["measure"] for r in result["measurements"]} == {"channel-cos"}
    assert "clean" in {r["layer"] for r in result["measurements"]}
    assert any("values for every place of a map" in note for note in result["notes"])


# Four channels of 6×6 places, from which images and maps of other sizes are made.
WIDER = [random("up", 4, 6, 3, 3), random("to3", 3, 6, 3, 3), weights("twice", [1, 1, 2, 2])]
CONV3 = {"pads": [1, 1, 1, 1]}
ENLARGED = {
    "shuffled": [
        node("Conv", "map up", "four", **CONV3),
        node("DepthToSpace", "four", "y", blocksize=2),
    ],
    "channels last": [
        node("Conv", "map up", "four", **CONV3),
        node("DepthToSpace", "four", "image", blocksize=2),
        node("Transpose", "image", "y", perm=[0, 2, 3, 1]),
    ],
    "transposed": [node("ConvTranspose", "map t2", "y", strides=[2, 2])],
    "enlarged": [node("Resize", "map no twice", "large"), node("Conv", "large to3", "y", **CONV3)],
    "shifted": [
        node("Resize", "map no twice", "large"),
        node("Conv", "large to3", "image", **CONV3),
        node("Add", "image half", "y"),
    ],
    "to another grid": [
        node("MaxPool", "map", "small", kernel_shape=[3, 3], strides=[3, 3]),
        node("Resize", "small no twice", "large"),
        node("Relu", "large", "y"),
    ],
}


@pytest.mark.parametrize("name", ENLARGED)
def test_a_map_that_is_made_place_by_place_is_no_latent_at_any_scale(listed, name):
    """The mean over an image of three times the size was taken for the latent."""
    nodes = ENLARGED[name]
    constants = [*WIDER, random("t2", 6, 1, 2, 2), weights("no", []), weights("half", 0.5)]
    read = {name for n in nodes for name in n.input}
    listing = listed(net(nodes, [c for c in constants if c.name in read], pool=False))
    assert latents(listing) == []
    assert "has values for every place of a map" in doubt(listing)
    assert not any(t.scores for t in listing)


@pytest.mark.parametrize(
    ("end", "found"),
    [
        ([node("MaxPool", "map", "y", kernel_shape=[2, 2], strides=[2, 2])], "y"),
        ([node("GlobalAveragePool", "map", "y")], "y"),
        ([node("Conv", "map up", "c"), node("Sigmoid", "c", "g"), node("Mul", "c g", "y")], "y"),
        (
            [
                node("MaxPool", "map", "small", kernel_shape=[2, 2], strides=[2, 2]),
                node("Conv", "small block", "c", **CONV3),
                node("Add", "c small", "y"),
            ],
            "y",
        ),
        (
            [
                node("MaxPool", "map", "small", kernel_shape=[3, 3], strides=[3, 3]),
                node("Conv", "small block", "y", **CONV3),
            ],
            "y",
        ),
        # A mask that weighs the trunk, and one number a channel, are enlarged to its grid.
        (
            [
                node("MaxPool", "map", "half", kernel_shape=[2, 2], strides=[2, 2]),
                node("MaxPool", "map", "small", kernel_shape=[3, 3], strides=[2, 2]),
                node("Resize", "small no more", "mask"),
                node("Mul", "half mask", "y"),
            ],
            "y",
        ),
        (
            [
                node("MaxPool", "map", "half", kernel_shape=[2, 2], strides=[2, 2]),
                node("GlobalAveragePool", "half", "alone"),
                node("Resize", "alone no thrice", "y"),
            ],
            "y",
        ),
        # A Resize to the same grid, and rows that are enlarged without columns.
        (
            [
                node("MaxPool", "map", "half", kernel_shape=[2, 2], strides=[2, 2]),
                node("Resize", "half no once", "y"),
            ],
            "y",
        ),
        ([node("Pad", "map rows", "y")], "y"),
        # Scores of a grid of windows, as a classifier gives of a larger image, and of one window.
        ([node("MaxPool", "map", "s", kernel_shape=[3, 3], strides=[3, 3])], "s"),
        ([node("AveragePool", "map", "s", kernel_shape=[6, 6])], "s"),
    ],
)
def test_trunks_and_classifiers_of_windows_keep_their_latent(listed, end, found):
    if found == "s":
        end = [*end, node("Conv", "s k", "y")]
    held = [random("k", 5, 6, 1, 1), random("block", 6, 6, 3, 3), *WIDER, weights("no", [])]
    held += [weights("more", [1, 1, 1.5, 1.5]), weights("thrice", [1, 1, 3, 3])]
    held += [weights("once", [1, 1, 1, 1]), integers("rows", [0, 0, 1, 0, 0, 0, 2, 0])]
    read = {name for n in end for name in n.input}
    made = net(end, [tensor for tensor in held if tensor.name in read], pool=False)
    assert latents(listed(made)) == [found]


def test_an_autoencoder_is_not_said_to_have_class_scores(listed):
    """It has affine layers, none of which is behind the decoder."""
    nodes = [
        node("Gemm", "feat h b", "code"),
        node("Gemm", "code t six", "wide"),
        node("Reshape", "wide shape", "seed"),
        node("ConvTranspose", "seed t6", "image"),
        node("Sigmoid", "image", "y"),
    ]
    listing = listed(net(nodes, [integers("shape", [0, 6, 1, 1]), random("t6", 6, 1, 6, 6)]))
    assert latents(listing) == []
    assert doubt(listing) == (
        "from ConvTranspose 'image' to the output no affine layer is passed, and so no classifier"
    )


def convolved_graph():
    """Two layers A·relu(A·x·W)·V, as Kipf and Welling's: the adjacency goes round each weight."""
    nodes = [
        node("MatMul", "x W", "xW"),
        node("MatMul", "adj xW", "sums"),
        node("Relu", "sums", "hidden"),
        node("MatMul", "hidden V", "hV"),
        node("MatMul", "adj hV", "y"),
    ]
    held = [random("W", 5, 4), random("V", 4, 3)]
    inputs = [("x", FLOAT, ["N", 6, 5]), ("adj", FLOAT, ["N", 6, 6])]
    return models.build(nodes, held, inputs, [("y", FLOAT, ["N", 6, 3])])


def test_of_a_graph_network_it_is_said_that_the_adjacency_goes_round(tmp_path):
    rng = np.random.default_rng(0)
    lines = np.triu(rng.integers(0, 2, (4, 6, 6)), 1).astype(np.float32)
    result = measure(
        models.save(convolved_graph(), tmp_path / "m.onnx"),
        {"x": rng.normal(size=(4, 6, 5)).astype(np.float32), "adj": lines + lines.swapaxes(1, 2)},
        "S6~3",
        input_layout={"x": "NPC", "adj": "NPP"},
        **FEW,
    )
    (note,) = [n for n in result["notes"] if "latent-l2" in n]
    assert "the last affine layer reads 'hidden', but input 'adj' goes round it" in note


def test_turned_copies_in_the_batch_are_not_said_to_be_the_input(listed):
    """A mean over an image and its transpose: the trunk is run on 2·N rows."""
    nodes = [
        node("Transpose", "x", "turned", perm=[0, 1, 3, 2]),
        node("Concat", "x turned", "both", axis=0),
        node("Conv", "both w0", "pre", **CONV3),
        node("Relu", "pre", "act"),
        node("ReduceMean", "act", "mean", axes=[2, 3], keepdims=0),
        node("Gemm", "mean w", "each"),
        node("Reshape", "each two", "pairs"),
        node("ReduceMean", "pairs", "y", axes=[0], keepdims=0),
    ]
    held = [random("w0", 4, 3, 3, 3), random("w", 4, 5), integers("two", [2, -1, 5])]
    made = models.build(nodes, held, [("x", FLOAT, ["N", 3, 6, 6])], [("y", FLOAT, ["N", 5])])
    listing = listed(made)
    assert latents(listing) == []
    assert doubt(listing) == "the last affine layer reads 'mean', whose axis 0 is not the batch"


def test_a_classifier_of_the_input_itself_keeps_its_scores(tmp_path):
    nodes = [
        node("Conv", "x whole b", "m"),
        node("Flatten", "m", "y", axis=1),
    ]
    held = [random("whole", 5, 3, 6, 6), random("b", 5)]
    source = models.build(nodes, held, [("x", FLOAT, ["N", 3, 6, 6])], [("y", FLOAT, None)])
    result = measure(models.save(source, tmp_path / "m.onnx"), images((3, 6, 6), 3), "C4", **FEW)
    assert [m["measure"] for m in result["measurements"]] == ["softmax-kl"]
    assert any("reads the input directly" in note for note in result["notes"])


# ------------------------------------------------------------------------------------------------
# Integers inside a quantised model
# ------------------------------------------------------------------------------------------------

STEP, ZERO = 0.02, 100


def in_integers(beside=()):
    """Convolutions of codes, QOperator form: the map that the last one reads is uint8."""
    rng = np.random.default_rng(3)
    nodes = [
        node("Relu", "x", "act"),
        node("QuantizeLinear", "act small nought", "xq"),
        node("QLinearConv", "xq small nought w0 fine even step zero", "codes", pads=[1] * 4),
        node("QLinearConv", "codes step zero w1 fine even wide middle", "sums"),
        node("DequantizeLinear", "sums wide middle", "maps"),
        node("GlobalAveragePool", "maps", "gap"),
        node("Flatten", "gap", "plain" if beside else "y"),
        *beside,
    ]
    steps = {"small": 1 / 255, "fine": 0.01, "step": STEP, "wide": 0.05}
    zeros = {"nought": 0, "zero": ZERO, "middle": 128}
    constants = [
        *(weights(name, value) for name, value in steps.items()),
        *(weights(name, value, np.uint8) for name, value in zeros.items()),
        weights("even", 0, np.int8),
        weights("w0", rng.integers(-90, 90, (8, 3, 3, 3)), np.int8),
        weights("w1", rng.integers(-90, 90, (5, 8, 1, 1)), np.int8),
        weights("head", rng.normal(size=(8, 5))),
    ]
    read = {name for n in nodes for name in n.input}
    used = [tensor for tensor in constants if tensor.name in read]
    return models.build(nodes, used, [("x", FLOAT, ["N", 3, 6, 6])], [("y", FLOAT, None)])


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_a_map_of_integers_is_no_latent(tmp_path, engine):
    file = models.save(in_integers(), tmp_path / "m.onnx")
    result = measure(file, images((3, 6, 6), 3), "C4", engine=engine, **FEW)
    layers = [(m["measure"], m["layer"]) for m in result["measurements"]]
    assert layers == [("channel-cos", "act"), ("channel-cos", "maps"), ("softmax-kl", "y")]
    (note,) = [n for n in result["notes"] if "latent-l2" in n]
    assert "its layer reads 'codes', uint8 (N, 8, 6, 6): a type that is not measured" in note
    with pytest.raises(GeedError, match="'codes' holds uint8, which is not measured; name another"):
        measure(file, images((3, 6, 6), 3), "C4", latent="codes", **FEW)


def test_of_a_map_of_integers_the_dequantised_one_is_the_latent(tmp_path):
    beside = [
        node("DequantizeLinear", "codes step zero", "real"),
        node("GlobalAveragePool", "real", "mean"),
        node("Flatten", "mean", "flat"),
        node("Gemm", "flat head", "other"),
        node("Add", "plain other", "y"),
    ]
    source = in_integers(beside)
    x = images((3, 6, 6), 3)
    result = measure(models.save(source, tmp_path / "m.onnx"), x, "C4", **FEW)
    listing = {m["measure"]: m for m in result["measurements"]}
    assert listing["latent-l2"]["layer"] == listing["latent-cos"]["layer"] == "real"
    order = np.random.default_rng(0).permutation(3)
    (codes,) = orbits(source, "C4", x[order], ["codes"], 12)
    numbers = (np.asarray(codes, float) - ZERO) * STEP
    expected = naive.latent_l2(numbers.mean(axis=(-2, -1)), "C4").mean()
    np.testing.assert_allclose(listing["latent-l2"]["unnormalised"], expected, rtol=1e-4)


# ------------------------------------------------------------------------------------------------
# What an output holds
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stated", "by"), [("option", "--output-kind"), ("metadata", "metadata")])
def test_probabilities_that_are_called_logits_are_noted(tmp_path, stated, by):
    x, options = images((3, 8, 8), 3), {"output_kind": "logits"}
    sources = {"odd": models.softmax_output(), "fine": models.random_cnn(0, (8, 8))}
    for name, source in sources.items():
        path, own = models.save(source, tmp_path / f"{name}.onnx"), options
        if stated == "metadata":
            annotate(path, tmp_path / f"known_{name}.onnx", **options)
            path, own = tmp_path / f"known_{name}.onnx", {}
        result = measure(path, x, "C4", **own, **FEW)
        assert [m["measure"] for m in result["measurements"]].count("softmax-kl") == 1
        notes = [note for note in result["notes"] if "sum to 1, as probabilities do" in note]
        assert [by in note and "says logits" in note for note in notes] == [True] * (name == "odd")


SINGLE = [node("Gemm", "feat column", "logit")]
COLUMN = [random("column", 6, 1)]
HUNDRED = [weights("hundred", 100.0)]
UNITS = [weights("unit", 1.0)]
SIGMOID = [
    node("Neg", "scores", "minus"),
    node("Exp", "minus", "power"),
    node("Add", "power unit", "more"),
    node("Div", "unit more", "y"),
]


def single_sigmoid():
    graphs = []
    for name in ("yes", "no"):
        info = helper.make_tensor_value_info(name, FLOAT, None)
        graphs.append(helper.make_graph([node("Sigmoid", "logit", name)], name, [], [info]))
    result = helper.make_node("If", ["true"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    return net([*SINGLE, result], [*COLUMN, weights("true", True, bool)])


ODD = {
    "a sigmoid in an if": (single_sigmoid(), "a single column in [0, 1]"),
    "a target": (
        net(
            [*SINGLE, node("Clip", "logit nought unit", "y")],
            [*COLUMN, *UNITS, weights("nought", 0.0)],
        ),
        "a single column in [0, 1]",
    ),
    "percentages": (
        net([*DENSE, node("Softmax", "scores", "p"), node("Mul", "p hundred", "y")], HUNDRED),
        "percentages",
    ),
    "shares": (
        net(
            [*DENSE, node("Softmax", "scores", "p"), node("Mul", "eight p", "y")],
            [weights("eight", 8.0)],
        ),
        "shares of 8",
    ),
    "negative logarithms": (
        net([*DENSE, node("LogSoftmax", "scores", "p"), node("Neg", "p", "y")]),
        "negative log-probabilities",
    ),
    "logarithms to base 10": (
        net(
            [*DENSE, node("LogSoftmax", "scores", "p"), node("Div", "p ten", "y")],
            [weights("ten", np.log(10.0))],
        ),
        "log-probabilities to base 10",
    ),
    "many labels, spelt out": (net([*DENSE, *SIGMOID], UNITS), "numbers in [0, 1] whose rows"),
    "many labels, in per cent": (
        net([*DENSE, node("Sigmoid", "scores", "p"), node("Mul", "p hundred", "y")], HUNDRED),
        "a Sigmoid's result, scaled",
    ),
    "squared probabilities": (
        net([*DENSE, node("Softmax", "scores", "p"), node("Mul", "p p", "y")]),
        "numbers in [0, 1] whose rows",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_numbers_that_are_no_logits_are_not_taken_for_such(tmp_path, name):
    source, kind = ODD[name]
    path, x = models.save(source, tmp_path / "m.onnx"), images((3, 6, 6), 3)
    result = measure(path, x, "C4", **FEW)
    assert "softmax-kl" not in {m["measure"] for m in result["measurements"]}
    assert {m["layer"] for m in result["measurements"] if "latent" in m["measure"]} == {"feat"}
    (note,) = [n for n in result["notes"] if "softmax-kl" in n]
    assert kind in note
    assert "--output-kind" in note
    with pytest.raises(GeedError, match="--output-kind"):
        measure(path, x, "C4", measures=["softmax-kl"], **FEW)
    stated = measure(path, x, "C4", output_kind="logits", **FEW)
    assert "softmax-kl" in {m["measure"] for m in stated["measurements"]}


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([*DENSE, node("Log", "p", "y")], "p"),
        ([*DENSE, node("Relu", "scores", "y")], ""),
        ([*DENSE, node("Mul", "scores tiny", "y")], ""),
        ([*SINGLE, node("Mul", "logit unit", "y")], ""),
    ],
)
def test_plain_scores_and_log_probabilities_stay_logits(tmp_path, nodes, constants):
    if constants:
        nodes = [*nodes[:-1], node("Softmax", "scores", "p"), nodes[-1]]
    held = [*COLUMN, *UNITS, weights("tiny", 1e-3)]
    source = net(nodes, held)
    x = images((3, 6, 6), 3)
    (raw,) = running.run(source, x, ["y"])
    assert raw.shape[1] > 1 or raw.min() < 0 or raw.max() > 1, "the test's own model is odd"
    result = measure(models.save(source, tmp_path / "m.onnx"), x, "C4", **FEW)
    (value,) = [m["value"] for m in result["measurements"] if m["measure"] == "softmax-kl"]
    (out,) = orbits(source, "C4", x, ["y"], 12)
    np.testing.assert_allclose(value, naive.softmax_kl(out, "C4").mean(), rtol=1e-3, atol=1e-9)


def test_one_logit_that_leaves_0_to_1_on_a_later_sample_is_a_logit(tmp_path):
    nodes = [node("ReduceMean", "x", "m", axes=[1, 2, 3], keepdims=0), node("Mul", "m five", "s")]
    nodes += [node("Unsqueeze", "s a1", "u"), node("MatMul", "u unit", "y")]
    held = [weights("five", 5.0), integers("a1", [1]), weights("unit", np.ones((1, 1)))]
    source = models.build(nodes, held, [("x", FLOAT, ["N", 3, 6, 6])], [("y", FLOAT, None)])
    path = models.save(source, tmp_path / "m.onnx")
    x = np.full((12, 3, 6, 6), 0.1, np.float32)
    x[:, 0, 0, 0] = np.arange(12) / 12
    few = {"samples": 12, "norm_samples": 12, "measures": ["softmax-kl"]}
    with pytest.raises(GeedError, match="a single column"):
        measure(path, x, "C4", **few)
    order = np.random.default_rng(0).permutation(12)
    x[order[5]] = 0.9
    assert measure(path, x, "C4", **few)["measurements"][0]["measure"] == "softmax-kl"


@pytest.mark.parametrize("declared", [False, True])
def test_several_labels_at_once_are_not_said_to_be_declared_probabilities(tmp_path, declared):
    path = models.save(net([*DENSE, node("Sigmoid", "scores", "y")]), tmp_path / "m.onnx")
    if declared:
        annotate(path, tmp_path / "known.onnx", output_kind="probabilities")
        path = tmp_path / "known.onnx"
    result = measure(path, images((3, 6, 6), 3), "C4", **FEW)
    (note,) = [n for n in result["notes"] if n.startswith("output 'y'")]
    assert ("declared as probabilities" in note) == declared
    assert ("ends in Sigmoid, and its rows do not sum to 1: several labels" in note) != declared
    assert "taken as an embedding, which output-l2 compares" in note
    (advice,) = [n for n in result["notes"] if "softmax-kl@y" in n]
    assert "--output-kind logits or, if its rows sum to 1, probabilities" in advice
    listing = measure(path, images((3, 6, 6), 3), "C4", measures=["output-l2"], **FEW)
    assert [m["layer"] for m in listing["measurements"]] == ["y"]


def test_a_hidden_tensor_is_asked_about_too(tmp_path):
    source = ODD["percentages"][0]
    path, x = models.save(source, tmp_path / "m.onnx"), images((3, 6, 6), 3)
    result = measure(path, x, "C4", measures=["softmax-kl@scores", "softmax-kl@p"], **FEW)
    values = {m["layer"]: m["value"] for m in result["measurements"]}
    np.testing.assert_allclose(values["scores"], values["p"], rtol=1e-5)
    squared = net(
        [*DENSE, node("Softmax", "scores", "p"), node("Mul", "p p", "s"), node("Neg", "s", "y")]
    )
    path = models.save(squared, tmp_path / "other.onnx")
    with pytest.raises(GeedError, match=r"softmax-kl@s.*--output s and --output-kind"):
        measure(path, x, "C4", measures=["softmax-kl@s"], **FEW)


def test_metadata_state_the_kind_of_the_models_own_output(tmp_path):
    source = ODD["percentages"][0]
    path, x = models.save(source, tmp_path / "m.onnx"), images((3, 6, 6), 3)
    annotate(path, tmp_path / "known.onnx", output_kind="embedding")
    known = tmp_path / "known.onnx"
    assert latents_of(measure(known, x, "C4", **FEW)) == {"y"}
    result = measure(known, x, "C4", output="scores", **FEW)
    assert latents_of(result) == {"feat"}
    assert [m["layer"] for m in result["measurements"] if m["measure"] == "softmax-kl"] == [
        "scores"
    ]


def latents_of(result):
    return {m["layer"] for m in result["measurements"] if m["measure"].startswith("latent")}


def test_a_wrong_kind_in_the_metadata_can_be_written_over(tmp_path):
    wrong = models.with_metadata(net(DENSE), {"onnx_geed.output_kind": "scores"})
    path = models.save(wrong, tmp_path / "m.onnx")
    with pytest.raises(GeedError, match="stated as 'scores'"):
        measure(path, images((3, 6, 6), 3), "C4", **FEW)
    annotate(path, tmp_path / "mended.onnx", output_kind="logits")
    assert latents_of(measure(tmp_path / "mended.onnx", images((3, 6, 6), 3), "C4", **FEW)) == {
        "feat"
    }


def test_branches_that_part_at_the_input_are_several_layers(listed):
    nodes = []
    for one, kernel in (("left", "w0"), ("right", "other")):
        nodes.append(node("Conv", f"x {kernel}", f"{one}_map", pads=[1, 1, 1, 1]))
        nodes.append(node("GlobalAveragePool", f"{one}_map", f"{one}_gap"))
        nodes.append(node("Flatten", f"{one}_gap", f"{one}_feat"))
        nodes.append(node("Gemm", f"{one}_feat g", f"{one}_scores"))
    nodes.append(node("Add", "left_scores right_scores", "y"))
    held = [HELD[0], random("other", 4, 3, 3, 3), random("g", 4, 5)]
    listing = listed(
        models.build(nodes, held, [("x", FLOAT, ["N", 3, 6, 6])], [("y", FLOAT, None)])
    )
    assert latents(listing) == []
    assert "'left_feat'" in doubt(listing)
    assert "'right_feat'" in doubt(listing)
