"""The discussion's limits: what does a network for photos do under changes that form no group?

EfficientNet-Lite0 with published weights, under families of zooms, small turns, shifts, brightness,
contrast, blur, noise and JPEG, and under hue12, a group, for comparison.

Choices: the photos are those whose file names end in their class of ImageNet, so that accuracy can
be told; every family has the range of its how-to page, but shifts are of up to eight pixels, as
photos are 224 wide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: What of a suite's rows the table and the picture need, beside what every suite keeps.
KEPT = (
    *(
        "kind",
        "gain",
        "per_element",
        "relative_mean",
        "relative_ci95_over_models",
        "relative_ci95_over_samples",
    ),
    *("right_mean", "right_unmoved_mean"),
)
_LABELLED = re.compile(r".*_(\d+)")


def run(work: Path, photos: Path | None, weights: Mapping[str, Path]) -> None:
    """Convert the network, and lay out photos and labels."""
    import checkpoints
    import section44

    if [*weights] != ["lite0"]:
        raise SystemExit("discussion: give --weights lite0=FILE")
    data(work, photos)
    out = checkpoints.with_folder(work / "discussion" / "lite0.onnx")
    if not out.is_file():
        _, words = section44.PUBLISHED["lite0"]
        section44.convert([*words, "--checkpoint", str(weights["lite0"]), "-o", str(out)])


def data(work: Path, photos: Path | None) -> None:
    """Copy the photos whose names end in a class, if that is not done, and write the classes."""
    import section44

    folder, labels = work / "data" / "labelled", work / "data" / "labelled.txt"
    if not folder.is_dir():
        if photos is None:
            raise SystemExit("discussion: give --photos FOLDER, with such as imagenet_00_243.jpg")
        if not any(labelled(photos.rglob("*"))):
            raise SystemExit(
                f"discussion: --photos {photos}: no name ends in a class, as imagenet_00_243.jpg"
            )
        section44.copy_photos(photos, folder, "discussion")
        known = {path for path, _ in labelled(folder.iterdir())}
        for path in folder.iterdir():
            if path not in known:
                path.unlink()
    classes = [number for _, number in labelled(folder.iterdir())]
    labels.write_text("".join(f"{number}\n" for number in classes), encoding="utf-8")


def labelled(paths: Iterable[Path]) -> list[tuple[Path, int]]:
    """Return files and their classes, in the order in which a folder is read."""
    found = ((path, _LABELLED.fullmatch(path.stem)) for path in sorted(paths))
    return [(path, int(match[1])) for path, match in found if match]


def with_cells(rows: Sequence[Mapping[str, Any]], cells: Path) -> list[dict[str, Any]]:
    """Return rows with what a summary has not: the gain, and its curve and that of the values."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(cells.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        for record in result["measurements"]:
            found[result["group"]["name"], record["measure"]] = record
    wanted = []
    for row in rows:
        record = found[row["group"], row["measure"]]
        gain = record.get("gain")
        wanted.append({**row, "per_element": record["per_element"], "gain": gain and gain["value"]})
    return wanted


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line a family as a Markdown table, the one that moves the latent most on top."""
    lines = [
        "| `--group` | latent-l2 | relative | gain | softmax-kl | flip-rate | top-1 kept | right |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_cell = {(row["group"], row["measure"]): row for row in rows}
    latents = [row for row in rows if row["measure"] == "latent-l2"]
    for latent in sorted(latents, key=lambda row: -row["mean"]):
        group = latent["group"]
        kl, flips = by_cell[group, "softmax-kl"], by_cell[group, "flip-rate"]
        cells = [
            *(f"`{group}`", told(latent), f"{latent['relative_mean']:.3f}"),
            "" if latent["gain"] is None else f"{latent['gain']:.2f}",
            *(told(kl), told(flips), f"{1 - flips['mean']:.1%}", f"{flips['right_mean']:.1%}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def told(row: Mapping[str, Any]) -> str:
    low, high = row["ci95_over_samples"]
    return f"{row['mean']:.3f} ± {(high - low) / 2:.2g}"
