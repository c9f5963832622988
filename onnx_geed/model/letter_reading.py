"""A node as the rules on letters read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import onnx

from onnx_geed.model.axis_parts import Axes
from onnx_geed.model.lettered_axes import Operand
from onnx_geed.model.nodes import integers_of
from onnx_geed.model.shapes import Shape

__all__ = ["NOWHERE", "LetterRule", "Made", "Place", "Places", "Reading"]

#: Some of the places of an axis: its letter or kind, which they are, and its length if known.
Place = tuple[str, range | tuple[int, ...], int | None]

#: Of a tensor of which no axis was cut to a part.
NOWHERE = 0


class Places:
    """Places of axes, each with a bit of its own: a set of some is a whole number.

    A network that was unrolled has a set for each step, of all steps until then.
    """

    def __init__(self) -> None:
        self._bits: dict[Place, int] = {}
        self._of_letter: dict[str, int] = {}
        self._listed: list[Place] = []

    def bit(self, place: Place) -> int:
        """Return the set of one place."""
        if place not in self._bits:
            self._bits[place] = 1 << len(self._listed)
            self._listed.append(place)
            self._of_letter[place[0]] = self.of_letters(place[0]) | self._bits[place]
        return self._bits[place]

    def of_letters(self, letters: Iterable[str]) -> int:
        """Return the set of all places of axes of these letters or kinds."""
        result = NOWHERE
        for letter in letters:
            result |= self._of_letter.get(letter, NOWHERE)
        return result

    def listed(self, some: int) -> list[Place]:
        """Return the places of a set."""
        result = []
        while some:
            last = some.bit_length() - 1
            result.append(self._listed[last])
            some ^= 1 << last
        return result

    def letters(self, some: int) -> list[str]:
        """Return the letters of the places of a set, sorted."""
        return sorted(letter for letter, own in self._of_letter.items() if own & some)


@dataclass(frozen=True)
class Reading:
    """A node with what is known of the tensors that it reads and makes.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    data : mapping of str to Axes or None
        Axes of the data it reads, ``None`` where they are not known; constants are absent.
    shapes : mapping of str to tuple of int or None
        Shapes of known rank.
    integers : mapping of str to list of int
        Short integer constants.
    batch : int or None
        Length of N.
    taken : mapping of str to int
        Of the data it reads, from which places of longer axes they come; absent where from none.
    known : Places
        Those places.
    """

    node: onnx.NodeProto
    data: Mapping[str, Axes | None]
    shapes: Mapping[str, Shape]
    integers: Mapping[str, list[int]]
    batch: int | None
    taken: Mapping[str, int] = field(default_factory=dict)
    known: Places = field(default_factory=Places)

    def name(self, i: int) -> str:
        """Return the name of an input; empty where there is none."""
        return str(self.node.input[i]) if i < len(self.node.input) else ""

    def axes(self, i: int) -> Axes | None:
        """Return the axes of an input that is data."""
        return self.data.get(self.name(i))

    def shape(self, i: int) -> Shape | None:
        """Return the shape of an input."""
        return self.shapes.get(self.name(i))

    def made(self, i: int = 0) -> Shape | None:
        """Return the shape of an output."""
        return self.shapes.get(self.node.output[i]) if i < len(self.node.output) else None

    def size(self, axis: int, i: int = 0) -> int | None:
        """Return a length of an output."""
        shape = self.made(i)
        return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None

    def is_data(self, i: int) -> bool:
        """Whether an input is data, known or not."""
        return self.name(i) in self.data

    def operand(self, i: int) -> Operand | None:
        """Return the axes of data, the shape of a constant; ``None`` where not known."""
        return self.axes(i) if self.is_data(i) else self.shape(i)

    def places(self, i: int) -> int:
        """Return from which places of longer axes an input comes."""
        return self.taken.get(self.name(i), NOWHERE)

    def stated(self, i: int, key: str) -> list[int] | None:
        """Return integers that are an input in newer opsets, an attribute in older ones."""
        return self.integers.get(self.name(i)) if self.name(i) else integers_of(self.node, key)


#: Axes of all outputs, or of each; ``None`` where they are not known.
Made = Axes | list[Axes | None] | None


#: How letters pass through a node.
LetterRule = Callable[[Reading], Made]
