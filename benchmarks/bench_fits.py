"""What a fitted action costs: time to add up and to solve for it, and memory, by channels.

    python benchmarks/bench_fits.py --work /tmp/bench [--quick] [--only linear] [--markdown]

Noise under C8, each kind of fit and size in a process of its own, whose peak is that above the
samples and the libraries. Maps are smaller where channels are more, as in networks. Writes
fits.json there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tables import heading, machine, piped, plain

from onnx_geed.groups import FitKind, Trivial, grid_action, parse_group
from onnx_geed.measures import FitSums, fit_bytes

C8 = parse_group("C8")
KINDS: tuple[FitKind, ...] = get_args(FitKind)
# Channels and side of the map; no side is a vector.
SIZES = ((64, 56), (256, 28), (512, 14), (1024, 7), (2048, 7), (64, 0), (512, 0), (2048, 0))
SAMPLES = 10


def peak() -> float:
    """Largest resident memory of this process so far, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def one(kind: FitKind, channels: int, side: int) -> dict[str, Any]:
    """Fit in this process."""
    import scipy.linalg
    import scipy.optimize

    action = grid_action(C8, side, side) if side else Trivial(C8)
    rng = np.random.default_rng(0)
    shape = (channels, side * side) if side else (channels,)
    y = rng.standard_normal((1, C8.order, *shape), dtype=np.float32)
    scipy.linalg.svd(rng.standard_normal((200, 200)))  # threads and their buffers
    before, adding = peak(), 0.0
    fit = FitSums(action, channels, kind, SAMPLES)
    for i in range(SAMPLES):
        started = time.perf_counter()
        fit.add(i, y)
        adding += time.perf_counter() - started
        rng.standard_normal(dtype=np.float32, out=y)
    started = time.perf_counter()
    at = [started]
    _, lambda_, _ = fit.solve(lambda done, total: at.append(time.perf_counter()))
    # The elements are the last steps.
    elements = fitted_alone(kind, side)
    return {
        "add": adding / SAMPLES / C8.order,
        "choose": at[-1 - elements] - started,
        "elements": at[-1] - at[-1 - elements],
        "defect": time.perf_counter() - at[-1],
        "lambda": lambda_,
        "mebibytes": peak() - before,
        "said": fit_bytes(C8.order, channels, kind, SAMPLES) / 2**20,
    }


def fitted_alone(kind: FitKind, side: int) -> int:
    """Elements for which something is solved: not e, nor an inverse of one before."""
    if kind == "linear" or (kind == "permutation" and side):
        return 7
    return 6 if side else 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for results")
    parser.add_argument("--quick", action="store_true", help="few channels: a try-out")
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--markdown", action="store_true", help="print the table for README.md")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, channels, side = options.one
        print(json.dumps(one(kind, int(channels), int(side))))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    about = machine(options.quick)
    header = ["fit", "channels", "map", "ms a sample and element", "λ, s", "elements, s"]
    table, seen = [[*header, "defect, s", "peak MiB", "fit_bytes, MiB"]], []
    for kind in options.only or KINDS:
        for channels, side in (size for size in SIZES if not options.quick or size[0] <= 256):
            size = [kind, str(channels), str(side)]
            # Options again: each process has to know where it is.
            call = [sys.executable, __file__, "--work", str(options.work), "--one", *size]
            figures = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout)
            seen.append({"kind": kind, "channels": channels, "side": side, **figures})
            seconds = [f"{figures[name]:.3g}" for name in ("choose", "elements", "defect")]
            if kind == "permutation":
                seconds[0] = "none"
            memory = [f"{figures[name]:.0f}" for name in ("mebibytes", "said")]
            shape = f"{side}×{side}" if side else "vector"
            added = f"{1000 * figures['add']:.3g}"
            table.append([kind, str(channels), shape, added, *seconds, *memory])
    (options.work / "fits.json").write_text(json.dumps({"about": about, "fits": seen}, indent=1))
    print(heading(about) + "\n")
    print((piped if options.markdown else plain)(table))


if __name__ == "__main__":
    main()
