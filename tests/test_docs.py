"""The documentation is right about commands, fields, keys, names and files."""

import ast
import json
import re
import shlex
import sys
from importlib.resources import files
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import onnx_geed
from onnx_geed.cli import cli
from onnx_geed.data import Preprocess
from onnx_geed.groups.action_tables import KINDS
from onnx_geed.measures import CATALOGUE

ROOT = Path(__file__).parent.parent
DEMO = Path(str(files("onnx_geed.demo")))
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "converters").glob("*.md")]
)
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, *languages):
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def commands(text):
    """Command lines of onnx-geed in a shell block, continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            if re.match(r"\s*(\S*/)?onnx-geed\s", part):
                words = shlex.split(part, comments=True)[1:]
                yield words[: words.index("|")] if "|" in words else words


def indented(text):
    """Command lines of a page that stand as indented blocks."""
    lines = BLOCK.sub("", text).splitlines()
    return "\n".join(line for line in lines if line.startswith("    onnx-geed "))


def all_commands():
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "console"):
            for words in commands(block):
                yield pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")
        for words in commands(indented(page.read_text())):
            yield pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")
    for name, command in cli.commands.items():
        for words in commands(command.help.partition("Example")[2]):
            yield pytest.param(words, id=f"{name} --help: {' '.join(words)[:60]}")


def parse(words):
    """Read a command line as click does, without running it."""
    command = cli.commands[words[0]]
    return command.make_context(words[0], list(words[1:]), parent=click.Context(cli))


@pytest.mark.parametrize("words", [*all_commands()])
def test_every_command_line_in_the_documentation_can_be_read(words):
    parse(words)


def test_a_command_line_with_a_wrong_option_is_found():
    with pytest.raises(click.NoSuchOption):
        parse(["measure", "net.onnx", "--grooup", "C8"])
    with pytest.raises(KeyError):
        parse(["mesure", "net.onnx"])


def test_command_lines_are_found_in_every_form():
    text = (
        "FOO=1\n.venv/bin/onnx-geed demo && true\nonnx-geed measure a.onnx \\\n  --group C4  # so\n"
        "onnx-geed layers a.onnx | head -n 3\n"
    )
    assert list(commands(text)) == [
        *(["demo"], ["measure", "a.onnx", "--group", "C4"], ["layers", "a.onnx"])
    ]
    assert len(list(all_commands())) > 60


def test_the_reference_has_every_command():
    page = (ROOT / "docs/reference/command-line.md").read_text()
    assert set(re.findall(r"^```\{help\} (\S+)$", page, re.MULTILINE)) == set(cli.commands)


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs/reference/python.md").read_text()
    own, testing = page.split(".. currentmodule:: onnx_geed.testing")
    listed = re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", own, re.MULTILINE)
    assert sorted(listed) == sorted(onnx_geed.__all__)
    from onnx_geed import testing as module

    listed = re.findall(r"^\.\. autofunction:: (\w+)$", testing, re.MULTILINE)
    assert sorted(listed) == sorted(module.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_in_the_documentation_is_python_and_names_exist(page):
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "onnx_geed":
                    assert hasattr(onnx_geed, node.attr), node.attr
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onnx_geed"):
                module = __import__(node.module, fromlist=["x"])
                assert all(hasattr(module, a.name) for a in node.names), text


def anchors(page):
    """Ids of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_and_pictures_are_there(page):
    text = re.sub(r"`[^`\n]+`", "", BLOCK.sub("", page.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        destination = (page.parent / path).resolve() if path else page
        assert destination.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(destination), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_formulas_are_in_characters_that_the_site_can_draw(page):
    tex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml").tex2mathml
    text = re.sub(r"`[^`\n]+`", "", BLOCK.sub("", page.read_text()))
    for formula in re.findall(r"(?<![$\\])\$(?![\s$])([^$]+?)(?<!\s)\$(?![\d$])", text):
        assert tex2mathml(formula), formula


def test_every_page_of_the_site_is_in_its_table_of_contents():
    index = (ROOT / "docs/index.md").read_text()
    listed = {line for text in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
              for line in text.split() if not line.startswith(":")}  # fmt: skip
    pages = {
        str(p.relative_to(ROOT / "docs").with_suffix("")) for p in (ROOT / "docs").rglob("*.md")
    }
    assert listed >= pages - {"index"}, pages - listed


def test_every_example_is_run_on_a_page():
    text = "".join(page.read_text() for page in PAGES)
    examples = {p.stem for p in (ROOT / "docs/examples").glob("*.py")} - {"making"}
    assert set(re.findall(r"^python docs/examples/(\w+)\.py \1$", text, re.MULTILINE)) == examples


def section(page, title):
    """Names in backticks of the first column of the table under a heading."""
    text = (ROOT / "docs" / page).read_text()
    part = re.split(r"^#+ ", text.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def measures_listed():
    """Names of measures wherever the documentation lists them all, by place."""
    places = {}
    for page in ("README.md", "docs/reading.md"):
        table = (ROOT / page).read_text().split("\n| measure |", 1)[1].split("\n\n")[0]
        places[page] = set(re.findall(r"^\| \[?`([^`]+)`", table, re.MULTILINE))
    questions = (ROOT / "docs/how-to/choosing.md").read_text().split("| question | measure |")[1]
    places["choosing.md"] = set(re.findall(r"`([a-z0-9-]+)`", questions.split("\n\n")[0]))
    fields = (ROOT / "docs/formats/results.md").read_text()
    row = re.search(r"^\| `measure` \| (.*) \|$", fields, re.MULTILINE)
    places["results.md"] = set(re.findall(r"`([^`]+)`", row[1]))
    (option,) = (p for p in cli.commands["measure"].params if "--measure" in p.opts)
    places["--help"] = set(re.findall(r"[a-z0-9-]+", option.help.partition(";")[0]))
    return places


def unlisted_measures():
    return {place: set(CATALOGUE) ^ names for place, names in measures_listed().items()}


def test_every_measure_is_listed_and_nothing_else():
    assert not any(unlisted_measures().values()), unlisted_measures()


def test_a_measure_that_the_documentation_lacks_is_found(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "toy-max", next(iter(CATALOGUE.values())))
    assert list(unlisted_measures().values()) == [{"toy-max"}] * len(measures_listed())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files that the commands write, small but with everything in it."""
    folder = tmp_path_factory.mktemp("written")

    def run(*words):
        got = CliRunner().invoke(cli, [str(w) for w in words])
        assert got.exit_code == 0, got.output

    shared = ("--data", DEMO / "digits.npz", "--group", "C8", "--samples", 3, "--norm-samples", 4)
    for name in ("digits_cnn", "digits_cnn_untrained"):
        run(
            "measure",
            DEMO / f"{name}.onnx",
            *shared,
            "--references",
            "--untrained",
            "--out",
            folder / name,
        )
    run(
        *("measure", DEMO / "digits_cnn.onnx", *shared[:4], "--measure", "latent-l2"),
        *("--precision", 0.5, "--out", folder / "precise"),
    )
    run(
        *("measure", DEMO / "digits_cnn.onnx", *shared, "--measure", "latent-l2"),
        *("--shard", "2/2", "--out", folder / "part"),
    )
    one, two = folder / "digits_cnn", folder / "digits_cnn_untrained"
    run("aggregate", one, two, "--out", folder / "aggregate")
    run("compare", one, two, "--out", folder / "compare")
    return {p.name: json.loads(p.read_text()) for p in folder.iterdir()}


def test_the_result_format_has_just_these_fields(written):
    result, page = written["digits_cnn"], "formats/results.md"
    assert section(page, "The file") == set(result) | {"precision", "part"}
    assert section(page, "part") == set(written["part"]["part"])
    assert section(page, "precision") == set(written["precise"]["precision"])
    # Of several inputs, of other components than usual, and of small motions and families.
    of_group = {"components", "step", "grid", "kind", "parameters", "parameter", "unit", "clip"}
    of_group |= {"backgrounds", "members", "action"}
    beside = {"inputs", "masks", "fed", "fed_marks", "wholes", "targets"}
    optional = {"data": beside, "group": of_group, "runtime": {"isolated"}}
    for part, further in optional.items():
        assert section(page, part) == set(result[part]) | further
    kinds = set()
    for entry in result["measurements"]:
        optional = {
            "notes",
            "most_common",
            "miou",
            "foreground",
            "fit",
            "errors",
            "gain",
            "without_table",
            "averaged",
            "reads",
            "table",
        }
        optional -= set(entry)
        assert section(page, "An entry of measurements") == set(entry) | optional
        kinds |= set(entry["references"])
        assert set(entry["exact"]) - {"elements"} <= set(entry)
        for part in entry["per_class"].values():
            assert section(page, "per_class") == set(part)
        assert bool(entry["predictions"]) == (entry["measure"] == "softmax-kl")
        if entry["predictions"]:
            assert section(page, "predictions") >= set(entry["predictions"])
        for name, reference in entry["references"].items():
            more = {"normaliser", "seed", "between_samples", "relative"}
            more = more if name == "untrained" else set()
            assert set(reference) == {"value", "ci95", "unnormalised", "samples"} | more
    assert section(page, "references") == kinds


@pytest.mark.parametrize(
    ("name", "file", "entry"),
    [
        ("aggregate", "The file of an aggregate", "An entry of an aggregate"),
        ("compare", "The file of a comparison", "An entry of a comparison"),
    ],
)
def test_the_formats_of_several_results_have_just_these_fields(written, name, file, entry):
    result = written[name]
    assert section("formats/results.md", file) == set(result)
    for measurement in result["measurements"]:
        assert section("formats/results.md", entry) == set(measurement)


def test_the_metadata_keys_are_those_that_are_written_and_read():
    from onnx_geed.model import metadata

    nodes = [
        node
        for source in (ROOT / "converters").glob("*.py")
        for node in ast.walk(ast.parse(source.read_text()))
    ]
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    texts += [value for value in vars(metadata).values() if isinstance(value, str)]
    texts += [metadata.action_key("<tensor>"), metadata.layout_key("<tensor>")]
    used = {
        text + "<tensor>" * text.endswith(".")
        for text in texts
        if re.fullmatch(r"onnx_geed\.[a-z_]+(\.|\.<tensor>)?", text)
    }
    modules = {f"onnx_geed.{p.stem}" for p in (ROOT / "onnx_geed").iterdir()}
    used -= modules | {"onnx_geed.converters"}
    assert section("formats/metadata.md", "Metadata of a model") == used


def test_the_fields_of_preprocessing_and_tables_are_those_of_the_code():
    fields = set(Preprocess.__dataclass_fields__)
    assert section("formats/metadata.md", "Preprocessing") == fields
    assert section("formats/tables.md", "Action tables") == {"elements", "group", *KINDS}


def test_the_files_that_the_page_on_architecture_names_are_there():
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`([\w.]+(?:/[\w.-]+)+)`", text))
    assert len(named) > 25
    missing = {n for n in named if not (ROOT / "onnx_geed" / n).exists() | (ROOT / n).exists()}
    assert missing == set()


def test_the_picture_of_the_house_is_what_the_imports_are():
    # Redraw it by: python docs/house.py
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import house
    finally:
        sys.path.pop(0)
    drawn = (ROOT / "docs/house.svg").read_text(encoding="utf-8")
    assert house.wording(drawn) == house.wording(house.draw())
    # A line or a room less is seen.
    assert house.wording(re.sub(r"<title>.*?</title>", "", drawn, count=1)) != house.wording(drawn)
    assert house.wording(drawn.replace("store", "stor", 1)) != house.wording(drawn)
