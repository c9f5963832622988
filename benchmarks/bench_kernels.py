"""The compiled loops one by one, against PyTorch's operators and the memory's own speed.

    pip install torch==2.13.0 && pip install -e . -r benchmarks/requirements.txt
    python benchmarks/bench_kernels.py --work /tmp/bench [--quick] [--only channel-cos]

Every line is one job over some C8 orbits that lie in memory, on one thread and on all cores: our
loops spread by orbits, as in a run; PyTorch's operators spread inside, as they do by themselves.
Values are held against each other before anything is timed. GB/s counts each activation once.
Writes kernels.json in the work folder; --markdown prints tables for README.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import Claim, Contender, Race, agree, race
from eager import Rotations, channel_deviations
from numpy.typing import NDArray
from tables import heading, machine, piped, plain
from torch.nn import functional

import onnx_geed
from onnx_geed.groups import LayoutAction, Trivial
from onnx_geed.measures import (
    Measure,
    deviations_of_orbits,
    deviations_of_sums,
    map_sums,
    orbit_deviations,
)
from onnx_geed.run import cores

C8 = onnx_geed.parse_group("C8")
OURS, TORCH, SUM = "onnx-geed", "PyTorch", "numpy, plain sum"
PIECES = ((0, 4), (2, 6), (1, 5), (3, 7))
# Maps of a default run, channels and side, and how many orbits a batch has of them.
RESNET50 = ((64, 112), (64, 56), *((256, 56),) * 3, *((512, 28),) * 4, *((1024, 14),) * 6)
LAYERS = {
    "ResNet-50's 18 maps": ((*RESNET50, *((2048, 7),) * 3), 1),
    "the demo's 5 maps": (((16, 29), (24, 15), (32, 15), (48, 8), (16, 8)), 8),
}
MAPS = ((64, 112), (256, 56), (512, 28), (1024, 14), (2048, 7), (16, 29))

Job = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One kernel on one size: jobs by contender, and how many bytes they read."""

    kernel: str
    size: str
    threads: int
    read: int
    jobs: dict[str, Job]
    target: float | None = None


def spread(work: Callable[[Any], Any], items: Any, threads: int) -> Job:
    """One item a call, side by side, as a run does it."""

    def run() -> list[Any]:
        if threads == 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, items))

    return run


def on_torch(work: Job, threads: int) -> Job:
    def run() -> Any:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return work()

    return run


def maps(channels: int, side: int, count: int) -> NDArray[np.float32]:
    """Orbits (count, 8, channels, side, side) that look like a ReLU's output."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((count, 8, channels, side, side), dtype=np.float32)
    return np.maximum(y, 0)


def channel_cos(threads: int, quick: bool) -> list[Case]:
    cases = []
    for channels, side in MAPS[1:2] if quick else MAPS:
        # Some orbits more than caches hold, but no fewer than threads have work for.
        count = max(2 * threads, min(64, (1 << 28) // (32 * channels * side * side)))
        y = maps(channels, side, count // threads * threads)
        measure = Measure("channel-cos", "map", onnx_geed.grid_action(C8, side, side))
        tensors, rotations = torch.from_numpy(y), Rotations(8)
        ours = spread(lambda orbit, m=measure: orbit_deviations(m, orbit)[0], y, threads)
        theirs = on_torch(
            lambda t=tensors, r=rotations: [channel_deviations(o[None], r) for o in t], threads
        )
        cases.append(
            Case(
                "channel-cos",
                f"{channels}×{side}×{side}",
                threads,
                y.nbytes,
                {OURS: ours, TORCH: theirs, SUM: spread(np.sum, y, threads)},
                10.0 if (channels, side) == (256, 56) else None,
            )
        )
    return cases


def layers(threads: int, quick: bool) -> list[Case]:
    some = list(LAYERS.items())[quick:]
    return [all_layers(size, shapes, orbits, threads) for size, (shapes, orbits) in some]


def all_layers(size: str, shapes: tuple[tuple[int, int], ...], orbits: int, threads: int) -> Case:
    """All maps of a run in one call: whole orbits, and pieces of two elements."""
    measures = [
        Measure("channel-cos", "map", onnx_geed.grid_action(C8, side, side)) for _, side in shapes
    ]
    batches = [[maps(c, side, orbits) for c, side in shapes] for _ in range(threads)]
    split = [
        [[np.ascontiguousarray(y[:, list(g)]) for y in batch] for g in PIECES] for batch in batches
    ]
    whole, pieces = map_sums(measures), [map_sums(measures, g) for g in PIECES]
    order = np.argsort([g for piece in PIECES for g in piece])
    rotations = Rotations(8)

    def deviations(sums: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        both = zip(measures, sums, strict=True)
        return np.stack([deviations_of_sums(m, one)[0] for m, one in both])

    def ours(n: int) -> NDArray[np.float64]:
        return deviations(whole.of(batches[n], [y[:, 0] for y in batches[n]]))

    def in_pieces(n: int) -> NDArray[np.float64]:
        references = [y[:, 0] for y in batches[n]]
        parts = [p.of(some, references) for p, some in zip(pieces, split[n], strict=True)]
        by_layer = zip(*parts, strict=True)
        return deviations([np.concatenate(of, axis=1)[:, order] for of in by_layer])

    def theirs() -> list[torch.Tensor]:
        tensors = [torch.from_numpy(y) for batch in batches for y in batch]
        return [channel_deviations(t, rotations) for t in tensors]

    def plain(n: int) -> float:
        return float(sum(y.sum() for y in batches[n]))

    turns = range(threads)
    return Case(
        "channel-cos of all layers",
        f"{size}, {orbits} orbit{'s' * (orbits > 1)} a thread",
        threads,
        sum(y.nbytes for batch in batches for y in batch),
        {
            OURS: spread(ours, turns, threads),
            "the same, in pieces of two elements": spread(in_pieces, turns, threads),
            TORCH: on_torch(theirs, threads),
            SUM: spread(plain, turns, threads),
        },
    )


def one_by_one(action: LayoutAction) -> LayoutAction:
    """The same action with every rotation resampled by itself."""
    index, weight, base_of = [], [], []
    for base, order in zip(action.base_of, action.permutation, strict=True):
        if base:
            index.append(action.index[base - 1][order])
            weight.append(action.weight[base - 1][order])
        base_of.append(len(index) if base else 0)
    here = np.tile(np.arange(action.permutation.shape[1], dtype=np.int32), (len(base_of), 1))
    order = [here[0] if b else p for b, p in zip(base_of, action.permutation, strict=True)]
    return LayoutAction(
        action.group,
        action.shape,
        action.interpolation,
        np.stack(index),
        np.stack(weight),
        np.array(base_of, dtype=np.int32),
        np.stack(order),
    )


def resampling(threads: int, quick: bool) -> list[Case]:
    cases = []
    for channels, side in ((3, 224),) if quick else ((3, 224), (1, 29), (256, 56)):
        count = 8 if quick else max(16, (1 << 22) // (channels * side * side))
        x = np.random.default_rng(0).random((count, channels, side, side), dtype=np.float32)
        action = onnx_geed.grid_action(C8, side, side)
        apart, rotations, tensors = one_by_one(action), Rotations(8), torch.from_numpy(x)
        cases.append(
            Case(
                "orbit of an input",
                f"{channels}×{side}×{side}",
                threads,
                8 * x.nbytes,
                {
                    OURS: spread(lambda s, a=action: onnx_geed.orbit(a, s), x, threads),
                    "the same, each rotation by itself": spread(
                        lambda s, a=apart: onnx_geed.orbit(a, s), x, threads
                    ),
                    TORCH: on_torch(
                        lambda t=tensors, r=rotations: [r.turn(one[None])[0] for one in t], threads
                    ),
                },
            )
        )
    return cases


def vectors(threads: int, quick: bool) -> list[Case]:
    rng = np.random.default_rng(0)
    count = 64 if quick else 512
    cases = []
    for name, size in (
        *(("softmax-kl", 1000), ("latent-l2", 2048), ("latent-cos", 2048)),
        *(("softmax-kl", 10), ("latent-l2", 32), ("latent-cos", 32)),
    ):
        y = rng.standard_normal((count, 8, size), dtype=np.float32)
        measure, t = Measure(name, "vector", Trivial(C8)), torch.from_numpy(y)
        parts = np.split(y, count // 8)
        operators = {"softmax-kl": _divergence, "latent-l2": _distance, "latent-cos": _cosine}
        cases.append(
            Case(
                name,
                f"8×{size}",
                threads,
                y.nbytes,
                {
                    OURS: spread(
                        lambda some, m=measure: deviations_of_orbits(m, some)[0], parts, threads
                    ),
                    TORCH: on_torch(lambda t=t, f=operators[name]: f(t), threads),
                },
            )
        )
    return cases


def _divergence(y: torch.Tensor) -> torch.Tensor:
    logs = y.double().log_softmax(-1)
    mean = logs.logsumexp(1, keepdim=True) - math.log(8)
    return (logs.exp() * (logs - mean)).sum(-1)


def _distance(y: torch.Tensor) -> torch.Tensor:
    z = y.double()
    return (z - z.mean(1, keepdim=True)).norm(dim=-1)


def _cosine(y: torch.Tensor) -> torch.Tensor:
    z = y.double()
    return -functional.cosine_similarity(z, z.mean(1, keepdim=True), dim=-1)


def pairwise(threads: int, quick: bool) -> list[Case]:
    points = np.random.default_rng(0).standard_normal((200, 2048)) + 0.2
    t = torch.from_numpy(points)

    def cosine() -> torch.Tensor:
        unit = functional.normalize(t, dim=-1)
        return ((unit @ unit.T).sum() - len(t)) / (len(t) * (len(t) - 1))

    return [
        Case(
            f"M of {name}, not spread over threads",
            "200 points of 2048",
            threads,
            points.nbytes,
            {
                OURS: lambda n=name: onnx_geed.normaliser(n, points),
                TORCH: on_torch(f, threads),
            },
        )
        for name, f in (
            ("latent-l2", lambda: functional.pdist(t).mean()),
            ("latent-cos", cosine),
        )
    ]


KERNELS = {
    "channel-cos": channel_cos,
    "layers": layers,
    "resampling": resampling,
    "vectors": vectors,
    "pairwise": pairwise,
}


def checked(case: Case) -> None:
    """Stop unless all but the plain sum give the same values."""
    moments = {}
    for name, job in case.jobs.items():
        if name != SUM:
            output = job()
            values = (
                output
                if np.ndim(output) == 0
                else np.concatenate([np.asarray(part).reshape(-1) for part in output])
            )
            flat = np.asarray(values, dtype=np.float64)
            # The mean of squares of what is compared differs if any value does.
            moments[name] = {"mean": float(flat.mean()), "squares": float((flat**2).mean())}
    agree(f"{case.kernel}, {case.size}", moments)


def timed(case: Case, rounds: int) -> Race:
    checked(case)
    contenders = [Contender(name, lambda _, job=job: job()) for name, job in case.jobs.items()]
    claim = Claim("PyTorch / onnx-geed", TORCH, (OURS,), case.target, at_most=False)
    title = f"{case.kernel}, {case.size}, {case.threads} thread{'s' * (case.threads > 1)}"
    return race(title, contenders, (1,), rounds, [claim])


def cells(case: Case, race: Race) -> list[list[str]]:
    ratio, _ = race.ratio(race.claims[0], full=True)
    rows = []
    for name in case.jobs:
        spread = race.full(name)
        first = [case.kernel, case.size, str(case.threads)] if name == OURS else [""] * 3
        rate = f"{case.read / spread.middle / 1e9:.2f}"
        last = [str(ratio), race.claims[0].judged(ratio)] if name == TORCH else [""] * 2
        rows.append([*first, name, str(spread.scaled(1000)), rate, *last])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for results")
    parser.add_argument("--quick", action="store_true", help="few sizes, one round: a try-out")
    parser.add_argument("--only", choices=list(KERNELS), action="append")
    parser.add_argument("--markdown", action="store_true", help="print tables for README.md")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    about = machine(options.quick)
    header = ["kernel", "size", "threads", "", "ms", "GB/s", "PyTorch / onnx-geed", "target"]
    table, races = [header], []
    for name in options.only or KERNELS:
        for threads in sorted({1, cores()}):
            for case in KERNELS[name](threads, options.quick):
                races.append(timed(case, 1 if options.quick else 7))
                table += cells(case, races[-1])
    content = {"about": about, "kernels": [r.as_json() for r in races]}
    (options.work / "kernels.json").write_text(json.dumps(content, indent=1) + "\n")
    print(heading(about) + "\n")
    print((piped if options.markdown else plain)(table))


if __name__ == "__main__":
    main()
