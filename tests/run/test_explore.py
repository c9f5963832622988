"""Samples of a result that are run again to be looked at."""

import json
from importlib.resources import files
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from large_pages import explored, of_layers

from onnx_geed import GeedError, fit_actions, measure
from onnx_geed.cli import cli
from onnx_geed.model import inputs, load_model
from onnx_geed.report import samples_to_show
from onnx_geed.report.explorer import explorer
from onnx_geed.results import read_record
from onnx_geed.run import explore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    models.save(models.random_cnn(0, (8, 8)), folder / "m.onnx")
    models.save(models.random_cnn(1, (8, 8)), folder / "other.onnx")
    x = np.random.default_rng(0).random((9, 3, 8, 8), dtype=np.float32)
    np.save(folder / "x.npy", x)
    chosen = ["channel-cos", "softmax-kl"]
    result = measure(folder / "m.onnx", folder / "x.npy", "C4", measures=chosen, samples=6)
    return folder, x, result


def by_hand(path, images, name):
    """A tensor's activations, by ONNX Runtime alone."""
    proto = onnx.load(path)
    if name not in [output.name for output in proto.graph.output]:
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return session.run([name], {session.get_inputs()[0].name: images})[0]


def test_maps_and_cosines_are_those_of_quarter_turns_by_hand(made):
    folder, x, result = made
    one = explore(result, folder / "m.onnx", folder / "x.npy", [3, 0])
    assert one.notes == ()
    maps = [r for r in result["measurements"] if r["measure"] == "channel-cos"]
    assert [layer.layer for layer in one.layers] == [r["layer"] for r in maps]
    layer, record = one.layers[-1], maps[-1]
    worst, median = layer.channels
    means = np.array(record["per_channel"])
    assert means[worst] == means.max()
    assert np.sum(means > means[median]) == len(means) // 2
    for k, position in enumerate([3, 0]):
        image = x[result["data"]["indices"][position]]
        turned = np.stack([np.rot90(image, g, (1, 2)) for g in range(4)])
        found = by_hand(folder / "m.onnx", np.ascontiguousarray(turned), layer.layer)
        for g in range(4):
            for c, channel in enumerate(layer.channels):
                wanted = np.rot90(found[0, channel], g)
                np.testing.assert_allclose(layer.found[k, g, c], found[g, channel], atol=1e-5)
                np.testing.assert_allclose(layer.expected[k, g, c], wanted, atol=1e-5)
                lengths = np.linalg.norm(wanted) * np.linalg.norm(found[g, channel])
                cosine = (wanted * found[g, channel]).sum() / lengths if lengths else 1.0
                assert layer.cosines[k, g, c] == pytest.approx(cosine, abs=1e-5)


def test_probabilities_are_those_of_the_moved_image(made):
    folder, x, result = made
    one = explore(result, folder / "m.onnx", folder / "x.npy", [2])
    (record,) = (r for r in result["measurements"] if r["measure"] == "softmax-kl")
    image = x[result["data"]["indices"][2]]
    turned = np.ascontiguousarray(np.stack([np.rot90(image, g, (1, 2)) for g in range(4)]))
    scores = by_hand(folder / "m.onnx", turned, record["layer"]).astype(float)
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(one.probabilities[0], wanted, atol=1e-5)


def test_another_model_is_refused(made):
    folder, _, result = made
    with pytest.raises(GeedError, match=r"--model .*other\.onnx: is not the model"):
        explore(result, folder / "other.onnx", folder / "x.npy", [0])


def test_a_function_is_refused(made):
    folder, x, _ = made
    result = measure(lambda batch: {"z": batch.mean((2, 3))}, x, "C4", latent="z", samples=3)
    with pytest.raises(GeedError, match=r"is a function.*measure an ONNX file"):
        explore(result, folder / "m.onnx", x, [0])


def test_other_data_are_refused(made, tmp_path):
    folder, x, result = made
    np.save(tmp_path / "x.npy", x[:7])
    with pytest.raises(GeedError, match="are not those of the result"):
        explore(result, folder / "m.onnx", tmp_path / "x.npy", [0])


def test_values_that_come_out_otherwise_are_refused(made):
    folder, _, _ = made
    other = measure(folder / "m.onnx", folder / "x.npy", "C4", measures=["channel-cos"], samples=6)
    other["measurements"][1]["deviations"][0][1] += 0.1
    with pytest.raises(GeedError, match="gives other values"):
        explore(other, folder / "m.onnx", folder / "x.npy", [0])
    assert explore(other, folder / "m.onnx", folder / "x.npy", [1]).layers


def test_values_of_more_channels_than_the_model_has_are_refused(made):
    folder, _, _ = made
    other = measure(folder / "m.onnx", folder / "x.npy", "C4", measures=["channel-cos"], samples=6)
    for record in other["measurements"]:
        record["per_channel"] = [-0.5] * 1000
    with pytest.raises(GeedError, match="gives other values"):
        explore(other, folder / "m.onnx", folder / "x.npy", [0])


def test_what_a_result_does_not_keep_is_told(made):
    folder, _, result = made
    own = result | {"group": result["group"] | {"interpolation": "own"}}
    one = explore(own, folder / "m.onnx", folder / "x.npy", [0])
    assert one.layers == ()
    assert one.notes == (
        "No maps are shown: the samples were moved by an action of your own, and a page never runs "
        "code that a result names.",
    )
    tables = [dict(r) for r in result["measurements"]]
    tables[0]["output_action"] = "grid+channels"
    one = explore(result | {"measurements": tables}, folder / "m.onnx", folder / "x.npy", [0])
    assert "how their channels should move is not stored" in one.notes[0]
    assert tables[0]["layer"] not in [layer.layer for layer in one.layers]


def test_samples_go_from_the_most_to_the_least_affected(made):
    _, _, result = made
    values = read_record(result["measurements"][-1]).per_sample
    shown = samples_to_show(result, 3)
    assert len(shown) == len(set(shown)) == 3
    assert shown[0] == int(np.argmax(values))
    assert list(samples_to_show(result, 50)) == np.argsort(-values).tolist()
    with pytest.raises(GeedError, match="at least one measurement"):
        samples_to_show(result | {"measurements": []}, 3)
    assert (np.diff(values[list(samples_to_show(result, 5))]) <= 0).all()


def test_a_page_stays_below_five_megabytes_whatever_the_maps_are():
    """Noise, which no PNG makes smaller, of many large layers, for two models of 24 samples."""
    result = of_layers([f"conv{i}" for i in range(8)])
    one = explored(result, [f"conv{i}" for i in range(8)], samples=4, side=56)
    many = [one] * 12  # as many samples as two pages have
    found = explorer(
        [result] * 12,
        [f"m{i}" for i in range(12)],
        [[read_record(m) for m in result["measurements"]]] * 12,
        many,
        None,
    )
    assert 400_000 < len(found["json"]) < 4_000_000


def test_a_table_that_was_fitted_is_left_to_its_judge(made):
    folder, _, whole = made
    layer = [r for r in whole["measurements"] if r["measure"] == "channel-cos"][-1]["layer"]
    (table,) = fit_actions(folder / "m.onnx", folder / "x.npy", "C4", [layer], samples=4)
    given = {layer: table}
    result = measure(folder / "m.onnx", folder / "x.npy", "C4", samples=4, output_action=given)
    assert "unexplained" in [r["measure"] for r in result["measurements"]]
    ours = explore(result, folder / "m.onnx", folder / "x.npy", [1], output_action=given)
    without = explore(result, folder / "m.onnx", folder / "x.npy", [1])
    assert ours.notes == without.notes == ()
    for a, b in zip(ours.layers, without.layers, strict=True):
        assert a.layer == b.layer
        np.testing.assert_array_equal(a.expected, b.expected)


def test_the_class_that_is_expected_moves_as_the_output_does(made, tmp_path):
    folder, *_ = made
    model, data, names = folder / "m.onnx", folder / "x.npy", np.array(["e", "r1", "r2", "r3"])
    # out[c] = in[table[g, c]]: four classes change places, the fifth stays.
    table = np.array([[*np.roll(range(4), g), 4] for g in range(4)])
    np.savez(tmp_path / "t.npz", elements=names, permutation=table)
    given = {"output_action": {"logits": tmp_path / "t.npz"}}
    result = measure(model, data, "C4", measures=["softmax-kl"], samples=6, **given)
    one = explore(result, model, data, [3, 0], **given)
    own = [{table[g, c]: c for c in range(5)} for g in range(4)]
    assert one.moves.tolist() == [[moved[c] for c in range(5)] for moved in own]
    without = explore(result, model, data, [3, 0])
    assert without.moves is None
    assert "give it with --output-action logits=FILE.npz" in without.notes[0]
    content = explorer(
        [result], ["m"], [[read_record(m) for m in result["measurements"]]], [one], None
    )
    (shown,) = json.loads(content["json"])["models"]
    for k, sample in enumerate(shown["samples"]):
        first = int(one.probabilities[k][0].argmax())
        assert sample["expected"] == [own[g][first] for g in range(4)]


def test_a_table_of_a_layer_that_is_not_shown_is_read_too(tmp_path):
    from click.testing import CliRunner

    demo = Path(str(files("onnx_geed.demo")))
    path, x, bad = demo / "digits_cnn.onnx", demo / "digits.npz", tmp_path / "bad.npz"
    bad.write_bytes(b"no archive")
    few = {"samples": 3, "norm_samples": 4, "measures": ["channel-cos@block5", "latent-l2@latent"]}
    measure(path, str(x), "flip-h", **few).save(tmp_path / "r.json")
    other = json.loads((tmp_path / "r.json").read_text())
    other["model"] |= {"sha256": "0" * 64, "path": "other.onnx"}
    other["measurements"][1]["layer"] = "elsewhere"
    (tmp_path / "o.json").write_text(json.dumps(other))
    page = tmp_path / "page.html"

    def run(table, *results):
        asked = ["report", *results, "-o", page, "--data", x, "--model", path]
        done = CliRunner().invoke(cli, [str(a) for a in (*asked, "--output-action", table)])
        return done.exit_code, done.output

    code, output = run(f"latent={bad}", tmp_path / "r.json")
    assert (code, "not a readable .npz" in output) == (2, True)
    code, output = run("latent=fit:linear", tmp_path / "r.json")
    assert (code, "a page fits nothing" in output) == (2, True)
    # That of a result whose model is not given is for nothing.
    code, output = run(f"elsewhere={bad}", tmp_path / "r.json", tmp_path / "o.json")
    assert (code, "has no effect" in output, "--model other.onnx" in output) == (2, True, True)
    assert not page.exists()


def test_of_several_outputs_the_measured_one_is_run(tmp_path):
    source = models.random_cnn(0, (8, 8))
    source.graph.output.append(onnx.helper.make_tensor_value_info("latent", 1, ["N", None]))
    path = models.save(source, tmp_path / "m.onnx")
    x = np.random.default_rng(1).random((9, 3, 8, 8)).astype(np.float32)
    result = measure(path, x, "C4", output="logits", samples=4, provider="cpu")
    shown = explore(result, path, x, [0, 1])
    assert shown.layers
    assert shown.probabilities.shape[:2] == (2, 4)
    maps = measure(
        *(path, x, "C4"), output="latent", samples=4, measures=["channel-cos"], provider="cpu"
    )
    assert explore(maps, path, x, [0]).layers


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_scores_are_read_as_they_were(tmp_path, kind):
    path = models.save(models.softmax_output(), tmp_path / "m.onnx")
    shape = next(i.shape for i in inputs(load_model(path)))
    x = np.random.default_rng(1).random((9, *shape[1:])).astype(np.float32)
    asked = {"samples": 4, "output_kind": kind, "measures": ["softmax-kl"], "provider": "cpu"}
    shown = explore(measure(path, x, "C4", **asked), path, x, [0]).probabilities[0, 0]
    session = onnxruntime.InferenceSession(str(path))
    first = int(np.random.default_rng(0).permutation(9)[0])
    (given,) = session.run(None, {"x": x[first : first + 1]})[0]
    softened = np.exp(given) / np.exp(given).sum()
    np.testing.assert_allclose(shown, softened if kind == "logits" else given, rtol=1e-5)


def test_what_a_result_does_not_keep_is_said(tmp_path):
    path = models.save(models.two_input(2), tmp_path / "m.onnx")
    x = np.random.default_rng(1).random((9, 3, 8, 8)).astype(np.float32)
    feed = {"extra": np.ones((9, 2), dtype=np.float32)}
    result = measure(path, x, "C4", feed=feed, samples=4, provider="cpu")
    (note,) = explore(result, path, x, [0]).notes
    assert "the model was also fed extra, of which a result keeps no values" in note
