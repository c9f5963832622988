"""Machine code of compiled loops on the disk, safe for several processes that compile at once.

numba numbers the files of a loop and keeps in an index which number is compiled for what. Two
processes that compile for different types at once can give one number to both; the index then
leads to code for other types than asked for, which runs and gives wrong numbers. Here a file's name
says what it holds, and a seal that it holds all of it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile

__all__ = ["named_by_content"]

_SEAL = hashlib.sha256().digest_size


class _Files(IndexDataCacheFile):
    """Files of one loop, for numba's cache."""

    def save(self, key: Any, data: Any) -> None:
        """Keep code; where that fails, it is compiled again in the next process."""
        with contextlib.suppress(OSError):
            self._save_data(self._name(key), data)
            self._remove_outdated()

    def load(self, key: Any) -> Any:
        """Return code; nothing where there is none, or the file is damaged."""
        try:
            content = Path(self._data_path(self._name(key))).read_bytes()
        except OSError:
            return None
        seal, data = content[:_SEAL], content[_SEAL:]
        return pickle.loads(data) if hashlib.sha256(data).digest() == seal else None

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return hashlib.sha256(data).digest() + data

    def _name(self, key: Any) -> str:
        """Return a file's name: of the loop, of its source, of numba, types and processor."""
        return f"{self._of_source()}{_short((self._version, key))}.nbc"

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
    file = loop.py_func.__code__.co_filename
    source = kept._impl.locator.get_source_stamp(), _digest_of(file, loop.py_func.__module__)
    kept._cache_file = _Files(kept.cache_path, kept._impl.filename_base, source)
    return loop


@functools.cache
def _digest_of(file: str, module: str) -> str:
    """Return a digest of a module's text, and of those that it takes loops and constants from.

    They become part of its own machine code. Looked for are modules of the same package, and what
    tells the compiler how to make it.
    """
    package, texts, to_read = module.rpartition(".")[0], dict[str, bytes](), [Path(file).name]
    with contextlib.suppress(OSError):  # in a zip file, whose time is its own
        while to_read:
            name = to_read.pop()
            if name not in texts:
                texts[name] = Path(file).with_name(name).read_bytes()
                taken = rf"^ *from {re.escape(package)}\.(\w+) import ".encode()
                to_read += [f"{m.decode()}.py" for m in re.findall(taken, texts[name], re.M)]
        texts["/jit"] = Path(__file__).with_name("jit.py").read_bytes()
    whole = hashlib.sha256()
    for name in sorted(texts):
        whole.update(hashlib.sha256(texts[name]).digest())
    return whole.hexdigest()
