# /// script
# requires-python = ">=3.11"
# dependencies = ["onnx-geed"]
# ///
"""Cache writing against inference and plain writing; offline measuring against plain h5py.

    python benchmarks/bench_cache.py MODEL.onnx DATA GROUP [SAMPLES] [PREPROCESS]

Everything in one process and one run, warm, medians of five; ratios are what to read.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py

from onnx_geed import measure, measure_cache, write_cache
from onnx_geed.cache import cache_info


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def plain_write(folder: Path, size: int) -> None:
    block = os.urandom(1 << 24)
    with open(folder / "plain.bin", "wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        file.flush()
        os.fsync(file.fileno())
    (folder / "plain.bin").unlink()


def plain_read(cache: Path) -> None:
    for path in sorted(cache.glob("shard-*.h5")):
        with h5py.File(path) as file:
            for dataset in file["orbits"].values():
                dataset[()]


def main(model: str, data: str, group: str, samples: str = "10", preprocess: str = "") -> None:
    options = {"samples": int(samples), "norm_samples": int(samples), "batch_size": 8}
    if preprocess:
        options["preprocess"] = preprocess
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        cache = folder / "acts.geed"

        def written() -> None:
            shutil.rmtree(cache, ignore_errors=True)
            write_cache(model, data, group, cache, **options)

        written()
        size = cache_info(cache)["bytes"]
        live = measure(model, data, group, **options)["measurements"]
        assert measure_cache(cache)["measurements"] == live
        jobs = {
            "live measure": lambda: measure(model, data, group, **options),
            "cache write": written,
            "plain write + fsync": lambda: plain_write(folder, size),
            "offline measure": lambda: measure_cache(cache),
            "plain h5py read": lambda: plain_read(cache),
        }
        # In turn, so that a drift of the machine or its disk meets all alike.
        times: dict[str, list[float]] = {label: [] for label in jobs}
        for _ in range(5):
            for label, job in jobs.items():
                times[label].append(seconds(job))
    middle = {label: statistics.median(t) for label, t in times.items()}
    print(f"{size / 2**20:.0f} MiB, {samples} orbits of {group}, {os.cpu_count()} cores")
    for label, t in times.items():
        print(f"{label:<20} {middle[label]:7.2f} s   ({min(t):.2f} to {max(t):.2f})")
    for above, below in (
        ("cache write", "live measure"),
        ("plain write + fsync", "cache write"),
        ("offline measure", "plain h5py read"),
    ):
        print(f"{above} / {below}: {middle[above] / middle[below]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
