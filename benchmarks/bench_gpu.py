"""All 49 ReLUs of ResNet-50 on a GPU: inside the graph, against bare inference and PyTorch.

    python benchmarks/bench_throughput.py --work /tmp/bench --quick --only resnet50   # the model
    python benchmarks/bench_gpu.py --work /tmp/bench [--quick] [--provider cpu]

Values of CPU and GPU are compared first. Inputs and logits of bare inference lie on the device
throughout. Bare inference, PyTorch and the graph run one orbit at a time and several; the faster
of bare inference counts. There are more samples than are compared with the next one, so that the
cost of an orbit holds none of that. ``--provider cpu`` runs the same script without a GPU: a test
of the script, no result.
Writes gpu.json in the work folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from bench_throughput import eager, ours
from clock import Claim, Contender, agree, race
from jobs import GROUP, ORDER, every_relu, resnet50_measures
from networks import F32, Network, network, photos
from tables import as_markdown, machine

import onnx_geed


def bare(net: Network, data: F32, provider: str, together: int) -> Callable[[int], None]:
    """Orbits and logits lie on the device; nothing is copied."""
    action = onnx_geed.grid_action(onnx_geed.parse_group(GROUP), *data.shape[-2:])
    names = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
    orbits = [onnx_geed.orbit(action, x) for x in data]
    batches = [
        ort.OrtValue.ortvalue_from_numpy(np.concatenate(orbits[i : i + together]), provider, 0)
        for i in range(0, len(orbits), together)
    ]

    def run(count: int) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(net.onnx, options, providers=[names[provider]])
        if session.get_providers()[0] != names[provider]:
            raise SystemExit(f"ONNX Runtime does not run on {provider} here: nothing was timed")
        binding = session.io_binding()
        logits = session.get_outputs()[0].name
        for batch in batches[: -(-count // together)]:
            binding.bind_ortvalue_input(session.get_inputs()[0].name, batch)
            binding.bind_output(logits, provider)
            session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small counts, one round: a try-out")
    options = parser.parse_args()
    if options.provider == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is to be had here; --provider cpu tries the script out")
    # Else convolutions round their inputs to ten bits, which onnx-geed never lets them do.
    torch.backends.cudnn.allow_tf32 = False
    net, some = network("resnet50", options.work), photos(options.work)
    data = np.tile(some, (5, 1, 1, 1))[:96]
    measures = resnet50_measures("relus", net.onnx)
    provider, together = options.provider, 2 if options.quick else 8

    def inside(title: str, orbits: int) -> Contender:
        run = ours(
            *(net, data, measures),
            provider=provider,
            engine="graph",
            batch_size=orbits * ORDER,
            memory="24GiB",
        )
        return Contender(title, run)

    mine = inside(f"onnx-geed, inside the graph, {together} orbits a run", together)
    single = inside("onnx-geed, inside the graph, one orbit a run", 1)
    outside = Contender(
        "onnx-geed, kernels on the processor",
        ours(net, data, measures, provider=provider, engine="kernels"),
    )
    theirs, theirs_together = (
        Contender(title, eager(net, data, every_relu, together=count, device=provider))
        for title, count in (
            ("PyTorch, eager with hooks", 1),
            (f"PyTorch, eager with hooks, {together} orbits a batch", together),
        )
    )
    limits = [
        Contender("bare, inputs and logits bound", bare(net, data, provider, 1)),
        Contender(f"bare, {together} orbits a run", bare(net, data, provider, together)),
    ]
    reference = Contender("onnx-geed on the processor", ours(net, data, measures, engine="kernels"))
    notes = [
        agree(f"{c.name} and {reference.name}", {x.name: x.run(3) for x in (c, reference)})
        for c in (mine, single, outside, theirs, theirs_together)
    ]
    below, own = tuple(limit.name for limit in limits), (mine.name,)
    claims = [
        Claim(f"{mine.name} / bare", mine.name, below, 1.3),
        *(
            Claim(f"{one.name} / onnx-geed", one.name, own, 5.0, at_most=False)
            for one in (theirs, theirs_together)
        ),
    ]
    counts, rounds = ((2, 4), 1) if options.quick else ((24, 96), 5)
    times = race(
        f"ResNet-50 (random weights), {GROUP}, all 49 ReLUs, {provider}",
        [*limits, mine, single, outside, theirs, theirs_together],
        counts,
        rounds,
        claims,
        [*notes, f"an orbit is {ORDER} images at 224²"],
    )
    about = machine(options.quick)
    if provider == "cuda":
        about["processor"] += f", {torch.cuda.get_device_name(0)}"
    (options.work / "gpu.json").write_text(json.dumps({"about": about, "race": times.as_json()}))
    print(as_markdown(about, [times], []))


if __name__ == "__main__":
    main()
