"""Recordings: WAV and FLAC files, by soundfile."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, reason_of
from onnx_geed.extras import package
from onnx_geed.groups import parse_layout
from onnx_geed.held import check_held
from onnx_geed.ordinary import check_ordinary
from onnx_geed.text import counted

__all__ = ["frames_of", "read_recording", "recordings"]

# Programs that write to a pipe state about the largest length that there is, and mean: to the end.
_ENDLESS = 0x7FFF0000


def recordings(layout: str, allowed: int) -> Callable[[Path, str], NDArray[np.float32]]:
    """Return what reads the recordings of a folder, all of one rate.

    Parameters
    ----------
    layout : str
        ``NCT``, ``NTC`` or ``NT``: C are the channels of the recording.
    allowed : int
        Bytes that may be held of one.

    Returns
    -------
    callable
        Takes a path and its name for messages; returns what :func:`read_recording` does. It
        refuses a recording that has not as many samples a second as the first that it read.
    """
    first: list[tuple[int, str]] = []

    def read(path: Path, where: str) -> NDArray[np.float32]:
        values, rate = read_recording(path, layout, where, allowed)
        first.append((rate, path.name))
        if rate != first[0][0]:
            raise GeedError(
                f"{where}: has {counted(rate, 'sample')} per second, but {first[0][1]} has "
                f"{first[0][0]}; "
                "resample all to one rate"
            )
        del first[1:]
        return values

    return read


def read_recording(
    path: Path, layout: str, where: str, allowed: int
) -> tuple[NDArray[np.float32], int]:
    """Read a recording.

    Parameters
    ----------
    path : Path
        A WAV or FLAC file.
    layout : str
        ``NCT``, ``NTC`` or ``NT``: C are the channels of the recording.
    where : str
        Its name in messages.
    allowed : int
        Bytes that may be held of it.

    Returns
    -------
    recording : ndarray of float32
        Samples in [-1, 1]; files of floats as they are. Stored as the layout says.
    rate : int
        Samples a second.

    Raises
    ------
    GeedError
        If soundfile is not installed.
        If it cannot be decoded, or was cut off.
        If it has several channels, and the layout has none.
        If it is too long.
    """
    frames = frames_of(path, where, allowed)
    soundfile = package("soundfile", "audio", where)
    try:
        values, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except Exception as error:  # whatever the decoder raises on damaged files
        raise _undecoded(where, error) from None
    if len(values) != frames:
        raise GeedError(f"{where}: cut off after {len(values)} of {frames} samples; fetch it again")
    letters = parse_layout(layout).letters[1:]
    if "C" not in letters:
        if values.shape[1] != 1:
            raise GeedError(
                f"{where}: has {counted(values.shape[1], 'channel')}, but the model ({layout}) "
                "takes one "
                "line; mix it down to one channel"
            )
        return np.ascontiguousarray(values[:, 0]), int(rate)
    return np.ascontiguousarray(values if letters == "TC" else values.T), int(rate)


def frames_of(path: Path, where: str, allowed: int) -> int:
    """Return how many samples long a recording is, from its head.

    Raises
    ------
    GeedError
        If soundfile is not installed.
        If it cannot be decoded, or was cut off.
        If it is too long.
    """
    soundfile = package("soundfile", "audio", where)
    check_ordinary(path, where)
    try:
        info = soundfile.info(str(path), verbose=True)
    except Exception as error:  # as above
        raise _undecoded(where, error) from None
    # The library takes a file that was cut off for a shorter recording.
    cut = re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, re.M)
    if cut and int(cut[2]) < int(cut[1]) < _ENDLESS:
        raise GeedError(f"{where}: cut off: {cut[2]} of {cut[1]} bytes are there; fetch it again")
    # Once as it is decoded, once as it is stored.
    check_held(where, 8 * info.frames * info.channels, allowed, "cut it into shorter ones")
    return int(info.frames)


def _undecoded(where: str, error: Exception) -> GeedError:
    return GeedError(
        f"{where}: cannot be decoded as a recording ({reason_of(error)}); repair or remove it"
    )
