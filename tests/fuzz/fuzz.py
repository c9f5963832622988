"""Fuzzing by one command: ``python tests/fuzz/fuzz.py models --minutes 60``.

Every file that breaks a promise is kept in a folder, named after what happened; a repeat of what
was seen is counted and not kept.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import hostile_models  # noqa: E402
import letter_models  # noqa: E402
import models  # noqa: E402
from bounded import Bounded, Ended  # noqa: E402
from mutate import mutated  # noqa: E402

_MEASURED = ("--samples", "3", "--norm-samples", "3", "--provider", "cpu")

#: Command lines, each with how often it is taken.
COMMANDS = {
    ("layers", "model.onnx", "--format", "json"): 6,
    ("measure", "model.onnx", "--data", "x.npy", "--group", "C4", *_MEASURED, "--out", "r.json"): 3,
    ("compile", "model.onnx", "--group", "C4", "-o", "made.onnx"): 1,
    ("fit", "model.onnx", "--data", "x.npy", "--group", "C4", "--layer", "y", "-o", "fit.npz"): 1,
    (
        "cache",
        "write",
        "model.onnx",
        "--data",
        "x.npy",
        "--group",
        "C4",
        *_MEASURED,
        "-o",
        "c.geed",
    ): 1,
}


def seeds() -> list[onnx.ModelProto]:
    """Return good models, and hostile ones that are small, for what no good one has."""
    made = [
        models.random_cnn(0, (8, 8)),
        models.c4_equivariant(),
        models.dense_scores(),
        models.two_input(),
        models.tokens(),
        models.if_body(),
        models.local_function(),
        models.qdq_int8(),
        models.fp16(),
        models.softmax_output(),
        models.static_batch(),
        models.nhwc_hidden(),
        models.unsorted(),
        models.shape_bypass(),
        models.conv_classifier(),
        models.initializer_as_input(),
        letter_models.token_network(),
        letter_models.point_net(),
        letter_models.volume_network(),
    ]
    names = ("functions[mutual]", "tensors_in_a[sequence]", "sparse_weights", "external[itself]")
    names += ("scan_over_a_scan_of_constants", "endless_loop_on_data", "growing[Expand]")
    names += ("large_range[10000000000]", "data_that_explode[Gather]", "metadata[action_null]")
    for name in names:
        content = hostile_models.CASES[name]()
        made.append(onnx.ModelProto.FromString(content) if isinstance(content, bytes) else content)
    return made


def _data(model: onnx.ModelProto) -> np.ndarray:
    stored = {i.name for i in model.graph.initializer}
    info = next(i for i in model.graph.input if i.name not in stored)
    dims = [d.dim_value or 8 for d in info.type.tensor_type.shape.dim][1:]
    return np.random.default_rng(0).random((6, *dims), dtype=np.float32)


@dataclass
class Found:
    """What a run of the fuzzer met.

    Parameters
    ----------
    runs : int
        Commands that were run.
    faults : Counter of str
        How often each fault was met, numbers and names left out.
    kept : dict of str to bytes
        The first file that showed it.
    ends : Counter of int
        Exit statuses.
    """

    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kept: dict[str, bytes] = field(default_factory=dict)
    ends: Counter[int] = field(default_factory=Counter)


def kind_of(fault: str, command: str) -> str:
    """Return a fault without what differs from file to file."""
    if "traceback" in fault or "internal error" in fault:
        where = re.search(r"internal error, (\w+):.*\((\w+\.py), line (\d+)\)", fault)
        if where:
            return f"{where[1]} {where[2]}:{where[3]}"
    return f"{command}: " + re.sub(r"'[^']*'|\d+", "#", fault)[:90]


def fuzz_models(
    seed: int,
    seconds: float,
    told: Callable[[str], None] = print,
    limit: float = 65.0,
    most: int = sys.maxsize,
) -> Found:
    """Mutate models and run commands on them.

    Parameters
    ----------
    seed : int
        Of the mutations.
    seconds : float
        For how long.
    told : callable
        Is told of each new fault.
    limit : float
        Seconds after which a command is killed.
    most : int
        Runs at most.
    """
    dice, found, until = random.Random(seed), Found(), time.monotonic() + seconds
    good = seeds()
    lines, weights = zip(*COMMANDS.items(), strict=True)
    with Bounded(limit) as bounded:
        while time.monotonic() < until and found.runs < most:
            model = dice.choice(good)
            content = mutated(model, dice)
            line = dice.choices(lines, weights)[0]
            ended = _ended(bounded, model, content, line)
            found.runs += 1
            found.ends[ended.status] += 1
            if fault := ended.fault():
                kind = kind_of(fault, line[0])
                found.faults[kind] += 1
                if kind not in found.kept:
                    found.kept[kind] = content
                    told(f"{' '.join(line[:2])}: {fault.encode('unicode_escape').decode()}")
    return found


def _ended(
    bounded: Bounded, model: onnx.ModelProto, content: bytes, line: tuple[str, ...]
) -> Ended:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(content)
        np.save(Path(folder) / "x.npy", _data(model))
        return bounded.run(line, Path(folder))


def _names(kinds: list[str]) -> Iterator[tuple[str, str]]:
    for kind in kinds:
        yield kind, re.sub(r"\W+", "-", kind).strip("-")[:80]


def main() -> int:
    """Fuzz for so many minutes; status 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["models"])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    chosen = parser.parse_args()
    found = fuzz_models(chosen.seed, 60 * chosen.minutes, lambda text: print(text, flush=True))
    for kind, name in _names(sorted(found.kept)):
        chosen.keep.mkdir(exist_ok=True)
        (chosen.keep / f"{name}.onnx").write_bytes(found.kept[kind])
        print(f"{found.faults[kind]:5} × {kind}")
    print(f"{found.runs} runs, statuses {dict(found.ends)}, {len(found.kept)} kinds of fault")
    return 1 if found.kept else 0


if __name__ == "__main__":
    sys.exit(main())
