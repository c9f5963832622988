"""Training that is interrupted and goes on: state after every so many iterations, as ONNX too."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CONVERTERS = Path(__file__).resolve().parents[2] / "converters"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under another name first, so that it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        write(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write an .npz."""

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    write_whole(path, write)


def export(net: nn.Module, out: Path, shape: tuple[int, ...], *options: str) -> None:
    """Turn a network into an ONNX file with the repository's own converters."""
    sys.path.insert(0, str(CONVERTERS))
    import from_escnn
    import from_torch

    steerable = any(type(m).__module__.startswith("escnn.") for m in net.modules())
    converter = from_escnn if steerable else from_torch
    # MODULE:CALLABLE, which is how a converter is told of a network.
    Made.net = net
    arguments = [
        f"{__name__}:Made.take",
        "-o",
        str(out),
        "--input-shape",
        ",".join(map(str, shape)),
        *(() if steerable else ("--exporter", "torchscript")),
        *options,
    ]
    stdout, notes = io.StringIO(), io.StringIO()
    mode = net.training
    # A converter seeds torch's generator, of which a training's dropout must not know.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(notes),
        torch.random.fork_rng(devices=()),
    ):
        warnings.simplefilter("ignore")
        converter.convert(converter.arguments().parse_args(arguments))
    # That no checkpoint was given is so by intention: the network is trained already.
    told = [n for n in notes.getvalue().splitlines() if not n.startswith("note: no --checkpoint")]
    if told:
        print(*told, sep="\n", file=sys.stderr)
    net.train(mode)


class Made:
    """Hands a live network to a converter; it gets a copy, since it changes what it is given."""

    net: nn.Module

    @staticmethod
    def take() -> nn.Module:
        import copy

        return copy.deepcopy(Made.net)


def train(
    folder: Path,
    name: str,
    net: nn.Module,
    step: Callable[[int, torch.Generator], Tensor],
    *,
    iterations: int,
    every: int,
    rate: float,
    seed: int,
    shape: tuple[int, ...],
    exported: nn.Module | None = None,
    options: tuple[str, ...] = (),
    decay: float = 1e-5,
    note: Callable[[nn.Module, int], dict[str, float]] | None = None,
) -> None:
    """Train with Adam on a cosine schedule; go on where an earlier run stopped.

    ``folder/name/step<i>.onnx`` are the checkpoints, ``state.pt`` the last state (deleted at the
    end), ``log.json`` what was seen at each.
    """
    place = folder / name
    state, log = place / "state.pt", place / "log.json"
    kept = json.loads(log.read_text()) if log.is_file() else {}
    if str(iterations) in kept and (place / f"step{iterations}.onnx").is_file():
        state.unlink(missing_ok=True)
        return
    optimiser = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    generator = torch.Generator().manual_seed(seed)
    first, resumed = 0, None
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        net.load_state_dict(saved["net"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        generator.set_state(saved["generator"])
        torch.set_rng_state(saved["global"])
        first = resumed = saved["step"]
        print(f"{place}: goes on at {first}", flush=True)
    start = time.perf_counter()
    total, seen = 0.0, 0
    for i in range(first, iterations + 1):
        # Written anew too where a run was killed between its checkpoint and its state: what counts
        # is the state, and a state always has its checkpoint.
        if i % every == 0 and i != resumed:
            export(exported or net, with_folder(place / f"step{i}.onnx"), shape, *options)
            kept[str(i)] = {
                "loss": total / seen if seen else None,
                **(note(net, i) if note else {}),
            }
            write_whole(log, lambda p: p.write_text(json.dumps(kept, indent=1) + "\n"))
            content = {
                "net": net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "generator": generator.get_state(),
                "global": torch.get_rng_state(),
                "step": i,
            }
            write_whole(state, lambda p, content=content: torch.save(content, p))
            seconds = time.perf_counter() - start
            print(f"{place}: {i}: {kept[str(i)]}, {seconds:.0f} s", flush=True)
            total, seen = 0.0, 0
        if i == iterations:
            break
        net.train()
        value = step(i, generator)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        total, seen = total + value.item(), seen + 1
    state.unlink(missing_ok=True)


def with_folder(path: Path) -> Path:
    """Return the path, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
