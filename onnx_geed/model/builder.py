"""Nodes are written one by one: names by scope, and the spelling that a model's opset wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

__all__ = ["LEAST_OPSET", "Nodes"]

#: The first opset with all that is written here (Where came last).
LEAST_OPSET = 9


@dataclass(eq=False)
class Nodes:
    """A growing list of nodes and the constants that they read: a builder, not a value.

    Parameters
    ----------
    opset : int
        Version of the default operator set, at least :data:`LEAST_OPSET`.
    scope : str
        What the names of nodes, tensors and constants begin with.
    written : list of onnx.NodeProto
        The nodes, in the order in which they run.
    constants : dict of str to onnx.TensorProto
        The constants, by name.
    taken : set of str
        Names that are given away: no two nodes, nor a node and a constant, share one.
    """

    opset: int
    scope: str = "geed"
    written: list[onnx.NodeProto] = field(default_factory=list, repr=False)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict, repr=False)
    taken: set[str] = field(default_factory=set, repr=False)

    def within(self, scope: str) -> Nodes:
        """Return the same list, to be continued under a longer scope."""
        return replace(self, scope=f"{self.scope}/{scope}")

    def shared(self, scope: str) -> Nodes:
        """Return the same list under a scope that does not depend on this one's."""
        return replace(self, scope=f"geed/{scope}")

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node; return the tensor that it makes, which bears the node's name."""
        output = self.named(name)
        self.written.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def named(self, name: str) -> str:
        """Return a name under this scope that nothing else has: numbered where it is taken."""
        free, count = f"{self.scope}/{name}", 1
        while free in self.taken:
            count += 1
            free = f"{self.scope}/{name}/{count}"
        self.taken.add(free)
        return free

    def inline(self, name: str, values: ArrayLike) -> str:
        """Add a constant as a node, which files of any age may hold; return its name."""
        return self.add("Constant", [], name, value=numpy_helper.from_array(np.asarray(values)))

    def constant(self, name: str, values: ArrayLike) -> str:
        """Store a constant under this scope, once; return its name."""
        key = f"{self.scope}/{name}"
        if key not in self.constants:
            key = self.named(name)
            self.constants[key] = numpy_helper.from_array(np.asarray(values), key)
        return key

    def number(self, value: float) -> str:
        """Store a float64 scalar that any scope may share; return its name."""
        return self.shared("number").constant(f"{float(value)!r}", np.float64(value))

    def cast(self, x: str, to: int, name: str) -> str:
        """Add a Cast to a tensor type."""
        return self.add("Cast", [x], name, to=to)

    def rounded(self, x: str, name: str) -> str:
        """Add what rounds float32 of less than 2²² to whole numbers, halves to the even one."""
        if self.opset >= 11:
            return self.add("Round", [x], name)
        # Before there was Round: float32 holds no halves up there.
        large = self.shared("number").constant("float32/whole", np.float32(3 << 22))
        return self.add("Sub", [self.add("Add", [x, large], f"{name}/up"), large], name)

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """Add a Reshape to fixed lengths, of which one may be −1."""
        text = "x".join(map(str, shape)).replace("-1", "N")
        target = self.shared("shape").constant(text, np.array(shape, np.int64))
        return self.add("Reshape", [x, target], name)

    def gather(self, x: str, table: str, axis: int, name: str) -> str:
        """Add a Gather by a constant."""
        return self.add("Gather", [x, table], name, axis=axis)

    def total(self, x: str, axis: int, name: str, *, keep: bool = False) -> str:
        """Add a sum over an axis."""
        return self._reduced("ReduceSum", x, axis, name, keep=keep, as_input=self.opset >= 13)

    def top(self, x: str, axis: int, name: str, *, keep: bool = False) -> str:
        """Add a maximum over an axis."""
        return self._reduced("ReduceMax", x, axis, name, keep=keep, as_input=self.opset >= 18)

    def _reduced(self, op: str, x: str, axis: int, name: str, *, keep: bool, as_input: bool) -> str:
        if not as_input:
            return self.add(op, [x], name, axes=[axis], keepdims=int(keep))
        axes = self.shared("axes").constant(str(axis), np.array([axis], np.int64))
        return self.add(op, [x, axes], name, keepdims=int(keep))
