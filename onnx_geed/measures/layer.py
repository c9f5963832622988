"""A tensor as the model really returns it: its shape, and what its axes are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_geed.errors import GeedError
from onnx_geed.groups import Layout, LayoutAction, PlacedAction, parse_layout, usual_layouts

__all__ = ["ByLetters", "Layer"]

#: The group's action on tensors of a layout, whose lengths in kept order these are.
ByLetters = Callable[[Layout, tuple[int, ...]], LayoutAction | PlacedAction]


@dataclass(frozen=True)
class Layer:
    """A tensor as the model really returns it.

    Parameters
    ----------
    name : str
        Name of the tensor.
    shape : tuple of int
        Shape of one sample's activation, without the batch axis.
    layout : str
        As :func:`onnx_geed.groups.parse_layout` reads it, such as ``NCHW`` or ``NK``; ``?`` for
        rank 4 where it is unknown.
    roles : tuple of str
        Its default roles: ``channel``, ``latent``, ``output``.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    roles: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of one sample's activation in float32."""
        return 4 * int(np.prod(self.shape, dtype=np.int64))

    def check_filled(self, asked: str) -> None:
        """Refuse a tensor one of whose axes has length 0, of which nothing can be told.

        Raises
        ------
        GeedError
            If it is one.
        """
        if 0 in self.shape:
            raise GeedError(f"{asked}: {self.name} holds no values, its shape is {self.shape_text}")

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Shape of one sample's activation in kept order."""
        return parse_layout(self.layout).kept_shape(self.shape, self.name)

    @property
    def channels(self) -> int:
        """Number of channels; 1 where no axis is theirs."""
        return int(np.prod(self.kept_shape[: parse_layout(self.layout).channels]))

    @property
    def point_length(self) -> int:
        """Length k of the points (N, k) that the tensor is brought to; number of classes."""
        blank = np.broadcast_to(np.float32(0), (1, *self.shape))
        return int(parse_layout(self.layout).to_points(blank, axes=1)[0].shape[-1])

    @property
    def classes(self) -> int:
        """Number of classes, of class scores; a single score tells two apart."""
        return max(2, self.point_length if self.is_one_place else self.channels)

    @property
    def is_one_place(self) -> bool:
        """Whether all its axes but one have a single place: then it is a vector."""
        shape, layout = self.shape, parse_layout(self.layout)
        if len(shape) < 2 or (len(shape) == 3 and shape[1:] == (1, 1)):
            return True
        known = layout.channels and layout.grid is None and len(shape) == layout.rank - 1
        return bool(known) and int(np.prod(self.kept_shape[layout.channels :])) == 1

    def moved_along(self, by_letters: ByLetters) -> LayoutAction | PlacedAction | None:
        """Return how the points (N, k) move that the tensor is brought to; ``None`` if they stay.

        Parameters
        ----------
        by_letters : callable
            How tensors of a layout move along with the input.

        Returns
        -------
        LayoutAction, PlacedAction or None
            On the whole tensor. Channels stay, and so do their means over places that move; means
            over components of vectors do not.

        Raises
        ------
        GeedError
            If it is not known how the axes move on which the points depend.
        """
        layout = parse_layout(self.layout)
        if len(self.shape) != layout.rank - 1:
            return None
        lengths = self.kept_shape
        several = {a for a, n in zip(layout.kept, lengths, strict=True) if n > 1}
        read = several - {*"CK"} if self.is_one_place else several & {"X"}
        if not read:
            return None
        action = by_letters(layout, lengths)
        stays = len(action.kernel_of_action()) == action.group.order
        if stays or (isinstance(action, LayoutAction) and not read & {*action.moved}):
            return None
        return action

    @property
    def axes_known(self) -> bool:
        """Whether the layout says what each axis is, or all but one of them have a single place."""
        several = sum(length > 1 for length in self.shape)
        return several < 2 or len(self.shape) == parse_layout(self.layout).rank - 1

    @property
    def shape_text(self) -> str:
        """The shape as messages show it, with the batch axis."""
        return f"(N, {', '.join(map(str, self.shape))})"

    @property
    def has_no_classes(self) -> bool:
        """Whether its axes are known, and none of them, or more than one, is that of classes.

        Bases (B) may be classes, whose axis is then stated anew.
        """
        layout = parse_layout(self.layout)
        known = self.layout != "?" and len(self.shape) == layout.rank - 1
        classless = layout.channels != 1 and "B" not in self.layout
        return known and classless and not self.is_one_place

    @property
    def layout_advice(self) -> str:
        """How to state a layout that is not known."""
        rank = len(self.shape) + 1
        usual = [f"{self.name}={one}" for one in usual_layouts(rank)[:2] if len(one) == rank]
        stated = " or ".join(usual) or f"{self.name}=LETTERS, one letter an axis"
        shape = self.shape_text if rank < 12 else f"of {rank} axes"
        return (
            f"{self.name}, {shape}: the graph does not show which axis holds its channels; "
            f"state it with --layout {stated}"
        )

    @property
    def example_layout(self) -> str:
        """A layout that a tensor of so many axes could have."""
        usual = {2: f"NTD:<H>x<W> for tokens on a grid, or {self.name}=NCT for a line"}
        return usual.get(len(self.shape), "NCDHW" if len(self.shape) == 4 else "NCHW")

    @property
    def classes_advice(self) -> str:
        """Why a tensor has no class scores at places, or how to state their axes."""
        if self.has_no_classes:
            places = "class scores lie along C, at each place of the other axes"
            return f"{places}, but {self.name} is {self.layout}"
        rows = "NCP" if self.shape[-1] == 1 else "NPC"
        usual = {2: rows, 4: "NCDHW"}.get(len(self.shape), "NCHW")
        advice = (
            "class scores lie along C, at each place of the other axes: say what the axes are with "
            f"--layout, such as {self.name}={usual}"
        )
        if "B" not in self.layout:
            return advice
        return f"{advice}; and as the classes are bases, how they change places, by --output-action"

    def check_scores(self, bound: str, kind: str | None, *, targets: bool) -> None:
        """Refuse a tensor that holds no class scores.

        Parameters
        ----------
        bound : str
            The measure and the tensor, for messages.
        kind : str or None
            ``logits`` or ``probabilities`` of class scores, else another word for what it holds.
        targets : bool
            Whether a target would do in place of classes.

        Raises
        ------
        GeedError
            If it holds none, or nothing is known of it and it is no vector.
        """
        given = f"give its target with --target {self.name}=FILE.npy"
        if len(self.shape) > 1 and (kind is None or self.has_no_classes):
            target = f"; or {given}" * targets
            raise GeedError(
                f"{bound}: {self.classes_advice}; its shape is {self.shape_text}{target}"
            )
        if kind not in ("logits", "probabilities", "embedding", None):
            chosen = "" if "output" in self.roles else f"--output {self.name} and "
            raise GeedError(
                f"{bound}: holds {kind}, which may not be class scores; name the scores with "
                f"--output NAME, or state the kind with {chosen}--output-kind logits, "
                "probabilities or embedding"
            )
        if kind not in ("logits", "probabilities"):
            single = int(np.prod(self.shape)) == 1
            sure = "" if single else ", if its rows sum to 1,"
            raise GeedError(
                f"{bound}: the output is {kind or 'of an unknown kind'}, not class scores; change "
                f"with --output-kind logits or{sure} probabilities" + f", and {given}" * targets
            )
