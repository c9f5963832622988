"""External data: a model's weights in files beside its own, and where these may be."""

from __future__ import annotations

import math
from pathlib import Path

import onnx

from onnx_geed.errors import GeedError, shown
from onnx_geed.model.stored_tensors import stored, stored_bytes
from onnx_geed.text import format_bytes

__all__ = ["external_files", "leads_out", "location_of", "read_small"]

#: Externally stored tensors of at most so many elements are read in: they are shapes and axes, and
#: neither shape inference nor ONNX Runtime's own takes those from another file.
_SMALL = 1024

# Bytes of all of these.
_SMALL_ONES = 64 << 20

# Of an offset or length: no file is longer.
_MOST_DIGITS = 18

# Bytes of a file of weights that nothing of the model uses, beside four times those that it does.
_UNREAD = 4 << 30


def external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """Return the files of external data, each checked to be where ONNX Runtime reads, and whole.

    Weights that were left in the model's own file do not count.
    """
    files: dict[str, Path] = {}
    ends: dict[str, int] = {}
    for tensor in stored(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location, offset, length = _place(tensor, path)
        own = location == path.name
        file = path if own else files.get(location) or _checked(path, location)
        if not own:
            files[location] = file
        if offset + length > file.stat().st_size:
            raise GeedError(
                f"{path}: its weights {shown(location)!r} end before tensor {shown(tensor.name)} "
                "does; copy the file completely"
            )
        ends[location] = max(ends.get(location, 0), offset + length)
    for location, file in files.items():
        # All of it is read for the fingerprint, a hole of any size too.
        if (size := file.stat().st_size) > 4 * ends[location] + _UNREAD:
            raise GeedError(
                f"{path}: its weights {shown(location)!r} have {format_bytes(size)}, but the model "
                f"uses only the first {format_bytes(ends[location])}; save the model again"
            )
    return [files[key] for key in sorted(files)]


def _checked(path: Path, location: str) -> Path:
    file = path.parent / location
    if leads_out(location):
        raise GeedError(
            f"{path}: its weights lie outside its folder ({shown(location)!r}), where ONNX Runtime "
            "refuses to read; put both in one folder and save the model again"
        )
    try:
        found = file.is_file()
    except OSError:  # a name that no file can have
        found = False
    if not found:
        raise GeedError(f"{path}: its weights {shown(location)!r} are missing; put them beside it")
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise GeedError(
            f"{path}: its weights {shown(location)!r} are a symbolic link out of its folder, "
            "which ONNX Runtime refuses; put the file itself there"
        )
    return file


def _place(tensor: onnx.TensorProto, path: Path) -> tuple[str, int, int]:
    """Return file, offset and length of an externally stored tensor."""
    entries = {e.key: e.value for e in tensor.external_data}
    size = stored_bytes(tensor)
    offset, length = (_count(entries.get(key), key, tensor, path) for key in ("offset", "length"))
    if size is not None and length not in (0, size):
        raise GeedError(
            f"{path}: tensor {shown(tensor.name)} takes {size:,} bytes, but its external data are "
            f"declared with {length:,}; save the model again"
        )
    return location_of(tensor), offset, length or size or 0


def location_of(tensor: onnx.TensorProto) -> str:
    """Return the file that an externally stored tensor names; of two, the last."""
    return next((e.value for e in reversed(tensor.external_data) if e.key == "location"), "")


def _count(text: str | None, key: str, tensor: onnx.TensorProto, path: Path) -> int:
    """Read an offset or a length, 0 where there is none."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        raise GeedError(
            f"{path}: the {key} of tensor {shown(tensor.name)} in its external data is "
            f"{shown(text)}, not a number of bytes; save the model again"
        )
    return int(text)


def read_small(proto: onnx.ModelProto, path: Path) -> None:
    """Read externally stored tensors that are small into the model."""
    left = _SMALL_ONES
    for tensor in stored(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL and math.prod(tensor.dims) <= _SMALL:
            location, offset, length = _place(tensor, path)
            left -= length
            if left < 0:  # nobody's shapes
                return
            with (path.parent / location).open("rb") as stream:
                stream.seek(offset)
                tensor.raw_data = stream.read(length)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def leads_out(location: str) -> bool:
    """Say whether external data lie where no model's may: an address is no place for them."""
    place = Path(location)
    return not location or place.is_absolute() or ".." in place.parts or "://" in location
