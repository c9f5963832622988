"""A picture of one sample on a page: an image as a data URI, or an SVG in the page's colours."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

__all__ = ["FINE", "Picture", "fine_path", "framed", "grey_or_colour", "png", "svg"]

F64 = NDArray[np.float64]


#: Steps of a path to a pixel: its numbers are whole, which keeps a page small.
FINE = 4


@dataclass(frozen=True)
class Picture:
    """What one sample looks like.

    Parameters
    ----------
    what : str
        What it is, for those who do not see it.
    width : int
        How wide it is shown, in CSS pixels.
    src : str
        Data URI of an image; empty where there is an SVG.
    svg : str
        Markup of an SVG, with variables of the page for colours; empty where there is an image.
    """

    what: str
    width: int
    src: str = ""
    svg: str = ""


def framed(subject: str, svg: str, caption: str, alt: str, kind: str = "wide") -> dict[str, str]:
    """Return a picture of results for the page, with its caption and what it says in words.

    Parameters
    ----------
    subject : str
        What is drawn, which files are named by.
    svg : str
        Markup of our own.
    caption, alt : str
        Beneath the picture, and for those who do not see it.
    kind : str
        ``wide`` or ``round``.

    Returns
    -------
    dict
    """
    return {"svg": Markup(svg), "caption": caption, "alt": alt, "kind": kind, "subject": subject}


def svg(width: int, height: int, content: str) -> str:
    """Return an SVG of a size in CSS pixels."""
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{content}</svg>'


def fine_path(steps: str, style: str) -> str:
    """Return a path whose numbers are counted in ``FINE`` to the pixel."""
    return f'<path transform="scale({1 / FINE:g})" d="{steps}" {style}/>'


def png(pixels: NDArray[np.uint8]) -> str:
    """Return an image (H, W), or (H, W, 3), as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def grey_or_colour(plane: F64) -> NDArray[np.uint8]:
    """Return values in [0, 1] of shape (C, H, W) as pixels: three channels are colours."""
    pixels = np.clip(np.round(plane * 255), 0, 255).astype(np.uint8)
    return np.moveaxis(pixels[:3], 0, -1) if len(pixels) >= 3 else pixels[0]
