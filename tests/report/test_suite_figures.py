"""Pictures of suites: what they name is seen whole."""

import re

import numpy as np
import pytest
from large_suites import grid, row

from onnx_geed.report import draw_suite
from onnx_geed.report.suite_figures import suite_picture
from onnx_geed.report.svg import LIGHT, series_of, themed


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


def colours(svg):
    return {colour for colour in LIGHT.values() if f"{colour}" in svg} - {
        LIGHT[name] for name in ("ink", "soft", "line", "paper")
    }


@pytest.mark.parametrize("more", [{"steps": (0, 100, 500)}, {"data": ("a", "b")}, {"layers": 5}])
@pytest.mark.parametrize("count", [6, 7, 20])
def test_no_colour_of_a_suite_means_two_models(count, more):
    names = [f"net{i}" for i in range(count)]
    rows = [r for r in grid(names, **more) if r["measure"] == "channel-cos"]
    picture = themed(suite_picture(rows))
    assert len(colours(picture)) == (6 if count == 6 else 0)
    assert ("<image" in picture) == (count > 6)
    assert all(f">net{i}<" in picture for i in range(count))


def test_many_models_that_stand_across_have_one_colour():
    names = [f"net{i}" for i in range(9)]
    rows = [row(name, layer="z", at=0.1 * i) for i, name in enumerate(names)]
    picture = themed(suite_picture(rows))
    assert len(colours(picture)) == 1
    assert all(f">{name}<" in picture for name in names)


def test_cells_of_a_suite_have_the_values_of_its_rows():
    rows = [
        row(f"net{i}", step=step, layer="z", at=0.01 * i + step / 1000)
        for i in range(8)
        for step in (500, 0, 100)
    ]
    rows.append(row("pretrained", layer="z", at=0.7))
    axes = suite_picture(rows).figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "100", "500"]
    want = [[0.01 * i + step / 1000 for step in (0, 100, 500)] for i in range(8)]
    np.testing.assert_allclose(shown, [*want, [0.7] * 3])
