"""What people read of a family: curves over its parameter, members by value, one overview."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from family_results import FAMILIES, ZOOMS, family_group, family_result, strengths
from recording import measurement

from onnx_geed import parse_group
from onnx_geed.files import write_json
from onnx_geed.report import suite_csv, suite_table, table, write_report, write_summary
from onnx_geed.report.curves import Curve, curve_of, curve_picture, difference_curve
from onnx_geed.report.family_overview import families_picture, overview_lines, overview_sections
from onnx_geed.report.glance import glance
from onnx_geed.report.page import report
from onnx_geed.report.sections import sections
from onnx_geed.report.svg import panels_across
from onnx_geed.results import (
    FamilyValue,
    along,
    element_words,
    family_range,
    family_values,
    mean_interval,
    parameters_of,
    read_record,
    suite_family_values,
)
from onnx_geed.results.limits import junit_xml, over_limits
from onnx_geed.results.result_file import to_csv
from onnx_geed.text import span

ROTATE, ZOOM, JPEG, NOISE = FAMILIES


def tips(svg):
    """What a pointer is told, by curve and member."""
    return dict(re.findall(r"<title>([^<]*?): ([^<:]*)</title>", svg))


def xs(svg, label):
    """Where along the axis a tick of that name stands."""
    return float(re.search(rf'<text[^>]* x="([\d.]+)"[^>]*>{label}<', svg)[1])


def curves(result, measure):
    own = [[read_record(m) for m in result["measurements"]]]
    (shown,) = (s for s in sections([result], ["net"], own) if s["measure"] == measure)
    return {p["subject"]: p for p in shown["pictures"]}


def first_of(result):
    return glance([result], ["net"], [[read_record(m) for m in result["measurements"]]])


# words of members


def test_members_are_told_by_their_values():
    assert element_words(family_group(ROTATE), "rotate-15") == "rotate-15 (angle −15°)"
    assert element_words(family_group(ROTATE), "rotate-15", short=True) == "−15°"
    assert element_words(family_group(NOISE), "noise4", short=True) == "4/255"
    assert element_words(family_group(JPEG), "e", short=True) == "e"
    assert family_range(family_group(JPEG)) == "quality 90 to 10"


def test_a_family_without_numbers_keeps_its_names():
    group = family_group(ROTATE, parameters=[None] * 7)
    assert parameters_of(group) is None
    assert element_words(group, "rotate5") == "rotate5"
    assert family_range(group) == ""
    values = Curve("net", np.arange(7.0))
    assert "rotate-15" in curve_picture([values], group, "d")


def test_elements_stand_along_the_axis_as_the_range_was_asked_for():
    assert along(family_group(ROTATE)).tolist() == [1, 2, 3, 0, 4, 5, 6]
    assert along(family_group(JPEG)).tolist() == list(range(7))


# curves


def test_a_curve_has_every_member_with_its_interval_over_samples():
    result = family_result(ROTATE)
    record = next(m for m in result["measurements"] if m["measure"] == "latent-l2")
    found = tips(curves(result, "latent-l2")["curve"]["svg"])
    deviations = np.array(record["deviations"]) / record["normaliser"]
    low, high = mean_interval(deviations[:, 1])
    assert found["z, −15°"] == (f"{span(deviations[:, 1].mean())} ({span(low)} to {span(high)})")
    assert len(found) == 7


def test_flips_have_intervals_of_shares():
    result = family_result(ROTATE)
    reading = read_record(result["measurements"][-1])
    column = reading.deviations[:, 1]
    assert curve_of("net", reading).ends[1] == pytest.approx(mean_interval(column, "wilson"))


def test_the_unmoved_sample_that_is_compared_with_itself_is_certain():
    a, b = family_result(ROTATE), family_result(ROTATE, scale=0.5, path="b.onnx", sha="ef", seed=1)
    own = [read_record(r["measurements"][-1]) for r in (a, b)]
    start = own[0].deviations.shape[1] - len(a["measurements"][-1]["per_element"])
    assert own[0].descriptor.name == "flip-rate"
    assert start == 1
    for curve in (curve_of("net", own[0]), difference_curve("a - b", *own)):
        assert curve.ends[0].tolist() == [0, 0]
        assert curve.ends[1][0] < curve.ends[1][1]


def test_equal_ratios_are_equal_steps_and_a_falling_range_runs_on():
    svg = curves(family_result(ZOOM), "latent-l2")["curve"]["svg"]
    low, middle, high = (xs(svg, label) for label in ("0.8", "1", "1.25"))
    assert middle - low == pytest.approx(high - middle, abs=0.1)
    svg = curves(family_result(JPEG), "latent-l2")["curve"]["svg"]
    assert xs(svg, "90") < xs(svg, "10")
    assert "the identity" not in svg  # which has no quality


def test_predictions_and_gain_are_drawn_over_the_parameter_too():
    result = family_result(ROTATE)
    (picture,) = first_of(result)["pictures"]
    found = tips(picture["svg"])
    right = result["measurements"][-1]["predictions"]["right"]["per_element"]
    assert found["correct class, 15°"].startswith(span(100 * right["rotate15"]))
    assert found["correct class, unmoved"].startswith("90.0")
    assert "predictions" not in curves(result, "softmax-kl")  # once is enough
    found = tips(curves(result, "latent-l2")["gain"]["svg"])
    assert found["net, 15°"] == "3.00"
    assert "net, 0°" not in found


def test_two_models_are_drawn_over_each_other_and_paired():
    a, b = family_result(ROTATE), family_result(ROTATE, scale=0.5, path="b.onnx", sha="ef", seed=1)
    own = [[read_record(m) for m in r["measurements"]] for r in (a, b)]
    (shown,) = (s for s in sections([a, b], ["a", "b"], own) if s["measure"] == "softmax-kl")
    pictures = {p["subject"]: tips(p["svg"]) for p in shown["pictures"]}
    assert {"a: logits, 15°", "b: logits, 15°"} <= set(pictures["curve"])
    gaps = own[0][4].deviations[:, 6] - own[1][4].deviations[:, 6]
    low, high = mean_interval(gaps)
    told = f"{span(gaps.mean())} ({span(low)} to {span(high)})"
    assert pictures["differences"]["a − b, 15°"] == told
    b["data"]["indices"] = list(range(1, 13))
    (shown,) = (s for s in sections([a, b], ["a", "b"], own) if s["measure"] == "softmax-kl")
    assert "differences" not in [p["subject"] for p in shown["pictures"]]


@pytest.mark.parametrize("beside", [{"fed": {"t": "2"}}, {"mask": "2"}])
def test_models_that_were_fed_other_values_beside_the_samples_are_not_paired(beside):
    a, b = family_result(ROTATE), family_result(ROTATE, scale=0.5, path="b.onnx", sha="ef", seed=1)
    own = [[read_record(m) for m in r["measurements"]] for r in (a, b)]
    drawn = []
    for data in ({"fed": {"t": "1"}, "mask": None}, beside):
        a["data"] |= {"fed": {"t": "1"}, "mask": None}
        b["data"] |= data
        (shown,) = (s for s in sections([a, b], ["a", "b"], own) if s["measure"] == "softmax-kl")
        drawn.append("differences" in [p["subject"] for p in shown["pictures"]])
    assert drawn == [True, False]


# page, table, CSV, gates


@pytest.mark.parametrize("name", FAMILIES)
def test_a_page_of_a_family_speaks_of_members_and_no_orbit(name):
    text = report([family_result(name)])
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", text, flags=re.DOTALL)
    words = re.sub(r'class="[^"]*"', "", body)
    assert "6 members and the identity" in words or "8 members and the identity" in words
    assert "orbit" not in words
    assert "ln 7" not in words
    assert "of the largest possible value" not in words
    assert "from f(x)" in words
    assert "times as far as the pixels" in words


def test_the_table_has_a_line_a_member():
    text = table(family_result(ROTATE))
    assert "6 members and the identity" in text
    block = text.split("angle  ")[1].splitlines()[:8]
    assert [line.split()[0] for line in block[1:]] == [
        "−15°", "−10°", "−5°", "0°", "5°", "10°", "15°"
    ]  # fmt: skip
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("m", [0.2, -0.2, 0.0])
def test_members_in_the_terminal_average_to_the_value_above(m):
    """Of latent-cos too, whose values are compared unnormalised: only 1/M is perfect here."""
    own = family_result(JPEG)
    strong = strengths(JPEG)
    own["measurements"][-1] = latent = measurement(
        measure="latent-cos",
        layer="z",
        layout="NK",
        output_action="trivial",
        deviations=-1 + 0.3 * np.outer(np.linspace(0.8, 1.2, 12), strong),
        elements=own["group"]["elements"],
        skipped=1,
        normaliser=m,
        norm_samples=9,
    )
    lines = table(own).splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("quality"))
    at = lines[head].split().index("latent-cos")
    rows = [line.split() for line in lines[head + 1 : head + 2 + len(strong) - 1]]
    assert rows[0][0] == "unmoved"
    shown = [float(row[at].replace("−", "-")) for row in rows]
    value = latent["unnormalised"] if latent["value"] is None else latent["value"]
    assert np.mean(shown[1:]) == pytest.approx(-value, abs=1e-4)
    assert shown[0] == pytest.approx(1 / m if m else 1, abs=1e-4)


def test_csv_has_parameters_beside_elements():
    result = family_result(ZOOM)
    row = next(csv.DictReader(io.StringIO(to_csv(result))))
    record = result["measurements"][0]
    assert row["elements"].split(";") == list(record["per_element"])
    assert [float(v) for v in row["parameters"].split(";")] == pytest.approx(ZOOMS)
    assert [float(v) for v in row["per_element"].split(";")] == list(record["per_element"].values())


def test_a_gate_names_the_worst_member():
    result = family_result(JPEG)
    assert over_limits(result, ["latent-l2=0.9"]) == []
    (line,) = over_limits(result, ["latent-l2=0.1"])
    assert line.startswith("latent-l2@z: ")
    assert "worst member jpeg10 (quality 10)" in junit_xml(result, ["latent-l2=0.1"])


# several families


def both_models():
    mine = [family_result(n, scale=s) for n, s in zip(FAMILIES, (1, 0.5, 0.3, 0.8), strict=True)]
    others = [
        family_result(n, scale=s, path="other.onnx", sha="ef")
        for n, s in zip(FAMILIES, (0.4, 0.5, 0.6, 0.2), strict=True)
    ]
    return mine + others


def test_several_families_are_one_overview():
    results = both_models()
    values = {(v.model, v.family, v.quantity): v for v in family_values(results)}
    record = next(m for m in results[0]["measurements"] if m["measure"] == "latent-l2")
    own = values["net", ROTATE, "latent-l2, relative"]
    assert own.value == pytest.approx(record["relative"])
    assert values["other", JPEG, "flip-rate"].value == results[6]["measurements"][-1]["value"]
    right = values["net", ROTATE, "accuracy"]
    assert right.unmoved == 0.9
    assert right.value == pytest.approx(0.9 - 0.5 * strengths(ROTATE)[1:].mean())
    (shown,) = overview_sections(list(values.values()))
    assert shown["words"][0].startswith(f"net is most sensitive to {ROTATE} and least to {JPEG}")
    told = tips(str(shown["pictures"][0]["svg"]))
    assert told[f"net, {ROTATE}, latent-l2, relative"].startswith(span(own.value))
    assert len(told) == len(values)


@pytest.mark.parametrize("count", [2, 3, 25])
def test_more_than_two_models_are_one_sentence_and_the_others_are_folded(count):
    results = [
        family_result(name, scale=scale if k % 2 else 1.5 * scale, path=f"n{k}.onnx", sha=f"{k:02}")
        for k in range(count)
        for name, scale in ((ROTATE, 0.9), (JPEG, 0.1 if k else 0.9))
    ]
    (shown,) = overview_sections(family_values(results))
    assert len(shown["words"]) == count
    assert ("<summary>Each model in words</summary>" in report(results)) == (count > 2)
    if count == 2:
        assert shown["summary"] == ""
    else:
        of_first = "no clear difference" in shown["words"][0]
        clear = f"to {ROTATE} ({count - of_first} of {count} models)"
        assert shown["summary"].startswith(f"Most sensitive, by latent-l2, relative, {clear}")
        unclear = f"No clear difference between families: 1 of {count} models."
        assert (unclear in shown["summary"]) == of_first


@pytest.mark.parametrize("models", [3, 7])
def test_twelve_results_begin_with_two_sentences_and_a_table(models):
    results = [
        family_result(name, scale=0.1 + k / models, path=f"n{k}.onnx", sha=f"{k:02}", seed=k)
        for k in range(models)
        for name in FAMILIES
    ]
    text = report(results)
    start = text[text.index('<section aria-label="At a glance"') :].split("</section>")[0]
    assert start.count("<li>") == 2
    assert 'class="fact"' not in start
    (ranking,) = re.findall(r'<table class="ranking">.*?</table>', start, flags=re.DOTALL)
    assert ranking.count("<tr>") == 1 + 6 * len(FAMILIES)


def test_the_overview_has_the_gain_by_which_families_compare():
    results = [family_result(ROTATE), family_result(ZOOM)]
    gains = [v.value for v in family_values(results) if v.quantity == "gain"]
    told = [
        record["gain"]["value"]
        for result in results
        for record in result["measurements"]
        if record.get("gain")
    ]
    assert gains
    assert gains == told


def test_the_overview_has_the_interval_of_the_accuracy_where_it_is_known():
    results = [family_result(ROTATE), family_result(ZOOM)]
    (of_rotate,) = {
        id(p): p for m in results[0]["measurements"] if (p := m.get("predictions"))
    }.values()
    assert {v.ci95 for v in family_values(results) if v.quantity == "accuracy"} == {None}
    of_rotate["right"]["moved"] = {"value": 0.6, "ci95": [0.5, 0.75]}
    values = family_values(results)
    (right,) = [v for v in values if (v.family, v.quantity) == (ROTATE, "accuracy")]
    assert right.ci95 == (0.5, 0.75)
    (section,) = overview_sections(values)
    row = next(r for r in section["rows"] if r["quantity"] == "accuracy")
    assert [c["more"] for c in row["cells"] if c["more"].startswith("[")] == [
        "[0.5000, 0.7500], unmoved 0.9000"
    ]
    assert "(0.500 to 0.750), unmoved 0.900" in section["pictures"][0]["alt"]


@pytest.mark.parametrize(
    ("count", "wide"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (7, 4)]
)
def test_no_panel_is_alone_in_a_line(count, wide):
    assert panels_across(count) == wide
    assert count % wide != 1 or wide == 1


def test_one_family_or_none_has_no_overview():
    one = family_result(ROTATE)
    assert family_values([one, family_result(ROTATE, path="b.onnx", sha="ef")]) == []
    assert "sensitive to?" not in report([one])


def test_the_page_compares_models_under_one_family_alone(tmp_path):
    write_report(both_models(), tmp_path / "page.html", pictures=tmp_path / "pictures")
    text = (tmp_path / "page.html").read_text()
    assert "What is it sensitive to?" in text
    assert "Not compared" not in text
    for name in FAMILIES:
        assert f"<summary>net, {name} and other, {name}</summary>" in text
    assert (tmp_path / "pictures" / "families-1-families.svg").is_file()


def test_a_model_of_the_same_name_is_another():
    results = [family_result(ROTATE), family_result(ZOOM, path="b/net.onnx", sha="ef")]
    assert len({v.model for v in family_values(results)}) == 2


# suites


def summary(kind="family"):
    base = {
        "step": None, "data": "digits", "layer": "z", "output_action": "trivial", "samples": 9,
        "seeds": [None], "models": 1, "ci95_over_models": None, "unnormalised": [None],
        "unnormalised_mean": None, "unnormalised_ci95_over_models": None, "normalisers": [2.0],
        "relative_ci95_over_models": None, "exact_mean": None, "exact_ci95_over_models": None,
        "fit": None, "kind": kind, "right_mean": 0.7, "right_unmoved_mean": 0.9, "warnings": [],
        "gain_mean": 1.5, "gain_ci95_over_models": None, "right_ci95_over_samples": [0.6, 0.8],
    }  # fmt: skip
    rows = [
        base
        | {
            "model": model, "group": group, "measure": "latent-l2", "values": [value],
            "mean": value, "ci95_over_samples": [value - 0.1, value + 0.1], "relative": [value],
            "relative_mean": value, "relative_ci95_over_samples": [value - 0.1, value + 0.1],
        }
        for model, group, value in (
            ("cnn", ROTATE, 0.5), ("cnn", JPEG, 0.25), ("vit", ROTATE, 0.125), ("vit", JPEG, 0.75)
        )
    ]  # fmt: skip
    return {"schema": "onnx-geed/suite/1", "title": "s", "failed": [], "rows": rows}


def test_a_suite_over_families_ends_with_the_overview(tmp_path):
    text = suite_table(summary())
    block = text.split("What is it sensitive to?")[1]
    assert re.search(rf"{re.escape(ROTATE)} +0\.5000 +0\.1250", block)
    assert "0.7000 (unmoved 0.9000)" in block
    assert "right_unmoved_mean" in suite_csv(summary()).splitlines()[0]
    wide = next(csv.DictReader(io.StringIO(suite_csv(summary()))))
    assert (wide["gain_mean"], wide["right_ci95_over_samples_high"]) == ("1.5", "0.8")
    assert re.search(rf"gain +cnn +vit\n.*\n{re.escape(ROTATE)} +1\.500", block)
    (right, *_) = [v for v in suite_family_values(summary()["rows"]) if v.unmoved is not None]
    assert (right.value, right.ci95, right.unmoved) == (0.7, (0.6, 0.8), 0.9)
    # Some models may have no value.
    part = summary()
    part["rows"][0] |= {"values": [0.5, None], "seeds": [0, 1], "models": 1}
    assert re.search(r"cnn +0\.5000 .* 1$", suite_table(part).split("vit")[0], re.MULTILINE)
    write_summary(summary(), tmp_path)
    svg = (tmp_path / "families.svg").read_text()
    assert f"<title>vit, {JPEG}, latent-l2, relative: 0.750" in svg


def test_a_suite_over_families_is_one_page(tmp_path):
    cells = []
    for i, group in enumerate((ROTATE, JPEG)):
        cells.append(tmp_path / f"{i}.json")
        write_json(family_result(group), cells[-1])
    assert write_summary(summary(), tmp_path, cells) == []
    page = (tmp_path / "families.html").read_text()
    assert page.count("What is it sensitive to?") >= 1
    assert ROTATE in page
    assert JPEG in page
    assert "<h1>net</h1>" in page
    # The model has the name that the suite gives it, as on the suite's own page.
    assert write_summary(summary(), tmp_path, cells, ["the cnn", "the cnn"]) == []
    page = (tmp_path / "families.html").read_text()
    assert "<h1>the cnn</h1>" in page
    assert f"the cnn, {JPEG}" in page
    (tmp_path / "families.html").unlink()
    (note,) = write_summary(summary(), tmp_path, cells * 20)
    assert note.startswith("no families.html: a page holds at most 30 results, this suite has 40")
    assert write_summary(summary("group"), tmp_path, cells) == []
    assert not (tmp_path / "families.html").exists()


def test_a_suite_over_groups_is_as_it_was(tmp_path):
    assert "sensitive to?" not in suite_table(summary("group"))
    write_summary(summary("group"), tmp_path)
    assert not (tmp_path / "families.svg").exists()


RELATIVE = "latent-l2, relative"


def test_the_last_step_of_a_training_counts():
    rows = summary()["rows"]
    later = [row | {"step": 10, "relative_mean": 0.01} for row in rows[:2]]
    values = suite_family_values([*rows, *later])
    assert {v.value for v in values if (v.model, v.quantity) == ("cnn", RELATIVE)} == {0.01}
    assert "<svg" in families_picture(values)


@pytest.mark.parametrize("count", [2, 6, 7, 25])
def test_no_colour_of_the_picture_means_two_models(count):
    values = [
        FamilyValue(f"net{i}", family, RELATIVE, 0.01 * i + at, (0.0, 0.5))
        for i in range(count)
        for family, at in (("blur", 0.1), ("jpeg", 0.2))
    ]
    picture = families_picture(values)
    colours = {colour for colour in range(6) if f"var(--s{colour})" in picture}
    assert len(colours) == (count if count <= 6 else 1)
    (shown,) = overview_sections(values)
    many = "Each mark is a model, in the order of the table" in shown["pictures"][0]["caption"]
    # Without a pointer those at both ends have their names.
    ends = picture.count(f">least net0, most net{count - 1}<")
    assert (many, ends) == ((True, 2) if count > 6 else (False, 0))
    assert all(f"net{i}, blur" in picture for i in range(count))


def test_a_group_beside_families_is_not_ranked_among_them_and_no_close_call_is_decided():
    def value(family, at, ends, of_group=False):
        return FamilyValue("net", family, "latent-l2, relative", at, ends, of_group=of_group)

    jpeg, turn = value("jpeg", 0.2, (0.1, 0.3)), value("rotate", 0.5, (0.4, 0.6))
    group = value("C4", 0.1, (0.0, 0.2), of_group=True)
    (shown,) = overview_sections([jpeg, turn, group])
    assert shown["words"][0].startswith("net is most sensitive to rotate and least to jpeg")
    assert "Of groups, invariance is measured from the mean" in shown["pictures"][0]["caption"]
    (shown,) = overview_sections([jpeg, value("rotate", 0.25, (0.15, 0.35))])
    assert shown["words"][0].startswith("net: no clear difference between rotate and jpeg")
    assert overview_sections([jpeg, group])[0]["words"] == []


def test_values_of_groups_beside_families_are_marked():
    results = [family_result(JPEG), family_result(ROTATE)]
    group = {**results[1], "group": {**results[1]["group"], "name": "C4", "kind": "group"}}
    marked = {v.family: v.of_group for v in family_values([results[0], group])}
    assert marked == {JPEG: False, "C4": True}


def test_the_same_family_on_other_data_is_another_line():
    results = [family_result(name, scale=scale) for scale in (1.0, 0.4) for name in (ROTATE, JPEG)]
    for result in results[2:]:
        result["data"] |= {"source": "other/y.npy", "fingerprint": "ef" * 32}
    values = family_values(results)
    assert {v.model for v in values} == {"net (x.npy)", "net (y.npy)"}
    assert len({(v.model, v.family, v.quantity) for v in values}) == len(values)
    (shown,) = overview_sections(values)
    assert [text.split(":")[0] for text in shown["words"]] == ["net (x.npy)", "net (y.npy)"]
    copies = [family_result(ROTATE), family_result(JPEG)]
    copies[1]["data"]["source"] = "/elsewhere/x.npy"
    assert {v.model for v in family_values(copies)} == {"net"}
    beside = [family_result(ROTATE), family_result(ROTATE), family_result(JPEG)]
    beside[1]["data"]["fed"] = {"t": "2"}
    assert all("beside it" in v.model for v in family_values(beside))
    halves = [family_result(ROTATE), family_result(ROTATE, support="disk"), family_result(JPEG)]
    names = {v.model for v in family_values(halves)}
    assert names == {"net (support full)", "net (support disk)"}
    twice = [family_result(ROTATE), family_result(ROTATE), family_result(JPEG)]
    assert {v.model for v in family_values(twice)} == {"net", "net (no. 2)"}


def test_without_intervals_no_family_is_said_to_be_the_worst():
    results = [family_result(name, samples=1) for name in (ROTATE, JPEG)]
    values = [replace(v, ci95=None) for v in family_values(results)]
    (shown,) = overview_sections(values)
    assert "without intervals, this may be chance" in shown["words"][0]
    even = [replace(v, value=0.5) for v in values]
    (shown,) = overview_sections(even)
    assert "no difference between families" in shown["words"][0]
    # A gain has no interval, and so ranks last.
    late = [v for v in values if v.quantity in ("gain", "flip-rate", "accuracy")]
    (shown,) = overview_sections(sorted(late, key=lambda v: v.quantity != "gain"))
    assert "(flip-rate: " in shown["words"][0]


def test_a_sampled_group_has_no_accuracy_on_unmoved_samples():
    sampled, family = family_result(JPEG), family_result(ROTATE)
    group = parse_group(f"SO2~{sampled['group']['order']}")
    names = dict(zip(sampled["group"]["elements"], group.elements, strict=True))
    sampled["group"] |= {"name": group.name, "kind": "sampled", "elements": list(group.elements)}
    for record in sampled["measurements"]:
        if "predictions" in record:
            right = record["predictions"]["right"]
            per_element = {names.get(k, k): v for k, v in right["per_element"].items()}
            record["predictions"] = record["predictions"] | {
                "right": right | {"per_element": per_element}
            }
    known = {v.family: v for v in family_values([sampled, family]) if v.quantity == "accuracy"}
    assert known[group.name].unmoved is None
    assert known[ROTATE].unmoved == 0.9
    table = "\n".join(overview_lines([*known.values()]))
    assert table.count("unmoved") == 1
