"""What will run, with all that a worker needs to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnx_geed.groups import Table
from onnx_geed.measures import Plan
from onnx_geed.model import Model, Tensor
from onnx_geed.run.options import Options
from onnx_geed.run.session import Session
from onnx_geed.run.source import Source
from onnx_geed.run.trial import reopen

__all__ = ["Chosen", "Prepared"]

Chosen = Literal["kernels", "graph"]


@dataclass(frozen=True)
class Prepared:
    """What will run.

    Parameters
    ----------
    model : Model
        The model as it was read.
    source : Source
        Samples of D and the points for M, in order, and the input's action.
    count : int
        Orbits: the first so many of the source's samples.
    plan : Plan
        What is measured.
    passes : tuple of tuple of str
        Tensors exposed together; several passes where all at once exceed the budget.
    batch : int
        Rows in one run.
    workers : int
        Runs side by side.
    session : Session
        The session in which the model was tried out, for a single pass.
    graph : Model
        The model as it is run, for further passes.
    options : Options
        As given.
    tensors : tuple of Tensor
        The model's tensors.
    kinds : mapping of str to str
        What the tensors are as outputs.
    tables : mapping of str to Table
        Given output actions.
    engine : {"kernels", "graph"}
        Where deviations are computed.
    one_by_one : bool
        Whether a row's activations depend on the others of its batch, so that it is run alone.
    """

    model: Model
    source: Source
    count: int
    plan: Plan
    passes: tuple[tuple[str, ...], ...]
    batch: int
    workers: int
    session: Session
    graph: Model
    options: Options
    tensors: tuple[Tensor, ...]
    kinds: Mapping[str, str]
    tables: Mapping[str, Table]
    engine: Chosen
    one_by_one: bool

    def first(self, count: int) -> Prepared:
        """Return the same with only the first so many orbits, and the points that M needs."""
        indices = self.source.indices[: max(count, self.options.norm_samples)]
        check = self.source.check and replace(self.source.check, count=count)
        return replace(self, source=replace(self.source, indices=indices, check=check), count=count)

    def open(self, layers: Sequence[str]) -> Session:
        """Return a session that yields these tensors."""
        if len(self.passes) == 1:
            return replace(self.session, outputs=tuple(layers))
        return reopen(self.session, self.graph, layers)
