"""The fingerprint of a model's files, computed while the model is opened to be run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from onnx_geed.errors import GeedError
from onnx_geed.files import Stamp

__all__ = ["Fingerprint", "digest", "known_fingerprint"]


class Fingerprint:
    """SHA-256 of some files, one after the other, computed on a thread of its own once asked for.

    Parameters
    ----------
    content : Path or bytes
        The first file, or what it holds.
    files : sequence of Stamp
        All files that are still to be read, as they were.
    """

    def __init__(self, content: Path | bytes, files: Sequence[Stamp]) -> None:
        self._text: Future[str] = Future()
        # What was read is not kept for it.
        self._start = hashlib.sha256(b"" if isinstance(content, Path) else content)
        self._files, self._lock, self._begun = files, threading.Lock(), False

    def begin(self) -> None:
        """Begin to read the files; who asks for the text then waits less."""
        with self._lock:
            if not self._begun:
                self._begun = True
                # A process that ends before does not wait for it.
                threading.Thread(target=self._compute, daemon=True).start()

    @property
    def text(self) -> str:
        """The digest in hexadecimal, once it is there.

        Raises
        ------
        GeedError
            If the files could not be read, or changed meanwhile.
        """
        self.begin()
        return self._text.result()

    def _compute(self) -> None:
        try:
            self._text.set_result(_unchanged(self._start, self._files))
        except BaseException as error:
            self._text.set_exception(error)

    def __reduce__(self) -> tuple[type[_Known], tuple[str]]:
        """Go to other processes as the digest."""
        return _Known, (self.text,)


class _Known(Fingerprint):
    """A fingerprint that was computed elsewhere."""

    def __init__(self, text: str) -> None:
        self._known = text

    def begin(self) -> None:
        """Do nothing."""

    @property
    def text(self) -> str:
        """The digest in hexadecimal."""
        return self._known


def known_fingerprint(text: str) -> Fingerprint:
    """Return a fingerprint that is known already; empty of what has none."""
    return _Known(text)


def digest(files: Sequence[str | Path]) -> str:
    """Return the SHA-256 of some files, one after the other."""
    return _through(hashlib.sha256(), files)


def _through(whole: hashlib._Hash, files: Sequence[str | Path]) -> str:
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def _unchanged(start: hashlib._Hash, files: Sequence[Stamp]) -> str:
    """Return the digest of files that are as they were before and after."""
    try:
        text = _through(start, [file.path for file in files])
    except OSError as error:
        raise GeedError(f"{error.filename}: cannot be read ({error.strerror})") from None
    for file in files:
        if why := file.change():
            raise GeedError(f"{file.path}: changed since it was opened ({why}); measure it again")
    return text
