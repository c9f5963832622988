"""What is measured of the networks: the group, sets of measures, and the same maps in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Maps = Callable[[torch.nn.Module], Sequence[torch.nn.Module]]

GROUP, ORDER = "C8", 8
LATENTS = ("latent-l2", "latent-cos", "softmax-kl")
_BLOCKS = [f"layer{i + 1}.{k}" for i, n in enumerate((3, 4, 6, 3)) for k in range(n)]


def modules(*paths: str) -> Maps:
    return lambda net: [net.get_submodule(path) for path in paths]


def every_relu(net: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in net.modules() if isinstance(m, torch.nn.ReLU)]


# The three jobs of ResNet-50: "blocks" are the default layers.
RESNET50: Mapping[str, tuple[str, Maps]] = {
    "latents": ("latents + softmax", modules()),
    "blocks": (
        "17 block maps + max pool + latents + softmax",
        modules("relu", "maxpool", *_BLOCKS),
    ),
    "relus": ("all 49 ReLUs + latents + softmax", every_relu),
}


def resnet50_measures(job: str, exported: Path) -> tuple[str, ...]:
    """Return what ``--measure`` is given; nothing for the default layers."""
    # Here, so that a process that only runs PyTorch does not pay for it.
    import onnx

    if job == "blocks":
        return ()
    if job == "latents":
        return LATENTS
    graph = onnx.load(exported, load_external_data=False).graph
    relus = [n.output[0] for n in graph.node if n.op_type == "Relu"]
    return (*(f"channel-cos@{name}" for name in relus), *LATENTS)


def values_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return a result's values by the names that ``eager.geed`` gives them."""
    values, channel = {}, 0
    for record in result["measurements"]:
        key = record["measure"]
        if key == "channel-cos":
            key, channel = f"channel-cos {channel}", channel + 1
        values[key] = record["value"]
        if (m := record["normaliser"]) is not None:
            # Both parts: a mean cosine near zero makes their ratio ill-conditioned.
            values[key] = record["unnormalised"]
            values[f"{key}, 1 + M"] = 1 + m
    return values
