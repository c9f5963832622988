"""onnx-geed against bare inference, against PyTorch with hooks, against tmeasures.

    pip install torch==2.13.0 && pip install -e . -r benchmarks/requirements.txt
    python benchmarks/bench_throughput.py --work /tmp/bench [--quick] [--only resnet50]

Makes and fetches what it needs in the work folder, checks that the contenders compute the same
values, then times them in turn. Within one process, every job is timed whole, from opening the
model to the values, at two sample counts; the line through both tells what an orbit costs from what
a run costs once. `--only whole` is of processes, from the command line to the result file.
Writes throughput.json and throughput.png there; --markdown prints the tables for README.md.
"""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from bench_cache import plain_read, plain_write
from clock import Claim, Contender, Race, agree, race
from eager import Watched, geed
from jobs import GROUP, LATENTS, ORDER, RESNET50, Maps, modules, resnet50_measures, values_of
from networks import F32, Network, mnist, network, photos
from processes import WHOLE, alone, ours as run_of_ours
from tables import as_markdown, as_text, draw, machine

import onnx_geed
from onnx_geed import measure, measure_cache, write_cache
from onnx_geed.cache import cache_info
from onnx_geed.run import cores

BARE = ("bare, one run on all cores", "bare, one run a core")


def ours(
    net: Network, data: F32, measures: Sequence[str], **options: Any
) -> Callable[[int], dict[str, float]]:
    def run(count: int) -> dict[str, float]:
        result = measure(
            net.onnx,
            data[:count],
            GROUP,
            measures=measures,
            samples=count,
            norm_samples=count,
            **({"provider": "cpu"} | options),
        )
        return values_of(result)

    return run


def eager(
    net: Network,
    data: F32,
    maps: Maps,
    *,
    together: int = 1,
    channels_last: bool = False,
    device: str = "cpu",
) -> Callable[[int], dict[str, float]]:
    def make() -> Watched:
        module = net.module()
        if channels_last:
            module = module.to(memory_format=torch.channels_last)
        return Watched(module, maps(module), module.get_submodule(net.classifier))

    samples = torch.from_numpy(data)
    return lambda count: geed(
        make,
        samples[:count],
        order=ORDER,
        together=together,
        channels_last=channels_last,
        device=device,
    )


def bare(net: Network, data: F32, batch: int) -> list[Contender]:
    """Nothing but inference, on orbits that lie ready in memory; logits out."""
    action = onnx_geed.grid_action(onnx_geed.parse_group(GROUP), *data.shape[-2:])
    rows = np.concatenate([onnx_geed.orbit(action, x) for x in data])

    def runner(threads: int, workers: int) -> Callable[[int], object]:
        def run(count: int) -> object:
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 4
            session = ort.InferenceSession(net.onnx, options, providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            starts = range(0, count * ORDER, batch)
            stop = count * ORDER
            with ThreadPoolExecutor(workers) as pool:
                return list(
                    pool.map(
                        lambda i: session.run(None, {name: rows[i : min(i + batch, stop)]}), starts
                    )
                )

        return run

    return [Contender(BARE[0], runner(cores(), 1)), Contender(BARE[1], runner(1, cores()))]


def check(title: str, ours: Contender, theirs: Contender, count: int) -> str:
    return agree(f"{title}, {ours.name}", {c.name: c.run(count) for c in (ours, theirs)})


def resnet50(work: Path, quick: bool) -> Race:
    net, data = network("resnet50", work), photos(work)
    contenders, claims, notes = bare(net, data[:12], ORDER), [], []
    for (job, (case, maps)), limit in zip(RESNET50.items(), (1.05, 1.12, 1.20), strict=True):
        mine = Contender(f"onnx-geed, {case}", ours(net, data, resnet50_measures(job, net.onnx)))
        claims.append(Claim(f"onnx-geed / bare: {case}", mine.name, BARE, limit))
        contenders.append(mine)
        values = {mine.name: mine.run(3)}
        for label, last in (("PyTorch", False), ("PyTorch, channels_last", True)):
            theirs = Contender(f"{label}, {case}", eager(net, data, maps, channels_last=last))
            values[theirs.name] = theirs.run(3)
            text, target = f"{label} / onnx-geed: {case}", 1.5 if last else None
            claims.append(Claim(text, theirs.name, (mine.name,), target, at_most=False))
            contenders.append(theirs)
        notes.append(agree(net.name, values))
    notes.append("batches of one orbit everywhere; 20 photos at 224²")
    counts, rounds = ((2, 3), 1) if quick else ((4, 12), 5)
    return race(f"{net.name}, {GROUP}", contenders, counts, rounds, claims, notes)


def one_network(
    net: Network,
    data: F32,
    measures: Sequence[str],
    maps: Maps,
    *,
    counts: tuple[int, ...],
    rounds: int,
    limit: float | None = None,
    target: float | None = None,
    together: int = 1,
) -> Race:
    mine = Contender("onnx-geed, live", ours(net, data, measures))
    theirs = Contender("PyTorch, eager with hooks", eager(net, data, maps, together=together))
    title = f"{net.name}, {GROUP}, all measures"
    notes = [check(net.name, mine, theirs, min(3 * together, counts[0]))]
    claims = [Claim("onnx-geed / bare", mine.name, BARE, limit)]
    claims.append(Claim("PyTorch / onnx-geed", theirs.name, (mine.name,), target, at_most=False))
    contenders = [*bare(net, data, together * ORDER), mine, theirs]
    return race(title, contenders, counts, rounds, claims, notes)


def lite0(work: Path, quick: bool) -> Race:
    paths = [f"_blocks.{i}" for i in range(16)]
    measures = [f"channel-cos@{path}" for path in paths] + list(LATENTS)
    counts, rounds = ((2, 4), 1) if quick else ((4, 16), 5)
    data = photos(work, lite=True)
    net = network("lite0", work)
    return one_network(net, data, measures, modules(*paths), counts=counts, rounds=rounds)


def levit(work: Path, quick: bool) -> Race:
    maps = modules("stem.act1", "stem.act2", "stem.act3", "stem")
    counts, rounds = ((2, 4), 1) if quick else ((4, 16), 5)
    net = network("levit", work)
    return one_network(net, photos(work), (), maps, counts=counts, rounds=rounds)


def digits(work: Path, quick: bool) -> Race:
    counts, rounds = ((50, 150), 1) if quick else ((250, 1000), 5)
    net, data = network("digits", work), mnist(work, counts[-1])
    return one_network(
        net,
        data,
        (),
        lambda module: list(module.blocks),
        counts=counts,
        rounds=rounds,
        limit=1.4,
        target=2.5,
        together=8,
    )


def tmeasures(work: Path, quick: bool) -> Race:
    """The job that both can do: do the feature maps turn as the image does?"""
    from other_measures import same_equivariance

    counts, rounds = ((20, 40), 1) if quick else ((100, 400), 5)
    net, data = network("digits", work), mnist(work, counts[-1])
    mine = Contender("onnx-geed, channel-cos of 5 maps", ours(net, data, ("channel-cos",)))
    theirs = Contender("tmeasures, same-equivariance of 5 maps", same_equivariance(net, data))
    claim = Claim("tmeasures / onnx-geed", theirs.name, (mine.name,), 3.0, at_most=False)
    note = (
        "both run every digit's eight rotations and hold the turned feature maps of five layers "
        "against each other. tmeasures turns each map back and gives, per pixel and channel, the "
        "standard deviation over the rotations, averaged over digits; onnx-geed gives the mean "
        "cosine per channel with the turned map of the upright digit, with an interval, per "
        "element and sample. Not the same number, so that no values are compared"
    )
    return race(
        f"{net.name}, {GROUP}, comparable job", [mine, theirs], counts, rounds, [claim], [note]
    )


def cache(work: Path, quick: bool) -> Race:
    net, data = network("resnet50", work), photos(work)
    count, rounds = (2, 1) if quick else (8, 5)
    folder, options = work / "cache", {"norm_samples": count, "samples": count, "provider": "cpu"}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    acts = folder / "acts.geed"

    def write(_: int) -> None:
        shutil.rmtree(acts, ignore_errors=True)
        write_cache(net.onnx, data[:count], GROUP, acts, **options)

    write(count)
    size = cache_info(acts)["bytes"]
    live = measure(net.onnx, data[:count], GROUP, **options)["measurements"]
    if measure_cache(acts)["measurements"] != live:
        raise SystemExit("the cache does not measure as the live run does: nothing was timed")
    contenders = [
        Contender("onnx-geed, live", lambda _: measure(net.onnx, data[:count], GROUP, **options)),
        Contender("onnx-geed, cache write", write),
        Contender("plain write + fsync of as many bytes", lambda _: plain_write(folder, size)),
        Contender("onnx-geed, offline measure", lambda _: measure_cache(acts)),
        Contender("plain h5py read of the same arrays", lambda _: plain_read(acts)),
    ]
    names = [c.name for c in contenders]
    claims = [
        Claim("plain write / cache write", names[2], (names[1],), 0.7, at_most=False),
        Claim("offline measure / plain read", names[3], (names[4],), 1.3),
        Claim("cache write / live measure", names[1], (names[0],), None),
    ]
    notes = [
        f"{size / 2**20:.0f} MiB raw float32; the cache measures bit for bit as the live run does",
        "where cache write / live measure is near 1, writing waits for inference, not for the disk",
    ]
    times = race(
        f"{net.name}, {GROUP}, cache of {count} orbits", contenders, (count,), rounds, claims, notes
    )
    shutil.rmtree(folder)
    return times


def memory(work: Path, quick: bool) -> dict[str, Any]:
    """Peak resident memory of whole runs, each in a process of its own."""
    few, many = (50, 200) if quick else (50, 1000)
    net, path = network("digits", work), work / "digits.npy"
    np.save(path, mnist(work, many))
    command = run_of_ours(net.onnx, path, work / "digits.json")
    peaks = {count: alone(command(count)).mebibytes for count in (few, many)}
    return {
        "title": f"{net.name}, {GROUP}, all measures: peak memory",
        "mebibytes": {str(n): size for n, size in peaks.items()},
        "ratio": peaks[many] / peaks[few],
        "target": "≤ 1.1",
        "met": peaks[many] / peaks[few] <= 1.1,
    }


RACES: dict[str, Callable[[Path, bool], Race]] = {
    "resnet50": resnet50,
    "cache": cache,
    "lite0": lite0,
    "levit": levit,
    "digits": digits,
    "tmeasures": tmeasures,
    **WHOLE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--quick", action="store_true", help="small counts, one round: a try-out")
    parser.add_argument(
        "--only",
        choices=["whole", "whole-resnet50", "whole-light", *RACES, "memory"],
        action="append",
        metavar="NAME",
        help="one of %(choices)s; the first three are families; repeatable",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables for README.md")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    # As an installer does: of a package that is installed as it lies, and where Python is told to
    # write no bytecode, every process would compile all modules.
    compileall.compile_dir(Path(onnx_geed.__file__).parent, quiet=1)
    about = machine(options.quick)
    torch.set_num_threads(cores())
    names = options.only or [*RACES, "memory"]
    chosen = [r for r in RACES if any(r == name or r.startswith(f"{name}-") for name in names)]
    races = [RACES[name](options.work, options.quick) for name in chosen]
    peaks = [memory(options.work, options.quick)] if "memory" in names else []
    content = {"about": about, "races": [r.as_json() for r in races], "memory": peaks}
    (options.work / "throughput.json").write_text(json.dumps(content, indent=1) + "\n")
    if races:
        draw(races, options.work / "throughput.png")
    print((as_markdown if options.markdown else as_text)(about, races, peaks))


if __name__ == "__main__":
    main()
