"""The types of results hold the fields that are documented and written, no more and no fewer."""

import numpy as np
import pytest
from recording import measurement
from test_docs import section

from onnx_geed import results
from onnx_geed.results import aggregate, compare, judge_precision


def record(value):
    return measurement(
        measure="latent-l2",
        layer="z",
        layout="NK",
        output_action="trivial",
        deviations=np.full((3, 2), value),
        elements=("e", "r1"),
        normaliser=2.0,
        norm_samples=3,
        exact=((0,), np.full((3, 1), value)),
    )


def result(value):
    return results.result(
        command="c",
        software={},
        model={"path": "m.onnx", "sha256": str(value), "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "f",
            "available": 3,
            "indices": [0, 1, 2],
            "names": None,
            "labels": None,
        },
        group={
            "name": "C2",
            "order": 2,
            "elements": ["e", "r1"],
            "exact": [True, True],
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={},
        seed=0,
        measurements=[record(value)],
    )


def fields(kind):
    return set(kind.__annotations__)


@pytest.mark.parametrize(
    ("kind", "title", "unsaid"),
    [
        # Where it was read from, and the cell of a suite that it is of.
        ("Result", "The file", {"file", "suite"}),
        ("DataPart", "data", set()),
        ("GroupPart", "group", set()),
        ("RuntimePart", "runtime", set()),
        ("PrecisionPart", "precision", set()),
        ("PartPart", "part", set()),
        ("Record", "An entry of measurements", set()),
        ("FitPart", "fit", set()),
        ("Gain", "gain", set()),
        ("Aggregate", "The file of an aggregate", set()),
        ("AggregateEntry", "An entry of an aggregate", set()),
        ("Comparison", "The file of a comparison", set()),
        ("ComparisonEntry", "An entry of a comparison", set()),
    ],
)
def test_a_type_has_the_fields_that_are_documented(kind, title, unsaid):
    assert fields(getattr(results, kind)) == section("formats/results.md", title) | unsaid


@pytest.mark.parametrize(
    ("kind", "content", "later"),
    [
        ("Result", result(1.0), {"notes", "precision", "suite", "part", "file"}),
        (
            "Record",
            record(1.0),
            {
                *("per_class", "predictions", "notes", "most_common", "miou", "foreground"),
                *("fit", "errors", "gain", "without_table", "averaged", "reads", "table"),
            },
        ),
        ("Aggregate", aggregate([result(1.0)]), set()),
        ("AggregateEntry", aggregate([result(1.0)])["measurements"][0], set()),
        ("Comparison", compare(result(1.0), result(2.0)), set()),
        ("ComparisonEntry", compare(result(1.0), result(2.0))["measurements"][0], set()),
        ("PrecisionPart", judge_precision([record(1.0)], 0.1), set()),
    ],
)
def test_what_is_written_has_the_fields_of_its_type(kind, content, later):
    assert set(content) == fields(getattr(results, kind)) - later


@pytest.mark.parametrize(("kind", "title"), [("Overlap", "miou"), ("Foreground", "foreground")])
def test_parts_of_places_have_the_fields_that_are_documented(kind, title):
    assert fields(getattr(results, kind)) == section("formats/results.md", title)


def test_the_exact_part_has_the_statistics_of_the_whole_record():
    own = set(record(1.0)["exact"])
    assert own == (fields(results.Statistics) - {"errors"}) | {"elements", "per_channel"}
