"""Of tensors that hold the same values one is a default, of the input's none; grids of tokens."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto

import onnx_geed
from onnx_geed.groups import parse_group
from onnx_geed.model import find_input, find_output, list_tensors, load_model
from onnx_geed.model.restated import unsure_maps
from onnx_geed.run import make_options
from onnx_geed.run.selection import select_tensors

FLOAT = TensorProto.FLOAT
node, weights, integers = models.node, models.weights, models.integers


def network(nodes, constants=(), shape=("N", 3, 8, 8), modules=None):
    """A model, its nodes in the modules that are given by what they make."""
    nodes = copy.deepcopy(nodes)
    for made in nodes:
        if path := (modules or {}).get(made.output[0]):
            scopes = str(["", path, made.output[0]])
            made.metadata_props.append(
                onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=scopes)
            )
    output = nodes[-1].output[0]
    return models.build(nodes, list(constants), [("x", FLOAT, shape)], [(output, FLOAT, None)])


@pytest.fixture
def listed(tmp_path):
    def read(source):
        model = load_model(models.save(source, tmp_path / "model.onnx"))
        tensors = list_tensors(model, find_input(model).name, find_output(model))
        return {t.name: t for t in tensors}

    return read


def maps(listing):
    return [name for name, tensor in listing.items() if "channel" in tensor.roles]


def conv(source, made, kernel="k"):
    return node("Conv", f"{source} {kernel}", made)


KERNEL = weights("k", np.ones((4, 3, 1, 1)))
SECOND = weights("k2", np.ones((4, 4, 1, 1)))
LAST = node("ReduceMean", "after", "y", axes=[2, 3], keepdims=0)


@pytest.mark.parametrize(
    ("steps", "constants"),
    [
        ([node("Transpose", "x", "moved", perm=[0, 1, 3, 2])], []),
        ([node("Mul", "x scale", "moved")], [weights("scale", np.ones((1, 3, 1, 1)))]),
        (
            [node("Sub", "x mean", "half"), node("Div", "half mean", "moved")],
            [weights("mean", [2])],
        ),
        ([node("Pad", "x frame", "moved")], [integers("frame", [0, 0, 1, 1, 0, 0, 1, 1])]),
        (
            [node("Slice", "x one end over", "moved")],
            [integers("one", [1]), integers("end", [8]), integers("over", [2])],
        ),
        (
            [node("Slice", "x one end over back", "moved")],
            [integers(n, [v]) for n, v in (("one", -1), ("end", -99), ("over", 2), ("back", -1))],
        ),
    ],
    ids=["transposed", "scaled", "standardised", "framed", "cut", "mirrored"],
)
def test_the_input_in_another_order_or_scale_is_no_default(listed, steps, constants):
    nodes = [*steps, conv("moved", "map"), conv("map", "after", "k2"), LAST]
    listing = listed(network(nodes, [KERNEL, SECOND, *constants]))
    assert maps(listing) == ["map", "after"]
    assert listing["moved"].layout in ("NCHW", "NCWH", "?")


def test_an_input_with_a_learnt_plane_is_a_map(listed):
    nodes = [node("Add", "x plane", "placed"), conv("placed", "after"), LAST]
    plane = weights("plane", np.ones((1, 3, 8, 8)))
    assert maps(listed(network(nodes, [KERNEL, plane]))) == ["placed", "after"]


@pytest.mark.parametrize(
    "step",
    [
        node("Mul", "x x", "made"),
        node("Div", "one x", "made"),
        node("Sub", "x turned", "made"),
    ],
    ids=["square", "inverse", "difference"],
)
def test_what_is_computed_of_the_input_is_a_map(listed, step):
    turn = node("Transpose", "x", "turned", perm=[0, 1, 3, 2])
    nodes = [turn, step, conv("made", "after"), LAST]
    listing = listed(network(nodes, [KERNEL, weights("one", [1])]))
    # An image less its transpose lies both ways, and of the axes of that nothing is sure.
    assert listing["made"].layout == ("?" if step.op_type == "Sub" else "NCHW")
    assert ("made" in maps(listing)) == (step.op_type != "Sub")


# The same values channels last, normalised there, and turned back: as ConvNeXt writes it.
NORMALISED = [
    conv("x", "map"),
    node("Transpose", "map", "last", perm=[0, 2, 3, 1]),
    node("LayerNormalization", "last gain", "normal", axis=-1),
    node("Transpose", "normal", "back", perm=[0, 3, 1, 2]),
    conv("back", "after", "k2"),
    LAST,
]
GAIN = weights("gain", np.ones(4))


def test_one_of_the_tensors_that_hold_the_same_stands_for_all(listed):
    listing = listed(network(NORMALISED, [KERNEL, SECOND, GAIN]))
    assert maps(listing) == ["map", "normal", "after"]
    assert listing["back"].point
    assert listing["last"].layout == "NHWC"


def test_what_a_module_gives_out_stands_for_what_it_is_made_of(listed):
    modules = {"map": "stem", "last": "norm", "normal": "norm", "back": "norm"}
    listing = listed(network(NORMALISED, [KERNEL, SECOND, GAIN], modules=modules))
    assert maps(listing) == ["map", "back", "after"]


def test_a_module_that_only_moves_does_not_stand_for_another(listed):
    modules = {"map": "conv", "last": "permute", "normal": "norm", "back": "unpermute"}
    listing = listed(network(NORMALISED, [KERNEL, SECOND, GAIN], modules=modules))
    assert maps(listing) == ["map", "normal", "after"]


def test_a_stated_layout_makes_a_default_of_what_another_stands_for(listed):
    source, stated = network(NORMALISED, [KERNEL, SECOND, GAIN]), "back"
    listing = listed(models.with_metadata(source, {f"onnx_geed.layout.{stated}": "NCHW"}))
    assert maps(listing) == ["map", "normal", "back", "after"]


def test_of_tensors_that_hold_the_same_and_have_a_stated_layout_one_stands(listed):
    source = network(NORMALISED, [KERNEL, SECOND, GAIN])
    letters = {"map": "NCHW", "normal": "NHWC", "back": "NCHW", "after": "NCHW"}
    stated = {f"onnx_geed.layout.{name}": layout for name, layout in letters.items()}
    assert maps(listed(models.with_metadata(source, stated))) == ["map", "normal", "after"]


def test_parts_that_are_put_together_anew_are_the_whole(listed):
    # A roll, as shifted windows write it; joined with something else it is another map.
    over = [
        integers("axes", [2]),
        integers("zero", [0]),
        integers("two", [2]),
        integers("end", [8]),
    ]
    roll = [
        conv("x", "map"),
        node("Slice", "map two end axes", "low"),
        node("Slice", "map zero two axes", "high"),
    ]
    rolled = [*roll, node("Concat", "low high", "rolled", axis=2), conv("rolled", "after", "k2")]
    assert maps(listed(network([*rolled, LAST], [KERNEL, SECOND, *over]))) == ["map", "after"]
    mixed = [
        *roll,
        node("Relu", "high", "positive"),
        node("Concat", "low positive", "joined", axis=2),
        conv("joined", "after", "k2"),
    ]
    listing = listed(network([*mixed, LAST], [KERNEL, SECOND, *over]))
    assert maps(listing) == ["map", "joined", "after"]


# ------------------------------------------------------------------------------------------------
# Tokens on a grid
# ------------------------------------------------------------------------------------------------


def transformer(*, ahead=1, behind=0, positions=0.0, perm=(0, 2, 3, 1), size=8):
    """Patches as tokens, others beside them, a dense layer with a residual, and their mean.

    Equivariant to what moves whole patches if the positions are zeros.
    """
    rng = np.random.default_rng(3)
    count = ahead + (size // 2) ** 2 + behind
    names = [*["first"] * bool(ahead), "embedded", *["last"] * bool(behind)]
    nodes = [
        node("Conv", "x k", "patches", strides=[2, 2], kernel_shape=[2, 2]),
        node("Transpose", "patches", "channels_last", perm=list(perm)),
        node("Reshape", "channels_last flat", "embedded"),
        node("Shape", "embedded", "batch", start=0, end=1),
        node("Concat", "batch of_first", "first_shape", axis=0),
        node("Concat", "batch of_last", "last_shape", axis=0),
        node("Expand", "token first_shape", "first"),
        node("Expand", "token last_shape", "last"),
        node("Concat", " ".join(names), "beside", axis=1),
        node("Add", "beside positions", "placed"),
        node("MatMul", "placed w", "mixed"),
        node("Tanh", "mixed", "act"),
        node("Add", "placed act", "block"),
        node("ReduceMean", "block", "y", axes=[1], keepdims=0),
    ]
    kernel = rng.normal(size=(6, 3, 1, 1)) * np.ones((1, 1, 2, 2))
    constants = [
        weights("k", kernel),
        integers("flat", [0, -1, 6]),
        integers("of_first", [ahead, 6]),
        integers("of_last", [behind, 6]),
        weights("token", rng.normal(size=(1, 1, 6))),
        weights("positions", positions * rng.normal(size=(1, count, 6))),
        weights("w", rng.normal(size=(6, 6))),
    ]
    inputs = [("x", FLOAT, ("N", 3, size, size))]
    return models.build(nodes, constants, inputs, [("y", FLOAT, None)])


@pytest.mark.parametrize(
    ("beside", "layout"),
    [
        ({"ahead": 0}, "NTD:4x4"),
        ({"ahead": 1}, "NTD:4x4+1"),
        ({"ahead": 5}, "NTD:4x4+5"),
        ({"ahead": 0, "behind": 1}, "NTD"),
        ({"ahead": 1, "behind": 1}, "NTD"),
        ({"perm": (0, 3, 2, 1)}, "NTD"),  # columns first: no grid row by row
    ],
)
def test_tokens_are_on_the_grid_that_they_come_from(listed, beside, layout):
    listing = listed(transformer(**beside))
    assert {listing[name].layout for name in ("placed", "block")} == {layout}
    assert ("block" in maps(listing)) == (layout != "NTD")
    assert "embedded" not in maps(listing)


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_tokens_that_move_as_the_image_does_are_perfect_unasked(tmp_path, group):
    data = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    options = {"samples": 4, "norm_samples": 4, "provider": "cpu"}

    def block(model):
        path = models.save(model, tmp_path / "model.onnx")
        records = onnx_geed.measure(path, data, group, **options)["measurements"]
        return next(r for r in records if r["layer"] == "block" and r["measure"] == "channel-cos")

    assert block(transformer())["value"] == pytest.approx(-1, abs=1e-6)
    assert block(transformer(ahead=5))["value"] == pytest.approx(-1, abs=1e-6)
    assert block(transformer(positions=1.0))["value"] > -0.95


@pytest.mark.parametrize(("ahead", "proposed"), [(1, "NTD:4x4+1"), (5, "NTD:4x4+5")])
def test_a_grid_that_is_not_known_is_proposed(listed, ahead, proposed):
    listing = listed(transformer(ahead=ahead, perm=(0, 3, 2, 1)))
    tokens = [t for t in listing.values() if "channel" not in t.roles]
    chosen = select_tensors((), tokens, make_options({}), parse_group("C4"))
    assert any(f"such as 'block={proposed}'" in note for note in chosen.notes)


@pytest.mark.parametrize(
    ("given_out", "still", "told"),
    [((8, 1, 4), (), ["inner"]), ((1, 1, 4), (), []), ((8, 1, 4), ("inner",), [])],
    ids=["tokens in front", "one token of one sample", "what no group moves"],
)
def test_tokens_in_front_are_told_where_they_are_sure_and_may_move(given_out, still, told):
    flow = SimpleNamespace(points=["inner"], makers={})
    types = {"inner": ("float32", (8, 1, 4)), "out": ("float32", given_out)}
    unsure = unsure_maps(
        flow,
        types,
        rows={"inner": 1, "out": 1},
        kept=(),
        refused={},
        layout={},
        still=still,
        head=None,
        derived={"inner": "net", "out": "net"},
        given_out={"net": "out"},
    )
    assert list(unsure) == told
