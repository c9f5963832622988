"""What a page says first: how often the class stays, and how far each measure is off."""

import re

import numpy as np
import pytest
from recording import measurement
from test_page import C8, Page, result_of, spread

from onnx_geed import parse_group
from onnx_geed.report.glance import glance
from onnx_geed.report.many_results import in_natural_order
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
        "Same class after moving: 85.7 % (lowest 33.3 %, at 135°).",
        "Correct: 66.7 % unmoved, 57.1 % moved (lowest 33.3 %, at 135° and 270°).",
    ]


def test_a_tie_for_the_lowest_is_told_as_one():
    # The three samples keep their class at 45° alone.
    stays = np.repeat([[0, 0, 1, 1, 1, 1, 1, 1]], 3, axis=0)
    (model,) = first(scored(stays))["models"]
    assert model["sentences"][0] == (
        "Same class after moving: 14.3 % (lowest 0.0 %, at 6 of 7 angles)."
    )


def test_elements_have_one_short_name_each():
    group = parse_group("D4")
    values = np.tile([0, 0.9, 0.2, 0.8, 0.3, 0.4, 0.5, 0.6], (6, 1))
    maps = [
        measurement(
            measure="channel-cos",
            layer=f"conv{k}",
            layout="NCHW",
            output_action="grid",
            deviations=-1 + (k + 1) / 2 * values + 0.01 * np.random.default_rng(k).random((6, 8)),
            elements=group.elements,
        )
        for k in range(2)
    ]
    shown = Page(report([result_of(maps, group="D4")]))
    told = shown.text + " ".join(str(attrs.get("aria-label")) for _, attrs in shown.tags)
    assert "at 90°, the best" in told
    assert "(90°" not in told
    assert "270°, then mirror" not in told
    assert "sr1" not in told


def test_a_share_of_samples_is_told_in_per_cent():
    stays = [[0] * 8] * 3
    results = [scored(c, path=f"net{k}.onnx") for k, c in enumerate((CLASSES, stays, stays))]
    told = re.sub(r"<[^>]*>", "", report(results))
    # 3 of the 21 moved samples have another class, as a value and among several results.
    assert "14 %flip-rate" in re.sub(r"\s*\n\s*", "", told)
    (row,) = (r for r in first(*results)["ranking"]["rows"] if r["what"] == "Flipped predictions")
    assert (row["best"], row["worst"]) == ("0 %", "14 %")
    assert not re.search(r"\d share", told)


def test_of_a_sample_that_nothing_changes_no_element_is_called_the_worst():
    stays = [*CLASSES, [1] * 8]
    told = " ".join(re.sub(r"<[^>]*>", " ", report([scored(stays)])).split())
    assert "0 % sample 3 ; the same for every angle" in told
    assert "29 % sample 2" not in told
    assert "worst for" in told
    assert "farthest from" not in told


def test_a_name_from_right_to_left_leaves_the_order_of_its_sentence():
    name = "\u0627\u0644\u0639\u0631 \u0628\u064a\u0629"
    results = [scored(CLASSES if k else [[0] * 8] * 3, path=f"{name}{k}.onnx") for k in range(3)]
    page = report(results)
    assert f"<bdi>{name}</bdi>" in page
    outside = re.sub(r"(?s)<(script|style|svg|title)\b.*?</\1>|<bdi>.*?</bdi>|<[^>]*>", "", page)
    assert "\u0627" not in outside


def with_maps(path, value, group="C8"):
    one = record("latent-l2", spread(value, noise=0.0), "z", between=np.ones((4, 8)))
    return result_of([one], path=path, group=group)


def test_many_results_have_one_row_a_measure():
    results = [with_maps(f"net{k}.onnx", v) for k, v in enumerate((0.5, 0.1, 0.4, 0.1, 0.2, 0.9))]
    shown = first(*results)
    assert shown["models"] == []
    (row,) = shown["ranking"]["rows"]
    assert row == {
        "group": "",
        "what": "Latent vector, distance",
        "best": "10.0 % off",
        "best_of": "m1 and m3",
        "worst": "90 % off",
        "worst_of": "m5",
        "between": "20 % off to 50 % off",
        "count": "3 results",
        "unknown": "",
    }
    assert shown["ranking"]["said"] == [
        "Least affected, by latent vector, distance: m1 and m3 (10.0 % off).",
        "Most affected, by latent vector, distance: m5 (90 % off).",
    ]


@pytest.mark.parametrize(("count", "ranked"), [(1, False), (2, False), (3, True), (4, True)])
def test_more_than_two_results_are_ranked_first_and_their_sentences_are_folded(count, ranked):
    results = [scored(CLASSES, path=f"{i}.onnx") for i in range(count)]
    shown = first(*results)
    assert len(shown["models"]) == count
    assert all(model["sentences"] for model in shown["models"])
    assert bool(shown["ranking"]) == ranked
    assert ("<summary>Each result in words</summary>" in report(results)) == ranked


def test_shares_of_predictions_are_ranked_by_their_means():
    kept = [scored(np.repeat(np.arange(3), 8).reshape(3, 8), path=f"{i}.onnx") for i in range(4)]
    shown = first(*kept, scored(CLASSES))["ranking"]["rows"][0]
    assert shown["what"] == "Same class after moving"
    assert (shown["best"], shown["best_of"]) == ("100.0 %", "4 of 5")
    assert (shown["worst"], shown["worst_of"]) == ("85.7 %", "m4")


def test_groups_are_ranked_apart():
    results = [
        with_maps(f"net{k}.onnx", 0.1 + k / 10, group="C8" if k % 2 else "D4") for k in range(6)
    ]
    shown = first(*results)["ranking"]
    assert [row["group"] for row in shown["rows"]] == ["D4", "C8"]
    least = "Least affected, by latent vector, distance: m0 under D4 (10 % off), m1 under C8"
    assert shown["said"][0].replace("10.0", "10").startswith(least)


def test_names_that_differ_by_a_number_are_in_its_order():
    names = ["base", "net_step1000", "net_step100", "other", "net_step200"]
    order = in_natural_order(names)
    assert [names[i] for i in order] == [
        "base",
        "net_step100",
        "net_step200",
        "other",
        "net_step1000",
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


def by_angle(layer, samples=4, measure="channel-cos"):
    """A record that is worst at 90° and best at 315°, by far."""
    values = -0.9 + 0.1 * np.array([0, 2, 4, 3, 2, 2, 2, 1]) + 0 * np.arange(samples)[:, None]
    return record(measure, values + 1e-4 * np.arange(samples)[:, None], layer)


@pytest.mark.parametrize("samples", [1, 4])
def test_one_layer_has_its_worst_angle(samples):
    (model,) = first(result_of([by_angle("a", samples)]))["models"]
    (told,) = model["sentences"]
    assert told.startswith("In a, the worst is cosine 0.5")
    assert "at 90°, the best 0.9" in told
    few = " (of one sample)" * (samples == 1)
    assert told.endswith(f"at the unmoved sample{few}.")


@pytest.mark.parametrize(("samples", "sure"), [(2, False), (3, False), (4, True)])
def test_two_samples_that_flip_alike_have_no_worst_angle(samples, sure):
    """McNemar's z of n pairs that all differ in one direction is √n."""
    flips = np.zeros((samples, 8))
    flips[:, 2] = 1
    one = record("flip-rate", flips, "y", skipped=1)
    (told,) = first(result_of([one]))["models"][0]["sentences"][-1:]
    assert ("the worst is 100 % at 90°" in told) is sure
    assert ("is clearly worse than another" in told) is not sure


def test_an_identity_that_is_perfect_by_itself_is_not_the_best_angle():
    values = np.array([[-1.0, *row[1:]] for row in by_angle_values()])
    one = record("channel-cos", values, "a")
    (told,) = first(result_of([one]))["models"][0]["sentences"]
    assert told == "In a, the worst is cosine 0.500 at 90°, the best 0.800 at 315°."


def test_without_maps_and_classes_the_worst_angle_is_of_the_latent():
    one = record("latent-l2", 1 + by_angle_values(), "z", normaliser=1.0, norm_samples=9)
    (model,) = first(result_of([one]))["models"]
    assert model["sentences"] == [
        "In z, the worst is 0.500 distance / M at 90°, the best 0.100 at the unmoved sample."
    ]


def test_an_unmoved_sample_that_is_farthest_from_the_mean_is_the_worst():
    values = by_angle_values()[:, [2, 1, 0, 3, 4, 5, 6, 7]]
    one = record("latent-l2", 1 + values, "z", normaliser=1.0, norm_samples=9)
    (told,) = first(result_of([one]))["models"][0]["sentences"]
    assert told.startswith("In z, the worst is 0.500 distance / M at the unmoved sample, the best")


def by_angle_values():
    return np.tile(-0.9 + 0.1 * np.array([0, 2, 4, 3, 2, 2, 2, 1]), (4, 1))


def test_a_class_that_is_stable_for_nothing_is_not_ranked():
    constant = scored(np.zeros((3, 8), int), path="constant.onnx")
    constant["measurements"][0]["most_common"] = 1.0
    shown = first(*(scored(CLASSES, path=f"{i}.onnx") for i in range(4)), constant)["ranking"]
    row = shown["rows"][0]
    assert (row["what"], row["best"], row["worst"]) == ("Same class after moving", "85.7 %", "")
    assert (row["best_of"], row["unknown"]) == ("4 of 5", "Not ranked: m4.")
    assert shown["notes"][0].startswith("A stable class says little of m4: ")
    assert not any("same class" in sentence for sentence in shown["said"])


def test_groups_stand_once_and_a_model_has_one_colour_in_all_their_pictures():
    kept = np.repeat(np.arange(3), 8).reshape(3, 8)
    results, names = [], []
    for model in ("a", "b"):
        for k in range(4):
            results.append(scored(kept if k else CLASSES, path=f"{model}.onnx"))
            results[-1]["group"] = results[-1]["group"] | {"name": f"C8{'x' * k}"}
            names.append(f"{model}, {results[-1]['group']['name']}")
    own = [[read_record(m) for m in r["measurements"]] for r in results]
    shown = glance(results, names, own)
    row = shown["ranking"]["rows"][0]
    assert (row["group"], row["best"], row["best_of"]) == ("C8", "85.7 %", "both")
    assert len(shown["pictures"]) == 4
    for picture in shown["pictures"]:
        assert ">a: same class<" in picture["svg"]
        assert ">b: same class<" in picture["svg"]
        assert {f"s{i}" for i in range(6) if f"--s{i}" in picture["svg"]} == {"s0", "s1"}
