"""Requests for fits: which layers' actions are to be estimated, as what, and from which samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from onnx_geed.errors import GeedError, nearest
from onnx_geed.groups import (
    FitKind,
    Group,
    LayoutAction,
    Table,
    Trivial,
    layout_action,
    parse_layout,
)
from onnx_geed.measures import MOST_PERMUTED, Layer, Plan, fit_seconds, judge_of_fits
from onnx_geed.model import Tensor, patterns_first, resolve
from onnx_geed.run.options import Options
from onnx_geed.text import counted

__all__ = [
    "FIT_OPTIONS",
    "FitRequest",
    "check_fits_measured",
    "check_given_measured",
    "fit_action",
    "fit_samples",
    "fits_to_make",
    "judged_tables",
    "parse_fit",
    "refuse_fits",
    "refuse_idle_fit_options",
    "requested_fits",
    "takes_table",
    "without_idle_fit_options",
]

# Longer vectors, and those with fewer samples an entry, are fitted to noise (measured).
_LONGEST_VECTOR = 256

# Seconds of one core that solving for the fits of one tensor takes unasked.
_LONGEST_SOLVING = 600.0


_SAMPLES_AN_ENTRY = 3


_PREFIX = "fit:"


#: Options that say how output actions are fitted, and nothing where none is.
FIT_OPTIONS = ("fit_samples", "fit_anyway")


@dataclass(frozen=True)
class FitRequest:
    """A fit that was asked for.

    Parameters
    ----------
    kind : {"permutation", "orthogonal", "linear"}
        The kind of ρ(g).
    asked : str
        How it was asked for, for messages.
    is_pattern : bool
        Whether many layers were asked for at once, of which some may be left out.
    """

    kind: FitKind
    asked: str
    is_pattern: bool = False


def parse_fit(layer: str, value: object) -> FitRequest | None:
    """Read ``fit:KIND``; ``None`` for an action that is given.

    Raises
    ------
    GeedError
        If there is no such kind, with the nearest.
    """
    if not isinstance(value, str) or _is_file(value):
        return None
    kind, kinds = value.removeprefix(_PREFIX), get_args(FitKind)
    if not value.lower().startswith("fit") and kind not in kinds:
        return None
    if kind not in kinds or not value.startswith(_PREFIX):
        near = nearest(kind.lower().removeprefix("fit").lstrip(":"), kinds)
        raise GeedError(
            f"--output-action {layer}={value}: neither a kind of fit nor a file.{near} Kinds: "
            f"{', '.join(_PREFIX + k for k in kinds)}"
        )
    asked = f"--output-action {layer}={value}"
    return FitRequest(cast(FitKind, kind), asked, bool(set(layer) & set("*?[")))


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # too long a name, or one with a NUL
        return False


def requested_fits(listed: Sequence[Tensor], options: Options) -> dict[str, FitRequest]:
    """Return the fits that were asked for, by tensor; the last of several counts, names over globs.

    Raises
    ------
    GeedError
        If no tensor has a name that was given, or no fit is called so.
        If options say how to fit, and nothing is fitted.
    """
    requests: dict[str, FitRequest] = {}
    for layer, value in patterns_first(listed, options.output_action):
        request = parse_fit(layer, value)
        for tensor in resolve(listed, layer):
            if request is None:
                requests.pop(tensor.name, None)
            else:
                requests[tensor.name] = request
    if not requests:
        given = [n for n in FIT_OPTIONS if getattr(options, n) != getattr(Options, n)]
        refuse_idle_fit_options(given)
    return requests


def without_idle_fit_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return one run's options of several, without those that say how others of them fit.

    Parameters
    ----------
    options : mapping of str to object
        Fields of :class:`Options`.

    Returns
    -------
    dict of str to object

    Raises
    ------
    GeedError
        If no fit is called as one is asked for.
    """
    asked = options.get("output_action", {}).items()
    fitted = any(parse_fit(layer, value) is not None for layer, value in asked)
    return {k: v for k, v in options.items() if fitted or k not in FIT_OPTIONS}


def refuse_idle_fit_options(given: Sequence[str]) -> None:
    """Refuse options of fits, where nothing is fitted.

    Parameters
    ----------
    given : sequence of str
        Those of ``FIT_OPTIONS`` that the user gave.

    Raises
    ------
    GeedError
        If there are any.
    """
    if given:
        raise GeedError(
            f"--{given[0].replace('_', '-')}: nothing is fitted; add --output-action "
            "LAYER=fit:permutation, fit:orthogonal or fit:linear, or leave the option out"
        )


def fits_to_make(
    requests: Mapping[str, FitRequest],
    layers: Mapping[str, Layer],
    group: Group,
    samples: int,
    options: Options,
) -> tuple[dict[str, FitRequest], list[str]]:
    """Return the fits that can be made, by tensor, and notes.

    Parameters
    ----------
    requests : mapping of str to FitRequest
        The fits that were asked for, by tensor.
    layers : mapping of str to Layer
        The tensors that are measured.
    group : Group
        The acting group.
    samples : int
        How many there are to fit to.
    options : Options
        How many were asked for, how hidden tensors are moved, and whether to fit anyway.

    Raises
    ------
    GeedError
        If fewer than two samples are left beside D.
        If a layer that was asked for by its name cannot be fitted, or is not measured.
    """
    if not requests:
        return {}, []
    if samples < 2:
        raise GeedError(
            f"{next(iter(requests.values())).asked}: needs samples outside D, and there "
            f"{'is only 1' if samples else 'are none'}: give fewer --samples, or more data"
        )
    measured = {request.asked for name, request in requests.items() if name in layers}
    for name, request in requests.items():
        if request.asked not in measured:
            judged = f"{judge_of_fits()}@{name}"
            which = "none of its layers is" if request.is_pattern else f"{name} is not"
            raise GeedError(f"{request.asked}: {which} measured: add --measure {judged}")
    made: dict[str, FitRequest] = {}
    notes, misfits = [], []
    if samples < options.fit_samples:
        notes.append(
            f"only {samples} of the {options.fit_samples} samples wanted for the fit exist"
        )
    # Of a pattern's layers those are fitted that are measured.
    for name, request in ((n, r) for n, r in requests.items() if n in layers):
        try:
            fault = _doubt(layers[name], request, group, samples, options)
            if fault and not options.fit_anyway:
                raise GeedError(f"{fault}; --fit-anyway fits it anyway")
        except GeedError as error:
            if not request.is_pattern:
                raise
            misfits.append(str(error))
            continue
        if fault:
            notes.append(f"{fault}: fitted anyway, so compare it with its shuffled null")
        made[name] = request
    if misfits and not made:
        raise GeedError(misfits[0])
    return made, [*notes, *(f"not fitted: {misfit}" for misfit in misfits)]


def fit_samples(available: int, count: int, options: Options) -> tuple[int, ...]:
    """Return the samples that actions are fitted to: the next of the permutation after D.

    Parameters
    ----------
    available : int
        Samples of the data.
    count : int
        Size of D.
    options : Options
        Seed, and how many.

    Returns
    -------
    tuple of int
        As many as there are.
    """
    drawn = np.random.default_rng(options.seed).permutation(available)
    return tuple(int(i) for i in drawn[count : count + options.fit_samples])


def refuse_fits(requests: Mapping[str, FitRequest], why: str) -> None:
    """Refuse fits, where there are any, for a reason.

    Raises
    ------
    GeedError
        If there is one.
    """
    for request in requests.values():
        raise GeedError(f"{request.asked}: {why}")


def _doubt(
    layer: Layer, request: FitRequest, group: Group, samples: int, options: Options
) -> str | None:
    """Say why a fit is not to be trusted, if so.

    Raises
    ------
    GeedError
        If it cannot be made at all.
    """
    layer.check_filled(request.asked)
    action, channels = fit_action(layer, group, options, request.asked)
    bound = f"{request.asked}: {layer.name}"
    if request.kind == "permutation" and channels > MOST_PERMUTED:
        raise GeedError(
            f"{bound} has {channels} channels, and an assignment of more than {MOST_PERMUTED} "
            "takes too long; fit:orthogonal and fit:linear take them"
        )
    seconds = fit_seconds(len(group.elements), channels, request.kind, samples)
    if seconds > _LONGEST_SOLVING:
        return f"{bound} has {channels} channels, which takes about {seconds / 60:.0f} min to solve"
    if not isinstance(action, Trivial):
        return None
    if channels > _LONGEST_VECTOR:
        return f"{bound} is a vector of {channels} entries, more than {_LONGEST_VECTOR}"
    if samples < (needed := _SAMPLES_AN_ENTRY * channels):
        more = f"--fit-samples {needed}"
        if samples < options.fit_samples:
            more = f"it needs {needed}, and no more exist outside D: give fewer --samples"
        return (
            f"{bound} is a vector of {counted(channels, 'entry', 'entries')}, for which "
            f"{counted(samples, 'sample')} are too few "
            f"to fit to: {more}"
        )
    return None


def fit_action(
    layer: Layer, group: Group, options: Options, asked: str
) -> tuple[LayoutAction | Trivial, int]:
    """Return how the group moves a tensor's places, and how many channels are to be mixed.

    Raises
    ------
    GeedError
        If the tensor has no channels, or the group's elements differ from sample to sample.
    """
    bound = f"{asked}: {layer.name}"
    if group.kind == "sampled":
        raise GeedError(
            f"{bound}: the elements of {group.name} differ from sample to sample, so there is "
            "nothing to fit; take a group such as C8"
        )
    if len(layer.shape) == 1 and layer.layout in ("NK", "NC"):
        return Trivial(group), layer.point_length
    if layer.is_one_place and layer.layout != "?" and parse_layout(layer.layout).channels:
        return Trivial(group), layer.point_length
    # A tensor of any rank whose axes nothing tells goes as a vector's.
    if layer.layout == "?" or parse_layout(layer.layout).rank != len(layer.shape) + 1:
        raise GeedError(f"{bound}: {layer.layout_advice}")
    layout = parse_layout(layer.layout)
    if not layout.channels:
        raise GeedError(f"{bound} has the layout {layout}, with no channels (C or K) to fit")
    try:
        action = layout_action(group, layout, layer.kept_shape, options.interpolation)
    except GeedError as error:
        raise GeedError(f"{bound}: {error}") from None
    return action, layer.channels


def check_fits_measured(plan: Plan, fits: Mapping[str, FitRequest]) -> None:
    """Refuse fits that no measure would take, before they are made.

    Raises
    ------
    GeedError
        If there is one, with what to measure.
    """
    for name, request in fits.items():
        takers = {"any"} if request.kind != "permutation" else {"any", "letters", "permutations"}
        if not any(m.layer == name and m.descriptor.actions in takers for m in plan.measures):
            raise GeedError(_untaken(request.asked, name, plan))


def check_given_measured(listed: Sequence[Tensor], options: Options, plan: Plan) -> None:
    """Refuse output actions of the user's that no measure takes.

    Raises
    ------
    GeedError
        If there is one, with what to measure.
    """
    for layer, value in options.output_action.items():
        names = [tensor.name for tensor in resolve(listed, layer)]
        taken = any(m.layer in names and takes_table(m.action) for m in plan.measures)
        if parse_fit(layer, value) is None and not taken:
            source = value.source if isinstance(value, Table) else value
            raise GeedError(_untaken(f"--output-action {layer}={source}", names[0], plan))


def judged_tables(
    listed: Sequence[Tensor], options: Options, tables: Mapping[str, Table]
) -> list[str]:
    """Return the tensors with an action that only its own judge takes, where none is asked for.

    These are the ones that were fitted, and matrices that the user gives.
    """
    stated = {t.name for layer in options.output_action for t in resolve(listed, layer)}
    return [
        name
        for name, table in tables.items()
        if table.fit is not None or (name in stated and table.kind == "channel_matrices")
    ]


def _untaken(asked: str, layer: str, plan: Plan) -> str:
    """Say that no measure takes an action, and what to measure."""
    names = [m.name for m in plan.measures if m.layer == layer]
    why = f"{' and '.join(names)} take{'s' * (len(names) == 1)} no such action"
    return (
        f"{asked}: {why if names else f'nothing of {layer} is measured'}: add --measure "
        f"{judge_of_fits()}@{layer}"
    )


def takes_table(action: object) -> bool:
    """Say whether an action holds a table: of channels, of matrices, of a vector's entries."""
    parts = ("channels", "channel_matrices", "table", "matrices")
    return any(getattr(action, part, None) is not None for part in parts)
