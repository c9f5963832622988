"""Pages of more results than colours: rows in one scale, so that no colour means two things."""

import html
import json
import re
from collections import Counter

import numpy as np
import pytest
from family_results import FAMILIES, family_result
from in_chromium import beyond_their_pictures, is_whole, use_everything
from large_pages import HOSTILE, explored, of_layers
from test_glance import scored
from test_page import Page, record, result_of, spread

from onnx_geed.report.axes import value_text
from onnx_geed.report.page import report
from onnx_geed.report.sections import sections
from onnx_geed.report.svg import SERIES, load_matplotlib
from onnx_geed.results import read_record

JPEG = "jpeg:90..10/6"


def of_angles(count, group="C8", path="net{}.onnx"):
    """Results of maps, a latent and classes, whose deviations grow from result to result."""
    results = []
    for i in range(count):
        one = scored(np.tile(np.arange(8) * (i % 3 > 0), (4, 1)) % 3, path=path.format(i))
        latent = record("latent-l2", spread(0.1 + 0.01 * i, n=4), "z", between=np.ones((4, 8)))
        maps = [record("channel-cos", spread(-0.9 + 0.01 * i * k, n=4), f"c{k}") for k in (1, 2)]
        one["measurements"] = [*maps, latent, *one["measurements"]]
        one["group"] = one["group"] | {"name": group}
        results.append(one)
    return results


def of_members(count):
    return [
        family_result(JPEG, scale=0.3 + 0.6 * i / count, path=f"net{i}.onnx", sha=f"{i:02}", seed=i)
        for i in range(count)
    ]


def drawn(results):
    """The sections of a page, and the figures behind its pictures."""
    figures, figure = [], load_matplotlib().figure.Figure
    names = [f"m{i}" for i in range(len(results))]
    readings = [[read_record(m) for m in r["measurements"]] for r in results]
    with pytest.MonkeyPatch.context() as patch:
        save = figure.savefig
        patch.setattr(figure, "savefig", lambda f, *a, **k: (figures.append(f), save(f, *a, **k)))
        return sections(results, names, readings), figures


def cells_of(svg):
    return [json.loads(html.unescape(told)) for told in re.findall(r'data-cells="([^"]*)"', svg)]


@pytest.mark.parametrize("results", [of_angles, of_members])
@pytest.mark.parametrize("count", [7, 20])
def test_no_legend_has_a_colour_twice(results, count):
    mpl = load_matplotlib()
    shown, figures = drawn(results(count))
    assert len(figures) == sum(len(s["pictures"]) for s in shown)
    for figure in figures:
        legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))]
        for legend in legends:
            lines = [line for line in legend.findobj(mpl.lines.Line2D) if line.get_label()]
            colours = Counter(mpl.colors.to_hex(line.get_color()) for line in lines)
            assert {*colours} <= {*SERIES}
            assert len(colours) == len(legend.get_texts())


@pytest.mark.parametrize("results", [of_angles, of_members])
@pytest.mark.parametrize(("count", "lines"), [(2, True), (6, True), (7, False), (20, False)])
def test_up_to_as_many_as_colours_are_lines_and_more_are_rows(results, count, lines):
    shown, _ = drawn(results(count))
    for section in shown:
        by_element = [
            p for p in section["pictures"] if p["subject"] in ("cells", "angles", "curve")
        ]
        assert len(by_element) == 1
        cells = cells_of(by_element[0]["svg"])
        assert by_element[0]["subject"] == "cells" or not cells
        assert bool(cells) != lines
        for one in cells:
            assert one["models"] == [f"m{i}" for i in range(count)]
        (samples,) = (p for p in section["pictures"] if p["subject"] == "samples")
        used = {f"s{i}" for i in range(6) if f"--s{i}" in samples["svg"]}
        assert len(used) == (count if lines else 1)
        told = [f"m{i}" in samples["svg"] for i in range(count)]
        assert all(told)


@pytest.mark.parametrize("results", [of_angles, of_members])
def test_a_cell_tells_the_value_of_its_reading(results):
    made = results(9)
    shown, _ = drawn(made)
    for section in shown:
        (picture,) = (p for p in section["pictures"] if p["subject"] == "cells")
        (cells,) = cells_of(picture["svg"])
        if "Relative to different samples" in picture["caption"]:
            continue
        for result, row in zip(made, cells["values"], strict=True):
            own = [m for m in result["measurements"] if m["measure"] == section["measure"]]
            reading = read_record(own[-1])
            want = [value_text(reading, float(reading.per_element[g])) for g in cells["elements"]]
            assert [text.split(" (")[0] for text in row] == want
        assert cells["layers"] == [own[-1]["layer"]] * 9


def test_differences_and_gains_of_many_models_are_rows_too():
    shown, _ = drawn(of_members(9))
    subjects = {p["subject"]: p for p in shown[1]["pictures"]}
    (differences,) = cells_of(subjects["differences"]["svg"])
    assert differences["rows"] == [f"m0 − m{i}" for i in range(1, 9)]
    assert "Where blue, m0 is better." in subjects["differences"]["caption"]
    (gains,) = cells_of(subjects["gain"]["svg"])
    assert gains["rows"] == [f"m{i}" for i in range(9)]
    # Nothing is known of the unmoved sample: it has no column.
    assert gains["elements"] == list(range(1, 7))
    for word in ("better", "worse"):
        assert f">{word}<" in subjects["differences"]["svg"]


def test_a_model_beyond_the_colours_has_none_in_the_picture_of_another_group_either():
    results = [*of_angles(5), *of_angles(5, group="D4", path="other{}.onnx")]
    text = report(results)
    first = text[text.index('id="glance"') : text.index('aria-label="Summary"')]
    assert len(cells_of(first)) == 2
    assert not re.search(r"--s\d", first)


def test_one_model_on_two_data_sets_is_two_rows():
    results = [r for group in ("C8", "D4") for k in range(2) for r in of_angles(2, group=group)]
    for i, result in enumerate(results):
        result["file"] = f"cell{i}.json"
    text = report(results)
    first = text[text.index('id="glance"') : text.index('aria-label="Summary"')]
    assert [len(cells["rows"]) for cells in cells_of(first)] == [4, 4]


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("count", [7, 20])
def test_every_control_of_many_results(opened, width, count):
    page = opened(report(of_angles(count)), width)
    assert is_whole(page)
    assert use_everything(page) > 20
    assert is_whole(page)
    assert beyond_their_pictures(page) == []


def test_hostile_names_of_many_results(opened):
    results = [*of_angles(7), *of_angles(4)]
    for result, name in zip(results, HOSTILE, strict=True):
        result["model"]["path"] = name
    page = opened(report(results))
    assert is_whole(page)
    assert beyond_their_pictures(page) == []
    page = opened(report([family_result(n, path=p) for n in FAMILIES for p in HOSTILE[:8]]), 400)
    assert is_whole(page)


def test_a_cell_of_many_results_leads_to_the_explorer(opened):
    results = [of_layers(["a"], path=f"net{i}.onnx") for i in range(7)]
    shown = [explored(r, ["a"], samples=2, seed=i) for i, r in enumerate(results)]
    page = opened(report(results, explorations=shown))
    picture = page.locator("figure:has(figcaption:text('by model and angle')) [data-cells]").last
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 2.5 / 8, "y": box["height"] * 4.5 / 7})
    assert page.inner_text('[data-part="said"]').startswith("net4: ")
    assert "moved by 90°" in page.inner_text('[data-part="said"]')
    picture.scroll_into_view_if_needed()
    page.wait_for_timeout(50)
    picture.hover(position={"x": 3, "y": 3})
    assert re.fullmatch(r"net0, unmoved: [\d.]+ \([\d.]+ to [\d.]+\)", page.inner_text("#tip"))
    picture.focus()
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#tip").startswith("net1, unmoved: ")


def broken_shares(page):
    """Texts in which a line may end between a number and its per cent sign."""
    return page.evaluate(
        r"""() => {
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
          for (let node; (node = walk.nextNode());) {
            const on = node.parentElement;
            if (!/\d[ \n]+%/.test(node.data) || on.closest("script, style, svg, option")) continue;
            if (getComputedStyle(on).whiteSpace !== "nowrap") found.push(node.data);
          }
          return found;
        }"""
    )


@pytest.mark.parametrize("count", [1, 7])
def test_no_line_ends_between_a_number_and_its_sign(opened, count):
    results = of_angles(count)
    shown = [explored(r, ["c1"], samples=2, seed=i) for i, r in enumerate(results)]
    page = opened(report(results, explorations=shown), 400)
    assert page.locator("main .nb").count() > 5
    assert broken_shares(page) == []
    page.locator("figure [data-cells]").first.hover(position={"x": 2, "y": 2})
    assert broken_shares(page) == []


def test_names_that_hold_a_share_are_as_they_were():
    name = "keeps 50 % of 3 % <b>.onnx"
    one = result_of([record("channel-cos", spread(-0.5), "conv 5 %")], path=name)
    shown = Page(report([one]))
    assert name in shown.text
    assert "conv 5 %" in shown.text
    text = report([one], explorations=[explored(one, ["conv 5 %"], samples=2)])
    assert "\u00a0%" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    for attribute in re.findall(r'="([^"]*)"', text):
        assert "nb&" not in attribute
        assert 'class="nb' not in attribute
    data = re.search(r'id="explore-data">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data)["models"][0]["layers"][0]["layer"] == "conv 5 %"


def test_on_paper_tables_are_whole_and_pictures_no_higher_than_a_page(opened):
    page = opened(report(of_angles(50)), 718)
    assert page.locator(".scroll.tall").count()
    page.emulate_media(media="print")
    cut, tallest = page.evaluate(
        """[[...document.querySelectorAll(".scroll")].filter(
              s => s.scrollHeight > s.clientHeight + 1
                && getComputedStyle(s).overflowY !== "visible").length,
            Math.max(...[...document.querySelectorAll("figure")].map(f => f.offsetHeight))]"""
    )
    assert cut == 0
    assert tallest < 1000  # of 1123 on A4
