"""An action of one's own, and a group of one's own with it, measured from the outside."""

import dataclasses
import json

import models
import numpy as np
import onnx
import pytest
from models import FLOAT, build, conv, node, weights

import onnx_geed
from onnx_geed import (
    FunctionAction,
    GeedError,
    Group,
    IndexAction,
    cyclic,
    grid_action,
    measure,
    parse_group,
    product,
)
from onnx_geed.groups import Exactness, Layout, parse_layout
from onnx_geed.model import action_key

RNG = np.random.default_rng(11)
IMAGES = RNG.random((7, 3, 8, 8)).astype(np.float32)
RUN = {"samples": 5, "norm_samples": 7, "provider": "cpu"}
C4 = parse_group("C4")


def turn(g, x):
    return np.rot90(x, g, axes=(-2, -1))


QUARTERS = FunctionAction(C4, turn, any_size=True, name="rot90")

#: The 6 orders of red, green and blue: ``out[c] = in[ORDERS[g][c]]``.
ORDERS = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]])


def colours():
    """The group of all orders of three channels, its table worked out from the gathers."""
    rows = ORDERS.tolist()
    # b first, then a: out = in[b][a].
    table = [[rows.index([b[i] for i in a]) for b in rows] for a in rows]
    return Group("colours", ("e", "gbr", "brg", "rbg", "bgr", "grb"), np.array(table))


def save(folder, model, name="net.onnx"):
    return models.save(model, folder / name)


def grey_first(seed=3):
    """A network that adds the channels up before it does anything else."""
    return _on_channels(np.ones((1, 3, 1, 1)), seed)


def red_first(seed=3):
    """One that reads the first channel alone."""
    kernel = np.zeros((1, 3, 1, 1))
    kernel[0, 0] = 3
    return _on_channels(kernel, seed)


def _on_channels(kernel, seed):
    rng = np.random.default_rng(seed)
    return build(
        [
            conv("x", "mix", "mixed", pad=0),
            conv("mixed", "w", "c"),
            node("Relu", "c", "maps"),
            node("GlobalAveragePool", "maps", "pooled"),
            node("Flatten", "pooled", "latent"),
            node("Gemm", "latent head", "logits"),
        ],
        [
            weights("mix", kernel),
            weights("w", rng.normal(size=(5, 1, 3, 3))),
            weights("head", rng.normal(size=(5, 4))),
        ],
        [("x", FLOAT, ["N", 3, 8, 8])],
        [("logits", FLOAT, ["N", 4])],
    )


@pytest.mark.parametrize("engine", ["auto", "kernels"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_quarter_turns_by_hand_give_what_the_named_group_gives_to_the_last_bit(
    engine, layout, tmp_path
):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    axes = {"NCHW": (2, 3), "NHWC": (1, 2)}[layout]
    own = FunctionAction(C4, lambda g, x: np.rot90(x, g, axes=axes), layout=layout, name="rot90")
    # Hidden maps are channels first, whatever the samples are.
    own = own if layout != "NCHW" else QUARTERS
    asked = {"measures": ["latent-l2", "latent-cos", "softmax-kl", "output-l2"]}
    if layout == "NCHW":
        asked = {"references": True}
    named = measure(path, IMAGES, "C4", engine="kernels", **asked, **RUN)
    result = measure(path, IMAGES, action=own, engine=engine, **asked, **RUN)
    assert result["measurements"] == named["measurements"]
    kept = ("name", "order", "elements", "exact", "support")
    assert [result["group"][k] for k in kept] == [named["group"][k] for k in kept]
    if layout == "NCHW":
        assert any(r["measure"] == "channel-cos" for r in result["measurements"])


def test_it_does_in_a_disk_and_as_an_action_written_as_a_class(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Turning:
        """Everything by oneself, of nothing but the documented parts."""

        group: Group = C4
        layout: str = "NCHW"
        name: str = "rot90"

        def exact(self):
            return ["index"] * 4

        def kernel_of_action(self):
            return (0,)

        def apply(self, g, y):
            return np.rot90(y, g, axes=(2, 3))

        def at(self, layout, shape):
            assert isinstance(layout, Layout)
            assert len(shape) == 3
            return self

    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    named = measure(path, IMAGES, "C4", support="disk", **RUN)
    result = measure(path, IMAGES, "C4", action=Turning(), support="disk", **RUN)
    assert result["measurements"] == named["measurements"]


def test_moving_maps_by_the_function_gives_the_same_bits_as_moving_them_by_its_tables(tmp_path):
    """Matrices are not turned into tables, though this one is a permutation."""
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    by_function = dataclasses.replace(QUARTERS, exactness="matrix")
    asked = {"measures": ["channel-cos"], "references": True}
    named = measure(path, IMAGES, "C4", **asked, **RUN)
    result = measure(path, IMAGES, action=by_function, **asked, **RUN)
    for ours, theirs in zip(result["measurements"], named["measurements"], strict=True):
        assert ours.pop("output_action") == "rot90"
        assert theirs.pop("output_action") == "grid"
        assert ours == theirs


def test_a_group_with_other_names_and_a_table_of_pixels_gives_the_same_numbers(tmp_path):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    group = Group("quarters", ("stay", "left", "half", "right"), cyclic(4).table)
    pixels = np.arange(64).reshape(8, 8)
    table = np.array([np.rot90(pixels, k).ravel() for k in range(4)])
    own = IndexAction(group, "HW", table, name="rot90")
    asked = ["latent-l2", "softmax-kl"]
    named = measure(path, IMAGES, "C4", measures=asked, **RUN)
    result = measure(path, IMAGES, action=own, measures=asked, **RUN)
    names = dict(zip(group.elements, C4.elements, strict=True))
    for ours, theirs in zip(result["measurements"], named["measurements"], strict=True):
        assert ours["deviations"] == theirs["deviations"]
        assert {names[e]: v for e, v in ours["per_element"].items()} == theirs["per_element"]
    assert result["group"]["name"] == "quarters"


def test_a_table_of_pixels_moves_hidden_maps_of_the_same_grid_alone(tmp_path):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    pixels = np.arange(64).reshape(8, 8)
    own = IndexAction(C4, "HW", [np.rot90(pixels, k).ravel() for k in range(4)], name="rot90")
    named = measure(path, IMAGES, "C4", measures=["channel-cos"], **RUN)
    result = measure(path, IMAGES, action=own, measures=["channel-cos"], **RUN)
    layers = {r["layer"] for r in result["measurements"]}
    theirs = [r for r in named["measurements"] if r["layer"] in layers]
    assert result["measurements"] == theirs
    assert 0 < len(theirs) < len(named["measurements"])
    assert any("does not say how maps" in note for note in result["notes"])


def test_colour_orders_tell_a_network_of_grey_from_one_of_red(tmp_path):
    group = colours()
    own = IndexAction(group, "C", ORDERS, name="colour order")
    values = {}
    for name, model in (("grey", grey_first()), ("red", red_first())):
        result = measure(save(tmp_path, model, f"{name}.onnx"), IMAGES, action=own, **RUN)
        values[name] = {r["measure"]: r["value"] for r in result["measurements"]}
        assert any("channel-cos" in note and "colour order" in note for note in result["notes"])
        assert result["group"]["order"] == 6
    assert set(values["grey"]) == {"latent-l2", "latent-cos", "softmax-kl"}
    assert values["grey"]["latent-l2"] < 1e-5
    assert values["red"]["latent-l2"] > 0.1
    assert values["red"]["softmax-kl"] > 1e3 * max(values["grey"]["softmax-kl"], 1e-12)


def test_it_is_the_definition_worked_out_by_hand(tmp_path):
    group = colours()
    path = save(tmp_path, red_first())
    own = IndexAction(group, "C", ORDERS)
    result = measure(path, IMAGES, action=own, measures=["output-l2"], **RUN)
    session = onnx_geed.load_model(path)
    from onnxruntime import InferenceSession

    run = InferenceSession(session.proto.SerializeToString())
    drawn = IMAGES[result["data"]["indices"][:5]]
    y = np.stack([run.run(["logits"], {"x": drawn[:, order]})[0] for order in ORDERS], axis=1)
    y = y.astype(np.float64)
    want = np.linalg.norm(y - y.mean(axis=1, keepdims=True), axis=2)
    np.testing.assert_allclose(result["measurements"][0]["deviations"], want, rtol=1e-5)


def test_a_network_that_is_not_equivariant_scores_worse(tmp_path):
    own = FunctionAction(C4, turn, any_size=True)
    worst = []
    for name, model in (
        ("good.onnx", models.c4_equivariant(9)),
        ("bad.onnx", models.c4_disturbed(9)),
    ):
        channels = onnx_geed.load_model(save(tmp_path, model, name)).proto.graph.input[0]
        channels = channels.type.tensor_type.shape.dim[1].dim_value
        images = RNG.random((4, channels, 9, 9)).astype(np.float32)
        result = measure(tmp_path / name, images, action=own, measures=["channel-cos"], samples=4)
        worst.append(max(r["value"] for r in result["measurements"]))
    assert worst[0] < -1 + 1e-5
    assert worst[1] > worst[0] + 1e-3


def test_a_permutation_of_the_output_goes_with_an_action_of_ones_own(tmp_path):
    path = save(tmp_path, models.cyclic_logits(5))
    shape = onnx_geed.load_model(path).proto.graph.input[0].type.tensor_type.shape.dim
    images = RNG.random((4, shape[1].dim_value, 5, 5)).astype(np.float32)
    rows = np.array([np.roll(np.arange(4), k) for k in range(4)])
    values = []
    for table in (rows, rows[[0, 3, 2, 1]]):
        named = onnx_geed.Table(C4.elements, "permutation", table, "given")
        asked = {"measures": ["softmax-kl"], "output_action": {"logits": named}, "samples": 4}
        result = measure(path, images, action=QUARTERS, **asked)
        assert result["measurements"] == measure(path, images, "C4", **asked)["measurements"]
        values.append(result["measurements"][0]["value"])
    assert min(values) < 1e-9 < 1e-4 < max(values)


CLOCKWISE = FunctionAction(C4, lambda g, x: turn(-g, x).copy(), any_size=True)


@pytest.mark.parametrize("group", ["C4", "C8", ""])
@pytest.mark.parametrize(
    ("action", "same"),
    [
        (QUARTERS, True),
        (CLOCKWISE, False),
        # Elements in another order; and columns that go round.
        (
            dataclasses.replace(CLOCKWISE, group=Group("C4", ("e", "r3", "r2", "r1"), C4.table)),
            False,
        ),
        (IndexAction(C4, "W", [np.roll(np.arange(4), k) for k in range(4)]), False),
    ],
)
def test_a_table_in_a_model_is_not_for_what_only_bears_its_group_s_name(
    tmp_path, action, same, group
):
    rows = [np.roll(np.arange(4), k).tolist() for k in range(4)]
    rows = [row for row in rows for _ in range(2 if group == "C8" else 1)]
    elements = ["e", *(f"r{k}" for k in range(1, len(rows)))]
    said = {"group": group} if group else {}
    text = json.dumps({"elements": elements, "permutation": rows, **said})
    model = models.with_metadata(models.cyclic_logits(4), {action_key("logits"): text})
    images = RNG.random((4, 1, 4, 4)).astype(np.float32)
    asked = {"measures": ["softmax-kl"], "samples": 4, "action": action, "input_layout": "NCHW"}
    result = measure(save(tmp_path, model), images, **asked)
    (record,) = result["measurements"]
    unsure = f"is for {group}, and the action that was given is not known to move the input as"
    assert any(unsure in note for note in result["notes"]) == (bool(group) and not same)
    # A table that does not say its group is used by the names of elements, and that is told.
    unsaid = any("does not say its group" in note for note in result["notes"])
    assert unsaid == (not group and not same)
    if same:
        assert record["value"] < 1e-6
    elif group:
        bare = measure(save(tmp_path, models.cyclic_logits(4)), images, **asked)
        assert record["output_action"] == "trivial"
        assert record["value"] == bare["measurements"][0]["value"] > 1e-3


def test_what_a_function_does_to_its_array_stays_its_own(tmp_path):
    def spoil(g, x):
        moved = np.rot90(x, g, axes=(2, 3)).copy()
        x[:] = 7
        return moved

    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    own = FunctionAction(C4, spoil, any_size=True, name="rot90")
    named = measure(path, IMAGES, "C4", **RUN)
    result = measure(path, IMAGES, action=own, **RUN)
    assert result["measurements"] == named["measurements"]


def test_a_grid_action_is_an_action_too_and_its_channels_move_along(tmp_path):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    grid = grid_action(parse_group("C8"), 8, 8)
    named = measure(path, IMAGES, "C8", **RUN)
    result = measure(path, IMAGES, action=grid, **RUN)
    assert result["measurements"] == named["measurements"]
    swapped = onnx_geed.Table(("e", "flip"), "channels", [[0, 1, 2], [2, 1, 0]], "given")
    both = onnx_geed.with_channels(grid_action(parse_group("flip-h"), 8, 8), swapped)
    by_hand = FunctionAction(parse_group("flip-h"), lambda g, x: x[:, ::-1, :, ::-1] if g else x)
    asked = ["latent-l2"]
    ours = measure(path, IMAGES, action=both, measures=asked, **RUN)
    theirs = measure(path, IMAGES, action=by_hand, measures=asked, **RUN)
    assert ours["measurements"] == theirs["measurements"]
    plain = measure(path, IMAGES, "flip-h", measures=asked, **RUN)
    assert ours["measurements"] != plain["measurements"]


def test_resampled_elements_need_not_compose_and_form_no_exact_subgroup(tmp_path):
    def blur(g, x):
        return (x + turn(g, x)) / 2 if g % 2 else turn(g, x)

    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    kinds = ["index", "resampled"] * 2
    own = FunctionAction(C4, blur, exactness=kinds, any_size=True)
    result = measure(path, IMAGES, action=own, **RUN)
    assert result["group"]["exact"] == [True, False, True, False]
    assert all(r["exact"] is not None for r in result["measurements"])
    with pytest.raises(GeedError, match="is not an action of C4: φ"):
        measure(path, IMAGES, action=dataclasses.replace(own, exactness="index"), **RUN)
    sine = np.sin(2 * np.pi / 3 * np.arange(3)).astype(np.float32)
    cosine = np.cos(2 * np.pi / 3 * np.arange(3)).astype(np.float32)

    def rotate(g, x):
        out = x.copy()
        out[:, 0] = cosine[g] * x[:, 0] - sine[g] * x[:, 1]
        out[:, 1] = sine[g] * x[:, 0] + cosine[g] * x[:, 1]
        return out

    # To rounding, and so an action of matrices, but none of indices.
    matrix = FunctionAction(cyclic(3), rotate, exactness="matrix")
    assert measure(path, IMAGES, action=matrix, **RUN)["group"]["exact"] == [True] * 3
    with pytest.raises(GeedError, match=r"is not an action of C3.*differ by up to"):
        measure(path, IMAGES, action=dataclasses.replace(matrix, exactness="index"), **RUN)


def reversed_turns(g, x):
    return np.rot90(x, [0, 1, 3, 2][g], axes=(-2, -1))


def never_home(g, x):
    return np.rot90(x, g + 1, axes=(-2, -1))


def half_as_much(g, x):
    return turn(g, x)[..., ::2]


def in_double(g, x):
    return turn(g, x).astype(np.float64)


def as_a_list(g, x):
    return turn(g, x).tolist()


def divided(g, x):
    return turn(g, x) / np.float32(0) if g == 2 else turn(g, x)


def lost(g, x):
    return {0: x, 1: x}[g]


def nothing(g, x):
    return x


WRONG = [
    (FunctionAction(C4, reversed_turns), r"of C4: φ\(r1, φ\(r1, x\)\) is not φ\(r2, x\)"),
    (FunctionAction(C4, never_home), "its identity e changes a tensor"),
    (FunctionAction(C4, half_as_much), r"element e must keep shape.*float32 \(1, 3, 8, 4\)"),
    (FunctionAction(C4, in_double), r"element e must keep shape and dtype.*float64"),
    (FunctionAction(C4, as_a_list), "element e must keep shape and dtype"),
    (FunctionAction(C4, lost), r"element r2 fails on an array of \(1, 3, 8, 8\): KeyError: 2"),
    (FunctionAction(C4, nothing), "does not move this input: r1, r2, r3 leave every sample"),
    (FunctionAction(cyclic(1), nothing), "holds only the identity"),
    (FunctionAction(C4, turn, layout="NHW"), "acts on layout NHW, the tensor is NCHW"),
    (onnx_geed.Trivial(C4), "acts on layout NK, the tensor is NCHW"),
    (grid_action(C4, 5, 5), "is for grids of 5×5, the tensor's is 8×8"),
    (IndexAction(C4, "C", [[0, 1, 2, 3]] * 4), "its table has 4 entries, axes C are 3"),
    ("C4", "has the group that acts as its group"),
    (C4, "has the group that acts as its group"),
]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("own", "message"), [*WRONG, (FunctionAction(C4, divided), "NaN")])
def test_what_is_no_action_is_refused_in_one_line(own, message, tmp_path):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    with pytest.raises(GeedError, match=message) as caught:
        measure(path, IMAGES, action=own, **RUN)
    assert "\n" not in str(caught.value)


def test_the_tables_direction_counts_where_a_group_is_not_abelian(tmp_path):
    path = save(tmp_path, red_first())
    turned = ORDERS.argsort(axis=1)  # the inverse of every row
    with pytest.raises(GeedError, match="is not an action of colours"):
        measure(path, IMAGES, action=IndexAction(colours(), "C", turned), **RUN)


def test_an_object_without_the_parts_is_told_which(tmp_path):
    class Half:
        group = C4
        name = "half"

        def apply(self, g, y):
            return y

    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    with pytest.raises(GeedError, match="has no layout, exact, kernel_of_action; an action has"):
        measure(path, IMAGES, action=Half(), **RUN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FunctionAction(C4, "turn"), "move is a function"),
        (lambda: FunctionAction("C4", turn), "parse_group"),
        (lambda: FunctionAction(C4, turn, layout="CHW"), "no layout is called"),
        (lambda: FunctionAction(C4, turn, layout=3), "its layout is a text"),
        (lambda: FunctionAction(C4, turn, exactness="exact"), "index, matrix or resampled"),
        (lambda: FunctionAction(C4, turn, exactness=["index"] * 3), "of each of the 4 elements"),
        (lambda: IndexAction(C4, "D", [[0]] * 4), "axes 'D' are not in layout NCHW"),
        (lambda: IndexAction(C4, "", [[0]] * 4), "axes '' are not"),
        (lambda: IndexAction(C4, "C", [[0, 1, 1]] * 4), "must hold each of 0 to 2 once"),
        (lambda: IndexAction(C4, "C", [[0, 1, 2]] * 3), r"whole numbers of shape \(4, k\)"),
        (lambda: IndexAction(C4, "C", [[0.0, 1.0]] * 4), "float64"),
        (lambda: IndexAction(C4, "C", [[0], [0, 1], [0], [0]]), "differ in length"),
        (lambda: FunctionAction(C4, turn).kernel_of_action(), "depends on the tensor"),
    ],
)
def test_wrong_parts_are_refused_where_they_are_given(make, message):
    with pytest.raises(GeedError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_kernel_of_the_action_is_worked_out_on_the_very_tensor():
    group = product(cyclic(2), cyclic(2))
    own = FunctionAction(group, lambda g, x: np.roll(x, 4 * (g // 2), axis=2), any_size=True)
    placed = own.at(parse_layout("NCHW"), (3, 8, 5))
    assert placed.kernel_of_action() == (0, 1)
    assert placed.exact() == (Exactness.INDEX,) * 4
    assert own.at(parse_layout("NCHW"), (3, 4, 5)).kernel_of_action() == (0, 1, 2, 3)
    assert own.at(parse_layout("NHWC"), (8, 5, 3)).kernel_of_action() == (0, 1)
    assert own.at(parse_layout("NCT"), (3, 8)) is None


def test_group_and_action_must_agree(tmp_path):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    with pytest.raises(GeedError, match="group C8 is not the group of the action, C4"):
        measure(path, IMAGES, "C8", action=QUARTERS, **RUN)
    with pytest.raises(GeedError, match="no group is given"):
        measure(path, IMAGES, **RUN)
    assert measure(path, IMAGES, "C4", action=QUARTERS, measures=["latent-l2"], **RUN)


def test_what_cannot_keep_a_function_says_so(tmp_path):
    path = save(tmp_path, models.random_cnn(0, (8, 8)))
    with pytest.raises(GeedError, match="--engine graph: the action 'rot90' is a function"):
        measure(path, IMAGES, action=QUARTERS, engine="graph", **RUN)
    with pytest.raises(GeedError, match=r"works only in onnx_geed\.measure"):
        onnx_geed.write_cache(path, IMAGES, "C4", tmp_path / "a.geed", action=QUARTERS, **RUN)
    with pytest.raises(GeedError, match=r"works only in onnx_geed\.measure"):
        onnx_geed.compile_measurement(path, "C4", tmp_path / "m.onnx", action=QUARTERS)
    assert not (tmp_path / "m.onnx").exists()


def test_a_layer_that_it_does_not_move_is_refused_by_name(tmp_path):
    path = save(tmp_path, red_first())
    own = IndexAction(colours(), "C", ORDERS, name="colour order")
    with pytest.raises(GeedError, match="action 'colour order' does not say how maps of 5 × 8 × 8"):
        measure(path, IMAGES, action=own, measures=["channel-cos@maps"], **RUN)


def test_a_result_is_written_read_reported_and_held_against_a_limit(tmp_path):
    path = save(tmp_path, red_first())
    own = IndexAction(colours(), "C", ORDERS, name="colour order")
    result = measure(path, IMAGES, action=own, untrained=True, references=True, **RUN)
    onnx_geed.write_json(result, tmp_path / "r.json")
    again = onnx_geed.read_result(tmp_path / "r.json")
    np.save(tmp_path / "images.npy", IMAGES)
    onnx_geed.write_report([again], tmp_path / "r.html", data=tmp_path / "images.npy")
    page = (tmp_path / "r.html").read_text()
    assert "gbr" in page
    assert "colours" in page
    onnx_geed.compare(again, again)
    from onnx_geed.testing import assert_equivariant

    with pytest.raises(AssertionError, match="worst element"):
        assert_equivariant(
            path, IMAGES, None, action=own, measure="latent-l2", limit=1e-6, samples=4
        )


def test_pages_draw_no_turned_samples_of_an_action_that_is_not_the_named_one(tmp_path):
    """A group called C4 acts by colours here: no picture may show it turning."""
    path = save(tmp_path, red_first())
    two = parse_group("C2")
    own = IndexAction(two, "C", [[0, 1, 2], [2, 1, 0]], name="colour order")
    np.save(tmp_path / "images.npy", IMAGES)
    sizes = []
    for name, asked in (("own", {"action": own}), ("named", {"group": "C2"})):
        result = measure(path, tmp_path / "images.npy", **asked, measures=["latent-l2"], **RUN)
        page = tmp_path / f"{name}.html"
        onnx_geed.write_report([result], page, data=tmp_path / "images.npy")
        sizes.append(page.read_text().count('src="data:image/'))
    assert sizes[0] == 0 < sizes[1]


def test_a_model_of_volumes_takes_an_action_of_its_letters(tmp_path):
    """Depth, height and width: a quarter turn about an axis that no named group turns about."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 1, 3, 3, 3))
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 6),
        onnx.helper.make_node("Relu", ["c"], ["maps"]),
        onnx.helper.make_node("ReduceMax", ["maps"], ["latent"], axes=[2, 3, 4], keepdims=0),
    ]
    model = build(
        nodes,
        [weights("w", kernel)],
        [("x", FLOAT, ["N", 1, 6, 6, 6])],
        [("latent", FLOAT, ["N", 2])],
    )
    symmetric = sum(np.rot90(kernel, k, axes=(2, 3)) for k in range(4))
    good = onnx.ModelProto()
    good.CopyFrom(model)
    good.graph.initializer[0].CopyFrom(weights("w", symmetric))
    volumes = rng.random((4, 1, 6, 6, 6)).astype(np.float32)
    own = FunctionAction(C4, lambda g, x: np.rot90(x, g, axes=(2, 3)), layout="NCDHW")
    values = []
    for name, proto in (("good", good), ("bad", model)):
        path = save(tmp_path, proto, f"{name}.onnx")
        result = measure(
            path,
            volumes,
            action=own,
            input_layout="NCDHW",
            measures=["output-l2"],
            samples=4,
        )
        values.append(result["measurements"][0]["value"])
    assert values[0] < 1e-4 < 1e-2 < values[1]


def test_both_axes_of_a_letter_that_stands_twice_move(tmp_path):
    """Powers of a matrix of pairs turn along with its points; its first rows alone do not."""
    orders = np.array([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]])
    path = save(
        tmp_path,
        build(
            [node("MatMul", "x x", "y"), node("Mul", "y first", "z")],
            [weights("first", np.arange(4.0)[:, None])],
            [("x", FLOAT, ["N", 4, 4])],
            [("y", FLOAT, ["N", 4, 4]), ("z", FLOAT, ["N", 4, 4])],
        ),
    )
    pairs = RNG.normal(size=(6, 4, 4)).astype(np.float32)
    asked = {"measures": ["unexplained@y", "unexplained@z"], "input_layout": "NPP"}
    asked |= {"layout": {"y": "NPP", "z": "NPP"}, "output_kind": "embedding", "output": "y"}

    def both(g, x):
        return np.ascontiguousarray(x[:, orders[g]][:, :, orders[g]])

    def net(x):
        return {"y": x @ x, "z": x @ x * np.arange(4, dtype=np.float32)[:, None]}

    values = {}
    for name, own in {
        "table": IndexAction(C4, "P", orders, layout="NPP"),
        "function": FunctionAction(C4, both, layout="NPP", any_size=True),
    }.items():
        for where in (path, net):
            y, z = measure(where, pairs, action=own, **asked, **RUN)["measurements"]
            assert y["value"] == pytest.approx(0, abs=1e-10)
            assert z["value"] > 0.05
            values[name, where] = z["value"]
    assert len(values) == 4
    assert list(values.values()) == pytest.approx([z["value"]] * 4, rel=1e-5)


def test_a_table_moves_hidden_pairs_of_the_points_that_it_moves(tmp_path):
    """A Gram matrix of points has two axes of them."""
    orders = np.array([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]])
    own = IndexAction(C4, "P", orders, layout="NPC")
    y = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    gram = y @ y.transpose(0, 2, 1)
    on_pairs = own.at(parse_layout("NPP"), (4, 4))
    for g, order in enumerate(orders):
        assert np.array_equal(own.apply(g, y), y[:, order])
        assert np.array_equal(on_pairs.apply(g, gram), gram[:, order][:, :, order])
    assert own.at(parse_layout("NPP"), (4, 5)) is None
    with pytest.raises(GeedError, match="numbered together, and P stands twice in layout NPPX"):
        IndexAction(C4, "PX", np.tile(np.arange(8), (4, 1)), layout="NPPX")
