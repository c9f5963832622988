"""Run the commands on the pages, and hold the outputs and pictures there to what comes.

    python docs/outputs.py [PAGE...]           write outputs and pictures on the pages anew
    python docs/outputs.py --check [PAGE...]   write nothing; status 1 and a diff if outdated
    ... --training                             also where networks are trained

Without names: every page with an output, a ``text`` block, or with hidden commands. The ``sh`` and
``python`` blocks of a page run as they stand, in order, in one shell, in a folder of the page's own
with ``docs`` in it. Python that begins with ``# NAME.py`` is saved under this name. Commands
install packages where this runs: take an environment of its own. A ``text`` block is what the
blocks since the last one wrote; ``...`` stands for lines left out. A picture on a page is that at
the same path in the folder.

Text is compared exactly, but for what no two machines share: how wide gaps are, the version of
PyTorch, and lines that begin with ``note:``, ``next:``, ``written:``, or tell of kernels compiled
or of a missing torchvision, which a page may leave out. Numbers with a point may differ by one in
their last digit, those under 1e-5 by anything, since they are rounding; of a line that agrees, what
stands is kept. Of pictures, SVG is compared, half a point apart at most, and PNG is not.

Comments on a page, invisible there: ``<!-- outputs: needs torch -->``: from here on, only where
this module can be imported; ``needs training``: from here on, only with ``--training``, since
another processor may train another network; ``slow``: the next block is not compared; ``example``:
it is never run; ``continues PAGE``: from here on, where that page ended. A block inside a comment
is run.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PIECE = re.compile(
    r"^<!-- outputs: (?P<mark>[^\n]+?) -->$"
    r"|^```(?P<language>sh|python|text)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)\s]+)\)", re.MULTILINE)
NUMBER = re.compile(r"(-?\d+\.\d+(?:e[-+]?\d+)?)")
#: Under this a figure is what rounding leaves.
ROUNDING = 1e-5
#: What a change of a page costs. A line more is cheaper than one in place of another, so that what
#: was forgotten comes back; a line less is dearest, so that none reworded is lost beside ``...``.
NUMBERS, MORE, OTHER, LESS = 0.05, 0.25, (0.3, 0.5), 0.9
#: Lines that depend on the machine or on what ran before, or only tell where a file is or what to
#: type next.
ASIDE = re.compile(r"note: |next: |written: |onnx-geed: compiling kernels|W\d{4} .*torchvision")


@dataclass
class Piece:
    """A block of a page, and what the marks before it say of it."""

    page: Path
    line: int
    language: str
    text: str
    start: int
    end: int
    reason: str = ""
    continues: str = ""


@dataclass
class Run:
    """A page's text, what its blocks wrote, by their place in it, and why others did not run."""

    folder: Path
    text: str
    skipped: set[str]
    outputs: dict[int, str] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    fault: str = ""


def pieces(page: Path, skipped: set[str]) -> list[Piece]:
    """Blocks of a page in order, each with the reason why it is not to run, if there is one."""
    text = page.read_text(encoding="utf-8")
    found, following, here, continues = [], "", "", ""
    for match in PIECE.finditer(text):
        kind, _, what = (match["mark"] or "").partition(" ")
        if kind == "needs":
            missing = what in skipped if what == "training" else find_spec(what) is None
            following = following or (f"needs {what}" if missing else "")
        elif kind == "continues":
            continues = what
        elif kind in ("slow", "example"):
            here = kind if kind in skipped else ""
        elif kind:
            raise SystemExit(f"{page}: outputs: {match['mark']!r} is no mark that is known")
        else:
            line = text.count("\n", 0, match.start()) + 1
            place = match.span("text")
            reason = following or here
            found.append(
                Piece(page, line, match["language"], match["text"], *place, reason, continues)
            )
            continues = ""
            here = here if match["language"] == "text" else ""
    return found


def command(piece: Piece) -> str:
    """Shell lines that do what a block says."""
    if piece.language == "sh":
        return piece.text
    name = re.match(r"# (\w+\.py)\n", piece.text)
    target = f"cat > {name[1]}" if name else "python -"
    return f"{target} <<'END OF THE BLOCK'\n{piece.text}END OF THE BLOCK\n"


def run(page: Path, folder: Path, before: dict[Path, Run], skipped: set[str]) -> Run:
    """Run a page's blocks in one shell, as far as its marks and those of pages before it allow."""
    result = Run(folder / f"{len(before)}-{page.stem}", page.read_text(encoding="utf-8"), skipped)
    result.folder.mkdir()
    (result.folder / "docs").symlink_to(DOCS)
    script, stopped = ["exec 3>&2\n"], ""
    for piece in pieces(page, skipped):
        if piece.continues:
            earlier = before[(page.parent / piece.continues).resolve()]
            needs = [r for r in earlier.left_out.values() if r.startswith("needs")]
            stopped = stopped or next(
                iter(needs), f"{piece.continues} failed" * bool(earlier.fault)
            )
            script += [f'cd "$(cat {earlier.folder}.end)"\n'] * (not stopped)
        if piece.language == "text":
            continue
        reason = stopped or piece.reason
        if reason:
            result.left_out[piece.start] = reason
            continue
        script.append(
            f"echo '{page.name}: line {piece.line}' >&3\n"
            f"exec >{result.folder}.{piece.start} 2>&1\n{command(piece)}"
        )
    script.append(f"pwd >{result.folder}.end\n")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        # A training is the same, however many cores there are.
        "OMP_NUM_THREADS": "1",
        "PIP_QUIET": "3",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    environment.pop("COLUMNS", None)
    shell = ["bash", "-euo", "pipefail", "-c", "".join(script)]
    status = subprocess.run(shell, cwd=result.folder, env=environment, check=False).returncode
    for file in folder.glob(f"{result.folder.name}.*"):
        if file.suffix != ".end":
            result.outputs[int(file.suffix[1:])] = file.read_text(encoding="utf-8")
    if status:
        last = max(result.outputs, default=0)
        line = result.text[:last].count("\n")
        told = "\n".join(result.outputs.get(last, "").splitlines()[-5:])
        result.fault = f"line {line}: the commands end with status {status}: {told}"
    return result


def usual(text: str) -> str:
    """A line without what differs between machines."""
    return re.sub(r"pytorch \S+", "pytorch", re.sub(r" {2,}", "  ", text.strip()))


def same(a: str, b: str, apart: float = 0.0) -> bool:
    """Whether two lines agree: text exactly, numbers up to one in the last digit or ``apart``."""
    if a == b:
        return True
    parts, others = NUMBER.split(usual(a)), NUMBER.split(usual(b))
    if parts[::2] != others[::2]:
        return False
    for x, y in zip(parts[1::2], others[1::2], strict=True):
        larger, difference = max(abs(float(x)), abs(float(y))), abs(float(x) - float(y))
        if larger >= ROUNDING and difference > max(1.01 * max(unit(x), unit(y)), apart):
            return False
    return True


def unit(number: str) -> float:
    """One in the last digit of a number as it is printed."""
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


@cache
def cost_of(a: str, b: str) -> float:
    """What it costs to put one line in place of another."""
    if same(a, b):
        return 0.0
    words, others = (["#" if NUMBER.fullmatch(w) else w for w in x.split()] for x in (a, b))
    if words == others:
        return NUMBERS
    least, span = OTHER
    return least + span * (1 - difflib.SequenceMatcher(None, words, others, False).ratio())


def renewed(block: list[str], output: list[str]) -> list[str]:
    """A block with the lines of an output in place of its own, as far as they changed.

    The cheapest way through both: a ``...`` takes any lines for nothing, asides too if the block
    has none there; a line more, less or changed costs.
    """
    rows, columns = len(block), len(output)
    # Of what is left of both from (i, j) on: the cost, the lines to write, and where to go on.
    best: list[list[tuple[float, list[str], int, int]]] = [
        [(0.0, [], rows, columns)] * (columns + 1) for _ in range(rows + 1)
    ]
    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            if i == rows and j == columns:
                continue
            ways: list[tuple[float, list[str], int, int]] = []
            aside = j < columns and ASIDE.match(output[j])
            # A blank line after lines left out is as free as they are.
            gap = i < rows and (block[i] == "..." or (not block[i] and block[i - 1 : i] == ["..."]))
            if i < rows:
                ways.append((0 if gap else LESS, [block[i]] if gap else [], i + 1, j))
            if j < columns:
                free = gap or aside
                ways.append((0 if free else MORE, [] if free else [output[j]], i, j + 1))
            if i < rows and j < columns and not gap and bool(aside) == bool(ASIDE.match(block[i])):
                cost = cost_of(block[i], output[j])
                ways.append((cost, [output[j] if cost else block[i]], i + 1, j + 1))
            best[i][j] = min(
                ((c + best[p][q][0], lines, p, q) for c, lines, p, q in ways), key=lambda w: w[0]
            )
    i = j = 0
    lines: list[str] = []
    while (i, j) != (rows, columns):
        _, written, i, j = best[i][j]
        lines += written
    return lines


def updated(page: Path, result: Run) -> str:
    """The text of a page with the outputs that came."""
    old = result.text
    new, end, wrote = "", 0, []
    for piece in pieces(page, result.skipped):
        if piece.language != "text":
            wrote += [piece.start] * (piece.reason != "example")
            continue
        new += old[end : piece.start]
        end = piece.start
        if wrote and all(place in result.outputs for place in wrote):
            output = "".join(result.outputs[place] for place in wrote)
            lines = [line.rstrip() for line in output.strip("\n").splitlines()]
            new += "".join(f"{x}\n" for x in renewed(piece.text.splitlines(), lines))
            end = piece.end
        wrote = []
    return new + old[end:]


def pictures(page: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Pictures of a page that its commands drew, as (on the page, drawn)."""
    shown = PICTURE.findall(page.read_text(encoding="utf-8"))
    pairs = [((page.parent / x), (folder / x)) for x in shown]
    return [(here, drawn) for here, drawn in pairs if drawn.is_file()]


def like(here: Path, drawn: Path, check: bool) -> bool:
    """Whether a picture on a page shows what was drawn, as far as it is compared."""
    if here.suffix != ".svg":
        return here.exists() and (check or here.read_bytes() == drawn.read_bytes())
    old, new = (
        x.read_text(encoding="utf-8").splitlines() if x.exists() else [] for x in (here, drawn)
    )
    return all(
        same(a, b, 0.0 if "<title>" in b else 0.5) for a, b in zip_longest(old, new, fillvalue="")
    )


def tell_left_out(page: Path, result: Run) -> None:
    """List the commands that did not run, by why."""
    for reason in dict.fromkeys(result.left_out.values()):
        blocks = [x for x in pieces(page, result.skipped) if result.left_out.get(x.start) == reason]
        lines = ", ".join(str(x.line) for x in blocks)
        if reason != "example":
            print(f"not run: {os.path.relpath(page)}, commands in line {lines}: {reason}")


def compare(page: Path, result: Run) -> list[str]:
    """Tell what is outdated on a page."""
    name = os.path.relpath(page)
    if result.fault:
        return [f"{name}: {result.fault}"]
    old, new = result.text.splitlines(), updated(page, result).splitlines()
    told = "what the commands write"
    faults = ["\n".join(difflib.unified_diff(old, new, name, told, n=1, lineterm=""))]
    for here, drawn in pictures(page, result.folder):
        if not like(here, drawn, True):
            faults.append(f"{os.path.relpath(here)} is not what the commands on {name} draw")
    return [fault for fault in faults if fault]


def write(page: Path, result: Run) -> list[str]:
    """Write what came into a page, and its pictures beside it."""
    name = os.path.relpath(page)
    if result.fault or page.read_text(encoding="utf-8") != result.text:
        return [f"{name}: {result.fault or 'was changed while its commands ran: run them again'}"]
    new, changed = updated(page, result), []
    if new != result.text:
        page.write_text(new, encoding="utf-8")
        changed.append("its outputs")
    for here, drawn in pictures(page, result.folder):
        if not like(here, drawn, False):
            shutil.copyfile(drawn, here)
            changed.append(here.name)
    print(f"{name}: {', '.join(changed) or 'nothing'} changed")
    return []


def in_order(pages: list[Path]) -> list[Path]:
    """Pages and those that they continue, these first."""
    order: list[Path] = []
    for page in pages:
        earlier = [p.continues for p in pieces(page, set()) if p.continues]
        for one in (*in_order([(page.parent / x).resolve() for x in earlier]), page):
            order += [one] * (one not in order)
    return order


def with_outputs() -> list[Path]:
    """Pages with an output, or with commands that are not shown."""
    pages = [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*/*.md")), DOCS.parent / "README.md"]
    marks = re.compile(r"^```text$|^<!--\n```", re.MULTILINE)
    return [p for p in pages if marks.search(p.read_text(encoding="utf-8"))]


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if outdated")
    parser.add_argument(
        "pages", nargs="*", type=Path, metavar="PAGE", help="without: all with outputs"
    )
    parser.add_argument("--training", action="store_true", help="also where networks are trained")
    options = parser.parse_args(arguments)
    skipped = {"example", *["slow"] * options.check, *["training"] * (not options.training)}
    runs: dict[Path, Run] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as made:
        for page in in_order([p.resolve() for p in options.pages] or with_outputs()):
            result = runs[page] = run(page, Path(made), runs, skipped)
            tell_left_out(page, result)
            faults += (compare if options.check else write)(page, result)
    print("\n\n".join(faults), end="\n" if faults else "")
    if faults and options.check:
        print("\nIf that is meant, write them anew: python docs/outputs.py")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
