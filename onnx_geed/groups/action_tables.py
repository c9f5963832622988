"""Output actions that a user or a model file gives: channel tables, permutations, matrices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, check_choice, nearest, reason_of, without_secrets
from onnx_geed.groups.action import Action, rows_known
from onnx_geed.groups.by_letters import LayoutAction
from onnx_geed.groups.exactness import COMPOSITION_TOLERANCE
from onnx_geed.groups.factors import Motion
from onnx_geed.groups.fit import Fit, fit_content, fit_of
from onnx_geed.groups.group import Group
from onnx_geed.groups.named import group_named, motions, moves_places
from onnx_geed.groups.plane_groups import cyclic, dihedral
from onnx_geed.groups.vectors import Matrices, Permutation
from onnx_geed.json_text import parse_json
from onnx_geed.text import counted
from onnx_geed.typed import as_array, check_value

__all__ = [
    "Table",
    "TableKind",
    "parse_table",
    "rows_for",
    "subgroup_table",
    "table_content",
    "table_digest",
    "table_of",
    "table_to_json",
    "vector_action",
    "with_channels",
]

TableKind = Literal["channels", "permutation", "matrices", "channel_matrices"]


KINDS: tuple[TableKind, ...] = ("channels", "permutation", "matrices", "channel_matrices")


@dataclass(frozen=True, eq=False)
class Table:
    """A given output action, before it is matched to a group.

    Parameters
    ----------
    elements : tuple of str
        Element names, one per row.
    kind : {"channels", "permutation", "matrices", "channel_matrices"}
        What ``values`` contains; for channels, the other axes move like the input.
    values : ndarray of int64 or float64, shape (n, C), (n, k), (n, k, k) or (n, C, C)
        One row or matrix per element. For index tables, ``out[c] = in[values[g, c]]``.
    source : str
        Its source, for messages.
    fit : Fit, optional
        How it was estimated, if it was fitted to data. Then it need not compose.
    partial : bool
        Whether it belongs to a subgroup: some elements of the group may have no row.
    group : str
        Name of the group that it is for, where that was said: other groups have elements of the
        same names.

    Raises
    ------
    GeedError
        If there is no such kind.
        If the numbers of names and rows differ.
        If a row of an index table is not a permutation.
        If matrices are not square or not finite.
    """

    elements: tuple[str, ...]
    kind: TableKind
    values: NDArray[Any] = field(repr=False)
    source: str
    fit: Fit | None = None
    partial: bool = False
    group: str = ""

    def __post_init__(self) -> None:
        source, kind = check_value("source", self.source, str), self.kind
        check_value("group", self.group, str)
        check_choice(f"{source}: the kind of table", kind, KINDS)
        elements = check_value(f"{source}: elements", self.elements, Sequence[str])
        values = _numbers(kind, self.values, source)
        if len({*elements}) != len(elements):
            raise GeedError(f"{source}: an element is named twice; give each one row")
        rank = 3 if self.holds_matrices else 2
        if values.ndim != rank or len(values) != len(elements):
            raise GeedError(
                f"{source}: {kind} must have {counted(rank, 'axis', 'axes')} and one entry for "
                "each of the "
                f"{counted(len(elements), 'element')}, found shape {values.shape}"
            )
        if self.holds_matrices:
            _check_matrices(values, source)
        else:
            _check_rows(values, elements, source)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "values", values)

    @property
    def holds_matrices(self) -> bool:
        """Whether each element has a matrix instead of a row of indices."""
        return self.kind in ("matrices", "channel_matrices")


def _numbers(kind: TableKind, values: Any, source: str) -> NDArray[Any]:
    dtype = np.float64 if kind in ("matrices", "channel_matrices") else np.int64
    as_array(f"{source}: {kind}", values)
    try:
        return np.asarray(values, dtype=dtype)
    except (ValueError, OverflowError) as error:
        raise GeedError(
            f"{source}: {kind} is not an array of numbers ({reason_of(error)})"
        ) from None


def _check_matrices(matrices: NDArray[np.float64], source: str) -> None:
    if matrices.shape[1] != matrices.shape[2]:
        raise GeedError(f"{source}: matrices must be square, found {matrices.shape[1:]}")
    if not np.isfinite(matrices).all():
        raise GeedError(f"{source}: matrices hold NaN or infinity")


def _check_rows(rows: NDArray[np.int64], elements: Sequence[str], source: str) -> None:
    every = np.arange(rows.shape[1])
    for element, row in zip(elements, rows, strict=True):
        if not np.array_equal(np.sort(row), every):
            raise GeedError(
                f"{source}: the row of element {element!r} is not a permutation of "
                f"0..{len(every) - 1}"
            )


def parse_table(text: str, source: str) -> Table:
    """Read an output action from JSON, as a model's metadata holds it.

    Raises
    ------
    GeedError
        If the text is not JSON, or no object with ``elements`` and one of the four tables.
    """
    content = parse_json(text, source)
    if not isinstance(content, dict):
        raise GeedError(f"{source}: expected a JSON object with 'elements' and a table")
    return table_of(content, source)


def table_to_json(table: Table) -> str:
    """Write a table as the JSON that :func:`parse_table` reads."""
    return json.dumps(table_content(table) | {table.kind: table.values.tolist()})


def table_content(table: Table) -> dict[str, Any]:
    """Return what :func:`table_of` reads; all but the array itself is JSON."""
    content: dict[str, Any] = {"elements": list(table.elements), table.kind: table.values}
    if table.fit is not None:
        content["fit"] = fit_content(table.fit)
    if table.partial:
        content["partial"] = True
    if table.group:
        content["group"] = table.group
    return content


def table_of(content: Mapping[str, Any], source: str) -> Table:
    """Return the table that some entries by name describe.

    Parameters
    ----------
    content : mapping of str
        ``elements``, one of the four tables as an array or as lists, and perhaps ``fit``,
        ``partial`` and ``group``.
    source : str
        Its source, for messages.

    Raises
    ------
    GeedError
        If it lacks ``elements``, or holds none or several of the four tables.
        If a table holds complex numbers or texts.
        If ``fit`` does not say how a table was fitted.
    """
    kinds: list[TableKind] = [kind for kind in KINDS if kind in content]
    if "elements" not in content or len(kinds) != 1:
        known = ("elements", *KINDS, "fit", "partial", "group")
        hint = next((nearest(name, known) for name in content if name not in known), "")
        raise GeedError(
            f"{source}: needs 'elements' and one of {', '.join(KINDS)}; found "
            f"{', '.join(content) or 'nothing'}.{hint}"
        )
    try:
        elements = np.asarray(content["elements"])
    except ValueError:  # lists of several lengths
        elements = np.empty((0, 0))
    if elements.ndim != 1:
        raise GeedError(f"{source}: 'elements' must be a list of names")
    numbers = content[kinds[0]]
    if isinstance(numbers, np.ndarray) and numbers.dtype.kind not in "biuf":
        raise GeedError(
            f"{source}: {kinds[0]!r} holds {numbers.dtype}, but an action consists of real "
            "numbers; save it as float64, or as integers"
        )
    fit = None if content.get("fit") is None else fit_of(content["fit"], source)
    partial = bool(np.all(content.get("partial", False)))
    group = str(content.get("group") or "")
    return Table(tuple(map(str, elements)), kinds[0], numbers, source, fit, partial, group)


def rows_for(table: Table, group: Group) -> NDArray[Any]:
    """Return a table's rows in the order of a group's elements, checked as an action.

    Parameters
    ----------
    table : Table
        Its rows in any order.
    group : Group
        The acting group.

    Returns
    -------
    ndarray, shape (n, ...)
        The table's own array, where it has this order. Elements without a row in a partial table
        leave everything in place.

    Raises
    ------
    GeedError
        If the table says that it is for another group.
        If an element of the group has no row, unless the table is partial, or a row names no
        element of the group.
        If the elements of a partial table are no subgroup.
        If the identity's matrix is not the identity matrix.
        If ρ(g₂)ρ(g₁) = ρ(g₂g₁) does not hold within 1e-5, the table is none of a fit, and products
        of elements are elements.
    """
    if table.group and not _is_called(group, table.group):
        raise GeedError(
            f"{table.source}: is for group {table.group}, not for {group.name}, whose elements do "
            "something else; give the table of this group"
        )
    missing = [e for e in group.elements if e not in table.elements]
    extra = [e for e in table.elements if e not in group.elements]
    if extra or (missing and not table.partial):
        fault = f"lacks {', '.join(missing[:4])}" if missing else f"also has {', '.join(extra[:4])}"
        raise GeedError(
            f"{table.source}: its elements are not those of {group.name}: it {fault}; give one row "
            f"for each of {', '.join(group.elements[:4])}{', ...' if group.order > 4 else ''}"
        )
    with_row = [g for g, e in enumerate(group.elements) if e in table.elements]
    if missing and not (group.is_closed and group.is_subgroup(with_row)):
        raise GeedError(f"{table.source}: its elements are not a subgroup of {group.name}")
    # Matrices of many channels are large: they lie in memory once.
    if table.elements == group.elements:
        values = table.values
    else:
        order = [table.elements.index(group.elements[g]) for g in with_row]
        entries = table.values.shape[1]
        still = np.eye(entries) if table.holds_matrices else np.arange(entries)
        values = np.repeat(still[None].astype(table.values.dtype), group.order, axis=0)
        values[with_row] = table.values[order]
    if table.holds_matrices:
        # A projection would pass the test of composition below.
        away = np.abs(values[0] - np.eye(values.shape[1])).max(initial=0.0)
        if away > COMPOSITION_TOLERANCE:
            raise GeedError(f"{table.source}: the matrix of 'e' must be the identity")
    if table.fit is not None or not group.is_closed:
        return values
    for g2 in with_row:
        for g1 in with_row:
            product = values[group.table[g2, g1]]
            if table.holds_matrices:
                away = np.abs(values[g2] @ values[g1] - product).max(initial=0.0)
                fits = away <= COMPOSITION_TOLERANCE
            else:  # gathering by g1 first, then by g2
                fits = np.array_equal(values[g1][values[g2]], product)
            if not fits:
                a, b = group.elements[g2], group.elements[g1]
                c = group.elements[group.table[g2, g1]]
                advice = (
                    "check the order of the elements, and of the products"
                    if table.holds_matrices
                    else "tables gather, out[c] = in[table[g, c]]: check their direction and order"
                )
                raise GeedError(
                    f"{table.source}: not an action of {group.name}: ρ({a})ρ({b}) is not ρ({c}); "
                    f"{advice}"
                )
    return values


def subgroup_table(table: Table, group: Group, *, as_named: bool = True) -> Table | None:
    """Read a table that a model carries as one for a group, if it is for that or a related one.

    A model file carries the table of the largest group its layers know. Element r<k> of C<n> is
    r<km/n> of C<m>, so the rows of a smaller group can be found, and those of a larger one for the
    elements that both have.

    Parameters
    ----------
    table : Table
        The table.
    group : Group
        The acting group.
    as_named : bool
        Whether it acts as the named group of its name does; a table of a named group is for no
        other action, whatever its group is called.

    Returns
    -------
    Table or None
        Partial, where elements of the group have no row; the table itself, where it is for this
        group, or does not say its group and has elements of the same names, as other groups may
        have too; ``None`` where they share the identity alone, the table is for another group, or
        the group is one of colours, which have no given action on hidden tensors.
    """
    of_named = group_named(table.group) if table.group else None
    if table.group and _is_called(group, table.group) and (as_named or of_named is None):
        return table
    larger = of_named if table.group else _group_of(table.elements)
    moves = _turns(group) if as_named else None
    if larger is None or moves is None or _turns(larger) is None:
        alike = not table.group and {*table.elements} == {*group.elements}
        return table if alike and moves_places(group) else None
    element_of = dict(zip(_turns(larger) or (), larger.elements, strict=True))
    shared = [g for g, move in enumerate(moves) if move in element_of]
    # Of a sample of a larger group, a mean over elements with a row and without is one of neither.
    if len(shared) < 2 or (group.kind == "sampled" and len(shared) < group.order):
        return None
    rows = [table.elements.index(element_of[moves[g]]) for g in shared]
    return replace(
        table,
        elements=tuple(group.elements[g] for g in shared),
        values=table.values[rows],
        partial=len(shared) < group.order,
        group="",
    )


def _without_row(table: Table, group: Group) -> tuple[int, ...]:
    return tuple(g for g, element in enumerate(group.elements) if element not in table.elements)


def _is_called(group: Group, name: str) -> bool:
    """Tell whether a group is the one of some name, in any of its spellings."""
    named = group_named(name)
    return without_secrets(group.name) in (name, named.name if named is not None else name)


def _turns(group: Group) -> tuple[Motion, ...] | None:
    """Return the rotations and mirrors of the plane that a group consists of, if it is one of them.

    Also of elements behind a rotation of each sample's own: one to another they are these.
    """
    moves = motions(group)
    if group.family is not None or group.small is not None or moves is None:
        return None
    # An up-down mirror is a left-right one after half a turn.
    moves = tuple(
        replace(m, degrees=(m.degrees + 180) % 360, mirror="h") if m.mirror == "v" else m
        for m in moves
    )
    return moves if len({*moves}) == group.order and not any(any(m.shift) for m in moves) else None


def _group_of(elements: Sequence[str]) -> Group | None:
    """Return the group of rotations, or of rotations and mirrors, that has these elements."""
    half, odd = divmod(len(elements), 2)
    candidates = [cyclic(len(elements))] + ([] if odd else [dihedral(half)])
    return next((group for group in candidates if {*group.elements} == {*elements}), None)


@checked
def with_channels(action: LayoutAction, table: Table) -> LayoutAction:
    """Return a grid action that also permutes or mixes the channels by a table.

    Raises
    ------
    GeedError
        If the table is not for channels, or is not an action of the group.
    """
    if table.kind not in ("channels", "channel_matrices"):
        raise GeedError(
            f"{table.source}: a tensor with channels takes 'channels' or 'channel_matrices', "
            f"found {table.kind!r}"
        )
    values, composes = rows_for(table, action.group), table.fit is None
    said = dict[str, Any](composes=composes, without_row=_without_row(table, action.group))
    if table.kind == "channels":
        return replace(action, channels=values, channel_matrices=None, **said)
    return replace(action, channels=None, channel_matrices=values, **said)


def vector_action(table: Table, group: Group) -> Permutation | Matrices:
    """Return the action on vectors that a table gives.

    Raises
    ------
    GeedError
        If the table is a channel table, or not an action of the group.
    """
    values, without = rows_for(table, group), _without_row(table, group)
    said = dict[str, Any](composes=table.fit is None, without_row=without)
    known = rows_known(group, without)
    if table.kind in ("matrices", "channel_matrices"):
        return Matrices(group, values, f"matrices{known}", **said)
    if table.kind == "permutation":
        return Permutation(group, values, f"permutation{known}", **said)
    raise GeedError(
        f"{table.source}: a vector output takes 'permutation' or 'matrices', found 'channels'"
    )


def table_digest(action: Action) -> str:
    """Return 16 hexadecimal digits that tell an action's table or matrices from others.

    Empty where it has none. Rows are in the order of the group's elements, so that a table is the
    same in any file.
    """
    values: NDArray[Any] | None = None
    if isinstance(action, LayoutAction):
        values = action.channels if action.channel_matrices is None else action.channel_matrices
    elif isinstance(action, Permutation) and action.letters is None:
        values = action.table
    elif isinstance(action, Matrices):
        values = action.matrices
    if values is None:
        return ""
    whole = values.dtype.kind in "iu"
    held = np.ascontiguousarray(values, "<i8" if whole else "<f8")
    return hashlib.sha256(f"{held.shape}".encode() + held.tobytes()).hexdigest()[:16]
