"""The samples that a run was fed: their fingerprint, and whether they stayed the same."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnx_geed.data.samples import (
    MARK_BYTES,
    Samples,
    fingerprint_of,
    mark_of,
    mark_of_spelled,
    spelled,
)
from onnx_geed.errors import GeedError, reason_of

__all__ = ["Intake"]

#: Bytes of samples that wait for those before them, where jobs come out of order.
_HELD_BYTES = 64 << 20


class Intake:
    """Samples as they were fed, in whatever order and however often.

    Each is marked by a hash when it is first read and held against that on every later reading, so
    that a result's fingerprint is that of what made its figures. In the order of the data, the
    fingerprint is taken along; what a run did not read is read for it at the end.

    Parameters
    ----------
    samples : Samples
        The data.
    indices : sequence of int
        Which samples, in the order of their positions.
    """

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self._samples, self._indices = samples, tuple(indices)
        # One after the other, in one piece of memory; and whether each is there, and is new.
        self._marks = bytearray(MARK_BYTES * len(self._indices))
        self._marked, self._fresh = bytearray(len(self._indices)), bytearray(len(self._indices))
        self._digest = fingerprint_of(samples.preprocess)
        self._next = 0
        self._held: dict[int, tuple[bytes, ...]] = {}
        self._held_bytes = 0
        self._lock = threading.RLock()

    def take(self, position: int, sample: NDArray[Any]) -> None:
        """Note a sample that is fed.

        Parameters
        ----------
        position : int
            Its position, from 0, in the order of ``indices``.
        sample : ndarray
            The sample, before anything is done to it.

        Raises
        ------
        GeedError
            If it was another one when it was first read.
        """
        pieces = spelled(sample)
        size, mark = sum(map(len, pieces)), mark_of_spelled(pieces)
        with self._lock:
            self._mark(position, mark)
            if position == self._next:
                self._add(pieces)
                while (waiting := self._held.pop(self._next, None)) is not None:
                    self._held_bytes -= sum(map(len, waiting))
                    self._add(waiting)
            elif self._next < position and position not in self._held and self._has_room(size):
                self._held[position] = pieces
                self._held_bytes += size

    def note(self, marks: Mapping[int, str]) -> None:
        """Note samples that another process fed.

        Parameters
        ----------
        marks : mapping of int to str
            What :meth:`fresh` returned there.

        Raises
        ------
        GeedError
            If one was another one when it was read elsewhere.
        """
        with self._lock:
            for position, mark in marks.items():
                self._mark(position, mark)

    def read_along(self, positions: Iterable[int]) -> None:
        """Read samples that another process has fed, so that the fingerprint need not wait for it.

        Parameters
        ----------
        positions : iterable of int
            Their positions.

        Raises
        ------
        GeedError
            If one is another one here, or cannot be read.
        """
        for position in positions:
            if position >= self._next:
                self.take(position, self._samples[self._indices[position]])

    def fresh(self) -> dict[int, str]:
        """Return hashes of the samples that were first fed since this was last called."""
        with self._lock:
            fresh, place = {}, self._fresh.find(1)
            while place >= 0:
                fresh[place], self._fresh[place] = self._mark_at(place), 0
                place = self._fresh.find(1, place)
            return fresh

    def _mark(self, position: int, mark: str) -> None:
        if not self._marked[position]:
            self._marks[_mark_place(position)] = bytes.fromhex(mark)
            self._marked[position] = self._fresh[position] = 1
        elif self._mark_at(position) != mark:
            raise self._changed(position, "it was read twice and differed")

    def _mark_at(self, position: int) -> str:
        return self._marks[_mark_place(position)].hex()

    def _has_room(self, size: int) -> bool:
        return self._held_bytes + size <= _HELD_BYTES

    def _add(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)
        self._next += 1

    def fingerprint(self, count: int | None = None) -> str:
        """Return the fingerprint of the first samples, as :meth:`Samples.fingerprint` does.

        Parameters
        ----------
        count : int, optional
            How many; all by default.

        Returns
        -------
        str

        Raises
        ------
        GeedError
            If a sample that was not fed cannot be read, or one that was is another one now.
        """
        count = len(self._indices) if count is None else count
        with self._lock:
            if count < self._next:
                again = Intake(self._samples, self._indices[:count])
                again._marks = self._marks[: len(again._marks)]
                again._marked = self._marked[:count]
                return again.fingerprint()
            while self._next < count:
                self.take(self._next, self._samples[self._indices[self._next]])
            return self._digest.hexdigest()

    def marks(self, count: int | None = None) -> list[str]:
        """Return a hash of each of the first samples, as :func:`onnx_geed.data.mark_of` makes it.

        Call it after :meth:`fingerprint`, which reads what was not fed.
        """
        count = len(self._indices) if count is None else count
        return [self._mark_at(position) for position in range(count)]

    def only(self, positions: Sequence[int]) -> Intake:
        """Return one of some of the samples, which holds them against those that were fed.

        Parameters
        ----------
        positions : sequence of int
            Which, in the order that their fingerprint is to have.

        Returns
        -------
        Intake
        """
        with self._lock:
            some = Intake(self._samples, [self._indices[position] for position in positions])
            for k, position in enumerate(positions):
                if self._marked[position]:
                    some._marks[_mark_place(k)] = self._marks[_mark_place(position)]
                    some._marked[k] = 1
        return some

    def check(self) -> None:
        """Make sure that the data are still those that were fed.

        Files that have changed are read once more: only where a sample differs are they refused.

        Raises
        ------
        GeedError
            If a sample is another one now, or cannot be read any more.
        """
        changes = [why for file in self._samples.files() if (why := file.change())]
        if not changes:
            return
        try:
            now = self._samples.again()
        except GeedError as error:
            raise GeedError(
                f"--data {self._samples.source}: changed while it was measured ({changes[0]}), and "
                f"cannot be opened any more ({reason_of(error)}); measure data that do not change"
            ) from None
        # In a folder to which files were added, the same file may have another number.
        places = {name: i for i, name in enumerate(now.names or ())}
        for position, index in enumerate(self._indices):
            if not self._marked[position]:
                continue
            mark = self._mark_at(position)
            if self._samples.names:
                index = places.get(self._samples.names[index], len(now))
            try:
                same = mark_of(now[index]) == mark
            except (GeedError, IndexError):
                same = False
            if not same:
                raise self._changed(position, changes[0])

    def _changed(self, position: int, why: str) -> GeedError:
        index, names = self._indices[position], self._samples.names
        called = f"sample {index}" + (f" ({names[index]})" if names else "")
        return GeedError(
            f"--data {self._samples.source}: changed while it was measured ({why}): {called} is "
            "different now; measure data that do not change"
        )


def _mark_place(position: int) -> slice:
    return slice(MARK_BYTES * position, MARK_BYTES * (position + 1))
