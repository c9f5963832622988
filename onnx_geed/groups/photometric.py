"""What light, lens, sensor and file do to an image: its values change, and nothing moves.

Images are float32, (C, H, W) with 1 or 3 channels, and in [0, 1] where they come from a file.
Results have the same shape and are not clipped: what is brighter than white stays so. Only
:func:`jpeg` and :func:`clipped` make images of 8 bits.
"""

from __future__ import annotations

import io
import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, check_choice
from onnx_geed.whole import whole

__all__ = ["PhotometricKind", "check_value", "clipped", "luma", "luma_weights", "member"]
__all__ += ["blur", "blur_matrix", "brightness", "contrast", "from_bytes", "jpeg", "noise", "swap"]
__all__ += ["to_bytes"]

F32 = NDArray[np.float32]

PhotometricKind = Literal["brightness", "contrast", "blur", "noise", "jpeg"]

#: What the number of each kind is, the least that it can be, and the most.
_RANGES: dict[str, tuple[str, float, float]] = {
    "brightness": ("what is added, in 255ths,", -math.inf, math.inf),
    "contrast": ("the factor", 0, math.inf),
    "blur": ("σ in pixels", 0, math.inf),
    "noise": ("σ in 255ths", 0, math.inf),
    "jpeg": ("the quality", 1, 100),
}


def member(kind: str, image: F32, value: float, *, seed: tuple[int, ...]) -> F32:
    """Return an image as a member of a photometric family shows it.

    Parameters
    ----------
    kind : {"brightness", "contrast", "blur", "noise", "jpeg"}
        The family.
    image : ndarray of float32, shape (1 or 3, H, W)
        Values in [0, 1].
    value : float
        The member's number, as :func:`check_value` describes it.
    seed : tuple of int
        What noise is seeded by: the run's seed, the sample and the member. Others do not use it.

    Returns
    -------
    ndarray of float32, shape (1 or 3, H, W)

    Raises
    ------
    GeedError
        If there is no such family.
        If the family has no member of that value.
        If the image has neither 1 nor 3 channels.
    """
    check_value(kind, value)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise GeedError(
            f"group {kind}: changes images of 1 or 3 channels (channels × height × width), and "
            f"the input is {'×'.join(map(str, image.shape))}"
        )
    if kind == "noise":
        return noise(image, value, seed)
    if kind == "jpeg":
        return jpeg(image, round(value))
    return {"brightness": brightness, "contrast": contrast, "blur": blur}[kind](image, value)


def check_value(kind: str, value: float, group: str | None = None) -> None:
    """Make sure that a photometric family has a member of some value.

    Parameters
    ----------
    kind : {"brightness", "contrast", "blur", "noise", "jpeg"}
        The family.
    value : float
        Brightness: what is added, in 255ths, any. Contrast: the factor, not negative. Blur: σ in
        pixels, not negative. Noise: σ in 255ths, not negative. JPEG: the quality, whole, 1 to 100.
    group : str, optional
        The group as the user wrote it, for messages.

    Raises
    ------
    GeedError
        If there is no such family.
        If it has not.
    """
    what, least, most = _RANGES[check_choice("group", kind, get_args(PhotometricKind))]
    whole = kind == "jpeg"
    if math.isfinite(value) and least <= value <= most and (value == round(value) or not whole):
        return
    asked = f"{least:g} or more" if least == 0 else "a number"
    asked = f"a whole number from {least:g} to {most:g}" if whole else asked
    raise GeedError(f"group {group or kind}: {what} is {asked}; found {value:g}")


def luma(image: F32) -> NDArray[np.float64]:
    """Return how bright an image is, place by place.

    Parameters
    ----------
    image : ndarray of float32, shape (1 or 3, H, W)
        Grey or RGB.

    Returns
    -------
    ndarray of float64, shape (H, W)
        0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), as Pillow and JPEG have it, not rounded.
    """
    return np.tensordot(luma_weights(len(image)), image.astype(np.float64), axes=1)


def luma_weights(channels: int) -> NDArray[np.float64]:
    """Return what each of 1 or 3 channels, red first, adds to :func:`luma`; shape (channels,)."""
    return np.array([1.0] if channels == 1 else [0.299, 0.587, 0.114])


def brightness(image: F32, value: float) -> F32:
    """Add to every value of an image.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        An image.
    value : float
        What is added, in 255ths.

    Returns
    -------
    ndarray of float32, shape (C, H, W)

    Notes
    -----
    Choice: added, as the brightness of imagecorruptions adds to the value of HSV. Pillow's and
    torchvision's "brightness" is a factor, which changes contrast too.
    """
    return image + np.float32(value / 255)


def contrast(image: F32, factor: float) -> F32:
    """Draw an image's values towards its mean luma, or away from it.

    Parameters
    ----------
    image : ndarray of float32, shape (1 or 3, H, W)
        Grey or RGB.
    factor : float
        1 leaves the image as it is; 0 makes all of it grey.

    Returns
    -------
    ndarray of float32, shape (1 or 3, H, W)

    Notes
    -----
    Choice: one grey for all channels, the mean of the luma, as in torchvision's ``adjust_contrast``
    and Pillow's ``ImageEnhance.Contrast`` (which rounds it to a 255th); what is grey stays grey.
    The contrast of imagecorruptions is about each channel's own mean, which takes a cast away too.
    """
    grey = float(luma(image).mean())
    changed = factor * image.astype(np.float64) + (1 - factor) * grey
    return np.asarray(changed, dtype=np.float32)


def blur(image: F32, sigma: float) -> F32:
    """Blur every channel of an image by a Gaussian.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        An image.
    sigma : float
        Standard deviation of the Gaussian in pixels.

    Returns
    -------
    ndarray of float32, shape (C, H, W)

    Notes
    -----
    Choice: ``scipy.ndimage``, in float64, cut off at 4 σ, with the image mirrored at its edges
    (``reflect``, the outermost pixel comes twice): no light is lost and none comes in, so the mean
    stays. Pillow's ``GaussianBlur`` is three box blurs of 8-bit values and only near its σ.
    """
    with whole():
        from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(image.astype(np.float64), (0, sigma, sigma), mode="reflect")
    return np.asarray(smooth, dtype=np.float32)


def blur_matrix(sigma: float, side: int) -> NDArray[np.float64]:
    """Return what :func:`blur` does along a side of an image, as a matrix on its pixels.

    Parameters
    ----------
    sigma : float
        Standard deviation of the Gaussian in pixels.
    side : int
        Pixels along the side.

    Returns
    -------
    ndarray of float64, shape (side, side)
        Row i holds what pixel i is made of.
    """
    with whole():
        from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(np.eye(side), sigma, axis=0, mode="reflect"))


def noise(image: F32, sigma: float, seed: tuple[int, ...]) -> F32:
    """Add Gaussian noise, of its own for every value.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
        An image.
    sigma : float
        Standard deviation of the noise in 255ths.
    seed : tuple of int
        Not negative: the run's seed, the sample and the member. Equal seeds give equal noise.

    Returns
    -------
    ndarray of float32, shape (C, H, W)
    """
    drawn = np.random.default_rng(seed).standard_normal(image.shape)
    return (image + sigma / 255 * drawn).astype(np.float32)


def jpeg(image: F32, quality: int) -> F32:
    """Write an image as a JPEG file and read it again.

    Parameters
    ----------
    image : ndarray of float32, shape (1 or 3, H, W)
        Grey or RGB. Clipped and rounded to 8 bits first, which is what a JPEG file takes.
    quality : int
        Pillow's (libjpeg's) quality, 1 to 100.

    Returns
    -------
    ndarray of float32, shape (1 or 3, H, W)
        255ths in [0, 1].

    Notes
    -----
    Pillow's own settings: baseline, and with RGB the colours at half the resolution (4:2:0).
    """
    from PIL import Image

    pixels = np.moveaxis(to_bytes(image), 0, -1)
    grey = pixels.shape[-1] == 1
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "JPEG", quality=quality)
    with Image.open(file, formats=("JPEG",)) as opened:
        read = np.asarray(opened).reshape(pixels.shape)
    return from_bytes(np.ascontiguousarray(np.moveaxis(read, -1, 0)))


def clipped(image: F32) -> F32:
    """Return an image as a file of 8 bits holds it: clipped to [0, 1], rounded to 255ths.

    Parameters
    ----------
    image : ndarray of float32
        Values of any size.

    Returns
    -------
    ndarray of float32
    """
    return from_bytes(to_bytes(image))


def swap(image: F32, background: F32, mask: NDArray[np.bool_]) -> F32:
    """Put what is in the foreground of an image before another background.

    Parameters
    ----------
    image, background : ndarray of float32, shape (C, H, W)
        What stands in front, and what behind.
    mask : ndarray of bool, shape (H, W)
        Where the image stays: its foreground.

    Returns
    -------
    ndarray of float32, shape (C, H, W)
    """
    return np.where(mask, image, background)


def to_bytes(image: F32) -> NDArray[np.uint8]:
    """Return values clipped to [0, 1] as 8 bits, rounded to the nearest."""
    return np.asarray(np.rint(np.clip(image, 0, 1) * np.float32(255)), dtype=np.uint8)


def from_bytes(values: NDArray[np.uint8]) -> F32:
    """Return values of 8 bits in [0, 1], by the division of where image files are read."""
    return values.astype(np.float32) / np.float32(255)
