"""One model under two output actions, and fitted values over several models."""

import numpy as np
import pytest
from fitted import ELEMENTS, fitted_record, fitted_result, result_with
from recording import measurement

from onnx_geed.errors import GeedError
from onnx_geed.report import aggregate_table, compare_table
from onnx_geed.results import aggregate, compare, mean_interval, over_limits


class TestTwoMaps:
    """One model's tensor, told from f(x) in two ways."""

    def given(self, value=0.5, action="grid", layer="h", **changes):
        made = fitted_record(layer, "linear", {"identity": 0.9, "linear": value})
        del made["fit"]
        return result_with([made | {"output_action": action} | changes])

    def fit(self, kind="linear", value=0.3, sha="ab", **options):
        values = {"identity": 0.9, kind: value}
        return result_with([fitted_record("h", kind, values, **options)], sha=sha)

    @pytest.mark.parametrize(
        ("a", "b", "said"),
        [
            ("permutation", "linear", "B's map (fit:linear) predicts better than A's map "
                                      "(fit:permutation)"),
            ("linear", "linear", "B's map (fit:linear) predicts better than A's map (fit:linear)"),
        ],
    )  # fmt: skip
    def test_two_fits_of_one_layer_are_paired(self, a, b, said):
        comparison = compare(self.fit(a, 0.6), self.fit(b, 0.3))
        (one,) = comparison["measurements"]
        assert comparison["differ_in"] == []
        assert said in one["verdict"]
        assert one["compared"] == "value"
        assert one["difference"] == pytest.approx(0.3)
        assert (one["output_action_a"], one["output_action_b"]) == (f"fit:{a}", f"fit:{b}")
        assert one["warnings"] == []
        low, high = one["verdict_ci95"]
        assert (low, high) == pytest.approx((0.3, 0.3), abs=0.03)

    def test_fitted_against_given(self):
        (one,) = compare(self.given(), self.fit())["measurements"]
        assert one["verdict"].startswith("B's map (fit:linear) predicts better than A's map (grid)")
        assert one["warnings"] == []
        (one,) = compare(self.fit(), self.given())["measurements"]
        assert one["verdict"].startswith("A's map (fit:linear) predicts better than B's map (grid)")

    def test_the_pairs_are_those_of_samples(self):
        a, b = self.fit("permutation", 0.6), self.fit("linear", 0.3)
        x, y = (np.array(r["measurements"][0]["per_sample"]) for r in (a, b))
        (one,) = compare(a, b)["measurements"]
        assert one["ci95"] == list(mean_interval(x - y))
        assert one["ci95_bootstrap"] == list(mean_interval(x - y, "bootstrap"))

    def test_fits_that_are_as_good_are_no_verdict(self):
        (one,) = compare(self.fit("permutation", 0.3), self.fit("linear", 0.3))["measurements"]
        assert one["verdict"].startswith("no clear difference")

    def test_an_orbits_mean_has_seen_what_it_is_held_against(self):
        (one,) = compare(self.given(action="trivial"), self.fit())["measurements"]
        (doubt,) = one["warnings"]
        assert doubt.startswith("A is compared with the mean over its orbit, which includes f(gx)")
        assert "B's identity" in doubt

    def test_other_elements_in_the_mean_are_said(self):
        (one,) = compare(
            self.given(per_element={"e": 0.0, "r1": 0.5, "r2": 0.5, "r3": 0.5}), self.fit()
        )["measurements"]
        assert one["warnings"] == ["A is a mean over 4 elements, B over 3"]

    def test_two_models_under_the_same_kind_of_fit_are_models(self):
        (one,) = compare(self.fit(value=0.2), self.fit(value=0.5, sha="cd"))["measurements"]
        assert one["verdict"].startswith("A is more equivariant than B by 0.3")

    def test_two_models_under_other_kinds_are_refused_and_so_is_their_mean(self):
        a, b = self.fit("permutation"), self.fit("linear", sha="cd")
        said = r"differ in output action \(fit:permutation, fit:linear\)"
        with pytest.raises(GeedError, match=said):
            compare(a, b)
        with pytest.raises(GeedError, match=said):
            aggregate([a, b])
        with pytest.raises(GeedError, match=said):
            aggregate([a, self.fit("linear")])

    def test_units_of_one_tensor_are_the_same(self):
        # By relative values, each divided by what another sample does to its own map, A would win.
        def distance(value, between, action):
            made = measurement(
                measure="output-l2",
                layer="h",
                layout="NK",
                output_action=action,
                deviations=value + np.array([[-0.1] * 4, [0.0] * 4, [0.1] * 4]),
                elements=ELEMENTS,
                between=[[between] * 4],
            )
            return result_with([made])

        a, b = distance(3.0, 10.0, "permutation"), distance(2.0, 4.0, "matrices")
        (one,) = compare(a, b)["measurements"]
        assert (one["compared"], one["difference"]) == ("value", pytest.approx(1.0))
        assert one["verdict"].startswith("B's map (matrices) predicts better")

    def test_the_table_names_both_maps_and_fits(self):
        text = compare_table(compare(self.given(), self.fit()))
        assert "predicts better than A's map (grid)" in " ".join(text.split())
        assert all(len(line) <= 100 for line in text.splitlines())


class TestFitsOverModels:
    def results(self):
        layers = [{"h": {"identity": 0.9 + s, "linear": 0.3 + s}} for s in (0.0, 0.1, 0.2)]
        return [fitted_result("linear", v, sha=str(i), path=f"{i}.onnx")
                for i, v in enumerate(layers)]  # fmt: skip

    def test_what_stands_beside_is_averaged_as_values_are(self):
        results = self.results()
        (entry,) = aggregate(results)["measurements"]
        fits = [r["measurements"][0]["fit"] for r in results]
        assert entry["fit"]["kind"] == "linear"
        for name in ("shuffled", "identity", "other_element"):
            found = entry["fit"][name]
            assert found["values"] == [fit[name] for fit in fits]
            assert found["mean"] == pytest.approx(np.mean(found["values"]))
            assert found["ci95_over_models"] == list(mean_interval(found["values"]))
        assert entry["fit"]["defect"]["mean"] == pytest.approx(0.1)
        assert entry["mean"] == pytest.approx(0.4)

    def test_without_fits_there_is_none(self):
        made = fitted_record("h", "linear", {"identity": 0.9, "linear": 0.3})
        del made["fit"]
        assert aggregate([result_with([made])])["measurements"][0]["fit"] is None

    def test_the_table_has_them_in_a_second_part(self):
        text = aggregate_table(aggregate(self.results()))
        assert text.splitlines()[-2].split()[:4] == ["fits,", "means", "layer", "kind"]
        assert "0.4000" in text.splitlines()[-1]
        assert all(len(line) <= 100 for line in text.splitlines())


def test_a_gate_reads_a_fitted_record_as_any_other():
    content = fitted_result("linear")
    (over,) = over_limits(content, ["unexplained@conv2=0.1", "unexplained@conv3=0.5"])
    assert "conv2" in str(over)
