"""Vectors whose axis the group moves: classes change places, and latents are not asked to stay."""

import models
import numpy as np
import onnxruntime as ort
import pytest
from models import node

import onnx_geed as geed
from onnx_geed import GeedError, measure
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.groups import parse_layout, permutation_of, place

FLOAT = 1
RUN = {"samples": 6, "norm_samples": 8, "provider": "cpu", "seed": 3}
SCORES = ["softmax-kl", "flip-rate", "unexplained"]


def means(tmp_path, shape, axes):
    """Means of x³ over some axes: they move exactly as x does, by symmetry of a mean."""
    nodes = [node("Mul", "x x", "square"), node("Mul", "square x", "cube")]
    nodes.append(node("ReduceMean", "cube", "out", axes=axes, keepdims=0))
    left = [n for axis, n in enumerate(shape, start=1) if axis not in axes]
    model = models.build(nodes, [], [("x", FLOAT, ["N", *shape])], [("out", FLOAT, ["N", *left])])
    for opset in model.opset_import:
        opset.version = 17
    return models.save(model, tmp_path / "means.onnx")


def samples(*shape):
    return np.random.default_rng(5).normal(size=(8, *shape)).astype(np.float32)


# Group, layout of the input, lengths, axes of the mean, layout of what is left.
MOVED = [
    ("flip-h", "NCHW", (1, 4, 6), [1, 2], "NW"),
    ("flip-v", "NCHW", (1, 6, 4), [1, 3], "NH"),
    ("shift3x2", "NCHW", (1, 6, 4), [1, 3], "NH"),
    ("reverse", "NCT", (2, 6), [1], "NT"),
    ("S3", "NPC", (3, 2), [2], "NP"),
    ("S5~4", "NPC", (5, 2), [2], "NP"),
    ("revcomp", "NTB", (6, 4), [1], "NB"),
    ("C2-x", "NCDHW", (1, 6, 4, 4), [1, 3, 4], "ND"),
    ("C2-x", "NCDHW", (1, 4, 6, 4), [1, 2, 4], "NH"),
    ("C2-z", "NCDHW", (1, 4, 4, 6), [1, 2, 3], "NW"),
]


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize(("group", "layout", "shape", "axes", "left"), MOVED)
def test_classes_that_lie_along_a_moving_axis_change_places(
    tmp_path, group, layout, shape, axes, left, engine
):
    path, x = means(tmp_path, shape, axes), samples(*shape)
    options = {"input_layout": layout, "output_kind": "logits", "engine": engine, **RUN}
    if "~" in group:
        options["engine"] = "kernels"
    result = measure(path, x, group, measures=SCORES, layout={"out": left}, **options)
    for record in result["measurements"]:
        assert record["layout"] == left
        assert record["value"] == pytest.approx(0, abs=1e-9), record["measure"]
    # Classes that stay are stated, and most of the largest scores are others then.
    result = measure(path, x, group, measures=SCORES[:2], layout={"out": "NK"}, **options)
    assert min(record["value"] for record in result["measurements"]) > 0.02


def test_an_axis_that_the_group_leaves_in_place_holds_classes_that_stay(tmp_path):
    """Up and down do not move columns, whose flips one counts by hand."""
    path, x = means(tmp_path, (1, 4, 6), [1, 2]), samples(1, 4, 6)
    options = {"output_kind": "logits", "layout": {"out": "NW"}, **RUN}
    for group, action in (("flip-v", "trivial"), ("flip-h", "permutation")):
        records = measure(path, x, group, measures=SCORES[:2], **options)["measurements"]
        assert {record["output_action"] for record in records} == {action}
        assert [record["value"] for record in records] == pytest.approx([0, 0], abs=1e-9)


def test_caches_metrics_and_compiled_models_move_classes_too(tmp_path):
    path, x = means(tmp_path, (1, 4, 6), [1, 2]), samples(1, 4, 6)
    options = {"measures": SCORES, "output_kind": "logits", "layout": {"out": "NW"}}
    write_cache(path, x, "flip-h", tmp_path / "a.geed", **options, **RUN)
    metric = geed.EquivarianceMetric("flip-h", **options, output="out")
    metric.update(lambda batch: {"out": (batch**3).mean(axis=(1, 2))}, x[:5])
    metric.update(lambda batch: {"out": (batch**3).mean(axis=(1, 2))}, x[5:])
    cached = measure_cache(tmp_path / "a.geed")["measurements"]
    for values in ([record["value"] for record in cached], [*metric.compute().values()]):
        assert values == pytest.approx([0, 0, 0], abs=1e-9)
    compiled = tmp_path / "c.onnx"
    geed.compile_measurement(path, "flip-h", compiled, **options)
    session = ort.InferenceSession(compiled, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True))
    scores = [found[name] for name in names if name.startswith("deviation/")]
    assert len(scores) == 3
    assert max(float(np.abs(values).max()) for values in scores) < 1e-6


def test_a_latent_that_moves_is_left_out_with_a_note_unless_it_is_asked_for(tmp_path):
    path, x = means(tmp_path, (1, 4, 6), [1, 2]), samples(1, 4, 6)
    stated = {"layout": {"out": "NW"}, "output_kind": "embedding", **RUN}
    result = measure(path, x, "flip-h", **stated)
    assert {record["measure"] for record in result["measurements"]} == {"channel-cos"}
    for name in ("latent-l2", "latent-cos"):
        told = [note for note in result["notes"] if note.startswith(f"left out: {name}@out: ")]
        assert len(told) == 1
        assert "NW moves along" in told[0]
        assert "unexplained@out" in told[0]
    # Where the letters stay, nothing is left out.
    still = measure(path, x, "flip-v", **stated)["measurements"]
    assert {record["measure"] for record in still} >= {"latent-l2", "latent-cos"}
    # Asked for, it is the distance from the mean over the orbit, as of any vector.
    rows = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    drawn = np.random.default_rng(3).permutation(len(rows))[:6]
    y = (x[drawn].astype(np.float64) ** 3).mean(axis=(1, 2))
    wanted = np.linalg.norm((y - y[:, ::-1]) / 2, axis=1).mean()
    for asked in ("latent-l2", "latent-l2@out"):
        result = measure(path, x, "flip-h", measures=[asked], **stated)
        (record,) = result["measurements"]
        assert (record["output_action"], record["layout"]) == ("trivial", "NK")
        assert record["unnormalised"] == pytest.approx(wanted, rel=1e-5)
        assert any(note.startswith("latent-l2@out: compares vectors") for note in result["notes"])


def test_means_over_components_of_vectors_are_no_latent_that_stays(tmp_path):
    """Of (N, C, X), channels are not all that is left of a vector that turns."""
    path, x = means(tmp_path, (5, 4, 3), [1]), samples(5, 4, 3)
    stated = {"input_layout": "NPCX", "latent": "out", "output_kind": "embedding", **RUN}
    result = measure(path, x, "O", layout={"out": "NCX"}, **stated)
    assert all(not record["measure"].startswith("latent") for record in result["measurements"])
    assert any("left out: latent-l2@out: compares vectors" in note for note in result["notes"])
    # Points change places under their mean, which stays.
    stated["input_layout"] = "NPCK"
    result = measure(path, x, "S5~4", layout={"out": "NCK", "cube": "NPCK"}, **stated)
    assert not any("compares vectors" in note for note in result["notes"])


@pytest.mark.parametrize("group", ["Oh", "C4-z", "SO3~24"])
def test_components_of_a_vector_are_no_classes(tmp_path, group):
    path, x = means(tmp_path, (5, 3), [1]), samples(5, 3)
    stated = {"input_layout": "NPX", "layout": {"out": "NX"}, "output_kind": "logits", **RUN}
    for name in ("flip-rate", "softmax-kl@out"):
        with pytest.raises(GeedError, match=r"mixes entries along X of NX.*--layout out=NK"):
            measure(path, x, group, measures=[name], **stated)
    result = measure(path, x, group, **stated)
    assert all(record["measure"] == "channel-cos" for record in result["measurements"])
    assert any(note.startswith("left out: softmax-kl@out: ") for note in result["notes"])
    # What does not turn them, leaves classes.
    records = measure(path, x, "S5~3", measures=["flip-rate"], **stated)["measurements"]
    assert records[0]["value"] == 0


def test_columns_of_which_it_is_not_known_how_they_turn_are_no_classes(tmp_path):
    path, x = means(tmp_path, (1, 6, 6), [1, 2]), samples(1, 6, 6)
    stated = {"layout": {"out": "NW"}, **RUN}
    with pytest.raises(GeedError, match=r"flip-rate@out: only W is left of HW"):
        measure(path, x, "C4", measures=["flip-rate"], output_kind="logits", **stated)
    result = measure(path, x, "C4", output_kind="embedding", **stated)
    assert any(
        note.startswith("left out: latent-l2@out: only W is left of HW") for note in result["notes"]
    )
    # Whether they stay can be asked of any vector.
    records = measure(path, x, "C4", measures=["latent-l2@out"], **stated)["measurements"]
    assert records[0]["value"] > 0


def test_an_action_of_ones_own_moves_classes_as_it_moves_their_axis(tmp_path):
    path, x = means(tmp_path, (2, 6), [1]), samples(2, 6)
    table = np.array([np.arange(6), np.arange(6)[::-1]])
    action = geed.IndexAction(geed.parse_group("flip-h"), "T", table, "NCT")
    stated = {"input_layout": "NCT", "layout": {"out": "NT"}, "output_kind": "logits", **RUN}
    result = measure(path, x, action=action, measures=SCORES, **stated)
    for record in result["measurements"]:
        assert record["value"] == pytest.approx(0, abs=1e-9), record["measure"]
    stated["layout"] = {"out": "NK"}
    result = measure(path, x, action=action, measures=SCORES[:2], **stated)
    assert min(record["value"] for record in result["measurements"]) > 0.02


def test_a_table_for_other_axes_leaves_classes_where_they_are(tmp_path):
    """Colours that change places move no columns; a function may move them, and does not say."""
    path, x = means(tmp_path, (3, 4, 6), [1, 2]), samples(3, 4, 6)
    hue, turns = geed.parse_group("hue3"), np.array([np.roll(range(3), g) for g in range(3)])
    stated = {"layout": {"out": "NW"}, "output_kind": "logits", "measures": SCORES[:2], **RUN}
    result = measure(path, x, action=geed.IndexAction(hue, "C", turns, "NCHW"), **stated)
    named = measure(path, x, "hue3", **stated)
    for record, other in zip(result["measurements"], named["measurements"], strict=True):
        assert record["output_action"] == other["output_action"] == "trivial"
    assert result["measurements"][0]["value"] == pytest.approx(0, abs=1e-9)
    own = geed.FunctionAction(hue, lambda g, rows: np.roll(rows, g, axis=1), any_size=True)
    with pytest.raises(GeedError, match=r"does not say how .* move.*--layout out=NK"):
        measure(path, x, action=own, **stated)


def test_a_function_that_looks_at_the_values_permutes_no_classes():
    """It reverses what is small: an involution, which leaves numbered entries alone."""

    def move(g, rows):
        return rows[..., ::-1].copy() if g and rows.max() < 4.5 else rows

    group = geed.parse_group("flip-h")
    own = place(geed.FunctionAction(group, move, parse_layout("NT")), parse_layout("NT"), (6,))
    with pytest.raises(GeedError, match="mixes entries along T of NT"):
        permutation_of(own)


def test_an_action_of_ones_own_that_mixes_entries_leaves_no_classes(tmp_path):
    class Negative:
        group, layout, name = geed.parse_group("flip-h"), parse_layout("NCT"), "negative"

        def exact(self):
            return ("index", "index")

        def kernel_of_action(self):
            return (0,)

        def apply(self, g, y):
            return -y if g else y

        def at(self, layout, shape):
            own = Negative()
            own.layout = layout
            return own

    path, x = means(tmp_path, (2, 6), [1]), samples(2, 6)
    stated = {"input_layout": "NCT", "layout": {"out": "NT"}, "output_kind": "logits", **RUN}
    with pytest.raises(GeedError, match="flip-h mixes entries along T of NT"):
        measure(path, x, action=Negative(), measures=["flip-rate"], **stated)


def test_vectors_under_shifts_are_those_that_stay():
    """Components are not turned, so they are any entries, in any number, and compare as such."""
    x = samples(2, 6, 6)
    weights = np.random.default_rng(1).normal(size=(72, 3)) * 0.2

    def model(batch):
        return np.tanh(batch.reshape(len(batch), -1).astype(np.float64) @ weights + 0.1)

    asked = {"input_layout": "NXHW", "output_kind": "embedding", "measures": ["unexplained@out"]}
    told = {k: v for k, v in RUN.items() if k != "provider"}
    vectors, entries = (
        measure(
            lambda batch: {"out": model(batch).astype(np.float32)},
            *(x, "shift2x2"),
            layout={"out": layout},
            **asked,
            **told,
        )
        for layout in ("NX", "NK")
    )
    (record,) = vectors["measurements"]
    assert record["output_action"] == "trivial"
    chosen = x[vectors["data"]["indices"]]
    places = [(3 * i, 3 * j) for i in range(2) for j in range(2)]
    y = np.stack([model(np.roll(chosen[:6], p, (2, 3))) for p in places], axis=1)
    squares = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=2)
    spread = model(chosen).var(axis=0, ddof=1).sum()
    assert record["value"] == pytest.approx(squares.mean() / spread, rel=1e-5)
    (compared,) = geed.compare(vectors, entries)["measurements"]
    assert compared["difference"] == 0


@pytest.mark.parametrize("kind", [None, "embedding", "logits"])
def test_of_a_known_layout_no_other_is_proposed(tmp_path, kind):
    """Points moved with the picture, 1.0: stated as (N, P, C) as proposed, they seemed not to."""
    nodes = [
        node("ReduceMean", "x", "centre", axes=[1], keepdims=1),
        node("Sub", "x centre", "apart"),
        node("Mul", "apart apart", "squares"),
        node("ReduceSum", "squares last", "far", keepdims=1),
        node("Mul", "apart far", "out"),
    ]
    inputs, outputs = [("x", FLOAT, ["N", 5, 3])], [("out", FLOAT, ["N", 5, 3])]
    model = models.build(nodes, [models.integers("last", [2])], inputs, outputs)
    path = models.save(model, tmp_path / "m.onnx")
    options = {"input_layout": {"x": "NPX"}, "layout": {"out": "NPX"}, **RUN}
    result = measure(path, samples(5, 3), "O", output_kind=kind, **options)
    (record,) = [m for m in result["measurements"] if m["layer"] == "out"]
    assert record["measure"] == "channel-cos"
    assert record["value"] == pytest.approx(-1, abs=1e-6)
    (note,) = [n for n in result["notes"] if "softmax-kl@out" in n]
    assert note.endswith("at each place of the other axes, but out is NPX; its shape is (N, 5, 3)")
    assert "--layout" not in note


def test_of_what_is_no_scores_no_layout_is_proposed(tmp_path):
    """The centre of mass of each channel, as of key points: (N, 2, 2), axes unknown."""
    rows = np.linspace(-1, 1, 4)
    nodes = [
        node("Mul", "x y_of", "a"),
        node("Mul", "x x_of", "b"),
        node("ReduceMean", "a", "my", axes=[2, 3], keepdims=0),
        node("ReduceMean", "b", "mx", axes=[2, 3], keepdims=0),
        node("Unsqueeze", "my end", "uy"),
        node("Unsqueeze", "mx end", "ux"),
        node("Concat", "uy ux", "out", axis=2),
    ]
    held = [
        models.weights("y_of", np.broadcast_to(rows[:, None], (4, 4))),
        models.weights("x_of", np.broadcast_to(rows, (4, 4))),
        models.integers("end", [2]),
    ]
    inputs, outputs = [("x", FLOAT, ["N", 2, 4, 4])], [("out", FLOAT, ["N", 2, 2])]
    model = models.build(nodes, held, inputs, outputs)
    for opset in model.opset_import:
        opset.version = 17
    path = models.save(model, tmp_path / "m.onnx")
    with pytest.raises(GeedError) as caught:
        measure(path, samples(2, 4, 4), "C4", measures=["softmax-kl@out"], **RUN)
    assert "the output is embedding, not class scores" in str(caught.value)
    assert "--layout" not in str(caught.value)
