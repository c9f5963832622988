"""The page of a suite in headless Chromium: sorted, filtered, pointed at; hostile names."""

import importlib.util

import pytest
from in_chromium import is_whole, use_everything
from large_pages import HOSTILE
from large_suites import grid, row, suite

from onnx_geed.report import write_summary
from onnx_geed.report.suite_page import suite_page

WIDTHS = pytest.mark.parametrize("width", [1400, 400])
TWELVE = [f"cnn {kind} {k}" for kind in ("plain", "augmented", "steerable") for k in (1, 2, 9, 10)]
STEPS = (0, 9, 10, 100)


def texts(page, selector):
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def models(page):
    return texts(page, "tbody th")


def shares(page, column):
    cells = texts(page, f"tbody td:nth-child({column}) b")
    return [float(cell.split("\u00a0")[0]) for cell in cells]


@WIDTHS
def test_twelve_results(opened, width):
    page = opened(suite_page(suite(grid(TWELVE), failed=[{"cell": "x", "message": "gone"}])), width)
    assert is_whole(page)
    assert len(models(page)) == 12
    assert page.locator("figure").count() == 2
    assert "x: gone" in page.inner_text("main")
    assert use_everything(page) > 60
    assert is_whole(page)


@WIDTHS
def test_two_hundred_results(opened, width):
    page = opened(suite_page(suite(grid([f"model{k}" for k in range(200)]))), width)
    assert is_whole(page)
    assert "200 of 200" in page.inner_text('[data-part="count"]')
    assert page.evaluate("document.body.scrollHeight") < (4000 if width == 400 else 2700)
    page.fill("input", "model19")
    assert len(models(page)) == 11
    assert use_everything(page) > 200
    assert is_whole(page)


def test_two_hundred_rows_are_shown_until_all_are_asked_for(opened):
    page = opened(suite_page(suite(grid([f"model{k}" for k in range(230)], layers=1))))
    assert len(models(page)) == 200
    page.click('[data-part="more-rows"]')
    assert len(models(page)) == 230
    assert not page.is_visible('[data-part="more-rows"]')


def test_headings_sort_by_mouse_and_by_keyboard(opened):
    page = opened(suite_page(suite(grid(TWELVE))))
    assert shares(page, 2) == sorted(shares(page, 2))
    page.click("thead button >> nth=1")
    assert shares(page, 2) == sorted(shares(page, 2), reverse=True)
    assert page.get_attribute("thead th:nth-child(2)", "aria-sort") == "descending"
    page.focus("thead button >> nth=0")
    page.keyboard.press("Enter")
    assert models(page)[:4] == [f"cnn augmented {k}" for k in (1, 2, 9, 10)]
    page.keyboard.press("Space")  # the heading keeps the focus
    assert models(page)[-1] == "cnn augmented 1"


def test_how_far_off_is_that_of_other_pages(opened):
    """Not by different samples alone; summaries of earlier versions have only that."""
    new = {"far_off_mean": 0.04, "far_off_ci95_over_models": [0.03, 0.05]}
    rows = [
        row("new", measure="softmax-kl", at=0.001, far_off_ci95_over_samples=None, **new),
        row("old", measure="softmax-kl", at=0.002),
    ]
    page = opened(suite_page(suite(rows)))
    cells = dict(zip(models(page), texts(page, "tbody td:nth-child(2)"), strict=True))
    assert cells["new"].startswith("4.0\u00a0%")
    assert cells["old"].startswith("0.2\u00a0%")


def test_what_has_no_number_comes_last_both_ways(opened):
    none = {"relative_mean": None, "relative_ci95_over_models": None}
    rows = [row("a", at=0.2), row("b", **none), row("c", at=0.1)]
    page = opened(suite_page(suite(rows)))
    assert models(page) == ["c", "a", "b"]
    page.click("thead button >> nth=1")
    assert models(page) == ["a", "c", "b"]
    assert "0.300 distance / M" in page.inner_text("tbody tr:last-child")
    assert "—" in page.inner_text("tbody tr:last-child")  # no number that looks like the others
    assert "Not drawn: 1 without this number" in page.inner_text("figcaption")


def test_filters_choose_rows_and_pictures(opened):
    rows = grid(["net9", "net10"], STEPS, data=("digits", "photos"), groups=("C4", "C8"))
    page = opened(suite_page(suite(rows)))
    assert len(models(page)) == 8
    assert page.locator("figure").count() == 8
    page.select_option('[data-key="data"]', label="photos")
    page.select_option('[data-key="group"]', label="C8")
    assert len(models(page)) == 2
    assert page.locator("figure").count() == 2
    page.select_option('[data-key="measure"]', label="latent-l2")
    assert texts(page, "figure h3 small") == ["latent-l2, photos, C8"]
    assert page.locator("thead th").count() == 7
    page.select_option('[data-key="model"]', label="net10")
    assert models(page) == ["net10"]
    page.select_option('[data-key="step"]', "")
    page.click('thead [data-sort="step"]')
    assert texts(page, "tbody td:nth-child(2)") == ["0", "9", "10", "100"]
    assert texts(page, '[data-key="step"] option')[2:] == [
        "step 0",
        "step 9",
        "step 10",
        "step 100",
    ]
    assert texts(page, '[data-key="model"] option') == ["all", "net9", "net10"]


def test_rows_are_counted_against_all_and_none_is_said_so(opened):
    page = opened(suite_page(suite(grid(TWELVE, (0, 9)))))
    assert "12 of 24 rows" in page.inner_text('[data-part="count"]')
    page.fill("input", "plain")
    assert "4 of 24 rows" in page.inner_text('[data-part="count"]')
    page.fill("input", "zzz")
    assert "No row matches; there are 24." in page.inner_text('[data-part="count"]')
    assert not page.is_visible("table")
    assert page.inner_text('[data-part="said"]') == ""


def test_groups_are_ranked_apart(opened):
    page = opened(suite_page(suite(grid(["a", "b", "c"], groups=("C8", "C4")))))
    page.click('thead [data-sort="m1"]')
    assert texts(page, "tbody td:nth-child(2)") == ["C4"] * 3 + ["C8"] * 3
    found = shares(page, 4)
    assert found[:3] == sorted(found[:3], reverse=found[0] > found[1])
    assert "each group ranked by itself" in page.inner_text('[data-part="count"]')


def test_a_warning_is_told_once(opened):
    rows = [r | {"warnings": ["few samples"]} for r in grid(["a", "b"], layers=1)]
    rows[-1]["warnings"] = ["few samples", "no spread"]
    page = opened(suite_page(suite(rows)))
    assert texts(page, ".marked") == ["! 1 warning"]
    assert "Of every value: few samples" in page.inner_text('[data-part="count"]')


def test_the_same_class_after_moving_is_the_first_number(opened):
    rows = [*grid(["a", "b"], layers=1), row("a", measure="flip-rate", layer="y", at=0.25)]
    page = opened(suite_page(suite(rows)))
    assert texts(page, "thead th:nth-child(2)")[0].startswith("same class")
    page.click('thead [data-sort="stay"]')
    assert texts(page, "tbody td:nth-child(2)") == ["75\u00a0%", "—"]
    # Of whatever measure tells the classes, not of flip-rate alone.
    rows = grid(["a", "b"], layers=1)
    rows[-1] |= {"measure": "softmax-kl", "stay_mean": 0.4}
    page = opened(suite_page(suite(rows)))
    page.click('thead [data-sort="stay"]')
    assert texts(page, "tbody td:nth-child(2)") == ["40\u00a0%", "—"]


def test_filters_are_as_wide_as_a_small_window(opened):
    page = opened(suite_page(suite(grid(TWELVE))), 400)
    widths = page.evaluate("[...document.querySelectorAll('select')].map(s => s.clientWidth)")
    assert min(widths) > 300


def test_layers_are_chosen(opened):
    rows = grid(["a", "b"], layers=0)
    rows += [
        row(m, measure="channel-cos", layer=f"l{i}", at=x)
        for m in "ab"
        for i, x in ((0, 0.99), (1, 0.1), (2, 0.9), (3, 0.5))
    ]
    # Of a layer that hardly reacts nothing is known.
    for one in rows[-8::4]:
        one |= {"mean": None, "values": [None], "relative": [None], "relative_mean": None}
        one |= dict.fromkeys(
            ("far_off_mean", "far_off_ci95_over_models", "far_off_ci95_over_samples")
        )
    page = opened(suite_page(suite(rows)))
    head = '[data-part="table"] tbody tr:first-child'
    assert "l3" in page.inner_text(head)
    assert "cosine 0.500" in page.inner_text(head)
    page.select_option('[data-key="layer"]', "worst")
    assert "l2" in page.inner_text(head)
    assert "90\u00a0%" in page.inner_text(head)
    page.select_option('[data-key="layer"]', label="l1")
    assert "10\u00a0%" in page.inner_text(head)
    assert page.locator("thead th").count() == 3  # of the latent there is no l1


def test_curves_tell_their_values_to_pointers_and_arrow_keys(opened):
    page = opened(suite_page(suite(grid(["net1", "net2"], (100, 9, 0, 10)))))
    plot = page.locator("figure.step svg").first
    plot.scroll_into_view_if_needed()
    page.wait_for_timeout(50)  # scrolling hides the tooltip
    dot = plot.locator("circle.dot.k1").nth(3)
    dot.hover(force=True)
    assert "net2, step 100\n" in page.inner_text("#tip")
    assert plot.locator(".line.on").get_attribute("data-model") == "1"
    page.mouse.move(0, 0)
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "net1, step 9\n" in page.inner_text("#tip")
    page.keyboard.press("ArrowDown")
    assert "net2, step 9\n" in page.inner_text("#tip")
    across = [float(d.get_attribute("cx")) for d in plot.locator("circle.dot.k0").all()]
    assert across == sorted(across)
    assert len(across) == 4


def test_a_level_stands_for_a_model_without_steps(opened):
    rows = [*grid(["net"], STEPS, layers=0), row("pretrained", layer="p")]
    page = opened(suite_page(suite(rows)))
    d = page.locator('figure.step .line[data-model="1"]').get_attribute("d")
    (x0, y0), (x1, y1) = [p.split() for p in d[1:].split("L")]
    assert y0 == y1
    assert float(x1) > float(x0)


def test_a_colour_is_one_model_everywhere(opened):
    page = opened(suite_page(suite(grid([f"m{k}" for k in range(14)], layers=3))))
    script = """() => {
      const colour = e => getComputedStyle(e).getPropertyValue("--k").trim(), of = {};
      const note = e => (of[e.querySelector("button").textContent] ??= [])
        .push(colour(e.querySelector(".chip")));
      for (const row of document.querySelectorAll("tbody tr"))
        note(row);
      for (const li of document.querySelectorAll(".legend li"))
        if (li.querySelector("button")) note(li);
      return of;
    }"""

    def colours():
        found = {model: set(seen) for model, seen in page.evaluate(script).items()}
        assert all(len(seen) == 1 for seen in found.values()), found
        return {model: seen.pop() for model, seen in found.items()}

    before = colours()
    assert len(before) == 14
    grey = before["m12"]
    own = [colour for colour in before.values() if colour != grey]
    assert len(own) == len(set(own)) == 12
    assert before["m13"] == grey
    page.click("tbody button >> text=m13")
    after = colours()
    assert after["m13"] not in before.values()
    assert {m: c for m, c in after.items() if m != "m13"} == {
        m: c for m, c in before.items() if m != "m13"
    }
    page.fill("input", "m1")
    assert colours().items() <= after.items()
    assert "2 other models" not in page.inner_text("main")


def test_a_model_brought_out_stays_so_by_keyboard(opened):
    page = opened(suite_page(suite(grid(["a", "b"]))))
    page.focus("tbody button >> nth=0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.keyboard.press("Enter")
    assert page.locator(".chosen").count() == 0


@WIDTHS
def test_fifty_layers(opened, width):
    rows = grid(["resnet18", "resnet50"], layers=50, data=("digits", "photos"))
    page = opened(suite_page(suite(rows)), width)
    assert len(models(page)) == 4
    assert page.locator("figure.layer").count() == 2
    assert page.locator('[data-key="layer"] option').count() == 50 + 2 + 2
    assert is_whole(page)
    use_everything(page)
    assert is_whole(page)


def test_many_pictures_come_by_the_dozen(opened):
    rows = grid(["a", "b"], data=[f"set{k}" for k in range(10)])
    page = opened(suite_page(suite(rows)))
    assert page.locator("figure").count() == 12
    page.click('[data-part="more-pictures"]')
    assert page.locator("figure").count() == 20


@WIDTHS
def test_names_of_strangers_are_text(opened, width):
    rows = [
        row(m, layer=n, data=d, group=d, measure="channel-cos", warnings=[m])
        for m in HOSTILE
        for n in HOSTILE[:3]
        for d in HOSTILE[3:5]
    ]
    failed = [{"cell": name, "message": name} for name in HOSTILE]
    page = opened(suite_page(suite(rows, HOSTILE[0], failed)), width)
    assert "alert(1)" in page.inner_text("h1")
    assert len(models(page)) == 2 * len(HOSTILE)
    use_everything(page)
    assert page.locator("img").count() == 0
    assert is_whole(page)
    page.reload()
    page.fill("input", "__proto__ svg")
    assert len(models(page)) == 1


def test_latent_cos_is_shown_as_the_cosine_that_compares(opened):
    rows = [row(m, measure="latent-cos", mean=-3.0, unnormalised_mean=-0.9, at=0.1) for m in "ab"]
    page = opened(suite_page(suite(rows)))
    assert "cosine 0.900" in page.inner_text("tbody tr:first-child")


@pytest.mark.parametrize("rows", [[], [row("only")]])
def test_a_page_of_nothing_and_of_one(opened, rows):
    page = opened(suite_page(suite(rows)))
    assert is_whole(page)
    assert page.locator("tbody tr").count() == len(rows)
    assert ("No run has a result" in page.inner_text("main")) == (not rows)


def test_a_suite_writes_its_page(tmp_path):
    assert write_summary(suite(grid(["a"], layers=1)), tmp_path) == []
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Leaderboard" in text
    assert "://" not in text.split("<script", 1)[0]


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_without_the_extra_one_note_says_what_to_install(tmp_path, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == missing else find(n, *a)
    )
    (note,) = write_summary(suite(grid(["a"], layers=1)), tmp_path)
    assert "no report.html" in note
    assert "pip install 'onnx-geed[report]'" in note
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


def test_it_says_what_it_is_sorted_by(opened):
    page = opened(suite_page(suite(grid(TWELVE))))
    count = '[data-part="count"]'
    assert page.inner_text(count) == "12 of 12 rows, sorted by feature maps, best first."
    page.click("thead button >> nth=1")
    assert page.inner_text(count) == "12 of 12 rows, sorted by feature maps, worst first."
    page.click("thead button >> nth=0")
    assert page.inner_text(count) == "12 of 12 rows, sorted by model."


def test_on_a_phone_texts_of_pictures_are_as_large_as_elsewhere(opened):
    page = opened(suite_page(suite(grid(TWELVE))), 400)
    scales = page.evaluate(
        "[...document.querySelectorAll('.plot')]"
        ".map(svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"
    )
    assert min(scales) > 0.9
    marks = page.evaluate(
        "[...document.querySelectorAll('tbody .name')].map(name => [...name.children]"
        ".map(e => e.getBoundingClientRect()).map(box => [box.top, box.bottom]))"
    )
    # A model's colour stands in its line.
    assert all(name[0] < chip[1] and chip[0] < name[1] for chip, name in marks)
