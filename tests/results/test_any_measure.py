"""A measure that nobody foresaw comes out right everywhere; one that is not known is refused."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from recording import measurement

import onnx_geed
from onnx_geed import GeedError, parse_group, read_result, write_json
from onnx_geed.measures import CATALOGUE, Descriptor
from onnx_geed.report import aggregate_table, compare_table, draw_suite, suite_table, table
from onnx_geed.report.page import report
from onnx_geed.report.words import grade, meaning
from onnx_geed.results import (
    aggregate,
    compare,
    diagnose,
    over_limits,
    read_record,
    result,
    to_csv,
)

C4 = parse_group("C4")


def computed_elsewhere(*arguments):
    raise AssertionError("results are only told of")


#: No more than has to be said of a measure: all else follows.
SHARE = Descriptor(
    name="angle-of-maps",
    role="channel",
    view="maps",
    actions="grid",
    perfect=0.0,
    worst=180.0,
    unit="degrees",
    title="Angles of maps",
    label="angle between maps",
    formula="m = angle between f(gx) and the moved map of x: 0 where they agree",
    pairs=computed_elsewhere,
)

SQUARE = Descriptor(
    name="latent-square",
    role="latent",
    view="points",
    actions="trivial",
    perfect=2.0,
    worst=float("inf"),
    unit="squares",
    title="Latent vector, squared",
    label="latent EED, squared",
    formula="m = 2 + squared distance: 2 where the tensor is invariant",
    pairs=computed_elsewhere,
    normaliser=computed_elsewhere,
)


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch):
    for toy in (SHARE, SQUARE):
        monkeypatch.setitem(CATALOGUE, toy.name, toy)


def record(toy, value, *, layer="a", m=None, between=None, noise=0.01):
    trivial = toy.actions == "trivial"
    rng = np.random.default_rng(0)
    return measurement(
        measure=toy.name,
        layer=layer,
        layout="NK" if trivial else "NCHW",
        output_action="trivial" if trivial else "grid",
        deviations=value + noise * rng.random((12, 4)),
        elements=C4.elements,
        normaliser=m,
        norm_samples=12 if toy.normalised else None,
        between=None if between is None else np.full((3, 4), between),
    )


def result_of(*records, name="net"):
    return result(
        command="c",
        software={},
        model={"path": f"{name}.onnx", "sha256": name, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd",
            "available": 12,
            "indices": list(range(12)),
            "names": None,
            "labels": None,
        },
        group={
            "name": "C4",
            "order": 4,
            "elements": list(C4.elements),
            "exact": [True] * 4,
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={},
        seed=0,
        measurements=records,
    )


def text_of(page):
    # A share whose number and sign stay together is no word of its own.
    shares = r'<span class="nb">(.*?)</span>|<[^>]*>'
    return " ".join(re.sub(shares, lambda tag: tag[1] or " ", page).split())


def test_the_table_states_its_range():
    text = table(result_of(record(SHARE, 30.0), record(SQUARE, 2.5, m=0.5)))
    assert "angle-of-maps 0 (equivariant) to 180" in text
    wide = " ".join(text.split())
    assert "latent-square 2/M (invariant) or more, unnormalised 2 (invariant) or more" in wide


def test_its_reading_goes_by_its_own_perfect_value():
    read = read_record(record(SQUARE, 2.5, m=0.5, between=4.0, noise=0.0))
    assert (read.perfect, read.value, read.relative) == (2.0, 2.5, 0.25)
    assert read_record(record(SHARE, 30.0, between=90.0, noise=0.0)).relative == pytest.approx(
        1 / 3
    )


def test_its_sentence_tells_its_unit_and_grade():
    sentence = meaning(record(SHARE, 30.0, between=90.0, noise=0.0), 4)
    assert sentence == (
        "f(gx) deviates from the moved f(x) by 30.0 degrees (different samples 90.0, perfect 0): "
        "partly equivariant."
    )
    assert "the mean over the orbit" in meaning(record(SQUARE, 2.5, m=0.5), 4)
    assert grade(read_record(record(SHARE, 30.0))) == ""


def test_a_page_has_its_section_and_pictures():
    page = report([result_of(record(SHARE, 30.0), record(SHARE, 60.0, layer="b"))])
    text = text_of(page)
    assert "Angles of maps angle-of-maps" in text
    assert "value by layer and angle" in text  # maps by layer and element, as all maps have
    assert "By angle-of-maps on b, in degrees." in text


def test_models_are_compared_on_the_scale_that_its_m_leaves():
    a = result_of(record(SQUARE, 2.2, m=0.5, between=4.0, noise=0.0), name="a")
    b = result_of(record(SQUARE, 2.6, m=0.9, between=4.0, noise=0.0), name="b")
    (entry,) = compare(a, b)["measurements"]
    assert entry["compared"] == "relative"
    assert entry["difference"] == pytest.approx(-0.2)
    assert "A is more invariant than B by 0.2" in compare_table(compare(a, b))
    assert "latent-square: the perfect value is 2/M" in aggregate_table(aggregate([a, b]))


def test_a_gate_holds_it_against_its_limit():
    net = result_of(record(SHARE, 30.0, noise=0.0))
    assert over_limits(net, ["angle-of-maps=29"]) == ["angle-of-maps@a: 30 > 29"]
    assert over_limits(net, ["angle-of-maps@a=31"]) == []


def test_findings_take_it_for_no_other_measure():
    # A cosine of maps that falls from 1 to 0.2 breaks; an angle that grows is none of it.
    falling = result_of(record(SHARE, 0.0, noise=0.0), record(SHARE, 60.0, layer="b", noise=0.0))
    assert [f.name for f in diagnose(falling)] == []
    wide = result_of(record(SHARE, 0.1, noise=0.0))
    wide["measurements"][0]["ci95"] = [-3.0, 3.0]
    assert [f.name for f in diagnose(wide)] == ["too few samples"]


def test_a_suite_draws_and_tells_it(tmp_path):
    row = {
        **{"model": "m", "step": None, "data": "d", "group": "C4", "measure": SQUARE.name},
        **{"layer": "a", "output_action": "trivial", "samples": 3, "seeds": [0], "values": [4.4]},
        **{"normalisers": [0.5], "unnormalised": [2.2], "relative": [0.1], "models": 1},
        **{"mean": 4.4, "unnormalised_mean": 2.2, "relative_mean": 0.1, "exact_mean": None},
        **{f"{of}ci95_over_models": None for of in ("", "unnormalised_", "relative_", "exact_")},
        **{f"{of}ci95_over_samples": None for of in ("", "relative_")},
        "warnings": [],
    }
    summary = {"title": "t", "rows": [row], "failed": []}
    assert "latent-square: the perfect value is 2/M" in suite_table(summary)
    files = {p.name: p.read_text() for p in draw_suite(summary, tmp_path)}
    assert "2/M is perfect" in files["C4.latent-square.normalised.svg"]


def test_a_file_of_it_is_read_where_it_is_known_and_refused_where_not(tmp_path, monkeypatch):
    net = result_of(record(SHARE, 30.0))
    write_json(net, tmp_path / "r.json")
    assert to_csv(read_result(tmp_path / "r.json")) == to_csv(net)
    monkeypatch.delitem(CATALOGUE, SHARE.name)
    with pytest.raises(GeedError) as refused:
        read_result(tmp_path / "r.json")
    assert str(refused.value) == (
        f"{tmp_path / 'r.json'}: measurements[0] is of a measure that this version does not know, "
        "'angle-of-maps' (it knows channel-cos, latent-l2, latent-cos, softmax-kl, output-l2, "
        "unexplained, flip-rate, sensitivity, symmetry-share and latent-square); upgrade onnx-geed"
    )


@pytest.mark.parametrize("package", ["results", "report"])
def test_no_line_decides_by_a_measures_name(package):
    names = set(CATALOGUE)
    spelled = [
        f"{path.name}:{node.lineno}"
        for path in (Path(onnx_geed.__file__).parent / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert spelled == []
