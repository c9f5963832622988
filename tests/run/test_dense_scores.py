"""mIoU and foreground of class scores at places: slow loops, known answers, all routes."""

import json
import math
import re

import models
import naive_letters
import naive_places as twin
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from running import images, orbits
from test_graph_engine import both

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.groups import parse_group
from onnx_geed.measures import (
    Known,
    Layer,
    Request,
    at_places,
    count_places,
    make_plan,
    measured_at_places,
    view,
)
from onnx_geed.report import table, write_report
from onnx_geed.report.words import overlap_words
from onnx_geed.results import overlap_part

BOTH = ["softmax-kl", "flip-rate"]
OPTIONS = {"samples": 5, "norm_samples": 9, "seed": 3, "provider": "cpu", "output_kind": "logits"}


def measured(tmp_path, model, data, group, **options):
    path = models.save(model, tmp_path / "model.onnx")
    wanted = {"measures": BOTH, **OPTIONS, **options}
    result = geed.measure(path, data, group, **wanted)
    return {record["measure"]: record for record in result["measurements"]}


def labels_for(data, classes, size=8, seed=1):
    labels = np.random.default_rng(seed).integers(0, classes, (len(data), size, size))
    labels[:, 0] = 255
    labels[:, 1, 0] = -1
    return labels


# ------------------------------------------------------------------------------------------------
# Slow loops
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    ("group", "classes"), [("C4", 3), ("C8", 3), ("C8", 1), ("flip-h", 3), ("shift2x2", 2)]
)
def test_overlap_and_foreground_are_those_of_slow_loops(tmp_path, group, classes, labelled):
    model, data = models.dense_scores(classes=classes, symmetric=False), images((1, 8, 8), 12)
    count = max(2, classes)
    given = labels_for(data, count) if labelled else None
    records = measured(
        tmp_path, model, data, group, background=1, **({"labels": given} if labelled else {})
    )
    drawn = np.random.default_rng(3).permutation(12)[:5]
    (scores,) = orbits(model, group, data[drawn], ["z"], None)
    own = None if given is None else given[drawn]
    names = naive_letters.elements(group)
    for name, m in zip(BOTH, (twin.kl, twin.flip), strict=True):
        record = records[name]
        rows = np.array(twin.foreground(scores, group, "CHW", 1, m, own))
        skipped = 0 if name == "softmax-kl" else 1
        part = record["foreground"]
        rows = rows[:, skipped:]
        assert part["value"] == pytest.approx(rows.mean(), rel=1e-4)
        got = [part["per_element"][g] for g in names[skipped:]]
        np.testing.assert_allclose(got, rows.mean(axis=0), rtol=1e-4, atol=1e-7)
        assert (part["samples"], part["background"]) == (5, 1)
        assert part["by"] == ("labels" if labelled else "prediction")
        assert part["ci95"][0] < part["value"] < part["ci95"][1]
        assert part["value"] != pytest.approx(record["value"], rel=1e-3)
        overlap = record["miou"]
        assert overlap["value"] == pytest.approx(twin.miou(scores, group, "CHW"))
        assert overlap["value"] < 0.9, "a model that is not equivariant must score worse"
        for g in range(1, len(names)):
            found = list(twin.ious(scores, group, "CHW", g).values())
            assert overlap["per_element"][names[g]] == pytest.approx(twin.mean(found))
        if not labelled:
            assert overlap["labels"] is None
            continue
        part = overlap["labels"]
        assert part["value"] == pytest.approx(twin.miou(scores, group, "CHW", own))
        unmoved = twin.ious(scores, group, "CHW", 0, own)
        assert part["unmoved"] == pytest.approx(twin.mean(list(unmoved.values())))
        assert part["per_class_unmoved"] == pytest.approx({str(c): v for c, v in unmoved.items()})
        assert part["labelled"] == pytest.approx(55 / 64)
        assert any("14.1 % of places have no label" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("group", "layout", "shape"),
    [
        ("D8", "NHWC", (8, 8, 3)),
        ("C3", "NCHW", (2, 6, 5)),
        ("S4", "NPC", (4, 5)),
        ("S4", "NCP", (3, 4)),
        ("S3", "NPPC", (3, 3, 4)),
        ("reverse", "NTC", (9, 4)),
        ("C4-z", "NCDHW", (3, 4, 4, 4)),
        ("C4", "NPC", (4, 5)),
        ("C4*S3", "NPHWC", (3, 4, 4, 2)),
    ],
)
def test_places_of_any_axes_are_counted_as_slow_loops_count(group, layout, shape):
    rng = np.random.default_rng(sum(shape))
    order, letters = parse_group(group).order, layout[1:]
    y = rng.normal(size=(2, order, *shape)).astype(np.float32)
    layer = Layer("y", shape, layout, ("output",))
    plan = make_plan(
        parse_group(group),
        [(Request("flip-rate", "y", asked=True), layer)],
        input_exact=[True] * order,
        interpolation="bilinear",
        support="full",
        kinds={"y": "logits"},
        tables={},
    )
    (measure,) = plan.measures
    axis = letters.index("C")
    count = shape[axis]
    labels = rng.integers(0, count, (2, *np.delete(shape, axis)))
    wide = np.repeat(np.expand_dims(labels, 1), count, 1).astype(np.float32)
    known = Known(at_places(measure, wide).astype(np.int64))
    _, values, classes = measured_at_places(measure, view(layer, measure, y))
    counts = count_places(measure, values, classes, count, known)
    part = overlap_part(counts.overlaps, counts.right, parse_group(group).elements)
    assert part["value"] == pytest.approx(twin.miou(y, group, letters))
    assert part["labels"]["value"] == pytest.approx(twin.miou(y, group, letters, labels))


@pytest.mark.parametrize("support", ["full", "disk"])
@pytest.mark.parametrize("steps", [(2.5, -3.0), (1.0,)])
def test_a_note_tells_how_many_places_one_element_leaves_out(tmp_path, support, steps):
    model, data = models.dense_scores(symmetric=False), images((1, 8, 8), 12)
    group = "shift-px:" + ",".join(f"{step:g}" for step in steps)
    records = measured(tmp_path, model, data, group, support=support, background=None)
    row, column = np.mgrid[:8, :8]
    disk = (row - 3.5) ** 2 + (column - 3.5) ** 2 <= 16
    here = disk if support == "disk" else np.ones((8, 8), bool)
    # What stands at x + step comes back to x, if it is inside the grid.
    left = [here & ((column + step < 0) | (column + step > 7)) for step in steps]
    most = max(int(places.sum()) for places in left)
    over = f"the {disk.sum()} of 64 places inside the disk" if support == "disk" else "64 places"
    for record in records.values():
        told = [note for note in record["notes"] if " place" in note][:2]
        assert told[0] == f"mean over {over}, f(gx) moved back to those of x"
        assert told[1].startswith(f"up to {most} places are left out under an element, where")


def test_a_disk_whose_places_all_stay_in_the_grid_leaves_none_out(tmp_path):
    model, data = models.dense_scores(symmetric=False), images((1, 8, 8), 12)
    records = measured(tmp_path, model, data, "C4", support="disk", background=None)
    for record in records.values():
        assert not [note for note in record["notes"] if "left out" in note]


def test_a_table_of_classes_moves_them_back(tmp_path):
    model, data = models.dense_scores(symmetric=False), images((1, 8, 8), 12)
    swap = [[0, 1, 2], [1, 0, 2], [0, 1, 2], [1, 0, 2]]
    given = geed.Table(naive_letters.elements("C4"), "permutation", swap, "given")
    labels = labels_for(data, 3)
    record = measured(tmp_path, model, data, "C4", output_action={"z": given}, labels=labels)
    drawn = np.random.default_rng(3).permutation(12)[:5]
    (scores,) = orbits(model, "C4", data[drawn], ["z"], None)
    for one in record.values():
        part = one["miou"]
        assert part["value"] == pytest.approx(twin.miou(scores, "C4", "CHW", tables=swap))
        wanted = twin.miou(scores, "C4", "CHW", labels[drawn], swap)
        assert part["labels"]["value"] == pytest.approx(wanted)
        assert part["value"] != pytest.approx(twin.miou(scores, "C4", "CHW"))


# ------------------------------------------------------------------------------------------------
# Known answers
# ------------------------------------------------------------------------------------------------


def segmenter(*, ramp=0.0, size=8):
    """Two classes: logits (0, x − 1/2), and a ramp from left to right on what is ink (x > 1/4)."""
    across = np.linspace(-ramp, ramp, size, dtype=np.float32)[None, None, None]
    constants = {
        "half": np.float32(0.5),
        "quarter": np.float32(0.25),
        "ramp": across,
        "zero": np.float32(0),
    }
    nodes = [
        helper.make_node("Sub", ["x", "half"], ["over"]),
        helper.make_node("Greater", ["x", "quarter"], ["is_ink"]),
        helper.make_node("Cast", ["is_ink"], ["ink"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ink", "ramp"], ["tilt"]),
        helper.make_node("Add", ["over", "tilt"], ["second"]),
        helper.make_node("Mul", ["x", "zero"], ["first"]),
        helper.make_node("Concat", ["first", "second"], ["z"], axis=1),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "segmenter",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, size, size])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 2, size, size])],
            [numpy_helper.from_array(np.asarray(a), k) for k, a in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def drawings(count=12, size=8):
    """Squares of ink in the upper left quarter, on nothing."""
    data = np.zeros((count, 1, size, size), dtype=np.float32)
    for k, one in enumerate(data):
        one[0, 1 : 3 + k % 2, 1 : 3 + k % 3] = 0.8
    return data


def test_what_acts_point_by_point_is_perfect(tmp_path):
    data = drawings()
    labels = (data[:, 0] > 0.5).astype(np.uint8)
    records = measured(tmp_path, segmenter(), data, "D4", background=0, labels=labels)
    for record in records.values():
        assert record["miou"]["value"] == record["miou"]["labels"]["value"] == 1
        assert record["miou"]["per_class"] == {"0": 1.0, "1": 1.0}
        assert record["miou"]["labels"]["unmoved"] == 1
        assert record["foreground"]["value"] == pytest.approx(0, abs=1e-12)
        assert record["foreground"]["share"] == pytest.approx(labels_share(labels))


def labels_share(labels):
    return labels[np.random.default_rng(3).permutation(12)[:5]].mean()


def test_background_that_stays_hides_ink_that_does_not(tmp_path):
    # The ramp decides on ink alone: on the left it is for class 0, on the right for class 1.
    data = drawings()
    labels = (data[:, 0] > 0.5).astype(np.int64)
    record = measured(tmp_path, segmenter(ramp=3.0), data, "flip-h", background="0", labels=labels)[
        "flip-rate"
    ]
    assert record["value"] < 0.2 < 0.99 < record["foreground"]["value"]
    assert record["miou"]["per_class"]["0"] > 0.8
    assert record["miou"]["per_class"]["1"] == 0
    good = measured(tmp_path, segmenter(), data, "flip-h", background=0)["flip-rate"]
    assert good["foreground"]["value"] == 0


def test_a_page_of_dense_scores_begins_with_their_overlap(tmp_path):
    data = drawings()
    path = models.save(segmenter(ramp=3.0), tmp_path / "model.onnx")
    labels = (data[:, 0] > 0.5).astype(np.int64)
    wanted = {"measures": BOTH, **OPTIONS, "background": 0, "labels": labels}
    result = geed.measure(path, data, "flip-h", **wanted)
    write_report([result], tmp_path / "page.html")
    words = (tmp_path / "page.html").read_text("utf-8").partition("At a glance")[2]
    first = words.partition("How far off")[0]
    assert "mIoU of moved and unmoved samples" in first
    assert "(1 is perfect)." in first
    # An interval has its own brackets, and no others around them.
    assert "([" not in table(result)


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ("C4", ["moved and unmoved samples", "than that of the unmoved sample", "of the unmoved"]),
        (
            "SO2~4",
            [
                "mIoU of samples at a random element and moved on",
                "than that of the sample at a random element",
                "% of the samples at a random element",
            ],
        ),
    ],
)
def test_where_each_sample_starts_at_an_element_of_its_own_none_is_told_as_unmoved(
    tmp_path, group, told
):
    path = models.save(segmenter(ramp=3.0), tmp_path / "model.onnx")
    result = geed.measure(path, drawings(), group, measures=BOTH, **OPTIONS)
    write_report([result], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    words = page.partition("<body")[2].partition("<script")[0] + table(result)
    words += " ".join(note for record in result["measurements"] for note in record["notes"])
    assert all(text in words for text in told)
    if group != "C4":
        assert not re.search(r"(?<!not )unmoved|before moving", words)
    # Files of other programs may have labels there.
    part = result["measurements"][0]["miou"]
    labels = {"value": 0.25, "unmoved": 0.5}
    other = {**result["measurements"][0], "miou": {**part, "value": 0.75, "labels": labels}}
    last = overlap_words(other, of_sampled=group != "C4").partition("labels ")[2]
    first = "unmoved" if group == "C4" else "at a random element"
    assert last == f"0.5000 {first}, 0.2500 moved"


def test_samples_without_foreground_are_left_out_and_told(tmp_path):
    data = drawings()
    drawn = np.random.default_rng(3).permutation(12)
    data[drawn[1]] = 0
    record = measured(tmp_path, segmenter(ramp=0.6), data, "C4", background=0)["softmax-kl"]
    assert record["foreground"]["samples"] == 4
    assert math.isfinite(record["foreground"]["value"])
    assert any("1 of 5 samples have only places of class 0" in n for n in record["notes"])
    empty = measured(tmp_path, segmenter(), 0 * data, "C4", background=0)["softmax-kl"]
    assert empty["foreground"]["value"] is None is empty["foreground"]["ci95"]
    assert empty["foreground"] | {"per_element": {}} == {
        "value": None, "ci95": None, "per_element": {}, "samples": 0, "share": 0.0,
        "background": 0, "by": "prediction",
    }  # fmt: skip
    assert empty["miou"]["per_class"] == {"0": 1.0}, "a class that nobody has counts for nothing"


def test_padding_is_neither_class_nor_foreground(tmp_path):
    from test_mask import LENGTHS, OPTIONS as SETS, POINTS, network

    own = SETS | {"measures": ["flip-rate@scores"]}
    path = network(tmp_path / "m.onnx", placed=True)
    labels = np.random.default_rng(5).integers(0, 2, (6, 7))
    masked, padded = (
        geed.measure(path, POINTS, "S7~4", labels=labels, background=1, **more, **own)
        for more in (
            {"mask": {"m": LENGTHS}},
            {"feed": {"m": np.ones((6, 7), dtype=np.float32)}},
        )
    )
    (a,), (b,) = masked["measurements"], padded["measurements"]
    assert a["foreground"]["value"] != b["foreground"]["value"]
    real = np.arange(7) < LENGTHS[:, None]
    assert a["foreground"]["share"] == pytest.approx((labels == 0)[real].mean())
    assert b["foreground"]["share"] == pytest.approx((labels == 0).mean())


# ------------------------------------------------------------------------------------------------
# Routes
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["C8", "shift2x2"])
@pytest.mark.parametrize("labelled", [False, True])
def test_the_graph_counts_the_same(tmp_path, group, labelled):
    model, data = models.dense_scores(symmetric=False), images((1, 8, 8), 12)
    more = {"labels": labels_for(data, 3)} if labelled else {"support": "disk"}
    more = more if group == "C8" or labelled else {}
    result = both(
        *(tmp_path, model, data, group),
        measures=BOTH,
        output_kind="logits",
        background=2,
        **more,
    )
    for record in result["measurements"]:
        assert 0 < record["miou"]["value"] < 1
        assert record["foreground"]["value"] > 0


def test_figures_are_the_same_bits_for_any_jobs(tmp_path):
    model, data = models.dense_scores(symmetric=False), images((1, 8, 8), 12)
    labels = labels_for(data, 3)
    whole = measured(tmp_path, model, data, "C8", labels=labels, background=0)
    for batch in (1, 3, 8, 17, 24):
        parts = measured(
            *(tmp_path, model, data, "C8"), labels=labels, background=0, batch_size=batch
        )
        for name, record in whole.items():
            for field in ("miou", "foreground"):
                assert parts[name][field] == record[field], (name, field, batch)


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_keeps_labels_and_takes_another_background(tmp_path, mode):
    model, data = models.dense_scores(symmetric=False), images((1, 8, 8), 12)
    path, labels = models.save(model, tmp_path / "m.onnx"), labels_for(data, 3)
    np.save(tmp_path / "labels.npy", labels)
    options = {**OPTIONS, "measures": BOTH, "labels": tmp_path / "labels.npy"}
    write_cache(path, data, "C8", tmp_path / "a.geed", mode=mode, **options)
    for more in ({}, {"samples": 3}, {"background": 2}, {"background": "1", "samples": 3}):
        live = geed.measure(path, data, "C8", engine="kernels", **{**options, **more})
        cached = measure_cache(tmp_path / "a.geed", **more)
        for a, b in zip(live["measurements"], cached["measurements"], strict=True):
            assert {k: v for k, v in a.items() if k != "references"} == {
                k: v for k, v in b.items() if k != "references"
            }
        told = [
            [note for note in one["notes"] if note.startswith("background is class")]
            for one in (live, cached)
        ]
        assert told[0] == told[1]
        assert len(told[1]) == ("background" not in more)
    done = write_cache(path, data, "C8", tmp_path / "a.geed", mode=mode, **options)
    assert done["complete"]
    other = {**options, "labels": np.roll(labels, 1, axis=2)}
    with pytest.raises(GeedError, match="labels of places"):
        write_cache(path, data, "C8", tmp_path / "a.geed", mode=mode, **other)
    (tmp_path / "a.geed/labels.h5").unlink()
    with pytest.raises(GeedError, match=r"labels\.h5 is missing"):
        measure_cache(tmp_path / "a.geed")


def test_through_a_cache_the_background_goes_along(tmp_path):
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images((1, 8, 8), 12))
    plain = [
        *("measure", str(path), "--data", str(tmp_path / "x.npy"), "--group", "C4"),
        *("--measure", "flip-rate", "--output-kind", "logits", "--samples", "5"),
        *("--background", "1", "--format", "json"),
    ]
    texts = [
        CliRunner().invoke(cli, [*plain, *more])
        for more in ([], ["--cache", str(tmp_path / "a.geed")])
    ]
    one, two = (json.loads(text.stdout)["measurements"][0] for text in texts)
    assert one["foreground"] == two["foreground"]
    assert one["foreground"]["background"] == 1


# ------------------------------------------------------------------------------------------------
# What is taken as background, and what does not fit
# ------------------------------------------------------------------------------------------------


def test_the_most_common_label_is_background_and_said_to_be(tmp_path):
    data = drawings()
    labels = (data[:, 0] > 0.5).astype(np.int64)
    labels[labels == 0] = 1 - labels[labels == 0]  # all ones
    labels[:, :2] = 0
    path = models.save(segmenter(), tmp_path / "model.onnx")
    result = geed.measure(path, data, "C4", measures=BOTH, labels=labels, **OPTIONS)
    for record in result["measurements"]:
        assert record["foreground"]["background"] == 1
        assert record["foreground"]["share"] == 0.25
    assert any("background is class 1, the most common label (75 %" in n for n in result["notes"])


def test_a_class_is_named_as_the_model_names_it(tmp_path):
    model, data = segmenter(), drawings()
    helper.set_model_props(model, {"onnx_geed.classes": '["paper", "ink"]'})
    record = measured(tmp_path, model, data, "C4", background="ink")["flip-rate"]
    assert record["foreground"]["background"] == 1
    with pytest.raises(GeedError, match=r"names paper, ink; give a number from 0 to 1.*paper"):
        measured(tmp_path, model, data, "C4", background="papr")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": 2}, "--background 2: the scores z have the classes 0 to 1"),
        ({"background": -1}, "--background -1: no class has this name"),
        ({"background": "ink"}, "--background ink: no class has this name.*names no classes"),
        (
            {"labels": np.zeros((12, 4, 4), int)},
            "4 × 4 labels for .*z has them at 8 × 8",
        ),
        ({"labels": np.zeros((11, 8, 8), int)}, "11 × 8 × 8 labels for 12 samples"),
        (
            {"labels": np.full((12, 8, 8), 2)},
            "holds 2, but the scores have the classes 0 to 1",
        ),
        ({"labels": np.full((12, 8, 8), 255)}, "no place has a label"),
        (
            {"labels": np.zeros((12, 8, 8), int), "group": "SO2~4"},
            "moves each sample by an el",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, options, message):
    more = {"group": "C4", **options}
    with pytest.raises(GeedError, match=message) as caught:
        measured(tmp_path, segmenter(), drawings(), **more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": 0}, "--background 0: no class scores at places are measured"),
        (
            {"labels": np.zeros((12, 6, 6), int)},
            "6 × 6 labels for each sample, but no class",
        ),
    ],
)
def test_vectors_have_no_background(tmp_path, options, message):
    model = models.random_cnn(4, (6, 6))
    with pytest.raises(GeedError, match=message):
        measured(tmp_path, model, images((3, 6, 6), 12), "C4", **options)


def test_the_table_and_the_page_show_it(tmp_path):
    path = models.save(segmenter(ramp=3.0), tmp_path / "model.onnx")
    data = drawings()
    np.save(tmp_path / "x.npy", data)
    np.save(tmp_path / "y.npy", (data[:, 0] > 0.5).astype(np.uint8))
    asked = [
        *("measure", str(path), "--data", str(tmp_path / "x.npy"), "--group", "C4"),
        *("--labels", str(tmp_path / "y.npy"), "--measure", "flip-rate"),
        *("--output-kind", "logits", "--out", str(tmp_path / "r.json")),
    ]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output
    flat = " ".join(done.stdout.split())
    assert "flip-rate@z: without class 0 (by labels, " in flat
    assert "mIoU of moved and unmoved samples 0." in flat
    assert "with the labels 0." in flat
    page = tmp_path / "r.html"
    done = CliRunner().invoke(cli, ["report", str(tmp_path / "r.json"), "-o", str(page)])
    assert done.exit_code == 0, done.output
    assert "mIoU" in page.read_text()
