"""Numbers of other tools beside ours, on the same network and samples: does one follow from ours?

    python benchmarks/parity/parity.py [--only tagtorch] [--write]

prints a table a tool, and ends with status 1 where a formula does not hold; `--write` puts them
into the README beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from rows import table

README = Path(__file__).with_name("README.md")
TOOLS = ("tagtorch", "tmeasures", "escnn", "lie-deriv")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=TOOLS, default=TOOLS, metavar="TOOL")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    failed = []
    for tool in options.only:
        module = importlib.import_module(f"of_{tool.replace('-', '_')}")
        with tempfile.TemporaryDirectory() as work:
            rows = module.rows(Path(work))
        text = table(rows)
        print(f"{tool}\n\n{text}\n")
        failed += [f"{tool}: {row.number}" for row in rows if not row.holds]
        if options.write:
            README.write_text(between(README.read_text("utf-8"), tool, text), "utf-8")
    for name in failed:
        print(f"does not hold: {name}", file=sys.stderr)
    sys.exit(bool(failed))


def between(text: str, tool: str, new: str) -> str:
    """Return a page with the table of a tool anew."""
    start, end = f"<!-- {tool} -->\n", f"<!-- end {tool} -->"
    head, rest = text.split(start)
    return head + start + new + "\n" + end + rest.split(end)[1]


if __name__ == "__main__":
    main()
