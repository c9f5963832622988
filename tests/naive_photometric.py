"""Slow twins of the photometric families: loops, and Pillow where a JPEG file is asked for.

Written from the definitions, without the package. Images are (C, H, W) in [0, 1].
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image


def brightness(image, value):
    out = np.empty(image.shape)
    for at in np.ndindex(image.shape):
        out[at] = float(image[at]) + value / 255
    return out


def contrast(image, factor):
    """About the mean of 0.299 R + 0.587 G + 0.114 B, one for all channels."""
    channels, height, width = image.shape
    weights = (1.0,) if channels == 1 else (0.299, 0.587, 0.114)
    lumas = [
        math.fsum(w * float(image[c, i, j]) for c, w in enumerate(weights))
        for i in range(height)
        for j in range(width)
    ]
    grey = math.fsum(lumas) / len(lumas)
    out = np.empty(image.shape)
    for at in np.ndindex(image.shape):
        out[at] = grey + factor * (float(image[at]) - grey)
    return out


def inside(index, length):
    """Where a place outside is mirrored to: the outermost pixel comes twice."""
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def blur(image, sigma):
    """Every pixel as a sum over a square of 4 σ about it, in one go and not axis by axis."""
    reach = int(4 * sigma + 0.5)
    around = range(-reach, reach + 1)
    weight = {
        (a, b): math.exp(-(a * a + b * b) / (2 * sigma * sigma)) for a in around for b in around
    }
    total = math.fsum(weight.values())
    channels, height, width = image.shape
    out = np.empty(image.shape)
    for c, i, j in np.ndindex(channels, height, width):
        parts = (
            w * float(image[c, inside(i + a, height), inside(j + b, width)])
            for (a, b), w in weight.items()
        )
        out[c, i, j] = math.fsum(parts) / total
    return out


def noise(image, sigma, seed):
    generator = np.random.default_rng(list(seed))
    out = np.empty(image.shape)
    for at in np.ndindex(image.shape):
        out[at] = float(image[at]) + generator.normal(0.0, sigma / 255)
    return out


def clipped(image):
    out = np.empty(image.shape)
    for at in np.ndindex(image.shape):
        out[at] = round(min(max(float(image[at]), 0.0), 1.0) * 255) / 255
    return out


def jpeg(image, quality):
    levels = np.array([round(255 * v) for v in clipped(image).ravel().tolist()], np.uint8)
    levels = levels.reshape(image.shape)
    if len(image) == 1:
        picture = Image.fromarray(levels[0])
    else:
        picture = Image.merge("RGB", [Image.fromarray(plane) for plane in levels])
    with io.BytesIO() as file:
        picture.save(file, format="jpeg", quality=quality)
        file.seek(0)
        planes = [np.asarray(band, dtype=np.float64) for band in Image.open(file).split()]
    return np.stack(planes) / 255


def swap(image, background, mask):
    out = np.empty(image.shape)
    for c, i, j in np.ndindex(image.shape):
        out[c, i, j] = image[c, i, j] if mask[i, j] else background[c, i, j]
    return out
