"""The fingerprint of a model's files, computed while the model is opened."""

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
    """SHA-256 of some files, one after the other, computed on a thread of its own.

    Parameters
    ----------
    content : Path or bytes
        The first file, or what it holds.
    files : sequence of Stamp
        All files that are still to be read, as they were.
    """

    def __init__(self, content: Path | bytes, files: Sequence[Stamp]) -> None:
        self._text: Future[str] = Future()
        # A process that ends before does not wait for it.
        threading.Thread(target=self._compute, args=(content, files), daemon=True).start()

    @property
    def text(self) -> str:
        """The digest in hexadecimal, once it is there.

        Raises
        ------
        GeedError
            If the files could not be read, or changed meanwhile.
        """
        return self._text.result()

    def _compute(self, content: Path | bytes, files: Sequence[Stamp]) -> None:
        try:
            self._text.set_result(_unchanged(content, files))
        except BaseException as error:
            self._text.set_exception(error)

    def __reduce__(self) -> tuple[type[_Known], tuple[str]]:
        """Go to other processes as the digest."""
        return _Known, (self.text,)


class _Known(Fingerprint):
    """A fingerprint that was computed elsewhere."""

    def __init__(self, text: str) -> None:
        self._known = text

    @property
    def text(self) -> str:
        """The digest in hexadecimal."""
        return self._known


def known_fingerprint(text: str) -> Fingerprint:
    """Return a fingerprint that is known already; empty of what has none."""
    return _Known(text)


def digest(content: Path | bytes, extras: Sequence[Path]) -> str:
    """Return the SHA-256 of a file, or of what it holds, and of some more files after it."""
    whole = hashlib.sha256(content if isinstance(content, bytes) else b"")
    for file in extras if isinstance(content, bytes) else (content, *extras):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def _unchanged(content: Path | bytes, files: Sequence[Stamp]) -> str:
    """Return the digest of files that are as they were before and after."""
    extras = [Path(file.path) for file in files]
    try:
        text = digest(content, [extra for extra in extras if extra != content])
    except OSError as error:
        raise GeedError(f"{error.filename}: cannot be read ({error.strerror})") from None
    for file in files:
        if why := file.change():
            raise GeedError(f"{file.path}: changed while it was read ({why}); measure it again")
    return text
