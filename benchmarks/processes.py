"""Whole processes in turn: what a user pays for a run, start of the interpreter included.

Contenders are command lines. Each is started by ``run_alone.py``, which tells what it took and its
peak memory; ours is `onnx-geed measure` as typed, bare inference and PyTorch are ``run_bare.py``
and ``run_hooked.py``. Nothing is shared between them but files that lie ready.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from clock import Claim, Contender, Process, Race, agree, race
from jobs import GROUP, ORDER, RESNET50, resnet50_measures, values_of
from networks import F32, jpegs, mnist, network, photos, varied

import onnx_geed

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
BARE, OURS = "bare process", "onnx-geed measure"
# What EfficientNet-Lite0 is fed: (pixel - 127) / 128.
_LITE_SCALE = f"mean={127 / 255} std={128 / 255}"

Command = Callable[[int], list[str]]


def alone(command: Sequence[str]) -> Process:
    """Time and memory of a command, as its starter tells them."""
    words = [PYTHON, "-S", str(HERE / "run_alone.py"), *command]
    seconds, mebibytes = map(float, output(words).split())
    return Process(seconds, mebibytes)


def process(name: str, command: Command) -> Contender:
    return Contender(name, lambda count: alone(command(count)))


def output(command: Sequence[str]) -> str:
    """What a command prints; its errors end this script."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def ours(model: Path, data: Path, out: Path, *options: str) -> Command:
    def command(count: int) -> list[str]:
        words = [PYTHON, "-m", "onnx_geed", "measure", str(model), "--data", str(data)]
        words += ["--group", GROUP, "--samples", str(count), "--norm-samples", str(count)]
        return [*words, "--out", str(out), *options]

    return command


def bare(model: Path, rows: Path, batch: int = ORDER) -> Command:
    program = str(HERE / "run_bare.py")
    return lambda count: [PYTHON, program, str(model), str(rows), str(count * ORDER), str(batch)]


def ready(work: Path, name: str, make: Callable[[], F32]) -> tuple[Path, Path]:
    """Files of samples and of the rows of their orbits, made if they are not there."""
    folder = work / "whole"
    samples, rows = folder / f"{name}.npy", folder / f"{name}_rows.npy"
    if not rows.is_file():
        folder.mkdir(exist_ok=True)
        data = make()
        action = onnx_geed.grid_action(onnx_geed.parse_group(GROUP), *data.shape[-2:])
        np.save(samples, data)
        np.save(rows, np.concatenate([onnx_geed.orbit(action, x) for x in data]))
    return samples, rows


def resnet50(work: Path, quick: bool, job: str, limit: float | None, memory: float | None) -> Race:
    net, folder = network("resnet50", work), work / "whole"
    count, rounds = (3, 1) if quick else (24, 5)
    samples, rows = ready(work, "photos24", lambda: varied(photos(work), 24))
    three = folder / "three.npy"
    np.save(three, np.load(samples)[:3])
    title, _ = RESNET50[job]
    layouts = {"PyTorch": (), "PyTorch, channels_last": ("channels_last",)}
    out = folder / "resnet50.json"
    options = [w for m in resnet50_measures(job, net.onnx) for w in ("--measure", m)]

    def mine(data: Path) -> Command:
        return ours(net.onnx, data, out, *options)

    def theirs(data: Path, *layout: str) -> Command:
        words = [PYTHON, str(HERE / "run_hooked.py"), str(net.checkpoint), str(data)]
        return lambda n: [*words, str(n), job, *layout]

    # All of a file, since ours draws samples where there are more.
    output(mine(three)(3))
    values = {OURS: values_of(json.loads(out.read_text()))}
    values |= {n: json.loads(output(theirs(three, *w)(3))) for n, w in layouts.items()}
    contenders = [process(BARE, bare(net.onnx, rows)), process(OURS, mine(samples))]
    contenders += [process(n, theirs(samples, *w)) for n, w in layouts.items()]
    claims = [
        Claim("onnx-geed / bare", OURS, (BARE,), limit),
        Claim("peak memory, onnx-geed / bare", OURS, (BARE,), memory, memory=True),
    ]
    for name, target in zip(layouts, (None, 1.5), strict=True):
        claims.append(Claim(f"{name} / onnx-geed", name, (OURS,), target, at_most=False))
    notes = [agree(net.name, values), f"{count} photos at 224², {count} points for M"]
    heading = f"whole processes, {net.name}, {GROUP}, {title}"
    return race(heading, contenders, (count,), rounds, claims, notes, warm=2)


def light(work: Path, quick: bool, name: str, count: int) -> Race:
    """One of the light models of the onnx wheel: their files fix a batch of one."""
    folder = work / "whole"
    count, rounds = (2, 1) if quick else (count, 3)
    # Bare inference takes the rows of 24 samples again where it needs more.
    _, rows = ready(work, "photos24", lambda: varied(photos(work), 24))
    samples = folder / "photos100.npy"
    if not samples.is_file():
        np.save(samples, varied(photos(work), 100))
    model = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    mine = ours(model, samples, folder / f"{name}.json")
    contenders = [process(BARE, bare(model, rows)), process(OURS, mine)]
    claims = [
        Claim("onnx-geed / bare", OURS, (BARE,), 1.15),
        Claim("peak memory, onnx-geed / bare", OURS, (BARE,), None, memory=True),
    ]
    heading = f"whole processes, light {name} of the onnx wheel, {GROUP}, {count} photos"
    return race(heading, contenders, (count,), rounds, claims, warm=2)


def folder_of_photos(work: Path, quick: bool) -> Race:
    """JPEGs that are decoded, resized and cropped, against the same pixels in an array."""
    net, folder = network("lite0", work), work / "whole"
    count, rounds = (20, 1) if quick else (500, 3)
    files = jpegs(work, 500)
    steps = "resize=256 crop=224"
    array = folder / "jpegs.npy"
    if not array.is_file():
        folder.mkdir(exist_ok=True)
        samples = onnx_geed.open_samples(
            files,
            input_shape=(3, 224, 224),
            input_layout="NCHW",
            preprocess=onnx_geed.parse_preprocess(steps),
        )
        np.save(array, np.stack([samples[i] for i in range(len(samples))]))
    read, lie = (
        "onnx-geed measure, JPEGs of 500×375",
        "onnx-geed measure, array that lies ready",
    )
    outs = [folder / "jpegs.json", folder / "array.json"]
    from_files = ours(net.onnx, files, outs[0], "--preprocess", f"{steps} {_LITE_SCALE}")
    from_array = ours(net.onnx, array, outs[1], "--preprocess", _LITE_SCALE)
    for command in (from_files, from_array):
        output(command(10))
    values = [values_of(json.loads(path.read_text())) for path in outs]
    notes = [agree(net.name, dict(zip((read, lie), values, strict=True)), 0)]
    claims = [
        Claim("folder of photos / array", read, (lie,), 1.10),
        Claim("peak memory, folder of photos / array", read, (lie,), None, memory=True),
    ]
    contenders = [process(lie, from_array), process(read, from_files)]
    heading = f"whole processes, {net.name}, {GROUP}, {count} photos"
    return race(heading, contenders, (count,), rounds, claims, notes, warm=4)


def pairs(work: Path, quick: bool) -> Race:
    """What comparing each sample with the next one costs a whole run."""
    net, folder = network("resnet50", work), work / "whole"
    count, rounds = (3, 1) if quick else (24, 7)
    samples, _ = ready(work, "photos24", lambda: varied(photos(work), 24))
    options = [w for m in resnet50_measures("blocks", net.onnx) for w in ("--measure", m)]

    def mine(how: str) -> Command:
        as_typed = ours(net.onnx, samples, folder / f"{how}.json", *options)
        return lambda n: [PYTHON, str(HERE / "run_unpaired.py"), how, *as_typed(n)[3:]]

    contenders = [process("without between_samples", mine("unpaired"))]
    contenders.append(process("with between_samples", mine("paired")))
    for how in ("unpaired", "paired"):
        output(mine(how)(3))
    texts = [json.loads((folder / f"{how}.json").read_text()) for how in ("unpaired", "paired")]
    values = [values_of(text) for text in texts]
    names = [contender.name for contender in contenders]
    notes = [agree(net.name, dict(zip(names, values, strict=True)), 0)]
    claims = [Claim("with / without", names[1], (names[0],), 1.02)]
    heading = f"whole processes, between_samples, {net.name}, {GROUP}, block maps, {count} photos"
    return race(heading, contenders, (count,), rounds, claims, notes, warm=2)


def digits(work: Path, quick: bool) -> Race:
    net, folder = network("digits", work), work / "whole"
    count, rounds = (100, 1) if quick else (1000, 5)
    samples, rows = ready(work, f"digits{count}", lambda: mnist(work, count))
    mine = ours(net.onnx, samples, folder / "digits_result.json")
    # The batch of the race in one process.
    contenders = [process(BARE, bare(net.onnx, rows, 8 * ORDER)), process(OURS, mine)]
    claims = [
        Claim("onnx-geed / bare", OURS, (BARE,), None),
        Claim("peak memory, onnx-geed / bare", OURS, (BARE,), None, memory=True),
    ]
    heading = f"whole processes, {net.name}, {GROUP}, all measures, {count} digits"
    return race(heading, contenders, (count,), rounds, claims, warm=50)


# Samples for which bare inference took about five seconds on two cores.
_LIGHT = {
    "bvlc_alexnet": 28,
    "densenet121": 10,
    "inception_v1": 20,
    "inception_v2": 24,
    "resnet50": 14,
    "shufflenet": 100,
    "squeezenet": 100,
    "vgg19": 4,
    "zfnet512": 14,
}

WHOLE: dict[str, Callable[[Path, bool], Race]] = {
    "whole-resnet50-blocks": partial(resnet50, job="blocks", limit=1.15, memory=1.5),
    "whole-resnet50-relus": partial(resnet50, job="relus", limit=1.25, memory=None),
    "whole-resnet50-latents": partial(resnet50, job="latents", limit=None, memory=None),
    **{
        f"whole-light-{name}": partial(light, name=name, count=count)
        for name, count in _LIGHT.items()
    },
    "whole-photos": folder_of_photos,
    "whole-digits": digits,
    "whole-pairs": pairs,
}
