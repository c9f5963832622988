"""Machine code of compiled loops on the disk, safe for several processes that compile at once.

numba numbers the files of a loop and keeps in an index which number is compiled for what. Two
processes that compile for different types at once can give one number to both; the index then
leads to code for other types than asked for, which runs and gives wrong numbers. Here a file's name
says what it holds, and a seal that it holds all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import IndexDataCacheFile

from onnx_geed.kept_loops import digest_of, held_by, settings_of

__all__ = ["named_by_content"]

_SEAL = hashlib.sha256().digest_size


class _Files(IndexDataCacheFile):
    """Files of one loop, for numba's cache."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: Object files that went to the disk or came from it, by the types they are for.
        self.objects: dict[Any, bytes] = {}
        #: A digest of the loop that is in memory.
        self.loaded: str | None = None

    def save(self, key: Any, data: Any) -> None:
        """Keep code; where that fails, it is compiled again in the next process."""
        self._remember(key, data)
        with contextlib.suppress(OSError):
            self._save_data(self._name(key), data)
            self._remove_outdated()

    def load(self, key: Any) -> Any:
        """Return code; nothing where there is none, or the file is damaged."""
        try:
            content = Path(self._data_path(self._name(key))).read_bytes()
        except OSError:
            return None
        seal, written = content[:_SEAL], content[_SEAL:]
        if hashlib.sha256(written).digest() != seal:
            return None
        data = pickle.loads(written)
        self._remember(key, data)
        return data

    def _remember(self, key: Any, data: Any) -> None:
        match data:
            case ((_, "object", (bytes() as written, *_)), *_):
                self.objects[key[0]] = written

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return hashlib.sha256(data).digest() + data

    def _name(self, key: Any) -> str:
        """Return a file's name: of the loop, of its source, of numba, types and processor."""
        told = self._version, key, self.loaded, sorted(settings_of(config).items(), key=str)
        return f"{self._of_source()}{_short(told)}.nbc"

    def _of_source(self) -> str:
        return f"{self._of_loop()}{_short(self._source_stamp)}-"

    def _of_loop(self) -> str:
        return str(self._index_name).removesuffix("nbi")

    def _remove_outdated(self) -> None:
        """Remove code that was compiled from a former source."""
        for name in os.listdir(self._cache_path):
            if (
                name.startswith(self._of_loop())
                and name.endswith((".nbc", ".nbi"))
                and not name.startswith(self._of_source())
            ):
                Path(self._cache_path, name).unlink(missing_ok=True)


def _short(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def named_by_content(loop: Any) -> Any:
    """Have a loop keep its machine code in files that are named by what they hold.

    Parameters
    ----------
    loop : numba.core.dispatcher.Dispatcher
        A loop that numba keeps on the disk.

    Returns
    -------
    Dispatcher
        The same.
    """
    kept = loop._cache
    # Time and size, as numba has it, and the text: an installer may give every file one time.
    function = loop.py_func
    text = digest_of(function.__code__.co_filename, function.__module__)
    source = kept._impl.locator.get_source_stamp(), text
    kept._cache_file = _Files(kept.cache_path, kept._impl.filename_base, source)
    # Another text may have been loaded than there is now.
    kept._cache_file.loaded = held_by(function)
    return loop
