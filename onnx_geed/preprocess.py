"""What happens to an image on its way into a model: resize, crop, channels, scale, mean and std."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest

__all__ = [
    "PRESETS",
    "Preprocess",
    "parse_preprocess",
    "preprocess_from_json",
    "preprocess_to_json",
]

Channels = Literal["RGB", "BGR", "grey"]


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing, in the order in which it happens; the group acts before ``scale``.

    Parameters
    ----------
    resize : int or (int, int), optional
        Length of the shorter side, or height and width, in pixels.
    crop : int or (int, int), optional
        Height and width of a crop from the centre.
    channels : {"RGB", "BGR", "grey"}, optional
        What the model is fed; by default RGB or grey, as its input has 3 channels or 1.
    scale : float
        Multiplies values in [0, 1]; 255 for models that take 0 to 255.
    mean, std : tuple of float
        Subtracted and divided by after ``scale``; one for all channels, or one each.
    interpolation : {"bilinear", "bicubic", "nearest"}
        How images are resized, with antialiasing.

    Raises
    ------
    GeedError
        If a value is not of its kind.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    channels: Channels | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            sizes = value if isinstance(value, tuple) else (value,)
            right = all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes)
            if value is not None and (not right or len(sizes) > 2):
                raise GeedError(f"preprocess {name}={value!r}: write 256, or 224x320 (height×width)")
        if self.channels not in (None, "RGB", "BGR", "grey"):
            raise GeedError(f"preprocess channels={self.channels!r}: RGB, BGR or grey")
        if self.interpolation not in ("bilinear", "bicubic", "nearest"):
            raise GeedError(
                f"preprocess interpolation={self.interpolation!r}: bilinear, bicubic or nearest"
            )
        if not np.isfinite([self.scale, *self.mean, *self.std]).all() or 0 in (
            self.scale,
            *self.std,
        ):
            raise GeedError("preprocess: scale, mean and std are finite, scale and std not zero")

    def finish(self, x: NDArray[np.float32], channel_axis: int | None) -> NDArray[np.float32]:
        """Apply what comes after the action.

        Parameters
        ----------
        x : ndarray of float32
            Values in [0, 1] for images.
        channel_axis : int or None
            Where the channels are.

        Returns
        -------
        ndarray of float32
            What the model is fed, but for its layout.

        Raises
        ------
        GeedError
            If there are not as many means as channels.
        """
        if self.channels == "BGR" and channel_axis is not None:
            x = np.flip(x, axis=channel_axis)
        if self.scale != 1.0:
            x = x * np.float32(self.scale)
        for name, operation in (("mean", np.subtract), ("std", np.divide)):
            values = getattr(self, name)
            if not values:
                continue
            if len(values) == 1:
                x = operation(x, np.float32(values[0]))
                continue
            count = x.shape[channel_axis] if channel_axis is not None else 1
            if len(values) != count:
                raise GeedError(
                    f"preprocess {name}: {len(values)} values for {count} channels; give 1 or {count}"
                )
            assert channel_axis is not None
            shape = [1] * x.ndim
            shape[channel_axis] = count
            x = operation(x, np.array(values, dtype=np.float32).reshape(shape))
        return np.ascontiguousarray(x, dtype=np.float32)


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

_KEYS = tuple(f.name for f in dataclasses.fields(Preprocess))


def parse_preprocess(text: str) -> Preprocess:
    """Read what the command line says of preprocessing.

    Parameters
    ----------
    text : str
        A preset, a JSON file, or ``key=value`` pairs separated by spaces, a preset before them if
        one is to be changed: ``"imagenet resize=232"``.

    Returns
    -------
    Preprocess

    Raises
    ------
    GeedError
        If it is none of these, or a value is not of its kind.
    """
    words = text.split()
    if not words:
        raise GeedError(f"--preprocess is empty: give {', '.join(PRESETS)}, a file, or key=value")
    if text in PRESETS:
        return PRESETS[text]
    if Path(text).is_file():
        return preprocess_from_json(_read(Path(text)), f"--preprocess {text}")
    first = PRESETS.get(words[0])
    values: dict[str, Any] = dataclasses.asdict(first) if first else {}
    for word in words[1:] if first else words:
        key, equals, value = word.partition("=")
        if not equals:
            raise GeedError(
                f"--preprocess {word}: neither a preset ({', '.join(PRESETS)}) nor a file nor "
                f"key=value.{nearest(word, PRESETS)}"
            )
        values[key] = _value(key, value)
    return _made(values, f"--preprocess {text!r}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GeedError(f"--preprocess {path}: cannot be read as text ({error})") from None


def _value(key: str, text: str) -> Any:
    try:
        if key in ("resize", "crop"):
            sizes = tuple(int(part) for part in text.split("x"))
            return sizes[0] if len(sizes) == 1 else sizes
        if key in ("mean", "std"):
            return tuple(float(part) for part in text.split(","))
        if key == "scale":
            return float(text)
    except ValueError:
        raise GeedError(f"--preprocess {key}={text}: not a number") from None
    return text


def preprocess_from_json(text: str, source: str = "metadata onnx_geed.preprocess") -> Preprocess:
    """Read preprocessing from the JSON object that model metadata hold.

    Raises
    ------
    GeedError
        If it is not a JSON object with the fields of :class:`Preprocess`.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise GeedError(f"{source}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise GeedError(f"{source}: expected a JSON object with {', '.join(_KEYS)}")
    return _made(content, source)


def preprocess_to_json(preprocess: Preprocess) -> str:
    """Write what differs from the defaults as JSON."""
    plain = Preprocess()
    content = dataclasses.asdict(preprocess)
    return json.dumps({k: v for k, v in content.items() if v != getattr(plain, k)}, sort_keys=True)


def _made(values: Mapping[str, Any], source: str) -> Preprocess:
    for key in values:
        if key not in _KEYS:
            raise GeedError(
                f"{source}: no key is called {key!r}: there are {', '.join(_KEYS)}."
                f"{nearest(key, _KEYS)}"
            )
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for key in ("mean", "std"):
        if isinstance(fields.get(key), (int, float)):
            fields[key] = (float(fields[key]),)
    try:
        return Preprocess(**fields)
    except TypeError as error:
        raise GeedError(f"{source}: {error}") from None
