"""What the activations of one row take, before a row is run: from shapes at their real sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from onnx_geed.errors import shown
from onnx_geed.model import Input, Model, Tensor, reads
from onnx_geed.run.moving import moving_bytes
from onnx_geed.run.options import Options
from onnx_geed.run.room import Room, room_in
from onnx_geed.run.rows_at_once import rows_at_once
from onnx_geed.run.source import Source
from onnx_geed.run.weights import held_weights

__all__ = ["Footprint", "footprint_of"]

# What the runtime works out as it opens a model it holds twice: as a weight of the model, and as
# what nodes read. What is drawn by chance, and weights of whole numbers, it leaves as they are.
_TWICE = 2
_LEFT = (
    *("Bernoulli", "DequantizeLinear", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike"),
)

# From this version of the file format on, a weight that is an input too may be fed, and so the
# runtime works nothing out with it beforehand.
_FED_SINCE = 4

# Bytes of a number of a sparse weight.
_NUMBER = 4

# Share of weights in what is taken, from which on they are told of.
_MUCH = 0.1

# Rows that a trial holds at once, in its two batches and alone.
_TRIED = 8


@dataclass(frozen=True)
class Footprint:
    """Bytes of a row's activations in the runtime, and how many there may be.

    Parameters
    ----------
    row : int
        Most bytes that are held at once while one row is run; 0 where nothing is known.
    room : Room
        The budget, and what it leaves.
    largest : str
        The largest tensor, or the node that takes more than that, as a sentence names it.
    fixed : int
        Bytes of weights and what is made of them alone, whatever the rows.
    moving : int
        Bytes of the tables and orbits by which samples move.
    best : int
        Rows of a run that a processor is about the fastest with; 0 where nothing is known.
    fed : int
        Of the bytes of a row, those of the inputs that do not move.
    """

    row: int
    room: Room
    largest: str
    fixed: int = 0
    moving: int = 0
    best: int = 0
    fed: int = 0

    @property
    def left(self) -> int:
        """Bytes that rows may take."""
        return self.room.bytes - self.fixed - self.moving

    @property
    def rows(self) -> int:
        """Rows that may be run at once, at least one."""
        return max(1, self.left // max(1, self.row))

    @property
    def tight(self) -> bool:
        """Whether the rows of a trial are to be run one after the other."""
        return self.rows < _TRIED

    def check(self, rows: int = 1, outputs: int = 0) -> None:
        """Refuse a run of so many rows that the budget does not hold.

        Parameters
        ----------
        rows : int
            Rows of a run.
        outputs : int
            Bytes that are held of what is measured.

        Raises
        ------
        GeedError
            If it does not.
        """
        of = "one row" if rows == 1 else f"the {rows} rows of a run"
        taken = self.fixed + rows * self.row
        weights = " with the model's weights" if self.fixed > _MUCH * taken else ""
        unmoved = " and their other inputs" if rows * self.fed > _MUCH * taken else ""
        told = f"the activations of {of}{unmoved} take {{}}{weights}, the largest being"
        told += f" {self.largest}"
        if taken <= self.room.bytes and self.moving:
            told = (
                f"the activations of {of}{unmoved}, and the orbits and tables of samples, take {{}}"
            )
            taken += self.moving + outputs
        self.room.check(taken, told, "use smaller samples")


def footprint_of(
    model: Model,
    acted: Input,
    listed: Sequence[Tensor],
    names: Sequence[str],
    options: Options,
    source: Source,
    others_held: int = 0,
) -> Footprint:
    """Add up what is held at once, each tensor from the node that makes it to its last reader.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The input that the group acts on, by which the batch of a fixed one is known.
    listed : sequence of Tensor
        Its tensors, at the real sizes of samples.
    names : sequence of str
        Those that are measured.
    options : Options
        The budget.
    source : Source
        The samples, and how they move.
    others_held : int
        Bytes of the tables of other groups, which are measured in the same run.

    Returns
    -------
    Footprint

    Raises
    ------
    GeedError
        If one row takes more than the budget.
    """
    made = [tensor for tensor in listed if tensor.op]
    sizes = {tensor.name: tensor.held for tensor in made}
    beside = {tensor.name: tensor.beside for tensor in made}
    nodes = model.proto.graph.node
    constant = _constants(model.proto)
    ends: dict[str, int] = {}
    for i, node in enumerate(nodes):
        ends |= dict.fromkeys(reads(node), i)
    fixed = sum(sizes.pop(name, 0) for name in constant)
    # Of sparse weights all that is not 0, and all that is.
    sparse = {s.values.name: s.dims for s in model.proto.graph.sparse_initializer}
    fixed += sum(_NUMBER * math.prod(dims) for name, dims in sparse.items() if name in ends)
    over: list[list[str]] = [[] for _ in nodes]
    for name, i in ends.items():
        over[i].append(name)
    held = most = 0
    for node, gone in zip(nodes, over, strict=True):
        held += sum(sizes.get(name, 0) for name in node.output if name in ends)
        alone = sum(sizes.get(name, 0) for name in node.output if name not in ends)
        working = max((beside.get(name, 0) for name in node.output), default=0)
        most = max(most, held + alone + working)
        held -= sum(sizes.get(name, 0) for name in gone)
    batch = acted.shape[0] if acted.shape and acted.shape[0] else 1
    room = room_in(options.memory)
    row, moving = -(-most // batch), moving_bytes(source.moved) + others_held
    fixed = _TWICE * fixed + held_weights(model, options)
    best = rows_at_once(model, listed, row)
    fed = sum(feed.row_bytes for feed in source.feeds.values())
    footprint = Footprint(row + fed, room, _largest(made), fixed, moving, best, fed)
    # An output is compared with f̂, another such array.
    footprint.check(outputs=2 * max((sizes.get(name, 0) for name in names), default=0) // batch)
    return footprint


def _constants(proto: onnx.ModelProto) -> set[str]:
    """Return what nodes make of weights and constants alone, without these."""
    graph = proto.graph
    # Older files list weights among their inputs, where newer ones list what may be fed instead.
    fed = {info.name for info in graph.input} if proto.ir_version >= _FED_SINCE else set[str]()
    known = {"", *(tensor.name for tensor in graph.initializer if tensor.name not in fed)}
    made: set[str] = set()
    for node in graph.node:
        if node.op_type not in _LEFT and known.issuperset(reads(node)):
            known.update(node.output)
            made.update(node.output if node.op_type != "Constant" else ())
    return made


def _largest(made: Sequence[Tensor]) -> str:
    large = max(made, key=lambda tensor: max(tensor.held, tensor.beside), default=None)
    if large is None:
        return ""
    if large.beside > large.held:
        return f"what node {shown(large.node)} ({shown(large.op)}) works in"
    shape = "" if large.shape is None else f" {_lengths(large.shape)}"
    return f"tensor {shown(large.name)}{shape}"


def _lengths(shape: Sequence[int | None]) -> str:
    return f"({', '.join('N' if length is None else str(length) for length in shape[:6])})"
