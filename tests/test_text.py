"""Paths and heads of tables: whole where they fit, else the end that tells them apart; JSON."""

import json
import math
import sys

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from onnx_geed import text
from onnx_geed.errors import GeedError
from onnx_geed.text import columns, head_lines, line_width, path_end, to_json, wrapped


def test_a_path_that_fits_is_whole():
    assert path_end("/data/nets/model.onnx", 30) == "/data/nets/model.onnx"
    assert path_end("x" * 30, 30) == "x" * 30


def test_a_long_path_keeps_its_end_from_a_slash_on():
    long = "/home/someone/experiments/2026/nets/model.onnx"
    assert path_end(long, 30) == "…/2026/nets/model.onnx"
    for width in range(12, 60):
        short = path_end(long, width)
        assert len(short) <= width
        assert short.endswith("model.onnx")
        assert long.endswith(short.removeprefix("…"))
    assert path_end("y" * 40 + ".onnx", 20) == "…" + "y" * 14 + ".onnx"


def test_a_folder_keeps_its_name():
    assert path_end("/home/someone/" + "n" * 30 + "/", 20) == "…" + "n" * 18 + "/"


def test_names_share_a_line_where_all_fit():
    assert head_lines(("model", "m.onnx"), ("group", "C4")) == ["m.onnx   C4"]
    lines = head_lines(("model", "/a" * 45), ("group", "C4"), ("data", "x.npy"))
    assert lines == ["model  " + "/a" * 45, "group  C4", "data   x.npy"]
    (first, *_) = head_lines(("model", "/a" * 80), ("group", "C4"), ("data", "x.npy"))
    assert len(first) <= 100
    assert first.startswith("model  …/a/a")


def table(*rows, **options):
    return columns([("model", "mean", "95 %"), *rows], flexible=0, **options)


def test_numbers_and_intervals_are_never_cut():
    ends = "[-1.0019, -1.0019] models"
    lines = table(*((name * 40, "-1.0019", ends, ends, ends)[:3] for name in "ab"))
    assert all(line.endswith(ends) for line in lines[1:])
    wide = [("layer", *["95 %"] * 5), ("x" * 60, *["[-1.23e-300, 1.23e+300]"] * 5)]
    _, line = columns(wide, flexible=0)
    assert line.count("[-1.23e-300, 1.23e+300]") == 5  # longer than a line is long
    assert len(line.split()[0]) == 8
    marks = "[" + ",".join(map(str, range(1, 30))) + "]"
    assert columns([("layer", ""), ("x" * 60, marks)], flexible=0)[1].endswith(marks)


def test_names_beside_the_first_give_way_too():
    lines = columns([("model", "mean", "layer"), ("m" * 90, "0.1234", "l" * 90)], flexible=0)
    assert len(lines[1]) <= 100
    assert "0.1234" in lines[1]


def test_heads_of_numbers_give_way_where_they_are_names():
    lines = columns(
        [("", *("n" * 90 + str(i) for i in range(4))), ("flip", *["0.1234"] * 4)], flexible=0
    )
    assert max(map(len, lines)) <= 100
    assert lines[1].count("0.1234") == 4


@pytest.mark.parametrize(("terminal", "most"), [(80, 80), (40, 60), (200, 100), (None, 100)])
def test_lines_are_as_wide_as_the_terminal(monkeypatch, terminal, most):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal is not None, raising=False)
    monkeypatch.setenv("COLUMNS", str(terminal or 70))
    assert line_width() == most
    assert most - 10 < max(map(len, wrapped("word " * 60))) <= most
    (_, line) = table(("m" * 150, "0.5000", "[0.4000, 0.6000]"))
    assert len(line) == most
    assert line.endswith("[0.4000, 0.6000]")


def test_names_in_every_column_are_told_apart_where_they_are_cut():
    layers = [f"/features/features.{i}/conv/conv.0/conv.0.2/Clip_output_0" for i in range(30)]
    rows = [("model", "layer", "mean", "95 %")]
    rows += [("a model", name, "0.9096", "[0.8839, 0.9354]" * 3) for name in layers]
    lines = columns(rows, flexible=0, right=(2,))
    assert max(map(len, lines)) <= 100
    assert len({line.split()[2] for line in lines[1:]}) == 30


# Lists of plain values, and what looks like their ends and is none.
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
ANYTHING = st.recursive(
    PLAIN | st.sampled_from(["", "a", "], [", "[", "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=12,
)


def written(value, pad=""):
    """A slow twin: lists of plain values and texts are a line, all else has a line a value."""
    if isinstance(value, dict) and value:
        inner = (f"{pad} {json.dumps(k)}: {written(v, pad + ' ')}" for k, v in value.items())
        return "{\n" + ",\n".join(inner) + f"\n{pad}}}"
    if isinstance(value, list) and any(isinstance(v, list | dict) for v in value):
        return "[\n" + ",\n".join(f"{pad} {written(v, pad + ' ')}" for v in value) + f"\n{pad}]"
    return json.dumps(value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(PLAIN, max_size=3), max_size=7) | st.lists(ANYTHING, max_size=5),
    st.integers(1, 4),
)
def test_json_is_that_of_a_slow_writer_however_many_lists_are_written_at_once(
    monkeypatch, value, together
):
    monkeypatch.setattr(text, "_TOGETHER", together)
    assert (
        to_json({"x": value, "y": {"z": [value]}})
        == written({"x": value, "y": {"z": [value]}}) + "\n"
    )


@pytest.mark.parametrize("at", [0, 1, 999, 1000, 2500])
def test_nan_in_one_of_many_lists_is_named(at):
    rows = [[float(i), 1.0] for i in range(2501)]
    rows[at][1] = math.nan
    with pytest.raises(GeedError, match=rf"^the result, x, {at}: is NaN or infinite"):
        to_json({"x": rows})


def test_many_lists_of_numbers_are_written_in_few_calls(monkeypatch):
    texts = []

    class Counting:
        def encode(self, value):
            texts.append(json.dumps(value))
            return texts[-1]

    monkeypatch.setattr(text, "_WRITING", Counting())
    rows = [[i, 0.5] for i in range(5000)]
    assert json.loads(to_json({"x": rows})) == {"x": rows}
    assert len(texts) == 1 + 5
