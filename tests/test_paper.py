"""The paper's experiments: chips of xView's published form, suites that can be read, resuming."""

import itertools
import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from fitted import fitted_result
from onnx import numpy_helper
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from onnx_geed.measures import parse_request
from onnx_geed.results import layer_motions
from onnx_geed.run.suite_file import read_suite

PAPER = Path(__file__).parent.parent / "benchmarks" / "paper"


@pytest.fixture(scope="module", autouse=True)
def _scripts():
    """The experiments are scripts beside each other, no package."""
    sys.path.insert(0, str(PAPER))
    yield
    sys.path.remove(str(PAPER))


def geotiff(path, array):
    """Write what GDAL writes of a scene north up: pixel scale, tie point, WGS 84."""
    about = ImageFileDirectory_v2()
    about[33550] = (2.7e-6, 2.7e-6, 0.0)
    about.tagtype[33550] = 12
    about[33922] = (0.0, 0.0, 0.0, 103.85, 1.29, 0.0)
    about.tagtype[33922] = 12
    about[34735] = (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326)
    about.tagtype[34735] = 3
    Image.fromarray(array).save(path, tiffinfo=about, compression="tiff_lzw")


def feature(image, kind, bounds):
    """A feature as in xView_train.geojson."""
    x0, y0, x1, y1 = (float(v) for v in bounds.split(","))
    ring = [[x0, y0], [x0, y1], [x1, y1], [x1, y0], [x0, y0]]
    return {
        "type": "Feature",
        "properties": {
            "bounds_imcoords": bounds,
            "edited_by": "someone",
            "cat_id": "1040010028371A00",
            "type_id": kind,
            "ingest_time": "2017/07/24 12:49:09.118+00",
            "index_right": 2356,
            "image_id": image,
            "feature_id": 374410,
            "grid_file": "Grid1.shp",
        },
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


@pytest.fixture
def xview(tmp_path):
    images = tmp_path / "train_images"
    images.mkdir()
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 50, (120, 160, 3), dtype=np.uint8)
    scene[40:60, 50:90] = (250, 10, 20)  # a yacht, and nothing else is so red
    scene[70:80, 100:110] = (10, 240, 20)  # a motorboat
    geotiff(images / "5.tif", scene)
    geotiff(images / "104.tif", scene[::-1].copy())
    features = [
        feature("5.tif", 50, "50,40,90,60"),
        feature("5.tif", 41, "100,70,110,80"),
        feature("5.tif", 11, "20,20,40,40"),  # an aeroplane
        feature("5.tif", 40, "20,20,40,40"),  # a vessel of no closer kind
        feature("5.tif", 52, "60,60,60,80"),  # no area
        feature("5.tif", 52, "0,0,20,20"),  # its window leaves the scene
        feature("104.tif", 47, "70,30,90,50"),
        feature("1395.tif", 50, "50,40,90,60"),  # no such file
    ]
    path = tmp_path / "xView_train.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path, images


def test_maritime_boxes_become_chips_of_their_classes(xview, capsys):
    import chips

    objects = list(chips.xview(*xview, 32))
    assert [(name, kind) for name, _, kind in objects] == [
        ("104.tif", 4),
        ("5.tif", 6),
        ("5.tif", 0),
    ]
    assert all(chip.shape == (32, 32, 3) and chip.dtype == np.uint8 for _, chip, _ in objects)
    yacht, motorboat = objects[1][1], objects[2][1]
    # 50 pixels around the centre (70, 50): the yacht is 40 of 50 wide and 20 of 50 high.
    red = (yacht[..., 0] > 150).mean(axis=1)
    assert red.max() == pytest.approx(40 / 50, abs=0.05)
    assert (red > 0.5).mean() == pytest.approx(20 / 50, abs=0.05)
    # The least window is 24 pixels.
    assert (motorboat[..., 1] > 150).mean() == pytest.approx(100 / 24**2, abs=0.04)
    assert motorboat[15:17, 15:17, 1].min() > 200
    assert capsys.readouterr().out == f"1395.tif: is not in {xview[1]}, passed over\n"


def test_scenes_are_for_training_or_for_testing():
    import chips

    names = [f"{i}.tif" for i in range(10)]
    held = chips.split(names, 0.2)
    assert len(held) == 2
    assert held < set(names)
    assert held == chips.split(names[::-1], 0.2)


def test_crowns_and_ground_are_told_apart(tmp_path):
    import chips

    rng = np.random.default_rng(0)
    scene = np.full((400, 400, 3), 60, np.uint8)
    centres = [(x, y) for x in (80, 200, 320) for y in (80, 200, 320)]
    boxes = []
    for i, (x, y) in enumerate(centres):
        half = 15 if i % 3 else 30
        scene[y - half : y + half, x - half : x + half] = 250
        boxes.append((x - half, y - half, x + half, y + half))
    Image.fromarray(scene).save(tmp_path / "scene.png")
    text = "".join(
        "<bndbox><xmin>{}</xmin>\n<ymin>{}</ymin>\n<xmax>{}</xmax>\n<ymax>{}</ymax></bndbox>".format(
            *box
        )
        for box in boxes
    )
    (tmp_path / "scene.xml").write_text(f"<annotation>{text}</annotation>")
    windows = list(chips.trees(tmp_path / "scene.png", 32, rng))
    assert sorted(kind for _, _, kind in windows) == [0] * 4 + [1] * 6 + [2] * 3
    places = [place for place, _, kind in windows if kind]
    assert places == [x / 400 for x, _ in centres]
    for _, chip, kind in windows:
        assert (chip[16, 16, 0] > 200) == (kind > 0)
        if kind:
            share = (chip[..., 0] > 150).mean()
            assert share == pytest.approx(((30, 60)[kind - 1] / 64) ** 2, abs=0.03)


@pytest.mark.parametrize("path", sorted(PAPER.glob("suites/*.toml")), ids=lambda p: p.stem)
def test_suites_can_be_read(path, tmp_path):
    content = tomllib.loads(path.read_text())
    for entry in [*content["models"], *content["data"]]:
        text = entry["path"].replace("{seed}", "3").replace("{step}", "200")
        file = tmp_path / re.sub(r"\{\w+\}", "word", text)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / path.name).write_text(path.read_text())
    cells = read_suite(tmp_path / path.name).cells
    models = {c.model for c in cells}
    assert len(models) == len(content["models"])
    assert len(cells) == len(models) * len(content["data"]) * len(content["groups"])
    for measure in itertools.chain.from_iterable(c.measures for c in cells):
        parse_request(measure)


@pytest.mark.parametrize(
    "path", sorted(PAPER.glob("results/*/*.json")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_committed_pictures_are_those_of_the_committed_results(path, tmp_path):
    import run

    drawn = {p.name for p in run.pictures(path, tmp_path)}
    committed = PAPER / "figures" / path.parent.name / path.stem
    assert drawn == {p.name for p in committed.iterdir()}


def row(model, values, *, step=None, measure="latent-l2", layer="latent", half=0.1, **other):
    mean = sum(values) / len(values)
    ends = [mean - half, mean + half] if len(values) > 1 else None
    return {
        **{"model": model, "step": step, "data": "digits", "group": "C8", "measure": measure},
        **{"layer": layer, "seeds": list(range(len(values))), "values": values, "mean": mean},
        **{"ci95_over_models": ends, "ci95_over_samples": None},
        **other,
    }


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        ([0.1, 0.3], [0.5, 0.7], "reproduced"),
        ([0.5, 0.7], [0.1, 0.3], "reversed"),
        ([0.3, 0.5], [0.4, 0.6], "not separated"),
    ],
)
def test_intervals_decide_who_lies_below(low, high, verdict):
    import findings

    r = findings.Results([row("a", low, step=200), row("b", high, step=200)])
    text, verdicts = findings.final("latent-l2", "a", "b")(r)
    assert verdicts == [verdict]
    assert text == f"a {sum(low) / 2:.3g} ± 0.1, b {sum(high) / 2:.3g} ± 0.1"


def test_what_was_not_measured_is_not_run():
    import findings

    r = findings.Results([row("a", [0.1, 0.2], step=200)])
    assert findings.final("latent-l2", "a", "b")(r)[1] == ["not run"]
    # One seed and no interval of samples: nothing separates it.
    single = findings.Results([row("a", [0.1], step=200), row("b", [9.0], step=200)])
    assert findings.final("latent-l2", "a", "b")(single)[1] == ["not separated"]
    assert "not run" in findings.table(Path("nowhere"), "figures")


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        ([0.1, 0.4], "reproduced"),
        ([0.3, 0.6], "reversed"),
        ([0.1, 0.6], "not separated"),
        # Both fall, but one so much more that the mean could be anything.
        ([0.1, 0.49], "not separated"),
        # A seed that has not come so far yet is left out; one alone decides nothing.
        ([0.1], "not separated"),
    ],
)
def test_change_over_training_is_each_seeds_own(last, verdict):
    import findings

    rows = [row("a", [0.2, 0.5], step=200), row("a", [9, 9], step=0), row("a", last, step=400)]
    _, verdicts = findings.falls("latent-l2", ("a",))(findings.Results(rows))
    assert verdicts == [verdict]


def test_a_block_that_becomes_more_equivariant_is_told():
    import findings

    def block(model, step, *values):
        return row(model, list(values), step=step, measure="channel-cos", layer="block1")

    rows = [
        *(block("conventional", 0, -0.1, -0.1), block("conventional", 200, -0.5, -0.6)),
        *(block("conventional", 400, -0.505, -0.62), block("steerable", 200, -0.9, -0.9)),
        *(block("steerable", 0, -0.9, -0.9), block("steerable", 400, -0.95, -0.952)),
    ]
    text, verdicts = findings.flat(findings.Results(rows))
    assert verdicts == ["reproduced", "reversed"]
    assert "-0.051 (steerable block1)" in text


@pytest.mark.parametrize(("deep", "verdict"), [(-0.9999, "reproduced"), (-0.95, "reversed")])
def test_decay_is_interpolations_where_quarter_turns_show_none(deep, verdict):
    import findings

    rows = [
        row("steerable", [mean, mean], step=9, measure="channel-cos", layer=layer, exact_mean=exact)
        for layer, mean, exact in (("block1", -0.98, -1.0), ("block6", -0.91, deep))
    ]
    assert findings.resampled(findings.Results(rows))[1] == [verdict]


def test_differences_are_compared_seed_by_seed():
    import findings

    def cells(*untrained):
        return findings.Results(
            [
                row("steerable", [0.1, 0.2]),
                row("conventional", [0.2, 0.4]),
                row("untrained", list(untrained)),
            ]
        )

    assert findings.smaller_gap(cells(0.8, 1.1))[1] == ["reproduced"]
    assert findings.smaller_gap(cells(0.25, 0.55))[1] == ["reversed"]
    assert findings.smaller_gap(cells(0.8, 0.5))[1] == ["not separated"]


@pytest.mark.parametrize(
    ("turned", "verdicts"),
    [
        ([0.2, 0.3], ["reproduced", "reproduced"]),
        ([0.8, 0.9], ["reproduced", "reversed"]),
        ([0.2, 0.9], ["reproduced", "not separated"]),
    ],
)
def test_an_augmentation_is_judged_by_its_own_group_and_by_the_other(turned, verdicts):
    import findings

    def cell(model, group, *values):
        return row(model, list(values), step=9, group=group)

    rows = findings.Results(
        [
            *(cell("neither", "flip-h", 1, 1), cell("neither", "C4", 1, 1)),
            *(cell("flips", "flip-h", 0.5, 0.5), cell("flips", "C4", 0.85, 0.85)),
            *(cell("turns", "C4", *turned), cell("turns", "flip-h", 0.7, 0.8)),
        ]
    )
    text, found = findings.own_counts_more(rows)
    assert found == verdicts
    assert text.startswith("flips shorten distances by 50% under flip-h, 15% under C4; turns")
    assert findings.augmented("flips", "neither", "flip-h")(rows)[1] == ["reproduced"]
    assert findings.augmented("neither", "flips", "flip-h")(rows)[1] == ["reversed"]
    assert findings.augmented("flips", "both", "flip-h")(rows)[1] == ["not run"]


def test_turned_views_are_turns_of_what_is_seen_without():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    import fashion

    def views(flips, turns):
        x = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        return fashion.augment(x, torch.Generator().manual_seed(3), flips, turns)

    for flips in (False, True):
        plain, turned = views(flips, False), views(flips, True)
        kinds = [
            [k for k in range(4) if torch.allclose(torch.rot90(a, k, (1, 2)), b, atol=2e-3)]
            for a, b in zip(plain, turned, strict=True)
        ]
        assert {k for found in kinds for k in found} == {0, 1, 2, 3}
        assert all(len(found) == 1 for found in kinds)


def test_accuracies_are_read_from_the_logs(tmp_path):
    import findings
    import run

    for name, last in {"lite0/scratch/run0": 0.5, "lite0/pretrained/run0": 0.8125}.items():
        path = tmp_path / "4.3" / name / "log.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"200": {"accuracy": last}, "90": {"accuracy": 0.99}}))
    ends = run.training(tmp_path, "4.3")
    assert ends["lite0/scratch/run0"] == {"step": 200, "accuracy": 0.5}
    text, verdicts = findings.more_accurate(findings.Results([], ends))
    # One seed decides nothing.
    assert verdicts == ["not separated"]
    assert "50.00% to 50.00% / 81.25% to 81.25%" in text
    again = {k.replace("run0", "run1"): v for k, v in ends.items()}
    assert findings.more_accurate(findings.Results([], ends | again))[1] == ["reproduced"]
    assert findings.accurate(0.6)(findings.Results([], ends))[1] == ["reproduced", "reversed"]


def seen_of_fits(more=0.0):
    """What section A.4 reads of four layers, known to stay, permute, mix and forget; or more."""
    import sectiona4

    fits = [fitted_result(kind) for kind in ("permutation", "orthogonal", "linear")]
    seen = sectiona4.predictions(layer_motions(fits))
    return {
        layer: {k: {**x, "per_sample": x["per_sample"] + more} for k, x in kinds.items()}
        for layer, kinds in seen.items()
    }


def rows_of_fits(network="conventional", seeds=(0, 1)):
    import sectiona4

    found = dict.fromkeys(seeds, seen_of_fits())
    return sectiona4.rows_of(network, "digits", "C4", found, {})


def test_maps_are_held_against_each_other_on_the_same_samples():
    import findings

    rows = rows_of_fits()
    assert [r["layer"] for r in rows if r["kind"] == "linear"] == [f"conv{i}" for i in range(1, 5)]
    r = findings.Results(rows)

    def verdicts(kind, than):
        return findings.less(kind, than, "conventional", "C4")(r)[1]

    # Of conv1 and conv4 the identity is better by 0.01, of conv2 and conv3 worse.
    permuted = ["reversed", "reproduced", "reproduced", "reversed"]
    assert verdicts("permutation", "identity") == permuted
    assert verdicts("orthogonal", "permutation")[2] == "reproduced"
    assert verdicts("linear", "shuffled") == ["reproduced"] * 3 + ["reversed"]
    row = r.row(layer="conv3", kind="linear")
    assert row["values"] == pytest.approx([0.25, 0.25])
    assert row["shuffled"] == pytest.approx([2, 2])
    assert row["motion"] == ["mixes along"] * 2
    text, words = findings.motions("conventional", "C4", "mixes along")(r)
    assert words.count("reproduced") == 2
    assert "mixes along 2 of 8" in text


@pytest.mark.parametrize(("worse", "verdict"), [(0.1, "reproduced"), (-0.1, "reversed")])
def test_networks_are_held_against_their_controls(worse, verdict):
    import findings
    import sectiona4

    own, noise = seen_of_fits(), np.tile([0.0, 1e-3], 10)
    control = {0: seen_of_fits(worse + noise)}
    rows = sectiona4.rows_of(
        *("conventional", "digits", "C4", {0: own, 1: own}, {"untrained": control})
    )
    # A seed that the control has not is left out.
    assert all(len(r["gaps"]["untrained"]) == 1 for r in rows)
    rows += sectiona4.rows_of("untrained", "digits", "C4", control, {})
    find = findings.less("linear", "untrained", "conventional", "C4")
    text, verdicts = find(findings.Results(rows))
    assert verdicts == [verdict] * 4
    assert text.startswith(f"linear, conventional / untrained: 0.21 / {0.21 + worse:.2g}; ")


def test_a_gap_has_to_show_in_every_seed():
    import findings

    rows = rows_of_fits()
    gaps = next(r for r in rows if r["layer"] == "conv3" and r["kind"] == "orthogonal")["gaps"]
    gaps["permutation"][1] = [-0.1, 0.1]
    find = findings.less("orthogonal", "permutation", "conventional", "C4")
    assert find(findings.Results(rows))[1][2] == "not separated"
    assert find(findings.Results([]))[1] == ["not run"]


@pytest.mark.parametrize(
    ("permutation", "defect", "verdict"),
    [(1e-12, 0.0, "reproduced"), (1e-3, 0.0, "reversed"), (1e-12, 0.2, "reversed")],
)
def test_a_fitted_table_is_held_against_the_given_one(permutation, defect, verdict):
    import findings

    common = {"network": "steerable", "group": "C4", "layer": "block1"}
    rows = [
        {**common, "kind": "permutation", "values": [permutation], "defect": [defect]},
        {**common, "kind": "given", "values": [0.0], "defect": [None]},
    ]
    assert findings.table_found("steerable", "C4")(findings.Results(rows))[1] == [verdict]
    assert findings.table_found("steerable", "C4")(findings.Results(rows[:1]))[1] == ["not run"]


def test_a_picture_a_network_and_group_shows_every_kind_of_map(tmp_path):
    import run

    path = tmp_path / "A.4.json"
    rows = [*rows_of_fits(), *rows_of_fits("lite0 untrained", seeds=(0,))]
    path.write_text(json.dumps({"rows": [{k: run.rounded(v) for k, v in r.items()} for r in rows]}))
    drawn = run.pictures(path, tmp_path)
    names = ["conventional-C4.unexplained.svg", "lite0-untrained-C4.unexplained.svg"]
    assert sorted(p.name for p in drawn) == names
    for picture in drawn:
        text = picture.read_text()
        for word in (
            "identity",
            "permutation",
            "orthogonal",
            "linear",
            "linear, shuffled",
            "conv4",
        ):
            assert f">{word}<" in text


def test_networks_that_are_there_are_fitted_once(tmp_path, monkeypatch):
    import models
    import sectiona4
    from running import images

    path = tmp_path / "A.4/rotated/steerable/run1/step800.onnx"
    path.parent.mkdir(parents=True)
    model = models.c4_lifting()
    table = {"elements": ["e", "r1", "r2", "r3"], "channels": models.known(model)["channels"]}
    layer = "map1"
    known = {f"onnx_geed.action.{layer}": json.dumps(table)}
    models.save(models.with_metadata(model, known), path)
    (tmp_path / "data").mkdir()
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    np.save(tmp_path / "data/digits.npy", images(tuple(shape), 30))
    options = {"samples": 6, "fit_samples": 10, "provider": "cpu"}
    pattern = sectiona4.NETWORKS["steerable"][0]
    about = {"steerable": (pattern, ((layer,), ("C4",), "data/digits.npy", options))}
    rows = {r["kind"]: r for r in sectiona4.measured(tmp_path, "small", about)}
    assert set(rows) == {"identity", "permutation", "orthogonal", "linear", "shuffled", "given"}
    assert rows["permutation"]["seeds"] == [1]
    assert rows["permutation"]["values"] == pytest.approx(rows["given"]["values"], abs=1e-9)
    assert rows["permutation"]["defect"] == [0.0]
    assert rows["identity"]["values"][0] > 0.3
    # What is measured is read again, but of other weights.
    monkeypatch.setattr(sectiona4, "measure", None)
    again = {r["kind"]: r for r in sectiona4.measured(tmp_path, "small", about)}
    assert again["linear"]["values"] == rows["linear"]["values"]
    models.save(models.c4_lifting(fields=2), path)
    with pytest.raises(TypeError):
        sectiona4.measured(tmp_path, "small", about)
    path.unlink()
    with pytest.raises(SystemExit, match="no network"):
        sectiona4.measured(tmp_path, "small", about)


@pytest.mark.parametrize("scale", [p.name for p in sorted(PAPER.glob("results/*"))])
def test_the_readme_tells_the_committed_results(scale):
    import findings

    text = (PAPER / "README.md").read_text(encoding="utf-8")
    told = text.split(f"<!-- findings {scale} -->\n")[1].split(f"\n<!-- end {scale} -->")[0]
    assert told == findings.table(PAPER / "results" / scale, f"figures/{scale}")
    for link in re.findall(r"\]\((figures/[^)]+)\)", text):
        assert (PAPER / link).is_file(), link


def block_of(text, name):
    return text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end {name} -->")[0]


def test_pages_say_in_words_what_the_committed_results_say():
    import words

    results = PAPER / "results" / "small"
    text = (PAPER / "README.md").read_text(encoding="utf-8")
    for name, block in words.BLOCKS.items():
        assert block_of(text, f"{name} small") == block(results)
    page = (PAPER.parent.parent / "docs" / "index.md").read_text(encoding="utf-8")
    assert block_of(page, "conclusions") == words.short(results)
    # What was measured is written by the script alone.
    by_hand = re.sub(r"<!-- (\w+) small -->.*?<!-- end (\w+ )?small -->", "", text, flags=re.S)
    assert not re.findall(
        r"±|(?<![=.\d])\d\.\d{2,}(?!\.)|\de-\d|\d\.\d ?%", by_hand.replace("0.01", "")
    )


def test_every_conclusion_stands_on_findings():
    import words

    results = PAPER / "results" / "small"
    assert len(words.CONCLUSIONS) == 5
    for _, findings, _ in words.CONCLUSIONS:
        assert "not run" not in words.reached(results, findings)
    assert words.verdicts_of(results, "4.2, (2)", "Trained CNNs").endswith(" of 10")
    assert words.verdicts_of(results, "4.1, (1)", "no such finding") == "not run"


def test_which_start_is_more_invariant_depends_on_the_measure_where_both_orders_show():
    import findings

    def pair(measure, scratch, pretrained, **other):
        return [
            row(f"lite0 {start}", values, step=9, measure=measure, **other)
            for start, values in (("scratch", scratch), ("pretrained", pretrained))
        ]

    def cosines(*values):
        rows = pair("latent-cos", [-1.3, -1.2], [-4.1, -4.0])
        for each, mean in zip(rows, values, strict=True):
            each |= {"unnormalised_mean": mean}
            each |= {"unnormalised_ci95_over_models": [mean - 0.1, mean + 0.1]}
        return rows

    rest = [*pair("latent-l2", [0.4, 0.6], [0.5, 0.6]), *pair("softmax-kl", [0.2, 0.3], [0.2, 0.3])]
    text, verdicts = findings.depends("C8")(findings.Results([*rest, *cosines(-0.9, -0.6)]))
    assert verdicts == ["reproduced"]
    wanted = "lite0 by distance not separated, by cosine with M pretrained, by cosine without M"
    assert wanted in text
    # One order alone does not depend.
    same = findings.depends("C8")(findings.Results([*rest, *cosines(-0.6, -0.9)]))[1]
    assert same == ["not separated"]


def test_each_network_is_held_against_itself():
    import findings

    r = findings.Results(
        [
            row(f"{network} {start}", [value, value + 0.01], step=step, half=0.03)
            for network, values in {
                "a": {"scratch": (0.2, 0.4), "pretrained": (0.3, 0.3)},
                "b": {"scratch": (0.6, 0.1), "pretrained": (0.9, 0.8)},
            }.items()
            for start, both in values.items()
            for step, value in zip((1, 2), both, strict=True)
        ]
    )
    assert findings.networks(r) == ["a", "b"]
    text, verdicts = findings.starts("C8", "latent-l2")(r)
    assert verdicts == ["reproduced", "reversed", "reproduced", "reproduced"]
    assert text.startswith("scratch / pretrained, at 2: a 0.4")
    text, verdicts = findings.trend("scratch", 1)(r)
    assert verdicts == ["reproduced", "reversed"]
    assert text.startswith("from iteration 1 to 2: a 0.2")
    assert findings.trend("pretrained", -1)(r)[1] == ["not separated", "reproduced"]


def test_the_first_seeds_say_what_they_would_have_said_alone():
    import findings
    import words

    ends = {f"cnn/run{seed}": {"accuracy": 0.9 + seed / 100} for seed in range(4)}
    every = findings.Results(
        [row("a", [0.1, 0.3, 0.2, 0.9], step=1), row("b", [0.5, 0, 0.7, 0.8], step=1)], ends
    )
    every.row(model="b")["values"][1] = None  # failed
    few = every.of_first(3)
    assert few.row(model="a")["values"] == [0.1, 0.3, 0.2]
    assert few.row(model="a")["seeds"] == [0, 1, 2]
    assert few.row(model="a")["mean"] == pytest.approx(0.2)
    # Student's t of three values 0.1 apart: 4.303 * 0.1 / sqrt(3).
    half = 4.302653 * 0.1 / 3**0.5
    assert few.row(model="a")["ci95_over_models"] == pytest.approx([0.2 - half, 0.2 + half])
    assert few.row(model="b")["mean"] == pytest.approx(0.6)
    assert [*few.training] == ["cnn/run0", "cnn/run1", "cnn/run2"]
    assert every.row(model="a")["values"][3] == 0.9  # as it was
    assert len(words.more_seeds(PAPER / "results" / "small").splitlines()) > 4


def test_verdicts_of_changes_are_those_of_a_t_test():
    import findings

    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    seen = set()
    for shift in np.linspace(-2, 2, 40):
        values = rng.normal(shift, 1, 8)
        found = findings.negative(list(values))
        sure = stats.ttest_1samp(values, 0).pvalue < 0.05
        wanted = ("reproduced" if values.mean() < 0 else "reversed") if sure else "not separated"
        assert found == wanted
        seen.add(found)
    assert len(seen) == 3


def test_weights_of_packages_load_with_every_key(tmp_path):
    torch = pytest.importorskip("torch")
    import pickle

    import packaged

    net = packaged.SqueezeNet()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in state)
    content = {}
    for layer in layers:
        weight = state[f"{layer}.weight"]
        kernel = weight.reshape(*weight.shape, *(1,) * (4 - weight.ndim)).transpose(2, 3, 1, 0)
        content[layer.replace(".", "/")] = [kernel.copy(), state[f"{layer}.bias"]]
    (tmp_path / "ndf.pkl").write_bytes(pickle.dumps(content))
    residual = packaged.ResNet18().state_dict()
    arrays = {k: v.numpy() for k, v in residual.items() if "tracked" not in k}
    own = {**arrays, "fc.weight": arrays["fc.weight"].T, "pool_size": np.array([4])}
    np.savez(tmp_path / "geoembed.npz", **own)
    for name, given, wanted in (
        ("squeezenet", "ndf.pkl", state),
        ("resnet18", "geoembed.npz", arrays),
    ):
        with np.load(packaged.readable(name, tmp_path / given, tmp_path)) as read:
            assert {*read.files} == {*wanted}
            assert all(np.array_equal(read[k], wanted[k]) for k in wanted)
    assert packaged.readable("lite0", tmp_path / "x.pth", tmp_path) == tmp_path / "x.pth"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Path))
    with pytest.raises(SystemExit, match=r"Path, which is no array"):
        packaged.readable("squeezenet", tmp_path / "evil.pkl", tmp_path)
    x = torch.rand(1, 3, 96, 96)
    assert net.eval()(x).shape == (1, 1000)


@pytest.mark.parametrize("name", ["lite0", "squeezenet", "resnet18", "resnet50"])
def test_a_network_is_trained_on_what_its_file_is_fed(name):
    torch = pytest.importorskip("torch")
    import section43

    from onnx_geed.data import parse_preprocess

    network = {**section43.NETWORKS["small"], **section43.NETWORKS["paper"]}[name]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)
    words = parse_preprocess(network.words())
    pixels = np.stack([i.transpose(1, 2, 0) for i in images])
    if network.size:
        assert words.resize == network.size
        small = (Image.fromarray(i).resize((network.size,) * 2, 2) for i in pixels)
        pixels = np.stack([np.asarray(i) for i in small])
    wanted = words.finish(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255, 1)
    found = network.fed(torch.from_numpy(images)).numpy()
    # Pillow rounds to bytes.
    step = 1.01 / 255 / min(network.std) if network.size else 1e-4
    assert np.abs(found - wanted).max() < step
    assert wanted.std() > 10 * step


@pytest.mark.parametrize("page", ["benchmarks/paper/README.md", "docs/how-to/families.md"])
def test_pages_tell_the_committed_families(page):
    import discussion

    rows = json.loads((PAPER / "results/small/discussion.json").read_text("utf-8"))["rows"]
    assert discussion.table(rows) in (PAPER.parent.parent / page).read_text("utf-8")


def test_photos_are_labelled_by_their_names(tmp_path):
    import discussion

    photos, work = tmp_path / "photos", tmp_path / "work"
    photos.mkdir()
    names = {"b_03.png": 3, "a_243.png": 243, "chelsea.png": None, "c_7_x.png": None}
    for i, name in enumerate(names):
        Image.new("RGB", (200, 200), (i, 0, 0)).save(photos / name)
    Image.new("RGB", (20, 200)).save(photos / "small_5.png")
    discussion.data(work, photos)
    assert sorted(p.name for p in (work / "data/labelled").iterdir()) == ["a_243.png", "b_03.png"]
    assert (work / "data/labelled.txt").read_text() == "243\n3\n"
    discussion.data(work, None)
    for name in ("a_243.png", "b_03.png", "small_5.png"):
        (photos / name).unlink()
    with pytest.raises(SystemExit, match="no name ends in a class"):
        discussion.data(tmp_path / "other", photos)


def test_a_family_has_its_gain_and_curve(tmp_path):
    import discussion

    records = [
        {"measure": "latent-l2", "per_element": {"jpeg90": 0.2}, "gain": {"value": 3.0}},
        {"measure": "flip-rate", "per_element": {"jpeg90": 0.1}},
    ]
    for group in ("jpeg:90", "hue12"):
        content = {"group": {"name": group}, "measurements": records}
        (tmp_path / f"{group.partition(':')[0]}.json").write_text(json.dumps(content))
        records = [{**record, "gain": None} for record in records]
    rows = [{"group": g, "measure": m} for g in ("jpeg:90", "hue12") for m in ("latent-l2",)]
    moved, hue = discussion.with_cells(rows, tmp_path)
    assert moved["gain"] == 3.0
    assert moved["per_element"] == {"jpeg90": 0.2}
    assert hue["gain"] is None


def test_a_checkpoint_leaves_the_training_alone(tmp_path):
    torch = pytest.importorskip("torch")
    from checkpoints import export

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 2), torch.nn.Dropout())
    # A mask that is a parameter, as in escnn, must not begin to learn.
    net[1].bias.requires_grad_(False)
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    export(net, tmp_path / "net.onnx", (1, 3, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [True, False]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    torch = pytest.importorskip("torch")
    from checkpoints import train

    def run(name, stop=None):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 2), torch.nn.Dropout())
        seen = []

        def step(i, generator):
            if i == stop:
                raise KeyboardInterrupt
            seen.append(i)
            x = torch.rand(5, 1, 3, 3, generator=generator)
            return net(x).square().mean()

        train(
            *(tmp_path, name, net, step),
            **{"iterations": 6, "every": 2, "rate": 0.1, "seed": 4, "shape": (1, 3, 3)},
        )
        return seen

    with pytest.raises(KeyboardInterrupt):
        run("broken", stop=3)
    assert run("broken") == [2, 3, 4, 5]
    assert run("whole") == [0, 1, 2, 3, 4, 5]
    assert run("whole") == []
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert files == ["log.json", "step0.onnx", "step2.onnx", "step4.onnx", "step6.onnx"]
    for name in files[1:]:
        a, b = (
            {
                t.name: numpy_helper.to_array(t)
                for t in onnx.load(tmp_path / k / name).graph.initializer
            }
            for k in ("whole", "broken")
        )
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[k], b[k]) for k in a)
    # Killed between a checkpoint and its state: both are written anew, to the same weights.
    last = tmp_path / "whole" / "step4.onnx"
    before = last.read_bytes()
    log = json.loads((tmp_path / "whole" / "log.json").read_text())
    with pytest.raises(KeyboardInterrupt):
        run("between", stop=3)
    (tmp_path / "between" / "log.json").write_text(json.dumps({k: log[k] for k in ("0", "2", "4")}))
    assert run("between") == [2, 3, 4, 5]
    assert (tmp_path / "between" / "step4.onnx").read_bytes() == before
    assert json.loads((tmp_path / "between" / "log.json").read_text()) == log
    first, last = (
        onnx.load(tmp_path / "whole" / n).graph.initializer[0].SerializeToString()
        for n in ("step0.onnx", "step6.onnx")
    )
    assert first != last
