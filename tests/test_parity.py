"""Other tools' numbers from ours: the README has what the scripts find; a wrong formula is told."""

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import pytest

PARITY = Path(__file__).parent.parent / "benchmarks" / "parity"


@pytest.fixture(scope="module", autouse=True)
def _scripts():
    """The tools' pages are scripts beside each other, no package."""
    before = [*sys.path]
    sys.path.insert(0, str(PARITY))
    yield
    sys.path[:] = before


def told(tool):
    """Return the numbers of each line of the README's table: theirs and ours."""
    text = (PARITY / "README.md").read_text("utf-8")
    lines = text.split(f"<!-- {tool} -->\n")[1].split(f"<!-- end {tool} -->")[0].splitlines()[2:]
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines]
    assert all("does not hold" not in row[-1] for row in cells)
    return [(row[0], float(row[1]), float(row[2])) for row in cells]


@pytest.mark.parametrize("tool", ["tagtorch", "tmeasures", "escnn", "lie-deriv"])
def test_every_tool_has_its_numbers_in_the_readme(tool):
    assert len(told(tool)) >= 5


def test_a_formula_that_fails_is_told():
    from rows import Row, table

    right = Row("theirs", "`--measure x`", 0.25, -0.75, "1 + ours", 0.25 + 1e-8)
    wrong = dataclasses.replace(right, found=0.25 + 1e-5)
    assert right.holds
    assert not wrong.holds
    assert "does not hold" not in table([right])
    assert "4e-05: it does not hold" in table([wrong])
    # A number of 1e-7 is no more exact for being small.
    assert not dataclasses.replace(right, theirs=1e-7, found=2e-7).holds
    assert not dataclasses.replace(right, found=float("nan")).holds


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tool", ["tagtorch", "lie-deriv"])
def test_definitions_written_anew_give_the_committed_numbers(tool, tmp_path):
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not there")
    rows = importlib.import_module(f"of_{tool.replace('-', '_')}").rows(tmp_path)
    assert all(row.holds for row in rows), [row.number for row in rows if not row.holds]
    for row, (number, theirs, ours) in zip(rows, told(tool), strict=True):
        assert row.number.partition("(")[0] == number.partition("(")[0]
        assert (row.theirs, row.value) == pytest.approx((theirs, ours), rel=2e-3)
