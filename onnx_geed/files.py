"""Files that appear whole or not at all: one writer for results, pages, models and shards.

A file gets its name only when all of it is on the disk, so that neither a full disk nor a killed
process leaves half a file, or destroys the one before it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from onnx_geed.addresses import (
    address_of,
    check_address_writable,
    leaf,
    make_address_folder,
    put,
    sibling,
)
from onnx_geed.arguments import checked
from onnx_geed.confinement import staged
from onnx_geed.copies import copy_file, read_by_copy
from onnx_geed.errors import GeedError
from onnx_geed.json_text import LONGEST, parse_json
from onnx_geed.ordinary import check_sink, open_ordinary, open_sink
from onnx_geed.spared import spare
from onnx_geed.text import json_pieces

__all__ = [
    "Stamp",
    "check_writable",
    "make_folder",
    "read_json",
    "remove_unfinished",
    "replacing",
    "stamp",
    "write_bytes",
    "write_json",
    "write_text",
    "writing_beside",
]

#: Files that are being written at the moment, for a process that ends without unwinding.
_UNFINISHED: set[Path] = set()


# A descriptor of this process by its path: written to as it is, at the place where it stands.
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


# Answers of file systems that cannot flush a folder, or do not let it be opened.
_NO_FOLDER_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF))


def check_writable(
    path: str | Path, *, option: str = "--out", inputs: Sequence[str | Path | None] = ()
) -> None:
    """Make sure that a file can be written, before a long run.

    Parameters
    ----------
    path : str or Path
        Path of the file.
    option : str
        The option that named it, for the message.
    inputs : sequence of str, Path or None
        What is read for it, which it must not change: files, ``FILE:KEY``, and folders of samples.

    Raises
    ------
    GeedError
        If the folder does not exist or cannot be written to, or the path is a folder.
        If it is one of the inputs, or lies among them or in a cache.
        If it is an address that cannot be written to.
    """
    if (address := address_of(path)) is not None:
        if address in map(address_of, inputs):
            raise GeedError(f"{option} {address}: is the file that is read; name another file")
        check_address_writable(address, option)
        return
    path = Path(path)
    try:
        if path.is_dir():
            raise GeedError(f"{option} {path}: is a folder; name a file in it")
        if _descriptor(path) is not None:
            return
        check_sink(path)
        parent = _target(path).parent
        if not parent.is_dir():
            raise GeedError(f"{option} {path}: there is no folder {parent}; make it first")
        if path.exists() and not os.access(path, os.W_OK):
            raise GeedError(f"{option} {path}: cannot be overwritten (permission denied)")
        spare(path, option, inputs)
        if not path.exists() or path.is_file():
            trial = _temporary(parent)
            trial.open("x").close()
            trial.unlink()
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from None


def write_text(path: str | Path, text: str, *, option: str = "--out") -> None:
    """Write a text file in UTF-8, whole or not at all, as :func:`write_bytes` does.

    A character that UTF-8 cannot hold, such as an odd byte of a file's name, becomes a question
    mark.
    """
    write_bytes(path, text.encode("utf-8", "replace"), option=option)


def write_bytes(path: str | Path, data: bytes | Iterable[bytes], *, option: str = "--out") -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Path of the file. A link is followed; a file that is replaced keeps its mode. A device or
        pipe, such as ``/dev/stdout``, is written to as it is. Or an address.
    data : bytes or iterable of bytes
        All of it, or piece by piece.
    option : str
        The option that named the path, for the message.

    Raises
    ------
    GeedError
        If it cannot be written, naming the file.
    """
    pieces = (data,) if isinstance(data, bytes) else data
    if (address := address_of(path)) is not None:
        put(address, b"".join(pieces), option=option)
        return
    path = Path(path)
    try:
        if (stream := _in_place(path)) is not None:
            with stream:
                stream.write(b"".join(pieces))
            return
        target = _target(path)
        with replacing(target, _temporary(target.parent)) as stream:
            stream.writelines(pieces)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from None


@contextlib.contextmanager
def replacing(target: Path, temporary: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name at the end, when all of it is on the disk.

    Parameters
    ----------
    target : Path
        Its name; no symbolic link.
    temporary : Path
        Its name until then, in the same folder; read by those alone who may read what it replaces.

    Yields
    ------
    BinaryIO
        Open for writing.

    Raises
    ------
    OSError
        If it cannot be written; a file of that name is left as it was.
    """
    _UNFINISHED.add(temporary)
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666
    try:
        with open(temporary, "wb", opener=lambda p, flags: os.open(p, flags, mode)) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _rename(temporary, target)
    finally:  # Ctrl-C too leaves nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _UNFINISHED.discard(temporary)
    _sync_folder(target.parent)


@contextlib.contextmanager
def writing_beside(path: str | Path, *, option: str = "--out") -> Iterator[Path]:
    """Make a folder for a file, and for others beside it, that a library writes to paths.

    Parameters
    ----------
    path : str or Path
        Path of the file.
    option : str
        What a message calls it.

    Yields
    ------
    Path
        The folder. Whatever lies in it at the end, sub-folders included, takes its place beside
        ``path``, the file of that name as the last; on an error nothing does. To a device or pipe,
        that file alone is written.

    Raises
    ------
    GeedError
        If a file cannot be written, naming ``path``.
    """
    if (address := address_of(path)) is not None:
        with _putting_beside(address, option) as folder:
            yield folder
        return
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        stream = _in_place(path)
        with contextlib.ExitStack() as stack:
            if stream is not None:
                import tempfile

                stack.enter_context(stream)
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                folder = _temporary(path.parent)
                stack.enter_context(_removed(folder))
                folder.mkdir()
            yield folder
            if stream is not None:
                stream.write((folder / path.name).read_bytes())
                return
            files = [p for p in folder.rglob("*") if p.is_file()]
            for file in files:
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
            for file in sorted(files, key=lambda p: p == folder / path.name):
                target = _target(path.parent / file.relative_to(folder))
                staged(target.parent).mkdir(parents=True, exist_ok=True)
                _rename(file, target)
                _sync_folder(staged(target.parent))
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from None


@contextlib.contextmanager
def _putting_beside(address: str, option: str) -> Iterator[Path]:
    """Make a folder whose files are put beside an address at the end, the one of its name last."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        yield folder
        main = folder / leaf(address)
        for file in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p == main):
            place = sibling(address, file.relative_to(folder).as_posix())
            put(str(place), file, option=option)


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[None]:
    _UNFINISHED.add(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _UNFINISHED.discard(folder)


def make_folder(folder: str | Path, *, option: str = "--out") -> None:
    """Make a folder, and those above it, where they are missing.

    Raises
    ------
    GeedError
        If it cannot be made, or is a file.
    """
    if (address := address_of(folder)) is not None:
        make_address_folder(address, option)
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise GeedError(f"{option} {folder}: is a file; name a folder") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise GeedError(f"{option} {folder}: cannot be made ({why}); name another folder") from None


def remove_unfinished() -> None:
    """Remove files that are not yet whole, in a process that is about to end at once."""
    for path in list(_UNFINISHED):
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()


def _rename(file: Path, target: Path) -> None:
    """Give a finished file its name, and the mode of the file that it replaces."""
    target = staged(target.parent) / target.name
    with contextlib.suppress(FileNotFoundError):
        old = target.stat()
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        try:
            file.chmod(stat.S_IMODE(old.st_mode))
        except PermissionError:  # a confined process may not, and its file is open to nobody else
            if file.stat().st_mode & ~old.st_mode:
                raise
        if os.name != "nt":
            with contextlib.suppress(PermissionError):
                os.chown(file, old.st_uid, old.st_gid)
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A link has led to another disk.
        with file.open("rb") as content, replacing(target, _temporary(target.parent)) as stream:
            shutil.copyfileobj(content, stream, 1 << 22)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there, and renames are durable by themselves
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _in_place(path: Path) -> BinaryIO | None:
    """Open a descriptor, a device or a pipe, which is no file; ``None`` for all others."""
    if (descriptor := _descriptor(path)) is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    if path.exists() and not path.is_file() and not path.is_dir():
        return open_sink(path)
    return None


def _descriptor(path: Path) -> int | None:
    text = os.path.normpath(path)
    numbered = _DESCRIPTOR.fullmatch(text)
    return int(numbered[1]) if numbered else _STREAMS.get(text)


def _target(path: Path) -> Path:
    """Follow a symbolic link, since replacing the link itself would cut it."""
    return Path(os.path.realpath(path))


def _temporary(folder: Path) -> Path:
    """Name for a file that is not yet whole, short enough for every file system."""
    return staged(folder) / f".onnx-geed-{secrets.token_hex(8)}.unfinished"


def _unwritable(path: Path, error: Exception, option: str) -> GeedError:
    why = getattr(error, "strerror", None) or str(error)
    return GeedError(f"{option} {path}: cannot be written ({why}); name another file")


@checked
def write_json(result: Mapping[str, Any], path: str | Path) -> None:
    """Write a result, aggregate or comparison, completely or not at all.

    Parameters
    ----------
    result : mapping of str to object
        Numbers, strings, arrays, paths, and lists and mappings of these.
    path : str or Path
        Path of the file; it may be a device or pipe, such as ``/dev/stdout``.

    Raises
    ------
    GeedError
        If it cannot be written.
        If it contains NaN or infinity.
    """
    write_bytes(path, (piece.encode("utf-8", "replace") for piece in json_pieces(result)))


@read_by_copy(copy_file)
def read_json(path: str | Path) -> Any:
    """Read a JSON file, refusing the NaN and Infinity that Python would let pass.

    Parameters
    ----------
    path : str or Path
        The file, or its address.

    Returns
    -------
    object

    Raises
    ------
    GeedError
        If there is no such file, or it cannot be read.
        If it is a pipe with a name, which might never have anything to read.
        If it is not JSON, or takes too much memory.
    """
    try:
        # A pipe that a shell hands over, /dev/fd/63, has no file behind its name.
        mode = os.stat(path).st_mode
        if stat.S_ISFIFO(mode) and os.path.exists(os.path.realpath(path)):
            raise GeedError(f"{path}: is a pipe; give a file")
        # Some of what a system calls files, such as a log of its own, is waited for too.
        with open_ordinary(path) if stat.S_ISREG(mode) else open(path, "rb") as file:
            content = _read_bounded(file)
    except FileNotFoundError:
        raise GeedError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise GeedError(f"{path}: cannot be read ({why})") from None
    if content is None:
        raise GeedError(f"{path}: is not a result file: it is larger than {LONGEST >> 20} MiB")
    return parse_json(content, str(path))


def _read_bounded(file: BinaryIO) -> bytearray | None:
    """Read a file; ``None`` if it is too long, which a device without an end is."""
    if os.fstat(file.fileno()).st_size > LONGEST:
        return None
    content = bytearray()
    while piece := file.read(1 << 20):
        content += piece
        if len(content) > LONGEST:
            return None
    return content


@dataclass(frozen=True)
class Stamp:
    """A file as it was at some moment.

    Parameters
    ----------
    path : str
        The file.
    size : int
        Its bytes; -1 where there was no such file.
    modified : int
        Nanoseconds of its last change.
    inode : tuple of (int, int)
        Device and number: another file under the same name has another one.
    """

    path: str
    size: int
    modified: int
    inode: tuple[int, int]

    def change(self) -> str:
        """Say how the file differs from what it was; nothing where it does not."""
        now = stamp(self.path)
        if now == self:
            return ""
        if now.size < 0:
            return f"{self.path} is gone"
        if now.size != self.size:
            return f"{self.path} had {self.size} bytes and has {now.size}"
        if now.inode != self.inode:
            return f"{self.path} is another file"
        return f"{self.path} was written to"


def stamp(path: str | Path) -> Stamp:
    """Return a file as it is now."""
    try:
        state = os.stat(path)
    except OSError:
        return Stamp(os.fspath(path), -1, 0, (0, 0))
    return Stamp(os.fspath(path), state.st_size, state.st_mtime_ns, (state.st_dev, state.st_ino))
