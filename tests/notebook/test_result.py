"""A result as people hold it: a dict as it was, which shows, draws and saves itself."""

import copy
import html
import importlib.metadata
import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from recording import measurement

import onnx_geed
from onnx_geed import GeedError, Result, results
from onnx_geed.measures import descriptor_of, perfect_words, told
from onnx_geed.report import compare_table
from onnx_geed.results import Result as Content, compare as compare_results, result, to_csv
from onnx_geed.testing import assert_equivariant
from onnx_geed.text import number

TESTS = Path(__file__).parent.parent
DEMO = Path(onnx_geed.__file__).parent / "demo"
ELEMENTS = ("e", "r1", "r2", "r3", "r4", "r5", "r6", "r7")


def record(measure, value, layer, **options):
    rng = np.random.default_rng(0)
    return measurement(
        measure=measure,
        layer=layer,
        layout="NCHW",
        output_action="grid",
        deviations=value + 0.01 * rng.standard_normal((6, 8)),
        elements=ELEMENTS,
        **options,
    )


def content(records, path="net.onnx", group="C8", **more) -> Content:
    return result(
        command="onnx-geed measure",
        software={"numpy": "1"},
        model={"path": path, "sha256": "ab" * 32, "opset": 17, "producer": ""},
        data={
            **{"source": "x.npy", "fingerprint": "cd" * 32, "available": 30},
            **{"indices": list(range(6)), "names": None, "labels": None},
        },
        group={
            **{"name": group, "order": 8, "elements": list(ELEMENTS)},
            **{"exact": [g % 2 == 0 for g in range(8)]},
            **{"interpolation": "bilinear", "support": "full", **more},
        },
        runtime={"device": "a processor", "precision": "float32"},
        seed=0,
        measurements=records,
    )


@pytest.fixture
def plain():
    maps = [record("channel-cos", v, f"_block.{i}") for i, v in enumerate((-0.9, -0.5, -0.4))]
    return content([*maps, record("latent-l2", 0.5, "z", normaliser=2.0, norm_samples=9)])


def test_it_is_the_dict_that_it_was(plain):
    held = Result(plain)
    assert held == plain
    assert list(held) == list(plain)
    assert held["measurements"][0]["value"] == plain["measurements"][0]["value"]
    assert json.dumps(held) == json.dumps(plain)
    assert isinstance(held, dict)
    for other in (pickle.loads(pickle.dumps(held)), copy.deepcopy(held), held.copy()):
        assert other == plain
        assert type(other) is Result


def test_every_way_to_a_result_gives_one(tmp_path):
    model, digits = DEMO / "digits_cnn.onnx", np.load(DEMO / "digits.npz")
    data = digits[digits.files[0]][:6]
    options = {"samples": 3, "norm_samples": 4, "measures": ["latent-l2"]}
    whole = onnx_geed.measure(model, data, "C4", **options)
    several = onnx_geed.measure_groups(model, data, ["C4", "flip-h"], **options)
    parts = [onnx_geed.measure(model, data, "C4", shard=f"{i}/2", **options) for i in (1, 2)]
    onnx_geed.write_cache(model, data, "C4", tmp_path / "a.geed", **options)
    kept = onnx_geed.measure_cache(tmp_path / "a.geed")
    whole.save(tmp_path / "a.json")
    loaded = onnx_geed.load(tmp_path / "a.json")
    limit = {"measure": "latent-l2", "limit": 1e9}
    asserted = assert_equivariant(model, data, "C4", samples=3, norm_samples=4, **limit)
    given = [whole, *several, *parts, onnx_geed.merge(parts), kept, loaded, asserted]
    given.append(onnx_geed.read_result(tmp_path / "a.json"))
    assert {type(one) for one in given} == {Result}
    value = whole["measurements"][0]["value"]
    assert {r["measurements"][0]["value"] for r in (several[0], *given[5:])} == {value}


def test_it_is_saved_and_read_back_as_it_was(tmp_path, plain):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    Result(plain).save(first)
    assert {**onnx_geed.load(first), "file": None} == {**plain, "file": None}
    onnx_geed.load(first).save(second)
    assert first.read_bytes() == second.read_bytes()
    assert onnx_geed.load(second)["file"] == str(second)
    with pytest.raises(GeedError, match="no such file"):
        onnx_geed.load(tmp_path / "c.json")


def test_the_short_form_is_one_line_whatever_the_names_are(plain):
    assert repr(Result(plain)) == "<Result of net.onnx under C8: 4 values over 6 samples>"
    hostile = content([], path="a\n\x1b[31m" + "b" * 500)
    text = repr(Result(hostile))
    assert text.isprintable()
    assert len(text) < 120
    assert "0 values over 0 samples" in text


class Cells(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.words += [value for _, value in attrs]

    def handle_data(self, data):
        self.words.append(data.strip())


def test_notebooks_show_a_small_table(plain):
    first = plain["measurements"][0]
    another = (first["value"] + 1) / 0.25 - 1
    first |= {"warnings": ['few "samples"'], "between_samples": another, "relative": 0.25}
    shown = Cells(Result(plain)._repr_html_())
    assert shown.tags.count("tr") == 1 + 4
    for word in ("channel-cos", "_block.1", "25 %", 'few "samples"', "⚠"):
        assert word in shown.words, word


def test_names_are_text_and_not_markup():
    evil = "<script>alert(1)</script>"
    held = content([record("channel-cos", -0.5, evil)], path=evil, group=evil)
    held["data"]["source"] = evil
    held["measurements"][0]["warnings"] = [evil + '" onclick="x']
    shown = Cells(Result(held)._repr_html_())
    assert set(shown.tags) <= {
        *("table", "caption", "thead", "tbody"),
        *("tr", "th", "td"),
        "p",
        "small",
    }
    assert evil in shown.words


def test_a_table_of_thousands_is_cut_and_says_so():
    held = Result(content([record("channel-cos", -0.5, f"l{i}") for i in range(300)]))
    shown = Cells(held._repr_html_())
    assert shown.tags.count("tr") == 1 + 40
    assert "and 260 more values: see .to_dataframe()" in shown.words


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_data_frame_has_a_row_a_measurement(plain, library):
    pytest.importorskip(library)
    frame = Result(plain).to_dataframe(library)
    assert type(frame).__module__.startswith(library)
    head, *lines = (line.split(",") for line in to_csv(plain).splitlines())
    listed = ("elements", "parameters", "per_element")
    assert list(frame.columns) == [name for name in head if name not in listed]
    assert list(frame["layer"]) == [r["layer"] for r in plain["measurements"]]
    assert list(frame["value"]) == [float(line[head.index("value")]) for line in lines]
    assert len(Result(content([])).to_dataframe(library)) == 0


def test_numbers_that_are_not_there_stay_numbers(plain):
    pandas = pytest.importorskip("pandas")
    frame = Result(plain).to_dataframe("pandas")
    assert pandas.api.types.is_float_dtype(frame["half_value"])
    assert np.isnan(frame["normaliser"][0])
    assert frame["normaliser"][3] == 2.0


@pytest.mark.parametrize("asked", [None, "pandas", "polars"])
def test_without_its_library_a_data_frame_is_one_line(plain, asked, monkeypatch):
    find = importlib.util.find_spec
    missing = ("pandas", "polars")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in missing else find(n))
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    name = asked or "pandas"
    with pytest.raises(GeedError, match=f"to_dataframe: .*pip install 'onnx-geed\\[{name}\\]'"):
        Result(plain).to_dataframe(asked)


def test_what_cannot_be_made_is_said_with_what_can(plain):
    held = Result(plain)
    with pytest.raises(GeedError, match=r"profile, angles or samples. Did you mean 'profile'"):
        held.plot("profil")
    with pytest.raises(GeedError, match=r"channel-cos and latent-l2. Did you mean 'channel-cos'"):
        held.plot("angles", "chanel-cos")
    with pytest.raises(GeedError, match="no measurements"):
        Result(content([])).plot()
    with pytest.raises(GeedError, match=r"pandas or polars. Did you mean 'pandas'"):
        held.to_dataframe("panda")


@pytest.mark.parametrize("kind", ["profile", "angles", "samples"])
def test_a_plot_is_a_figure_in_colours_of_its_own(plain, kind):
    from matplotlib.figure import Figure

    figure = Result(plain).plot(kind)
    assert isinstance(figure, Figure)
    svg = figure._repr_svg_()
    assert svg.startswith("<?xml")
    assert "_block.1" in svg
    assert "var(" not in svg
    # What pages put their own colours in place of.
    colours = {str(c) for a in figure.findobj() for c in colours_of(a)}
    assert "#0b63a8" in colours
    assert not {c for c in colours if c.startswith("#12340") or c.startswith("#12341")}
    assert pickle.loads(pickle.dumps(figure))


def colours_of(artist):
    from matplotlib.colors import to_hex, to_rgba_array

    for kind in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
        if get := getattr(artist, f"get_{kind}", None):
            yield from (to_hex(c) for c in to_rgba_array(get()))


def test_layers_that_begin_with_a_line_are_in_the_legend(plain):
    (legend,) = Result(plain).plot("angles").legends
    *names, hollow = [t.get_text().strip() for t in legend.get_texts()]
    assert names == [f"_block.{i}" for i in range(3)]
    assert hollow.startswith("hollow: resampled")


@pytest.mark.parametrize("kind", ["angles", "samples"])
def test_a_plot_of_some_layers_says_so(kind):
    five = content([record("channel-cos", -0.5, f"block{i}") for i in range(5)])
    assert Result(five).plot(kind).get_suptitle() == "4 of 5 layers, spread over the depth"
    four = content([record("channel-cos", -0.5, f"block{i}") for i in range(4)])
    assert Result(four).plot(kind).get_suptitle() == ""


def test_a_plot_of_angles_is_saved_as_a_whole(plain, tmp_path):
    from PIL import Image

    Result(plain).plot("angles").savefig(tmp_path / "a.png")
    image = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert image[:3].min() == 255


def test_the_measure_of_most_layers_is_drawn_unless_another_is_named(plain):
    plain["measurements"].insert(0, plain["measurements"].pop())
    names = Result(plain).plot("samples").axes[0].get_yticklabels()
    assert len(names) == 3
    names = Result(plain).plot("samples", "latent-l2").axes[0].get_yticklabels()
    assert [t.get_text() for t in names] == ["z"]


def test_a_family_is_drawn_over_its_parameter():
    part = {"kind": "family", "parameter": "angle", "unit": "°"}
    angles = [0.0, *range(-15, 20, 5)]
    held = content([record("channel-cos", -0.5, "a")], group="rotate:-15..15/7", **part)
    held["group"]["parameters"] = angles[:8]
    assert Result(held).plot("angles").axes[0].get_xlabel().startswith("angle")


def test_two_results_are_compared(plain):
    other = content([record("channel-cos", -0.3, f"_block.{i}") for i in range(3)], path="b.onnx")
    other["model"]["sha256"] = "ef" * 32
    held = Result(plain)
    assert held.compare(other) == held.compare(Result(other)) == onnx_geed.compare(plain, other)


def test_the_package_has_a_version():
    assert onnx_geed.__version__ == importlib.metadata.version("onnx-geed")
    assert "__version__" not in onnx_geed.__all__


def test_reading_a_result_loads_neither_the_runtime_nor_matplotlib(tmp_path, plain):
    Result(plain).save(tmp_path / "a.json")
    code = (
        "import sys, onnx_geed\n"
        "print(repr(onnx_geed.load(sys.argv[1])))\n"
        "heavy = {'onnxruntime', 'matplotlib', 'pandas', 'onnx_geed.run.pipeline'}\n"
        "sys.exit(str(heavy & set(sys.modules) or ''))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.json")], capture_output=True, text=True
    )
    assert run.stderr.strip() == "", run.stderr
    assert run.stdout.startswith("<Result of")


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_what_users_write_passes_their_strict_type_checker(checker, tmp_path):
    command = {
        "mypy": [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}"],
        "pyright": ["pyright", f"--pythonpath={sys.executable}", "-p", str(tmp_path)],
    }[checker]
    if not (shutil.which("pyright") if checker == "pyright" else importlib.util.find_spec("mypy")):
        pytest.skip(f"needs {checker}")
    copied = shutil.copy(TESTS / "typed_use.py", tmp_path)
    settings = {"typeCheckingMode": "strict", "include": ["typed_use.py"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    if checker == "mypy":
        command += ["--follow-imports=silent", str(copied)]
    run = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_result_is_compared_with_a_file(plain, tmp_path):
    first = Result(plain)
    first.save(tmp_path / "b.json")
    for path in (tmp_path / "b.json", str(tmp_path / "b.json")):
        comparison = first.compare(path)
        assert comparison["measurements"] == first.compare(first)["measurements"]
    with pytest.raises(GeedError, match="b is a result or a mapping, found the number 3"):
        first.compare(3)
    assert results.Comparison.__required_keys__ >= comparison.keys()
    assert type(comparison) is onnx_geed.Comparison


def other_of(plain):
    """A second model, none of whose values is the first one's."""
    maps = [record("channel-cos", -0.3 - k / 10, f"_block.{k}") for k in range(3)]
    other = content(
        [*maps, record("latent-l2", 0.25, "z", normaliser=3.0, norm_samples=9)], path="b.onnx"
    )
    other["model"]["sha256"] = "ef" * 32
    return other


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_comparison_as_a_data_frame_has_a_row_a_pair(plain, library):
    pytest.importorskip(library)
    compared = Result(plain).compare(other_of(plain))
    entries = compared["measurements"]
    frame = compared.to_dataframe(library)
    assert type(frame).__module__.startswith(library)
    assert len(frame) == len(entries) == 4
    assert set(frame["model_a"]) == {"net.onnx"}
    assert set(frame["model_b"]) == {"b.onnx"}
    ends = ("ci95", "ci95_bootstrap", "verdict_ci95")
    for name in results.ComparisonEntry.__required_keys__ - {*ends, "warnings"}:
        told = [None if value != value else value for value in frame[name]]
        assert told == [entry[name] for entry in entries], name
    for name in ends:
        told = [*zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)]
        asked = [tuple(e[name] or (None, None)) for e in entries]
        assert [tuple(None if v != v else v for v in pair) for pair in told] == asked
    assert list(frame["warnings"]) == ["; ".join(e["warnings"]) for e in entries]
    with pytest.raises(GeedError, match=r"pandas or polars. Did you mean 'pandas'"):
        compared.to_dataframe("panda")


def test_a_comparison_without_pairs_has_columns_of_numbers_all_the_same(plain):
    pandas = pytest.importorskip("pandas")
    other = other_of(plain)
    other["data"]["indices"] = list(range(6, 12))
    frame = Result(plain).compare(other, force=True).to_dataframe("pandas")
    assert np.isnan(frame["ci95_low"]).all()
    assert pandas.api.types.is_float_dtype(frame["samples"])


def test_a_comparison_is_pickled_and_copied_as_what_it_is(plain):
    compared = Result(plain).compare(plain)
    for other in (pickle.loads(pickle.dumps(compared)), copy.deepcopy(compared), compared.copy()):
        assert type(other) is onnx_geed.Comparison
        assert other == compared


def test_a_comparison_shows_itself_as_the_commands_table_and_is_a_dict(plain):
    a, b = Result(plain), Result(plain | {"model": {**plain["model"], "path": "<script>"}})
    shown = onnx_geed.compare(a, b)
    assert isinstance(shown, dict)
    assert shown == compare_results(a, b)
    assert repr(a.compare(b)) == repr(shown) == compare_table(shown)
    assert json.loads(json.dumps(shown)) == shown
    page = shown._repr_html_()
    assert page.startswith("<pre>")
    assert "<script" not in page
    text = html.unescape(page.removeprefix("<pre>\n").removesuffix("\n</pre>"))
    assert text.splitlines() == repr(shown).splitlines()


def test_a_field_that_is_read_as_an_attribute_says_how(plain):
    own = Result(plain)
    with pytest.raises(AttributeError, match=r"a result is a dict: write result\['measurements'\]"):
        _ = own.measurements
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        _ = own.nothing
    assert pickle.loads(pickle.dumps(own)) == own


def test_completion_shows_what_is_public():
    assert {name for name in dir(onnx_geed) if not name.startswith("__")} == set(onnx_geed.__all__)


def test_the_table_of_a_notebook_shows_cosines_and_says_which_way_is_better(plain):
    own = Result(plain)
    for row, record in zip(own._repr_html_().split("<tr>")[2:], own["measurements"], strict=True):
        measure = descriptor_of(record["measure"])
        assert f"<td>{number(told(measure, record['value']))}</td>" in row
        assert perfect_words(measure).replace(" is perfect", "") in row


@pytest.mark.parametrize(
    ("field", "value"), [("ci95", {"x": 1}), ("value", "x"), ("predictions", 3), ("layer", None)]
)
def test_a_result_that_was_changed_is_told_by_its_field(plain, tmp_path, field, value):
    """Whoever holds a result may change it; each use ends in an answer or in one line."""
    whole, changed = Result(copy.deepcopy(plain)), Result(plain)
    changed["measurements"][0][field] = value
    uses = {
        "compare": lambda: onnx_geed.compare(changed, whole),
        "aggregate": lambda: onnx_geed.aggregate([whole, changed]),
        "diagnose": lambda: onnx_geed.diagnose(changed),
        "write_report": lambda: onnx_geed.write_report([changed], tmp_path / "page.html"),
        "_repr_html_": changed._repr_html_,
        "plot": changed.plot,
    }
    if importlib.util.find_spec("pandas"):
        uses["to_dataframe"] = changed.to_dataframe
    told = []
    for use in uses.values():
        try:
            use()
        except GeedError as error:
            told.append(str(error))
    assert told
    assert all(f"measurements[0].{field}" in line for line in told)
    assert repr(Result({"measurements": 3})) == "<Result of 1 fields>"


def test_a_folder_of_pictures_that_is_none_leaves_no_page(plain, tmp_path):
    page, file = tmp_path / "page.html", tmp_path / "file"
    file.write_text("")
    with pytest.raises(GeedError, match=r"pictures .*is a file"):
        onnx_geed.write_report([plain], page, pictures=file)
    assert not page.exists()
