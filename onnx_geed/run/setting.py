"""The setting of a run: a model, its data, and the group that acts on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_geed.errors import GeedError, shown
from onnx_geed.groups import Action, Group, parse_group
from onnx_geed.model import MEASUREMENT, Input, Model, find_input, find_output
from onnx_geed.run.called import OF_A_FUNCTION, open_model, with_outputs
from onnx_geed.run.on_group import as_asked, check_family, check_small, group_notes
from onnx_geed.run.open_source import make_source
from onnx_geed.run.options import Options
from onnx_geed.run.source import Source

__all__ = ["Setting", "acting_group", "set_up"]


@dataclass(frozen=True, eq=False)
class Setting:
    """A model, the samples that it is fed, and how they are moved.

    Parameters
    ----------
    model : Model
        The model as it was read.
    acted : Input
        The input that the group acts on.
    output : str
        The model's main output.
    source : Source
        The samples of D and the points for M, under the action.
    count : int
        Size of D: the first so many of the source's samples.
    options : Options
        As the user chose them.
    held : int
        Bytes of the tables of other groups, which are measured in the same run.
    notes : tuple of str
        What the result tells of all this.
    """

    model: Model
    acted: Input
    output: str
    source: Source
    count: int
    options: Options
    held: int
    notes: tuple[str, ...]

    @property
    def group(self) -> Group:
        """The group as it acts: a small motion is known on the input's grid alone."""
        return self.source.action.group

    @property
    def moved(self) -> list[str]:
        """The names of the inputs that it moves."""
        return [self.acted.name, *self.source.partners]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row of the acted-on input, batch included."""
        return (1, *self.source.row_shape)


def acting_group(group: str | Group | None, action: Action | None, options: Options) -> Group:
    """Return the group that acts: the one that is named, or that of an action of one's own.

    Raises
    ------
    GeedError
        If none is named, or another than the action's; if the options do not go with it.
    """
    acting = as_asked(_named(group, action), options)
    if acting.small is not None:
        check_small(acting, action, options)
    if acting.family is not None:
        check_family(acting, action, options)
    return acting


def _named(group: str | Group | None, action: Action | None) -> Group:
    if action is None:
        if group is None:
            raise GeedError("no group is given: name one such as C8, or give an action")
        return group if isinstance(group, Group) else parse_group(group)
    own = getattr(action, "group", None)
    if not isinstance(own, Group):
        raise GeedError(f"an action has the group that acts as its group, found {shown(own)}")
    if group is not None and own != (group if isinstance(group, Group) else parse_group(group)):
        raise GeedError(
            f"group {group if isinstance(group, str) else group.name} is not the group of the "
            f"action, {own.name}: leave the group out, or give one action of it"
        )
    return own


def set_up(
    model: str | Path | Model | Callable[[Any], Any],
    data: Any,
    group: Group,
    options: Options,
    action: Action | None,
    beside: Source | None,
    held: int,
) -> Setting:
    """Open a model and its data, and place the group's action on them.

    Parameters
    ----------
    model : str, Path, Model or callable
        The ONNX file, or a function of arrays in its place.
    data : str, Path or ndarray
        DATA, in any of its spellings.
    group : Group
        The acting group.
    options : Options
        How to measure.
    action : Action, optional
        How the group acts on the input, where that is not a named group's own way.
    beside : Source, optional
        The same data under another group.
    held : int
        Bytes of the tables of other groups, which are measured in the same run.

    Returns
    -------
    Setting

    Raises
    ------
    GeedError
        If the model is a compiled measurement.
        If the model or the data cannot be used, or the group does not move them.
        If round trips are asked for and elements come without their inverses.
    """
    opened = open_model(model, data, options)
    if MEASUREMENT in opened.metadata:
        raise GeedError(
            f"{opened.called}: is a measurement, made by onnx-geed compile: run it in any ONNX "
            "runtime, or give the model that it measures"
        )
    acted = find_input(opened, options.input, options.input_layout)
    source, count, notes = make_source(opened, acted, data, group, options, action, beside, held)
    if opened.function is not None:
        rows = source.rows([0], orbits=False)
        opened, on_layouts = with_outputs(opened, rows, source.layout, options.layout)
        notes += [OF_A_FUNCTION, *on_layouts]
    output = find_output(opened, options.output)
    if options.references:
        _check_trips(source)
    notes += group_notes(source.action.group, options)
    return Setting(opened, acted, output, source, count, options, held, tuple(notes))


def _check_trips(source: Source) -> None:
    """Refuse round trips by resampled elements that come without their inverses."""
    group = source.action.group
    if not group.is_closed and not all(all(moved.action.exact()) for moved in source.moved):
        raise GeedError(
            f"--references: need inverses of elements, and {group.name} draws elements "
            "independently, without inverses: leave it out, or take evenly spread elements such "
            "as SO3~24"
        )
