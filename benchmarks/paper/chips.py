"""Chips of objects in aerial scenes: xView as published (GeoJSON, GeoTIFF) and deepforest's trees.

Choices: a chip is a square around a box's centre; windows that leave their scene are left out, so
that no chip has empty corners; chips for testing are of other scenes than those for training, or of
another part of the scene.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

U8 = NDArray[np.uint8]
Box = tuple[float, float, float, float]

#: xView's type_id of its nine maritime classes; 40, a vessel of no closer kind, is left out.
MARITIME = {
    41: "Motorboat",
    42: "Sailboat",
    44: "Tugboat",
    45: "Barge",
    47: "Fishing Vessel",
    49: "Ferry",
    50: "Yacht",
    51: "Container Ship",
    52: "Oil Tanker",
}
TREES = ("ground", "small crown", "large crown")


def cut(scene: Image.Image, box: Box, side: float, size: int) -> U8 | None:
    """Cut a square around a box's centre, resized; None where it leaves the scene."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    window = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    if window[0] < 0 or window[1] < 0 or window[2] > scene.width or window[3] > scene.height:
        return None
    method = Image.Resampling.BILINEAR
    return np.asarray(scene.resize((size, size), method, box=window).convert("RGB"))


def xview_boxes(geojson: Path) -> dict[str, list[tuple[Box, int]]]:
    """Boxes of the maritime classes by scene, from xView_train.geojson.

    Published features carry ``bounds_imcoords`` ("xmin,ymin,xmax,ymax", pixels), ``type_id`` and
    ``image_id``; boxes without area are left out.
    """
    boxes: dict[str, list[tuple[Box, int]]] = {}
    for feature in json.loads(geojson.read_text())["features"]:
        about = feature["properties"]
        if int(about["type_id"]) not in MARITIME:
            continue
        box = tuple(float(v) for v in about["bounds_imcoords"].split(","))
        if len(box) == 4 and box[2] > box[0] and box[3] > box[1]:
            boxes.setdefault(about["image_id"], []).append((box, int(about["type_id"])))
    return boxes


def xview(geojson: Path, images: Path, size: int) -> Iterator[tuple[str, U8, int]]:
    """Yield scene, chip and class (0 to 8); a scene of which there is no file is passed over.

    The window's side is 1.25 times the longer side of the box, at least 24 pixels.
    """
    order = sorted(MARITIME)
    # Scenes are hundreds of megapixels in all, and some are larger than Pillow's alarm.
    Image.MAX_IMAGE_PIXELS = None
    for name, boxes in sorted(xview_boxes(geojson).items()):
        if not (images / name).is_file():
            print(f"{name}: is not in {images}, passed over", flush=True)
            continue
        with Image.open(images / name) as scene:
            scene.load()
        for box, kind in boxes:
            side = max(24.0, 1.25 * max(box[2] - box[0], box[3] - box[1]))
            chip = cut(scene, box, side, size)
            if chip is not None:
                yield name, chip, order.index(kind)


def tree_boxes(xml: Path) -> list[Box]:
    """Boxes of a Pascal-VOC file."""
    text = xml.read_text()
    numbers = r"<xmin>(\d+)</xmin>\s*<ymin>(\d+)</ymin>\s*<xmax>(\d+)</xmax>\s*<ymax>(\d+)</ymax>"
    return [tuple(float(v) for v in corners) for corners in re.findall(numbers, text)]


def trees(scene: Path, size: int, rng: np.random.Generator) -> Iterator[tuple[float, U8, int]]:
    """Yield place, chip and class of windows of 64 pixels: small and large crowns, and ground.

    The place is the centre's, from 0 at the left edge to 1 at the right. Crowns between 34 and 46
    pixels are neither small nor large, and left out. Half as many windows of ground as there are
    boxes, their centres outside of every box.
    """
    boxes = tree_boxes(scene.with_suffix(".xml"))
    with Image.open(scene) as opened:
        image = opened.convert("RGB")
    for box in boxes:
        side = max(box[2] - box[0], box[3] - box[1])
        chip = None if 34 < side < 46 else cut(image, box, 64, size)
        if chip is not None:
            yield (box[0] + box[2]) / 2 / image.width, chip, 2 if side > 40 else 1
    missing = len(boxes) // 2
    for _ in range(100 * len(boxes)):
        if not missing:
            break
        x, y = rng.uniform(32, image.width - 32), rng.uniform(32, image.height - 32)
        if any(a <= x <= c and b <= y <= d for a, b, c, d in boxes):
            continue
        chip = cut(image, (x, y, x, y), 64, size)
        if chip is not None and chip.any():
            missing -= 1
            yield x / image.width, chip, 0


def split(names: Sequence[str], share: float, seed: int = 0) -> set[str]:
    """Return the scenes that are for testing."""
    order = np.random.default_rng(seed).permutation(len(names))
    return {sorted(names)[i] for i in order[: max(1, round(share * len(names)))]}
