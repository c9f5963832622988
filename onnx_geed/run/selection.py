"""The selection of what is measured: tensors for every request, their layouts and given actions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import (
    Action,
    Group,
    Table,
    acts_as_named,
    parse_layout,
    parse_table,
    read_tables,
    subgroup_table,
)
from onnx_geed.measures import Layer, Request, descriptor_of, judge_of_fits, taken_unasked
from onnx_geed.model import (
    NO_LAYOUT,
    ROWS_ELSEWHERE,
    Model,
    Tensor,
    action_key,
    actions_in_metadata,
    patterns_first,
    resolve,
)
from onnx_geed.run.fit_requests import parse_fit
from onnx_geed.run.joining import shape_of
from onnx_geed.run.options import Options
from onnx_geed.run.session import NotRowsError

__all__ = [
    "Selection",
    "given_tables",
    "layers_of",
    "select_tensors",
    "stated_tables",
    "without_rows",
]


# What to do about maps that are no default, by why they are not.
_ADVICE = {
    ROWS_ELSEWHERE: "axis 0 is not the batch: export the model with the batch in front of all, in "
    "PyTorch batch_first=True",
    NO_LAYOUT: "the layout is not known: state it with --layout, as onnx-geed layers lists it",
}

# A class token, one of distillation, and registers.
_MOST_EXTRA = 9


@dataclass(frozen=True)
class Selection:
    """Tensors that are measured or kept.

    Parameters
    ----------
    requested : tuple of (Request, Tensor)
        Measures, each with a tensor.
    kept : tuple of Tensor
        Tensors that a cache keeps besides.
    notes : tuple of str
        Notes on what was left out, and why.
    """

    requested: tuple[tuple[Request, Tensor], ...]
    kept: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the selection, each once."""
        both = (*(tensor for _, tensor in self.requested), *self.kept)
        return tuple({tensor.name: tensor for tensor in both}.values())


def select_tensors(
    requests: Sequence[Request],
    listed: Sequence[Tensor],
    options: Options,
    group: Group,
    fits: Iterable[str] = (),
    targets: Collection[str] = (),
) -> Selection:
    """Find the tensors of every request; of the defaults of spec section 4 where there is none.

    Parameters
    ----------
    requests : sequence of Request
        Measures that were asked for.
    listed : sequence of Tensor
        The model's tensors.
    options : Options
        Layers that a cache keeps.
    group : Group
        The acting group, which says what is measured where nothing is asked for.
    fits : iterable of str
        Tensors whose action is fitted; without requests, what that leaves unexplained is measured.
    targets : collection of str
        Tensors that have a target: a share of the error is of these, where no layer is named.

    Returns
    -------
    Selection

    Raises
    ------
    GeedError
        If no tensor has a name that was given.
        If a measure was asked for whose role no tensor has, or nothing is left to measure.
    """
    kept = tuple(tensor for key in options.layers for tensor in resolve(listed, key))
    if kept and not requests:
        return Selection((), kept)
    requested: list[tuple[Request, Tensor]] = []
    missing: dict[str, list[str]] = {}
    defaults = [Request(name) for name in taken_unasked(group)]
    defaults += [Request(judge_of_fits(), name) for name in fits]
    for request in requests or defaults:
        roles = descriptor_of(request.measure).roles
        if request.layer is not None:
            tensors = list(resolve(listed, request.layer))
        else:
            tensors = [tensor for tensor in listed if {*roles} & {*tensor.roles}]
            if targets and descriptor_of(request.measure).of_error:
                tensors = [tensor for tensor in listed if tensor.name in targets]
            if not tensors and requests:
                raise GeedError(_no_default(request.measure, listed))
            if not tensors:
                role = descriptor_of(request.measure).role
                missing.setdefault(role, []).append(request.measure)
        requested += [(request, tensor) for tensor in tensors]
    reasons = [_no_default(", ".join(measures), listed) for measures in missing.values()]
    if not requested:
        raise GeedError(f"nothing to measure: {'; '.join(reasons)}")
    maps = [r.measure for r in requests or defaults if r.layer is None and _takes_maps(r)]
    notes = tuple(f"left out: {reason}" for reason in (*reasons, *_set_aside(maps, listed)))
    return Selection(tuple(requested), kept, notes)


def _takes_maps(request: Request) -> bool:
    return "channel" in descriptor_of(request.measure).roles


def _set_aside(measures: Sequence[str], listed: Sequence[Tensor]) -> list[str]:
    """Name maps that measures do not take where none is named, as far as they can be told."""
    texts = []
    for why, advice in _ADVICE.items():
        names = [tensor.name for tensor in listed if tensor.aside == why]
        # That there are no maps at all says to state layouts as well.
        alone = why == NO_LAYOUT and not any("channel" in tensor.roles for tensor in listed)
        if measures and names and not alone:
            others = f" and {len(names) - 1} more" if names[1:] else ""
            texts.append(f"{', '.join(dict.fromkeys(measures))}@{names[0]}{others}: {advice}")
    return texts


def _no_default(measure: str, listed: Sequence[Tensor]) -> str:
    """Say of a measure, or several of one role, that no tensor has the role."""
    role = descriptor_of(measure.partition(",")[0]).role
    if role == "channel":
        return (
            f"{measure}: no factorisation point holds feature maps; name a tensor with --measure "
            f"{measure}@LAYER, and state its axes, as with --layout LAYER=NCT, LAYER=NPC or, for "
            f"tokens on a grid, {_grid_of_tokens(listed)}"
        )
    doubt = next((f": {t.doubt}" for t in listed if t.doubt and role == "latent"), "")
    return f"{measure}: no {role} was found{doubt}; name it with --{role} NAME"


def _grid_of_tokens(listed: Sequence[Tensor]) -> str:
    """Propose how the grid of tokens is stated: a square, with few tokens in front."""
    for tensor in reversed(listed):
        if tensor.point and tensor.layout == "NTD" and tensor.shape and tensor.shape[1]:
            side = math.isqrt(tensor.shape[1])
            extra = tensor.shape[1] - side**2
            if side > 1 and extra <= _MOST_EXTRA:
                text = f"{tensor.name}=NTD:{side}x{side}" + (f"+{extra}" if extra else "")
                return f"such as '{text}'"
    return "LAYER=NTD:<H>x<W>"


def without_rows(
    selection: Selection, error: NotRowsError, listed: Sequence[Tensor], options: Options
) -> Selection:
    """Leave out tensors whose axis 0 is not the batch, with notes.

    Parameters
    ----------
    selection : Selection
        Which tensors there were.
    error : NotRowsError
        Which of them have no rows.
    listed : sequence of Tensor
        The model's tensors.
    options : Options
        Which of them were named by the user.

    Returns
    -------
    Selection

    Raises
    ------
    NotRowsError
        The same, if one was named, or a measure that was asked for has no other tensor, or nothing
        is left to measure.
    """
    named = {t.name for key in filter(None, [options.latent]) for t in resolve(listed, key)}
    named |= {tensor.name for tensor in selection.kept}
    stay: list[tuple[Request, Tensor]] = []
    away: list[tuple[Request, Tensor]] = []
    for request, tensor in selection.requested:
        (away if tensor.name in error.shapes else stay).append((request, tensor))
        if request.layer is not None:
            named.add(tensor.name)
    asked = {request.measure for request, _ in away if request.asked}
    lost = asked - {request.measure for request, _ in stay}
    if named & error.shapes.keys() or lost or not (stay or selection.kept):
        raise error
    notes = tuple(
        f"left out: {request.measure}@{tensor.name}: its axis 0 is not the batch, its shape is "
        f"{error.shapes[tensor.name]} for {error.rows}"
        for request, tensor in away
    )
    return replace(selection, requested=tuple(stay), notes=(*selection.notes, *notes))


def layers_of(
    selection: Selection,
    listed: Sequence[Tensor],
    rows: Mapping[str, NDArray[np.float32]],
    options: Options,
) -> dict[str, Layer]:
    """Return the tensors of a selection as the model really returns them.

    Parameters
    ----------
    selection : Selection
        Which tensors.
    listed : sequence of Tensor
        The model's tensors.
    rows : mapping of str to ndarray of float32, shape (rows, ...)
        A few rows of each.
    options : Options
        Which of them were named by the user.

    Returns
    -------
    dict of str to Layer
        By name.

    Raises
    ------
    GeedError
        If the layout of one that was named is not known.
    """
    layers = {
        t.name: Layer(t.name, shape_of(t.name, rows)[1:], _layout(t, rows), t.roles)
        for t in selection.tensors
    }
    keys = (*options.layers, *filter(None, [options.latent]))
    named = {tensor.name for key in keys for tensor in resolve(listed, key)}
    for layer in layers.values():
        if layer.name in named and layer.layout == "?":
            raise GeedError(layer.layout_advice)
    return layers


def _layout(tensor: Tensor, rows: Mapping[str, NDArray[np.float32]]) -> str:
    """Layout of a tensor as it came; ``?`` where the graph does not tell that of a map.

    Of a rank that is no map's and unknown, it is a vector's, which what is none refuses.
    """
    shape = shape_of(tensor.name, rows)
    layout = None if tensor.layout == "?" else parse_layout(tensor.layout)
    if layout is not None and layout.rank == len(shape) and tensor.layout != "NTD":
        return tensor.layout
    if len(shape) == 4:
        # Whatever the layout, one place is one place.
        return "NCHW" if shape[2:] == (1, 1) else "?"
    return "NK"


def given_tables(
    model: Model, listed: Sequence[Tensor], action: Action, options: Options
) -> tuple[dict[str, Table], list[str]]:
    """Return given output actions by tensor: from the model's metadata, overridden by the user's.

    Parameters
    ----------
    model : Model
        Whose metadata are read.
    listed : sequence of Tensor
        Its tensors.
    action : Action
        How the acting group moves the input.
    options : Options
        The actions that the user gives.

    Returns
    -------
    tables : dict of str to Table
        By tensor.
    notes : list of str
        On actions that are for another group.

    Raises
    ------
    GeedError
        If a table cannot be read, or no tensor has the name that it is given for.
    """
    tables, notes, group = {}, [], action.group
    carried = actions_in_metadata(model)
    as_named = not carried or acts_as_named(action, options.interpolation)
    for name, text in carried.items():
        origin = f"metadata {action_key(name)}"
        written = parse_table(text, origin)
        table = subgroup_table(written, group, as_named=as_named)
        if group.onward is not None:
            notes.append(
                f"{origin}: elements of {group.name} differ from sample to sample: not used"
            )
        elif table is None and not as_named and written.group:
            notes.append(
                f"{origin} is for {written.group}, and the action that was given is not known to "
                "move the input as that group does: not used; if it is meant, give it as an "
                "output action"
            )
        elif table is None:
            notes.append(f"{origin} is for another group than {group.name}: not used")
        else:
            tables[name] = table
            if table is written and not written.group:
                notes.append(
                    f"{origin} does not say its group (annotate writes 'group' of its file), and "
                    f"is used for {group.name}, whose elements have these names"
                )
            if table.partial:
                notes.append(
                    f"{origin} has a row for {len(table.elements)} of the {group.order} elements "
                    f"of {group.name}: the exact part uses it, and the other elements have no "
                    "table"
                )
    return tables | stated_tables(listed, options), notes


def stated_tables(listed: Sequence[Tensor], options: Options) -> dict[str, Table]:
    """Return the output actions that the user gives, by tensor; those to be fitted are others.

    Raises
    ------
    GeedError
        If a table cannot be read, or no tensor has the name that it is given for.
    """
    tables: dict[str, Table] = {}
    for layer, value in patterns_first(listed, options.output_action):
        if parse_fit(layer, value) is not None:
            continue
        given = (value,) if isinstance(value, Table) else read_tables(value)
        source = value.source if isinstance(value, Table) else str(value)
        names = [tensor.name for tensor in resolve(listed, layer)]
        if any(table.fit is not None for table in given):
            tables |= _fitted(given, layer, names, source)
        else:
            tables |= dict.fromkeys(names, given[0])
    return tables


def _fitted(
    given: Sequence[Table], layer: str, names: Sequence[str], source: str
) -> dict[str, Table]:
    """Return the fitted actions of a file, each for the layer that it was fitted to."""
    of_layer = {table.fit.layer: table for table in given if table.fit is not None}
    tables = {name: of_layer[name] for name in names if name in of_layer}
    # Of a pattern, what was not fitted is left as it is.
    if len(tables) < len(names) and not (tables and set(layer) & set("*?[")):
        missing = next(name for name in names if name not in tables)
        raise GeedError(
            f"--output-action {layer}={source}: was fitted to {', '.join(of_layer)}, so it "
            f"has no action for {missing}"
        )
    return tables
