"""Other backgrounds by loops: which files are drawn, and what a member puts before them."""

from __future__ import annotations

import numpy as np
from PIL import Image


def drawn(folder, names, count, seed):
    """The files of a seed, in order, and their pixels in [0, 1], of (C, H, W)."""
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = [sorted(names)[i] for i in sorted(int(i) for i in order[:count])]
    images = []
    for name in chosen:
        values = np.asarray(Image.open(folder / name)).astype(np.float64) / 255
        images.append(values[None] if values.ndim == 2 else values.transpose(2, 0, 1))
    return chosen, images


def orbit(image, backgrounds, mask):
    """x, then what is in front of it before each background."""
    members = [image.astype(np.float64)]
    for background in backgrounds:
        changed = np.zeros(image.shape)
        for c in range(image.shape[0]):
            for i in range(image.shape[1]):
                for j in range(image.shape[2]):
                    front = bool(mask[i, j])
                    changed[c, i, j] = image[c, i, j] if front else background[c, i, j]
        members.append(changed)
    return np.stack(members).astype(np.float32)
