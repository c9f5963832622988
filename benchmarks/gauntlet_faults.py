"""Trials of the gauntlet that an environment which fails puts a run through."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gauntlet_power as power
import onnx
from gauntlet_running import (
    DIGITS,
    FEW,
    GEED,
    MODEL,
    Failed,
    Missing,
    content,
    done,
    environment,
    figures,
    geed,
    hold,
    last_line,
    unfinished,
)

from onnx_geed import GeedError
from onnx_geed.cache import measure_cache, write_cache

PAGE = 4096
RUN = ("--data", DIGITS, "--group", "C4", *FEW)


def full_disk(folder: Path, quick: bool) -> str:
    """Every command that writes, onto disks of every size that is too small."""
    done("measure", MODEL, *RUN, "--out", folder / "given.json")
    (folder / "suite.toml").write_text(
        'groups = ["C4", "flip-h"]\nmeasures = ["latent-l2"]\n[options]\nsamples = 4\n'
        f'[[models]]\nname = "CNN"\npath = {json.dumps(str(MODEL))}\n'
        f'[[data]]\nname = "digits"\npath = {json.dumps(str(DIGITS))}\n'
    )
    # A file system of one's own lies in a namespace, and is seen from inside of it alone.
    words = [sys.executable, __file__, str(folder), "quick" if quick else "full"]
    inside = ["unshare", "-Urm", *words, "disk"]
    trial = f"mkdir -p {folder}/d && mount -t tmpfs -o size=4k none {folder}/d"
    able = subprocess.run(["unshare", "-Urm", "bash", "-c", trial], capture_output=True)
    ways = [[*words, "limit"], *([inside] if able.returncode == 0 else [])]
    ways = ways[-1:] if quick else ways
    told = []
    for way in ways:
        ended = subprocess.run(way, env=environment(), capture_output=True, text=True)
        hold(not ended.returncode, last_line(ended.stderr))
        told.append(last_line(ended.stdout))
    return "; ".join(told)


def commands(given: Path, disk: Path) -> dict[str, tuple[list[object], Path]]:
    """Command lines that write, and what each is to leave."""
    return {
        "measure": (["measure", MODEL, *RUN, "--out", disk / "r.json"], disk / "r.json"),
        "cache": (
            ["cache", MODEL, *RUN, "--cache-mode=stats", "-o", disk / "a.geed"],
            disk / "a.geed",
        ),
        "compile": (["compile", MODEL, "--group", "C4", "-o", disk / "m.onnx"], disk / "m.onnx"),
        "benchmark": (
            ["benchmark", given / "suite.toml", "-o", disk / "results"],
            disk / "results/summary.json",
        ),
        "report": (["report", given / "given.json", "-o", disk / "p.html"], disk / "p.html"),
    }


def told_of(path: Path) -> Any:
    """What was written, in a form that two runs have equal; an error if it is not whole."""
    if path.suffix == ".json":
        return content(path)
    if path.suffix == ".geed":
        return measure_cache(path)["measurements"]
    if path.suffix == ".onnx":
        onnx.checker.check_model(onnx.load(path))
        return path.read_bytes()
    hold(path.read_text(encoding="utf-8").rstrip().endswith("</html>"), f"{path.name} is cut")
    return None


def _on_small_disks(folder: Path, quick: bool, way: str) -> str:
    """Runs inside of the namespace, if there is one; tell what was seen."""
    disk, spare = folder / "d", folder / "spare"
    own = environment(TMPDIR=str(spare))
    tries = refused = 0
    for name, (words, out) in commands(folder, disk).items():
        room = _Room(disk, way)
        with room.of(64 << 20):
            _emptied(disk), _emptied(spare)
            done(*words, env=own)
            wanted, taken = told_of(out), sum(p.stat().st_size for p in disk.rglob("*"))
            largest = max(p.stat().st_size for p in disk.rglob("*"))
        pages = -(-(taken if way == "disk" else largest) // PAGE)
        step = max(1, pages // (1 if quick else 24))
        for size in range(PAGE, PAGE * pages + 1, PAGE * step):
            with room.of(64 << 20):
                _emptied(disk), _emptied(spare)
            with room.of(size) as limit:
                ended = geed(*words, env=own, preexec_fn=limit)
            tries, where = tries + 1, f"{name} with {size} bytes"
            hold("Traceback" not in ended.stderr, f"{where}: {ended.stderr[-300:]}")
            hold(ended.returncode in (0, 2), f"{where}: status {ended.returncode}")
            hold(not unfinished(disk), f"{where}: left {unfinished(disk)}")
            refused += ended.returncode == 2
            lines = [x for x in ended.stderr.splitlines() if x.startswith("onnx-geed: ")]
            hold(len(lines) == (ended.returncode == 2), f"{where}: {lines}")
            for path in disk.rglob("*"):
                if path.suffix in (".json", ".onnx", ".html"):
                    told_of(path)
            with room.of(64 << 20):
                done(*words, env=own)
                hold(told_of(out) == wanted, f"{where}: then with room, something else")
    return f"{tries} tries by {'a small disk' if way == 'disk' else 'a limit'}, {refused} refused"


class _Room:
    """So much room for files: of a file system, or for one file."""

    def __init__(self, disk: Path, way: str) -> None:
        self.way, self.disk = way, disk
        disk.mkdir(exist_ok=True)
        if way == "disk" and not os.path.ismount(disk):
            subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[Callable[[], None] | None]:
        if self.way == "limit":
            yield partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
            return
        words = ["mount", "-o", f"remount,size={size}", str(self.disk)]
        subprocess.run(words, check=True)
        yield None


def _emptied(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def signals(folder: Path, quick: bool) -> str:
    """A signal at moments all over a write of a cache and a measurement."""
    some = ("--samples=60", "--norm-samples=60", "--batch-size=8")
    run = ("--data", DIGITS, "--group", "C8", *some)
    out, cache = folder / "r.json", folder / "a.geed"
    done("measure", MODEL, *run, "--out", folder / "live.json")
    wanted = figures(folder / "live.json")
    seen: dict[str, int] = {}
    for words, made in (
        (("cache", MODEL, *run, "-o", cache), cache),
        (("measure", MODEL, *run, "--out", out), out),
    ):
        started = time.perf_counter()
        done(*words)
        whole = time.perf_counter() - started
        shutil.rmtree(made) if made.is_dir() else made.unlink()
        moments = 4 if quick else max(60, int(20 * whole))
        for k in range(moments):
            number = list(WORDS)[k % len(WORDS)]
            what = _signalled(words, number, 1.1 * whole * k / moments)
            seen[what] = seen.get(what, 0) + 1
            hold(not unfinished(folder), f"left {unfinished(folder)}")
            if out.exists():
                hold(figures(out) == wanted, "the result that is there is another")
                out.unlink()
            if what == "done before" and made == cache:
                hold(measure_cache(cache)["measurements"] == wanted, "the cache is another")
                shutil.rmtree(cache)
        done(*words)
    hold(measure_cache(cache)["measurements"] == wanted, "the resumed cache is another")
    hold(figures(out) == wanted, "the result after all is another")
    return ", ".join(f"{count} {what}" for what, count in sorted(seen.items())) + "; then equal"


def _signalled(words: tuple[object, ...], number: int, delay: float) -> str:
    """Send a signal after some seconds; say how the run ended."""
    run = subprocess.Popen(
        [*GEED, *map(str, words)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(delay)
    run.send_signal(number)
    try:
        _, told = run.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        run.kill()
        raise Failed(
            f"still runs two minutes after {WORDS[number]}, sent at {delay:.2f} s"
        ) from None
    if run.returncode == 0:
        return "done before"
    # Before the first line of ours, Python itself ends, in its own words.
    if "onnx_geed" not in told and run.returncode in (-number, 1):
        return "before the start"
    ended = run.returncode, last_line(told)
    hold(ended == (128 + number, f"onnx-geed: {WORDS[number]}"), f"at {delay:.2f} s: {ended}")
    hold("Traceback" not in told, f"at {delay:.2f} s: {told[-300:]}")
    return "ended by it"


def power_cut(folder: Path, quick: bool) -> str:
    """Every state that a disk may be in if the power goes while a cache is written."""
    if shutil.which("strace") is None:
        raise Missing("strace is needed, to see what is written when")
    cache, count = folder / "a.geed", 12 if quick else 40
    some = {"samples": count, "norm_samples": count + 4, "batch_size": 8}
    # Small maps in many shards: more moments, and less to replay.
    words = ["cache", MODEL, "--data", DIGITS, "--group", "C8", "-o", cache]
    words += [f"--{k.replace('_', '-')}={v}" for k, v in some.items()]
    events = power.recorded([*GEED, *map(str, words)], environment(), cache, folder / "trace")
    wanted = measure_cache(cache)["measurements"]
    seen = {"complete": 0, "resumed": 0, "refused": 0}
    states = power.states(events, 30 if quick else 400)
    for number, state in enumerate(states):
        left = folder / "left.geed"
        shutil.rmtree(left, ignore_errors=True)
        power.put(state, left)
        with contextlib.suppress(GeedError):
            got = measure_cache(left)["measurements"]
            hold(got == wanted, f"state {number} of the disk gives other figures")
            seen["complete"] += 1
            continue
        try:
            write_cache(MODEL, str(DIGITS), "C8", left, **some)
        except GeedError as error:
            hold(str(left) in str(error), f"state {number}: {error}")
            seen["refused"] += 1
            continue
        got = measure_cache(left)["measurements"]
        hold(got == wanted, f"state {number} of the disk resumes to other figures")
        seen["resumed"] += 1
    told = ", ".join(f"{n} {what}" for what, n in seen.items())
    return f"{len(events)} events, {len(states)} different states of the disk: {told}"


if __name__ == "__main__":
    try:
        print(_on_small_disks(Path(sys.argv[1]), sys.argv[2] == "quick", sys.argv[3]))
    except Failed as failure:
        sys.exit(str(failure))
