"""What a page says first: how often the class stays, and how far each measure is off."""

import re

import numpy as np
import pytest
from recording import measurement
from test_page import C8, Page, result_of, spread

from onnx_geed.report.glance import glance
from onnx_geed.report.page import report
from onnx_geed.report.sections import sections
from onnx_geed.results import Predicted, add_predictions, read_record

E = C8.elements


def record(measure, deviations, layer="a", **options):
    return measurement(
        measure=measure,
        layer=layer,
        layout="NCHW",
        output_action="grid" if measure == "channel-cos" else "trivial",
        deviations=deviations,
        elements=E,
        **options,
    )


def scored(classes, labels=None, path="net.onnx", **options):
    """A result of predicted classes (N, 8), of three."""
    classes = np.asarray(classes)
    flips = (classes != classes[:, :1]).astype(float)
    one = record("flip-rate", flips, "logits", skipped=1, **options)
    moved = np.tile(np.arange(3), (8, 1))
    add_predictions([one], labels, {"logits": Predicted(classes, moved, E)}, None)
    return result_of([one], path=path)


def first(*results):
    names = [f"m{i}" for i in range(len(results))]
    own = [[read_record(m) for m in r["measurements"]] for r in results]
    return glance(results, names, own)


CLASSES = [[0, 0, 0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 2, 1], [2, 2, 2, 0, 2, 2, 2, 2]]


def test_the_first_sentence_is_how_often_the_class_stays_and_is_right():
    # 3 of 21 are moved to another class, two of these at r3; labels are 0, 1, 1.
    (model,) = first(scored(CLASSES, labels=[0, 1, 1]))["models"]
    assert model["sentences"] == [
        "Same class after moving: 85.7 % (worst angle 135°: 33.3 %).",
        "Correct: 66.7 % unmoved, 57.1 % moved (worst angle 135°: 33.3 %).",
    ]


def test_without_labels_nothing_is_said_of_right_ones():
    (model,) = first(scored(CLASSES))["models"]
    assert len(model["sentences"]) == 1
    text = Page(report([scored(CLASSES)])).text
    assert text.index("Same class after moving") < text.index("How far off each measure")
    assert "Correct" not in text


def test_a_network_of_one_answer_is_not_praised():
    one = scored(np.zeros((3, 8), int))
    one["measurements"][0]["most_common"] = 1.0
    (model,) = first(one)["models"]
    assert "get the same class" in model["sentences"][-1]


def test_the_picture_has_every_share_in_per_cent():
    (picture,) = first(scored(CLASSES, labels=[0, 1, 1]))["pictures"]
    tips = dict(re.findall(r"<title>([^<]*?): ([^<(]*) \(", picture["svg"]))
    assert tips["same class, 135°"] == "33.3 %"
    assert tips["correct class, unmoved"] == "66.7 %"
    assert len(tips) == 16


def test_many_models_are_rows_of_cells():
    many = [scored(CLASSES, path=f"{i}.onnx") for i in range(8)]
    (picture,) = first(*many)["pictures"]
    assert "data-cells" in picture["svg"]
    assert "m7" in picture["svg"]


def test_how_far_off_is_a_share_of_what_different_samples_are_apart():
    maps = record("channel-cos", spread(-0.6), between=np.full((4, 8), -0.2))
    (row,) = first(result_of([maps]))["rows"]
    assert row["far"] == "50 %"
    assert row["bar"] == 50
    assert row["verdict"] == "Slightly equivariant"
    assert row["value"] == "cosine 0.599"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (record("softmax-kl", spread(0.1)), "does not hold the deviation"),
        (record("softmax-kl", spread(0.1, n=1)), "no second sample"),
        (
            record("softmax-kl", spread(0.1), between=np.full((4, 8), 1e-9)),
            "nearly the same values",
        ),
    ],
)
def test_where_that_is_not_known_a_dash_says_why(made, reason):
    (row,) = first(result_of([made]))["rows"]
    assert row["far"] == "—"
    assert reason in row["reason"]


def test_the_worst_map_stands_beside_the_last():
    maps = [record("channel-cos", spread(v), f"conv{i}") for i, v in enumerate((-0.9, -0.2, -0.7))]
    rows = first(result_of(maps))["rows"]
    assert [(r["layer"], r["which"]) for r in rows] == [
        ("conv1", "worst layer"),
        ("conv2", "last of several layers"),
    ]


def test_heat_maps_of_two_models_have_one_scale():
    def of(value, path):
        maps = [record("channel-cos", spread(v), f"conv{v}") for v in (-0.99, value)]
        return result_of(maps, path=path)

    results = [of(-0.9, "a.onnx"), of(0.5, "b.onnx")]
    own = [[read_record(m) for m in r["measurements"]] for r in results]
    (shown,) = sections(results, ["a", "b"], own)
    heats = [p["svg"] for p in shown["pictures"] if p["subject"] == "heat"]
    ticks = [re.findall(r"<text[^>]*>([−\d.]+)</text>", svg)[-4:] for svg in heats]
    assert ticks[0] == ticks[1]


def test_thousands_of_layers_make_a_page_of_bounded_height():
    maps = [record("channel-cos", spread(-0.5, n=2), f"block.{i}.conv") for i in range(400)]
    own = [[read_record(m) for m in result_of(maps)["measurements"]]]
    (shown,) = sections([result_of(maps)], ["a"], own)
    tall = [
        float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', p["svg"])[1]) for p in shown["pictures"]
    ]
    assert max(tall) < 900
