"""Output actions estimated from data and handed back, to be kept in a file: :func:`fit_actions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.groups import FitKind, Group, Table
from onnx_geed.measures import judge_of_fits
from onnx_geed.model import Model
from onnx_geed.run.executor import Executor, ExecutorName
from onnx_geed.run.executors import open_executor
from onnx_geed.run.fit_orbits import Notify, fit_from_model
from onnx_geed.run.options import make_options
from onnx_geed.run.prepare import check_inputs, prepare_run
from onnx_geed.run.progress import Progress

__all__ = [
    "check_closed",
    "check_representation",
    "check_taken",
    "fit_actions",
    "fits_asked",
    "tell_defects",
]

# Options of measuring, which a fit has no part in, and what to do with them.
_OF_A_RUN = (
    ("measures", "output_action", "labels", "target", "layers", "references", "untrained"),
    "has no effect on a fit; give it to onnx-geed measure, with the fitted file",
)


# What is left of a defect is more than rounding above this.
_ROUNDING = 1e-6


@checked
def fit_actions(
    model: str | Path | Model,
    data: str | Path | NDArray[Any],
    group: str | Group,
    layers: Sequence[str],
    *,
    kind: FitKind = "orthogonal",
    representation: bool = False,
    progress: Progress | None = None,
    notify: Notify | None = None,
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    **options: Any,
) -> tuple[Table, ...]:
    """Estimate from data how a group acts on the channels of hidden layers.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file.
    data : str, Path or ndarray
        Samples, as :func:`onnx_geed.measure` takes them.
    group : str or Group
        The acting group.
    layers : sequence of str
        Tensors, nodes, globs or module paths.
    kind : {"permutation", "orthogonal", "linear"}
        The kind of ρ(g).
    representation : bool
        Whether to make orthogonal matrices compose like the group's elements. For C<n>, angles are
        rounded to multiples of 1/n turn. For other groups, products are averaged over the group
        and, where that leads to no representation, one near the fit is taken. With
        too many channels for that, the defect shows the remaining error.
    progress : callable, optional
        Called after inferences, then after solved layers.
    notify : callable, optional
        Called with a text about the memory of the sums, and about layers that cannot be fitted.
    executor, address
        As for :func:`onnx_geed.measure`; each worker of a Ray cluster fits one layer at a time.
    **options
        Fields of :class:`onnx_geed.Options`. ``samples`` is the size of D, which the fit does not
        use; ``fit_samples`` is the number of the following samples, which it uses.

    Returns
    -------
    tuple of Table
        One per layer, for ``output_action`` of :func:`onnx_geed.measure`.

    Raises
    ------
    GeedError
        If model, data or options are invalid, or the model returns NaN or infinity.
        If a layer has no channels, or is a vector that is too long for the samples.
        If the group is a family.

    Notes
    -----
    Spec section 10. With Z_g = π(g)⁻¹ f(gx), the grid moved back, ``permutation`` is the assignment
    of channels with the largest sum of cosines of samples, ``orthogonal`` the polar factor of
    S(g) + λ tr(A)/C, ``linear`` (E(g) + λI')(A + λI')⁻¹; λ by five folds.
    """
    check_representation(kind, representation=representation)
    make_options(options, *_OF_A_RUN)
    options = options | fits_asked(layers, kind)
    with open_executor(executor, address) as running:
        prepared = prepare_run(model, data, group, make_options(options), executor=running)
        if prepared.fitting is None:
            raise GeedError("--layer: names nothing to fit")
        check_taken(prepared.task.plan.group)
        for note in prepared.task.plan.notes:
            if notify is not None:
                notify(f"note: {note}")
        if representation:
            check_closed(prepared.task.plan.group)
        fitting = replace(prepared.fitting, representation=representation)
        tables = fit_from_model(prepared, fitting, progress, notify)
        check_inputs(prepared)
    made = tuple(tables.values())
    if representation:
        tell_defects(made, notify)
    return made


def tell_defects(tables: Sequence[Table], notify: Notify | None) -> None:
    """Tell of which layers no representation could be made.

    Parameters
    ----------
    tables : sequence of Table
        Fits that were to be representations.
    notify : callable, optional
        Called with a text for each that is none.
    """
    for table in tables:
        defect = None if table.fit is None else table.fit.defect
        if notify is None or table.fit is None or defect is None or defect[1] <= _ROUNDING:
            continue
        notify(
            f"note: --fit-representation: the maps of {table.fit.layer} are no representation: "
            f"products of two of them differ from those of their elements by {defect[0]:.2g} "
            f"(median) to {defect[1]:.2g} (worst) of their length; its "
            f"{table.values.shape[1]} channels are too many to do more than to average over the "
            "group"
        )


def check_taken(group: Group) -> None:
    """Refuse to fit what no measurement takes.

    Raises
    ------
    GeedError
        If the group is a family.
    """
    if group.family is not None:
        raise GeedError(
            f"group {group.name}: is a family, whose fitted actions no measurement takes from a "
            "file: fit them while measuring, as with --output-action LAYER=fit:linear"
        )


def fits_asked(layers: Sequence[str], kind: str) -> dict[str, Any]:
    """Return the options that ask for fits of some layers alone.

    Raises
    ------
    GeedError
        If there are none.
    """
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    if not layers:
        raise GeedError("--layer: name at least one layer to fit; onnx-geed layers lists them")
    return {
        "measures": tuple(f"{judge_of_fits()}@{layer}" for layer in layers),
        "output_action": dict.fromkeys(layers, f"fit:{kind}"),
    }


def check_closed(group: Group) -> None:
    """Refuse to make a representation of a group of which some elements are missing.

    Raises
    ------
    GeedError
        If products of its elements are none of it.
    """
    if not group.is_closed:
        raise GeedError(
            f"--fit-representation: {group.name} holds only some elements of a larger group, not "
            "their products: leave the option out, or take a complete group"
        )


def check_representation(kind: str, *, representation: bool) -> None:
    """Refuse to make a representation of what is none of rotations.

    Raises
    ------
    GeedError
        If it is asked of permutations or linear maps.
    """
    if representation and kind != "orthogonal":
        raise GeedError(
            f"--fit-representation: makes orthogonal matrices compose, but the kind is {kind}: "
            "take --kind orthogonal, or leave it out"
        )
