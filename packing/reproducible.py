"""The build backend: setuptools', and then archives that are the same bytes wherever they are made.

setuptools writes the times and modes of files, and of the build itself, into them. Here every file
has the time ``SOURCE_DATE_EPOCH``, or that of the oldest date a zip file can hold, mode 0644, no
owner, and its place by name.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks, as they are

__all__ = [*build_meta.__all__]

# 1 January 1980, where zip files begin.
_EARLIEST = 315532800


def build_wheel(folder: str, *arguments: Any, **named: Any) -> str:
    """Build a wheel; return its name."""
    name = build_meta.build_wheel(folder, *arguments, **named)
    path = Path(folder, name)
    with zipfile.ZipFile(path) as archive:
        # As in the wheel's own list of contents, which stands last.
        contents = [(member.filename, archive.read(member)) for member in archive.infolist()]
    contents.sort(key=lambda item: (".dist-info/" in item[0], item[0].endswith("RECORD"), item[0]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in contents:
            entry = zipfile.ZipInfo(member, time.gmtime(_moment())[:6])
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return name


def build_sdist(folder: str, *arguments: Any, **named: Any) -> str:
    """Build a source distribution; return its name."""
    name = build_meta.build_sdist(folder, *arguments, **named)
    path = Path(folder, name)
    with tarfile.open(path) as archive:
        contents = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in sorted(contents):
            entry = tarfile.TarInfo(member)
            entry.size, entry.mtime, entry.mode = len(contents[member]), _moment(), 0o644
            archive.addfile(entry, io.BytesIO(contents[member]))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=_moment()))
    return name


def _moment() -> int:
    return max(_EARLIEST, int(os.environ.get("SOURCE_DATE_EPOCH", _EARLIEST)))
