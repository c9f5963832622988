"""Copies on this disk of what lies at addresses, by which it is read.

They are kept in the user's folder for caches, ``onnx-geed/copies``, so that the next command
fetches only what has changed. A file's name there is the hash of what its storage tells contents
apart by (checksum, version, or size and time), or of the content itself where it says nothing of
the kind. It gets that name when all of it is there. What a program reads is a folder of hard links
to such files under their own names.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar, cast

from onnx_geed.addresses import address_of, asking, close_names, kind_of, leaf, local_path, opened
from onnx_geed.errors import GeedError, without_secrets
from onnx_geed.jit import LOGGER
from onnx_geed.text import format_bytes
from onnx_geed.threads import Threads

__all__ = [
    "Copy",
    "copies_folder",
    "copy_file",
    "copy_folder",
    "keep_copy",
    "link_folder",
    "read_by_copy",
]

P = ParamSpec("P")
R = TypeVar("R")


# What storages call a content's checksum or version, and the time of its last change.
_CHECKSUMS = (
    *("ETag", "etag", "VersionId", "generation", "md5Hash", "crc32c", "Content-MD5"),
    *("content_md5", "Digest", "checksum", "blob_id", "md5"),
)


_TIMES = ("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "modified")


# A content so young, in seconds, may be replaced by another of the same size within one tick of its
# storage's clock, so that its time tells nothing.
_TICK = 10


# Files that are fetched at the same time.
_THREADS = 16


# From so many files or bytes on, it is said that they are fetched.
_MANY, _MUCH = 200, 64 << 20


# After so many seconds, what is not yet whole was left by a process that was killed.
_LEFT = 24 * 3600


@dataclass(frozen=True)
class Copy:
    """What is read on this disk in place of an address.

    Parameters
    ----------
    address : str
        The address, without keys and tokens.
    path : Path
        The copy.
    key : str
        What stands behind a file's address: ``:name``.
    """

    address: str
    path: Path
    key: str = ""

    @property
    def text(self) -> str:
        """The copy as a command line would name it."""
        return f"{self.path}{self.key}"

    def told(self, text: str) -> str:
        """Return a sentence with the address in place of the copy's path."""
        if str(self.path.parent) not in text:
            return text
        told, folder = text.replace(str(self.path), self.address.rstrip("/")), self.path.parent
        if folder == folder.parent:  # the root of a disk, which is part of every path
            return told
        return told.replace(str(folder), self.address.rstrip("/").rpartition("/")[0])

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Tell errors by the address."""
        try:
            yield
        except GeedError as error:
            raise GeedError(self.told(str(error))) from None

    def reader(self, read: Callable[P, R]) -> Callable[P, R]:
        """Return a function whose errors are told by the address."""

        def telling(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.telling():
                return read(*args, **kwargs)

        return telling


def read_by_copy(
    fetch: Callable[[str], Copy], keep: Callable[[Any, Copy], Any] = lambda made, copy: made
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator of functions that read a path: of an address, they read a copy.

    Parameters
    ----------
    fetch : callable
        Makes the copy.
    keep : callable
        Makes what such a function returns say the address.

    Returns
    -------
    callable
        The decorator, for functions whose first argument is the path. All other paths, and what is
        no path, go straight to them.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        first = function.__code__.co_varnames[0]

        @functools.wraps(function)
        def at_hand(*args: P.args, **kwargs: P.kwargs) -> R:
            given = args[0] if args else kwargs.get(first)
            if (address := address_of(given)) is None:
                return function(*args, **kwargs)
            copy = fetch(address)
            kwargs.pop(first, None)
            call = cast(Callable[..., R], function)
            with copy.telling():
                made = call(copy.text, *args[1:], **kwargs)
            return cast(R, keep(made, copy))

        return at_hand

    return decorate


def copies_folder() -> Path:
    """Return the folder of all copies, which is for this user alone; made where it is missing.

    Raises
    ------
    GeedError
        If it cannot be made.
    """
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folder = base / "onnx-geed" / "copies"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GeedError(
            f"{folder}: cannot be made ({error.strerror}), and downloaded copies are stored "
            "there; set XDG_CACHE_HOME to a folder that you can write to"
        ) from None
    return folder


def copy_file(address: str, beside: Sequence[str] = ()) -> Copy:
    """Fetch a file, and others that belong to it, unless they are here.

    Parameters
    ----------
    address : str
        The file.
    beside : sequence of str
        Relative paths of files in its folder; those that are not there are left out.

    Returns
    -------
    Copy

    Raises
    ------
    GeedError
        If it cannot be fetched, or changes meanwhile.
    """
    system, path = opened(address)
    if (local := local_path(system, path)) is not None:
        return Copy(without_secrets(address), local)
    with asking(address, system, path):
        entry = system.info(path)
    if entry["type"] == "directory":
        near = close_names(system, f"{path.rstrip('/')}/{leaf(address)}")
        raise GeedError(f"{address}: is a folder; name a file in it.{near}")
    name, folder = leaf(address) or "file", path.split("?")[0].rpartition("/")[0]
    entries = {name: (path, entry)}
    for relative in beside:
        place = f"{folder}/{_quoted(address, relative)}"
        if kind_of(address, system, place) == "file":
            with asking(address, system, place):
                entries[relative] = (place, system.info(place))
    linked = _linked(address, system, entries, "")
    with asking(address, system, path):
        changed = _mark(system, path, entry) != _mark(system, path, _asked_anew(system, path))
    if changed:
        raise GeedError(f"{address}: changed while it was fetched; run the command again")
    return Copy(without_secrets(address), linked / name)


def _asked_anew(system: Any, path: str) -> Mapping[str, Any]:
    system.invalidate_cache()
    entry: Mapping[str, Any] = system.info(path)
    return entry


def _quoted(address: str, relative: str) -> str:
    if not address.startswith(("http://", "https://")):
        return relative
    from urllib.parse import quote

    return quote(relative)


def copy_folder(address: str, wanted: Callable[[str], bool]) -> tuple[Copy, tuple[str, ...]]:
    """Fetch files of a folder, and of those in it, unless they are here.

    Parameters
    ----------
    address : str
        The folder.
    wanted : callable
        Takes a file's relative path; says whether it is fetched. Hidden ones are not.

    Returns
    -------
    copy : Copy
        Of the folder, with those files.
    names : tuple of str
        Relative paths of all files that are there.

    Raises
    ------
    GeedError
        If it cannot be listed or fetched, or changes meanwhile.
        If a name leads out of it.
    """
    system, path = opened(address)
    if (local := local_path(system, path)) is not None:
        return Copy(without_secrets(address), local), ()
    with asking(address, system, path):
        listed = _listed(address, system, path)
    if not listed and (kind := kind_of(address, system, path)) != "folder":
        near = close_names(system, path)
        fault = "is a file; name a folder" if kind else "there is no such folder"
        raise GeedError(f"{address}: {fault}.{near}")
    entries = {name: entry for name, entry in listed.items() if wanted(name)}
    linked = _linked(address, system, entries, leaf(address) or "files")
    system.invalidate_cache()
    with asking(address, system, path):
        again = _listed(address, system, path)
    for name, (place, entry) in entries.items():
        known = _mark(system, place, entry)
        if name not in again or _mark(system, place, again[name][1]) != known:
            raise GeedError(
                f"{address}: {name} changed while it was fetched; run the command again"
            )
    return Copy(without_secrets(address), linked), tuple(listed)


def _listed(address: str, system: Any, path: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return path and description of each file in a folder, by its relative path."""
    listed: dict[str, tuple[str, Mapping[str, Any]]] = {}
    root = path.split("?")[0].rstrip("/") + "/"
    web = address.startswith(("http://", "https://"))
    for place, entry in system.find(path, detail=True).items():
        name = str(place).removeprefix(root)
        if not str(place).startswith(root) or (web and "?" in name):
            continue  # a link to another page
        if web:
            from urllib.parse import unquote

            name = unquote(name)
        parts = name.split("/")
        if not parts[-1] or any(part.startswith(".") and part not in ("..",) for part in parts):
            continue
        if ".." in parts or PurePosixPath(name).is_absolute() or (os.name == "nt" and "\\" in name):
            raise GeedError(f"{address}: the name {name!r} leads out of the folder; rename it")
        listed[name] = (str(place), entry)
    return listed


def _linked(
    address: str,
    system: Any,
    entries: Mapping[str, tuple[str, Mapping[str, Any]]],
    name: str,
) -> Path:
    """Fetch files, and return a folder that has them under their own names."""
    folder = copies_folder()
    for part in ("files", "folders", "unfinished"):
        (folder / part).mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        for left in (folder / "unfinished").iterdir():
            if time.time() - left.stat().st_mtime > _LEFT:
                left.unlink(missing_ok=True)

    _announce(address, folder / "files", system, entries)

    def fetch(item: tuple[str, tuple[str, Mapping[str, Any]]]) -> tuple[str, Path]:
        with asking(address, system, item[1][0]):
            return item[0], _fetched(folder, system, *item[1])

    if len(entries) < 2:  # on this thread, where Ctrl-C ends it at once
        held = dict(map(fetch, entries.items()))
    else:
        with Threads(min(_THREADS, len(entries))) as pool:
            try:
                held = dict(pool.map(fetch, entries.items()))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    told = json.dumps(sorted((name, file.name) for name, file in held.items()))
    digest = hashlib.sha256(told.encode()).hexdigest()[:32]
    linked = folder / "folders" / digest / name
    linked.mkdir(parents=True, exist_ok=True)
    for relative, file in held.items():
        _link(file, linked / relative)
    return linked


def _announce(
    address: str, held: Path, system: Any, entries: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> None:
    """Say what is fetched, where it may take a while."""
    coming = [
        entry["size"]
        for path, entry in entries.values()
        if entry.get("size") and not (held / (_mark(system, path, entry) or "new")).is_file()
    ]
    if len(coming) >= _MANY or sum(coming) >= _MUCH:
        files = f"{len(coming)} files" if len(coming) > 1 else "one file"
        LOGGER.info(
            "fetching %s, %s, from %s into %s",
            *(files, format_bytes(sum(coming)), without_secrets(address), held.parent),
        )


def link_folder(folder: Path, target: Path) -> None:
    """Give the files of a folder another name in another one."""
    for file in folder.iterdir():
        _link(file, target / file.name)


def _link(file: Path, target: Path) -> None:
    """Give a file another name, or copy it where a file system has no links."""
    with contextlib.suppress(OSError):
        if target.stat().st_size == file.stat().st_size:
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _fetched(folder: Path, system: Any, path: str, entry: Mapping[str, Any]) -> Path:
    """Return a file's content, by the name that tells it from others; fetched unless it is here."""
    if entry.get("size") is None:  # listed by its name alone
        entry = system.info(path)
    mark = _mark(system, path, entry)
    size = entry.get("size")
    if mark is not None and (held := folder / "files" / mark).is_file():
        # Renamed before a machine went down, a file may have lost its end.
        if size in (None, held.stat().st_size):
            return held
        held.unlink()
    temporary = folder / "unfinished" / secrets.token_hex(8)
    try:
        system.get_file(path, os.fspath(temporary))
        got = temporary.stat().st_size
        if size is not None and got != size:
            raise OSError(f"only {got} of {size} bytes arrived; try again")
        if mark is None:
            with temporary.open("rb") as stream:
                mark = hashlib.file_digest(stream, "sha256").hexdigest()
        held = folder / "files" / mark
        os.replace(temporary, held)
    finally:
        temporary.unlink(missing_ok=True)
    return held


def keep_copy(system: Any, path: str, file: Path) -> None:
    """Keep a file that was put somewhere just now, so that it need not be fetched."""
    mark = _mark(system, path, _asked_anew(system, path))
    if mark is not None:
        folder = copies_folder() / "files"
        folder.mkdir(exist_ok=True)
        _link(file, folder / mark)


def _mark(system: Any, path: str, entry: Mapping[str, Any]) -> str | None:
    """Return what tells a content from others at the same place, or None where nothing does."""
    told = {key: str(entry[key]) for key in (*_CHECKSUMS, *_TIMES) if entry.get(key)}
    if not told:
        return None
    if not any(key in told for key in _CHECKSUMS):
        times = [_seconds(entry[key]) for key in _TIMES if entry.get(key)]
        if any(t is None or abs(time.time() - t) < _TICK for t in times):
            return None
    place = [type(system).__name__, str(getattr(system, "endpoint_url", None)), path]
    text = json.dumps([place, entry.get("size"), sorted(told.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _seconds(moment: Any) -> float | None:
    """Return a time that a storage gives, in seconds since 1970."""
    if isinstance(moment, int | float):
        return float(moment)
    from datetime import datetime

    if isinstance(moment, datetime):
        return moment.timestamp() if moment.tzinfo else None
    from email.utils import parsedate_to_datetime

    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError, TypeError):
            return parse(str(moment)).timestamp()
    return None
