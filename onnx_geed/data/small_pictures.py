"""Pictures of very many places, shrunk before an orbit of them lies in memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["shrunk"]

# Places of a picture that is kept: it is drawn with far fewer.
_MOST = 1 << 18


def shrunk(pictures: NDArray[np.floating]) -> NDArray[np.floating]:
    """Shrink pictures (..., h, w) of very many places, by means over boxes.

    Parameters
    ----------
    pictures : ndarray
        Any number of them.

    Returns
    -------
    ndarray
        As they are, or float32 of at most 2¹⁸ places each, height and width in proportion.
    """
    from PIL import Image

    height, width = pictures.shape[-2:]
    times = math.sqrt(height * width / _MOST)
    if times <= 1:
        return pictures
    size = max(1, int(width / times)), max(1, int(height / times))
    size = min(size[0], _MOST // size[1]), size[1]
    small = np.empty((*pictures.shape[:-2], *size[::-1]), dtype=np.float32)
    for place in np.ndindex(pictures.shape[:-2]):
        one = Image.fromarray(pictures[place].astype(np.float32))
        small[place] = one.resize(size, Image.Resampling.BOX)
    return small
