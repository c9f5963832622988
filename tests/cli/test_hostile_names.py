"""Names that are made to deceive: nothing of them is shown raw, and JSON keeps them as they are."""

import csv
import io
import json
import re
import shutil
import subprocess
from xml.parsers import expat

import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnx_geed import read_result
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError
from onnx_geed.results import junit_xml, to_csv
from onnx_geed.safe_names import (
    csv_cell,
    file_name,
    json_escaped,
    line_of,
    one_line,
    plain,
    safe_lines,
    xml_text,
)
from onnx_geed.text import to_json

#: What a terminal acts on, what turns the direction of writing, what nobody sees, what spreadsheets
#: and browsers run, and a great length. A model's own names can hold no newline.
HOSTILE = (
    "=cmd|' /C calc'!A0;=1+1\x1b]0;owned\x07",
    "\x9b31m\u202eevil\u200b\x00<script>alert(1)</script>",
    "-2+3|<img src=x onerror=alert(2)>\r$\\frac{1}{0}$\x7f",
    "@SUM(1)\t\u2066\ufeff" + "long" * 1500,
)
LONGEST = 400


def hostile_model():
    """A random CNN whose tensors, node names, classes and producer are named so."""
    model = models.random_cnn(0, (8, 8))
    inner = [name for node in model.graph.node for name in node.output][:-1]
    new = {name: f"{HOSTILE[i % 4]}{i}" for i, name in enumerate(inner)}
    for i, node in enumerate(model.graph.node):
        node.name = f"node{i}{HOSTILE[i % 4]}"
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    del model.graph.value_info[:]
    model.producer_name = HOSTILE[1]
    onnx.helper.set_model_props(
        model,
        {
            "onnx_geed.latent": new.get(inner[-1], inner[-1]),
            HOSTILE[0]: HOSTILE[1],
            HOSTILE[3]: "long",
        },
    )
    return model


def invoke(*arguments, codes=(0,)):
    run = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert run.exit_code in codes, run.output
    assert "internal error" not in run.stderr
    for text in (run.stdout, run.stderr):
        raw = {c for c in text if not c.isprintable() and c != "\n"}
        assert not raw, f"{raw!r} shown raw by {arguments}"
    for line in run.stderr.splitlines():
        assert len(line) < LONGEST
        own = (
            "note: ",
            "next: ",
            "onnx-geed: ",
            "over the limit: ",
            "[1/1] ",
            "written: ",
        )
        assert line.startswith(own), line
    return run


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """Model, data, a result of it and a page."""
    folder = tmp_path_factory.mktemp("\x1b[31m=box\u202e")
    models.save(hostile_model(), folder / "net\x1b[2J.onnx")
    x = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    np.save(folder / "=x\u202e.npy", x)
    return folder


@pytest.fixture(scope="module")
def result(box):
    out = box / "r.json"
    invoke(
        *("measure", box / "net\x1b[2J.onnx", "--data", box / "=x\u202e.npy", "--group", "C4"),
        *("--samples", "4", "--out", out, "--provider", "cpu"),
    )
    return out


def with_names(result, path):
    """The same result, whose layers, elements, samples, labels, notes and files are hostile too."""
    content = json.loads(result.read_text())
    elements = [f"{g}\n{HOSTILE[g % 4]}" for g in range(4)]
    text = json.dumps(content)
    for old, new in zip(content["group"]["elements"], elements, strict=True):
        text = text.replace(f'"{old}": ', f"{json.dumps(new)}: ")
    content = json.loads(text)
    content["group"]["elements"] = elements
    content["group"]["name"] = "C4\n" + HOSTILE[1]
    content["model"]["path"] = "\n" + HOSTILE[0]
    content["data"]["names"] = [f"{i}\n{HOSTILE[2]}\ud800" for i in content["data"]["indices"]]
    content["notes"] = ["a note\n" + name for name in HOSTILE]
    for i, record in enumerate(content["measurements"]):
        if record["exact"]:
            record["exact"]["elements"] = elements
        record["layer"] = f"{i}\nonnx-geed: all is well {record['layer']}"
        record["warnings"] = ["a doubt\n" + name for name in HOSTILE]
    path.write_text(json.dumps(content))
    return path


def test_layers_shows_no_name_raw_and_keeps_it_in_json(box):
    model = box / "net\x1b[2J.onnx"
    table = invoke("layers", model).stdout
    assert max(map(len, table.splitlines())) < 1000
    assert "<script>" in table  # which does nothing to a terminal
    listed = json.loads(invoke("layers", model, "--format", "json").stdout)
    names = {tensor["name"] for tensor in listed["tensors"]}
    own = {name for node in onnx.load(model).graph.node for name in node.output}
    assert names & own
    assert any("\x1b" in name for name in names & own)


def test_every_command_on_a_model_of_such_names(box):
    model, data = box / "net\x1b[2J.onnx", box / "=x\u202e.npy"
    given = ("--data", data, "--group", "C4", "--samples", "4")
    cpu = ("--provider", "cpu")
    cache = box / "c\x1b[1m.geed"
    invoke("cache", model, *given, "-o", cache, *cpu)
    invoke("cache", "--info", cache)
    invoke("cache", "--verify", cache)
    invoke("measure", cache)
    invoke("measure", model, *given, *cpu, "--fail-above", "channel-cos=-2", codes=(1,))
    invoke("compile", model, "--group", "C4", "-o", box / "m\x1b.onnx", "--data", data)
    invoke("annotate", model, "--latent", HOSTILE[0] + "0", "-o", box / "a\x1b.onnx", codes=(0, 2))
    invoke("layers", box / "none\x1b[2J\u202e.onnx", codes=(2,))
    invoke("measure", model, *given, "--measure", "channel-cos@\x1b[1mnone", codes=(2,))
    (box / "suite.toml").write_text(
        'groups = ["C4"]\nmeasures = ["latent-l2"]\n[options]\nsamples = 3\n'
        f"[[models]]\nname = {json.dumps(HOSTILE[0])}\npath = {json.dumps(model.name)}\n"
        f"[[data]]\nname = {json.dumps(HOSTILE[1])}\npath = {json.dumps(data.name)}\n"
    )
    shown = invoke("benchmark", box / "suite.toml", "-o", box / "suite", "--format", "csv")
    assert_safe_cells(shown.stdout)
    for path in (box / "suite").rglob("*"):
        assert path.name.isprintable()
        assert len(path.name) < 256
    for path in (box / "suite").rglob("*.svg"):
        expat.ParserCreate().Parse(path.read_bytes(), True)


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_no_name_is_a_command_to_a_build_server(tmp_path, form):
    """GitHub, Azure and TeamCity read commands from what a step prints."""
    model = models.random_cnn(0, (8, 8))
    inner = [name for node in model.graph.node for name in node.output][:-1]
    new = {name: f"::error::##vso[task.complete]##[group]{i}" for i, name in enumerate(inner)}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    del model.graph.value_info[:]
    path, x = models.save(model, tmp_path / "m.onnx"), tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32))
    few = ("--samples", "3", "--provider", "cpu", "--format", form)
    runs = [
        invoke("measure", path, "--data", x, "--group", "C4", *few),
        invoke(
            "measure",
            path,
            "--data",
            x,
            "--group",
            "C4",
            "--measure",
            "output-l2@##vso[x]",
            codes=(2,),
        ),
    ]
    if form != "csv":
        runs.append(invoke("layers", path, "--format", form))
    for run in runs:
        assert "vso" in run.output
        assert not re.search(r"##\w*\[|^\s*::.*::", run.stdout + run.stderr, re.MULTILINE)
    if form == "json":
        layers = {record["layer"] for record in json.loads(runs[0].stdout)["measurements"]}
        assert layers & set(new.values())


def assert_safe_cells(text):
    rows = list(csv.reader(io.StringIO(text)))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert cell.isprintable()
        for part in re.split(r"[;,]", cell):
            number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", part)
            assert number or not part.lstrip().startswith(("=", "+", "-", "@"))
    return rows


def test_cells_of_csv_are_safe_and_numbers_stay_numbers(box, result):
    content = read_result(result)
    shown = invoke(
        *("measure", box / "net\x1b[2J.onnx", "--data", box / "=x\u202e.npy", "--group", "C4"),
        *("--samples", "4", "--provider", "cpu", "--format", "csv"),
    )
    head, *rows = assert_safe_cells(shown.stdout)
    values = [float(row[head.index("value")]) for row in rows]
    assert values == [record["value"] for record in content["measurements"]]
    means = [[float(v) for v in row[head.index("per_element")].split(";")] for row in rows]
    assert means == [[*record["per_element"].values()] for record in content["measurements"]]
    hostile = read_result(with_names(result, box / "csv.json"))
    assert_safe_cells(to_csv(hostile))


def test_junit_is_well_formed(box, result):
    out = box / "junit.xml"
    invoke(
        *("measure", box / "net\x1b[2J.onnx", "--data", box / "=x\u202e.npy", "--group", "C4"),
        *("--samples", "4", "--provider", "cpu"),
        *("--fail-above", "channel-cos=-2", "--junit", out),
        codes=(1,),
    )
    expat.ParserCreate().Parse(out.read_bytes(), True)
    text = junit_xml(read_result(with_names(result, box / "x.json")), ["channel-cos=-2"])
    expat.ParserCreate().Parse(text.encode(), True)
    assert all(c.isprintable() or c == "\n" for c in text)


def test_tables_of_results_of_such_names_forge_no_line(box, result):
    a, b = (with_names(result, box / name) for name in ("a.json", "b.json"))
    for shown in (invoke("aggregate", a, b), invoke("compare", a, b)):
        assert not re.search("^onnx-geed: all is well", shown.stdout, re.MULTILINE)
        assert max(map(len, shown.stdout.splitlines())) <= 400
    kept = json.loads(invoke("aggregate", a, b, "--format", "json").stdout)
    assert "\n" in kept["measurements"][0]["layer"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_reads_back_from_json_as_it_was(name):
    name += "\ud800é\U000e0041\u0301漢"
    text = to_json({"name": name})
    assert json.loads(text) == {"name": name}
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "é" in text
    assert "漢" in text


def test_one_function_each():
    assert plain("a\x1b\u202e\x00b\u00a0c\nd") == "a???b c?d"
    assert csv_cell(-1.5) == -1.5
    assert csv_cell("-1.5;2;;-3e-05") == "-1.5;2;;-3e-05"
    assert csv_cell("=1+1") == "'=1+1"
    assert csv_cell("e;=1+1;r90") == "e;'=1+1;r90"
    assert csv_cell("layer4") == "layer4"
    assert safe_lines("a\x1b\nb\u202e") == "a?\nb?"
    assert len(line_of(f"input {'x' * 20_000} (N,3)")) < 250
    assert line_of("input\nforged") == "input?forged"
    assert xml_text("a\x0b\x1b\ufffe\nb") == "a???\nb"
    assert file_name("../\x1b=a/b\u202e") == "=a-b"
    assert file_name("\x00") == "-"
    assert file_name("a b", "\x00", "C4") == "a-b.-.C4"
    # No file system takes names of over 255 bytes, and two that are cut stay two.
    for letter in "a\u4e00\U00020000":
        long = [file_name(letter * 3000 + end, "data" * 60, "C4") for end in "xy"]
        assert len(set(long)) == 2
        assert all(180 < len(name.encode()) <= 200 for name in long)
    for deed in ("##vso[task.setvariable]x", "a ##[add-mask]x", "##teamcity[x]", "###[error]"):
        assert not re.search(r"##\w*\[", safe_lines(deed))
        assert not re.search(r"##\w*\[", json_escaped(json.dumps(deed)))
        assert json.loads(json_escaped(json.dumps(deed))) == deed
    assert safe_lines("a\n  ::error file=x::y\n::stop-commands::z") == (
        "a\n  ?:error file=x::y\n?:stop-commands::z"
    )
    for harmless in ("std::vector::size", "## a [b]", "a ::b::", "::b", "#[x]"):
        assert safe_lines(harmless) == harmless
    assert json_escaped('"\x9b é"') == '"\\u009b é"'
    assert one_line("a\nb  c", 50) == "a b c"
    long = one_line(f"{'x' * 20_000}: is no model; measure again", 390)
    assert len(long) <= 390
    assert long.endswith(": is no model; measure again")
    assert len(str(GeedError("y " * 20_000))) <= 1000


@pytest.mark.parametrize("most", range(60, 90))
def test_a_line_is_cut_between_words_but_a_long_name_is_divided(most):
    words = " ".join(f"word{i}" for i in range(30))
    cut = one_line(words, most)
    assert len(cut) <= most
    assert set(cut.split()) - {"…"} <= set(words.split())
    assert cut.startswith("word0 ")
    assert cut.endswith(" word29")
    named = one_line(f"{'x' * 150}: is no model", most)
    assert (len(named), named[-13:]) == (most, "x: is no model"[-13:])
    assert named.startswith("xxx")


def test_a_page_of_such_names_runs_nothing(box, result, tmp_path):
    a, b = (with_names(result, box / f"page-{x}.json") for x in "ab")
    page = tmp_path / "page.html"
    invoke("report", a, b, "-o", page, "--pictures", tmp_path / "pictures")
    text = page.read_text()
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "default-src 'none'" in text
    for path in (tmp_path / "pictures").iterdir():
        expat.ParserCreate().Parse(path.read_bytes(), True)


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no browser")
def test_a_browser_runs_the_pages_own_script_and_no_other(box, result, tmp_path):
    a = with_names(result, box / "browser.json")
    page = tmp_path / "page.html"
    invoke("report", a, "-o", page)
    # A script and a handler that escaping had missed, as the policy is to hold even so.
    forced = page.read_text().replace(
        "</main>",
        "<script>document.title = 'owned'</script>"
        "<img src=x onerror=\"document.title = 'owned'\"></main>",
    )
    (tmp_path / "forced.html").write_text(forced)
    for name in ("page.html", "forced.html"):
        run = subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
                *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"),
                (tmp_path / name).as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "<title>G-EED" in run.stdout
        assert 'type="button"' in run.stdout  # which the page's own script makes
        refused = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
        if name == "page.html":
            assert refused == []
        else:
            assert any("Content Security Policy" in line for line in refused)
