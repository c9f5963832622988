"""Pictures of suites: what they name is seen whole."""

import re

import pytest

from onnx_geed.report import draw_suite
from onnx_geed.report.svg import series_of


def rows(names):
    common = {"data": "d", "group": "C4", "measure": "latent-l2", "layer": "latent"}
    more = {"ci95_over_models": None, "ci95_over_samples": None, "unnormalised_mean": None}
    return [
        {**common, **more, "model": name, "step": step, "mean": 0.1 * k, "normalisers": []}
        for k, name in enumerate(names, 1)
        for step in (0, 100)
    ]


@pytest.mark.parametrize("letters", [6, 14, 21])
def test_no_name_of_a_legend_leaves_the_picture(tmp_path, letters):
    names = [f"{'abcdef'[k] * letters}" for k in range(6)]
    path = draw_suite({"rows": rows(names)}, tmp_path)[0]
    text = path.read_text("utf-8")
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])
    seen = {}
    for size, x, name in re.findall(r'font-size: ([\d.]+)px[^>]*? x="([\d.]+)"[^>]*>(\w+)<', text):
        seen[name] = float(x) + 0.5 * float(size) * len(name)
    assert {*names} <= {*seen}
    assert max(seen[name] for name in names) < width


def test_series_have_colours_and_markers_of_their_own():
    first = [series_of(i) for i in range(6)]
    assert len({colour for colour, _ in first}) == len({marker for _, marker in first}) == 6
    assert len({series_of(i) for i in range(36)}) == 36
