"""What labels add: values by class, predictions that stay and are right."""

import json
from importlib.resources import files
from pathlib import Path

import models
import naive_shares
import numpy as np
import pytest
import running
from click.testing import CliRunner
from models import FLOAT, build, known, node, weights
from PIL import Image

from onnx_geed import GeedError, measure, measure_cache, parse_group, read_result, write_cache
from onnx_geed.cli import cli
from onnx_geed.groups import Permutation, Trivial
from onnx_geed.measures import predicted_classes
from onnx_geed.model import annotate_model, parse_classes
from onnx_geed.report.page import report
from onnx_geed.report.result_table import table
from onnx_geed.results import mean_interval
from onnx_geed.results.predictions import Predicted, add_predictions, moved_classes

DEMO = Path(str(files("onnx_geed.demo")))
FEW = {"samples": 12, "norm_samples": 12}


def corners():
    """Three classes: whether the top left, the top right or the bottom left pixel is brightest."""
    pick = np.zeros((25, 3), np.float32)
    pick[0, 0] = pick[4, 1] = pick[20, 2] = 4.0
    return build(
        [node("Flatten", "x", "latent"), node("MatMul", "latent pick", "logits")],
        [weights("pick", pick)],
        [("x", FLOAT, ["N", 1, 5, 5])],
        [("logits", FLOAT, ["N", 3])],
    )


def one_bright(corner):
    x = np.full((1, 5, 5), 0.1, np.float32)
    x[0, 0, 4 * corner] = 1.0
    return x


@pytest.fixture
def net(tmp_path):
    return models.save(corners(), tmp_path / "corners.onnx")


@pytest.fixture
def data():
    return np.stack([one_bright(k % 2) for k in range(6)])


def predictions(result):
    (shares,) = [m["predictions"] for m in result["measurements"] if m["measure"] == "softmax-kl"]
    return shares


def test_a_mirror_swaps_two_corners(net, data):
    result = measure(net, data, "flip-h", labels=[0, 1, 0, 1, 0, 0], output_kind="logits")
    shares = predictions(result)
    # The last sample has its bright pixel on the right, and the label of the left.
    assert shares["stay"]["per_element"] == {"e": 1.0, "flip": 0.0}
    assert shares["right"]["per_element"] == {"e": 5 / 6, "flip": 1 / 6}
    assert shares["stay"]["value"] == 0.5
    assert shares["right"]["value"] == 0.5
    # Wilson's interval of one in six, by its formula.
    z, p, n = 1.959963984540054, 1 / 6, 6
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    moved = shares["right"]["moved"]
    assert moved["value"] == pytest.approx(p)
    assert moved["ci95"] == pytest.approx((np.array([-half, half]) + middle) / (1 + z**2 / n))
    assert shares["samples"] == 6


def test_under_a_permutation_a_prediction_is_to_move(net, data, tmp_path):
    swap = tmp_path / "swap.npz"
    np.savez(swap, elements=["e", "flip"], permutation=[[0, 1, 2], [1, 0, 2]])
    options = {"labels": [0, 1, 0, 1, 0, 0], "output_kind": "logits"}
    shares = predictions(measure(net, data, "flip-h", output_action={"logits": swap}, **options))
    assert shares["stay"]["per_element"] == {"e": 1.0, "flip": 1.0}
    assert shares["right"]["per_element"] == {"e": 5 / 6, "flip": 5 / 6}


def test_classes_that_turn_are_followed_the_right_way_round(tmp_path):
    net = models.save(models.cyclic_logits(), tmp_path / "m.onnx")
    table = known(models.cyclic_logits())["permutation"]
    np.savez(tmp_path / "t.npz", elements=["e", "r1", "r2", "r3"], permutation=table)
    options = {"measures": ["softmax-kl@logits"], "output_kind": "logits"}
    x = running.images((1, 5, 5), 8)
    tables = {"logits": tmp_path / "t.npz"}
    shares = predictions(measure(net, x, "C4", output_action=tables, **options))
    assert shares["stay"]["value"] == 1.0
    assert shares["right"] is None
    plain = predictions(measure(net, x, "C4", **options))
    assert plain["stay"]["per_element"] == {"e": 1.0, "r1": 0.0, "r2": 0.0, "r3": 0.0}


def test_predictions_against_a_naive_loop():
    group = "C4"
    result = measure(DEMO / "digits_cnn_untrained.onnx", DEMO / "digits.npz", group, **FEW)
    held = np.load(DEMO / "digits.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 2)
    labels = next(held[k] for k in held.files if held[k].ndim == 1)
    live = running.session(str(DEMO / "digits_cnn_untrained.onnx"))
    stay, right = np.zeros(4), np.zeros(4)
    for i in result["data"]["indices"][:12]:
        x = images[i].reshape(1, 1, *images.shape[-2:]).astype(np.float32) / 255
        outputs = [
            int(np.argmax(live.run(None, {live.get_inputs()[0].name: turned})[0]))
            for turned in (np.ascontiguousarray(np.rot90(x, k, axes=(2, 3))) for k in range(4))
        ]
        for k, output in enumerate(outputs):
            stay[k] += output == outputs[0]
            right[k] += output == labels[i]
    shares = predictions(result)
    np.testing.assert_allclose(list(shares["stay"]["per_element"].values()), stay / 12)
    np.testing.assert_allclose(list(shares["right"]["per_element"].values()), right / 12)


def test_the_share_of_moved_samples_has_an_interval_over_samples():
    classes = np.random.default_rng(0).integers(0, 2, (12, 4))
    action = Trivial(parse_group("C4"))
    records = [{"measure": "softmax-kl", "layer": "y"}]
    add_predictions(records, [0] * 12, {"y": Predicted.under(classes, action, 2)}, None)
    hits = classes[:, 1:] == 0
    moved = records[0]["predictions"]["right"]["moved"]
    assert moved["value"] == pytest.approx(hits.mean())
    assert moved["ci95"] == pytest.approx(naive_shares.share_interval(hits.tolist()))
    # Nearly all are right, so that Student t would reach beyond 1.
    rare = np.zeros((40, 9), dtype=int)
    rare[0, 3] = 1
    add_predictions(records, [0] * 40, {"y": Predicted.under(rare[:, :4], action, 2)}, None)
    low, high = records[0]["predictions"]["right"]["moved"]["ci95"]
    assert 0.9 < low < 119 / 120 < high <= 1
    add_predictions(records, [0], {"y": Predicted.under(classes[:1], action, 2)}, None)
    assert records[0]["predictions"]["right"]["moved"]["ci95"] is None


def test_values_by_class_are_means_of_the_samples_of_that_class():
    result = measure(DEMO / "digits_cnn.onnx", DEMO / "digits.npz", "C4", samples=40)
    labels = np.array(result["data"]["labels"][:40])
    for record in result["measurements"]:
        values = np.array(record["per_sample"])
        assert list(record["per_class"]) == [str(k) for k in sorted(set(labels.tolist()))]
        for label, entry in record["per_class"].items():
            mine = values[labels == int(label)]
            assert entry["value"] == pytest.approx(mine.mean())
            assert entry["samples"] == len(mine)
            ends = mean_interval(mine)
            assert entry["ci95"] == (ends and pytest.approx(ends))
        weighed = [e["value"] * e["samples"] for e in record["per_class"].values()]
        assert sum(weighed) / 40 == pytest.approx(record["value"])


def test_without_labels_nothing_is_said_of_classes(net, data):
    result = measure(net, data, "flip-h", output_kind="logits")
    assert all(m["per_class"] is None for m in result["measurements"])
    assert predictions(result)["right"] is None
    assert predictions(result)["stay"]["per_element"]["flip"] == 0.0
    assert not any("label" in note for note in result["notes"])


def named_folder(folder, data):
    for k, x in enumerate(data):
        (folder / ("left", "right")[k % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.round(255 * x[0]).astype(np.uint8)
        Image.fromarray(pixels).save(folder / ("left", "right")[k % 2] / f"{k}.png")
    return folder


def test_folders_are_found_among_named_classes_and_else_it_is_said(net, data, tmp_path):
    folder = named_folder(tmp_path / "images", data)
    unnamed = measure(net, folder, "flip-h", output_kind="logits")
    assert predictions(unnamed)["right"] is None
    assert any("label 'left'" in n or "label 'right'" in n for n in unnamed["notes"])
    assert set(unnamed["measurements"][0]["per_class"]) == {"left", "right"}
    (tmp_path / "names.txt").write_text("left\nright\nbottom\n")
    words = ["annotate", net, "-o", tmp_path / "known.onnx", "--classes", tmp_path / "names.txt"]
    got = CliRunner().invoke(cli, [str(w) for w in words])
    assert got.exit_code == 0, got.output
    result = measure(tmp_path / "known.onnx", folder, "flip-h", output_kind="logits")
    assert predictions(result)["right"]["per_element"] == {"e": 1.0, "flip": 0.0}
    two = models.with_metadata(corners(), {"onnx_geed.classes": '["left", "right"]'})
    few = measure(models.save(two, tmp_path / "two.onnx"), folder, "flip-h", output_kind="logits")
    assert predictions(few)["right"] is None
    assert any("names 2 classes, but the output has 3" in n for n in few["notes"])


def test_names_that_are_not_as_many_as_the_classes_are_refused(net, tmp_path):
    for count in (2, 4):
        (tmp_path / "names.txt").write_text("\n".join("abcd"[:count]))
        words = ["annotate", net, "-o", tmp_path / "o.onnx", "--classes", tmp_path / "names.txt"]
        got = CliRunner().invoke(cli, [str(w) for w in words])
        assert got.exit_code == 2
        assert f"names {count} classes" in got.stderr
        assert "has 3" in got.stderr
        assert len(got.stderr.splitlines()) == 1
        assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(
    ("shape", "layout", "classes"),
    [
        ([None, 3, 8, 8], None, 3),
        ([None, 8, 8, 3], "NHWC", 3),
        ([None, 1], None, 2),
        ([None, "K"], None, None),
    ],
)
def test_classes_are_counted_along_their_own_axis(tmp_path, shape, layout, classes):
    free = ["N", *shape[1:]]
    proto = build([node("Relu", "x", "y")], [], [("x", FLOAT, free)], [("y", FLOAT, free)])
    model, names = models.save(proto, tmp_path / "m.onnx"), tmp_path / "names.txt"
    stated = {"input_layout": "NK"} if len(shape) == 2 else {"input_layout": layout or "NCHW"}
    if layout:
        stated["layout"] = {"y": layout}
    for count in (2, 3, 4):
        names.write_text("\n".join("abcd"[:count]))
        if classes in (None, count):
            annotate_model(model, tmp_path / "o.onnx", classes=names, **stated)
        else:
            with pytest.raises(GeedError, match=f"names {count} classes, but output 'y' has"):
                annotate_model(model, tmp_path / "o.onnx", classes=names, **stated)


def test_labels_beyond_the_outputs_are_no_positions(net, data):
    result = measure(net, data, "flip-h", labels=[1, 2, 3, 1, 2, 3], output_kind="logits")
    assert predictions(result)["right"] is None
    assert any("label '3'" in note and "from 0 to 2" in note for note in result["notes"])


def test_a_cache_tells_the_same(tmp_path):
    options = FEW | {"measures": ["softmax-kl", "channel-cos"]}
    live = measure(DEMO / "digits_cnn.onnx", DEMO / "digits.npz", "C8", **options)
    for mode in ("raw", "stats"):
        folder = tmp_path / f"{mode}.geed"
        write_cache(
            DEMO / "digits_cnn.onnx", DEMO / "digits.npz", "C8", folder, mode=mode, **options
        )
        assert measure_cache(folder)["measurements"] == live["measurements"]


def test_one_score_tells_two_classes_apart():
    scores = np.array([[[-2.0], [0.1]]])
    np.testing.assert_array_equal(predicted_classes(scores, "logits"), [[0, 1]])
    shares = np.array([[[0.4], [0.6]]])
    np.testing.assert_array_equal(predicted_classes(shares, "probabilities"), [[0, 1]])
    np.testing.assert_array_equal(predicted_classes(np.array([[1.0, 3.0, 3.0]]), "logits"), [1])


def test_classes_move_where_a_gathering_table_puts_them():
    c3 = parse_group("C3")
    table = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    moved = moved_classes(Permutation(c3, table), 3)
    # out[c] = in[table[c]]: under r1, what stood at 2 stands at 0.
    np.testing.assert_array_equal(moved, [[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    for g in range(3):
        for i, row in enumerate(np.eye(3)):
            assert Permutation(c3, table).apply(g, row).argmax() == moved[g, i]
    np.testing.assert_array_equal(moved_classes(Trivial(c3), 2), [[0, 1]] * 3)


@pytest.mark.parametrize("text", ["left", "{}", '["a", "a"]', "[[1]]"])
def test_names_that_are_none_are_refused(text):
    with pytest.raises(GeedError, match=r"onnx_geed\.classes"):
        parse_classes(text)


def test_names_may_be_numbers():
    assert parse_classes('[3, 1.0, "x"]') == ("3", "1", "x")
    assert parse_classes(None) is None


def test_table_and_page_show_them(tmp_path):
    out = tmp_path / "r.json"
    words = ["measure", str(DEMO / "digits_cnn.onnx"), "--data", str(DEMO / "digits.npz")]
    got = CliRunner().invoke(cli, [*words, "--group", "C4", "--samples", "20", "--out", str(out)])
    assert got.exit_code == 0, got.stderr
    line = next(x for x in got.stdout.splitlines() if x.startswith("same class after moving: "))
    result = json.loads(out.read_text())
    shares = predictions(result)["stay"]["per_element"]
    moved = [v for name, v in shares.items() if name != "e"]
    assert f"{100 * np.mean(moved):.1f} %" in line
    assert " unmoved, " in got.stdout
    # The first element of a sampled group is no identity: each sample has its own.
    result["group"]["name"] = "SO2~4"
    assert " unmoved" not in table(result)
    assert "at a random element," in " ".join(table(result).split())
    page = report([read_result(out)])
    assert "Predictions and classes" in page
    entry = result["measurements"][-1]["per_class"]
    assert page.count('<th scope="row">7</th>') == ("7" in entry)


def test_a_file_of_classes_that_is_none_is_refused(net, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("empty.txt", "nowhere.txt"):
        words = ["annotate", net, "-o", tmp_path / "o.onnx", "--classes", tmp_path / name]
        got = CliRunner().invoke(cli, [str(w) for w in words])
        assert got.exit_code == 2
        assert name in got.stderr
        assert len(got.stderr.splitlines()) == 1


def test_classes_given_in_place_of_a_file_are_told_what_is_taken(net, tmp_path):
    words = ["annotate", str(net), "-o", str(tmp_path / "o.onnx"), "--classes", "a,b"]
    got = CliRunner().invoke(cli, words)
    assert got.exit_code == 2
    assert "--classes a,b: no such file; give a text file with one class per line" in got.output


def test_results_in_place_of_models_and_pages_of_other_endings_are_said(net, data, tmp_path):
    file, page = tmp_path / "r.json", tmp_path / "page.txt"
    measure(net, data, "flip-h", samples=4, norm_samples=4, output_kind="logits").save(file)
    with pytest.raises(GeedError, match="is a result of a measurement, not an ONNX model"):
        measure(file, data, "flip-h")
    got = CliRunner().invoke(cli, ["report", str(file), "-o", str(page)])
    assert got.exit_code == 2
    assert "the page is HTML, not .txt; name it .html" in got.output
    assert not page.exists()
