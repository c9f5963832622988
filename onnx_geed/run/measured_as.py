"""What a record says of a measure and its tensor, known before an orbit is run.

With the statistics of orbits it is all that a record follows from, so that parts of a run, which
carry both, become the whole one's records with neither model nor data.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnx_geed.groups import Exactness, Trivial, parse_layout, table_digest, without_row
from onnx_geed.measures import Descriptor, Layer, Measure, Places, Plan, descriptor_of
from onnx_geed.run.truths import why_no_labels
from onnx_geed.text import counted

__all__ = ["MeasuredAs", "measured_as"]


# Spec section 3: a disk is of samples, and of what eq. (5) compares.
_WHOLE = (
    "the whole map counts, its corners too: --support disk masks the samples, and restricts the "
    "maps of channel-cos and class scores at places alone"
)


# Fields that parts of earlier versions were made without. A later one belongs here too.
_ADDED = frozenset({"no_labels"})


@dataclass(frozen=True)
class MeasuredAs:
    """One measure on one tensor, as a record tells of it.

    Parameters
    ----------
    measure, layer, layout, output_action : str
        What is measured where.
    elements : tuple of str
        Names of the n elements.
    target : bool
        Whether a share of the error is of a tensor that has a target.
    exact : tuple of int, optional
        The exact subgroup, where there is a proper one.
    half : tuple of int
        Every second element of a sampled group; empty of others.
    skipped : int
        How many of the first elements are left out of means over all.
    correction, half_correction : float
        What deviations, and those under every second element, are multiplied by.
    exact_channels : bool
        Whether values channel by channel over the exact elements are those of the subgroup.
    table : bool
        Whether another reading of the output action is the inverse of a given table.
    trials : bool
        Whether a deviation is 0 or 1.
    background : int, optional
        The class of places that are background.
    notes : tuple of str
        What was done to the tensor beforehand.
    on_independence : str
        What was done about a mean over independent elements; empty of others.
    without_table : tuple of int
        Elements that the given table has no row for.
    averaged : tuple of int
        Elements over which f̂ is a mean, where it is neither f nor the mean over all of them.
    reads : str
        What class scores are read as, where that makes a difference; empty of others.
    digest : str
        Digest of a given or fitted table or matrices; empty of other actions.
    starts_anywhere : bool
        Whether each sample is first moved by an element of its own, so that none is unmoved.
    no_labels : str
        Why labels of the samples do not tell which predicted classes are right; empty where they
        do.
    """

    measure: str
    layer: str
    layout: str
    output_action: str
    elements: tuple[str, ...]
    target: bool = False
    exact: tuple[int, ...] | None = None
    half: tuple[int, ...] = ()
    skipped: int = 0
    correction: float = 1.0
    half_correction: float = 1.0
    exact_channels: bool = False
    table: bool = False
    trials: bool = False
    background: int | None = None
    notes: tuple[str, ...] = ()
    on_independence: str = ""
    without_table: tuple[int, ...] = ()
    averaged: tuple[int, ...] = ()
    reads: str = ""
    digest: str = ""
    starts_anywhere: bool = False
    no_labels: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Measure and layer."""
        return self.measure, self.layer

    @property
    def descriptor(self) -> Descriptor:
        """The catalogue's entry for the measure."""
        descriptor = descriptor_of(self.measure)
        return descriptor.against_target() if self.target else descriptor

    def told(self) -> dict[str, Any]:
        """Return all of it by name, as parts of one run are held together by it.

        What earlier versions did not know is left out where it says nothing, so that their parts
        still belong to those of this one.
        """
        return {name: value for name, value in asdict(self).items() if value or name not in _ADDED}

    def skipped_of(self, members: Collection[int]) -> int:
        """Return how many of the first elements of a subgroup are left out of means over it.

        As :meth:`onnx_geed.measures.Measure.counted_of`, from what parts of a run carry.

        Parameters
        ----------
        members : collection of int
            The subgroup, identity first.
        """
        alone = {*self.averaged} & {*members} == {0}
        return self.skipped or int(self.descriptor.skips_identity and alone)


def measured_as(plan: Plan) -> tuple[MeasuredAs, ...]:
    """Return what records will say of the measures of a plan, in its order.

    Parameters
    ----------
    plan : Plan
        The measures and their tensors.

    Returns
    -------
    tuple of MeasuredAs
    """
    return tuple(_measured_as(plan, measure) for measure in plan.measures)


def _measured_as(plan: Plan, measure: Measure) -> MeasuredAs:
    group, layer = plan.group, plan.layers[measure.layer]
    members, half = plan.exact_subgroup(measure), tuple(group.half)
    layout, notes = _layout_and_notes(measure, layer.layout, layer.shape)
    if plan.support == "disk" and measure.support == "full" and _has_plane(layer):
        notes.append(_WHOLE)
    correction = measure.correction(group.order)
    drawn = group.order if group.independent else group.independent_elements
    drawn = 0 if measure.averaged == (0,) else drawn
    return MeasuredAs(
        *(measure.name, measure.layer, layout, measure.action.name, tuple(group.elements)),
        target=measure.target,
        exact=members,
        half=half,
        skipped=int(measure.counted.start),
        correction=correction,
        half_correction=measure.correction(len(half)) if half else 1.0,
        # With an f̂ of its own, eq. (2), the subgroup has other cosines.
        exact_channels=bool(members and set(measure.averaged) <= set(members)),
        table=measure.with_inverse_table() is not None,
        trials=measure.descriptor.view == "classes" and measure.places is None,
        background=measure.background,
        notes=tuple(notes),
        on_independence=_independence(measure, drawn, correction) if drawn else "",
        without_table=without_row(measure.action),
        averaged=measure.averaged if 1 < len(measure.averaged) < group.order else (),
        reads=measure.reads if measure.descriptor.view == "scores" and not measure.target else "",
        digest=table_digest(measure.action),
        starts_anywhere=group.behind is not None,
        no_labels=why_no_labels(plan, measure),
    )


def _has_plane(layer: Layer) -> bool:
    """Whether a tensor has places that a disk would leave out."""
    layout = parse_layout(layer.layout)
    if len(layer.shape) != layout.rank - 1:
        return False
    lengths = dict(zip(layout.kept, layer.kept_shape, strict=True))
    return {"H", "W"} <= {*lengths} and lengths["H"] * lengths["W"] > 1


def _independence(measure: Measure, n: int, correction: float) -> str:
    """Say what was done about a mean over independent elements, which lies too near to them."""
    if correction == 1:
        return (
            f"not corrected: the mean of {n} independent elements is closer to them than the mean "
            "over the whole group, so the value is too close to perfect"
        )
    what = "squared distances" if measure.descriptor.power == 2 else "distances"
    root = "" if what.startswith("squared") else "√"
    return (
        f"{what} are multiplied by {root}(n/(n−1)) = {correction:.4g}: the mean of {n} "
        "independent elements is closer to them than the mean over the whole group"
    )


def _layout_and_notes(
    measure: Measure, layout: str, shape: tuple[int, ...]
) -> tuple[str, list[str]]:
    """Return the layout of a record, and notes on what was done to its tensor beforehand."""
    if measure.target:
        return layout, _error_notes(measure)
    if measure.descriptor.view in ("maps", "whole"):
        return layout, []
    if measure.places is not None:
        return layout, _place_notes(measure, measure.places)
    notes = []
    blank = np.broadcast_to(np.float32(0), (1, *shape))
    if len(shape) > 1 and parse_layout(layout).to_points(blank, 1)[1]:
        places = "its grid" if {"H", "W"} <= {*layout} else "its other axes"
        notes.append(f"average-pooled over {places} by onnx-geed")
    if measure.descriptor.of_classes:
        notes.append(_read_as(measure))
    if measure.descriptor.of_error:
        notes.append("cross-entropy of the labels")
    # What is asked to stay is a vector, whatever its letter.
    stays = len(shape) == 1 and isinstance(measure.action, Trivial)
    return ("NK" if stays else layout), notes


def _place_notes(measure: Measure, places: Places) -> list[str]:
    """Say over which places scores are compared."""
    supported = places.supported
    over = counted(len(supported), "place")
    if not supported.all():
        over = f"the {supported.sum()} of {over} inside the disk"
    notes = [f"mean over {over}, f(gx) moved back to those of x", _read_as(measure)]
    if left := places.most_left_out:
        notes.append(
            f"up to {counted(left, 'place')} {'is' if left == 1 else 'are'} left out under an "
            "element, where values come from outside the grid"
        )
    return notes


def _error_notes(measure: Measure) -> list[str]:
    """Say how a tensor that has a target was moved back, where that is not plain."""
    notes = ["squared error of f(gx), moved back, against its target"]
    if resampled := sum(kind is Exactness.RESAMPLED for kind in measure.action.exact()):
        notes.append(
            f"moved back by inverse elements; for {counted(resampled, 'element')} these "
            "resample, which is "
            "not an exact inverse"
        )
    return notes


def _read_as(measure: Measure) -> str:
    """Say as what class scores are read."""
    if measure.descriptor.view == "classes":
        return "the class of the largest score"
    if measure.reads == "logits":
        return "softmax applied by onnx-geed to logits"
    return "probabilities as given"
