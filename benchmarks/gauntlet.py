"""The gauntlet: long runs, large graphs, kills, signals, full disks and power cuts, on real runs.

    python benchmarks/gauntlet.py [TRIAL ...] [--quick] [--work FOLDER] [--markdown]

Without names all trials run, one after the other. Prints a table and ends with status 1 if one
fails. ``--quick`` tries every trial at a small size. Some trials need Linux, some ``strace``; where
that is missing a trial is not run, and says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gauntlet_faults as faults
import gauntlet_loads as loads
from gauntlet_running import Failed, Missing, say
from tables import heading, machine, piped, plain

#: A trial gets a folder of its own and whether it is to be quick, and returns what was seen.
Trial = Callable[[Path, bool], str]


@dataclasses.dataclass(frozen=True)
class Row:
    """A trial that was run."""

    name: str
    holds: str
    seen: str
    seconds: float
    failed: bool


TRIALS: dict[str, tuple[str, Trial]] = {
    "soak": ("memory grows by the numbers of the result, else by less than 2 %", loads.soak),
    "layers": (
        "every tensor of a deep graph measured, cached to the same bits, shown",
        loads.layers,
    ),
    "order-360": ("all 360 rotations; their quarter turns are those of C4", loads.order_360),
    "killed-suite": ("a suite killed and restarted equals an unbroken one", loads.killed_suite),
    "first-runs": ("four first runs at once compile side by side, and agree", loads.first_runs),
    "two-writers": ("of two writers of a cache one is refused, or both agree", loads.two_writers),
    "full-disk": ("status 2, one line, no half file, and it resumes", faults.full_disk),
    "signals": ("ends as documented, no half file, resumes to the same bits", faults.signals),
    "power-cut": ("whole, resumable or refused; never a wrong number", faults.power_cut),
}


def run(name: str, work: Path, quick: bool) -> Row:
    holds, trial = TRIALS[name]
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"{name}: {holds}")
    started, failed = time.perf_counter(), False
    try:
        seen = trial(folder, quick)
    except Missing as reason:
        seen = f"not run: {reason}"
    except Failed as error:
        seen, failed = f"FAILED: {error}", True
    seconds = time.perf_counter() - started
    say(f"  {seen} ({seconds:.0f} s)")
    if not failed:
        shutil.rmtree(folder)
    return Row(name, holds, seen, seconds, failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=", ".join(TRIALS))
    parser.add_argument("--quick", action="store_true", help="small sizes, a few minutes")
    parser.add_argument("--work", type=Path, help="where files go; what failed is left there")
    parser.add_argument("--markdown", action="store_true", help="the table as in README.md")
    chosen = parser.parse_args()
    if unknown := set(chosen.trials) - set(TRIALS):
        parser.error(
            f"no trial is called {', '.join(sorted(unknown))}: there are {', '.join(TRIALS)}"
        )
    work = chosen.work or Path(tempfile.mkdtemp(prefix="gauntlet-"))
    rows = [run(name, work.resolve(), chosen.quick) for name in chosen.trials or TRIALS]
    head = ("trial", "must hold", "seen", "s")
    cells = [(r.name, r.holds, r.seen, f"{r.seconds:.0f}") for r in rows]
    print(f"\n{heading(machine(chosen.quick))}\n")
    print((piped if chosen.markdown else plain)([head, *cells]))
    if not any(row.failed for row in rows) and chosen.work is None:
        shutil.rmtree(work)
    sys.exit(any(row.failed for row in rows))


if __name__ == "__main__":
    main()
