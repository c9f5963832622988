"""m of pairs of vectors as ONNX nodes, in float64: the formulas that the compiled loops compute."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from onnx_geed.model import Nodes

__all__ = [
    "PairNodes",
    "cosine_nodes",
    "difference_nodes",
    "distance_nodes",
    "divergence_nodes",
    "square_nodes",
    "sum_of_squares",
]

# Below every square of a float32 that is not zero, and every probability that counts. Comparing
# with it, and not with zero for equality, lets NaN pass on as NaN.
_NOTHING = 1e-300


@dataclass(frozen=True)
class PairNodes:
    """Tensors that the ``nodes`` of a descriptor leave behind, without the axis they reduce.

    Parameters
    ----------
    values : str
        m of each pair, or where it is a similarity, minus m; float64.
    squares : str or None
        Σ u², where it was needed.
    zero_pairs : str or None
        1 where both vectors are zero, else 0, for a similarity.
    """

    values: str
    squares: str | None = None
    zero_pairs: str | None = None


def cosine_nodes(nodes: Nodes, u: str, v: str, axis: int) -> PairNodes:
    """Write the cosines of pairs of vectors.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    u, v : str
        Tensors of float64 that broadcast together.
    axis : int
        Along which the vectors lie.

    Returns
    -------
    PairNodes

    Notes
    -----
    Choice: the cosine of two zero vectors is 1, of one zero vector and another 0.
    """
    sums = {}
    for name, a, b in (("uv", u, v), ("uu", u, u), ("vv", v, v)):
        sums[name] = nodes.total(nodes.add("Mul", [a, b], f"{name}/products"), axis, name)
    nothing, one = nodes.number(_NOTHING), nodes.number(1)
    no_u = nodes.add("Less", [sums["uu"], nothing], "u_is_zero")
    no_v = nodes.add("Less", [sums["vv"], nothing], "v_is_zero")
    both = nodes.cast(
        nodes.add("And", [no_u, no_v], "both_zero"), TensorProto.DOUBLE, "both_zero/float64"
    )
    either = nodes.add("Or", [no_u, no_v], "either_zero")
    squares = nodes.add("Mul", [sums["uu"], sums["vv"]], "squares")
    # One root of the product: for equal vectors it is exact, so that their cosine is exactly 1.
    length = nodes.add("Sqrt", [nodes.add("Where", [either, one, squares], "safe")], "lengths")
    ratio = nodes.add("Div", [sums["uv"], length], "ratio")
    least = nodes.add("Max", [ratio, nodes.number(-1)], "at_least")
    clipped = nodes.add("Min", [least, one], "clipped")
    return PairNodes(nodes.add("Where", [either, both, clipped], "cosine"), sums["uu"], both)


def distance_nodes(nodes: Nodes, u: str, v: str, axis: int) -> PairNodes:
    """Write the distances ‖u − v‖₂ of pairs of vectors, as :func:`cosine_nodes` does cosines."""
    apart = nodes.add("Sub", [u, v], "apart")
    return PairNodes(nodes.add("Sqrt", [sum_of_squares(nodes, apart, axis, "apart")], "distance"))


def square_nodes(nodes: Nodes, u: str, v: str, axis: int) -> PairNodes:
    """Write the squared distances ‖u − v‖₂², as :func:`cosine_nodes` does cosines."""
    apart = nodes.add("Sub", [u, v], "apart")
    return PairNodes(sum_of_squares(nodes, apart, axis, "apart"))


def difference_nodes(nodes: Nodes, u: str, v: str, axis: int) -> PairNodes:
    """Write 1 where classes differ in an entry, else 0, as :func:`cosine_nodes` does cosines."""
    # Whole numbers; before opset 11 there is no Equal of floats.
    apart = nodes.add("Abs", [nodes.add("Sub", [u, v], "apart")], "distance")
    differ = nodes.add("Not", [nodes.add("Less", [apart, nodes.number(0.5)], "same")], "differ")
    flips = nodes.cast(differ, TensorProto.DOUBLE, "differ/float64")
    return PairNodes(nodes.top(flips, axis, "flips"))


def divergence_nodes(nodes: Nodes, u: str, v: str, axis: int) -> PairNodes:
    """Write KL(exp u ‖ exp v) of log-probabilities in nats, as :func:`cosine_nodes` does cosines.

    Notes
    -----
    0·log 0 = 0; infinite where some p > 0 stands against q = 0.
    """
    p = nodes.add("Exp", [u], "probabilities")
    terms = nodes.add("Mul", [p, nodes.add("Sub", [u, v], "log_ratio")], "terms")
    nothing = nodes.add("Less", [p, nodes.number(_NOTHING)], "is_zero")
    kept = nodes.add("Where", [nothing, nodes.number(0), terms], "terms/kept")
    # Rounding alone can make the divergence of equal distributions negative.
    return PairNodes(nodes.add("Max", [nodes.total(kept, axis, "summed"), nodes.number(0)], "nats"))


def sum_of_squares(nodes: Nodes, x: str, axis: int, name: str) -> str:
    """Write Σ x² over an axis, under names that begin with the given one."""
    return nodes.total(nodes.add("Mul", [x, x], f"{name}/squares"), axis, f"{name}/sum")
