from __future__ import annotations

import json
import re

import numpy as np
import pytest
from recording import measurement

from onnx_geed.errors import GeedError
from onnx_geed.report import aggregate_table, compare_table
from onnx_geed.results import (
    aggregate,
    compare,
    mean_interval,
    over_limits,
    parse_limits,
    result,
)
from onnx_geed.results.limits import Limit
from onnx_geed.text import to_json

ELEMENTS = ("e", "r1")


def record(per_sample, **changes):
    """A record whose samples' means are as given."""
    means = np.asarray(per_sample, dtype=float)
    fields = {
        "measure": "softmax-kl",
        "layer": "logits",
        "layout": "NK",
        "output_action": "trivial",
        "deviations": np.stack([means - 0.25, means + 0.25], axis=1),
        "elements": ELEMENTS,
    }
    return measurement(**(fields | changes))


def latent(per_sample, m, measure="latent-l2", **changes):
    return record(
        per_sample,
        measure=measure,
        layer="flat",
        normaliser=m,
        **({"norm_samples": 200} | changes),
    )


def result_of(*measurements, name="m", data=None, group=None, seed=0):
    return result(
        command="",
        software={},
        model={"path": f"{name}.onnx", "sha256": name, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd",
            "available": 9,
            "indices": [4, 2, 0, 8],
            "names": None,
            "labels": None,
        }
        | (data or {}),
        group={
            "name": "C2",
            "order": 2,
            "elements": list(ELEMENTS),
            "exact": [True, True],
            "interpolation": "bilinear",
            "support": "full",
        }
        | (group or {}),
        runtime={},
        seed=seed,
        measurements=measurements,
    )


def beside(**changes):
    """Data with a second input ``u`` that the group moves; None leaves something out."""
    first = {"name": "x", "source": "x.npy", "layout": "NC", "shape": [3], "dtype": "float32"}
    plain = {"fingerprint": "1", "marks": ["1", "2", "3", "4"], "preprocess": {}}
    second = {k: v for k, v in (first | plain | changes).items() if v is not None}
    return {"inputs": [first, {**second, "name": "u"}]}


DIFFERENT = [
    ({"group": {"name": "C4"}}, r"group \(C2, C4\)"),
    ({"group": {"elements": ["e", "flip"]}}, "group elements"),
    ({"group": {"interpolation": "nearest"}}, r"interpolation \(bilinear, nearest\)"),
    ({"group": {"support": "disk"}}, r"support \(full, disk\)"),
    ({"data": {"fingerprint": "ee", "source": "y.npy"}}, r"data \(x.npy, y.npy\)"),
    ({"data": {"fingerprint": "ee", "indices": [1, 2, 3, 4]}}, "samples drawn"),
    ({"data": {"fingerprint": "ee"}}, r"what the models were fed \(preprocessing"),
]


class TestOnlyRecords:
    """Of two models whose layers have other names, the only records of a measure are paired."""

    def pair(self, **changes):
        maps = {"measure": "channel-cos", "layout": "NCHW", "output_action": "grid"}
        a = record([0.1, 0.2, 0.4], layer="conv", **maps)
        b = record([0.3, 0.3, 0.7], layer="other", **{**maps, **changes})
        return result_of(a, name="a"), result_of(b, name="b")

    def test_they_are_compared(self):
        (entry,) = compare(*self.pair())["measurements"]
        assert entry["difference"] == pytest.approx(-0.2)

    def test_other_output_actions_are_refused_as_under_one_name(self):
        with pytest.raises(GeedError, match=r"output action \(grid, grid\+channels\)"):
            compare(*self.pair(output_action="grid+channels"))

    def test_one_models_scores_before_and_behind_a_softmax_are_read_in_their_own_way(self):
        a = record([0.1, 0.3], layer="logits") | {"reads": "logits"}
        b = record([0.1, 0.3], layer="probs") | {"reads": "probabilities"}
        (entry,) = compare(result_of(a), result_of(b))["measurements"]
        assert entry["difference"] == 0
        with pytest.raises(GeedError, match="hold different measurements"):
            aggregate([result_of(a), result_of(b)])

    def test_other_points_of_m_are_refused_as_under_one_name(self):
        a = result_of(latent([1.0, 2.0], 3.0, norm_samples=12), name="a")
        other = latent([1.0, 2.0], 3.0, norm_samples=2) | {"layer": "z"}
        with pytest.raises(GeedError, match=r"points of M \(12, 2\)"):
            compare(a, result_of(other, name="b"))


class TestAggregate:
    def test_mean_and_interval_over_models_worked_by_hand(self):
        # Values 1, 2, 3: mean 2, half the interval 4.302653/√3.
        results = [result_of(record([v, v]), name=str(v)) for v in (1.0, 2.0, 3.0)]
        total = aggregate(results)
        assert total["schema"] == "onnx-geed/aggregate/1"
        (one,) = total["measurements"]
        assert (one["measure"], one["layer"], one["models"]) == ("softmax-kl", "logits", 3)
        assert one["values"] == [1.0, 2.0, 3.0]
        assert one["mean"] == 2.0
        half = 4.302652729749464 / np.sqrt(3)
        assert one["ci95_over_models"] == pytest.approx([2 - half, 2 + half])
        assert one["stderr_over_models"] == pytest.approx(1 / np.sqrt(3))
        assert one["unnormalised_mean"] is one["unnormalised_ci95_over_models"] is None
        assert [m["path"] for m in total["models"]] == ["1.0.onnx", "2.0.onnx", "3.0.onnx"]
        assert total["warnings"] == one["warnings"] == []

    def test_models_without_a_relative_value_are_named(self):
        known = {"between": np.full((4, 2), 2.0)}
        results = [
            result_of(record([0.5, 0.7], **known), name="a"),
            result_of(record([0.4, 0.9], **known), name="b"),
            result_of(record([0.1, 0.2]), name="c"),
        ]
        (one,) = aggregate(results)["measurements"]
        assert one["relative"][2] is None
        assert one["relative_mean"] == pytest.approx((0.3 + 0.325) / 2)
        assert one["warnings"] == [
            "relative_mean is over 2 of 3 models: none is known of c.onnx",
            *[w for w in one["warnings"] if "only two models" in w],
        ]
        assert len(one["warnings"]) == 2
        (one,) = aggregate([result_of(record([v, v]), name=str(v)) for v in (1.0, 2.0, 3.0)])[
            "measurements"
        ]
        assert one["warnings"] == []

    def test_the_interval_over_models_is_not_the_one_over_samples(self):
        results = [result_of(record([v, v + 5]), name=str(v)) for v in (1.0, 1.0, 1.0)]
        (one,) = aggregate(results)["measurements"]
        assert one["ci95_over_models"] == [3.5, 3.5]
        assert "ci95" not in one

    def test_one_model_has_no_interval(self):
        (one,) = aggregate([result_of(record([1.0, 2.0]))])["measurements"]
        assert one["mean"] == 1.5
        assert one["ci95_over_models"] is one["stderr_over_models"] is None

    def test_layers_are_matched_by_name_in_whatever_order(self):
        a = result_of(record([1.0]), record([2.0], layer="other"), name="a")
        b = result_of(record([4.0], layer="other"), record([3.0]), name="b")
        values = {m["layer"]: m["values"] for m in aggregate([a, b])["measurements"]}
        assert values == {"logits": [1.0, 3.0], "other": [2.0, 4.0]}

    def test_normalised_and_unnormalised_values_are_both_averaged(self):
        results = [result_of(latent([2.0], 2.0), name="a"), result_of(latent([6.0], 3.0), name="b")]
        (one,) = aggregate(results)["measurements"]
        assert one["values"] == [1.0, 2.0]
        assert one["unnormalised"] == [2.0, 6.0]
        assert (one["mean"], one["unnormalised_mean"]) == (1.5, 4.0)
        assert one["unnormalised_ci95_over_models"] == pytest.approx(mean_interval([2.0, 6.0]))

    def test_an_interval_of_two_models_is_marked_in_every_row(self):
        few = [result_of(record([v]), latent([v], 2.0), name=str(v)) for v in (1.0, 2.0)]
        table = aggregate_table(aggregate(few))
        assert table.count("comes from only two models") == 1
        assert sum(line.endswith(" 2  [1]") for line in table.splitlines()) == 2
        # 12.7 standard errors: half the interval of 1 and 2, whose standard error is 0.5.
        low, high = aggregate(few)["measurements"][0]["ci95_over_models"]
        assert (high - low) / 2 == pytest.approx(12.7 * 0.5, rel=1e-3)
        three = [*few, result_of(record([3.0]), latent([3.0], 2.0), name="c")]
        assert "only two models" not in aggregate_table(aggregate(three))

    def test_a_model_without_a_value_and_one_of_negative_m_are_named(self):
        results = [
            result_of(latent([2.0], m, "latent-cos"), name=name)
            for name, m in (("good", 1.0), ("zero", 0.0), ("negative", -1.0))
        ]
        (one,) = aggregate(results)["measurements"]
        assert one["models"] == 2
        assert one["values"] == [2.0, None, -2.0]
        assert any("zero.onnx" in w and "since M is missing or 0" in w for w in one["warnings"])
        assert any("negative.onnx" in w and "reversed" in w for w in one["warnings"])
        assert not any("good.onnx" in w for w in one["warnings"])
        to_json(aggregate(results))

    def test_the_same_model_twice_is_said(self):
        total = aggregate([result_of(record([1.0])), result_of(record([1.0]))])
        assert total["warnings"] == ["the same model more than once: m.onnx, m.onnx"]
        assert "[1] the same model more than once" in aggregate_table(total)

    @pytest.mark.parametrize(("changes", "says"), DIFFERENT)
    def test_a_mixture_is_refused_naming_what_differs(self, changes, says):
        with pytest.raises(GeedError, match=rf"a\.onnx and b\.onnx differ in {says}.*measure all"):
            aggregate(
                [result_of(record([1.0]), name="a"), result_of(record([1.0]), name="b", **changes)]
            )

    def test_other_measures_are_refused_naming_one(self):
        a, b = result_of(record([1.0]), name="a"), result_of(record([1.0], layer="probs"), name="b")
        with pytest.raises(GeedError, match=r"softmax-kl@logits is only in a\.onnx"):
            aggregate([a, b])
        with pytest.raises(GeedError, match="at least one"):
            aggregate([])

    def test_other_points_of_m_are_refused(self):
        a = result_of(latent([1.0], 2.0), name="a")
        b = result_of(latent([1.0], 2.0, norm_samples=50), name="b")
        with pytest.raises(GeedError, match=r"points of M \(200, 50\)"):
            aggregate([a, b])

    def test_the_table_names_the_interval_apart_and_fits(self):
        long = {"source": "x.npy" + "y" * 200}
        results = [result_of(latent([v], 2.0), name=str(v), data=long) for v in (1.0, 2.0)]
        text = aggregate_table(aggregate(results))
        assert max(map(len, text.splitlines())) <= 100
        assert "95 % (models)" in text
        assert "[0.0000, 3.9266]" in text  # 0.75 ± 12.7062 · 0.25, and no distance is below 0
        assert text.startswith("over   2 models\ngroup  C2\ndata   …yyy")


class TestCompare:
    def test_a_paired_difference_worked_by_hand(self):
        # Differences -1, -2, -3 although the values of each spread by 100.
        base = np.array([0.0, 100.0, 50.0, 20.0])
        a = result_of(record(base + 10 + np.array([-1.0, -2.0, -3.0, -2.0])), name="a")
        b = result_of(record(base + 10), name="b")
        comparison = compare(a, b)
        assert comparison["schema"] == "onnx-geed/compare/1"
        assert (comparison["a"]["path"], comparison["b"]["path"]) == ("a.onnx", "b.onnx")
        assert comparison["differ_in"] == []
        (one,) = comparison["measurements"]
        assert one["difference"] == pytest.approx(-2.0)
        # s = √(2/3), over √4; t with three degrees of freedom is 3.182446.
        half = 3.182446305284263 * np.sqrt(2 / 3) / 2
        assert one["ci95"] == pytest.approx([-2 - half, -2 + half])
        low, high = one["ci95_bootstrap"]
        assert -3 <= low < -2 < high <= -1
        assert one["share_a_lower"] == 1.0
        assert one["samples"] == 4
        assert one["compared"] == "value"
        assert one["verdict"].startswith("A is more invariant than B by 2 (95 % interval ")
        assert one["warnings"] == []
        to_json(comparison)

    def test_the_bootstrap_interval_is_that_of_the_differences(self):
        rng = np.random.default_rng(0)
        x, y = rng.lognormal(0, 1, 40), rng.lognormal(0.5, 1, 40)
        data = {"indices": list(range(40))}
        a, b = result_of(record(x), data=data, seed=3), result_of(record(y), data=data)
        (one,) = compare(a, b)["measurements"]
        gaps = x - y
        assert one["ci95_bootstrap"] == pytest.approx(mean_interval(gaps, "bootstrap", seed=3))
        assert one["share_a_lower"] == np.mean(x < y)

    def test_b_is_named_where_b_is_lower_and_the_interval_reads_from_low_to_high(self):
        a, b = result_of(record([3.0, 4.0, 5.0, 6.5])), result_of(record([1.0, 2.0, 3.0, 4.0]))
        verdict = compare(a, b)["measurements"][0]["verdict"]
        assert verdict.startswith("B is more invariant than A by 2.12 (95 % interval ")
        low, high = verdict.rsplit("interval ", 1)[1].rstrip(")").split(" to ")
        assert 0 < float(low) < 2.12 < float(high)

    def test_an_action_on_the_output_makes_it_equivariance(self):
        a = result_of(record([1.0, 1.1, 1.0, 1.2], output_action="permutation"))
        b = result_of(record([2.0, 2.1, 2.2, 2.0], output_action="permutation"))
        assert "A is more equivariant than B" in compare(a, b)["measurements"][0]["verdict"]

    def test_no_difference_is_no_verdict(self):
        a, b = result_of(record([1.0, 2.0, 3.0, 4.0])), result_of(record([2.0, 1.0, 4.0, 3.2]))
        (one,) = compare(a, b)["measurements"]
        assert one["verdict"].startswith("no clear difference (A − B = −0.05, 95 %")

    def test_few_pairs_do_not_make_a_verdict_by_a_narrow_bootstrap(self):
        a, b = result_of(record([1.0, 1.0])), result_of(record([2.0, 3.0]))
        (one,) = compare(a, b)["measurements"]
        assert one["ci95_bootstrap"][1] < 0 < one["ci95"][1]
        assert one["interval"] == "t"
        assert one["verdict"].startswith("no clear difference")

    def test_skewed_differences_of_one_sign_are_a_difference_from_ten_pairs_on(self):
        gaps = np.array([0.01] * 9 + [5.0])
        data = {"indices": list(range(10))}
        (one,) = compare(
            result_of(record(gaps), data=data), result_of(record(0 * gaps), data=data)
        )["measurements"]
        assert one["ci95"][0] < 0 < one["ci95_bootstrap"][0]
        assert one["interval"] == "bootstrap"
        assert one["verdict"].startswith("B is more invariant than A by 0.509")

    def test_a_result_is_the_same_as_itself(self):
        a = result_of(record([1.0, 2.0, 3.0, 4.0]))
        (one,) = compare(a, a)["measurements"]
        assert one["verdict"] == "A and B are the same on every sample"
        assert one["ci95"] == one["ci95_bootstrap"] == [0.0, 0.0]
        assert one["share_a_lower"] == 0.0

    def test_one_sample_gives_no_interval(self):
        (one,) = compare(result_of(record([1.0])), result_of(record([2.0])))["measurements"]
        assert one["ci95"] is one["ci95_bootstrap"] is None
        assert "one sample is too few" in one["verdict"]

    def test_different_m_are_compared_by_normalised_values(self):
        a, b = result_of(latent([2.0, 4.0], 2.0)), result_of(latent([3.0, 9.0], 1.0))
        (one,) = compare(a, b)["measurements"]
        assert one["compared"] == "value"
        assert (one["a"], one["b"]) == (1.5, 6.0)
        assert (one["normaliser_a"], one["normaliser_b"]) == (2.0, 1.0)

    @pytest.mark.parametrize("m", [-0.5, 0.0, None])
    def test_an_unusable_m_on_either_side_means_unnormalised_values_and_is_said(self, m):
        good, bad = result_of(latent([2.0, 4.0], 2.0)), result_of(latent([3.0, 9.0], m))
        for a, b in ((good, bad), (bad, good)):
            (one,) = compare(a, b)["measurements"]
            assert one["compared"] == "unnormalised"
            assert {one["a"], one["b"]} == {3.0, 6.0}
            assert "unnormalised values are compared" in one["warnings"][0]

    def test_an_ill_conditioned_m_decides_nothing(self):
        a, b = (
            result_of(latent([-0.8, -0.7], 0.01, "latent-cos")),
            result_of(latent([-0.9, -0.6], 0.5, "latent-cos")),
        )
        (one,) = compare(a, b)["measurements"]
        assert one["compared"] == "unnormalised"
        assert (one["a"], one["b"]) == (-0.75, -0.75)
        assert one["warnings"] == [
            "A and B have no value relative to the difference between samples, so unnormalised "
            "values are compared, whose perfect value is 1"
        ]

    @pytest.mark.parametrize(("changes", "says"), DIFFERENT)
    def test_the_incomparable_is_refused_with_the_cure_and_compared_by_force(self, changes, says):
        a, b = (
            result_of(record([1.0, 2.0]), name="a"),
            result_of(record([3.0, 4.0]), name="b", **changes),
        )
        with pytest.raises(GeedError, match=rf"differ in {says}.*--force"):
            compare(a, b)
        comparison = compare(a, b, force=True)
        assert len(comparison["differ_in"]) == 1
        assert "compared although they differ in" in compare_table(comparison)
        assert comparison["measurements"][0]["difference"] == -2.0

    def test_by_force_only_the_same_samples_are_paired(self):
        a = result_of(record([1.0, 2.0]))
        fed = {"fingerprint": "ee"}  # other preprocessing of the same samples
        (one,) = compare(a, result_of(record([3.0, 5.0]), data=fed), force=True)["measurements"]
        assert one["samples"] == 2
        elsewhere = fed | {"source": "y.npy"}
        (one,) = compare(a, result_of(record([3.0, 5.0]), data=elsewhere), force=True)[
            "measurements"
        ]
        assert one["difference"] == -2.5
        assert one["samples"] is one["ci95"] is one["ci95_bootstrap"] is None
        assert one["share_a_lower"] is None
        assert "different samples, so there is no paired interval" in one["verdict"]

    @pytest.mark.parametrize(
        ("ours", "theirs", "says"),
        [
            (beside(), beside(fingerprint="2", marks=["5", "6", "7", "8"]), "values of input u"),
            (beside(marks=None), beside(fingerprint="2", source="y", marks=None), "of input u"),
            ({"fed": {"t": "1"}}, {"fed": {"t": "2"}}, "values of input t"),
            (
                {"fed": {"t": "1"}, "fed_marks": {"t": ["1", "2"]}},
                {"fed": {"t": "2"}, "fed_marks": {"t": ["1", "3"]}},
                "values of input t",
            ),
            ({"fed": {"t": "1"}, "fed_marks": {}}, {"fed": {"t": "2"}, "fed_marks": {}}, "t"),
            ({"mask": None}, {"mask": "2"}, "other padding"),
        ],
    )
    def test_by_force_samples_with_other_values_beside_them_are_not_paired(
        self, ours, theirs, says
    ):
        a = result_of(record([1.0, 2.0]), data=ours)
        b = result_of(record([3.0, 5.0]), data=theirs)
        with pytest.raises(GeedError, match="differ in"):
            compare(a, b)
        (one,) = compare(a, b, force=True)["measurements"]
        assert one["difference"] == -2.5
        assert one["samples"] is one["ci95"] is one["ci95_bootstrap"] is None
        assert re.fullmatch(
            rf"samples with .*{says}, so there is no paired interval \(A − B = −2.5\)",
            one["verdict"],
        )

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            # More of them, and the first are the same.
            (beside(marks=["1", "2"]), beside(fingerprint="2")),
            (
                {"fed": {"t": "1"}, "fed_marks": {"t": ["1"]}},
                {"fed": {"t": "2"}, "fed_marks": {"t": ["1", "1", "3"]}},
            ),
            # Prepared in another way.
            (beside(), beside(fingerprint="2", marks=["5", "6"], preprocess={"size": [8, 8]})),
            # What nobody knows.
            (beside(), {}),
            ({"fed": {"t": "1"}}, {"fed": {"v": "2"}}),
            ({}, {"mask": "2"}),
        ],
    )
    def test_by_force_samples_with_the_same_beside_them_are_paired(self, ours, theirs):
        a = result_of(record([1.0, 2.0]), data=ours)
        b = result_of(record([3.0, 5.0]), data=theirs)
        assert compare(a, b, force=True)["measurements"][0]["samples"] == 2

    def test_named_pictures_are_the_same_samples_in_another_folder(self):
        names = {"names": ["p", "q", "r", "s"], "fingerprint": "1"}
        a = result_of(record([1.0, 2.0]), data=names)
        b = result_of(record([3.0, 5.0]), data=names | {"source": "copy", "fingerprint": "2"})
        assert compare(a, b, force=True)["measurements"][0]["samples"] == 2

    def test_a_copy_of_the_data_elsewhere_is_the_same_data(self):
        a = result_of(record([1.0, 2.0]))
        b = result_of(record([3.0, 5.0]), data={"source": "/elsewhere/x.npy"})
        assert compare(a, b)["measurements"][0]["samples"] == 2

    def test_predictions_that_nothing_moves_are_said_to_be_so(self):
        def of(between):
            one = result_of(record([1e-6, 2e-6, 3e-6]))
            one["measurements"][0]["between_samples"] = between
            return one

        (entry,) = compare(of(2.0), of(1e-5))["measurements"]
        assert [w[:2] for w in entry["warnings"]] == ["B:"]
        assert "hardly react" in entry["warnings"][0]
        assert not compare(of(2.0), of(1.0))["measurements"][0]["warnings"]

    def test_what_hardly_reacts_is_not_more_invariant(self):
        """Its difference and the interval stand; no words make anything of them."""

        def of(values, between):
            one = result_of(record(values))
            one["measurements"][0]["between_samples"] = between
            return one

        live, dead = of([0.1, 0.2, 0.3], 2.0), of([1e-8, 2e-8, 3e-8], 1e-7)
        for pair, told in (
            ((live, dead), "B hardly reacts"),
            ((dead, live), "A hardly reacts"),
            ((dead, dead), "A and B hardly react"),
        ):
            (entry,) = compare(*pair)["measurements"]
            assert entry["verdict"] == f"no conclusion: {told} to the input"
            assert entry["verdict"] in " ".join(compare_table(compare(*pair)).split())
        (entry,) = compare(live, dead)["measurements"]
        assert entry["difference"] == pytest.approx(0.2)
        assert entry["verdict_ci95"][0] < 0.2 < entry["verdict_ci95"][1]
        assert entry["share_a_lower"] == 0

    def test_a_few_samples_that_all_flip_decide_nothing(self):
        """McNemar's z of n pairs that all differ in one direction is √n: four are enough."""
        for n, told in ((3, "no clear difference"), (4, "B is more invariant than A by 1")):
            a, b = (
                result_of(record(flips, measure="flip-rate", deviations=[[f, f] for f in flips]))
                for flips in ([1.0] * n, [0.0] * n)
            )
            (entry,) = compare(a, b)["measurements"]
            z2 = 1.959963984540054**2
            assert entry["verdict_ci95"] == pytest.approx([(n - z2) / (n + z2), 1])
            assert entry["interval"] == "score"
            assert entry["verdict"].startswith(told)
            assert entry["ci95"] == [1, 1]

    def test_the_last_bit_decides_nothing(self):
        """Thirds, whose bootstrap interval begins at 0 exactly where they are whole numbers."""
        rng = np.random.default_rng(10_018)
        a = rng.binomial(3, 0.3, size=10)
        b = rng.binomial(3, 0.2, size=10) * (rng.random(10) < 0.9)
        verdicts = []
        for unit in (1.0, 3.0):
            pair = [
                result_of(record(x / unit, deviations=np.stack([x / unit] * 2, axis=1)))
                for x in (a, b)
            ]
            (entry,) = compare(*pair)["measurements"]
            assert np.multiply(entry["verdict_ci95"], unit) == pytest.approx([0, 1.3], abs=1e-12)
            verdicts.append(entry["verdict"][:19])
        assert verdicts == ["no clear difference"] * 2

    def test_another_number_of_samples_is_refused(self):
        with pytest.raises(GeedError, match=r"number of samples \(2, 3\)"):
            compare(result_of(record([1.0, 2.0])), result_of(record([1.0, 2.0, 3.0])))

    def test_only_what_both_hold_is_compared_and_one_layer_of_another_name_matches(self):
        a = result_of(record([1.0, 2.0]), latent([1.0, 2.0], 2.0))
        b = result_of(record([1.0, 2.0], layer="probs"))
        (one,) = compare(a, b)["measurements"]
        assert one["layer"] == "logits | probs"
        with pytest.raises(GeedError, match="no measure and layer in common"):
            compare(result_of(latent([1.0], 2.0)), result_of(record([1.0])))

    def test_the_table_says_it_in_words_and_fits(self):
        layer = "/backbone/" + "block/" * 40
        a = result_of(record([1.0, 1.1, 1.2, 1.0], layer=layer), name="a" * 150)
        b = result_of(record([2.0, 2.2, 2.1, 2.4], layer=layer), name="b")
        text = compare_table(compare(a, b))
        assert "A is more invariant than B by 1.1 (" in " ".join(text.split())
        assert "100 %" in text
        assert max(map(len, text.splitlines())) <= 100


class TestLimits:
    RESULT = result_of(
        record([0.1, 0.3]),
        record([-0.9, -0.7], measure="channel-cos", layer="/b/relu", output_action="grid"),
        record([-0.5, -0.3], measure="channel-cos", layer="/a/relu", output_action="grid"),
        latent([-0.4, -0.4], -2.0, "latent-cos"),
        latent([4.0, 4.0], None),
    )

    @pytest.mark.parametrize(
        ("limit", "over"),
        [
            ("softmax-kl=0.19", ["softmax-kl@logits"]),
            ("softmax-kl=0.21", []),
            ("channel-cos=-0.5", ["channel-cos@/a/relu"]),
            ("channel-cos=-0.9", ["channel-cos@/b/relu", "channel-cos@/a/relu"]),
            ("channel-cos@/b/relu=-0.5", []),
            ("channel-cos@/b/*=-0.9", ["channel-cos@/b/relu"]),
            # M < 0 and M missing: -0.4 stands against the limit, not -0.4 / -2.
            ("latent-cos=-0.41", ["latent-cos@flat"]),
            ("latent-cos=-0.39", []),
            ("latent-l2=3.9", ["latent-l2@flat"]),
        ],
    )
    def test_what_is_over_a_limit_is_named(self, limit, over):
        assert [line.split(":")[0] for line in over_limits(self.RESULT, [limit])] == over

    def test_a_value_at_its_limit_is_not_over_it(self):
        value = self.RESULT["measurements"][0]["value"]
        assert over_limits(self.RESULT, [f"softmax-kl={value!r}"]) == []

    def test_a_violation_says_value_limit_and_what_was_compared(self):
        (line,) = over_limits(self.RESULT, ["latent-cos=-0.5"])
        assert line == "latent-cos@flat: -0.4 (unnormalised) > -0.5"

    def test_a_layer_name_with_an_equals_sign_can_be_named(self):
        one = result_of(record([1.0], layer="a=b[0]"))
        assert len(over_limits(one, ["softmax-kl@a=b[0]=0.5"])) == 1

    @pytest.mark.parametrize(
        ("limit", "says"),
        [
            ("softmax-kl", "write MEASURE=LIMIT"),
            ("softmax-kl=high", "write MEASURE=LIMIT"),
            ("softmax-kl=nan", "write MEASURE=LIMIT"),
            ("=1", "no measure is called"),
            ("softmax-k=1", "Did you mean 'softmax-kl'"),
            ("channel-cos@/b/rel=-1", "Did you mean 'channel-cos@/b/relu'"),
            ("output-l2=1", "is not measured"),
        ],
    )
    def test_a_limit_that_fits_nothing_is_refused_with_the_nearest_names(self, limit, says):
        with pytest.raises(GeedError) as error:
            over_limits(self.RESULT, [limit])
        assert says in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("limit", ["channel-cos=0.42", "channel-cos@a*=0.9", "latent-cos=2.39"])
    def test_a_cosine_as_tables_show_it_is_no_limit(self, limit):
        """Of minus a cosine a positive limit passes all that is seen in practice."""
        with pytest.raises(GeedError) as error:
            parse_limits([limit])
        told = limit.rpartition("=")[2]
        assert f"--fail-above {limit}: limits are on minus the cosine" in str(error.value)
        assert str(error.value).endswith(f"below the cosine {told} of tables, give -{told}")
        assert parse_limits(["channel-cos=0", "latent-cos=-2.39", "latent-l2=0.42"])

    def test_limits_are_read_before_anything_is_measured(self):
        assert parse_limits(["softmax-kl=0.5", "channel-cos@a*=-1e-3"]) == [
            Limit("softmax-kl=0.5", "softmax-kl", None, 0.5),
            Limit("channel-cos@a*=-1e-3", "channel-cos", "a*", -0.001),
        ]
        assert parse_limits([]) == []


def test_all_of_it_survives_json():
    results = [result_of(record([1.0, v]), latent([1.0, v], v), name=str(v)) for v in (1.0, 2.0)]
    for content in (aggregate(results), compare(*results)):
        assert json.loads(to_json(content)) == content
