# /// script
# requires-python = ">=3.11"
# dependencies = ["onnx-geed[report]", "matplotlib"]
# ///
"""Draw the pictures of "How to read G-EED", every number in them through the package itself.

python docs/pictures.py docs/pictures
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from scipy.ndimage import convolve

import onnx_geed
from onnx_geed.groups import from_side_to_side
from onnx_geed.report import write_report

BLUE, ORANGE, GREEN, GREY = "#0b63a8", "#c2500a", "#0f7b5f", "#5b6673"
plt.rcParams.update(
    {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 130}
)

# A kernel that looks the same after every quarter turn, and one that looks for vertical edges.
RING = np.array([[1, 2, 1], [2, -12, 2], [1, 2, 1]], dtype=np.float32)
EDGE = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=np.float32)


def digit(index: int = 9) -> Any:
    """One of the embedded digits, float32 (29, 29)."""
    with as_file(files("onnx_geed.demo")) as folder:
        digits = np.load(folder / "digits.npz")["images"]
    return np.squeeze(digits[index]).astype(np.float32) / 255


def through(kernel: Any, images: Any, relu: bool = False) -> Any:
    """A layer of one convolution: (n, H, W) to (n, H, W)."""
    maps = np.stack([convolve(x, kernel, mode="constant") for x in images])
    return np.maximum(maps, 0) if relu else maps


def plain(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def two_layers(folder: Path) -> None:
    """f(gx) beside g f(x), for a layer that is equivariant and for one that is not."""
    image = digit()
    action = onnx_geed.grid_action(onnx_geed.parse_group("C8"), *image.shape)
    orbit = onnx_geed.orbit(action, image)
    figure, axes = plt.subplots(5, 8, figsize=(9.6, 7.8), layout="constrained")
    figure.get_layout_engine().set(hspace=0.08)
    rows = [("gx", orbit, "gray")]
    labels = [None]
    for kernel in (RING, EDGE):
        maps = through(kernel, orbit)
        moved = np.stack([action.apply(g, maps[0].astype(np.float64)) for g in range(8)])
        rows += [("f(gx)", maps, "PuOr"), ("g f(x)", moved, "PuOr")]
        labels += [None, -onnx_geed.channel_cos(maps[None, :, None], action)[0]]
    for row, (label, pictures, colours), values in zip(axes, rows, labels, strict=True):
        top = np.abs(pictures).max()
        low = -top if colours == "PuOr" else 0
        for g, (axis, picture) in enumerate(zip(row, pictures, strict=True)):
            axis.imshow(picture, cmap=colours, vmin=low, vmax=top)
            plain(axis)
            if values is not None:
                axis.set_xlabel(f"cosine {values[g] + 0.0:.2f}".replace("-", "−"))
        row[0].set_ylabel(label)
    for g in range(8):
        axes[0, g].set_title(f"{45 * g}°")
    for first, name, values in ((1, "the same kernel at every quarter turn", labels[2]),
                                (3, "a kernel for vertical edges", labels[4])):  # fmt: skip
        axes[first, 0].annotate(
            f"{name}: channel-cos {values.mean():.3f}",
            (0, 1.08), xycoords="axes fraction", fontweight="bold", fontsize=10.5,
        ).set_in_layout(False)  # fmt: skip
    figure.savefig(folder / "two-layers.png")
    plt.close(figure)


def interpolation(folder: Path) -> None:
    """Draw how resampling alone changes a layer that commutes with all turns but for the grid."""
    group = onnx_geed.parse_group("C72")
    angles = np.arange(72) * 5
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.3), sharey=True, layout="constrained")
    noise = np.random.default_rng(0).random((29, 29), dtype=np.float32)
    for axis, (name, image) in zip(axes, (("a digit", digit()), ("noise", noise)), strict=True):
        for kind, colour in (("nearest", GREY), ("bilinear", BLUE), ("bicubic", ORANGE)):
            action = onnx_geed.grid_action(group, *image.shape, interpolation=kind)
            maps = through(RING, onnx_geed.orbit(action, image), relu=True)
            m = -onnx_geed.channel_cos(maps[None, :, None], action, support="disk")[0]
            axis.plot(angles, m, color=colour, label=kind)
        exact = np.array([g % 18 == 0 for g in range(72)])
        axis.plot(angles[exact], m[exact], "o", color="black", label="exact")
        axis.set_title(name, fontsize=10.5)
        axis.set_xticks(range(0, 361, 45), [f"{a}°" for a in range(0, 361, 45)], fontsize=8.5)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("cosine (1: equivariant)")
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(folder / "interpolation.png")
    plt.close(figure)


def clouds(folder: Path) -> None:
    """Latents in a plane: invariant, insensitive, neither."""
    group = onnx_geed.parse_group("C8")
    random = np.random.default_rng(3)
    centres = random.normal(size=(7, 1, 2))
    orbits = random.normal(size=(7, 8, 2))
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
    cases = (
        ("invariant", centres + 0.06 * orbits),
        ("insensitive", 0.06 * (centres + 0.7 * orbits)),
        ("neither", centres + 0.7 * orbits),
    )
    for axis, (name, latents) in zip(axes, cases, strict=True):
        m = onnx_geed.latent_l2(latents, group).mean()
        scale = onnx_geed.normaliser("latent-l2", latents[:, 0])
        for i, points in enumerate(latents):
            axis.plot(*points.T, "o", ms=4, color=plt.cm.tab10(i))
        axis.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2), aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
        axis.set_title(name, fontweight="bold")
        axis.set_xlabel(f"unnormalised {m:.2f}   M = {scale:.2f}\nlatent-l2 {m / scale:.2f}")
    figure.savefig(folder / "latents.png")
    plt.close(figure)


def conditioning(folder: Path) -> None:
    """The same orbits, the cloud of all samples moved away from the origin or onto it."""
    group = onnx_geed.parse_group("C8")
    random = np.random.default_rng(1)
    latents = random.normal(size=(50, 1, 16)) + 0.3 * random.normal(size=(50, 8, 16))
    shifts = np.linspace(0, 1.5, 76)
    plain_values, values, scales = [], [], []
    for shift in shifts:
        moved = latents + shift
        plain_values.append(onnx_geed.latent_cos(moved, group).mean())
        scales.append(onnx_geed.normaliser("latent-cos", moved[:, 0]))
        values.append(plain_values[-1] / scales[-1])
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.2), layout="constrained")
    axes[0].plot(shifts, plain_values, color=BLUE, label="unnormalised")
    axes[0].plot(shifts, scales, color=GREY, label="M")
    axes[0].axhspan(-0.05, 0.05, color=ORANGE, alpha=0.25, lw=0, label="|M| < 0.05: warning")
    axes[0].legend(frameon=False, fontsize=9)
    axes[1].plot(shifts, values, color=ORANGE)
    axes[1].set_yscale("symlog", linthresh=1)
    axes[1].set_title("latent-cos, normalised", fontsize=10)
    for axis in axes:
        axis.set_xlabel("how far all latents lie from the origin")
        axis.grid(alpha=0.3)
    figure.savefig(folder / "conditioning.png")
    plt.close(figure)


def predictions(folder: Path) -> None:
    """Three orbits of predictions under C4, and their mean."""
    group = onnx_geed.parse_group("C4")
    sure = np.full((4, 4), 0.02)
    sure[:, 1] = 0.94
    unsure = np.array([[0.9, 0.04, 0.04, 0.02], [0.5, 0.3, 0.15, 0.05], [0.6, 0.2, 0.15, 0.05],
                       [0.45, 0.35, 0.1, 0.1]])  # fmt: skip
    cases = (
        ("invariant", sure),
        ("unsure when turned", unsure),
        ("each turn its class", np.eye(4)),
    )
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.1), sharey=True, layout="constrained")
    for axis, (name, table) in zip(axes, cases, strict=True):
        kl = onnx_geed.softmax_kl(table[None], group, kind="probabilities")[0]
        for g in range(5):
            row = table[g] if g < 4 else table.mean(axis=0)
            bottom = 0.0
            for c, share in enumerate(row):
                axis.bar(g + 0.4 * (g == 4), share, bottom=bottom, width=0.8,
                         color=plt.cm.tab20c(4 * c + (2 if g == 4 else 0)))  # fmt: skip
                bottom += share
        names = [f"{90 * g}°\n{kl[g]:.2f}" for g in range(4)]
        axis.set_xticks([0, 1, 2, 3, 4.4], [*names, "mean"])
        axis.set_title(f"{name}: {abs(kl.mean()):.3f}", fontsize=10.5, fontweight="bold")
    axes[0].set_ylabel("probability")
    figure.savefig(folder / "predictions.png")
    plt.close(figure)


def unexplained(folder: Path) -> None:
    """Draw what is expected and what comes, of two entries that a mirror swaps."""
    group = onnx_geed.parse_group("flip-h")
    swap = onnx_geed.Permutation(group, np.array([[0, 1], [1, 0]]))
    random = np.random.default_rng(5)
    upright = random.normal(size=(30, 2))
    cases = (
        ("moves along", upright[:, ::-1] + 0.2 * random.normal(size=(30, 2))),
        ("the same for all that is mirrored", np.tile(upright.mean(axis=0)[::-1], (30, 1))),
        ("as another sample's", np.roll(upright[:, ::-1], 1, axis=0)),
    )
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.6), layout="constrained")
    for axis, (name, mirrored) in zip(axes, cases, strict=True):
        m = onnx_geed.unexplained(np.stack([upright, mirrored], axis=1), swap)[:, 1:].mean()
        value = m / onnx_geed.normaliser("unexplained", upright)
        told = upright[:, ::-1]
        for ends in zip(told, mirrored, strict=True):
            axis.plot(*np.transpose(ends), color=GREY, lw=0.8, alpha=0.6)
        axis.plot(*told.T, "o", ms=5, mfc="white", color=BLUE, label="told from f(x)")
        axis.plot(*mirrored.T, "o", ms=4, color=ORANGE, label="f(gx)")
        axis.set(xlim=(-2.9, 2.9), ylim=(-2.9, 2.9), aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
        axis.set_title(name, fontsize=10, fontweight="bold")
        axis.set_xlabel(f"unexplained {value:.2f}")
    axes[0].legend(frameon=False, fontsize=8.5, loc="lower left")
    figure.savefig(folder / "unexplained.png")
    plt.close(figure)


def flips(folder: Path) -> None:
    """Draw probabilities of two classes, of samples unmoved and mirrored."""
    group = onnx_geed.parse_group("flip-h")
    random = np.random.default_rng(2)
    near = 0.5 + 0.04 * random.standard_normal((12, 2))
    sure = np.stack([0.97 - 0.02 * random.random(12), 0.56 + 0.1 * random.random(12)], axis=1)
    sure[::2] = 1 - sure[::2]
    still = np.tile(0.7 + 0.01 * random.standard_normal((12, 1)), (1, 2))
    cases = (
        ("undecided", near),
        ("less sure when mirrored", sure),
        ("one class, whatever it is shown", still),
    )
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.1), sharey=True, layout="constrained")
    for axis, (name, first) in zip(axes, cases, strict=True):
        scores = np.stack([first, 1 - first], axis=2)
        flipped = onnx_geed.flip_rate(scores, group, kind="probabilities")[:, 1]
        kl = onnx_geed.softmax_kl(scores, group, kind="probabilities").mean()
        common = max((first[:, 0] > 0.5).mean(), (first[:, 0] < 0.5).mean())
        axis.axhline(0.5, color=GREY, lw=1, ls=(0, (4, 3)))
        for pair, flips in zip(first, flipped, strict=True):
            axis.plot([0, 1], pair, "o-", ms=4, lw=1, color=ORANGE if flips else BLUE)
        axis.set(xlim=(-0.3, 1.3), ylim=(0, 1))
        axis.set_xticks([0, 1], ["unmoved", "mirrored"])
        axis.set_title(name, fontsize=10, fontweight="bold")
        axis.set_xlabel(
            f"flip-rate {flipped.mean():.2f}   softmax-kl {kl:.3f}\n"
            f"most common class {100 * common:.0f} %"
        )
    axes[0].set_ylabel("probability of a class")
    figure.savefig(folder / "flips.png")
    plt.close(figure)


def sides(folder: Path) -> None:
    """Draw what two layers make of a digit turned a little one way and the other."""
    with as_file(files("onnx_geed.demo")) as demo:
        digits = np.squeeze(np.load(demo / "digits.npz")["images"][:40]).astype(np.float32) / 255
    action = onnx_geed.grid_action(onnx_geed.parse_group("small-rotation~3"), 29, 29)
    across = onnx_geed.grid_action(from_side_to_side(action.group), 29, 29)
    orbits = np.stack([[action.apply(g, x) for g in range(3)] for x in digits])
    shown = orbits[9]
    figure, axes = plt.subplots(2, 5, figsize=(9.6, 4.1), layout="constrained")
    titles = ("g₋x", "f(g₋x)", "f(g₋x), moved along", "f(g₊x)", "left over")
    blob = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).astype(np.float32)
    for row, (name, kernel) in zip(axes, (("blobs", blob), ("edges", EDGE)), strict=True):
        maps = np.stack([through(kernel, orbit) for orbit in orbits])
        m = onnx_geed.sensitivity(maps[:, :, None], action)[:, 1:].mean()
        value = m / onnx_geed.normaliser("sensitivity", maps[:, 0].reshape(len(maps), -1))
        there, here = maps[9][1], maps[9][2]
        told = across.apply(1, here)
        limit = np.abs(maps[9]).max()
        pictures = (shown[2], here, told, there, there - told)
        for axis, picture, title in zip(row, pictures, titles, strict=True):
            plain(axis)
            image = picture is pictures[0]
            low, colours = (0, "gray") if image else (-limit, "RdBu_r")
            axis.imshow(picture, cmap=colours, vmin=low, vmax=1 if image else limit)
            axis.set_title(title if kernel is blob else "", fontsize=10)
        row[0].set_ylabel(name, fontsize=10.5, fontweight="bold")
        row[4].set_xlabel(f"sensitivity {value:.3f}")
    figure.savefig(folder / "sensitivity.png")
    plt.close(figure)


def fits(folder: Path) -> None:
    """Draw the demo's feature maps under quarter turns as the page does, told by three fits."""
    with as_file(files("onnx_geed.demo")) as demo, tempfile.TemporaryDirectory() as made:
        results = [
            onnx_geed.measure(
                demo / "digits_cnn.onnx",
                data=demo / "digits.npz",
                group="C4",
                samples=40,
                measures=["unexplained@block?"],
                output_action={"block?": f"fit:{kind}"},
                fit_samples=40,
            )
            for kind in ("permutation", "orthogonal", "linear")
        ]
        page = Path(made) / "page.html"
        write_report(results, page, pictures=made)
        shutil.copy(page.with_name("unexplained-1-fits.svg"), folder / "fits.svg")


def main(path: str) -> None:
    folder = Path(path)
    folder.mkdir(exist_ok=True)
    for draw in (
        *(two_layers, interpolation, clouds, conditioning, predictions),
        *(unexplained, flips, sides, fits),
    ):
        draw(folder)


if __name__ == "__main__":
    main(sys.argv[1])
