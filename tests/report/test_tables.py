from __future__ import annotations

import math
import re

import numpy as np
import pytest
from fitted import DEPTH, fitted_result
from hypothesis import given, settings, strategies as st
from recording import measurement

from onnx_geed.measures import MINUS
from onnx_geed.report import table
from onnx_geed.results import result
from onnx_geed.text import columns, interval, number, shorten, wrapped

ELEMENTS = ("e", "r1", "r2", "r3")


def record(**changes):
    fields = {
        "measure": "channel-cos",
        "layer": "relu",
        "layout": "NCHW",
        "output_action": "grid",
        "deviations": [[-1.0, -0.9, -0.8, -0.7], [-1.0, -0.7, -0.6, -0.5]],
        "elements": ELEMENTS,
    }
    return measurement(**(fields | changes))


def result_of(*measurements, path="m.onnx", source="x.npy", exact=(True,) * 4, **group):
    return result(
        command="",
        software={},
        model={"path": path, "sha256": "ab"},
        data={"source": source, "fingerprint": "cd", "indices": [0, 1], "names": None},
        group={
            "name": "C4",
            "order": 4,
            "elements": list(ELEMENTS),
            "exact": list(exact),
            "interpolation": "bilinear",
            "support": "full",
        }
        | group,
        runtime={},
        seed=0,
        measurements=measurements,
    )


def test_a_table_worked_by_hand():
    # Samples' means -0.85 and -0.7; half the interval is 12.7062 · 0.075 = 0.95297.
    latent = record(
        measure="latent-l2",
        layer="flat",
        output_action="trivial",
        deviations=[[2.0] * 4] * 2,
        normaliser=4.0,
        norm_samples=200,
    )
    assert table(result_of(record(), latent)).splitlines() == [
        "m.onnx   C4 (4 elements)   x.npy",
        "measure      layer   value  95 % (samples)       M  n",
        "channel-cos  relu   0.7750  ± 0.9530                2",
        "latent-l2    flat   0.5000  ± 0.0000        4.0000  2",
        "range: channel-cos 1 (equivariant) to −1; latent-l2 0 (invariant) or more; cosines have a "
        "minus in",
        "    files and limits",
    ]


def test_the_exact_part_stands_beside_the_value_with_its_own_interval():
    part = [[-1.0, -0.9], [-1.0, -0.8]]
    text = table(result_of(record(exact=((0, 2), part)), exact=(True, False, True, False)))
    assert "C4 (4 elements, 2 exact; bilinear)" in text
    assert "exact part" in text
    assert "0.9250 ± 0.3177" in text


def test_without_exact_parts_normalisers_and_notes_there_are_no_such_columns():
    head = table(result_of(record())).splitlines()[1]
    assert head.split() == ["measure", "layer", "value", "95", "%", "(samples)", "n"]


def test_a_bootstrap_interval_shows_both_ends():
    deviations = np.random.default_rng(0).lognormal(-2, 1, (20, 4)) - 1
    entry = record(deviations=deviations, interval="bootstrap")
    low, high = entry["ci95"]
    assert -1 < low < high < 0
    assert interval((-high, -low)) in table(result_of(entry))
    assert "±" not in table(result_of(entry))


def test_one_sample_shows_no_interval():
    row = table(result_of(record(deviations=[[0.0] * 4]))).splitlines()[2]
    assert row.split() == ["channel-cos", "relu", "0.0000", "-", "1"]


def test_warnings_are_numbered_notes_said_once():
    text = table(
        result_of(record(warnings=["odd"]), record(layer="b", warnings=["strange", "odd"]))
    )
    assert [line for line in text.splitlines() if line.endswith(("[1]", "[2,1]"))] != []
    lines = text.splitlines()
    assert lines[2].endswith("[1]")
    assert lines[3].endswith("[2,1]")
    assert lines[4:6] == ["[1] odd", "[2] strange"]


def test_where_there_is_no_value_the_unnormalised_one_is_said():
    entry = record(
        measure="latent-l2",
        output_action="trivial",
        deviations=[[2.0] * 4] * 2,
        normaliser=0.0,
    )
    text = table(result_of(entry))
    assert "unnormalised value of latent-l2: 2.0000" in text
    assert text.splitlines()[2].split()[2:4] == ["-", "-"]


@pytest.mark.parametrize(
    ("measure", "action", "says"),
    [
        ("channel-cos", "grid", f"channel-cos 1 (equivariant) to −1; {MINUS}"),
        ("softmax-kl", "trivial", "softmax-kl 0 (invariant) to 1.386"),
        ("softmax-kl", "permutation", "softmax-kl 0 (equivariant) or more"),
        ("output-l2", "matrices", "output-l2 0 (equivariant) or more"),
        ("output-l2", "trivial", "output-l2 0 (invariant) or more"),
    ],
)
def test_the_range_of_a_measure_is_said(measure, action, says):
    text = table(result_of(record(measure=measure, output_action=action)))
    assert text.splitlines()[-1] == f"range: {says}"
    assert math.log(4) == pytest.approx(1.386, abs=5e-4)


def test_a_long_layer_name_is_cut_in_its_middle():
    name = "/backbone/" + "block/" * 30 + "relu/Relu_output_0"
    text = table(result_of(record(layer=name)))
    row = text.splitlines()[2]
    assert len(row) == 100 or len(text.splitlines()[1]) <= 100
    assert "/backbone/" in row
    assert "…" in row
    assert "relu/Relu_output_0" in row


def test_names_that_would_look_alike_when_cut_are_told_apart():
    # More is shared before, between and after the two differences than a column holds.
    shared = "a_name_that_goes_on/" * 5
    names = [f"{shared}stage{s}/{shared}block{b}/{shared}" for s in range(3) for b in range(4)]
    rows = table(result_of(*(record(layer=n) for n in names))).splitlines()[2:14]
    assert len(set(rows)) == 12
    for row, (s, b) in zip(rows, np.ndindex(3, 4), strict=True):
        assert f"stage{s}" in row
        assert f"block{b}/" in row


def test_long_paths_leave_the_group_readable():
    lines = table(result_of(record(), path="/a" * 90, source="/b" * 90)).splitlines()
    assert lines[0].startswith("model  …/a/a")
    assert "C4 (4 elements)" in lines[1]
    assert lines[2].startswith("data   …/b/b")
    assert max(map(len, lines)) <= 100


def test_control_characters_in_names_do_not_reach_the_terminal():
    text = table(
        result_of(record(layer="a\x1b[31m\nb\udcff", warnings=["c\x07d"]), path="m\n.onnx")
    )
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == 5
    text.encode()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), max_size=150),
            st.sampled_from([0.0, 1e-300, -1.2345e-9, 0.04, -0.99999, 9.99999, 99999.99, -1e30]),
            st.sampled_from([None, 0.0, -1.5e-12, 1e5, 0.033]),
            st.lists(st.text(st.characters(codec="utf-8"), max_size=120), max_size=2),
            st.sampled_from(["t", "bootstrap"]),
        ),
        min_size=1,
        max_size=9,
    ),
    st.text(max_size=200),
    st.text(max_size=200),
)
def test_no_line_is_wider_than_100_columns_but_for_its_numbers(rows, path, source):
    records = []
    for layer, scale, m, warnings, kind in rows:
        deviations = scale * np.array([[1.0, 2.0, 3.0, 5.0], [2.0, 2.5, 0.5, 1.5]])
        records.append(
            record(
                measure="latent-cos",
                output_action="trivial",
                layer=layer,
                deviations=np.repeat(deviations, 3, axis=0),
                normaliser=m,
                exact=((0, 2), np.repeat(deviations[:, [0, 2]], 3, axis=0)),
                warnings=warnings,
                interval=kind,
            )
        )
    text = table(result_of(*records, path=path, source=source, exact=(True, False, True, False)))
    # Of numbers that need more, none is cut.
    long = re.search(r"\de[-+]\d\d", text)
    assert max(map(len, text.split("\n"))) <= (140 if long else 100)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.0000"),
        (-1.0, "−1.0000"),
        (0.123456, "0.1235"),
        (0.0123456, "0.01235"),
        (12.3456, "12.35"),
        (1.5e-7, "1.50e-07"),
        (-123456.0, "−1.23e+05"),
        (9.99999, "10.0000"),
    ],
)
def test_how_numbers_look(value, text):
    assert number(value) == text
    assert len(text) <= 9


@settings(deadline=None)
@given(st.floats(min_value=-1e99, max_value=1e99).filter(lambda x: x == 0 or abs(x) > 1e-99))
def test_a_shown_number_is_right_and_short(value):
    assert len(number(value)) <= 9
    told = number(value).replace("−", "-")
    assert float(told) == pytest.approx(value, rel=0.0051, abs=1e-300)


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(1, 50))
def test_shortening_never_exceeds_and_keeps_both_ends(text, width):
    short = shorten(text, width)
    assert len(short) <= width
    if len(text) <= width:
        assert len(short) == len(text)
    else:
        assert "…" in short


def test_columns_align_and_leave_out_what_is_empty():
    rows = [("a", "b", "c"), ("long", "", "1"), ("x", "", "22")]
    assert columns(rows, flexible=0, right=(2,)) == ["a      c", "long   1", "x     22"]


def test_notes_wrap_with_an_indent():
    lines = wrapped("[1] " + "word " * 40)
    assert len(lines) > 1
    assert lines[1].startswith("    word")
    assert max(map(len, lines)) <= 100


class TestFits:
    def test_a_fitted_value_stands_beside_what_it_is_to_be_read_by(self):
        lines = table(fitted_result("orthogonal")).splitlines()
        head = next(i for i, line in enumerate(lines) if line.startswith("fits"))
        assert lines[head].split() == [
            *("fits", "layer", "kind", "value", "shuffled", "identity", "other", "g"),
            *("defect", "worst", "lambda", "n", "fit"),
        ]
        assert lines[head + 2].split() == [
            *("unexplained", "conv2", "orthogonal", "0.3100", "2.0000", "0.9000", "2.0000"),
            *("0.1000", "0.3000", "0.1", "50"),
        ]
        assert "a fit that is not better found nothing" in " ".join(lines)

    def test_what_a_fit_has_not_is_left_out(self):
        made = fitted_result("permutation")
        for record in made["measurements"]:
            record["fit"] |= {"other_element": None, "defect": None, "shuffled": None}
        lines = table(made).splitlines()
        (head,) = (line for line in lines if line.startswith("fits"))
        assert not {"other", "defect", "worst", "lambda"} & set(head.split())

    def test_without_fits_there_is_no_such_table(self):
        assert "fits" not in table(result_of(record()))

    def test_it_fits_100_columns_with_long_names_and_numbers(self):
        layers = {f"/features/stage.{i}/block/conv/Conv_output_0": DEPTH["conv3"] for i in range(3)}
        made = fitted_result("permutation", layers, m=1e-7)
        made["measurements"][0]["fit"]["shuffled"] = 123456.789
        assert all(len(line) <= 100 for line in table(made).splitlines())
