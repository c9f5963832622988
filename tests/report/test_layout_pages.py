"""Pages of maps that lie on no plane, in headless Chromium."""

import models
import numpy as np
import pytest
from explored_layouts import CASES, lifting, of_colours
from in_chromium import is_whole, use_everything

from onnx_geed import measure
from onnx_geed.cli import cli
from onnx_geed.report.page import report
from onnx_geed.run import explore

CHOSEN = {"measures": ["channel-cos@a"], "samples": 5, "provider": "cpu"}


@pytest.mark.parametrize("name", CASES)
def test_maps_are_seen(opened, tmp_path, name):
    case, x = CASES[name], tmp_path / "x.npy"
    path = models.save(case.net, tmp_path / "m.onnx")
    np.save(x, case.data)
    result = measure(path, x, case.group, **CHOSEN, **case.options)
    html = report([result], data=x, explorations=[explore(result, path, x, [0, 3, 1])])
    assert len(html) < 5_000_000
    for width in (1400, 400):
        page = opened(html, width)
        sizes = page.evaluate(
            "[...document.querySelectorAll('.map')].map(m => [m.clientWidth, m.clientHeight])"
        )
        assert len(sizes) >= 2
        assert min(min(size) for size in sizes) >= 10
        assert case.reading in page.inner_text("#explore")
        assert is_whole(page)
        assert use_everything(page) > 10
        assert is_whole(page)


def test_a_page_says_what_maps_are_held_against(opened, tmp_path):
    case, x = of_colours(), tmp_path / "x.npy"
    path = models.save(case.net, tmp_path / "m.onnx")
    np.save(x, case.data)
    result = measure(path, x, case.group, **CHOSEN, **case.options)
    html = report([result], data=x, explorations=[explore(result, path, x, [0, 3, 1])])
    text = opened(html).inner_text("body")
    assert "g f̂(x): moved mean of the maps for unmoved, hue 120° and hue 240°" in text
    assert "g f(x)" not in text
    assert "the moved mean over the 3 elements that should not change it" in text
    assert "compared with the moved mean for unmoved, hue 120° and hue 240°, so" in text
    assert "Worst channel over all samples and elements (channel " in text


def test_dots_of_points_are_seen_beside_pictures(opened, tmp_path):
    """A style inside of one picture was for all others of the page, and took their round ends."""
    case, x = CASES["points"], tmp_path / "x.npy"
    path = models.save(case.net, tmp_path / "m.onnx")
    data = np.random.default_rng(0).standard_normal((7, 4, 3)).astype(np.float32)
    np.save(x, data)
    options = {"input_layout": "NPX", "layout": {"a": "NPC"}}
    result = measure(path, x, "SO3~24", **CHOSEN, **options)
    html = report([result], data=x, explorations=[explore(result, path, x, [0])])
    page = opened(html)
    caps = page.evaluate(
        "[...document.querySelectorAll('#explore svg path')]"
        ".map(p => getComputedStyle(p).strokeLinecap)"
    )
    assert caps
    assert set(caps) == {"round"}
    assert page.locator("svg style").count() == 0


def test_the_command_takes_the_table(tmp_path):
    from click.testing import CliRunner

    net, table = lifting()
    path, x, file = models.save(net, tmp_path / "m.onnx"), tmp_path / "x.npy", tmp_path / "t.npz"
    np.save(x, np.random.default_rng(1).random((6, 1, 9, 9)).astype(np.float32))
    np.savez(file, elements=np.array(["e", "r1", "r2", "r3"]), channels=table)
    result = measure(path, x, "C4", **CHOSEN, output_action={"a": file})
    result.save(tmp_path / "r.json")
    page = tmp_path / "page.html"
    asked = ["report", tmp_path / "r.json", "-o", page, "--data", x, "--model", path]

    def run(*more):
        done = CliRunner().invoke(cli, [str(a) for a in (*asked, *more)])
        return done.exit_code, done.output

    assert run("--output-action", f"a={file}")[0] == 0
    assert "is not stored in the result" not in page.read_text()
    assert run()[0] == 0
    assert "give it with --output-action a=FILE.npz" in page.read_text()
    code, output = run("--output-action", f"nothing={file}")
    assert (code, "the result is of a" in output) == (2, True)
    code, output = run("--output-action", "a=fit:linear")
    assert (code, "a page fits nothing" in output) == (2, True)
    asked = asked[:4]
    assert "has no effect without --model" in run("--output-action", f"a={file}")[1]
