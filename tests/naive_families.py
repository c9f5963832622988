"""Families by loops of scipy and Pillow, from the text of the specification alone."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image
from scipy import ndimage


def numbers(name, low, high, count):
    """The numbers of a range, both ends included; factors of a zoom are even in their ratio."""
    if name == "zoom":
        return [low * (high / low) ** (k / (count - 1)) for k in range(count)]
    return [low + (high - low) * k / (count - 1) for k in range(count)]


def members(name, values):
    """The numbers that are left once what leaves an image as it is, is taken out."""
    at_rest = {"zoom": 1.0, "contrast": 1.0, "jpeg": None}.get(name, 0.0)
    return [v for v in values if at_rest is None or not math.isclose(v, at_rest, abs_tol=1e-12)]


def warp(plane, name, value, width):
    """A plane turned or zoomed about its centre, or shifted right; black comes in from outside.

    A shift is of pixels of the input, which is ``width`` wide, and of another plane by as much of
    its own width.
    """
    rows, columns = plane.shape
    if name == "rotate":
        turn = math.radians(value)
        matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    else:
        matrix = np.eye(2) / (value if name == "zoom" else 1)
    centre = (np.array([rows, columns]) - 1) / 2
    places = np.indices(plane.shape).reshape(2, -1) - centre[:, None]
    if name == "shift-px":
        places = places - np.array([[0.0], [value * columns / width]])
    source = matrix @ places + centre[:, None]
    taken = ndimage.map_coordinates(
        plane.astype(np.float64), np.round(source, 12), order=1, mode="grid-constant", cval=0.0
    )
    return taken.reshape(plane.shape)


def eight_bits(image):
    """An image clipped and rounded to 255ths, as whole numbers."""
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def change(name, image, value, seed=()):
    """A photometric member of an image (C, H, W) in [0, 1]."""
    image = image.astype(np.float64)
    if name == "brightness":
        return image + value / 255
    if name == "contrast":
        weights = [0.299, 0.587, 0.114] if len(image) == 3 else [1.0]
        grey = sum(w * plane.mean() for w, plane in zip(weights, image, strict=True))
        return grey + value * (image - grey)
    if name == "blur":
        return np.stack([ndimage.gaussian_filter(plane, value) for plane in image])
    if name == "noise":
        return image + value / 255 * np.random.default_rng(seed).standard_normal(image.shape)
    pixels = eight_bits(image)
    file = io.BytesIO()
    shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(shown).save(file, "JPEG", quality=int(value))
    read = np.asarray(Image.open(file)).astype(np.float64) / 255
    return read[None] if read.ndim == 2 else read.transpose(2, 0, 1)


def moved(name, image, value, seed=()):
    """Any member of an image (C, H, W)."""
    if name in ("rotate", "zoom", "shift-px"):
        return np.stack([warp(plane, name, value, image.shape[-1]) for plane in image])
    return change(name, image, value, seed)


def orbit(name, image, values, seed, sample):
    """x, then each member of it."""
    every = [image, *(moved(name, image, v, (seed, sample, g)) for g, v in enumerate(values, 1))]
    return np.stack(every).astype(np.float32)


def expected(name, y, value, width):
    """What a hidden map (C, H, W) of x is expected to be under a member."""
    if name not in ("rotate", "zoom", "shift-px"):
        return y.astype(np.float64)
    return np.stack([warp(plane, name, value, width) for plane in y])


def minus_cosine(a, b):
    """Minus the mean over channels of the cosine of each, as eq. (5) has it."""
    values = []
    for u, v in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True):
        u, v = u.astype(np.float64), v.astype(np.float64)
        lengths = math.sqrt(float(u @ u)) * math.sqrt(float(v @ v))
        if lengths:
            values.append(float(u @ v) / lengths)
        else:
            values.append(1.0 if not u.any() and not v.any() else 0.0)
    return -sum(values) / len(values)


def mean_distance(rows):
    """M: the mean distance of distinct pairs."""
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    return float(
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(rows) for b in rows[i + 1 :]])
    )


def gain(latents, inputs, samples, points):
    """How much more latents move than inputs, from orbits (n, ...) a sample, the identity first."""

    def moves(orbits):
        moved = [
            np.sqrt(
                sum(float(a - b) ** 2 for a, b in zip(gx.ravel(), orbit[0].ravel(), strict=True))
            )
            for orbit in orbits[:samples]
            for gx in orbit[1:]
        ]
        return (
            sum(moved)
            / len(moved)
            / mean_distance(np.stack([orbit[0] for orbit in orbits[:points]]))
        )

    return moves(latents) / moves(inputs)
