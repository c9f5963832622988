import re
import sys
from html.parser import HTMLParser

import large_pages
import models
import numpy as np
import pytest
from click.testing import CliRunner
from recording import measurement

from onnx_geed import GeedError, measure, parse_group, write_json
from onnx_geed.cli import cli
from onnx_geed.groups import angle
from onnx_geed.report import write_report
from onnx_geed.report.elements import (
    at_elements,
    element_called,
    element_noun,
    element_told,
    worst_noun,
)
from onnx_geed.report.figures import polar_picture, profile_picture
from onnx_geed.report.page import report
from onnx_geed.report.svg import themed
from onnx_geed.report.thinned import thinned
from onnx_geed.report.thumbnails import open_pictures, orbit_pictures
from onnx_geed.report.words import meaning
from onnx_geed.results import read_record, result
from onnx_geed.run import explore
from onnx_geed.text import span

C8, C4_IN_C8 = parse_group("C8"), (0, 2, 4, 6)


def record(measure, deviations, layer="a", elements=C8.elements, **options):
    return measurement(
        measure=measure,
        layer=layer,
        layout="NCHW",
        output_action="grid" if measure == "channel-cos" else "trivial",
        deviations=deviations,
        elements=elements,
        **options,
    )


def result_of(records, *, group="C8", path="net.onnx", names=None, indices=None, exact=None):
    acting = parse_group(group)
    count = max(len(r["per_sample"]) for r in records)
    return result(
        command=f"onnx-geed measure {path}",
        software={"numpy": "1"},
        model={"path": path, "sha256": "ab" * 32, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd" * 32,
            "available": 30,
            "indices": list(indices or range(count)),
            "names": names,
            "labels": None,
        },
        group={
            "name": group,
            "order": acting.order,
            "elements": list(acting.elements),
            "exact": list(exact or [g % 2 == 0 for g in range(acting.order)]),
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={"device": "a processor", "precision": "float32"},
        seed=0,
        measurements=records,
    )


def spread(value, n=6, noise=0.01):
    rng = np.random.default_rng(0)
    return value + noise * rng.standard_normal((n, 8))


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        # A share whose number and sign stay together is no word of its own.
        self.feed(re.sub(r'<span class="nb">(.*?)</span>', r"\1", text))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page(*results, **options):
    return Page(report(list(results), **options))


@pytest.fixture
def simple():
    layers = [record("channel-cos", spread(v), f"conv{i}") for i, v in enumerate((-0.9, -0.4), 1)]
    latent = record("latent-l2", spread(0.5), "z", normaliser=2.0, norm_samples=9)
    kl = record("softmax-kl", spread(0.2), "logits", exact=(C4_IN_C8, spread(0.1)[:, ::2]))
    return result_of([*layers, latent, kl])


def test_the_page_says_in_words_what_the_result_says(simple):
    text = page(simple).text
    assert "cosine 0.899 with the moved map in conv1 and 0.399 in conv2" in text
    assert "largest loss is between conv1 and conv2 (cosine 0.899 to 0.399)" in text
    assert "0.250 times as far as different samples" in text


def test_the_table_holds_every_value_with_its_interval(simple):
    text = page(simple).text
    for r in simple["measurements"]:
        ends, value = r["ci95"], r["value"]
        if r["measure"] == "channel-cos":  # the cosine itself, as sentences tell it
            ends, value = sorted(-end for end in ends), -value
        assert f"{value:.4f} [{ends[0]:.4f}, {ends[1]:.4f}]" in text


def test_a_cosine_has_one_sign_in_words_tables_tips_and_axes(simple):
    text = report([simple])
    assert "cosine 0.899 with the moved map in conv1" in text
    assert "conv1: 0.899 (" in text  # a tip
    assert "0.8993" in text  # a table
    assert "−0.899" not in text
    assert "-0.8993" not in text
    assert "cosine; dashed line: 1 is perfect" in text


def test_the_page_loads_nothing(simple):
    seen = page(simple)
    loaded = [
        value
        for _, attrs in seen.tags
        for key, value in attrs.items()
        if key in ("src", "href", "xlink:href") and not value.startswith(("#", "data:"))
    ]
    assert loaded == []
    assert len(seen.all("script")) == 1  # its own
    assert not seen.all("link")
    assert not re.search(r"@import|url\((?!#|data:)", report([simple]))


def test_every_picture_has_an_alternative_text_and_real_text(simple):
    seen = page(simple)
    pictures = [a for a in seen.all("div") if a.get("role") == "img"]
    assert len(pictures) == len(seen.all("svg")) == 8
    assert all(len(a["aria-label"]) > 40 for a in pictures)
    assert {"conv1", "conv2", "90°", "nats;"} <= set(" ".join(seen.words).split())


def test_colours_are_the_pages_own_in_light_and_dark(simple):
    text = report([simple])
    assert "#1234" not in text
    assert "prefers-color-scheme: dark" in text
    used = set(re.findall(r"var\(--(\w+)\)", text))
    light, dark = text.split("prefers-color-scheme: dark")
    for block in (light, dark):
        assert used - set(re.findall(r"--(\w+):", block)) == set()


def test_names_are_text_and_not_markup():
    hostile = result_of([record("softmax-kl", spread(0.1), "<script>alert('$x^2$')</script>")])
    seen = page(hostile)
    assert len(seen.all("script")) == 1  # its own
    assert "<script>alert('$x^2$')</script>" in seen.text


def test_a_page_is_the_same_each_time(simple):
    assert report([simple]) == report([simple])


def test_a_name_of_two_lines_reads_the_same_all_over_a_page():
    hostile = result_of([record("softmax-kl", spread(0.1), "relu\none")])
    seen = page(hostile)
    assert "relu?one" in seen.text
    assert not re.search(r"relu\s+one", seen.text)


def test_the_samples_with_the_largest_and_smallest_deviation_are_named():
    values = np.repeat(np.arange(8.0)[:, None] / 10, 8, axis=1)
    values[7, 3] += 0.08
    names = [f"img{i}.png" for i in range(8)]
    text = page(result_of([record("softmax-kl", values)], names=names)).text
    assert "0.710 img7.png ; worst for 135°: 0.780" in text
    largest, smallest = text.split("Least affected")
    assert "img5.png" in largest
    assert "img2.png" in smallest.split("All numbers")[0]
    assert "img3.png" not in text.split("Most affected")[1]


def test_several_results_are_compared_in_pairs():
    base = spread(0.2)
    a = result_of([record("softmax-kl", base)], path="a.onnx")
    b = result_of([record("softmax-kl", base + 0.1 + spread(0, noise=1e-3))], path="b.onnx")
    text = page(a, b).text
    assert "Comparison of a and b" in text
    assert "A is more invariant than B" in text
    assert "B is more invariant than A" not in text


def test_what_cannot_be_compared_is_drawn_and_not_compared():
    a = result_of([record("softmax-kl", spread(0.2))], path="a.onnx")
    d = parse_group("D4")
    other = record("softmax-kl", spread(0.1), elements=d.elements)
    b = result_of([other], path="b.onnx", group="D4", exact=[True] * 8)
    text = page(a, b).text
    assert "Not compared: " in text
    assert "group" in text.split("Not compared: ")[1][:80]


def test_a_large_result_stays_small():
    rng = np.random.default_rng(0)
    results = []
    for k in range(3):
        layers = [
            record("channel-cos", rng.uniform(-1, 0, (1000, 8)), f"/features/{i}/relu/Relu_out")
            for i in range(60)
        ]
        results.append(result_of(layers[: 60 if k == 0 else 20], path=f"{k}.onnx"))
    assert len(report(results).encode()) < 3_000_000


def test_long_names_that_share_their_ends_stay_apart():
    names = [f"/a/long/common/prefix/stage{i}/relu/Relu_output_0" for i in range(3)]
    text = page(result_of([record("channel-cos", spread(-0.5), name) for name in names])).words
    assert {"stage0", "stage1", "stage2"} <= {w.strip() for w in text}


@pytest.mark.parametrize("group", ["C2", "C3", "D1", "D4", "flip-h", "shift2x2", "C36", "hue4"])
def test_every_kind_of_group_has_a_picture_of_its_elements(group):
    acting = parse_group(group)
    values = np.tile(np.linspace(0, 1, acting.order), (3, 1))
    read = read_record(record("softmax-kl", values, elements=acting.elements))
    part = {"name": group, "elements": acting.elements, "exact": [True] * acting.order}
    svg = polar_picture([("a", read)], part)
    assert svg.startswith("<svg")
    turns = {"C2": "180°", "C3": "120°", "D1": "mirror", "D4": "90°", "C36": "90°"}
    assert {**turns, "hue4": "hue 90°"}.get(group, acting.elements[-1]) in svg
    # One name for an element, on every picture.
    assert "unmoved" in svg


def test_one_sample_and_a_single_measure_make_a_page():
    text = page(result_of([record("softmax-kl", spread(0.1, n=1))])).text
    assert "There is only one sample" in text


def test_a_record_without_m_reads_by_its_unnormalised_value():
    read = read_record(record("latent-cos", spread(-0.5), normaliser=0.0, norm_samples=3))
    assert read.value == pytest.approx(-0.5, abs=0.01)
    assert read.perfect == -1.0
    assert read.ci95[0] < read.value < read.ci95[1]


def test_negative_m_does_not_turn_the_order_round():
    values = np.tile([-1.0, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3], (3, 1))
    read = read_record(record("latent-cos", values, normaliser=-0.5, norm_samples=3))
    assert read.per_element.argmax() == 7
    assert read.away > 0


def test_meaning_of_known_values():
    perfect = record("channel-cos", np.full((3, 8), -1.0))
    assert "1.00 with" in meaning(perfect, 8)
    assert "equivariant up to rounding" in meaning(perfect, 8)
    most = record("softmax-kl", np.full((3, 8), np.log(8)))
    assert "(at most ln 8 = 2.08, perfect 0)" in meaning(most, 8)


def test_numbers_and_angles_in_words():
    assert [span(v) for v in (0, 0.5, -0.99999, 6.7e-8)] == ["0", "0.500", "−0.999990", "6.7·10⁻⁸"]
    assert angle("C8", "r3") == "r3 (135°)"
    assert angle("D4", "sr1") == "sr1 (90°, then mirror)"
    assert angle("shift2x2", "t0,1") == "t0,1"


def test_thumbnails_are_the_orbit(tmp_path):
    x = np.zeros((30, 1, 8, 8), np.uint8)
    x[:, 0, 0, :] = 255
    np.save(tmp_path / "x.npy", x)
    one = result_of([record("softmax-kl", spread(0.1))])
    samples = open_pictures(tmp_path / "x.npy", one)
    pictures, notes = orbit_pictures(samples, one, 0, range(8))
    images = [picture.src for (picture,) in pictures]
    assert len(set(images)) == 8
    assert notes == []
    import base64
    import io

    from PIL import Image

    def pixels(uri):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))

    np.testing.assert_array_equal(pixels(images[2]), np.rot90(x[0, 0]))
    seen = page(one, data=tmp_path / "x.npy")
    assert len(seen.all("img")) == 6 * 8
    assert {pixels(a["src"]).shape for a in seen.all("img")} == {(8, 8)}  # whole, not cut
    assert {a["alt"] for a in seen.all("img")} >= {"sample 0, unmoved", "sample 0, 135°"}


def test_references_stand_beside_the_values():
    layers = [record("channel-cos", spread(v), f"conv{i}") for i, v in enumerate((-0.9, -0.4), 1)]
    for one in layers:
        one["references"] = {
            "input_round_trip": {"value": -0.987, "ci95": None, "unnormalised": None},
            "numeric": {"value": -1.0, "ci95": None, "unnormalised": None},
        }
    text = page(result_of(layers)).text
    assert "input round trip" in text
    assert "0.9870" in text
    assert "a reference and no lower bound" in text
    assert "a reference and no lower bound" not in page(result_of([layers[0]])).text


def test_the_untrained_network_is_a_star_where_it_is_on_the_same_scale():
    layers = [record("channel-cos", spread(v), f"conv{i}") for i, v in enumerate((-0.9, -0.4), 1)]
    cosine = record("latent-cos", spread(-0.9), "latent", normaliser=0.5, norm_samples=9)
    entry = {"value": -0.611, "ci95": None, "unnormalised": -0.3055, "normaliser": 0.5, "seed": 0}
    for one in (*layers, cosine):
        one["references"] = {"untrained": entry}
    assert read_record(layers[0]).untrained == -0.611
    assert read_record(cosine).untrained == -0.3055  # unnormalised, as the value is read
    text = page(result_of(layers)).text
    assert "0.6110" in text
    assert "Stars: the same network untrained." in text
    assert "Stars" not in page(result_of([layers[0]])).text


def test_other_data_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((7, 1, 8, 8), np.float32))
    with pytest.raises(GeedError, match=r"has 7 samples, but the result was measured on 30"):
        report([result_of([record("softmax-kl", spread(0.1))])], data=tmp_path / "x.npy")


def test_pictures_are_kept_as_files_that_stand_alone(simple, tmp_path):
    write_report([simple], tmp_path / "r.html", pictures=tmp_path / "pics")
    files = sorted(p.name for p in (tmp_path / "pics").iterdir())
    assert "channel-cos-1-profile.svg" in files
    text = (tmp_path / "pics" / files[0]).read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "var(" not in text
    assert themed('fill="var(--ink)"').endswith('fill="#1d232b"')


def test_without_matplotlib_the_cure_is_named(simple, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GeedError, match=r"pip install 'onnx-geed\[report\]'"):
        report([simple])


def test_the_command_writes_the_page(simple, tmp_path):
    write_json(simple, tmp_path / "r.json")
    run = CliRunner().invoke(
        cli, ["report", str(tmp_path / "r.json"), "-o", str(tmp_path / "r.html")]
    )
    assert (run.exit_code, run.stdout) == (0, "")
    assert "<!doctype html>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    run = CliRunner().invoke(cli, ["report", str(tmp_path / "no"), "-o", str(tmp_path / "x")])
    assert run.exit_code == 2
    assert not (tmp_path / "x").exists()


def test_a_pointer_is_told_layer_and_value(simple):
    svg = profile_picture([("conv <1>", [read_record(simple["measurements"][0])])], ["net"])
    (title,) = re.findall(r"<title>(.*?)</title>", svg)
    assert title.startswith("conv &lt;1&gt;: ")
    assert span(-read_record(simple["measurements"][0]).value) in title


@pytest.mark.parametrize(
    ("trip", "exact", "told"),
    [
        (-0.95, -0.55, "most of the deviation comes from the network itself"),
        (-0.7, -0.99, "interpolation may explain much"),
        (-0.98, -0.9, "interpolation explains little"),
    ],
)
def test_what_resampling_explains_is_weighed_against_the_exact_elements(trip, exact, told):
    one = record("channel-cos", spread(-0.5), exact=(C4_IN_C8, spread(exact)[:, ::2]))
    one["references"] = {"input_round_trip": {"value": trip, "ci95": None, "unnormalised": None}}
    assert told in page(result_of([one])).text


def test_maps_that_are_alike_whatever_they_show_are_told():
    one = record("channel-cos", spread(-0.86))
    one["between_samples"] = -0.76
    sentence = meaning(one, 8)
    assert "cosine 0.859 with the moved map (different samples 0.760, perfect 1)" in sentence
    assert sentence.endswith(
        ": slightly equivariant."
    )  # 0.141 of 0.24 is left, although 0.859 is high
    one["between_samples"] = -0.1
    assert meaning(one, 8).endswith(": mostly equivariant.")  # 0.141 of 0.9


class TestOtherData:
    """Pictures are of the samples that were measured, or there are none."""

    @pytest.fixture
    def colours(self):
        return np.random.default_rng(0).integers(0, 256, (12, 10, 10, 3), dtype=np.uint8)

    def folder(self, at, pixels):
        from PIL import Image

        at.mkdir()
        for k, one in enumerate(pixels):
            Image.fromarray(one).save(at / f"{k:02}.png")
        return at

    def array(self, at, pixels):
        np.save(at, np.moveaxis(pixels, -1, 1))
        return at.with_suffix(".npy")

    @pytest.fixture
    def measured(self, tmp_path):
        import models

        from onnx_geed import measure

        models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")

        def run(data, **more):
            options = {"samples": 6, "norm_samples": 7, "measures": ["latent-l2"]}
            options |= {"preprocess": "imagenet resize=9 crop=8"} | more
            return measure(tmp_path / "m.onnx", str(data), "C4", **options)

        return run

    @pytest.mark.parametrize("kind", ["folder", "array"])
    @pytest.mark.parametrize("more", [{}, {"preprocess": "resize=8", "support": "disk"}])
    def test_the_data_that_were_measured_are_shown(self, tmp_path, colours, measured, kind, more):
        data = getattr(self, kind)(tmp_path / "x", colours)
        one = measured(data, **more)
        assert len(page(one, data=data).all("img")) == 6 * 4

    @pytest.mark.parametrize("kind", ["folder", "array"])
    def test_other_values_of_the_same_count_and_names_are_refused(
        self, tmp_path, colours, measured, kind
    ):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        one = measured(getattr(self, kind)(tmp_path / "a" / "x", colours))
        other = getattr(self, kind)(tmp_path / "b" / "x", 255 - colours)
        with pytest.raises(GeedError, match=r"b/x.*: sample \d+.* is not the one that was measu"):
            report([one], data=other)

    def test_one_sample_that_was_edited_is_named(self, tmp_path, colours, measured):
        one = measured(self.array(tmp_path / "x", colours))
        worst = one["data"]["indices"][int(np.argmax(one["measurements"][0]["per_sample"]))]
        colours[worst, 0, 0] ^= 255
        with pytest.raises(GeedError, match=f"sample {worst} is not the one"):
            report([one], data=self.array(tmp_path / "x", colours))

    def test_the_same_values_in_another_order_are_refused(self, tmp_path, colours, measured):
        one = measured(self.array(tmp_path / "x", colours))
        with pytest.raises(GeedError, match="is not the one that was measured"):
            report([one], data=self.array(tmp_path / "x", colours[::-1]))

    def test_of_several_data_sets_those_that_fit_are_shown(self, tmp_path, colours, measured):
        data = self.array(tmp_path / "x", colours)
        other = self.array(tmp_path / "y", 255 - colours)
        one, two = measured(data), measured(other)
        seen = page(one, two, data=data)
        assert len(seen.all("img")) == 6 * 4
        assert "No pictures: --data" in seen.text
        with pytest.raises(GeedError, match="is not the one that was measured"):
            report([one, two], data=self.array(tmp_path / "z", colours // 2))

    def test_a_result_measured_from_a_cache_is_checked_too(self, tmp_path, colours, measured):
        from onnx_geed import measure_cache, write_cache

        data = self.array(tmp_path / "x", colours)
        few = {"samples": 6, "norm_samples": 7, "measures": ["latent-l2"]}
        few["preprocess"] = "resize=9 crop=8"
        write_cache(measured(data)["model"]["path"], str(data), "C4", tmp_path / "a.geed", **few)
        one = measure_cache(tmp_path / "a.geed", samples=5, norm_samples=5)
        assert len(one["data"]["marks"]) == len(one["data"]["indices"]) == 5
        assert page(one, data=data).all("img")
        with pytest.raises(GeedError, match="is not the one that was measured"):
            report([one], data=self.array(tmp_path / "x", colours // 2))

    def test_a_result_without_marks_says_that_it_could_not_be_checked(
        self, tmp_path, colours, measured
    ):
        data = self.array(tmp_path / "x", colours)
        one = measured(data)
        del one["data"]["marks"]
        assert "nobody checked" in page(one, data=data).text


def test_of_twenty_thousand_values_a_page_shows_those_that_matter():
    names = [f"block{i}" for i in range(20_000)]
    one = large_pages.of_layers(names)
    worst = one["measurements"][7001] = measurement(
        measure="channel-cos",
        layer="block7001",
        layout="NCHW",
        output_action="grid",
        deviations=np.full((4, 8), 0.9),
        elements=large_pages.C8.elements,
    )
    [thin] = thinned([one], ["block12347"])
    layers = [record["layer"] for record in thin["measurements"]]
    assert {"block0", "block19999", "block12347", worst["layer"]} <= {*layers}
    assert layers == sorted(layers, key=names.index)
    assert 5990 <= len(layers) <= 6001
    assert len(one["measurements"]) == 20_000
    text = report([one])
    assert len(text) < 5_000_000
    told = f"This page shows {len(layers) - 1:,} of 20,000 values"
    assert told in text
    few = large_pages.of_layers(names[:2000])
    assert thinned([few]) == [few]


def test_an_element_has_one_name_and_a_number_is_told_with_what_it_is():
    family = {"name": "jpeg:90..10/2", "kind": "family", "parameter": "quality", "unit": None}
    family |= {"elements": ["e", "jpeg90", "jpeg10"], "parameters": [None, 90.0, 10.0], "order": 3}
    assert [element_called(family, g) for g in range(3)] == ["unmoved", "90", "10"]
    assert [element_told(family, g) for g in range(3)] == ["unmoved", "quality 90", "quality 10"]
    assert at_elements(family, [1, 2]) == "quality 90 and quality 10"
    group = {"name": "C8", "order": 8, "elements": list(C8.elements)}
    assert at_elements(group, [0, 4]) == "the unmoved sample and 180°"
    assert at_elements(group, [0, 1, 4]) == "3 of 8 elements"
    assert at_elements(group, [1, 2, 4]) == "3 of 7 angles"
    assert at_elements(group | {"name": "SO2~8"}, [0]) == "random start"
    assert (element_noun(family), worst_noun(family)) == ("quality", "member")
    turned = {**family, "name": "rotate:-15..15/3", "parameter": "angle", "unit": "°"}
    assert element_told(turned, 2) == "10°"
    # The first element of a sampled group is a rotation of each sample's own.
    sampled = {"name": "SO2~4", "elements": list(parse_group("SO2~4").elements), "order": 4}
    assert [element_told(sampled, g) for g in range(3)] == ["random start", "90°", "180°"]


@pytest.mark.parametrize(
    ("group", "asked", "beside"),
    [
        ("C4", "Cosine between f(gx) and g f(x)", "g f(x): moved map of the sample"),
        ("hue3", "and its mean over all elements", "mean of the maps over all elements"),
        ("jpeg:90..10/2", "Cosine between f(gx) and f(x)", "f(x): map of the unmoved sample"),
    ],
)
def test_the_explorer_says_with_which_map_one_is_compared(tmp_path, group, asked, beside):
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "net.onnx")
    data = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    run = (tmp_path / "net.onnx", tmp_path / "x.npy")
    found = measure(*run, group, measures=["channel-cos"], samples=3)
    text = report([found], explorations=[explore(found, *run, [0, 1])])
    assert asked in text
    assert beside in text
    assert ("How equivariant is each layer?" in text) == (group == "C4")
    assert ("How invariant is each layer?" in text) == (group != "C4")
