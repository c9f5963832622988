"""Image files and planes of numbers: decode, resize, crop."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.preprocess import Preprocess
from onnx_geed.errors import GeedError
from onnx_geed.held import ALLOWED, check_held
from onnx_geed.ordinary import open_ordinary
from onnx_geed.overrun import is_command

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "decode", "resize_and_crop"]

F32 = NDArray[np.float32]


# Bytes of memory for a pixel: of an image that is decoded and changed from one kind into another,
# of one that is shown on black in between, and of one channel that is made of it.
_DECODED, _SHOWN, _MADE = 12, 20, 8

# Tags of TIFF: bits a sample, and whether zero is white or black.
_BITS, _WHAT_ZERO_IS, _WHITE = 258, 262, 0

_SMALLER = "make the image smaller, or raise --memory"


# What Pillow may take a file for, whatever it is called: for some others it runs programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


#: Files that are taken for images, in lower case.
SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)


def decode(
    path: Path, preprocess: Preprocess, *, grey: bool, name: str, allowed: int = ALLOWED
) -> F32:
    """Read an image as the group will act on it.

    Parameters
    ----------
    path : Path
        An image file.
    preprocess : Preprocess
        Its resize, crop and interpolation are applied.
    grey : bool
        Whether one channel is wanted, or three.
    name : str
        Its name in messages.
    allowed : int
        Bytes that may be held while it is read.

    Returns
    -------
    ndarray of float32, shape (1 or 3, H, W)
        Values in [0, 1]; floating-point images as they are.

    Raises
    ------
    GeedError
        If it cannot be decoded.
        If it has too many pixels, or is to be made too large.
        If it is smaller than the crop.

    Notes
    -----
    Choice: EXIF orientation is applied, what is transparent is shown on black, 16-bit grey is
    scaled by 1/65535 (that of 12 bits by 1/4095), colours of 16 bits are taken with their upper 8,
    of several frames the first is taken. Images of 8 bits are resized in 8 bits.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with open_ordinary(path, name) as file:
            image, (black, white) = _decoded(
                file, preprocess, grey=grey, name=name, allowed=allowed
            )
    except GeedError:
        raise
    except Image.DecompressionBombError as error:
        raise GeedError(f"{name}: {error}; make the image smaller") from None
    except UnidentifiedImageError:
        raise GeedError(
            f"{name}: cannot be decoded as an image (it is no {', '.join(_FORMATS[:-1])} or "
            f"{_FORMATS[-1]}, or its head is damaged); repair or remove it"
        ) from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GeedError(
            f"{name}: cannot be decoded as an image ({reason[:160]}); repair or remove it"
        ) from None
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32)
        if image.mode != "F":
            if values.min() < 0 or values.max() > 65535:
                raise GeedError(f"{name}: values outside 0 to 65535; save it with 8 or 16 bits")
            values = (values - np.float32(black)) / np.float32(white - black)
        x = resize_and_crop(values[None], preprocess, name=name, allowed=allowed)
        _check_made(x.shape[1:], grey=grey, name=name, allowed=allowed)
        return x if grey else np.repeat(x, 3, axis=0)
    image = _resized_and_cropped(image, preprocess, name, allowed)
    _check_made(image.size[::-1], grey=grey, name=name, allowed=allowed)
    x = np.asarray(image, dtype=np.float32)
    x /= np.float32(255)
    return np.ascontiguousarray(x[None] if grey else np.moveaxis(x, -1, 0))


def _decoded(
    file: BinaryIO, preprocess: Preprocess, *, grey: bool, name: str, allowed: int
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an image, and return it with what black and white are in grey of 16 bits.

    First no more is read of it than its head: its size is told there.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=_FORMATS) as opened:
        if opened.format == "TIFF" and is_command():
            _hush_libtiff()
        width, height = opened.size
        as_it_is = preprocess.resize is None and preprocess.crop is None
        a_pixel = _SHOWN if _is_transparent(opened) else _DECODED
        a_pixel += _MADE * (1 if grey else 3) if as_it_is else 0
        pixels = f"{name}: an image of {height}×{width} pixels (height × width)"
        check_held(pixels, width * height * a_pixel, allowed, _SMALLER)
        levels = _levels(opened)
        image: Image.Image = ImageOps.exif_transpose(opened)
        image.load()
        # Palettes and transparency are only looked at here, and may be damaged too.
        return _shown(image, grey=grey), levels


def _shown(image: Image.Image, *, grey: bool) -> Image.Image:
    """Return an image in grey or in colours, on black; numbers of over 8 bits as they are."""
    from PIL import Image

    if image.mode == "LAB":  # of which only colours can be made, and grey of these
        image = image.convert("RGB")
    if image.mode == "F" or image.mode.startswith("I"):
        clear = image.info.get("transparency")
        # Only PNG has it there: the one grey that is transparent.
        return image if clear is None else _without_grey(image, clear)
    if _is_transparent(image):
        if image.mode == "La":
            image = image.convert("LA")
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if grey else "RGB")


def _without_grey(image: Image.Image, clear: int) -> Image.Image:
    """Return an image of numbers in which one of them is black."""
    from PIL import Image

    values = np.array(image)
    values[values == clear] = 0
    return Image.fromarray(values)


@functools.cache
def _hush_libtiff() -> None:
    """Keep Pillow's libtiff from writing to stderr what a damaged file is told of in a line."""
    try:
        maps = Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines()
        # Only what runs here already: a file that is mapped to be read may be anybody's.
        running = {line.split(None, 5)[-1] for line in maps if line.split()[1][2] == "x"}
        for library in (name for name in running if Path(name).name.startswith("libtiff")):
            loaded = ctypes.CDLL(library)
            for handler in (loaded.TIFFSetErrorHandler, loaded.TIFFSetWarningHandler):
                handler.restype = ctypes.c_void_p
                handler(None)
    except (AttributeError, OSError):
        pass  # elsewhere than on Linux nobody says where it lies


def _levels(image: Image.Image) -> tuple[int, int]:
    """Return what black and white are in an image of 16 bits a pixel, by its tags if it is TIFF."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    levels = 0, (1 << bits) - 1 if image.mode.startswith("I;") and 8 < bits < 16 else 65535
    return levels[::-1] if tags.get(_WHAT_ZERO_IS) == _WHITE else levels


def _is_transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA")


def _check_made(plane: Sequence[int], *, grey: bool, name: str, allowed: int) -> None:
    height, width = plane
    made = f"{name}: a sample of {height}×{width} pixels (height × width)"
    size = width * height * (_DECODED + _MADE * (1 if grey else 3))
    check_held(made, size, allowed, f"{_SMALLER}, as with --preprocess 'resize=256 crop=224'")


def resize_and_crop(x: F32, preprocess: Preprocess, *, name: str, allowed: int = ALLOWED) -> F32:
    """Resize and crop the last two axes, plane by plane.

    Parameters
    ----------
    x : ndarray of float32, shape (..., H, W)
        Values.
    preprocess : Preprocess
        Its resize, crop and interpolation are applied.
    name : str
        Its name in messages.
    allowed : int
        Bytes that may be held meanwhile.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    GeedError
        If it is smaller than the crop.
        If it is to be made too large.
    """
    if preprocess.resize is None and preprocess.crop is None:
        return np.ascontiguousarray(x)
    from PIL import Image

    planes = np.ascontiguousarray(x).reshape(-1, *x.shape[-2:])
    height, width = _resized(x.shape[-2:], preprocess)
    if preprocess.crop is not None:
        height, width = map(min, (height, width), _pair(preprocess.crop))
    made = f"{name}: {len(planes)} planes of {height}×{width} (height × width)"
    check_held(made, len(planes) * height * width * _MADE, allowed, "resize to less, or crop")
    fitted = [
        np.asarray(_resized_and_cropped(Image.fromarray(p), preprocess, name, allowed))
        for p in planes
    ]
    return np.stack(fitted).reshape(*x.shape[:-2], *fitted[0].shape)


def _resized(plane: Sequence[int], preprocess: Preprocess) -> tuple[int, int]:
    """Return the height and width that an image is resized to."""
    (height, width), resize = plane, preprocess.resize
    if resize is None or isinstance(resize, tuple):
        return resize or (height, width)
    short = min(width, height)
    return resize * height // short, resize * width // short


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return sides if isinstance(sides, tuple) else (sides, sides)


def _resized_and_cropped(image: Any, preprocess: Preprocess, name: str, allowed: int) -> Any:
    """Resize and crop a Pillow image."""
    from PIL import Image

    width, height = image.size
    resize, crop = preprocess.resize, preprocess.crop
    height, width = _resized((height, width), preprocess)
    if (width, height) != image.size:
        asked = "x".join(map(str, resize)) if isinstance(resize, tuple) else resize
        what = f"{name}: preprocess resize={asked} makes it {height}×{width} (height × width)"
        check_held(what, width * height * _DECODED, allowed, "resize it to less")
        image = image.resize((width, height), Image.Resampling[preprocess.interpolation.upper()])
    if crop is None:
        return image
    down, across = _pair(crop)
    if across > width or down > height:
        raise GeedError(
            f"{name}: {height}×{width} is smaller than crop={down}x{across}; resize to more, or "
            "crop less"
        )
    left, top = round((width - across) / 2), round((height - down) / 2)
    return image.crop((left, top, left + across, top + down))
