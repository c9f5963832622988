"""A group's action on the axes of a tensor as ONNX nodes: gathers by the tables of the action.

Gathers and not Transpose, Slice or GridSample: the tables are those of the compiled loops, so that
both compute the same definition, whatever the opset, the interpolation and the shape of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_geed.groups import LayoutAction, Moves
from onnx_geed.model import Nodes

__all__ = ["moved_back", "moved_rows", "orbit_nodes"]


def moved_rows(
    nodes: Nodes,
    rows: str,
    action: LayoutAction,
    count: int,
    chosen: Sequence[int],
    pixels: NDArray[np.int32] | None,
    dtype: type[np.floating[Any]] = np.float32,
) -> str:
    """Move rows by some elements of a group.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    rows : str
        Tensor of ``dtype``, shape (N, rows, F).
    action : LayoutAction
        The action, with its channel table or matrices if it has some.
    count : int
        Number of rows.
    chosen : sequence of int
        The elements, n' of them.
    pixels : ndarray of int32, shape (P,), optional
        Entries to keep; all by default.
    dtype : type
        In which entries are weighted.

    Returns
    -------
    str
        Tensor of ``dtype``, shape (N, n', rows, P).

    Notes
    -----
    ::

        rows → entries first ┬────────────────────────────────┐
                             └ Gather taps → Mul → ReduceSum ─┴ Concat → Gather → channels first

    A pixel's channels lie side by side meanwhile, so that a gather copies them in one piece.
    """
    grid = nodes.shared(_called(action))
    stack = nodes.add("Transpose", [rows], "pixels_first", perm=[0, 2, 1])
    bases = _bases(action, chosen)
    if bases:
        index, weight = _taps(action, bases)
        tag = "-".join(map(str, bases))
        taken = nodes.gather(stack, grid.constant(f"taps/{tag}", index), 1, "neighbours")
        sort = np.dtype(dtype).name
        weights = grid.constant(f"weights/{sort}/{tag}", weight.astype(dtype)[..., None])
        weighed = nodes.add("Mul", [taken, weights], "weighed")
        resampled = nodes.total(weighed, 1, "resampled")
        stack = nodes.add("Concat", [stack, resampled], "bases", axis=1)
    table = _sources(action, bases, chosen)
    names, tag = "_".join(map(str, chosen)), "full" if pixels is None else "disk"
    if len(chosen) == action.group.order:
        names = "all"
    if pixels is not None:
        table = table[:, pixels]
    moved = nodes.gather(stack, grid.constant(f"pixels/{names}/{tag}", table), 1, "moved")
    expected = nodes.add("Transpose", [moved], "channels_first", perm=[0, 1, 3, 2])
    if action.channel_matrices is not None:
        matrices = action.channel_matrices[list(chosen)]
        size = action.fixed * table.shape[1]
        apart = nodes.reshape(expected, [-1, len(chosen), matrices.shape[1], size], "channels")
        constant = nodes.constant("channel_matrices", matrices.astype(dtype, copy=False))
        mixed = nodes.add("MatMul", [constant, apart], "mixed_channels")
        return nodes.reshape(mixed, [-1, len(chosen), count, table.shape[1]], "expected")
    if action.channels is None:
        return expected
    # One gather of whole planes permutes the channels of every element.
    table_of_rows = action.rows_of_channels()
    assert table_of_rows is not None
    planes = np.arange(len(chosen))[:, None] * count + table_of_rows[list(chosen)]
    where = nodes.constant("channels", planes.ravel().astype(np.int32))
    flat = nodes.reshape(expected, [-1, planes.size, table.shape[1]], "planes")
    ordered = nodes.gather(flat, where, 1, "permuted_channels")
    return nodes.reshape(ordered, [-1, len(chosen), count, table.shape[1]], "expected")


def moved_back(nodes: Nodes, scores: str, moves: Moves, chosen: Sequence[int], count: int) -> str:
    """Move each element's rows by what goes back from it.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    scores : str
        Tensor of float64, shape (N, n', rows, F).
    moves : Moves
        What goes back from each element.
    chosen : sequence of int
        The elements, n' of them.
    count : int
        Number of rows.

    Returns
    -------
    str
        Tensor of float64, shape (N, n', rows, F).
    """
    size = moves.size
    stack = nodes.add("Transpose", [scores], "places_first", perm=[0, 1, 3, 2])
    stack = nodes.reshape(stack, [-1, len(chosen) * size, count], "end_to_end")
    exact = [j for j, g in enumerate(chosen) if not moves.base_of[g]]
    weighed = [j for j in range(len(chosen)) if j not in exact]
    parts = []
    if exact:
        table = np.stack([j * size + moves.permutation[chosen[j]] for j in exact])
        taken = nodes.constant("back", table.astype(np.int32))
        parts.append(nodes.gather(stack, taken, 1, "permuted_back"))
    if weighed:
        bases = [(moves.base_of[chosen[j]] - 1, moves.permutation[chosen[j]]) for j in weighed]
        index = [j * size + moves.index[b][by] for j, (b, by) in zip(weighed, bases, strict=True)]
        weight = np.stack([moves.weight[base][by] for base, by in bases])
        # Taps come first, of which the sum is taken.
        taps = np.ascontiguousarray(np.moveaxis(np.stack(index), -1, 0), dtype=np.int32)
        taken = nodes.gather(stack, nodes.constant("back/taps", taps), 1, "back/neighbours")
        weights = nodes.constant("back/weights", np.moveaxis(weight, -1, 0)[..., None])
        products = nodes.add("Mul", [taken, weights], "back/weighed")
        parts.append(nodes.total(products, 1, "resampled_back"))
    moved = parts[0]
    if len(parts) > 1:
        moved = nodes.add("Concat", parts, "back/parts", axis=1)
        order = np.argsort([*exact, *weighed]).astype(np.int32)
        moved = nodes.gather(moved, nodes.constant("back/order", order), 1, "back/ordered")
    return nodes.add("Transpose", [moved], "moved_back", perm=[0, 1, 3, 2])


def orbit_nodes(
    nodes: Nodes,
    samples: str,
    action: LayoutAction,
    background: NDArray[np.float32],
    *,
    disk: bool,
) -> str:
    """Move samples by every element of a group.

    Parameters
    ----------
    nodes : Nodes
        Where to write.
    samples : str
        Tensor of float32, shape (N, rows, F), as a model takes it: after mean and std.
    action : LayoutAction
        The input's action.
    background : ndarray of float32, shape (rows,)
        Black as preprocessing makes it, which lies outside a sample.
    disk : bool
        Whether to mask the samples to the disk first.

    Returns
    -------
    str
        Tensor of float32, shape (N, n, rows, F).

    Notes
    -----
    The group acts before mean and std. Both are affine, so that acting after them, with the
    background in the place of 0, comes to the same: Σ_t w_t (x_t − b) + b = Σ_t w_t x_t + b(1 − Σ_t
    w_t).
    """
    elements = range(action.group.order)
    mask = action.inside("disk") if disk else None
    pixels = nodes.add("Transpose", [samples], "pixels_first", perm=[0, 2, 1])
    stack = pixels
    if mask is not None:
        inside = nodes.constant("disk", mask[:, None])
        outside = nodes.constant("background", background)
        stack = nodes.add("Where", [inside, pixels, outside], "masked")
    bases = _bases(action, elements)
    if bases:
        index, weight = _taps(action, bases)
        if mask is not None:
            weight = weight * mask[index]
        precise = nodes.cast(pixels, TensorProto.DOUBLE, "float64")
        taken = nodes.gather(precise, nodes.constant("taps", index), 1, "neighbours")
        weights = nodes.constant("weights", weight[..., None])
        resampled = nodes.total(nodes.add("Mul", [taken, weights], "weighed"), 1, "resampled")
        if background.any():
            missing = (1.0 - weight.sum(axis=0))[:, None] * background.astype(np.float64)
            resampled = nodes.add("Add", [resampled, nodes.constant("missing", missing)], "filled")
        rounded = nodes.cast(resampled, TensorProto.FLOAT, "float32")
        stack = nodes.add("Concat", [stack, rounded], "bases", axis=1)
    table = nodes.constant("pixels", _sources(action, bases, elements))
    moved = nodes.gather(stack, table, 1, "moved")
    return nodes.add("Transpose", [moved], "orbit", perm=[0, 1, 3, 2])


def _bases(action: LayoutAction, chosen: Sequence[int]) -> list[int]:
    """Resamplings that some elements start from; 0 is none."""
    return sorted({int(action.moves.base_of[g]) for g in chosen} - {0})


def _called(action: LayoutAction) -> str:
    """Name what an action does to entries, for constants that layers share."""
    letters = "".join(action.layout.kept[axis] for axis in action.axes)
    sides = "x".join(map(str, action.shape))
    plain = letters == "HW" and action.moved == "HW"
    read = f"/{action.group.components}" if "X" in action.moved else ""
    return f"grid/{sides}" if plain else f"{action.name}{read}/{letters}/{sides}"


def _taps(action: LayoutAction, bases: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return indices and weights, shape (taps, bases · pixels)."""
    picked = [b - 1 for b in bases]
    index, weight = action.moves.index[picked], action.moves.weight[picked]
    taps = index.shape[2]
    return (
        np.ascontiguousarray(index.reshape(-1, taps).T),
        np.ascontiguousarray(weight.reshape(-1, taps).T),
    )


def _sources(
    action: LayoutAction, bases: Sequence[int], chosen: Sequence[int]
) -> NDArray[np.int32]:
    """Return where each pixel of an element comes from in the bases laid end to end."""
    moves = action.moves
    place = {0: 0} | {base: k + 1 for k, base in enumerate(bases)}
    rows = [place[int(moves.base_of[g])] * moves.size + moves.permutation[g] for g in chosen]
    return np.array(rows, dtype=np.int32)
