"""What a page says its commands write is held to what they write: `docs/outputs.py`."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
specification = importlib.util.spec_from_file_location("outputs", DOCS / "outputs.py")
outputs = sys.modules["outputs"] = importlib.util.module_from_spec(specification)
specification.loader.exec_module(outputs)

PAGE = """# A page

```sh
echo "note: one of those that need not be shown"
echo "network   value"
for i in 1 2 3 4; do echo "block$i   -0.50$i ± 1.2e-08"; done
echo "pytorch 2.13.0+cpu"
echo "worst angle"
echo "next: a command"
word=kept
mkdir folder && cd folder
```

Words between.

```text
network   value
block1   -0.501 ± 1.2e-08
...
block3   -0.503 ± 1.2e-08
block4   -0.504 ± 1.2e-08
pytorch 2.13.0+cpu
worst angle
```

```python
# saved.py
print("written", 3 * 5)
```

<!--
```sh
python saved.py
echo $word in "${PWD##*/}"
echo '<title>a: 0.25</title>
<path d="M 3.25 4.5"/>' > ../drawn.svg
```
-->
```text
written 15
kept in folder
```

![drawn](drawn.svg)
"""
SVG = '<title>a: 0.25</title>\n<path d="M 3.25 4.5"/>\n'


@pytest.fixture
def page(tmp_path):
    (tmp_path / "drawn.svg").write_text(SVG)
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def check(page):
    return outputs.main(["--check", str(page)])


def test_a_page_that_tells_what_its_commands_write_passes_and_stays(page):
    assert check(page) == 0
    assert outputs.main([str(page)]) == 0
    assert page.read_text() == PAGE


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("block3   -0.503", "block3   -0.505"),
        ("block1   -0.501", "block1   0.501"),
        ("± 1.2e-08\n...", "± 0.0012\n..."),
        ("written 15", "written 16"),
        ("worst angle\n```", "worst element\n```"),
        ("block4   -0.504 ± 1.2e-08\n", ""),
        ("network   value\nblock1", "block1"),
        ("pytorch 2.13.0+cpu\nworst", "pytorch 2.13.0+cpu\nbest\nworst"),
        ("worst angle\n```", "worst angle\nonce said\n```"),
        ("written 15\nkept in folder", "kept in folder\nwritten 15"),
    ],
    ids=[
        *("number", "sign", "not rounding", "whole number", "word", "line removed"),
        *("first line removed", "line added", "last line added", "lines swapped"),
    ],
)
def test_what_has_changed_on_a_page_is_found_told_and_mended(page, there, instead, capsys):
    assert PAGE.count(there) == 1
    page.write_text(PAGE.replace(there, instead))
    assert check(page) == 1
    told = capsys.readouterr().out
    assert "page.md" in told
    changed = set(there.splitlines()) ^ set(instead.splitlines())
    assert all(re.search(rf"^[-+].*{re.escape(line)}", told, re.MULTILINE) for line in changed)
    assert outputs.main([str(page)]) == 0
    assert page.read_text() == PAGE


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("block3   -0.503", "block3   -0.504"),
        ("block3   -0.503", "block3     -0.503"),
        ("± 1.2e-08\n...", "± 0.0000\n..."),
        ("pytorch 2.13.0+cpu\nworst", "pytorch 3.1.0\nworst"),
        ("```text\nnetwork", "```text\nnote: one of those that need not be shown\nnetwork"),
    ],
    ids=["last digit", "gap", "rounding", "version", "note shown"],
)
def test_what_differs_between_machines_is_left_as_it_stands(page, there, instead):
    page.write_text(PAGE.replace(there, instead))
    assert check(page) == 0
    assert outputs.main([str(page)]) == 0
    assert page.read_text() == PAGE.replace(there, instead)


def test_a_note_that_does_not_come_is_found(page):
    page.write_text(PAGE.replace("```text\nnetwork", "```text\nnote: another\nnetwork"))
    assert check(page) == 1


@pytest.mark.parametrize(
    ("old", "new"), [("a: 0.25", "a: 0.27"), ("M 3.25", "M 4.25"), ("a:", "b:")]
)
def test_a_picture_that_shows_something_else_is_found_and_drawn_anew(page, old, new, capsys):
    picture = page.with_name("drawn.svg")
    picture.write_text(SVG.replace(old, new))
    assert check(page) == 1
    assert "drawn.svg is not what the commands on" in capsys.readouterr().out
    outputs.main([str(page)])
    assert picture.read_text() == SVG
    picture.unlink()
    assert check(page) == 1


def test_a_picture_may_be_off_by_less_than_is_seen(page):
    page.with_name("drawn.svg").write_text(SVG.replace("M 3.25", "M 3.30"))
    assert check(page) == 0


WRONG = "```sh\necho one\n```\n```text\ntwo\n```\n"


@pytest.mark.parametrize(
    ("mark", "reason"),
    [("needs no_such_module", "needs no_such_module"), ("needs training", "needs training"),
     ("slow", "slow"), ("example", None)],
)  # fmt: skip
def test_a_marked_block_is_not_compared_and_that_is_told(tmp_path, mark, reason, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"<!-- outputs: {mark} -->\n{WRONG}")
    assert check(page) == 0
    told = capsys.readouterr().out
    assert told.endswith(f"page.md, commands in line 2: {reason}\n") if reason else not told
    outputs.main(["--training", str(page)])
    written = "one" if mark in ("needs training", "slow") else "two"
    assert page.read_text().endswith(f"{written}\n```\n")


def test_a_mark_from_here_on_holds_for_the_page_and_those_that_continue_it(tmp_path, capsys):
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    first.write_text(
        "```sh\necho begun\n```\n```text\nbegan\n```\n"
        f"<!-- outputs: needs training -->\n```sh\nmkdir in && cd in\n```\n{WRONG}"
    )
    second.write_text(
        f"{WRONG}<!-- outputs: continues first.md -->\n"
        "```sh\necho ${PWD##*/}\n```\n```text\nout\n```\n"
    )
    assert check(second) == 1
    told = capsys.readouterr().out
    assert "-began\n+begun" in told
    assert told.count("-two\n+one") == 1
    assert "-out" not in told
    assert re.search(r"second.md, commands in line 8: needs training", told)
    assert outputs.main([str(second)]) == 0
    assert "out\n```\n" in second.read_text()
    assert outputs.main(["--check", "--training", str(second)]) == 1
    assert outputs.main(["--training", str(second)]) == 0
    assert "in\n```\n" in second.read_text()


def test_a_mark_that_is_not_known_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"<!-- outputs: slwo -->\n{WRONG}")
    with pytest.raises(SystemExit, match="'slwo' is no mark"):
        check(page)


def test_a_command_that_fails_is_told_by_its_line(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"# A\n\n```sh\necho why; exit 3\n```\n{WRONG}")
    text = page.read_text()
    for arguments in (["--check"], []):
        assert outputs.main([*arguments, str(page)]) == 1
        assert "line 3: the commands end with status 3: why" in capsys.readouterr().out
    assert page.read_text() == text


def test_no_network_is_trained_unasked():
    for page in outputs.with_outputs():
        for piece in outputs.pieces(page, {"training"}):
            if "docs/examples/" in piece.text:
                assert piece.reason == "needs training", page


def test_every_picture_of_the_tutorials_is_drawn_by_commands_on_a_page():
    drawn = {
        file
        for page in outputs.with_outputs()
        for piece in outputs.pieces(page, set())
        for file in re.findall(r"\btutorial/(\S+\.svg)", piece.text)
    }
    assert drawn == {p.name for p in (DOCS / "tutorial").iterdir()}
