"""A measure: a named deviation on a named tensor with a named output action."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, shown
from onnx_geed.groups import (
    Action,
    Group,
    LayoutAction,
    Matrices,
    Permutation,
    PlacedAction,
    Table,
    TableKind,
    Trivial,
    composes,
    from_side_to_side,
    layout_action,
    rows_for,
    with_channels,
    with_components,
    without_row,
)
from onnx_geed.measures.catalogue import Descriptor, Support, descriptor_of
from onnx_geed.measures.inverses import check_inverses
from onnx_geed.measures.places import Places, places_of
from onnx_geed.measures.scores import OutputKind

__all__ = ["Measure", "by_sample"]

# The output actions that a measure takes, in words.
_TAKEN = {
    "letters": "one that follows from the tensor's letters, such as the input's own on a grid",
    "trivial": "the trivial one",
    "permutations": "the trivial one, a permutation or one that moves places",
    "any": "any",
}


def _mixes(action: Action) -> bool:
    """Whether a table of matrices mixes channels, or entries of a vector."""
    by_letters = isinstance(action, LayoutAction) and action.channel_matrices is not None
    return by_letters or isinstance(action, Matrices)


@checked
@dataclass(frozen=True)
class Measure:
    """A named deviation m on a named tensor with a named output action φ_Y.

    Parameters
    ----------
    name : str
        Name of the measure, such as ``channel-cos`` or ``latent-l2``.
    layer : str
        Name of the tensor.
    action : Action
        The output action φ_Y.
    support : {"full", "disk"}
        Pixels of feature maps that are compared.
    kind : {"logits", "probabilities"}, optional
        Kind of the tensor's class scores. Logits by default; then :func:`orbit_deviations` refuses
        values that look like something else.
    background : int, optional
        For class scores at places: the class whose places are left out of a second mean.
    target : bool
        Whether a share of the error is computed with a target, not with labels.
    drawn : (int, tuple of int), optional
        If φ_Y differs from sample to sample: the seed and the samples of D. ``action`` is then that
        of one of the samples.
    kernel_of_action : tuple of int
        ker(φ_Y), the elements over which f̂ is the mean, taken from the action; for a family only
        the identity.

    Raises
    ------
    GeedError
        If there is no such measure, support or kind.
        If ``action`` lacks a part of an action.
        If the action does not fit the measure. Feature maps need an action by letters, latents the
        trivial one. Class scores take no matrices, because mixed probabilities are not
        probabilities. Feature maps take none, because a cosine per channel cannot compare mixed
        channels.
        If class scores cannot be moved back to the places of x, or a tensor that has a target.
        If labels would be compared with scores at many places.
        If a share of the error is requested for a fitted action.
    """

    name: str
    layer: str
    action: Action
    support: Support = "full"
    kind: OutputKind | None = None
    background: int | None = None
    target: bool = False
    drawn: tuple[int, tuple[int, ...]] | None = field(default=None, repr=False)
    kernel_of_action: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        actions = self.descriptor.actions
        parts = ("layout", "kernel_of_action", "apply", "exact")
        whole = all(hasattr(self.action, part) for part in parts)
        if not whole or not isinstance(getattr(self.action, "group", None), Group):
            raise GeedError(
                f"{self.name} on {self.layer}: {shown(self.action)} is not an action: give one "
                "from onnx_geed.grid_action, or a Trivial, Permutation or Matrices"
            )
        lettered = isinstance(self.action, LayoutAction | PlacedAction)
        wrong = actions == "letters" and not lettered
        wrong |= actions == "trivial" and not isinstance(self.action, Trivial)
        wrong |= actions in ("letters", "permutations") and _mixes(self.action)
        # What is no action by letters acts on vectors alone.
        wrong |= not lettered and {"H", "W"} <= {*self.action.layout.letters}
        if wrong:
            raise GeedError(
                f"{self.name} on {self.layer}: does not work with the output action "
                f"{self.action.name!r}: {self.name} takes {_TAKEN[actions]}"
            )
        # A fit predicts f(gx) from f(x). What it leaves in place by chance is no kernel of an
        # action, and an f̂ over that would let two kinds of fit differ by more than the fit.
        # A family is held against f(x): a mean over a range that is anybody's would set the value.
        own = composes(self.action) and self.action.group.family is None
        # Where no table says what an element does, it is left in place, which is no kernel either.
        unknown = without_row(self.action)
        kernel = self.action.kernel_of_action() if own else (0,)
        kernel = tuple(g for g in kernel if g not in unknown)
        object.__setattr__(self, "kernel_of_action", kernel)
        given = isinstance(self.action, LayoutAction) and self.action.moves_channels
        if self.descriptor.opposed and (
            given or not isinstance(self.action, LayoutAction | Trivial)
        ):
            raise GeedError(
                f"{self.name} on {self.layer}: takes no output action, since a table says nothing "
                "about motions between its elements: tensors move by the letters of their layout"
            )
        places = self.places  # refused at once where there are none
        if self.descriptor.of_error and not composes(self.action):
            raise GeedError(
                f"{self.name} on {self.layer}: takes no fitted action, since its inverse may not "
                "undo it: give an exact action, or take unexplained"
            )
        if self.descriptor.of_error and unknown:
            raise GeedError(
                f"{self.name} on {self.layer}: needs a table with a row for every element of "
                f"{self.action.group.name}: measure the group of the table"
            )
        if self.target:
            check_inverses(self.action, self.layer)
        elif places is not None and self.descriptor.of_error:
            raise GeedError(
                f"{self.name} takes one label per sample, but {self.layer} has scores at every "
                f"place: give their targets with --target {self.layer}=FILE.npy"
            )

    @cached_property
    def places(self) -> Places | None:
        """Places of class scores, which move; ``None`` for vectors, and for other measures."""
        if not self.descriptor.of_classes:
            return None
        if not isinstance(self.action, LayoutAction | PlacedAction):
            return None
        return places_of(self.action, self.support)

    def of(self, position: int) -> Measure:
        """Return the measure for the sample at a position of D."""
        action = self.action
        if self.drawn is None or not isinstance(action, LayoutAction | Permutation):
            return self
        seed, indices = self.drawn
        return replace(self, action=action.onward(seed, indices[position]), drawn=None)

    def correction(self, elements: int) -> float:
        """Return the factor for deviations from a mean over this number of elements.

        Notes
        -----
        The mean of n independent elements is nearer to them than the mean over the whole group: in
        expectation, squared distances are (n − 1)/n of their correct value. The factor corrects
        this; for distances it is the root. Cosines, divergences and shares of an error are not
        corrected, nor is anything that is not compared with a mean over the whole group, nor a
        product with another group.
        """
        group, power = self.action.group, self.descriptor.power
        if not group.independent or len(self.averaged) < group.order:
            return 1.0
        return float((elements / (elements - 1)) ** (power / 2))

    @property
    def averaged(self) -> tuple[int, ...]:
        """Elements over which the reference is a mean: ker(φ_Y), of classes the identity alone.

        All of them where f(gx) is moved back first. Of small motions it is no mean, and the
        identity is its own.
        """
        if self.descriptor.of_error:
            return tuple(range(self.action.group.order))
        alone = self.descriptor.view == "classes" or self.descriptor.opposed
        return (0,) if alone else self.kernel_of_action

    @cached_property
    def across(self) -> Action:
        """How small motions move what is seen from one side to the other, φ_Y(g₊g₋⁻¹)."""
        action = self.action
        if not isinstance(action, LayoutAction):
            return action
        return replace(action, moves=action.moves_of(from_side_to_side(action.group)))

    @property
    def counted(self) -> slice:
        """Elements whose deviations count: all, or all except the identity.

        Choice: if f̂(x) is f(x), the identity is perfect by definition. A measure with
        ``skips_identity`` is then the mean over the other elements. For a family, this holds for
        every measure.
        """
        return self.counted_of(range(self.action.group.order))

    def counted_of(self, members: Collection[int]) -> slice:
        """Elements whose deviations count, of a subgroup that has its own f̂(x).

        Parameters
        ----------
        members : collection of int
            The subgroup, identity first.

        Returns
        -------
        slice
            Of the members. Of the elements that f̂ is a mean over, a subgroup may hold the identity
            alone where the whole group holds more.
        """
        skips = self.descriptor.skips_identity or self.action.group.family is not None
        alone = {*self.averaged} & {*members} == {0}
        return slice(int(skips and alone), None)

    @property
    def descriptor(self) -> Descriptor:
        """The catalogue's entry for the measure, and with it the functions that compute it."""
        descriptor = descriptor_of(self.name)
        return descriptor.against_target() if self.target else descriptor

    @property
    def reads(self) -> OutputKind:
        """Kind of class scores that the tensor is read as: ``kind``, else logits."""
        return self.kind or "logits"

    def other_reading(self) -> Measure | None:
        """Return the measure with what the output action may have been meant to be.

        Returns
        -------
        Measure or None
            With the inverse of a given table, or with vectors that hold their components as (right,
            up); ``None`` where neither makes a difference.
        """
        return self.with_inverse_table() or self._with_other_components()

    def _with_other_components(self) -> Measure | None:
        """Return the measure with vectors (right, up), where they are taken as (right, down)."""
        action = self.action
        if not isinstance(action, LayoutAction) or "X" not in action.moved:
            return None
        if action.group.components != "right-down":
            return None
        group = with_components(action.group, "right-up")
        other = layout_action(group, action.layout, action.lengths, action.interpolation)
        # What a table does to channels stays.
        other = replace(action, group=group, moves=other.moves)
        same = np.array_equal(other.moves.weight, action.moves.weight) and np.array_equal(
            other.moves.permutation, action.moves.permutation
        )
        return None if same else replace(self, action=other)

    def with_inverse_table(self) -> Measure | None:
        """Return the measure with the inverse of a given index table, where that differs.

        Returns
        -------
        Measure or None
            ``None`` without a table, of one that was fitted, where it is its own inverse, and where
            the inverse is no action.

        Notes
        -----
        Rows for g and g⁻¹ swapped are an action too where the group is abelian, so only the value
        can tell that a table was written the wrong way round.
        """
        action, group = self.action, self.action.group
        if not group.is_closed or not composes(action):
            return None
        if isinstance(action, LayoutAction) and action.channels is not None:
            rows = action.channels
            kind: TableKind = "channels"
        elif isinstance(action, Permutation):
            rows = action.table
            kind = "permutation"
        else:
            return None
        known = [g for g in range(group.order) if g not in without_row(action)]
        table = Table(
            tuple(group.elements[g] for g in known),
            kind,
            rows[[group.inverse(g) for g in range(group.order)]][known],
            "inverse",
            partial=len(known) < group.order,
        )
        if np.array_equal(table.values, rows[known]):
            return None
        try:
            matched = rows_for(table, group)
        except GeedError:  # not an action at all where the group is not abelian
            return None
        if isinstance(action, Permutation):
            return replace(self, action=replace(action, table=matched, letters=None))
        assert isinstance(action, LayoutAction)
        return replace(self, action=with_channels(action, table))


def by_sample(
    measure: Measure, y: NDArray[Any], first: int
) -> Iterator[tuple[Measure, int, NDArray[Any]]]:
    """Yield orbits that a measure is the same for, with the position of the first of them.

    Parameters
    ----------
    measure : Measure
        The measure.
    y : ndarray, shape (N, n, ...)
        Orbits of successive samples of D.
    first : int
        Position of the first.

    Yields
    ------
    measure : Measure
        As it is of these samples.
    position : int
        Of the first of them.
    orbits : ndarray, shape (N or 1, n, ...)
        All of them, where no sample has elements of its own.
    """
    if measure.drawn is None:
        yield measure, first, y
        return
    for k in range(len(y)):
        yield measure.of(first + k), first + k, y[k : k + 1]
