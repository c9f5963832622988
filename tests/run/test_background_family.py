"""Other backgrounds: loops, known answers, every way to measure, and what is refused."""

import json
import pickle

import models
import naive
import naive_backgrounds as twin
import naive_families as families
import numpy as np
import pytest
from click.testing import CliRunner
from models import build, node
from onnx import TensorProto
from PIL import Image
from running import images, run

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.groups import clipping
from onnx_geed.run import how_far, make_options, prepare_run
from onnx_geed.run.open_source import source_of

EVERY = ["channel-cos", "latent-l2", "softmax-kl", "output-l2", "unexplained@stem"]
OPTIONS = {"samples": 4, "norm_samples": 7, "seed": 3, "provider": "cpu", "output_kind": "logits"}
SIZE = (9, 12)
NAMES = ["a.png", "dunes/b.png", "dunes/c.png", "sea.png", "wüste.png"]


def draw_scenes(folder, seed=0, size=SIZE):
    values = np.random.default_rng(seed).integers(0, 256, (len(NAMES), *size, 3), dtype=np.uint8)
    for name, image in zip(NAMES, values, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture
def scenes(tmp_path):
    return draw_scenes(tmp_path / "scenes")


def discs(count, size=SIZE):
    """Masks, another one for each sample."""
    down, across = np.mgrid[: size[0], : size[1]]
    return np.stack([(down - 4) ** 2 + (across - i % 7 - 2) ** 2 < 10 for i in range(count)])


def measured(tmp_path, data, group, measures=EVERY, **options):
    path = tmp_path / "model.onnx"
    if not path.exists():
        models.save(models.random_cnn(1, SIZE), path)
    return geed.measure(path, data, group, measures=measures, **{**OPTIONS, **options})


def by_key(result):
    return {(record["measure"], record["layer"]): record for record in result["measurements"]}


# ------------------------------------------------------------------------------------------------
# Loops and known answers
# ------------------------------------------------------------------------------------------------


def test_backgrounds_are_measured_as_loops_say(tmp_path, scenes):
    model, data, masks = models.random_cnn(1, SIZE), images((3, *SIZE), 9), discs(9)
    result = measured(tmp_path, data, f"background:{scenes}/3", masks=masks)
    names, behind = twin.drawn(scenes, NAMES, 3, 3)
    part = result["group"]
    assert (part["kind"], part["parameters"]) == ("family", [None] * 4)
    written = [name.replace("ü", "\\xfc") for name in names]
    assert part["elements"] == ["e", *written]
    of_d, of_m = naive.sample_indices(9, 3, 4, 7)
    orbits = np.stack([twin.orbit(data[i], behind, masks[i]) for i in of_d])
    tensors = ["stem", "latent", "logits"]
    rows = run(model, orbits.reshape(-1, *data.shape[1:]), tensors)
    y = {t: v.reshape(4, 4, *v.shape[1:]) for t, v in zip(tensors, rows, strict=True)}
    records = by_key(result)
    distance = np.linalg.norm((y["latent"][:, 1:] - y["latent"][:, :1]), axis=2)
    latents, pixels = run(model, data[of_m], ["latent"])[0], data[of_m]
    m, between = families.mean_distance(latents), families.mean_distance(pixels)
    latent = records["latent-l2", "latent"]
    np.testing.assert_allclose(np.array(latent["deviations"])[:, 1:], distance, rtol=1e-4)
    assert latent["value"] == pytest.approx(distance.mean() / m, rel=1e-4)
    means = dict(zip(written, distance.mean(axis=0) / m, strict=True))
    assert latent["per_element"] == pytest.approx(means, rel=1e-4)
    away = np.linalg.norm((orbits[:, 1:] - orbits[:, :1]).reshape(4, 3, -1), axis=2)
    gain = distance.mean() / m / (away.mean() / between)
    assert latent["gain"]["value"] == pytest.approx(gain, rel=1e-4)
    cosines = [[families.minus_cosine(v, orbit[0]) for v in orbit[1:]] for orbit in y["stem"]]
    stem = records["channel-cos", "stem"]
    np.testing.assert_allclose(np.array(stem["deviations"])[:, 1:], cosines, rtol=1e-4)
    # Other masks, or masks in another order, are other figures.
    turned = measured(tmp_path, data, f"background:{scenes}/3", masks=masks[::-1])
    assert by_key(turned)["latent-l2", "latent"]["value"] != latent["value"]
    assert turned["data"]["masks"]["fingerprint"] != result["data"]["masks"]["fingerprint"]
    with pytest.raises(GeedError, match="masks"):
        geed.compare(result, turned)


def flat(nodes, channels=3):
    return build(
        nodes,
        [models.integers("at", [4 * SIZE[1] + 5]), models.integers("long", [0, channels, -1])],
        [("x", TensorProto.FLOAT, ["N", channels, *SIZE])],
        [("y", TensorProto.FLOAT, None)],
    )


def test_what_looks_at_the_foreground_alone_does_not_see_backgrounds(tmp_path, scenes):
    front = [node("Reshape", "x long", "all"), node("Gather", "all at", "one", axis=2)]
    front += [node("Flatten", "one", "y")]
    masks = np.zeros((9, *SIZE), np.uint8)
    masks[:, 4, 5] = 255
    values = []
    for nodes in (front, [node("Flatten", "x", "y")]):
        path = models.save(flat(nodes), tmp_path / "flat.onnx")
        result = geed.measure(
            *(path, images((3, *SIZE), 9), f"background:{scenes}/4"),
            measures=["latent-l2@y"],
            masks=masks,
            **OPTIONS,
        )
        values.append(result["measurements"][0])
    assert values[0]["value"] == 0
    assert values[0]["gain"]["value"] == 0
    assert values[1]["value"] > 0.2
    assert values[1]["gain"]["value"] == pytest.approx(1, rel=1e-5)


def test_the_disk_is_black_outside_before_any_background(tmp_path, scenes):
    data, masks = images((3, *SIZE), 9), discs(9)
    loaded = geed.load_model(models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx"))
    options = make_options({**OPTIONS, "support": "disk", "masks": masks})
    source = source_of(loaded, data, f"background:{scenes}/3", options)
    rows, outside = source.rows([1]), ~disk()
    assert not rows[..., outside].any()
    assert (rows[1:] != rows[0]).any()


def disk():
    down, across = np.mgrid[: SIZE[0], : SIZE[1]]
    return (down - 4) ** 2 + (across - 5.5) ** 2 <= (min(SIZE) / 2) ** 2


def test_clip_makes_eight_bits_of_members_alone(tmp_path, scenes):
    data, masks = images((3, *SIZE), 9) * 1.5, discs(9)
    loaded = geed.load_model(models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx"))
    group = clipping(geed.parse_group(f"background:{scenes}/3"))
    rows = source_of(loaded, data, group, make_options({**OPTIONS, "masks": masks})).rows([0])
    assert rows[0].max() > 1
    np.testing.assert_allclose(rows[1:] * 255, np.rint(rows[1:] * 255), atol=1e-4)


# ------------------------------------------------------------------------------------------------
# Every way to measure
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_measures_the_same_bits_and_is_of_its_backgrounds(tmp_path, scenes, mode):
    data, masks = images((3, *SIZE), 9), discs(9)
    group, folder = f"background:{scenes}/3", tmp_path / "a.geed"
    live = measured(tmp_path, data, group, masks=masks, engine="kernels")
    less = {"samples": 3, "norm_samples": 4, "engine": "kernels"}
    few = measured(tmp_path, data, group, masks=masks, **less)
    others = measured(tmp_path, data, group, masks=masks[::-1], **less)
    asked = {"mode": mode, "measures": EVERY, **OPTIONS}
    write_cache(tmp_path / "model.onnx", data, group, folder, masks=masks, **asked)
    write_cache(tmp_path / "model.onnx", data, group, folder, masks=masks, **asked)
    with pytest.raises(GeedError, match="differs from this run in masks"):
        write_cache(tmp_path / "model.onnx", data, group, folder, masks=masks[::-1], **asked)
    draw_scenes(scenes, seed=1)
    with pytest.raises(GeedError, match="differs from this run in backgrounds"):
        write_cache(tmp_path / "model.onnx", data, group, folder, masks=masks, **asked)
    for name in NAMES:
        (scenes / name).unlink()
    # A cache needs neither the images nor the masks any more.
    cached = measure_cache(folder)
    fewer = measure_cache(folder, samples=3, norm_samples=4)
    assert not geed.compare(few, fewer)["differ_in"]
    assert geed.compare(others, fewer, force=True)["differ_in"][0].startswith("masks (")
    assert cached["group"] == live["group"]
    assert cached["data"] == live["data"]
    assert not geed.compare(live, cached)["differ_in"]
    for a, b in zip(live["measurements"], cached["measurements"], strict=True):
        a.pop("references", None), b.pop("references", None)
        assert a == b


def test_any_jobs_give_the_same_bits(tmp_path, scenes):
    data, found = images((3, *SIZE), 20), set()
    for batch in (4, 8, 32):
        result = measured(
            *(tmp_path, data, f"background:{scenes}/3"),
            **{"samples": 12, "batch_size": batch, "engine": "kernels", "masks": discs(20)},
        )
        rows = [[r["value"], r["deviations"], r.get("gain")] for r in result["measurements"]]
        found.add(json.dumps(rows))
    assert len(found) == 1


def save_masks(folder, masks):
    folder.mkdir()
    for i, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{i:02}.png")
    return folder


def test_another_process_puts_samples_before_the_same(tmp_path, scenes):
    loaded = geed.load_model(models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx"))
    data, masks = images((3, *SIZE), 9), discs(9)
    folder = save_masks(tmp_path / "masks", masks)
    np.save(tmp_path / "m.npy", masks)
    found = []
    for given in (masks, folder, str(tmp_path / "m.npy")):
        options = make_options({"seed": 3, "samples": 4, "masks": given})
        source = source_of(loaded, data, f"background:{scenes}/3", options)
        sent = pickle.dumps(source)
        np.testing.assert_array_equal(source.rows([2, 1]), pickle.loads(sent).rows([2, 1]))
        found.append(source.rows([0, 1, 2, 3]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    draw_scenes(scenes, seed=1)
    with pytest.raises(GeedError, match="its images changed while it was measured"):
        pickle.loads(sent)


def test_a_mask_that_changes_during_a_run_is_found(tmp_path, scenes):
    loaded = geed.load_model(models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx"))
    folder = save_masks(tmp_path / "masks", discs(9))
    options = make_options({"seed": 3, "samples": 4, "masks": folder})
    source = source_of(loaded, images((3, *SIZE), 9), f"background:{scenes}/3", options)
    source.rows([0])
    for path in folder.iterdir():
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(path)
    with pytest.raises(GeedError, match=r"--masks .*: changed while it was measured: the mask of"):
        source.rows([0])


def test_the_graph_measures_the_same(tmp_path, scenes):
    data, group = images((3, *SIZE), 9), f"background:{scenes}/3"
    ours, theirs = (
        measured(tmp_path, data, group, engine=engine, masks=discs(9))
        for engine in ("kernels", "graph")
    )
    assert theirs["runtime"]["engine"] == "graph"
    assert ours["group"] == theirs["group"]
    for a, b in zip(ours["measurements"], theirs["measurements"], strict=True):
        np.testing.assert_allclose(a["deviations"], b["deviations"], rtol=1e-4, atol=1e-5)


def test_the_command_line_takes_backgrounds_and_its_page_says_what_is_not_drawn(tmp_path, scenes):
    path = models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", images((3, *SIZE), 9))
    folder, out = save_masks(tmp_path / "masks", discs(9)), tmp_path / "r.json"
    asked = ["measure", str(path), "--data", str(tmp_path / "x.npy"), "--samples", "4"]
    asked += ["--group", f"background:{scenes}/3", "--masks", str(folder), "--out", str(out)]
    ran = CliRunner().invoke(cli, asked)
    assert ran.exit_code == 0, ran.output
    result = geed.read_result(out)
    assert result["data"]["masks"]["source"] == str(folder)
    assert len(result["group"]["backgrounds"]) == 64
    page = ["report", str(out), "--data", str(tmp_path / "x.npy"), "-o", str(tmp_path / "r.html")]
    ran = CliRunner().invoke(cli, page)
    assert ran.exit_code == 0, ran.output
    text = (tmp_path / "r.html").read_text()
    assert "puts samples before other images, and a page reads neither" in text
    assert "No pictures" in text


def test_a_suite_measures_again_where_backgrounds_or_masks_have_changed(tmp_path, scenes):
    models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", images((3, *SIZE), 9))
    np.save(tmp_path / "m.npy", discs(9))
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'groups = ["background:{scenes.as_posix()}/3"]\nmeasures = ["output-l2"]\n'
        '[options]\nsamples = 4\nnorm-samples = 7\nmasks = "m.npy"\n'
        '[[models]]\nname = "cnn"\npath = "model.onnx"\n[[data]]\nname = "x"\npath = "x.npy"\n'
    )
    said = []
    for change in (lambda: None, lambda: None, lambda: draw_scenes(scenes, seed=1)):
        change()
        summary = geed.benchmark(suite, tmp_path / "out", notify=said.append)
        assert summary["failed"] == []
    assert [text.rpartition(": ")[2] for text in said if text.startswith("[")] == [
        *("measuring", "kept", "measuring again, backgrounds or masks have changed"),
    ]


def test_a_folder_in_a_suite_lies_beside_it(tmp_path, scenes, monkeypatch):
    models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", images((3, *SIZE), 9))
    np.save(tmp_path / "m.npy", discs(9))
    suite, elsewhere = tmp_path / "suite.toml", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = (
        'groups = ["background:scenes/3"]\nmeasures = ["output-l2"]\n'
        '[options]\nsamples = 4\nnorm-samples = 7\nmasks = "m.npy"\n'
        '[[models]]\nname = "cnn"\npath = "model.onnx"\n[[data]]\nname = "x"\npath = "x.npy"\n'
    )
    suite.write_text(text)
    summary = geed.benchmark(suite, "out")
    assert summary["failed"] == []
    assert [row["group"] for row in summary["rows"]] == ["background:scenes/3"]
    (cell,) = (elsewhere / "out" / "cells").glob("*.json")
    data, group = images((3, *SIZE), 9), f"background:{scenes}/3"
    options = {"samples": 4, "norm_samples": 7, "masks": tmp_path / "m.npy"}
    alone = geed.measure(tmp_path / "model.onnx", data, group, measures=["output-l2"], **options)
    assert geed.read_result(cell)["measurements"] == alone["measurements"]
    # One of that name where the command runs is another one.
    draw_scenes(elsewhere / "scene")
    suite.write_text(text.replace("scenes/3", "scene/3"))
    with pytest.raises(GeedError, match=r"groups\[0\]: there is nothing .* mean 'scenes'"):
        geed.benchmark(suite, "out")


def test_backgrounds_are_a_part_of_the_memory(tmp_path, scenes):
    models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx")
    data, images_of_3 = images((3, *SIZE), 9), 3 * 4 * 3 * 9 * 12
    budget = 4 * images_of_3

    def batch(memory, group=f"background:{scenes}/3", **options):
        options = make_options({**OPTIONS, "memory": memory, **options})
        return prepare_run(tmp_path / "model.onnx", data, group, options).task.batch

    # The rest is what another family of as many members has.
    rest = batch(budget - images_of_3, "noise:4..32/3")
    assert batch(budget, masks=discs(9)) == rest
    assert batch(budget, "noise:4..32/3") > rest
    with pytest.raises(GeedError, match=r"take 3\.8 KiB at 3×9×12, and --memory is 3KiB"):
        batch("3KiB", masks=discs(9))


def test_one_image_twice_is_one_member(tmp_path, scenes):
    (scenes / "z.png").write_bytes((scenes / "sea.png").read_bytes())
    with pytest.raises(
        GeedError, match=r"sea\.png and z\.png are the same image, at 9×12 .* remove"
    ):
        measured(tmp_path, images((3, *SIZE), 9), f"background:{scenes}/6", masks=discs(9))


def test_images_and_masks_of_folders_are_resized_and_cropped_alike(tmp_path, scenes):
    # Each mask is white where its image is black, so that black stays and nothing else does.
    black = discs(9, (9, 15)).repeat(2, axis=1).repeat(2, axis=2)
    large = tmp_path / "images", tmp_path / "masks"
    for folder, values in zip(large, (~black, black), strict=True):
        folder.mkdir()
        for i, value in enumerate(values.astype(np.uint8) * 255):
            Image.fromarray(value).save(folder / f"{i:02}.png")
    loaded = geed.load_model(models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx"))
    options = {"masks": large[1], "preprocess": "resize=9x15 crop=9x12 interpolation=nearest"}
    options = make_options({**OPTIONS, **options})
    source = source_of(loaded, large[0], f"background:{scenes}/3", options)
    _, behind = twin.drawn(scenes, NAMES, 3, 3)
    for position in range(4):
        x, *members = source.rows([position])
        assert 0 < (x == 0).mean() < 1
        wanted = twin.orbit(x, behind, (x == 0)[0])
        np.testing.assert_allclose(members, wanted[1:], atol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NHW"])
def test_other_layouts_are_put_before_the_same_backgrounds(tmp_path, scenes, layout):
    data, shape = images((*SIZE, 3), 9), [*SIZE, 3]
    if layout == "NHW":
        data, shape = data[..., 0], [*SIZE]
        for name in NAMES:
            Image.open(scenes / name).convert("L").save(scenes / name)
    path = models.save(
        build(
            [node("Flatten", "x", "y")],
            [],
            [("x", TensorProto.FLOAT, ["N", *shape])],
            [("y", TensorProto.FLOAT, None)],
        ),
        tmp_path / "model.onnx",
    )
    masks, asked = discs(9), {"measures": ["latent-l2@y"], "input_layout": layout, **OPTIONS}
    result = geed.measure(path, data, f"background:{scenes}/3", masks=masks, **asked)
    of_d, _ = naive.sample_indices(9, 3, 4, 7)
    _, behind = twin.drawn(scenes, NAMES, 3, 3)
    wanted = []
    for i in of_d:
        x = data[i].transpose(2, 0, 1) if layout == "NHWC" else data[i][None]
        orbit = twin.orbit(x, behind, masks[i])
        wanted.append(np.linalg.norm((orbit[1:] - orbit[0]).reshape(3, -1), axis=1))
    got = np.array(result["measurements"][0]["deviations"])[:, 1:]
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_precision_and_fits_go_with_backgrounds(tmp_path, scenes):
    data, group = images((3, *SIZE), 30), f"background:{scenes}/3"
    looked = measured(tmp_path, data, group, masks=discs(30), precision=0.3, samples=20)
    assert looked["precision"]["samples"] <= 20
    asked = {"measures": ["unexplained@stem"], "masks": discs(30)}
    plain = measured(tmp_path, data, group, **asked)["measurements"][0]
    fits = {"output_action": {"stem": "fit:linear"}, "fit_samples": 20}
    fitted = measured(tmp_path, data, group, **fits, **asked)
    record = fitted["measurements"][0]
    assert record["value"] < plain["value"]
    assert record["fit"]["identity"] == pytest.approx(plain["value"], rel=1e-5)


# ------------------------------------------------------------------------------------------------
# What is refused
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "masks", "fault"),
    [
        ("background:{}/3", None, "background:.*: needs the foreground of each sample.* --masks"),
        ("blur:1", discs(9), "--masks: marks the foreground .* the group is blur:1"),
        ("C2", discs(9), "--masks: .* group is C2"),
        ("background:{}/3", discs(8), "8 masks for 9 samples"),
        ("background:{}/3", discs(9, (9, 9)), "9×9, but the sample is 9×12"),
        ("background:{}/3", discs(9) * 7, "holds 7"),
        ("background:{}/9", discs(9), "the folder has 5 images"),
        ("background:{}/none/3", discs(9), "none"),
        ("background:{}/3", "nothing.npy", "nothing.npy"),
        ("background:scenes", discs(9), "needs a folder and how many .* background:FOLDER/8"),
        ("background:/3", discs(9), "needs a folder and how many"),
        ("background:{}/2000", discs(9), "at most 1024"),
        ("C4*background:{}/3", discs(9), "C4"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, scenes, group, masks, fault):
    with pytest.raises(GeedError, match=fault) as raised:
        measured(tmp_path, images((3, *SIZE), 9), group.format(scenes), masks=masks)
    assert "\n" not in str(raised.value)


def test_an_image_that_cannot_be_read_is_named(tmp_path, scenes):
    data, masks = images((3, *SIZE), 9), save_masks(tmp_path / "masks", discs(9))
    (masks / "08.png").write_bytes(b"no image")
    (masks / "00.png").write_bytes(b"no image")
    with pytest.raises(GeedError, match=r"^--masks .*0[08]\.png") as raised:
        measured(tmp_path, data, f"background:{scenes}/3", masks=masks)
    assert "\n" not in str(raised.value)
    (scenes / "sea.png").write_bytes(b"no image")
    with pytest.raises(GeedError, match=r"background:.*sea\.png") as raised:
        measured(tmp_path, data, f"background:{scenes}/5", masks=discs(9))
    assert "\n" not in str(raised.value)


def test_only_images_have_a_background(tmp_path, scenes):
    path = models.save(flat([node("Flatten", "x", "y")], channels=2), tmp_path / "two.onnx")
    with pytest.raises(GeedError, match="changes images, which are grey or RGB"):
        geed.measure(
            *(path, images((2, *SIZE), 9), f"background:{scenes}/3"),
            measures=["latent-l2@y"],
            masks=discs(9),
            input_layout="NCHW",
            **OPTIONS,
        )


# ------------------------------------------------------------------------------------------------
# Inputs that are large
# ------------------------------------------------------------------------------------------------


def test_a_gain_of_fewer_points_is_said_to_be(tmp_path, monkeypatch):
    data = images((3, *SIZE), 9)
    plain = measured(tmp_path, data, "blur:1", ["latent-l2"])
    assert not any(note.startswith("gain") for note in plain["notes"])
    monkeypatch.setattr(how_far, "_HELD", 4 * data[0].size * 4)
    few = measured(tmp_path, data, "blur:1", ["latent-l2"])
    (note,) = [note for note in few["notes"] if note.startswith("gain")]
    assert "taken over 4 of the 7 points for M" in note
    folder = tmp_path / "a.geed"
    write_cache(tmp_path / "model.onnx", data, "blur:1", folder, measures=["latent-l2"], **OPTIONS)
    assert note in measure_cache(folder)["notes"]
    assert not any(n.startswith("gain") for n in measure_cache(folder, norm_samples=4)["notes"])
    values = [r["measurements"][0]["gain"]["value"] for r in (plain, few)]
    assert values[0] != values[1]
