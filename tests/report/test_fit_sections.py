"""The part of a page on fitted layers: what it draws, in which order, and beside what."""

import re

import pytest
from fitted import DEPTH, fitted_record, fitted_result, result_with

from onnx_geed.report import write_report
from onnx_geed.report.fit_sections import fit_sections
from onnx_geed.report.page import report

TITLE = "Does the layer move along, mix along, or not at all?"
KINDS = ("permutation", "orthogonal", "linear")


def section(*results, names=None):
    (shown,) = fit_sections(results, names or [f"r{i}" for i in range(len(results))])
    return shown


def marks(picture):
    """What a pointer is told, by layer and kind."""
    found = re.findall(
        r"<title>(.*?), (\w+): ([\d.−·⁻]+)(?:, its null ([\d.−]+))?</title>", picture
    )
    return {(layer, kind): (value, null) for layer, kind, value, null in found}


def test_every_prediction_is_drawn_once_with_its_value_and_null():
    (picture,) = section(*map(fitted_result, KINDS))["pictures"]
    found = marks(picture["svg"])
    assert set(found) == {(layer, kind) for layer in DEPTH for kind in ("identity", *KINDS)}
    assert found["conv3", "linear"] == ("0.250", "2.00")
    # Nobody measured the identity on other samples than its own.
    assert found["conv2", "identity"] == ("0.900", "")


def test_only_what_is_there_is_drawn():
    (picture,) = section(fitted_result("orthogonal"))["pictures"]
    assert {kind for _, kind in marks(picture["svg"])} == {"identity", "orthogonal"}
    assert "permutation" not in picture["svg"]


def test_the_words_and_the_table_beneath_say_the_same():
    shown = section(*map(fitted_result, KINDS))
    (text,) = shown["words"]
    assert text.startswith("conv1 moves along, each channel in its place")
    (table,) = shown["tables"]
    assert [(r["layer"], r["kind"]) for r in table["rows"][:5]] == [
        *(("conv1", kind) for kind in ("identity", *KINDS)),
        ("conv2", "identity"),
    ]
    row = table["rows"][7]
    assert (row["kind"], row["value"], row["shuffled"]) == ("linear", "0.3000", "2.0000")
    assert (row["motion"], row["other"]) == ("channels are permuted", "2.0000")
    assert (row["defect"], row["worst"], row["lam"], row["samples"]) == (
        "0.1000", "0.3000", "0.1", 50
    )  # fmt: skip


def test_results_of_one_model_are_one_picture_and_those_of_two_are_two():
    mine = [fitted_result(kind) for kind in KINDS]
    others = [fitted_result(kind, sha="z", path="other.onnx") for kind in KINDS]
    shown = section(*mine, *others)
    assert len(shown["pictures"]) == 2
    assert [words.split(":")[0] for words in shown["words"]] == ["net", "other"]


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("data", {"fingerprint": "ee", "source": "y.npy"}),
        ("data", {"indices": list(range(1, 21))}),
        ("group", {"name": "D2"}),
        ("group", {"support": "disk"}),
    ],
)
def test_what_was_measured_otherwise_is_not_drawn_together(part, fields):
    first, second = fitted_result("permutation"), fitted_result("linear")
    assert len(section(first, second)["pictures"]) == 1
    second[part] |= fields
    assert len(section(first, second)["pictures"]) == 2


def test_the_right_end_is_the_null_and_worse_values_are_drawn_beyond_it():
    values = {"h": {"identity": 3.0, "linear": 0.5, "shuffled": 2.0}}
    (picture,) = section(fitted_result("linear", values))["pictures"]
    assert marks(picture["svg"])["h", "identity"][0] == "3.00"
    assert "1.5" in picture["svg"]


def test_layers_without_a_null_are_told_and_not_drawn():
    one = fitted_result("linear", n=1)
    shown = section(one)
    assert shown["pictures"] != []  # a null of one sample is a null
    for record in one["measurements"]:
        for part in (record["fit"], record["fit"]["ci95"], record["fit"]["per_sample"]):
            part["shuffled"] = None
    shown = section(one)
    assert shown["pictures"] == []
    assert "cannot be judged" in shown["words"][0]
    assert report([one])


def test_without_fits_there_is_no_such_section():
    plain = fitted_result("linear")
    for record in plain["measurements"]:
        del record["fit"]
    assert fit_sections([plain], ["a"]) == []
    assert TITLE not in report([plain])


def test_the_page_has_it_once_and_says_what_makes_a_fit_honest(tmp_path):
    text = report([fitted_result(kind) for kind in KINDS])
    assert text.count(f"<h2>{TITLE}") == 1
    assert "only against its shuffled null" in text
    # What several fits say together takes the place of what each says alone.
    assert "by any permutation of channels" not in text
    assert "by any permutation of channels" in report([fitted_result("permutation")])
    write_report([fitted_result("linear")], tmp_path / "r.html", pictures=tmp_path / "p")
    assert (tmp_path / "p" / "unexplained-1-fits.svg").exists()


def test_a_given_table_beside_fits_is_compared_and_not_drawn():
    given = fitted_result("linear", file="given.json")
    for record in given["measurements"]:
        del record["fit"]
    text = report([fitted_result("permutation"), given])
    said = "B's map (channel_matrices) predicts better than A's map (fit:permutation)"
    assert said in text.replace("&#39;", "'")


def test_cosines_are_drawn_from_minus_one_to_their_null():
    values = {"identity": -0.83, "permutation": -0.99, "shuffled": -0.8}
    record = fitted_record("h", "permutation", values, measure="channel-cos")
    (picture,) = section(result_with([record]))["pictures"]
    assert "Dotted" not in picture["caption"]
    value, null = marks(picture["svg"])["h", "permutation"]
    # What lies under -1 is cut off, which lifts the mean a little. Told as cosines.
    assert float(value) == pytest.approx(0.98, abs=0.02)
    assert null == "0.800"
