"""Caches at addresses: read by a copy, and written shard by shard as each is finished.

A cache is written in a folder on this disk, from which every finished file is put at its address,
``cache.h5`` the last. So a killed run goes on from the shards that are there.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from onnx_geed.addresses import (
    address_of,
    check_address_writable,
    exists,
    joined,
    leaf,
    make_address_folder,
    opened,
    put,
)
from onnx_geed.copies import Copy, copies_folder, copy_folder, keep_copy, link_folder
from onnx_geed.errors import GeedError, without_secrets

if TYPE_CHECKING:
    from onnx_geed.cache.info import CacheInfo

__all__ = ["fetched_cache", "info_told", "is_cache", "written_there"]

P = ParamSpec("P")
R = TypeVar("R")


# The file that says that all others are there.
_LAST = "cache.h5"


def is_cache(path: str | Path) -> bool:
    """Say whether a path is meant as a cache: a folder of shards, or named ``.geed``.

    At an address, where nobody is asked before it is read, one that is named so.
    """
    if (address := address_of(path)) is not None:
        return address.rstrip("/").endswith(".geed")
    path = Path(path)
    return path.suffix == ".geed" or (path.is_dir() and any(path.glob("shard-*.h5")))


def fetched_cache(address: str) -> Copy:
    """Fetch a cache: its shards, and what stands beside them.

    Raises
    ------
    GeedError
        If there is none, or it cannot be fetched.
    """
    return copy_folder(address.rstrip("/"), _is_ours)[0]


def _is_ours(name: str) -> bool:
    """Say whether a file is a cache's, and finished."""
    return "/" not in name and not name.startswith(".") and name.endswith((".h5", ".npz"))


def info_told(info: CacheInfo, copy: Copy) -> CacheInfo:
    """Return the description of a cache that says its address."""
    info["path"] = copy.address
    return info


def written_there(write: Callable[P, R]) -> Callable[P, R]:
    """Decorate what writes a cache, its fourth argument: at an address, it is put there."""

    @functools.wraps(write)
    def anywhere(*args: P.args, **kwargs: P.kwargs) -> R:
        given = args[3] if len(args) > 3 else kwargs.get("folder")
        if (address := address_of(given)) is None:
            return write(*args, **kwargs)
        call, options = cast(Callable[..., Any], write), dict(kwargs)
        options.pop("folder", None)
        tell: Any = options.get("notify")
        with _held(address) as copy, copy.telling():
            listener: Any = options.get("progress")
            sent = _Sent(address.rstrip("/"), copy.path, listener)
            options["progress"] = sent
            if tell is not None:
                options["notify"] = lambda text: tell(copy.told(text))
            model, data, group = (
                args[i] if len(args) > i else options.pop(name)
                for i, name in enumerate(("model", "data", "group"))
            )
            info = call(model, data, group, copy.path, **options)
            sent.rest()
        return cast(R, info_told(info, copy))

    return anywhere


@contextmanager
def _held(address: str) -> Iterator[Copy]:
    """Hold a folder for what is written to an address, with what is there already.

    Raises
    ------
    GeedError
        If another process of this user on this machine writes there, or it is no cache's name.
    """
    import filelock

    name = leaf(address)
    if not name.endswith(".geed"):
        raise GeedError(f"cache {address}: the address of a cache must end in NAME.geed; change it")
    shown = without_secrets(address.rstrip("/"))
    home = copies_folder() / "caches" / hashlib.sha256(shown.encode()).hexdigest()[:32]
    home.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(home / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise GeedError(
            f"cache {address}: another process is writing to it; wait for it, or write elsewhere"
        ) from None
    folder = home / name
    try:
        shutil.rmtree(folder, ignore_errors=True)
        make_address_folder(address, "cache")
        check_address_writable(str(joined(address, _LAST)), "cache")
        if exists(address.rstrip("/")):
            link_folder(fetched_cache(address).path, folder)
        folder.mkdir(exist_ok=True)
        yield Copy(shown, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


@dataclass
class _Sent:
    """Progress that puts what has been finished since it was last told.

    Parameters
    ----------
    address : str
        Where the cache goes.
    folder : Path
        Where it is written.
    progress : callable or None
        Told of every step too.
    """

    address: str
    folder: Path
    progress: Callable[[int, int], None] | None = None
    _there: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._there = {file.name: _which(file) for file in self._finished()}

    def begin(self, unit: str) -> None:
        """Say what is counted."""
        if (begin := getattr(self.progress, "begin", None)) is not None:
            begin(unit)

    def __call__(self, done: int, total: int) -> None:
        """Put shards, and tell."""
        self._put([file for file in self._finished() if file.name != _LAST])
        if self.progress is not None:
            self.progress(done, total)

    def rest(self) -> None:
        """Put everything that is finished, the index last."""
        self._put(sorted(self._finished(), key=lambda file: file.name == _LAST))

    def _finished(self) -> list[Path]:
        return [file for file in sorted(self.folder.iterdir()) if _is_ours(file.name)]

    def _put(self, files: list[Path]) -> None:
        for file in files:
            if self._there.get(file.name) != (which := _which(file)):
                place = str(joined(self.address, file.name))
                put(place, file, option="cache")
                self._there[file.name] = which
                with suppress(Exception):  # what is not kept is fetched again
                    keep_copy(*opened(place), file)


def _which(file: Path) -> tuple[int, int]:
    """Return what tells a file from one that takes its name later."""
    state = file.stat()
    return state.st_ino, state.st_mtime_ns
