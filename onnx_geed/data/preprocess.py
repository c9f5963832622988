"""The way of an image into a model: resize, crop, channels, scale, mean and std."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_geed.addresses import address_of
from onnx_geed.arguments import checked
from onnx_geed.copies import copy_file
from onnx_geed.errors import GeedError, looking_at, nearest, shown
from onnx_geed.held import read_text
from onnx_geed.json_text import parse_json
from onnx_geed.text import counted

__all__ = [
    "PRESETS",
    "Preprocess",
    "parse_preprocess",
    "preprocess_from_json",
    "preprocess_to_json",
]

Channels = Literal["RGB", "BGR", "grey"]


Interpolation = Literal["bilinear", "bicubic", "nearest"]


_CHANNELS: tuple[str, ...] = get_args(Channels)


_RESAMPLING: tuple[str, ...] = get_args(Interpolation)


def _sizes(name: str, value: Any) -> int | tuple[int, int] | None:
    if value is None:
        return None
    pair = isinstance(value, (tuple, list))
    parts = list(value) if pair and len(value) == 2 else [value]
    numbers = [int(v) for v in parts if isinstance(v, Integral) and not isinstance(v, bool)]
    if len(numbers) != (2 if pair else 1) or len(parts) != len(numbers) or min(numbers) < 1:
        raise GeedError(
            f"preprocess {name}={shown(value)}: give one positive whole number, or two: height, "
            "width"
        )
    return (numbers[0], numbers[1]) if pair else numbers[0]


def _number(name: str, value: Any) -> float:
    # Bounded by float32, in which samples are computed; this is also false for NaN.
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if real and abs(value) < 3e38:
        return float(value)
    raise GeedError(f"preprocess {name}={shown(value)}: not a finite number")


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    several = value.tolist() if isinstance(value, np.ndarray) and value.ndim < 2 else value
    several = several if isinstance(several, (tuple, list)) else (several,)
    return tuple(_number(name, v) for v in several)


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing, in the order of its steps; the group acts before ``scale``.

    Parameters
    ----------
    resize : int or (int, int), optional
        Length of the shorter side, or height and width, in pixels.
    crop : int or (int, int), optional
        Height and width of a crop from the centre.
    channels : {"RGB", "BGR", "grey"}, optional
        Channels of the model's input; by default RGB for 3 channels and grey for 1.
    scale : float
        Factor for values in [0, 1]; 255 for models that take 0 to 255.
    mean, std : tuple of float
        Subtracted and divided by after ``scale``; one for all channels, or one each.
    interpolation : {"bilinear", "bicubic", "nearest"}
        How images are resized, with antialiasing.

    Raises
    ------
    GeedError
        If resize or crop are not positive whole numbers.
        If scale, mean or std are not finite numbers, or scale or std are zero.
        If channels or interpolation are not among the values above.

    Notes
    -----
    Choice: the group acts on unrounded values, and pixels from outside are black. Sizes follow
    torchvision: the longer side is truncated to a whole number of pixels, and a crop that cannot be
    central is moved by half a pixel.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    channels: Channels | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        # Python's spellings (lists, one number for all channels, 255 for 255.0) are brought to one
        # form, since equal preprocessings must compare equal and have one fingerprint.
        forms = {"resize": _sizes, "crop": _sizes, "mean": _numbers, "std": _numbers}
        for name, formed in (forms | {"scale": _number}).items():
            value = getattr(self, name)
            with looking_at(f"preprocess {name}", value):
                object.__setattr__(self, name, formed(name, value))
        if any(np.float32(v) == 0 for v in (self.scale, *self.std)):
            raise GeedError("preprocess scale and std must not be zero: give other numbers")
        for name, allowed in (("channels", (None, *_CHANNELS)), ("interpolation", _RESAMPLING)):
            value = getattr(self, name)
            with looking_at(f"preprocess {name}", value):
                known = (value is None or isinstance(value, str)) and value in allowed
            if not known:
                names = [a for a in allowed if a]
                near = nearest(value, names) if isinstance(value, str) else ""
                raise GeedError(
                    f"preprocess {name}={shown(value)}: choose from {', '.join(names)}.{near}"
                )

    def finish(self, x: NDArray[np.float32], channel_axis: int | None) -> NDArray[np.float32]:
        """Apply the part after the action: channel order, scale, mean and std.

        Parameters
        ----------
        x : ndarray of float32
            Values in [0, 1] for images.
        channel_axis : int or None
            Axis of the channels; ``None`` for samples without channels.

        Returns
        -------
        ndarray of float32
            The model's input, except for its layout.

        Raises
        ------
        GeedError
            If the number of means is not the number of channels.
        """
        if self.channels == "BGR" and channel_axis is not None:
            x = np.flip(x, axis=channel_axis)
        if self.scale != 1.0:
            x = x * np.float32(self.scale)
        for name, values, operation in (
            ("mean", self.mean, np.subtract),
            ("std", self.std, np.divide),
        ):
            if not values:
                continue
            count = 1 if channel_axis is None else x.shape[channel_axis]
            if len(values) not in (1, count):
                raise GeedError(
                    f"preprocess {name}: {counted(len(values), 'value')}, but the model takes "
                    f"{count} "
                    f"channel{'s' * (count != 1)}: give one value for all"
                    + (f", or {count}" if count > 1 else "")
                )
            shape = [1] * x.ndim
            if channel_axis is not None:
                shape[channel_axis] = len(values)
            x = operation(x, np.array(values, dtype=np.float32).reshape(shape))
        return np.ascontiguousarray(x, dtype=np.float32)

    def on_colours(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the part after the action as a matrix and an offset on the channels of a pixel.

        Parameters
        ----------
        count : int
            Number of channels.

        Returns
        -------
        matrix : ndarray of float64, shape (count, count)
            Of channels in the model's order from those of an image.
        offset : ndarray of float64, shape (count,)
            What black becomes.
        """
        # As float32 holds them, which they are applied in.
        scale, mean, std = (
            np.array(values, dtype=np.float32).astype(np.float64)
            for values in (self.scale, self.mean or 0.0, self.std or 1.0)
        )
        order = np.arange(count)[:: -1 if self.channels == "BGR" else 1]
        each = np.broadcast_to(scale / std, (count,))
        return each[:, None] * np.eye(count)[order], np.broadcast_to(-mean / std, (count,))


#: Named preprocessings.
PRESETS: Mapping[str, Preprocess] = {
    "imagenet": Preprocess(
        resize=256,
        crop=224,
        channels="RGB",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    "minus1to1": Preprocess(mean=(0.5,), std=(0.5,)),
    "unit": Preprocess(),
    "bytes": Preprocess(scale=255.0),
    "caffe": Preprocess(
        resize=256, crop=224, channels="BGR", scale=255.0, mean=(103.939, 116.779, 123.68)
    ),
}


# Letters of a preprocessing as JSON.
_LONGEST = 100_000


_KEYS = tuple(f.name for f in dataclasses.fields(Preprocess))


_KEYS_TEXT = ", ".join(_KEYS)


@checked
def parse_preprocess(text: str) -> Preprocess:
    """Read preprocessing in the form of the command line.

    Parameters
    ----------
    text : str
        A preset; a JSON file; or ``key=value`` pairs separated by spaces, optionally after a preset
        that they change: ``"imagenet resize=232 crop=224x320 mean=0.5,0.5,0.5"``. The value
        ``none`` resets a key to its default.

    Returns
    -------
    Preprocess

    Raises
    ------
    GeedError
        If it is not one of these.
        If a key is unknown or given twice.
        If a value does not fit its key.
    """
    words = text.split()
    presets = ", ".join(PRESETS)
    if not words:
        raise GeedError(f"--preprocess is empty: give a preset ({presets}), a file, or key=value")
    if (address := address_of(text)) is not None:
        copy = copy_file(address)
        return preprocess_from_json(_text_of(copy.path), f"--preprocess {copy.address}")
    if os.path.isfile(text) and text not in PRESETS:
        return preprocess_from_json(_text_of(Path(text)), f"--preprocess {text}")
    first = PRESETS.get(words[0])
    values: dict[str, Any] = {}
    for word in words[1:] if first else words:
        key, equals, value = word.partition("=")
        if word in PRESETS:
            raise GeedError(f"--preprocess {text!r}: the preset {word!r} comes first, and only one")
        if not equals:
            raise GeedError(
                f"--preprocess {word}: neither a preset ({presets}) nor a file nor key=value."
                f"{nearest(word, PRESETS)}"
            )
        if key in values:
            raise GeedError(f"--preprocess {text!r}: {key} is given twice; leave one out")
        values[key] = _value(key, value)
    base = dataclasses.asdict(first) if first else {}
    return _from_keys({**base, **values}, f"--preprocess {text!r}")


def preprocess_from_json(text: str, source: str = "metadata onnx_geed.preprocess") -> Preprocess:
    """Read preprocessing from the JSON object that a model's metadata hold.

    Parameters
    ----------
    text : str
        A JSON object whose keys are fields of :class:`Preprocess`; absent or null: the default.
    source : str
        Where the text stands, for messages.

    Returns
    -------
    Preprocess

    Raises
    ------
    GeedError
        If it is not a JSON object, or a very long one.
        If a key is not known.
        If a value does not fit its key.
    """
    if len(text) > _LONGEST:
        raise GeedError(
            f"{source}: has {len(text):,} letters, a preprocessing at most {_LONGEST:,}; is it the "
            "right file?"
        )
    try:
        content = parse_json(text, source)
    except GeedError as error:
        raise GeedError(f"{error}; the keys are {_KEYS_TEXT}") from None
    if not isinstance(content, dict):
        raise GeedError(f"{source}: not a JSON object; the keys are {_KEYS_TEXT}")
    return _from_keys(content, source)


def preprocess_to_json(preprocess: Preprocess) -> str:
    """Return the keys that differ from the defaults as a JSON object, in alphabetical order."""
    plain = Preprocess()
    content = dataclasses.asdict(preprocess)
    return json.dumps({k: v for k, v in content.items() if v != getattr(plain, k)}, sort_keys=True)


def _text_of(path: Path) -> str:
    try:
        return read_text(path, f"--preprocess {path}")
    except (OSError, UnicodeDecodeError):
        raise GeedError(f"--preprocess {path}: cannot be read as text; give a JSON file") from None


def _value(key: str, text: str) -> Any:
    """Value of a ``key=value`` pair; the fields judge it later."""
    if text.lower() == "none":
        return None
    try:
        if key in ("resize", "crop"):
            sizes = tuple(int(part) for part in text.lower().split("x"))
            return sizes[0] if len(sizes) == 1 else sizes
        if key in ("mean", "std"):
            return tuple(float(part) for part in text.split(","))
        if key == "scale":
            return float(text)
    except ValueError:
        wanted = "256, or 224x320" if key in ("resize", "crop") else "numbers, as in 0.5,0.5,0.5"
        raise GeedError(f"--preprocess {key}={text}: cannot be read; write {wanted}") from None
    return text


def _from_keys(values: Mapping[str, Any], source: str) -> Preprocess:
    for key in values:
        if key not in _KEYS:
            raise GeedError(
                f"{source}: no key is called {key!r}; choose from "
                f"{_KEYS_TEXT}.{nearest(key, _KEYS)}"
            )
    try:
        return Preprocess(**{k: v for k, v in values.items() if v is not None})
    except GeedError as error:
        raise GeedError(f"{source}: {str(error).removeprefix('preprocess ')}") from None
