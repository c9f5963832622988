"""Pages in headless Chromium: every control is used, and nothing is said, asked for or cut off."""

import re
from importlib.resources import files

import numpy as np
import pytest
from in_chromium import below_contrast, beyond_their_pictures, is_whole, use_everything
from large_pages import HOSTILE, explored, of_layers

from onnx_geed import measure
from onnx_geed.report import samples_to_show
from onnx_geed.report.page import report
from onnx_geed.report.svg import load_matplotlib
from onnx_geed.results import read_record
from onnx_geed.run import explore


@pytest.fixture(scope="module")
def two_models():
    """The page of the demo's two networks, with 12 of their samples to be looked at."""
    folder = files("onnx_geed.demo")
    data, results, shown = str(folder / "digits.npz"), [], []
    for name in ("digits_cnn.onnx", "digits_cnn_untrained.onnx"):
        chosen = ["channel-cos", "softmax-kl", "flip-rate"]
        results.append(measure(str(folder / name), data, "C8", measures=chosen, samples=20))
        positions = samples_to_show(results[-1], 12)
        shown.append(explore(results[-1], str(folder / name), data, positions))
    return report(results, data=data, explorations=shown)


@pytest.mark.parametrize("width", [1400, 400])
def test_every_control_of_a_page_of_two_models(opened, two_models, width):
    assert len(two_models) < 5_000_000
    page = opened(two_models, width)
    assert page.is_visible("#explore")
    assert is_whole(page)
    assert use_everything(page) > 150
    assert is_whole(page)


@pytest.mark.parametrize("width", [1400, 400])
def test_verdicts_are_in_sight_without_scrolling(opened, two_models, width):
    page = opened(two_models, width)
    rights = page.evaluate(
        "[...document.querySelectorAll('.verdict, .words, .far')]"
        ".map(cell => cell.getBoundingClientRect()).map(box => box.right)"
    )
    assert rights
    assert max(rights) <= width


@pytest.fixture(scope="module")
def fifty_steps():
    """The page of fifty steps of a training, whose files came in the shell's order."""
    names = sorted(f"net_step{100 * k}.onnx" for k in range(1, 51))
    return report([of_layers(["a", "b", "c"], path=name) for name in names])


@pytest.mark.parametrize(("width", "most"), [(1400, 7000), (400, 11000)])
def test_fifty_results_stay_readable(opened, fifty_steps, width, most):
    page = opened(fifty_steps, width)
    assert page.evaluate("document.documentElement.scrollHeight") < most
    assert page.locator("#glance .fact").count() == 0
    assert page.locator("h2").filter(has_text="Comparison").count() == 1
    pairs = page.locator('[data-choose="Pair"] option').all_inner_texts()
    assert pairs[:2] == ["net_step100 and net_step200", "net_step100 and net_step300"]
    assert len(pairs) == 49
    shown = page.locator('[data-choose="Pair"] table')
    assert [table.is_visible() for table in shown.all()] == [True] + [False] * 48
    page.select_option('[data-choose="Pair"] select', label="net_step100 and net_step1100")
    assert "A: net_step100" in page.locator('[data-choose="Pair"] table:visible').inner_text()
    assert is_whole(page)


def test_tables_fit_a_wide_window(opened, two_models):
    page = opened(two_models, 1400)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    cut = page.evaluate(
        "[...document.querySelectorAll('.scroll')]"
        ".filter(s => s.scrollWidth > s.clientWidth + 1).length"
    )
    assert cut == 0


def test_the_first_column_stays_where_a_table_scrolls(opened, two_models):
    page = opened(two_models, 400)
    moved = page.evaluate(
        """() => [...document.querySelectorAll(".scroll")]
          .filter(s => s.scrollWidth > s.clientWidth + 20)
          .map(s => {
            const left = () => s.querySelector("tbody tr > *").getBoundingClientRect().left;
            const before = left();
            s.scrollLeft = 20;
            // At the very edge, or what scrolls by would be seen left of it.
            return Math.max(Math.abs(left() - before), left() - s.getBoundingClientRect().left);
          })"""
    )
    assert moved
    assert max(moved) < 1


def test_dots_cells_and_thumbnails_have_one_tooltip_and_lead_to_the_explorer(opened, two_models):
    page = opened(two_models)
    told = {}
    for kind, selector in {
        "dot": "figure svg g[data-sample]",
        "angle": "figure svg g[data-element]:not([data-sample])",
        "layer": "figure svg g[data-layer]:not([data-element]):not([data-sample])",
        "cell": "figure svg [data-cells]",
        "thumbnail": "li[data-sample]",
    }.items():
        mark = page.locator(selector).first
        mark.scroll_into_view_if_needed()
        page.wait_for_timeout(50)  # scrolling hides the tooltip
        mark.hover(force=True)
        assert page.is_visible("#tip"), kind
        told[kind] = page.inner_text("#tip")
        mark.click(force=True)
    assert all(": " in text for text in told.values()), told
    assert not page.query_selector("figure svg title")  # the browser's own would be a second one


def test_a_click_shows_what_was_clicked(opened, two_models):
    page = opened(two_models)
    thumbnail = page.locator("li[data-sample]").nth(3)
    name = thumbnail.get_attribute("data-tip").split(",")[0]
    thumbnail.click()
    said = page.inner_text('[data-part="said"]')
    assert said.startswith(f"digits_cnn: {name}, ")  # of two models, which one
    assert "moved by 135°" in said
    page.select_option('select[data-key="layer"]', label="block2")
    assert "block2: mean cosine" in page.inner_text('[data-part="said"]')
    assert page.inner_text('[data-part="maps"]').count("cosine") == 2


def test_the_first_picture_leads_to_the_explorer(opened, two_models):
    page = opened(two_models)
    mark = page.locator(
        "#glance figure g[data-model='digits_cnn_untrained'][data-element='2']"
    ).first
    assert mark.evaluate("e => getComputedStyle(e).cursor") == "pointer"
    mark.click(force=True)
    said = page.inner_text('[data-part="said"]')
    assert said.startswith("digits_cnn_untrained: ")
    assert "moved by 90°" in said


def test_pictures_go_by_keyboard_alone(opened, two_models):
    page = opened(two_models)
    stops = page.evaluate(
        """[...document.querySelectorAll("figure")].map(f =>
          [f.querySelectorAll("svg :is([data-tip], [data-cells])").length,
           f.querySelectorAll("svg [tabindex='0']").length,
           f.querySelectorAll("[role=img] [tabindex]").length])"""
    )
    pictures = [one for one in stops if one[0]]
    assert len(pictures) > 4
    assert all(one[1:] == [1, 0] for one in pictures)
    page.locator("#glance figure [tabindex='0']").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    now = "document.activeElement.getAttribute('aria-label')"
    assert "same class, 90°" in page.evaluate(now)
    assert page.inner_text("#tip") == page.evaluate(now)
    page.keyboard.press("Enter")
    assert "moved by 90°" in page.inner_text('[data-part="said"]')
    # Of cells, arrows go over columns and rows.
    page.locator("figure [data-cells]").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert "block2, 90°: " in page.evaluate(now)
    page.keyboard.press("Enter")
    said = page.inner_text('[data-part="said"]')
    assert "moved by 90°" in said
    assert "block2: mean cosine" in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_colour_of_a_model_means_nothing_else(opened, two_models, scheme):
    page = opened(two_models)
    page.emulate_media(color_scheme=scheme)
    models = page.evaluate(
        """[0, 1, 2, 3, 4, 5].map(i => getComputedStyle(document.documentElement)
          .getPropertyValue(`--s${i}`).trim())"""
    )
    assert len(set(models)) == 6
    warn = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--warn').trim()"
    )
    assert warn not in models
    used = page.evaluate(
        """[".bar span", "#explore [aria-pressed=true]", ".finding", ".flipped .class"]
          .flatMap(s => [...document.querySelectorAll(s)]).map(e => getComputedStyle(e))
          .flatMap(s => [s.backgroundColor, s.color, s.borderTopColor, s.borderLeftColor])"""
    )
    assert used
    assert not {
        f"rgb({', '.join(str(int(c[k : k + 2], 16)) for k in (1, 3, 5))})" for c in models
    } & set(used)


def test_cosines_have_one_scale(opened):
    """The explorer's cells have the colours of the picture of layers by element."""
    result = of_layers(["a", "b"])
    page = opened(report([result], explorations=[explored(result, ["a", "b"])]))
    seen = page.evaluate(
        "[...document.querySelectorAll('.cells button')]"
        ".map(b => [b.innerText, b.style.background])"
    )
    maps = [read_record(record) for record in result["measurements"]]
    most = max(float(r.per_element.max()) for r in maps)
    viridis = load_matplotlib().colormaps["viridis_r"]
    for text, background in seen:
        far = (1 - float(text.replace("\u2212", "-"))) / (1 + most)
        wanted = 255 * np.array(viridis(min(1.0, far))[:3])
        found = [int(n) for n in re.findall(r"\d+", background)[:3]]
        assert np.abs(found - wanted).max() < 12


def test_layers_that_are_left_out_are_told(opened):
    result = of_layers([f"conv{i}" for i in range(21)])
    shown = explored(result, [f"conv{i}" for i in range(0, 21, 3)])
    page = opened(report([result], explorations=[shown]))
    assert page.inner_text('[data-part="left"]').startswith("7 of 21 layers are shown")
    page = opened(
        report([result], explorations=[explored(result, [f"conv{i}" for i in range(21)])])
    )
    assert page.inner_text('[data-part="left"]') == ""


def test_at_a_glance_nothing_is_broken_or_cut_off_on_a_phone(opened, two_models):
    page = opened(two_models, 400)
    scroll = page.locator("#glance .scroll")
    assert scroll.evaluate("s => s.scrollWidth <= s.clientWidth + 1")
    text = scroll.inner_text()
    assert "cosine 0." in text
    # One line each: neither is broken in the middle.
    for what in ("Predictions", "digits_cnn_untrained"):
        lines = page.evaluate(
            """what => [...document.querySelectorAll("#glance tbody th *, #glance tbody th")]
              .flatMap(e => [...e.childNodes])
              .filter(n => n.nodeType === 3 && n.data.trim() === what)
              .map(n => {
                const range = document.createRange();
                range.selectNode(n);
                return range.getClientRects().length;
              })""",
            what,
        )
        assert set(lines) == {1}, what


def test_the_first_picture_is_beside_the_text(opened, two_models):
    page = opened(two_models, 1400)
    text, picture = (page.locator(f"#glance {s}").first.bounding_box() for s in (".fact", "figure"))
    assert picture["x"] > text["x"] + text["width"]
    assert abs(picture["y"] - text["y"]) < 60


def test_the_explorer_goes_by_keyboard_alone(opened, two_models):
    page = opened(two_models)
    page.focus('[data-part="moved"] button[tabindex="0"]')
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    before = page.inner_text('[data-part="said"]')
    page.keyboard.press("ArrowRight")
    after = page.inner_text('[data-part="said"]')
    assert before != after
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('[data-part]').dataset.part") == "grid"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_what_is_shown_is_what_was_run_again(opened):
    """Map, cosine and class on the page are those of the arrays."""
    result = of_layers(["a", "b"])
    one = explored(result, ["a", "b"], samples=3)
    page = opened(report([result], explorations=[one]))
    page.select_option('select[data-key="sample"]', "1")
    page.select_option('select[data-key="element"]', "5")
    page.select_option('select[data-key="layer"]', "1")
    text = page.inner_text('[data-part="maps"]').replace("\u2212", "-")
    assert f"(channel 3), here cosine {one.layers[1].cosines[1, 5, 0]:.3f}" in text
    assert f"(channel 1), here cosine {one.layers[1].cosines[1, 5, 1]:.3f}" in text
    likeliest = int(one.probabilities[1, 5].argmax())
    share = f"{100 * one.probabilities[1, 5, likeliest]:.0f} %"
    assert share in page.inner_text('[data-part="moved"] button[aria-pressed="true"]')
    pixels = page.evaluate(
        """async () => {
          const map = document.querySelectorAll("#explore .map")[2], image = new Image();
          image.src = map.style.backgroundImage.slice(5, -2);
          await image.decode();
          const canvas = document.createElement("canvas"), n = 8;
          [canvas.width, canvas.height] = [image.width, image.height];
          const pen = canvas.getContext("2d");
          pen.drawImage(image, 0, 0);
          const [x, y] = map.style.backgroundPosition.split(" ").map(parseFloat);
          const w = image.width / n, h = image.height / 4;
          const column = Math.round(x / 100 * (n - 1)), row = Math.round(y / 100 * 3);
          return [...pen.getImageData(column * w, row * h, w, h).data];
        }"""
    )
    green = np.array(pixels).reshape(6, 6, 4)[:, :, 1].astype(float)  # rises with the value
    wanted = one.layers[1].found[1, 5, 1]
    assert np.corrcoef(green.ravel(), wanted.ravel())[0, 1] > 0.98


def test_print_falls_back_to_pictures(opened, two_models):
    page = opened(two_models)
    page.emulate_media(media="print")
    assert not page.is_visible("#explore")
    assert page.locator("li[data-sample] img").count() > 20
    arrows = "getComputedStyle(document.querySelector('thead button'), '::after').content"
    assert page.evaluate(arrows) == "none"  # nothing is sorted on paper
    shown = "[...document.querySelectorAll('li[data-sample] img')].every(i => i.complete)"
    assert page.evaluate(shown)
    page.locator("li[data-sample]").last.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('li[data-sample] img').naturalWidth > 20")
    assert page.is_visible("figure svg")


def test_without_scripts_the_page_is_whole(browser, two_models, tmp_path):
    (tmp_path / "p.html").write_text(two_models, encoding="utf-8")
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((tmp_path / "p.html").as_uri())
    assert not page.is_visible("#explore")
    assert page.is_visible("figure svg")
    page.close()


@pytest.mark.parametrize("width", [1400, 400])
def test_hostile_names_are_text(opened, width):
    result = of_layers(HOSTILE, path=HOSTILE[0], names=HOSTILE[:4])
    other = of_layers(HOSTILE, path=HOSTILE[1], names=HOSTILE[:4])
    shown = [explored(one, HOSTILE) for one in (result, other)]
    page = opened(report([result, other], explorations=shown), width)
    use_everything(page)
    assert "alert(2)" in page.inner_text('[data-part="choice"]') + page.inner_text("h1")
    assert page.locator("section img").count() == 0
    assert is_whole(page)


@pytest.mark.parametrize("width", [1400, 400])
def test_two_thousand_layers(opened, width):
    names = [f"/features/stage{i // 100}/block{i}/relu/Relu_output_0" for i in range(2000)]
    result = of_layers(names)
    text = report([result], explorations=[explored(result, names[::250])])
    assert len(text) < 5_000_000
    page = opened(text, width)
    assert is_whole(page)
    page.fill("input[type=search] >> nth=0", "block1999") if page.is_visible(
        "input >> nth=0"
    ) else None
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.click("thead button >> nth=0")
    tall = page.evaluate(
        "Math.max(...[...document.querySelectorAll('figure')].map(f => f.offsetHeight))"
    )
    assert tall < 2500


def test_two_hundred_rows_of_a_table_are_shown_until_all_are_asked_for(opened):
    """To sort 2,000 rows took a browser half a second, nearly all of it to lay them out."""
    names = [f"block{i}" for i in range(2000)]
    page = opened(report([of_layers(names)]))
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    table = page.locator('[aria-label="All numbers"] table')

    def first():
        return table.locator("tbody tr").count(), table.locator("tbody tr >> nth=0").inner_text()

    assert first()[0] == 200
    table.locator("thead button", has_text="layer").click()
    count, row = first()
    assert (count, row.split()[0]) == (200, "block1999")
    page.fill('[aria-label="All numbers"] input', "block17")
    assert first()[0] == 111
    page.fill('[aria-label="All numbers"] input', "")
    page.click('[aria-label="All numbers"] .more')
    assert first() == (2000, row)
    assert not page.is_visible('[aria-label="All numbers"] .more')


def test_two_models_of_two_thousand_layers_stay_below_five_megabytes():
    names = [f"/features/stage{i // 100}/block{i}/relu/Relu_output_0" for i in range(2000)]
    two = [of_layers(names), of_layers(names, path="other.onnx")]
    text = report(two, explorations=[explored(one, names[::250]) for one in two])
    assert len(text) < 5_000_000
    # Of every fourth layer a tip is kept, and no mark that carries one is seen.
    assert 500 <= text.count('<g data-model="net" data-layer="/features') < 520
    seen = text.split('<g data-model="net" data-layer="/features')[0].rpartition("<g style=")[2]
    assert "fill-opacity: 0" in seen


@pytest.mark.parametrize("width", [1400, 400])
def test_names_of_five_thousand_letters_are_cut_off_nowhere(opened, width):
    long = [HOSTILE[8], HOSTILE[9]]
    results = [of_layers(HOSTILE[6:], path=path, names=HOSTILE[6:10]) for path in long]
    page = opened(report(results), width)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert is_whole(page)


@pytest.mark.parametrize("width", [1400, 400])
def test_fifty_results(opened, width):
    results = [of_layers(["conv1", "conv2"], path=f"run/step{i}.onnx") for i in range(50)]
    looked_at = [explored(results[0], ["conv1"]), *[None] * 49]
    text = report(results, explorations=looked_at)
    assert len(text) < 5_000_000
    page = opened(text, width)
    assert is_whole(page)
    assert "and 46 more: give their model files with --model" in page.inner_text("#explore")
    use_everything(page)


@pytest.mark.parametrize("key", ["model", "sample", "element", "layer"])
def test_a_select_keeps_the_focus_that_a_keyboard_gave_it(opened, two_models, key):
    page = opened(two_models)
    page.focus(f'select[data-key="{key}"]')
    before = page.inner_text('[data-part="said"]')
    at = page.eval_on_selector(f'select[data-key="{key}"]', "s => s.selectedIndex")
    page.keyboard.press("ArrowUp" if at else "ArrowDown")
    assert page.inner_text('[data-part="said"]') != before
    assert page.evaluate("document.activeElement.dataset.key") == key


def test_a_sample_begins_at_its_worst_element_however_it_is_chosen(opened, two_models):
    page = opened(two_models)
    page.locator('[data-part="samples"] button').nth(2).click()
    clicked = page.inner_text('[data-part="said"]')
    page.select_option('select[data-key="sample"]', "0")
    page.select_option('select[data-key="sample"]', "2")
    assert page.inner_text('[data-part="said"]') == clicked


def test_what_stays_is_not_drawn_again(opened, two_models):
    page = opened(two_models)
    page.evaluate(
        "document.querySelectorAll('#explore img').forEach(image => { image.dataset.old = ''; })"
    )
    old = page.locator("#explore [data-old]").count()
    page.select_option('select[data-key="element"]', "3")
    page.select_option('select[data-key="layer"]', "1")
    assert page.locator("#explore [data-old]").count() == old
    assert page.locator('[data-part="moved"] [aria-pressed="true"]').inner_text()[:4] == "135°"


def test_tables_sort_by_their_numbers_however_they_are_written(opened, two_models):
    page = opened(two_models)
    cells = "#glance tbody td.n.far"
    far = page.evaluate(
        f"[...document.querySelectorAll('{cells}')].map(cell => cell.firstChild.textContent)"
    )
    assert far.count("—") == 2  # the untrained network hardly reacts
    for direction in (-1, 1):
        page.click("#glance thead th:nth-child(4) button")
        told = page.evaluate(
            f"[...document.querySelectorAll('{cells}')].map(cell => cell.firstChild.textContent)"
        )
        assert told[-2:] == ["—", "—"]
        known = [float(text.split()[0]) for text in told[:-2]]
        assert known == sorted(known, reverse=direction < 0)
    page.click("#glance thead th:nth-child(5) button")
    told = page.locator("#glance tbody tr td:last-child").all_inner_texts()
    assert any("·10⁻" in value for value in told[-2:])  # the largest comes first
    assert not any("·10⁻" in value for value in told[:-2])


def test_without_classes_nothing_is_said_of_them(opened):
    result = of_layers(["a", "b"])
    one = explored(result, ["a", "b"])
    one = type(one)(one.positions, one.layers, None, (), ())
    page = opened(report([result], explorations=[one]))
    assert page.inner_text('[data-part="moved-title"]') == "The moved sample"
    assert "predicted" not in page.inner_text("#explore")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(opened, two_models, scheme):
    page = opened(two_models)
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert below_contrast(page) == []


def test_thumbnails_are_there_at_once_and_their_names_lie_apart(opened, two_models):
    page = opened(two_models, 400)
    assert page.locator("[loading]").count() == 0  # lazy ones are missing in print
    cut = page.evaluate(
        "[...document.querySelectorAll('.orbit li span')].map(s => s.scrollWidth - s.clientWidth)"
    )
    assert max(cut) <= 1


@pytest.mark.parametrize("width", [1400, 400])
def test_long_names_of_models_stay_within_their_pictures(opened, width):
    names = [f"a_model_with_quite_a_long_name_of_{kind}_layers" for kind in ("many", "few")]
    pictured = []
    for name in names:
        result = of_layers(["a", "b"], path=f"{name}.onnx")
        pictured.append(result)
    page = opened(report(pictured), width)
    assert beyond_their_pictures(page) == []


def test_without_a_first_picture_the_text_is_as_wide_as_it_can_be(opened):
    page = opened(report([of_layers(["a", "b"])]))
    assert page.locator("#glance figure").count() == 0
    assert page.locator("#glance .fact").bounding_box()["width"] > 700


def test_names_in_headings_are_broken_only_where_they_are_very_long(opened, two_models):
    page = opened(two_models)
    lines = page.evaluate(
        "[...document.querySelectorAll('.name-of')].map(name => name.getClientRects()[0].height"
        " / parseFloat(getComputedStyle(name).lineHeight))"
    )
    assert lines
    assert max(lines) < 1.5
    results = [of_layers(["a", "b"], path=f"{letter * 150}.onnx") for letter in "nm"]
    page = opened(report(results))
    scroll = page.locator(".scroll:has(.name-of)")
    assert scroll.evaluate("s => s.scrollWidth <= s.clientWidth + 1")


@pytest.mark.parametrize("layer", ["block1", "a_layer_with_a_name_of_24"])
def test_names_of_columns_of_cells_lie_apart(opened, layer):
    page = opened(report([of_layers([layer, f"{layer}b"])]))
    over = page.evaluate(
        """[...document.querySelectorAll("figure svg:has([data-cells])")].flatMap(svg => {
          const boxes = [...svg.querySelectorAll("text")].map(t => t.getBoundingClientRect());
          return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1).map(b => [a.x, b.x]));
        })"""
    )
    assert over == []
