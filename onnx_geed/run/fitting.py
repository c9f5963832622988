"""What is to be fitted, to which samples, and in how many passes over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from onnx_geed.errors import GeedError
from onnx_geed.groups import LayoutAction, Trivial
from onnx_geed.measures import Plan, fit_bytes
from onnx_geed.run.fit_requests import FitRequest, fit_action
from onnx_geed.run.options import Options
from onnx_geed.text import counted, format_bytes, parse_bytes

__all__ = ["Fitting"]


# Bytes that a layer may take, however small the budget.
_ALWAYS = 2 << 30


@dataclass(frozen=True)
class Fitting:
    """Output actions that are to be fitted, and to what.

    Parameters
    ----------
    plan : Plan
        The tensors and the group.
    requests : mapping of str to FitRequest
        What is fitted, by tensor.
    indices : tuple of int
        The fit samples.
    options : Options
        Memory, support, and how hidden tensors are moved.
    representation : bool
        Whether an orthogonal fit is made one whose elements compose.
    """

    plan: Plan
    requests: Mapping[str, FitRequest]
    indices: tuple[int, ...]
    options: Options
    representation: bool = False

    def bytes_of(self, name: str) -> int:
        """Bytes that sums of one layer, and solving it, take."""
        _, channels = self.action(name)
        kind, order = self.requests[name].kind, self.plan.group.order
        return fit_bytes(order, channels, kind, len(self.indices))

    def needed_by(self, name: str) -> int:
        """Bytes that one layer takes, with the orbits on their way into its sums."""
        orbits = 2 * self.plan.group.order * self.plan.layers[name].bytes
        return self.bytes_of(name) + orbits

    @property
    def side_by_side(self) -> int:
        """Layers that one machine's memory holds at a time, whichever they are; at least one."""
        most = max(map(self.needed_by, self.requests))
        return max(1, parse_bytes(self.options.memory) // most)

    def action(self, name: str) -> tuple[LayoutAction | Trivial, int]:
        """How the places of a layer move, and how many channels it has."""
        layer, request = self.plan.layers[name], self.requests[name]
        return fit_action(layer, self.plan.group, self.options, request.asked)

    @cached_property
    def passes(self) -> tuple[tuple[str, ...], ...]:
        """Layers whose sums, and whose orbits, fit into memory together.

        Raises
        ------
        GeedError
            If one alone takes more than there is.
        """
        budget = parse_bytes(self.options.memory)
        passes: list[list[str]] = [[]]
        filled = 0
        for name in self.requests:
            needed = self.needed_by(name)
            if needed > max(budget, _ALWAYS):
                raise GeedError(
                    f"a fit of {name}, of {self.action(name)[1]:,} channels, takes "
                    f"{format_bytes(needed)} of memory: fit a smaller layer, or raise --memory"
                )
            if passes[-1] and filled + needed > budget:
                passes.append([])
                filled = 0
            passes[-1].append(name)
            filled += needed
        return tuple(map(tuple, passes))

    def memory_line(self) -> str:
        """Say what is fitted, and what that takes."""
        held = max(sum(map(self.bytes_of, names)) for names in self.passes)
        layers = f"{len(self.requests)} layer{'s' * (len(self.requests) > 1)}"
        passes = f" in {len(self.passes)} passes" if len(self.passes) > 1 else ""
        return (
            f"fitting {layers} to {counted(len(self.indices), 'sample')}{passes} "
            f"({format_bytes(held)} of memory)"
        )
