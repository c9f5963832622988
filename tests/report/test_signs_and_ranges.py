"""The sign of cosines and the ends of intervals, in tables and pictures of several models."""

import re

import large_suites
import numpy as np
import pytest

from onnx_geed.report import suite_csv, suite_table
from onnx_geed.report.suite_figures import suite_picture

COSINES = [
    large_suites.row("a", measure="channel-cos", layer="z", at=0.1),
    large_suites.row("b", measure="channel-cos", layer="z", at=0.01),
]


def numbers(text):
    return [float(x.replace("−", "-")) for x in re.findall(r"(?<![\w.])[-−]?\d+\.\d+", text)]


def test_a_suites_table_shows_cosines_and_says_so_in_its_head():
    text = suite_table(large_suites.suite(COSINES))
    assert "channel-cos (1 is perfect, higher is better)   digits   C8" in text
    line = next(x for x in text.splitlines() if x.startswith("a "))
    assert numbers(line)[:3] == [0.9, 0.88, 0.92]
    other = next(x for x in text.splitlines() if x.startswith("b "))
    assert numbers(other)[:3] == [0.99, 0.97, 1.0]  # and not 1.01
    assert numbers(other)[-2:] == [0.0, 0.03]  # relative: and not -0.01
    # Files keep what was measured.
    assert ",-0.99," in suite_csv(large_suites.suite(COSINES))


@pytest.mark.parametrize("steps", [(None,), (100, 200)])
def test_a_suites_picture_has_cosines_along_its_axis_and_no_bar_beyond_one(steps):
    rows = [
        large_suites.row(name, measure="channel-cos", at=at, step=step)
        for name, at in (("a", 0.4), ("b", 0.01))
        for step in steps
    ]
    svg = suite_picture(rows)
    ticks = [float(x.replace("−", "-")) for x in re.findall(r">([-−]?[01](?:\.\d+)?)</text>", svg)]
    assert ticks
    assert min(ticks) > 0
    assert max(ticks) <= 1 or np.isclose(max(ticks), 1)
    assert "1 is perfect, down is better" in svg
    relative = suite_picture(rows, "relative_mean")
    assert "0 is perfect, down is better" in relative
