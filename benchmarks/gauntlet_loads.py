"""Trials of the gauntlet that a long, a deep or a broken-off run goes through."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gauntlet_running import (
    DIGITS,
    FEW,
    GEED,
    MODEL,
    Missing,
    content,
    done,
    environment,
    figures,
    hold,
    last_line,
    unfinished,
)
from onnx import TensorProto, helper, numpy_helper

MIB = 1 << 20

# In a process: its own memory when so many samples are done; what a sample adds to the numbers that
# a result is made of (deviations, those under exact elements, shares of zero pairs where there are
# any, predicted classes; 8 bytes each); and the peak, when the result is there.
SOAK = """
import json, re, resource, sys
from onnx_geed import measure
model, data, count, marks = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
resident, order = [], 8
def progress(done, total):
    while len(resident) < len(marks) and done >= order * marks[len(resident)]:
        status = open("/proc/self/status").read()
        resident.append(1024 * int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]))
result = measure(model, data, "C8", samples=count, progress=progress)
numbers = sum(
    order * (1 + (record["zero_pairs"] > 0) + (record.get("predictions") is not None))
    + (len(record["exact"]["elements"]) if record["exact"] else 0)
    for record in result["measurements"]
)
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([resident, 8 * numbers, peak]))
"""


def soak(folder: Path, quick: bool) -> str:
    """Many samples in one run."""
    if not Path("/proc/self/status").is_file():
        raise Missing("tells memory on Linux only")
    count, first = (6_000, 2_000) if quick else (100_000, 5_000)
    side = [d.dim_value for d in onnx.load(MODEL).graph.input[0].type.tensor_type.shape.dim][1:]
    data = np.random.default_rng(0).integers(0, 256, (count, *side), dtype=np.uint8)
    np.save(folder / "data.npy", data)
    del data
    marks = np.linspace(first, count, 6).astype(int).tolist()
    words = [sys.executable, "-c", SOAK, MODEL, folder / "data.npy", count, json.dumps(marks)]
    run = subprocess.run(
        list(map(str, words)), env=environment(), capture_output=True, text=True, check=False
    )
    hold(not run.returncode, last_line(run.stderr))
    resident, own, peak = json.loads(run.stdout)
    grown = [r - own * m for r, m in zip(resident, marks, strict=True)]
    # What is let go of and taken anew in between goes up and down; what leaks is there at the end.
    beyond = (grown[-1] - grown[0]) / resident[0]
    told = (
        f"{resident[0] / MIB:.0f} MiB at {marks[0]:,} samples, {resident[-1] / MIB:.0f} at "
        f"{marks[-1]:,}, {own * (marks[-1] - marks[0]) / MIB:.0f} of it numbers of the result "
        f"({own} bytes a sample), {100 * beyond:+.1f} % all else; {peak / MIB:.0f} MiB when the "
        "result is Python's lists"
    )
    hold(beyond < 0.02, told)
    return told


def deep(path: Path, depth: int) -> None:
    """A graph of so many convolutions in a row, each output a factorisation point."""
    random_ = np.random.default_rng(0)
    nodes, weights = [], []
    for i in range(depth):
        kernel = 0.4 * random_.standard_normal((2, 2 if i else 1, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        names = [f"t{i - 1}" if i else "image", f"w{i}"]
        nodes.append(helper.make_node("Conv", names, [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Tanh", [f"c{i}"], [f"t{i}"]))
    last = random_.standard_normal((2 * 36, 5)).astype(np.float32)
    weights.append(numpy_helper.from_array(last, "last"))
    nodes += [
        helper.make_node("Flatten", [f"t{depth - 1}"], ["flat"]),
        helper.make_node("MatMul", ["flat", "last"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 6, 6])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "deep", [image], [scores], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def layers(folder: Path, quick: bool) -> str:
    """Thousands of tensors: measured, cached, shown."""
    depth = 200 if quick else 2_000
    deep(folder / "deep.onnx", depth)
    data = np.random.default_rng(1).random((4, 1, 6, 6), dtype=np.float32)
    np.save(folder / "data.npy", data)
    model, out, cache = folder / "deep.onnx", folder / "live.json", folder / "a.geed"
    run = ("--data", folder / "data.npy", "--group", "C4", "--samples=4", "--norm-samples=4")
    seconds = {}
    for name, words in {
        "measured": ("measure", model, *run, "--out", out),
        "cached": ("cache", model, *run, "-o", cache),
        "read": ("measure", cache, "--out", folder / "read.json"),
        "shown": ("report", out, "-o", folder / "page.html"),
    }.items():
        started = time.perf_counter()
        done(*words)
        seconds[name] = time.perf_counter() - started
    measured = figures(out)
    maps = [r for r in measured if r["measure"] == "channel-cos"]
    hold(len(maps) >= depth, f"{len(maps)} of {depth} tensors were measured")
    hold(figures(folder / "read.json") == measured, "the cache gives other figures")
    size = (folder / "page.html").stat().st_size
    took = ", ".join(f"{name} in {s:.0f} s" for name, s in seconds.items())
    return f"{len(measured):,} figures of {depth:,} layers {took}; page of {size / MIB:.1f} MiB"


def order_360(folder: Path, quick: bool) -> str:
    """A group of 360 elements."""
    some = ("--data", DIGITS, *(("--samples=2", "--norm-samples=8") if quick else ()))
    for group in ("C360", "C4"):
        done("measure", MODEL, *some, "--group", group, "--out", folder / f"{group}.json")
    worst = 0.0
    for record, other in zip(
        figures(folder / "C360.json"), figures(folder / "C4.json"), strict=True
    ):
        where = f"{record['measure']}@{record['layer']}"
        hold(len(record["per_element"]) == 360, f"{where}: {len(record['per_element'])} elements")
        whole = np.array(record["deviations"])
        hold(whole.shape == (record["samples"], 360), f"{where}: shape {whole.shape}")
        got = np.array(record["exact"]["deviations"])
        worst = max(worst, float(np.abs(got - np.array(other["deviations"])).max()))
    hold(worst < 1e-4, f"quarter turns inside C360 are {worst:.2g} from those of C4")
    return f"360 elements; quarter turns within {worst:.1g} of C4's"


def killed_suite(folder: Path, quick: bool) -> str:
    """A suite that is killed again and again."""
    seeds, kills = (12, 3) if quick else (200, 20)
    for seed in range(seeds):
        network = onnx.load(MODEL)
        for weight in network.graph.initializer:
            if weight.data_type == TensorProto.FLOAT and len(weight.dims) > 1:
                noise = np.random.default_rng(seed).standard_normal(tuple(weight.dims)) / 50
                changed = numpy_helper.to_array(weight) + noise.astype(np.float32)
                weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
        onnx.save(network, folder / f"cnn{seed}.onnx")
    suite = folder / "suite.toml"
    suite.write_text(
        'groups = ["C4"]\nmeasures = ["latent-l2", "softmax-kl"]\n'
        "[options]\nsamples = 4\nnorm_samples = 8\n"
        f'[[models]]\nname = "CNN"\npath = "cnn{{seed}}.onnx"\n'
        f'[[data]]\nname = "digits"\npath = {json.dumps(str(DIGITS))}\n'
    )
    command = ["benchmark", str(suite), "-o"]
    started = time.perf_counter()
    done(*command, folder / "unbroken")
    unbroken = time.perf_counter() - started
    broken, chance, found = folder / "broken", random.Random(0), []
    for _ in range(kills):
        cells = sorted((broken / "cells").glob("*.json"))
        if len(cells) > seeds - 2:
            for path in chance.sample(cells, seeds // 2):
                path.unlink()
        run = subprocess.Popen(
            [*GEED, *command, str(broken)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # After some cells, and not seconds: machines differ. Every fourth time while it starts.
        before, more = len(list((broken / "cells").glob("*.json"))), chance.randint(0, 2)
        early = not chance.randint(0, 3)
        while not early and run.poll() is None:
            if len(list((broken / "cells").glob("*.json"))) >= before + more:
                break
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2 * unbroken / seeds))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        cells = sorted((broken / "cells").glob("*.json"))
        found.append(len(cells))
        for path in cells:
            content(path)  # each that bears its name is whole
    done(*command, broken)
    for path in sorted((folder / "unbroken/cells").iterdir()):
        hold(content(broken / "cells" / path.name) == content(path), f"{path.name} differs")
    whole, joined = (content(folder / f / "summary.json") for f in ("unbroken", "broken"))
    hold(whole == joined, "the summaries differ")
    told = ", ".join(map(str, found))
    return f"killed {kills} times, with {told} cells there; {seeds} cells and summary equal"


def first_runs(folder: Path, quick: bool) -> str:
    """Several processes that compile at the same time into the same empty place."""
    home = folder / "home"
    home.mkdir()
    own = environment(HOME=str(home), NUMBA_CACHE_DIR=str(folder / "kernels"))
    few = ("--measure=latent-l2",) if quick else ()
    words = ["measure", MODEL, "--data", DIGITS, "--group", "C8", *FEW, *few, "--out"]
    outs = [folder / f"{k}.json" for k in range(4)]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen([*GEED, *map(str, (*words, out))], env=own, **pipes) for out in outs]
    for run in runs:
        _, told = run.communicate()
        hold(not run.returncode, f"status {run.returncode}: {last_line(told)}")
    first = figures(outs[0])
    hold(all(figures(out) == first for out in outs), "they give different figures")
    again = done(*words, folder / "after.json", env=own)
    hold("compil" not in again.stderr, f"the next run compiles again: {last_line(again.stderr)}")
    hold(figures(folder / "after.json") == first, "the next run gives other figures")
    kept = [p for p in (folder / "kernels").rglob("*") if p.is_file()]
    return (
        f"4 runs, {len(first)} figures each, equal; {len(kept)} files of machine code, read again"
    )


def two_writers(folder: Path, quick: bool) -> str:
    """Two processes that write one cache."""
    samples = 40 if quick else 400
    run = ("--data", DIGITS, "--group", "C8", f"--samples={samples}", "--norm-samples=40")
    run = (*run, "--batch-size=8")
    done("measure", MODEL, *run, "--out", folder / "live.json")
    refused = rounds = 0
    for rounds in range(1, 3 if quick else 9):
        cache = folder / "a.geed"
        shutil.rmtree(cache, ignore_errors=True)
        statuses = _side_by_side([*GEED, *map(str, ("cache", MODEL, *run, "-o", cache))], rounds)
        for status, told in statuses:
            known = status == 0 or (status == 2 and "another process is writing" in told)
            hold(known, f"status {status}: {told}")
        hold(min(status for status, _ in statuses) == 0, "both were refused")
        refused += sum(status == 2 for status, _ in statuses)
        hold(not unfinished(cache), f"left {unfinished(cache)}")
        done("measure", cache, "--out", folder / "read.json")
        hold(figures(folder / "read.json") == figures(folder / "live.json"), "figures differ")
    return f"{rounds} times two at once: {refused} refused, the cache right every time"


def _side_by_side(command: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """Start a command twice, a little apart; statuses and last lines."""
    runs = []
    for _ in range(2):
        runs.append(
            subprocess.Popen(
                command,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        time.sleep(0.05 * (rounds - 1))
    ended = []
    for run in runs:
        _, told = run.communicate()
        ended.append((run.returncode, last_line(told)))
    return ended
