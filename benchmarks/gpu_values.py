"""Values of a GPU against those of the processor, on ten architectures and two engines.

    python benchmarks/gpu_values.py --work /tmp/bench [--provider cpu] [NAME...]

Every network of torchvision that is named is made with random weights, exported, and measured with
its default measures: on the processor by the kernels, and on the device by the graph and by the
kernels. ``--provider cpu`` runs the same script without a GPU. Ends with 1 where a value is off by
more than 1e-4.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import ROOT, photos
from torch import nn

from onnx_geed import measure

NAMES = (
    "resnet18",
    "squeezenet1_1",
    "mobilenet_v3_small",
    "densenet121",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
)
GROUPS = ("C8", "D4", "zoom:0.8..1.25/4", "brightness:-0.2..0.2/4")
LIMIT = 1e-4


def net(name: str, work: Path) -> nn.Module:
    """Return a network with random weights, whose statistics are those of the photos."""
    from _torch_modules import import_torchvision

    torch.manual_seed(0)
    made = import_torchvision().models.get_model(name, weights=None)
    norms = [m for m in made.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    if norms:
        made.train()
        with torch.no_grad():
            made(torch.from_numpy(photos(work)))
    return made.eval()


def exported(name: str, work: Path) -> Path:
    """Return the ONNX file of a network, made by the converter that users have."""
    path, checkpoint = work / f"{name}.onnx", work / f"{name}.pth"
    if not path.is_file():
        torch.save(net(name, work).state_dict(), checkpoint)
        script = work / f"{name}_net.py"
        script.write_text(
            "from _torch_modules import import_torchvision\n\n\ndef made():\n"
            f"    return import_torchvision().models.get_model({name!r}, weights=None)\n"
        )
        command = [sys.executable, ROOT / "converters" / "from_torch.py", f"{script}:made"]
        command += ["--checkpoint", checkpoint, "--input-shape", "3,224,224", "-o", path]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return path


def parts(result: dict[str, Any]) -> dict[str, float]:
    """Return both parts of each value: a mean cosine near 0 makes their ratio ill-conditioned."""
    found = {}
    for record in result["measurements"]:
        key = f"{record['measure']}@{record['layer']}"
        found[key] = record["value"]
        if (m := record["normaliser"]) is not None:
            found[key] = record["unnormalised"]
            found[f"{key}, 1 + M"] = 1 + m
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for models")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    options = parser.parse_args()
    data, worst = photos(options.work)[:6], 0.0
    print("| network | group | engine | measures | largest difference, of the value's size | s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.names:
        path = exported(name, options.work)
        for group in GROUPS:
            keep = {"samples": 4, "norm_samples": 6}
            of_cpu = parts(measure(path, data, group, provider="cpu", engine="kernels", **keep))
            for engine in ("auto" if group.startswith("brightness") else "graph", "kernels"):
                started = time.perf_counter()
                here = {"provider": options.provider, "engine": engine}
                try:
                    of_device = parts(measure(path, data, group, **here, **keep))
                except Exception as error:
                    print(f"| {name} | {group} | {engine} | | failed: {error} | |", flush=True)
                    worst = max(worst, np.inf)
                    continue
                took = time.perf_counter() - started
                apart = {k: abs(of_device[k] - v) / max(1, abs(v)) for k, v in of_cpu.items()}
                at = max(apart, key=apart.__getitem__)
                worst = max(worst, apart[at])
                cells = name, group, engine, len(apart), f"{apart[at]:.1e} ({at})", f"{took:.1f}"
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"largest: {worst:.1e}, allowed {LIMIT:g}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
