"""How samples are drawn, by the letters of their layout."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Layout
from onnx_geed.report.arrows import field_arrows, field_arrows_in_space
from onnx_geed.report.bases import bases
from onnx_geed.report.coloured_cells import adjacency, strip, tokens
from onnx_geed.report.picture import Picture, grey_or_colour
from onnx_geed.report.projections import dots
from onnx_geed.report.slices import frames, middle_slices
from onnx_geed.report.waveform import waveforms

__all__ = ["Drawing", "drawing_of"]

F64 = NDArray[np.float64]


#: Side of a thumbnail in pixels, and as it is shown.
SIDE, SHOWN = 64, 51


@dataclass(frozen=True)
class Drawing:
    """How a kind of data is drawn.

    Parameters
    ----------
    draw : callable
        Takes some members of an orbit, float64 (n, axes in kept order), and returns a picture each.
    reading : str
        How the pictures are read, a sentence; empty where that is plain to see.
    bright : bool
        Whether values are brightness, to be brought to [0, 1] before anything is moved: what moves
        in from outside is black.
    """

    draw: Callable[[F64], list[Picture]]
    reading: str = ""
    bright: bool = False


def images(orbit: F64) -> list[Picture]:
    """Draw images.

    Parameters
    ----------
    orbit : ndarray, shape (n, C, H, W) or (n, H, W)
        The samples in [0, 1].

    Raises
    ------
    GeedError
        If they have not 1, 3 or 4 channels.
    """
    from PIL import Image

    orbit = orbit[:, None] if orbit.ndim == 3 else orbit
    if orbit.shape[1] not in (1, 3, 4):
        raise GeedError(f"images are drawn with 1, 3 or 4 channels, not {orbit.shape[1]}")
    pictures = []
    for sample in orbit:
        pixels = grey_or_colour(sample)
        image = Image.fromarray(pixels)
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        if pixels.ndim == 2:
            image.save(buffer, "PNG", optimize=True)
            kind = "png"
        else:
            image.save(buffer, "JPEG", quality=82)
            kind = "jpeg"
        content = base64.b64encode(buffer.getvalue()).decode("ascii")
        pictures.append(Picture("", SHOWN, src=f"data:image/{kind};base64,{content}"))
    return pictures


def _turned(draw: Callable[[F64], list[Picture]]) -> Callable[[F64], list[Picture]]:
    """Return a drawing of samples whose two axes stand the other way round."""
    return lambda orbit: draw(np.moveaxis(orbit, 1, 2))


_IMAGES = Drawing(images, bright=True)
_FRAMES = Drawing(frames, "Frames are numbered from 1.", bright=True)
_SLICES = Drawing(
    middle_slices,
    "Slices go through the middle of the volume: D is depth, H is height, W is width.",
    bright=True,
)
_DOTS = "Points are coloured by their order; x points right, y down, z forward."
_BASES = "Long sequences are drawn as bars: the shares of A (bottom), C, G and T (top)."
_CELLS = "In coloured cells, lighter is larger."


# By the letters of one sample's axes in kept order, channels first and the plane last.
_FLOATS = {
    "CHW": _IMAGES,
    "HW": _IMAGES,
    "CTHW": _FRAMES,
    "THW": _FRAMES,
    "CDHW": _SLICES,
    "DHW": _SLICES,
    "T": Drawing(waveforms),
    "CT": Drawing(waveforms),
    "XT": Drawing(waveforms),
    "TX": Drawing(_turned(waveforms)),
    "PX": Drawing(dots, _DOTS),
    "XP": Drawing(_turned(dots), _DOTS),
    "XHW": Drawing(field_arrows),
    "XDHW": Drawing(field_arrows_in_space, "The arrows show the middle slice."),
    "TB": Drawing(bases, _BASES),
    "BT": Drawing(_turned(bases), _BASES),
    "PP": Drawing(adjacency, _CELLS),
    "CPP": Drawing(adjacency, _CELLS),
    "P": Drawing(strip, _CELLS),
    "CP": Drawing(strip, _CELLS),
    "X": Drawing(strip, _CELLS),
    "C": Drawing(strip, _CELLS),
    "K": Drawing(strip, _CELLS),
}


# Whole numbers along a line, or one a point, are ids.
_WHOLE = _FLOATS | {"T": Drawing(tokens), "P": Drawing(tokens)}


def drawing_of(layout: Layout, dtype: np.dtype[Any]) -> Drawing:
    """Return how samples of a layout are drawn.

    Parameters
    ----------
    layout : Layout
        What their axes are.
    dtype : numpy dtype
        What the model takes.

    Raises
    ------
    GeedError
        If there is no picture of them.
    """
    found = (_WHOLE if dtype.kind in "iu" else _FLOATS).get(layout.kept)
    if found is None:
        raise GeedError(f"samples with layout {layout} cannot be drawn")
    return found
