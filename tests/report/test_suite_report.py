"""The page of a suite written again, from the folder of its results."""

import json

import click.testing
import pytest
from large_suites import grid, suite

from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.files import write_json
from onnx_geed.report import draw_suite, suite_figures, write_summary
from onnx_geed.results import is_suite, read_result, read_summary


def run(*args):
    return click.testing.CliRunner().invoke(cli, ["report", *map(str, args)])


@pytest.fixture
def folder(tmp_path):
    summary = suite(grid(["a", "b <script>"]), failed=[{"cell": "x", "message": "gone"}])
    (tmp_path / "results").mkdir()
    write_json(summary, tmp_path / "results" / "summary.json")
    write_summary(summary, tmp_path / "results")
    return tmp_path / "results"


def test_it_is_the_page_that_benchmark_wrote(folder, tmp_path):
    first = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    done = run(folder, "-o", tmp_path / "again.html", "--pictures", tmp_path / "pictures")
    assert done.exit_code == 0
    page, pictures = tmp_path / "again.html", tmp_path / "pictures"
    assert done.output == f"written: {pictures}\nnext: open {page} in a browser\n"
    assert (tmp_path / "again.html").read_text() == first
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {
        p.name for p in folder.glob("*.svg")
    }


def test_a_suite_of_many_groups_is_given_some_of_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_figures, "_MOST_PICTURES", 3)
    summary = suite(grid(["a"]))
    for name in ("all", "results"):
        (tmp_path / name).mkdir()
    count = len(draw_suite(summary, tmp_path / "all"))
    assert count > 3
    (note,) = write_summary(summary, tmp_path / "results")
    assert note.startswith(f"the first 3 of {count} pictures are drawn; onnx-geed report ")
    few = {p.name for p in (tmp_path / "results").glob("*.svg")}
    assert len(few) == 3
    assert few < {p.name for p in (tmp_path / "all").glob("*.svg")}
    assert (tmp_path / "results" / "report.html").exists()


def test_it_can_go_where_the_results_are(folder):
    assert run(folder, "-o", folder / "report.html").exit_code == 0


def spoilt(summary, **changes):
    return {**summary, **changes}


def without_mean(summary):
    rows = [{k: v for k, v in row.items() if k != "mean"} for row in summary["rows"]]
    return {**summary, "rows": rows}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {}, "without a schema, expected 'onnx-geed/suite/1'; run onnx-geed benchmark"),
        (lambda s: [1], "without a schema"),
        (lambda s: spoilt(s, schema="onnx-geed/suite/9"), "upgrade onnx-geed"),
        (lambda s: spoilt(s, schema="onnx-geed/result/1"), "run onnx-geed benchmark again"),
        (lambda s: spoilt(s, title=3), "title"),
        (lambda s: spoilt(s, rows={}), "rows"),
        (without_mean, "mean"),
        (lambda s: spoilt(s, rows=[{**s["rows"][0], "measure": "sorcery"}]), "'sorcery'"),
        (lambda s: spoilt(s, rows=[{**s["rows"][0], "ci95_over_models": [1.0]}]), "ci95"),
    ],
)
def test_a_summary_that_is_none_is_one_line(folder, change, said):
    path = folder / "summary.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(GeedError, match=said) as caught:
        read_summary(folder)
    assert "\n" not in str(caught.value)
    assert run(folder, "-o", folder / "x.html").exit_code == 2
    assert not (folder / "x.html").exists()


def test_what_goes_with_it_and_what_does_not(folder, tmp_path):
    out = ("-o", tmp_path / "page.html")
    assert "has no summary.json, which onnx-geed benchmark writes" in run(tmp_path, *out).output
    assert "give only this folder" in run(folder, folder, *out).output
    assert "shows no samples" in run(folder, *out, "--data", "x.npy").output
    # A summary alone says where it belongs.
    with pytest.raises(GeedError, match="give the suite's folder to onnx-geed report"):
        read_result(folder / "summary.json")
    assert is_suite(folder)
    assert not is_suite(folder / "summary.json")
