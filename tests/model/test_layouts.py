"""How tensors lie: every order of axes, volumes and video, free lengths, layouts nobody knows."""

from __future__ import annotations

import itertools

import models
import naive
import numpy as np
import onnx
import pytest
import running
from models import FLOAT, conv, integers, node, weights

import onnx_geed
from onnx_geed.errors import GeedError
from onnx_geed.groups import MAP_LAYOUTS, check_layout, parse_layout
from onnx_geed.model import (
    find_input,
    find_output,
    input_layout,
    list_tensors as tensors,
    load_model,
)

RNG = np.random.default_rng(4)
ENGINES = ["kernels", "graph"]


def saved(folder, nodes, constants, shape, output="y"):
    source = models.build(nodes, constants, [("x", FLOAT, list(shape))], [(output, FLOAT, None)])
    return models.save(source, folder / "model.onnx")


def measured(file, data, group, measures, **options):
    chosen = {"samples": 4, "norm_samples": 6, "measures": measures} | options
    return {
        (r["measure"], r["layer"]): r
        for r in onnx_geed.measure(file, data, group, **chosen)["measurements"]
    }


def layouts_of(file, **options):
    model = load_model(file)
    given = {"x": options.pop("layout")} if "layout" in options else None
    listed = tensors(model, find_input(model).name, find_output(model), layouts=given, **options)
    return {t.name: t.layout for t in listed if not t.refused}


def perm(before, after):
    """The Transpose that takes one order of axes to another."""
    return [before.index(letter) for letter in after]


# ------------------------------------------------------------------------------------------------
# Any order of a map's axes
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", MAP_LAYOUTS)
def test_a_map_in_any_order_is_brought_to_channels_rows_columns(layout):
    maps = RNG.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    stored = maps.transpose(0, 1, *(2 + "CHW".index(x) for x in layout[1:]))
    assert check_layout(layout) == layout
    np.testing.assert_array_equal(parse_layout(layout).to_kept(stored, "t"), maps)
    points, derived = parse_layout(layout).to_points(stored, 2)
    assert derived
    np.testing.assert_allclose(points, maps.mean(axis=(-2, -1)), rtol=1e-5)


@pytest.mark.parametrize("text", ["CNHW", "NQH", "", "NNCHW", "nchw", "NCHH", "NPPP", "NTD:2"])
def test_what_is_no_layout_is_refused(text):
    with pytest.raises(GeedError, match="no layout is called"):
        check_layout(text)


def equivariant_then(layout, folder, *, symmetric=True, back=True):
    """A C4-equivariant map, stored in some order; behind it, if wanted, a classifier."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(4, 3, 3, 3))
    nodes = [
        conv("x", "w", "pre"),
        node("Relu", "pre", "map"),
        node("Transpose", "map", "moved", perm=perm("NCHW", layout)),
        node("Mul", "moved two", "twice"),
        node("Abs", "twice", "stored"),
        node("Transpose", "stored", "planar", perm=perm(layout, "NCHW")),
        node("GlobalAveragePool", "planar", "pooled"),
        node("Flatten", "pooled", "y"),
    ]
    constants = [
        weights("w", models.quarter_symmetric(kernel) if symmetric else kernel),
        weights("two", [2.0]),
    ]
    return saved(folder, nodes, constants, ("N", 3, 7, 7))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", MAP_LAYOUTS)
def test_an_equivariant_map_scores_minus_one_in_whichever_order_it_is_stored(
    tmp_path, layout, engine
):
    file = equivariant_then(layout, tmp_path)
    data = running.images((3, 7, 7), n=6)
    layouts = measured(file, data, "C4", ["channel-cos"], engine=engine)
    record = layouts["channel-cos", "stored"]
    assert record["layout"] == layout
    assert record["value"] == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["NCWH", "NWHC", "NHCW", "NWCH"])
def test_a_map_that_is_not_equivariant_scores_as_the_slow_twin_says_in_any_order(
    tmp_path, layout, engine
):
    file = equivariant_then(layout, tmp_path, symmetric=False)
    data = running.images((3, 7, 7), n=6)
    record = measured(file, data, "C8", ["channel-cos@stored"], engine=engine)[
        "channel-cos", "stored"
    ]
    rows = naive.orbit("C8", data)
    result = running.run(onnx.load(file), rows.reshape(-1, 3, 7, 7).astype(np.float32), ["stored"])
    maps = np.moveaxis(result[0], [layout.index(x) for x in "CHW"], [1, 2, 3])
    values = naive.channel_cos(maps.reshape(6, 8, *maps.shape[1:]), "C8").mean(axis=1)
    chosen = np.random.default_rng(0).permutation(6)[:4]
    assert record["value"] == pytest.approx(values[chosen].mean(), abs=1e-5)
    assert record["value"] > -0.99


def test_a_reversing_transpose_without_perm_is_followed(tmp_path):
    nodes = [
        node("Transpose", "x", "turned"),  # (W, H, C, N)
        node("Relu", "turned", "act"),
        node("Transpose", "act", "y", perm=[3, 0, 1, 2]),
    ]
    assert layouts_of(saved(tmp_path, nodes, [], ("N", 3, 6, 7)))["y"] == "NWHC"


def convolved(*between):
    """Nodes between a map and a convolution, whose axes are to be told."""
    return [
        conv("x", "w", "pre"),
        node("Relu", "pre", "map"),
        *between,
        conv("z", "k", "again"),
        node("Relu", "again", "y"),
    ]


KERNELS = [
    weights("w", RNG.normal(size=(4, 3, 3, 3))),
    weights("k", RNG.normal(size=(5, 4, 3, 3))),
    weights("one", [1.0]),
    weights("eye", np.eye(4)),
]
FLAT = integers("flat", [0, 4, 30])
WAYS = {
    "a transpose": ([node("Transpose", "map", "z", perm=[0, 1, 3, 2])], "NCWH"),
    "none": ([node("Abs", "map", "z")], "NCHW"),
    "there and back": (
        [
            node("Transpose", "map", "a", perm=[0, 3, 2, 1]),
            node("Add", "a one", "b"),
            node("Transpose", "b", "z", perm=[0, 3, 1, 2]),
        ],
        "NCWH",
    ),
    "through tokens": (
        [
            node("Reshape", "map flat", "a"),
            node("Transpose", "a", "b", perm=[0, 2, 1]),
            node("MatMul", "b eye", "c"),
            node("Transpose", "c", "d", perm=[0, 2, 1]),
            node("Reshape", "d grid", "z"),
        ],
        "NCHW",
    ),
    "turned, then through tokens": (
        [
            node("Transpose", "map", "t", perm=[0, 3, 2, 1]),
            node("Reshape", "t tokens", "a"),
            node("Transpose", "a", "d", perm=[0, 2, 1]),
            node("Reshape", "d turned_grid", "z"),
        ],
        "NCWH",
    ),
    "an einsum": ([node("Einsum", "map", "z", equation="nchw->ncwh")], "NCWH"),
    "an einsum with weights": (
        [node("Einsum", "map eye", "z", equation="nchw,cd->ndwh")],
        "NCWH",
    ),
    "windows": (
        [
            node("Reshape", "map windows", "a"),
            node("Transpose", "a", "b", perm=[0, 1, 3, 5, 2, 4]),
            node("Transpose", "b", "c", perm=[0, 1, 4, 2, 5, 3]),
            node("Reshape", "c grid", "z"),
        ],
        "NCHW",
    ),
    "windows put together the other way round": (
        [
            node("Reshape", "map windows", "a"),
            node("Transpose", "a", "b", perm=[0, 1, 4, 5, 2, 3]),
            node("Reshape", "b turned_grid", "z"),
        ],
        "NCWH",
    ),
}
GRIDS = [
    FLAT,
    integers("tokens", [0, 30, 4]),
    integers("grid", [0, 4, 6, 5]),
    integers("turned_grid", [0, 4, 5, 6]),
    integers("windows", [0, 4, 3, 2, 5, 1]),
]


@pytest.mark.parametrize("way", WAYS)
def test_an_operator_on_maps_keeps_the_order_that_the_map_has(tmp_path, way):
    between, layout = WAYS[way]
    file = saved(tmp_path, convolved(*between), [*KERNELS, *GRIDS], ("N", 3, 6, 5))
    layouts = layouts_of(file)
    assert (layouts["z"], layouts["again"], layouts["y"]) == (layout, layout, layout)


def test_windows_whose_parts_change_places_are_no_map(tmp_path):
    # As the dilated grids of MaxViT: rows of one window come to lie between those of others.
    between = [
        node("Reshape", "map windows", "a"),
        node("Transpose", "a", "b", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "b grid", "z"),
    ]
    file = saved(tmp_path, convolved(*between), [*KERNELS, *GRIDS], ("N", 3, 6, 5))
    assert layouts_of(file)["z"] == "?"


@pytest.mark.parametrize("first", ["Transpose", "Slice"])
def test_a_quarter_turn_inside_a_network_is_equivariant_under_rotations(tmp_path, first):
    swap = {"Transpose": ("x", "t"), "Slice": ("t", "turn")}[first]
    flip = {"Transpose": ("t", "turn"), "Slice": ("x", "t")}[first]
    nodes = [
        node("Transpose", *swap, perm=[0, 1, 3, 2]),
        node("Slice", f"{flip[0]} last first side back", flip[1]),
    ]
    nodes.sort(key=lambda n: n.output[0] == "turn")
    beside = [node("Concat", "x turn", "both", axis=1), node("Relu", "both", "y")]
    constants = [
        *(integers("last", [-1]), integers("first", [-99])),
        *(integers("side", [2]), integers("back", [-1])),
    ]
    file = saved(tmp_path, [*nodes, *beside], constants, ("N", 3, 6, 6))
    data = RNG.normal(size=(6, 3, 6, 6)).astype(np.float32)
    names = ["channel-cos@turn", "channel-cos@y"]
    for record in measured(file, data, "C4", names).values():
        assert record["value"] == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize(
    ("cut", "order", "layout"),
    [
        ("front", (0, 1, 2, 3), "NCHW"),
        ("front", (0, 1, 3, 2), "NCWH"),
        ("back", (0, 1, 2, 3), "?"),  # the class token is left in, and every place is off by one
    ],
)
def test_tokens_of_a_map_are_known_again_behind_a_class_token(tmp_path, cut, order, layout):
    between = [
        node("Transpose", "map", "m", perm=list(order)),
        node("Reshape", "m flat", "a"),
        node("Transpose", "a", "tokens", perm=[0, 2, 1]),
        node("Concat", "class tokens", "all", axis=1),
        node("Add", "all one", "b"),
        node("Slice", f"b {cut}0 {cut}1 axis", "c"),
        node("Transpose", "c", "d", perm=[0, 2, 1]),
        node("Reshape", "d grid", "z"),
    ]
    height, width = (6, 5) if order[2] == 2 else (5, 6)
    constants = [
        *(*KERNELS, FLAT, integers("axis", [1]), integers("grid", [0, 4, height, width])),
        *(integers("front0", [1]), integers("front1", [31])),
        *(integers("back0", [0]), integers("back1", [30])),
        weights("class", RNG.normal(size=(1, 1, 4))),
    ]
    assert layouts_of(saved(tmp_path, convolved(*between), constants, (1, 3, 6, 5)))["z"] == layout


@pytest.mark.parametrize("lost", ["Tile", "Add"])
def test_where_a_map_that_was_turned_over_is_lost_nothing_is_guessed(tmp_path, lost):
    if lost == "Add":  # a map and its transpose: neither order is that of the sum
        nodes = [
            node("Transpose", "x", "t", perm=[0, 1, 3, 2]),
            node("Add", "x t", "z"),
        ]
    else:
        nodes = [
            node("Transpose", "x", "t", perm=[0, 1, 3, 2]),
            node("Tile", "t once", "z"),
        ]
    nodes += [conv("z", "w", "again"), node("Relu", "again", "y")]
    constants = [KERNELS[0], integers("once", [1, 1, 1, 1])]
    layouts = layouts_of(saved(tmp_path, nodes, constants, ("N", 3, 6, 6)))
    assert (layouts["z"], layouts["again"], layouts["y"]) == ("?", "?", "?")


PROFILES = [
    node("ReduceMean", "map", "columns", axes=[2], keepdims=0),  # (N, C, W)
    node("ReduceMean", "map", "rows", axes=[3], keepdims=0),
]
NO_MAPS = {
    "columns by columns": [node("Einsum", "map map", "z", equation="nchw,nchv->ncwv")],
    "rows by rows": [node("Einsum", "map map", "z", equation="nchw,ncvw->nchv")],
    "rows by rows, axes left out": [node("Einsum", "map map", "z", equation="...hw,...vw->...hv")],
    "the transpose": [
        node("Transpose", "map", "t", perm=[0, 1, 3, 2]),
        node("MatMul", "t map", "z"),
    ],
    "an outer product": [
        *PROFILES,
        node("Unsqueeze", "columns a3", "down"),
        node("Unsqueeze", "rows a2", "right"),
        node("Mul", "down right", "z"),
    ],
    "a product of two vectors": [
        *PROFILES[:1],
        node("Unsqueeze", "columns a3", "down"),
        node("Unsqueeze", "columns a2", "right"),
        node("MatMul", "down right", "z"),
    ],
    "differences of columns": [
        *PROFILES[:1],
        node("Unsqueeze", "columns a3", "down"),
        node("Unsqueeze", "columns a2", "right"),
        node("Sub", "down right", "difference"),
        node("Abs", "difference", "z"),
    ],
    "a sum of both profiles": [
        *PROFILES,
        node("Add", "columns rows", "sum"),
        node("Unsqueeze", "sum a3", "down"),
        node("Unsqueeze", "sum a2", "right"),
        node("Mul", "down right", "z"),
    ],
    "a map gated by columns": [
        node("Einsum", "map map", "gate", equation="nchw,nchv->ncwv"),
        node("Add", "map gate", "z"),
    ],
    "channels by channels": [
        node("Einsum", "map map", "products", equation="nchw,ndhw->ncd"),
        node("Unsqueeze", "products a1", "plane"),
        node("Concat", "plane plane plane plane", "z", axis=1),
    ],
    "the largest values": [
        node("Reshape", "map line", "flat"),
        node("TopK", "flat sixteen", "values ranks", axis=2),
        node("Reshape", "values four_by_four", "z"),
    ],
    "attention of all places": [
        node("Reshape", "map line", "flat"),
        node("Transpose", "flat", "tokens", perm=[0, 2, 1]),
        node("MatMul", "tokens flat", "products"),
        node("Unsqueeze", "products a1", "plane"),
        node("Concat", "plane plane plane plane", "z", axis=1),
    ],
}
AXES = [
    *(integers(f"a{n}", [n]) for n in (1, 2, 3)),
    *(integers("line", [0, 4, 36]), integers("sixteen", [16])),
    integers("four_by_four", [0, 4, 4, 4]),
]


@pytest.mark.parametrize("kind", NO_MAPS)
def test_what_follows_to_be_no_map_is_not_taken_for_one(tmp_path, kind):
    between = convolved(*NO_MAPS[kind])
    layouts = layouts_of(saved(tmp_path, between, [*KERNELS, *AXES], ("N", 3, 6, 6)))
    assert layouts["map"] == "NCHW"
    assert (layouts["z"], layouts["again"], layouts["y"]) == ("?", "?", "?")


# Reversed columns are not those of the mirror image.
UNMIRRORED = ("a sum of both profiles", "a map gated by columns")


@pytest.mark.parametrize("kind", [kind for kind in NO_MAPS if kind not in UNMIRRORED])
def test_of_an_equivariant_network_all_maps_that_are_found_score_minus_one(tmp_path, kind):
    rng = np.random.default_rng(2)
    kernels = [rng.normal(size=size) for size in ((4, 3, 3, 3), (5, 4, 3, 3))]
    mirrored = [w + w[..., ::-1] + w[..., ::-1, :] + w[..., ::-1, ::-1] for w in kernels]
    nodes = [*convolved(*NO_MAPS[kind]), node("ReduceMean", "y", "mean", axes=[2, 3], keepdims=0)]
    constants = [weights("w", mirrored[0]), weights("k", mirrored[1]), *AXES]
    file = saved(tmp_path, nodes, constants, ("N", 3, 6, 6), output="mean")
    records = measured(file, running.images((3, 6, 6), n=6), "flip-h", [])
    maps = {layer: r["value"] for (measure, layer), r in records.items() if measure[0] == "c"}
    assert maps == {"map": pytest.approx(-1, abs=1e-6)}


MIXED = {
    "attention": [
        node("Reshape", "map flat", "flat_map"),
        node("Transpose", "flat_map", "tokens", perm=[0, 2, 1]),
        node("MatMul", "tokens flat_map", "products"),
        node("Softmax", "products", "shares", axis=2),
        node("MatMul", "shares tokens", "mixed"),
        node("Transpose", "mixed", "turned", perm=[0, 2, 1]),
        node("Reshape", "turned grid", "z"),
    ],
    "rows by columns by columns": [
        node("Einsum", "map map", "products", equation="nchw,nchv->ncwv"),
        node("Softmax", "products", "shares", axis=3),
        node("Einsum", "shares map", "z", equation="ncwv,nchv->nchw"),
    ],
    "squares": [node("Einsum", "map map", "z", equation="...w,...w->...w")],
    "profiles in place": [
        *PROFILES,
        node("Unsqueeze", "columns a2", "right"),
        node("Unsqueeze", "rows a3", "down"),
        node("Mul", "down right", "z"),
    ],
    "an operator that nobody knows": [node("Unknown", "map", "z")],
    "a map made from a vector, as decoders do": [
        node("ReduceMean", "map", "vector", axes=[2, 3], keepdims=0),
        node("Gemm", "vector dense", "long"),
        node("Reshape", "long decoded", "z"),
    ],
    "a map made from a vector beside another": [
        node("ReduceMean", "map", "vector", axes=[2, 3], keepdims=0),
        node("Gemm", "vector dense", "long"),
        node("Reshape", "long decoded", "deep"),
        node("Conv", "deep same", "deeper"),
        node("Add", "map deeper", "z"),
    ],
    "scales that are data": [
        node("ReduceMax", "map", "largest", keepdims=0),
        node("Mul", "largest once", "scale"),
        node("Mul", "map scale", "z"),
    ],
}
# Of the map's own size, from its four channels.
DECODER = [
    weights("dense", np.ones((4, 4 * 6 * 5))),
    weights("same", np.ones((4, 4, 1, 1))),
    weights("once", np.array(1.0)),
    integers("decoded", [0, 4, 6, 5]),
]


@pytest.mark.parametrize("way", MIXED)
def test_products_that_keep_the_grid_are_maps(tmp_path, way):
    between = convolved(*MIXED[way])
    source = models.build(
        between,
        [*KERNELS, *GRIDS, *AXES, *DECODER],
        [("x", FLOAT, ["N", 3, 6, 5])],
        [("y", FLOAT, None)],
    )
    for entry in source.graph.node:
        entry.domain = "custom" if entry.op_type == "Unknown" else ""
    source.opset_import.add(domain="custom", version=1)
    layouts = layouts_of(models.save(source, tmp_path / "model.onnx"))
    assert (layouts["z"], layouts["again"], layouts["y"]) == ("NCHW", "NCHW", "NCHW")


def test_convolutions_of_places_by_patches_are_no_maps_and_the_map_behind_them_is(tmp_path):
    # As in MobileViTv2: 1×1 convolutions of (N, C, places in a patch, patches), and back.
    patches = [
        node("Reshape", "map cut", "parts"),
        node("Transpose", "parts", "sorted", perm=[0, 1, 3, 5, 2, 4]),
        node("Reshape", "sorted pairs", "pairs_of_axes"),
        node("ReduceSum", "pairs_of_axes a3", "context", keepdims=1),
        node("Expand", "context spread", "everywhere"),
        node("Mul", "pairs_of_axes everywhere", "weighed"),
        node("Conv", "weighed one_by_one", "inside"),
        node("Add", "pairs_of_axes inside", "more"),
        node("Reshape", "more apart", "cut_again"),
        node("Transpose", "cut_again", "back", perm=[0, 1, 4, 2, 5, 3]),
        node("Reshape", "back whole", "z"),
    ]
    constants = [
        *KERNELS,
        weights("one_by_one", RNG.normal(size=(4, 4, 1, 1))),
        *(AXES[2], integers("spread", [1, 4, 4, 6])),
        *(integers("cut", [0, 4, 3, 2, 2, 2]), integers("pairs", [0, 4, 4, 6])),
        *(integers("apart", [0, 4, 2, 2, 3, 2]), integers("whole", [0, 4, 6, 4])),
    ]
    layouts = layouts_of(saved(tmp_path, convolved(*patches), constants, ("N", 3, 6, 4)))
    assert {layouts[name] for name in ("pairs_of_axes", "weighed", "inside", "more")} == {"?"}
    assert (layouts["z"], layouts["y"]) == ("NCHW", "NCHW")


def test_a_stated_order_is_measured_and_one_of_another_rank_refused(tmp_path):
    nodes = [
        node("Transpose", "x", "t", perm=[0, 1, 3, 2]),
        node("Tile", "t once", "z"),
        node("ReduceMean", "z", "y", axes=[2, 3], keepdims=0),
    ]
    file = saved(tmp_path, nodes, [integers("once", [1, 1, 1, 1])], ("N", 3, 6, 6))
    data = running.images((3, 6, 6), n=6)
    stated = measured(file, data, "C4", ["channel-cos@z"], layout={"z": "NCWH"})
    assert stated["channel-cos", "z"]["value"] == pytest.approx(-1, abs=1e-6)
    wrong = measured(file, data, "C4", ["channel-cos@z"], layout={"z": "NCHW"})
    assert wrong["channel-cos", "z"]["value"] > -0.99
    with pytest.raises(GeedError, match=r"--layout y=NCWH: is for 4 axes, but tensor 'y' has 2"):
        measured(file, data, "C4", ["latent-l2"], layout={"y": "NCWH"})


# ------------------------------------------------------------------------------------------------
# Volumes and video
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def read(tmp_path):
    def saved(*shape, metadata=()):
        source = models.build(
            [node("Relu", "x", "y")], [], [("x", FLOAT, list(shape))], [("y", FLOAT, None)]
        )
        source = models.with_metadata(source, dict(metadata))
        return load_model(models.save(source, tmp_path / "read.onnx"))

    return saved


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("N", 5, 8, 8, 3), "NDHWC"),
        (("N", 5, 8, 8, 1), "NDHWC"),
        (("N", "D", "H", "W", 4), "NDHWC"),
        (("N", 3, 5, 8, 8), "NCDHW"),
        (("N", 1, "D", "H", "W"), "NCDHW"),
    ],
)
def test_the_layout_of_a_volume_is_told_from_where_its_channels_are(read, shape, layout):
    model = read(*shape)
    assert input_layout(model, find_input(model)) == layout


@pytest.mark.parametrize("shape", [("N", 3, 5, 8, 3), ("N", 2, 5, 8, 8), ("N", "C", "D", "H", "W")])
def test_an_ambiguous_volume_is_asked_for_and_a_stated_layout_taken(read, shape):
    model = read(*shape)
    with pytest.raises(GeedError, match="give --input-layout NCDHW or NDHWC"):
        input_layout(model, find_input(model))
    for text in ("NCDHW", "NDHWC", "NTHWC", "NCTHW", "NTCHW", "NWHDC"):
        assert input_layout(model, find_input(model), text) == text
    model = read(*shape, metadata={"onnx_geed.input_layout": "NTHWC"}.items())
    assert input_layout(model, find_input(model)) == "NTHWC"


@pytest.mark.parametrize(
    ("shape", "text", "message"),
    [
        (
            ("N", 8, 8),
            "NCHW",
            r"names 4 axes, but input 'x' \(\?, 8, 8\) has 3; write, for example, .* NTC",
        ),
        (("N", 3, 8, 8), "NHW", "names 3 axes"),
        (("N", 3, 4, 8, 8), "NCHW", "names 4 axes.*NCDHW or NDHWC"),
        (("N", 3, 8, 8), "nhwc", "Did you mean 'NHWC'"),
        (("N", 3, 8, 8), "NCHH", "is not a layout.*H occurs 2 times"),
        (("N", 3, 8, 8), "HWCN", "is not a layout"),
        (("N", 3, 8, 8), "", None),
    ],
)
def test_a_stated_layout_is_never_ignored(read, shape, text, message):
    model = read(*shape)
    if message is None:
        assert input_layout(model, find_input(model), text) == "NCHW"
        return
    with pytest.raises(
        GeedError, match=f"--input-layout {message}" if "'" in message[:2] else message
    ):
        input_layout(model, find_input(model), text)
    model = read(*shape, metadata={"onnx_geed.input_layout": text}.items())
    with pytest.raises(GeedError, match=r"metadata onnx_geed\.input_layout"):
        input_layout(model, find_input(model))


def volume_network(folder, layout, sizes=None, name="model.onnx"):
    """One network on volumes, behind a Transpose from the order in which they are stored."""
    sizes = sizes or {"N": "N", "C": 3, "D": 5, "T": 5, "H": 6, "W": 6}
    rng = np.random.default_rng(3)
    fixed = "T" if "T" in layout else "D"
    nodes = [
        node("Transpose", "x", "planar", perm=perm(layout, f"NC{fixed}HW")),
        node("Conv", "planar w", "pre", pads=[1] * 6),
        node("Relu", "pre", "act"),
        node("ReduceMean", "act", "latent", axes=[2, 3, 4], keepdims=0),
        node("Gemm", "latent head", "y"),
    ]
    constants = [
        weights("w", rng.normal(size=(4, 3, 3, 3, 3))),
        weights("head", rng.normal(size=(4, 3))),
    ]
    source = models.build(
        nodes, constants, [("x", FLOAT, [sizes[x] for x in layout])], [("y", FLOAT, None)]
    )
    return models.save(source, folder / name)


VOLUMES = ["NCDHW", "NDHWC", "NTHWC", "NCTHW", "NTCHW", "NHWDC", "NCWHD"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", VOLUMES)
def test_one_network_scores_alike_however_its_volumes_are_stored(tmp_path, layout, engine):
    data = RNG.random((6, 3, 5, 6, 6), dtype=np.float32)
    stored = data.transpose(perm("NCTHW" if "T" in layout else "NCDHW", layout))
    asks = ["latent-l2", "latent-cos", "softmax-kl"]
    options = {"engine": engine, "output_kind": "logits", "preprocess": "mean=.1,.2,.3 std=.5,.6,1"}
    first = volume_network(tmp_path, "NCDHW")
    second = volume_network(tmp_path, layout, name="other.onnx")
    one = measured(first, data, "C4", asks, **options)
    two = measured(second, stored, "C4", asks, input_layout=layout, **options)
    for key in one:
        assert two[key]["value"] == pytest.approx(one[key]["value"], rel=1e-3)
    assert one["latent-l2", "latent"]["value"] > 1e-3


def test_video_is_moved_in_its_plane_as_the_slow_twin_says(tmp_path):
    data = RNG.random((6, 5, 6, 6, 3), dtype=np.float32)
    file = volume_network(tmp_path, "NTHWC")
    layouts = measured(file, data, "C4", ["latent-l2"])["latent-l2", "latent"]
    planar = np.moveaxis(data, -1, 2)  # (N, T, C, H, W)
    rows = np.moveaxis(naive.orbit("C4", planar), 3, -1).astype(np.float32)
    result = running.run(onnx.load(file), rows.reshape(-1, *data.shape[1:]), ["latent"])[0]
    values = naive.latent_l2(result.reshape(6, 4, -1), "C4").mean(axis=1)
    chosen = np.random.default_rng(0).permutation(6)
    assert layouts["unnormalised"] == pytest.approx(values[chosen[:4]].mean(), rel=1e-5)


def test_a_mirror_leaves_the_colours_of_video_in_place(tmp_path):
    # Mean colour by frame: invariant under every move of the plane, not under reversed colours.
    nodes = [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0), node("Flatten", "y", "out")]
    file = saved(tmp_path, nodes, [], ("N", 5, 6, 6, 3), output="out")
    data = RNG.random((6, 5, 6, 6, 3), dtype=np.float32)
    layouts = measured(file, data, "flip-h", ["latent-l2@out"])["latent-l2", "out"]
    assert layouts["value"] == pytest.approx(0, abs=1e-6)
    wrong = measured(file, data, "flip-h", ["latent-l2@out"], input_layout="NCDHW")
    assert wrong["latent-l2", "out"]["value"] > 0.1


@pytest.mark.parametrize(
    ("layout", "order"), [("NWH", (0, 2, 1)), ("NCWH", (0, 1, 3, 2)), ("NWHC", (0, 3, 2, 1))]
)
def test_planes_that_are_stored_columns_first_are_moved_as_planes(tmp_path, layout, order):
    rank = len(layout)
    sizes = {"N": "N", "C": 3, "H": 6, "W": 8}
    nodes = [
        node("Mul", "x weight", "weighed"),
        node("ReduceSum", "weighed axes", "y", keepdims=0),
    ]
    ramp = np.arange(8.0).reshape([8 if x == "W" else 1 for x in layout])
    reduce_over = [layout.index(x) for x in "HW"]
    constants = [weights("weight", ramp), integers("axes", reduce_over)]
    file = saved(tmp_path, nodes, constants, [sizes[x] for x in layout])
    plain = RNG.random((6, 6, 8) if rank == 3 else (6, 3, 6, 8), dtype=np.float32)
    data = np.ascontiguousarray(plain.transpose(order))
    for group, moves in (("flip-v", False), ("flip-h", True)):
        layouts = measured(file, data, group, ["output-l2@y"], input_layout=layout)[
            "output-l2", "y"
        ]
        assert (layouts["value"] > 1e-3) == moves


# ------------------------------------------------------------------------------------------------
# Free lengths
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", ["?", "None", "unk__1", "s", "N", "-1", "dim", "batch", ""])
@pytest.mark.parametrize("axes", [(0, 2, 3), (2, 3), (0, 1, 2, 3), (0, 2)])
def test_free_lengths_are_those_of_the_data_whatever_their_symbol(tmp_path, dynamic, axes):
    source = models.random_cnn(0, (8, 8))
    shape = source.graph.input[0].type.tensor_type.shape
    for axis in axes:
        shape.dim[axis].Clear()
        if dynamic:
            shape.dim[axis].dim_param = dynamic
    file = models.save(source, tmp_path / "model.onnx")
    data = running.images((3, 8, 8), n=6)
    known = models.save(models.random_cnn(0, (8, 8)), tmp_path / "known.onnx")
    options = {"input_layout": "NCHW"}
    one = measured(known, data, "C4", [], **options)
    two = measured(file, data, "C4", [], **options)
    expected = {key: pytest.approx(record["value"], rel=1e-5) for key, record in one.items()}
    assert {key: record["value"] for key, record in two.items()} == expected
    assert any(measure == "channel-cos" for measure, _ in two)


def test_a_symbol_of_the_batch_is_no_length_of_a_grid(tmp_path):
    source = models.random_cnn(0, (8, 8))
    for axis in (0, 2, 3):
        source.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "?"
    file = models.save(source, tmp_path / "model.onnx")
    model = load_model(file)
    listed = tensors(model, find_input(model).name, find_output(model))
    maps = [t for t in listed if t.layout == "NCHW" and not t.refused and "channel" in t.roles]
    assert maps
    assert all(t.shape[2:] == (None, None) for t in maps)


# ------------------------------------------------------------------------------------------------
# Layouts that nobody knows
# ------------------------------------------------------------------------------------------------


def heat_maps(folder):
    """Key points as LiteHRNet-like heads yield them: a dense layer, reshaped to (N, K, H, W)."""
    rng = np.random.default_rng(8)
    nodes = [
        conv("x", "w", "pre"),
        node("Relu", "pre", "map"),
        node("GlobalAveragePool", "map", "pooled"),
        node("Flatten", "pooled", "latent"),
        node("Gemm", "latent head", "flat"),
        node("Softplus", "flat", "soft"),
        node("Reshape", "soft grid", "y"),
    ]
    constants = [
        weights("w", rng.normal(size=(4, 3, 3, 3))),
        weights("head", rng.normal(size=(4, 2 * 5 * 5))),
        integers("grid", [-1, 2, 5, 5]),
    ]
    return saved(folder, nodes, constants, ("N", 3, 8, 8))


def test_a_tensor_of_unknown_layout_is_left_out_of_the_defaults_and_refused_by_name(tmp_path):
    file, data = heat_maps(tmp_path), running.images((3, 8, 8), n=6)
    options = {"samples": 4, "norm_samples": 6}
    result = onnx_geed.measure(file, data, "C4", latent="latent", **options)
    kept = {(r["measure"], r["layer"]) for r in result["measurements"]}
    assert ("channel-cos", "map") in kept
    assert ("latent-l2", "latent") in kept
    assert any("softmax-kl@y" in n and "--layout y=NCHW" in n for n in result["notes"])
    for request in ("latent-l2@y", "output-l2@y", "channel-cos@y"):
        with pytest.raises(GeedError, match="--layout y=NCHW or y=NHWC"):
            onnx_geed.measure(file, data, "C4", measures=[request], **options)
    with pytest.raises(GeedError, match="--layout y=NCHW or y=NHWC"):
        onnx_geed.measure(file, data, "C4", latent="y", **options)
    message = onnx_geed.measure(file, data, "C4", layout={"y": "NCHW"}, **options)
    assert message["measurements"]


def test_every_order_of_four_letters_is_a_layout_and_nothing_else():
    assert set(MAP_LAYOUTS) == {"N" + "".join(p) for p in itertools.permutations("CHW")}


@pytest.mark.parametrize(
    ("shape", "layout"), [((6, 3, 4, 5, 5), "NCDHW"), ((6, 5, 7, 8, 3), "NDHWC")]
)
@pytest.mark.parametrize("kind", ["array", "file"])
def test_where_all_lengths_are_free_the_data_tell_the_layout(tmp_path, shape, layout, kind):
    data = RNG.normal(size=shape).astype(np.float32)
    nodes = [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0), node("Flatten", "y", "z")]
    file = saved(tmp_path, nodes, [], ("B", "d", "h", "w", "c"), "z")
    np.save(tmp_path / "x.npy", data)
    options = data if kind == "array" else str(tmp_path / "x.npy")
    result = onnx_geed.measure(file, options, "flip-h", samples=3, measures=["output-l2@z"])
    assert result["data"]["layout"] == layout
