"""Fuzzing by one command: ``python tests/fuzz/fuzz.py all``, for an hour.

A target is one of ``targets.py``; ``all`` shares the time among them. Every case follows from its
number: that of a finding, given to ``--case``, makes it again, but for the clock in files that the
package writes and for the gaps in HDF5's. What breaks a promise is kept in a folder, its files and
its command; a repeat of what was seen is counted and not kept.
``--runs`` bounds the cases, so that two machines run the same ones.

A promise: status 0 or 2 (1 of a gate), one line below 400 characters where a file is refused, no
file left then, nothing raw on the terminal, within a minute and 2 GiB. See ``Ended.fault``.

Why not atheris: it installs (3.0, Python 3.11), and was tried on the readers that are Python, in
process, with NumPy's, zipfile's and our own code instrumented and a seed of each kind. On arrays,
archives and points it ran 30,384 files in 240 s and met one kind of fault; mutations that know the
structure, in the same process on the same commit, ran 11,701 in 60 s and met eight, all within 4 s.
On results 29,453 files in 150 s met nothing that is no JSON's fault. It also asks for a compiler's
runtime that is there on Linux alone. Coverage does not find a field of another type; a list of odd
values for the field does.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from bounded import Bounded, Ended  # noqa: E402
from reading import read  # noqa: E402
from targets import TARGETS, Case  # noqa: E402


@dataclass
class Found:
    """What a run of the fuzzer met.

    Parameters
    ----------
    runs : int
        Commands that were run.
    faults : Counter of str
        How often each fault was met, numbers and names left out.
    kept : dict of str to Case
        The first case that showed it.
    ends : Counter of int
        Exit statuses.
    slowest : tuple of (float, int)
        Seconds of the slowest one, and its number.
    """

    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kept: dict[str, Case] = field(default_factory=dict)
    ends: Counter[int] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)


def kind_of(fault: str, command: str) -> str:
    """Return a fault without what differs from file to file."""
    if "traceback" in fault or "internal error" in fault:
        where = re.search(r"internal error, (\w+):.*\((\w+\.py), line (\d+)\)", fault)
        if where:
            return f"{where[1]} {where[2]}:{where[3]}"
    return f"{command}: " + re.sub(r"'[^']*'|\d+", "#", fault)[:90]


def fuzz(
    target: str,
    seed: int = 0,
    seconds: float = 60.0,
    *,
    cases: Iterable[int] = range(sys.maxsize),
    told: Callable[[str], None] = print,
    limit: float = 65.0,
) -> Found:
    """Run the cases of a target.

    Parameters
    ----------
    target : str
        Its name.
    seed : int
        Of the mutations.
    seconds : float
        For how long at most.
    cases : iterable of int
        Their numbers.
    told : callable
        Is told of each new fault.
    limit : float
        Seconds after which a command is killed.
    """
    found = Found()
    with Bounded(limit) as bounded, tempfile.TemporaryDirectory() as folder:
        make, until = TARGETS[target](bounded, Path(folder)), time.monotonic() + seconds
        for number in cases:
            if time.monotonic() > until:
                break
            case = make(random.Random(f"{seed}.{target}.{number}"))
            ended = _ended(None if target == "readers" else bounded, case)
            found.runs += 1
            found.ends[ended.status] += 1
            found.slowest = max(found.slowest, (ended.seconds, number))
            if fault := ended.fault(case.line):
                kind = kind_of(fault, case.line[0])
                found.faults[kind] += 1
                if kind not in found.kept:
                    found.kept[kind] = case
                    command = shlex.join(case.line).encode("unicode_escape").decode()
                    shown = fault.encode("unicode_escape").decode()
                    told(f"{target} {number}: {command[:300]}: {shown}")
    return found


def _ended(bounded: Bounded | None, case: Case, tries: int = 5) -> Ended:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), case)
        run = read if bounded is None else bounded.run
        ended = run(case.line, Path(folder))
    if tries and ended.compiled and ended.fault(case.line):
        # What is compiled is kept, and how long that takes is no file's doing.
        return _ended(bounded, case, tries - 1)
    return ended


def write(folder: Path, case: Case) -> None:
    """Write the files of a case into a folder."""
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _keep(found: Found, target: str, keep: Path) -> None:
    for kind, case in found.kept.items():
        folder = keep / f"{target}-{re.sub(r'[^A-Za-z0-9]+', '-', kind).strip('-')[:80]}"
        write(folder, case)
        line = shlex.join(("onnx-geed", *case.line))
        (folder / "command.txt").write_text(f"{line}\n", "utf-8", "surrogateescape")


def main() -> int:
    """Fuzz for so many minutes a target; status 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--minutes", type=float, default=60, help="in all, at most")
    parser.add_argument("--runs", type=int, default=sys.maxsize, help="of each target, at most")
    parser.add_argument("--case", type=int, help="run this one alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="targets at a time")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    chosen = parser.parse_args()
    if chosen.target == "all":
        # A process each: HDF5 may end the one that makes files that are odd.
        each = str(chosen.minutes * chosen.at_once / len(TARGETS))
        with ThreadPoolExecutor(chosen.at_once) as pool:
            own = [sys.executable, __file__]
            lines = [[*own, name, *sys.argv[2:], "--minutes", each] for name in TARGETS]
            return int(any([*pool.map(subprocess.call, lines)]))
    found = fuzz(
        chosen.target,
        chosen.seed,
        60 * chosen.minutes,
        cases=range(chosen.runs) if chosen.case is None else (chosen.case,),
        told=lambda text: print(text, flush=True),
    )
    _keep(found, chosen.target, chosen.keep)
    kinds = "".join(f"{count:5} × {kind}\n" for kind, count in found.faults.most_common())
    ends, (seconds, number) = dict(sorted(found.ends.items())), found.slowest
    print(
        f"{kinds}{chosen.target}: {found.runs} runs, statuses {ends}, the slowest, {number}, "
        f"{seconds:.0f} s, {len(found.kept)} kinds of fault",
        flush=True,
    )
    return int(bool(found.kept))


if __name__ == "__main__":
    sys.exit(main())
