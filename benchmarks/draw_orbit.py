# /// script
# requires-python = ">=3.11"
# dependencies = ["onnx-geed", "matplotlib"]
# ///
"""Draw docs/orbit.png: the orbit of a digit, a feature map of each element, and the moved map.

python benchmarks/draw_orbit.py docs/orbit.png
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import onnx_geed
from onnx_geed.run import Options, activations, prepare_run as prepare

LAYER = "block1"
SAMPLE = 2


def main(path: str) -> None:
    with as_file(files("onnx_geed.demo")) as folder:
        prepared = prepare(
            folder / "digits_cnn.onnx",
            str(folder / "digits.npz"),
            "C8",
            Options(measures=(f"channel-cos@{LAYER}",)),
        )
    (maps,) = activations(prepared.source, prepared.open([LAYER]), [SAMPLE], 8)
    maps = maps[0]
    action = prepared.plan.measures[0].action
    one = onnx_geed.grid_action(action.group, *action.shape)
    # The channel that answers most, so that there is something to see.
    channel = int(np.argmax(maps[0].std(axis=(1, 2))))
    single = maps[:, channel : channel + 1]
    deviations = onnx_geed.channel_cos(single[None], one)[0]
    images = onnx_geed.orbit(prepared.source.action, prepared.source.sample(SAMPLE))[:, 0]
    moved = np.stack([action.apply(g, maps[0])[channel] for g in range(8)])

    figure, axes = plt.subplots(3, 8, figsize=(9.6, 4.1), layout="constrained")
    rows = (("gx", images, "gray"), ("f(gx)", single[:, 0], "magma"), ("g f(x)", moved, "magma"))
    for row, (label, pictures, colours) in zip(axes, rows, strict=True):
        low, high = min(p.min() for p in pictures), max(p.max() for p in pictures)
        for g, (axis, picture) in enumerate(zip(row, pictures, strict=True)):
            axis.imshow(picture, cmap=colours, vmin=low, vmax=high)
            axis.set_xticks([])
            axis.set_yticks([])
            if g == 0:
                axis.set_ylabel(label, fontsize=11)
    for g in range(8):
        axes[0, g].set_title(f"{action.group.elements[g]}  {45 * g}°", fontsize=10)
        axes[2, g].set_xlabel(f"m = {deviations[g]:.2f}", fontsize=10)
    figure.suptitle(
        f"Channelwise cosine under C8, one channel of {LAYER}: mean m = {deviations.mean():.2f} "
        "(equivariant: −1)",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
