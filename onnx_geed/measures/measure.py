"""A measure: a named deviation on a named tensor with a named output action."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from onnx_geed.errors import GeedError, check_choice, shown
from onnx_geed.groups import Action, GridAction, Matrices, PlacedAction, Trivial
from onnx_geed.measures.catalogue import Descriptor, Support, descriptor_of
from onnx_geed.measures.scores import OutputKind

__all__ = ["Measure"]


@dataclass(frozen=True)
class Measure:
    """A named deviation m on a named tensor with a named output action φ_Y.

    Parameters
    ----------
    name : str
        One of ``channel-cos``, ``latent-l2``, ``latent-cos``, ``softmax-kl``, ``output-l2``.
    layer : str
        Name of the tensor.
    action : Action
        The output action φ_Y.
    support : {"full", "disk"}
        Pixels that ``channel-cos`` compares.
    kind : {"logits", "probabilities"}, optional
        What ``softmax-kl`` reads. Logits where it is not said, but values that look like something
        else are then refused by :func:`orbit_deviations`.

    Raises
    ------
    GeedError
        If no measure has that name, or there is no such support or kind.
        If the action is none.
        If ``channel-cos`` is given an action that is not one on a grid, or a latent measure one
        that is not trivial, or another measure one on a grid.
        If ``softmax-kl`` is given matrices, which do not keep probabilities.
    """

    name: str
    layer: str
    action: Action
    support: Support = "full"
    kind: OutputKind | None = None
    kernel_of_action: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        actions = descriptor_of(self.name).actions
        check_choice("support", self.support, get_args(Support))
        if self.kind is not None:
            check_choice("kind", self.kind, get_args(OutputKind))
        parts = ("group", "layout", "kernel_of_action", "apply", "exact")
        if not all(hasattr(self.action, part) for part in parts):
            raise GeedError(
                f"{self.name} on {self.layer}: {shown(self.action)} is no action: give one that "
                "onnx_geed.grid_action makes, a Trivial, Permutation or Matrices"
            )
        grid = isinstance(self.action, GridAction | PlacedAction)
        wrong = (actions == "grid") != grid or (not grid and bool(self.action.layout.plane))
        wrong |= actions == "trivial" and not isinstance(self.action, Trivial)
        wrong |= actions == "permutations" and isinstance(self.action, Matrices)
        if wrong:
            raise GeedError(
                f"{self.name} on {self.layer}: does not go with the output action "
                f"{self.action.name!r}: channel-cos takes the input's own action on a grid, latent "
                "measures the trivial one, softmax-kl trivial or permutation, output-l2 any of a "
                "vector"
            )
        object.__setattr__(self, "kernel_of_action", self.action.kernel_of_action())

    @property
    def descriptor(self) -> Descriptor:
        """What the measure is."""
        return descriptor_of(self.name)

    @property
    def reads(self) -> OutputKind:
        """What ``softmax-kl`` reads: ``kind``, or logits where it was not said."""
        return self.kind or "logits"
