"""Where the rows of a batch are in a graph's tensors, and whether they are still apart.

A batch is followed by its *stride*: in a tensor stored in C order, row b holds the entries whose
flat position i has (i // stride) mod p = b, where p is the number of rows. A Reshape changes no
flat position and so no stride, whatever it merges or splits; of every other operator a rule says
whether it keeps rows apart, and where they are afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_geed.model.nodes import integers_of
from onnx_geed.model.shapes import Fed, infer_fed

__all__ = [
    "Apart",
    "Counted",
    "Located",
    "Lost",
    "Mixed",
    "Rule",
    "State",
    "Still",
    "Tracker",
    "has_input",
    "integers",
    "lost",
    "lost_beside",
    "mixed",
    "on_what",
    "others_still",
    "states_of_outputs",
]

# A number of rows that no length of a model is a multiple of, and one as small as runs have: what a
# graph makes of their number, such as a choice from five rows on, may be another thing there.
_ROWS = (1009, 2)


@dataclass(frozen=True)
class Still:
    """The same in every run: a constant, or worked out from lengths that do not change."""


@dataclass(frozen=True)
class Counted:
    """Depends on how many rows there are, and on nothing that is in them."""


@dataclass(frozen=True)
class Apart:
    """Every row depends on its own input alone, in the same way wherever it stands.

    Parameters
    ----------
    stride : int
        Distance of two neighbouring rows' entries, in the flat tensor.
    by_count : bool
        Of a whole graph: whether it works something out from how many rows there are. That was
        looked at for two numbers of rows alone, and a run may have another.
    """

    stride: int
    by_count: bool = False


@dataclass(frozen=True)
class Lost:
    """Depends on the data, and nothing is known of its rows.

    Parameters
    ----------
    reason : str
        What is not understood.
    elsewhere : str
        Of a whole graph: a tensor whose rows are apart, along another axis than its first.
    """

    reason: str
    elsewhere: str = ""


@dataclass(frozen=True)
class Mixed:
    """A row depends on the others.

    Parameters
    ----------
    reason : str
        Where that begins.
    """

    reason: str


State = Still | Counted | Apart | Lost | Mixed


@dataclass(frozen=True)
class Located:
    """Where the batch is in a shape: its axis has the length outer · rows · inner."""

    axis: int
    outer: int
    inner: int


@dataclass(eq=False)
class Tracker:
    """The states of a graph's tensors, and what rules ask of them.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    fed : mapping of str to tuple of int or None
        Shapes of all inputs; ``None`` as the first length where there is one row a sample.
    rows : int, optional
        The number of rows, where the model takes no other.
    """

    proto: onnx.ModelProto
    fed: Mapping[str, tuple[int | None, ...]]
    rows: int | None = None
    count: int = field(init=False)
    states: dict[str, State] = field(default_factory=dict, init=False)
    #: Tensors that do not change along the axis that holds the batch.
    even: set[str] = field(default_factory=set, init=False)
    #: Whether anything that is made of the number of rows was taken for a constant.
    by_count: bool = field(default=False, init=False)
    _facts: Fed = field(init=False)
    _others: Fed | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.count = self.rows or _ROWS[0]
        self._facts = self._infer(self.count)
        if self._facts.taken and self.rows is None and self._facts.taken != self.others.taken:
            raise ValueError("the number of rows decides which branch of an If is run")
        self.by_count = bool(self._facts.taken) and self.rows is None
        for name, fed in self.fed.items():
            shape = self.shape(name) or ()
            each = fed[:1] == (None,)
            self.states[name] = Apart(math.prod(shape[1:])) if each else Still()

    @property
    def opset(self) -> int:
        """The version of the default operators."""
        imports = self.proto.opset_import
        return next((o.version for o in imports if o.domain in ("", "ai.onnx")), 0)

    @property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes of the main graph, sorted; branches of an If that are always run are in it."""
        return self._facts.nodes

    @property
    def others(self) -> Fed:
        """The facts for another number of rows."""
        if self._others is None:
            self._others = self._infer(_ROWS[1])
        return self._others

    def _infer(self, count: int) -> Fed:
        shapes = {name: [n or count for n in shape] for name, shape in self.fed.items()}
        return infer_fed(self.proto, shapes)

    def state(self, name: str) -> State:
        """Return the state of a tensor; what is not among the graph's own is a stored constant."""
        return self.states.get(name, Still())

    def still(self, name: str) -> bool:
        """Whether a tensor is the same in every run, or was worked out to be."""
        state = self.state(name)
        if not isinstance(state, Counted):
            return isinstance(state, Still)
        value = self._facts.values.get(name)
        settled = self.rows is not None
        if not settled and value is not None and name in self.others.values:
            settled = np.array_equal(value, self.others.values[name])
            self.by_count |= settled
        if settled:
            self.states[name] = Still()
        return settled

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, if all of it is known."""
        shape = self._facts.shapes.get(name)
        if shape is None or any(n is None for n in shape):
            return None
        return tuple(n or 0 for n in shape)

    def value(self, name: str) -> NDArray[Any] | None:
        """Return a small tensor that is the same in every run."""
        return self._facts.values.get(name) if self.still(name) else None

    def locate(self, state: Apart, shape: Sequence[int]) -> Located | None:
        """Return the axis that holds the batch, if it is one."""
        step = 1
        for axis in range(len(shape) - 1, -1, -1):
            span = step * shape[axis]
            if step <= state.stride < span:
                inner, rest = divmod(state.stride, step)
                outer, over = divmod(shape[axis], inner * self.count)
                return None if rest or over else Located(axis, outer, inner)
            step = span
        return None

    def place(self, name: str) -> Located | None:
        """Return where the batch is in a tensor of rows."""
        state, shape = self.state(name), self.shape(name)
        return self.locate(state, shape) if isinstance(state, Apart) and shape else None

    def at(self, name: str, place: Located, node: onnx.NodeProto) -> State:
        """Return the state of an output, the batch being there."""
        shape = self.shape(name)
        if shape is None:
            return Lost(f"the shape of {name!r} is not known")
        long = place.outer * self.count * place.inner
        named = f"{node.op_type} {node.output[0]!r}"
        if not place.outer or not 0 <= place.axis < len(shape) or shape[place.axis] != long:
            return Lost(f"{named} changes the length of the batch")
        if self.rows is None and any(isinstance(self.state(n), Counted) for n in node.input):
            lengths = list(self.others.shapes.get(name, ()))
            lengths[place.axis : place.axis + 1] = [long]
            if lengths != list(shape):
                return Lost(f"lengths of {named} depend on the number of rows")
        return Apart(place.inner * math.prod(shape[place.axis + 1 :]))


#: What an operator makes of its inputs: one state for all outputs, or one each.
Rule = Callable[[Tracker, onnx.NodeProto], State | list[State]]


def integers(tracker: Tracker, node: onnx.NodeProto, name: str, position: int) -> list[int] | None:
    """Return integers that are an attribute or, in newer opsets, an input; none where unknown."""
    stated = integers_of(node, name)
    if stated is not None:
        return stated
    if len(node.input) > position and node.input[position]:
        value = tracker.value(node.input[position])
        return None if value is None else [int(i) for i in value.flat]
    return None


def has_input(node: onnx.NodeProto, position: int) -> bool:
    """Whether an optional input is there."""
    return len(node.input) > position and bool(node.input[position])


def lost(node: onnx.NodeProto, why: str) -> Lost:
    """Return that nothing is known of a node's rows."""
    return Lost(f"{node.op_type} {node.output[0]!r}: {why}")


def mixed(node: onnx.NodeProto, why: str) -> Mixed:
    """Return that a node takes rows together."""
    return Mixed(f"{node.op_type} {node.output[0]!r} {why}")


def states_of_outputs(tracker: Tracker, node: onnx.NodeProto, place: Located) -> list[State]:
    """Return the states of all outputs, the batch being there in each."""
    return [tracker.at(n, place, node) if n else Still() for n in node.output]


def on_what(tracker: Tracker, *names: str) -> str:
    """Say what those of some tensors depend on that are not the same in every run."""
    moving = [name for name in names if name and not tracker.still(name)]
    counted = all(isinstance(tracker.state(name), Counted) for name in moving)
    return "the number of rows" if counted else "the data"


def lost_beside(tracker: Tracker, node: onnx.NodeProto) -> Lost:
    """Return that nothing is known, since an input besides the first is not still."""
    return lost(node, f"an input besides the first depends on {on_what(tracker, *node.input[1:])}")


def others_still(tracker: Tracker, node: onnx.NodeProto) -> bool:
    """Whether only the first input holds data."""
    return all(tracker.still(name) for name in node.input[1:] if name)
