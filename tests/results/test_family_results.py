"""Families in results: what may be compared, and what a diagnosis leaves out."""

import numpy as np
import pytest
from family_results import FAMILIES, family_result

from onnx_geed import GeedError
from onnx_geed.results import aggregate, compare, diagnose, order_words

ROTATE, ZOOM, *_ = FAMILIES


def other(name=ROTATE, **options):
    return family_result(name, path="b.onnx", sha="ef", seed=1, scale=0.5, **options)


def test_models_under_one_family_are_paired():
    rows = compare(family_result(ROTATE), other())["measurements"]
    assert len(rows) == 6
    assert "B is more invariant than A" in next(
        r["verdict"] for r in rows if r["measure"] == "softmax-kl"
    )


def test_another_family_or_other_values_of_one_are_refused_in_one_line():
    with pytest.raises(GeedError, match=r"differ in family \(rotate.*, zoom") as refused:
        compare(family_result(ROTATE), other(ZOOM))
    assert "\n" not in str(refused.value)
    with pytest.raises(GeedError, match="differ in angle of its members"):
        compare(family_result(ROTATE), other(parameters=[0.0, *range(6)]))
    with pytest.raises(GeedError, match=r"aggregate: .* differ in family"):
        aggregate([family_result(ROTATE), other(ZOOM)])
    assert aggregate([family_result(ROTATE), other()])["group"]["kind"] == "family"


def test_no_finding_of_a_family_rests_on_products_of_elements():
    result = family_result(ROTATE, exact=[True] * 7, labels=False)
    first = result["measurements"][0]
    first |= {"value": -1.0, "deviations": [[-1.0] * 7] * 12, "per_sample": [-1.0] * 12}
    of_group = {"first break", "zero padding", "some elements", "odd channels"}
    assert not {f.name for f in diagnose(result)} & of_group
    result["group"] |= {"kind": "group", "name": "C7"}
    assert {f.name for f in diagnose(result)} & of_group


def test_the_relative_value_grades_and_no_bound_of_an_orbit():
    from onnx_geed.report.words import grade, meaning
    from onnx_geed.results import read_record

    record = family_result(ROTATE, scale=8.0)["measurements"][4]
    reading = read_record(record)
    assert record["value"] > np.log(7)  # no divergence from an orbit's mean is as large
    assert "mean" not in meaning(record, 7, of_family=True)
    assert grade(reading, of_family=True) == "slightly invariant" or reading.relative > 0.8


def test_one_member_is_one():
    told = [order_words({"kind": kind, "order": n}) for kind in ("family", "group") for n in (2, 3)]
    assert told[:2] == ["1 member and the identity", "2 members and the identity"]
    assert told[2:] == ["2 elements", "3 elements"]
