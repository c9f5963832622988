"""The group that a run is under: what it does not go with, and notes on it, before a run."""

from __future__ import annotations

from collections.abc import Iterable

from onnx_geed.errors import GeedError
from onnx_geed.groups import Action, Group, clipping, with_components
from onnx_geed.run.fit_requests import parse_fit
from onnx_geed.run.options import Options

__all__ = ["as_asked", "check_family", "check_small", "components_notes", "group_notes"]

# Numbers up to this many 255ths change nothing that is seen; they are meant as factors or shares.
_UNSEEN = 2.0


def group_notes(group: Group, options: Options) -> list[str]:
    """Say what the elements do where that is not obvious, and which options do not matter.

    Parameters
    ----------
    group : Group
        The acting group.
    options : Options
        The options of the run.

    Returns
    -------
    list of str
    """
    notes = [] if group.small is None else [f"{group.name}: {group.small.told()}"]
    if group.changes_values and options.interpolation != Options.interpolation:
        notes.append(f"--interpolation has no effect: {group.name} resamples nothing")
    return [*notes, *_unseen(group)]


def as_asked(group: Group, options: Options) -> Group:
    """Return a group with the components of vectors, and the clipping, that options ask for.

    Raises
    ------
    GeedError
        If it is no family that could clip.
    """
    acting = with_components(group, options.components)
    return clipping(acting) if options.clip else acting


def components_notes(options: Options, layouts: Iterable[str]) -> list[str]:
    """Say where components of vectors are told of which there are none.

    Parameters
    ----------
    options : Options
        The options of the run.
    layouts : iterable of str
        Those of the inputs that are moved, and of the tensors that are measured.

    Returns
    -------
    list of str
    """
    if options.components == Options.components or any("X" in text for text in layouts):
        return []
    return [
        "--components has no effect: no input and no measured tensor has components of vectors "
        "(axis X)"
    ]


def check_small(group: Group, action: Action | None, options: Options) -> None:
    """Refuse what small motions do not go with.

    Raises
    ------
    GeedError
        If there is an action, an output action, or round trips are asked for.
    """
    if action is not None:
        raise GeedError(
            f"group {group.name}: moves images by itself; leave the action out, or give one of a "
            "group"
        )
    if options.references:
        raise GeedError(
            f"--references: need inverses of elements, and {group.name} has none; leave it out"
        )
    if options.output_action:
        raise GeedError(
            "an output action describes the elements of a group, not the small motions of "
            f"{group.name}, under which tensors move by their letters; leave it out, or take "
            "another group"
        )


def check_family(group: Group, action: Action | None, options: Options) -> None:
    """Refuse what families do not go with.

    Raises
    ------
    GeedError
        If there is an action, or an output action that is not fitted, or round trips are asked for.
    """
    if action is not None:
        raise GeedError(
            f"group {group.name}: says itself what it does to the input; leave the action out, or "
            "give one of a group"
        )
    if options.references:
        raise GeedError(
            f"--references: need inverses of elements, and {group.name} is a family, which has "
            "none; leave it out"
        )
    for layer, value in options.output_action.items():
        if parse_fit(layer, value) is None:
            raise GeedError(
                f"--output-action {layer}: describes the elements of a group, but {group.name} is "
                "a family, without compositions to check it by: fit it instead, as with "
                f"--output-action {layer}=fit:linear"
            )


def _unseen(group: Group) -> list[str]:
    """Say of a family in 255ths that all of its numbers are small, as if they were factors."""
    family = group.family
    if family is None or family.unit != "/255":
        return []
    values = [v for v in family.values[1:] if v is not None]
    if not values or max(map(abs, values)) > _UNSEEN:
        return []
    factor = "" if family.name != "brightness" else f", for a factor {_as_contrast(group.name)}"
    low, high = (round(255 * v) for v in (min(values), max(values)))
    share = f"{family.name}:{low}..{high}" if low != high else f"{family.name}:{low}"
    return [
        f"{group.name}: the numbers are 255ths, so at most {max(map(abs, values)):g}/255 is "
        f"{'added' if family.name == 'brightness' else 'the σ'}, which nobody sees; for shares of "
        f"1 write {share}{factor}"
    ]


def _as_contrast(name: str) -> str:
    """Return the group that multiplies by the same numbers."""
    return f"contrast:{name.partition(':')[2]}"
