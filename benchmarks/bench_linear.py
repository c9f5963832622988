"""Time of a run against samples, elements and measured maps, with a straight line through it.

    python benchmarks/bench_linear.py --work /tmp/bench [--markdown]

The demo's MNIST CNN on MNIST digits, medians of five after a warm-up. Writes linear.json there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from networks import mnist, network
from tables import heading, machine, piped, plain

from onnx_geed import measure
from onnx_geed.model import list_layers

SAMPLES = (100, 200, 400, 800, 1600)
ORDERS = (2, 4, 8, 16, 32)
LAYERS = 5
ROUNDS = 5


def timed(run: Callable[[int], object], sizes: tuple[int, ...]) -> list[float]:
    run(sizes[0])
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for k in range(ROUNDS):
        for size in sizes if k % 2 == 0 else sizes[::-1]:
            started = time.perf_counter()
            run(size)
            seconds[size].append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds.values()]


def fitted(sizes: tuple[int, ...], seconds: list[float]) -> dict[str, Any]:
    """Least squares: seconds at nothing, seconds each, and how much of the variance is left."""
    slope, start = np.polyfit(sizes, seconds, 1)
    left = np.array(seconds) - (start + slope * np.array(sizes))
    r2 = 1 - float((left**2).sum() / ((np.array(seconds) - np.mean(seconds)) ** 2).sum())
    return {"sizes": sizes, "seconds": seconds, "start": start, "each": slope, "r2": r2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--markdown", action="store_true", help="print the table for README.md")
    options = parser.parse_args()
    net, digits = network("digits", options.work), mnist(options.work, max(SAMPLES))

    def run(samples: int, group: str, layers: int) -> object:
        maps = [f"channel-cos@block{i + 1}" for i in range(layers)]
        asked = {"measures": maps, "samples": samples, "norm_samples": samples}
        return measure(net.onnx, digits[:samples], group, provider="cpu", **asked)

    # Layers differ in size, so that what is read of a sample is what counts.
    shapes = {t["name"]: t["shape"][1:] for t in list_layers(net.onnx)["tensors"]}
    read = np.cumsum([np.prod(shapes[f"block{i + 1}"]) for i in range(LAYERS)]).tolist()
    jobs = {
        "samples (C8, 5 layers)": (lambda n: run(n, "C8", 5), SAMPLES),
        "elements of C_n (400 samples, 5 layers)": (lambda n: run(400, f"C{n}", 5), ORDERS),
        "values of the maps of 1 to 5 layers (800 samples, C8)": (
            lambda n: run(800, "C8", read.index(n) + 1),
            tuple(read),
        ),
    }
    fits = {name: fitted(sizes, timed(job, sizes)) for name, (job, sizes) in jobs.items()}
    about = machine(False)
    (options.work / "linear.json").write_text(json.dumps({"about": about, "fits": fits}, indent=1))
    table = [["against", "sizes", "seconds", "straight line", "R²"]]
    for name, fit in fits.items():
        sizes = ", ".join(map(str, fit["sizes"]))
        seconds = ", ".join(f"{v:.3g}" for v in fit["seconds"])
        line = f"{fit['start']:.3f} + {fit['each']:.2g} n"
        table.append([name, sizes, seconds, line, f"{fit['r2']:.4f}"])
    print(heading(about))
    print((piped if options.markdown else plain)(table))


if __name__ == "__main__":
    main()
