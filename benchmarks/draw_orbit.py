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
import onnx
import onnxruntime

import onnx_geed

LAYER = "block1"
SAMPLE = 2


def main(path: str) -> None:
    group = onnx_geed.parse_group("C8")
    with as_file(files("onnx_geed.demo")) as folder:
        network = onnx.load(folder / "digits_cnn.onnx")
        measured = onnx_geed.measure(
            folder / "digits_cnn.onnx", f"{folder / 'digits.npz'}", group, measures=["latent-l2"]
        )
        digits = np.load(folder / "digits.npz")["images"]
    digit = digits[measured["data"]["indices"][SAMPLE]][None] / np.float32(255)
    images = onnx_geed.orbit(onnx_geed.grid_action(group, *digit.shape[1:]), digit)
    network.graph.output.append(onnx.ValueInfoProto(name=LAYER))
    session = onnxruntime.InferenceSession(
        network.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (maps,) = session.run([LAYER], {"image": images})
    action = onnx_geed.grid_action(group, *maps.shape[2:])
    # The channel that answers most, so that there is something to see.
    channel = int(np.argmax(maps[0].std(axis=(1, 2))))
    single = maps[:, channel : channel + 1]
    cosines = -onnx_geed.channel_cos(single[None], action)[0]
    moved = np.stack([action.apply(g, maps[0])[channel] for g in range(8)])

    figure, axes = plt.subplots(3, 8, figsize=(9.6, 4.1), layout="constrained")
    rows = (
        ("gx", images[:, 0], "gray"),
        ("f(gx)", single[:, 0], "magma"),
        ("g f(x)", moved, "magma"),
    )
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
        axes[2, g].set_xlabel(f"cosine {cosines[g]:.2f}", fontsize=10)
    figure.suptitle(
        f"Channelwise cosine under C8, one channel of {LAYER}: mean {cosines.mean():.2f} "
        "(equivariant: 1)",
        fontsize=11,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
