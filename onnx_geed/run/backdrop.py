"""What samples are put before: images of a folder, and masks of what stands in front."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data import Preprocess, Samples, mark_of, read_backgrounds, read_masks
from onnx_geed.errors import GeedError, shown, without_secrets
from onnx_geed.groups import Group, before_backgrounds, disk_mask, swap
from onnx_geed.held import ALLOWED
from onnx_geed.run.options import Options
from onnx_geed.text import format_bytes, parse_bytes

__all__ = ["Backdrop", "backdrop_of"]


@dataclass(frozen=True, eq=False)
class BackdropOpening:
    """Where backgrounds and masks stand, so that another process can open them too.

    Parameters
    ----------
    folder : str
        Where the images are.
    count : int
        How many are drawn, K.
    seed : int
        Seed of the run, by which they are.
    shape : tuple of int
        Channels (1 or 3), height and width of a sample.
    masks : str, Path or ndarray
        As ``--masks`` says it.
    available : int
        Number of samples in the data.
    preprocess : Preprocess
        That of the data.
    allowed : int
        Bytes that may be held while an image or a mask is read.
    """

    folder: str
    count: int
    seed: int
    shape: tuple[int, int, int]
    masks: Any = field(repr=False)
    available: int
    preprocess: Preprocess
    allowed: int = ALLOWED

    def check_memory(self, budget: str | int) -> None:
        """Refuse backgrounds that alone exceed the memory budget, before they are read.

        Raises
        ------
        GeedError
            If they do.
        """
        held = 4 * self.count * math.prod(self.shape)
        if held > parse_bytes(budget):
            raise GeedError(
                f"group background:{self.folder}/{self.count}: its images take "
                f"{format_bytes(held)} at {'×'.join(map(str, self.shape))}, and --memory is "
                f"{budget}: ask for fewer, or give more memory"
            )

    def open(self) -> Backdrop:
        """Open them.

        Raises
        ------
        GeedError
            If the folder cannot be read, or has not as many images.
            If there is not one mask for each sample.
        """
        drawn = read_backgrounds(
            self.folder, self.count, self.shape, seed=self.seed, allowed=self.allowed
        )
        plane = self.shape[1:]
        masks = read_masks(self.masks, self.available, plane, self.preprocess, allowed=self.allowed)
        return Backdrop(self, drawn.names, drawn.images, masks.read)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """Backgrounds, held in memory, and masks, read when they are needed.

    It is pickled as the way to open it.

    Parameters
    ----------
    opening : BackdropOpening
        Where they stand.
    names : tuple of str
        Files of the backgrounds, by members.
    images : ndarray of float32, shape (K, C, H, W)
        The backgrounds.
    read : callable
        Returns the mask of a sample by its number in the data: bool, (H, W), true in front.
    """

    opening: BackdropOpening = field(repr=False)
    names: tuple[str, ...]
    images: NDArray[np.float32] = field(repr=False)
    read: Callable[[int], NDArray[np.bool_]] = field(repr=False)
    _marks: dict[int, str] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if not isinstance(self.opening.masks, str | Path | np.ndarray):
            raise GeedError(
                f"--masks: {shown(type(self.opening.masks).__name__)} cannot be sent to another "
                "process; give a path or a numpy array"
            )
        return _reopened, (self.opening, self.digest)

    @property
    def source(self) -> str:
        """Where the masks come from, for messages and results."""
        masks = self.opening.masks
        return without_secrets(str(masks)) if isinstance(masks, str | Path) else "array"

    @property
    def digest(self) -> str:
        """SHA-256 of the backgrounds: their names and pixels."""
        digest = hashlib.sha256(repr((self.names, self.images.shape)).encode())
        digest.update(self.images.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def named(self, group: Group) -> Group:
        """Return the family with its members named by the files."""
        return before_backgrounds(group, self.names)

    def orbit(
        self, x: NDArray[np.float32], sample: int, *, disk: bool = False
    ) -> NDArray[np.float32]:
        """Return a sample, and what is in front of it before each background.

        Parameters
        ----------
        x : ndarray of float32, shape (C, H, W) or (H, W)
            The sample.
        sample : int
            Its number in the data, which is that of its mask.
        disk : bool
            Whether what is outside the disk stays as it is.

        Returns
        -------
        ndarray of float32, shape (K + 1, ...)
            The sample itself first.

        Raises
        ------
        GeedError
            If its mask cannot be read or used, or is another one than it was.
        """
        front = self._front(sample)
        if disk:
            front = front | ~disk_mask(*front.shape)
        image = x.reshape(self.images.shape[1:])
        out = np.empty((len(self.images) + 1, *x.shape), dtype=np.float32)
        out[0] = x
        for changed, background in zip(out[1:], self.images, strict=True):
            changed[...] = swap(image, background, front).reshape(x.shape)
        return out

    def _front(self, sample: int) -> NDArray[np.bool_]:
        front = self.read(sample)
        mark = mark_of(front)
        if self._marks.setdefault(sample, mark) != mark:
            raise GeedError(
                f"--masks {self.source}: changed while it was measured: the mask of sample "
                f"{sample} is another one now; give masks that do not change"
            )
        return front

    def masks_fingerprint(self, samples: Sequence[int]) -> str:
        """Return the SHA-256 of the masks of some samples, in order; those not yet read are read.

        Raises
        ------
        GeedError
            If one cannot be read or used.
        """
        return hashlib.sha256("".join(self.marks_of_masks(samples)).encode()).hexdigest()

    def marks_of_masks(self, samples: Sequence[int]) -> list[str]:
        """Return a digest of the mask of each of some samples, as its fingerprint takes them."""
        for sample in samples:
            if sample not in self._marks:
                self._front(sample)
        return [self._marks[i] for i in samples]


def backdrop_of(group: Group, samples: Samples, options: Options) -> Backdrop | None:
    """Return the backgrounds that a family of these puts samples before; none of other groups.

    Parameters
    ----------
    group : Group
        The acting group.
    samples : Samples
        What it acts on.
    options : Options
        The masks, the seed and the memory budget.

    Returns
    -------
    Backdrop or None

    Raises
    ------
    GeedError
        If the family has no masks, or masks have no such family.
        If the backgrounds alone exceed the memory budget.
        If backgrounds or masks cannot be used.
    """
    if group.family is None or not group.family.folder:
        if options.masks is not None:
            raise GeedError(
                "--masks: marks the foreground for --group background:FOLDER/8, but the group is "
                f"{group.name}; leave it out"
            )
        return None
    if options.masks is None:
        raise GeedError(
            f"group {group.name}: needs the foreground of each sample: give --masks FILE or "
            "FOLDER, with one mask per sample"
        )
    height, width = samples.shape[-2:]
    opening = BackdropOpening(
        group.family.folder,
        group.order - 1,
        options.seed,
        (math.prod(samples.shape[:-2]), height, width),
        options.masks,
        len(samples),
        samples.preprocess,
        options.allowed,
    )
    opening.check_memory(options.memory)
    return opening.open()


def _reopened(opening: BackdropOpening, digest: str) -> Backdrop:
    """Open backgrounds and masks that were pickled.

    Raises
    ------
    GeedError
        If the backgrounds are others by now.
    """
    backdrop = opening.open()
    if backdrop.digest != digest:
        raise GeedError(
            f"background:{opening.folder}: its images changed while it was measured; measure a "
            "folder that does not change"
        )
    return backdrop
