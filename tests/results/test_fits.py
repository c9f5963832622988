"""What stands beside a fitted value is made as the value itself is."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from recording import measurement

from onnx_geed.errors import GeedError
from onnx_geed.groups import Fit
from onnx_geed.results import FIT_REFERENCES, fit_notes, fit_part

FIT = Fit("orthogonal", "h", samples=50, lambda_=0.01, defect=(0.2, 0.5))
PERMUTED = Fit("permutation", "h", samples=50, defect=(0.0, 0.0))


def deviations(seed=0, shape=(5, 4)):
    return np.random.default_rng(seed).random(shape)


def record(values, m=2.0, measure="unexplained", skipped=1, interval="t", **fields):
    return (
        measurement(
            measure=measure,
            layer="h",
            layout="NCHW",
            output_action="matrices",
            deviations=values,
            elements=("e", "r1", "r2", "r3"),
            normaliser=m,
            norm_samples=9,
            skipped=skipped,
            interval=interval,
        )
        | fields
    )


def part(given, fit=FIT, **options):
    stated = {"divisor": 2.0, "skipped": 1, "usable": True, "interval": "t", "seed": 0}
    return fit_part(fit, given, **(stated | options))


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
@pytest.mark.parametrize("m", [2.0, 0.0])
@pytest.mark.parametrize("skipped", [0, 1])
def test_a_reference_is_made_as_a_records_own_value(interval, m, skipped):
    for i, name in enumerate(FIT_REFERENCES):
        values = deviations(i)
        own = record(values, m=m, skipped=skipped, interval=interval)
        found = part({name: values}, divisor=m, skipped=skipped, usable=m > 0, interval=interval)
        assert found[name] == own["value"]
        assert found["ci95"][name] == own["ci95"]
        assert found["per_sample"][name] == own["per_sample"]


def test_the_value_is_the_mean_over_counted_elements_then_samples():
    values = [[9.0, 1.0, 3.0, 5.0], [9.0, 2.0, 2.0, 2.0]]
    found = part({"shuffled": values})
    assert found["per_sample"]["shuffled"] == [1.5, 1.0]
    assert found["shuffled"] == 1.25


def test_what_was_not_computed_is_null():
    found = part({"shuffled": deviations(), "identity": deviations(1)})
    assert found["other_element"] is None
    assert found["ci95"]["other_element"] is None
    assert found["per_sample"]["other_element"] is None


def test_it_says_how_the_action_was_fitted():
    found = part({})
    assert (found["kind"], found["lambda"], found["samples"]) == ("orthogonal", 0.01, 50)
    assert found["defect"] == {"median": 0.2, "worst": 0.5}
    bare = part({}, Fit("permutation", "h", samples=9))
    assert (bare["lambda"], bare["defect"]) == (None, None)


def test_an_infinite_reference_is_null_and_a_note_says_so():
    values = deviations()
    values[1, 2] = np.inf
    found = part({"shuffled": values, "identity": deviations(1)})
    assert found["shuffled"] is None
    assert found["per_sample"]["shuffled"] is None
    assert found["identity"] is not None
    assert any("no shuffled" in n for n in fit_notes(record(deviations(), fit=found)))


def test_nan_is_refused_and_the_layer_named():
    values = deviations()
    values[0, 0] = np.nan
    with pytest.raises(GeedError, match=r"^h: the prediction from the next sample gives NaN"):
        part({"shuffled": values})


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (PERMUTED, True),
        (Fit("permutation", "h", samples=50, defect=(0.0, 0.5)), False),
        (Fit("permutation", "h", samples=50), False),
        (Fit("orthogonal", "h", samples=50, lambda_=0.1, defect=(0.0, 0.0)), False),
    ],
)
def test_permutations_that_compose_are_a_table_like_any_other(fit, said):
    notes = fit_notes(record(deviations(), fit=part({"shuffled": deviations()}, fit)))
    assert any("as a table does" in n for n in notes) == said


def test_without_a_fit_there_are_no_notes():
    assert fit_notes(record(deviations())) == []
    assert fit_notes(record(deviations(), fit=None)) == []


@given(st.integers(1, 6), st.floats(0.1, 10))
def test_references_scale_as_one_over_m(n, m):
    values = deviations(3, (n, 4))
    one, other = part({"shuffled": values}), part({"shuffled": values}, divisor=2.0 * m)
    assert other["shuffled"] == pytest.approx(one["shuffled"] / m)
