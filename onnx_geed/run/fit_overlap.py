"""The samples that an output action was fitted to must not be measured with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnx_geed.errors import GeedError
from onnx_geed.groups import Table
from onnx_geed.run.source import Source

__all__ = ["check_overlap", "refuse_overlap"]


def check_overlap(tables: Mapping[str, Table], source: Source, count: int) -> None:
    """Refuse actions from files that were fitted to samples of D.

    Parameters
    ----------
    tables : mapping of str to Table
        Given output actions by tensor.
    source : Source
        The samples.
    count : int
        Size of D.

    Raises
    ------
    GeedError
        If a sample of D is one of those that an action was fitted to.
    """
    intake = source.main.intake
    if intake is None or not any(table.fit for table in tables.values()):
        return
    intake.fingerprint(count)  # which reads the samples, and so marks them
    refuse_overlap(tables, intake.marks(count), source.label)


def refuse_overlap(
    tables: Mapping[str, Table], marks: Sequence[str], label: Callable[[int], str]
) -> None:
    """Refuse fitted actions that have seen a sample of D.

    Parameters
    ----------
    tables : mapping of str to Table
        Given output actions by tensor.
    marks : sequence of str
        A digest of each sample of D.
    label : callable
        Names the sample at a position of D, for messages.

    Raises
    ------
    GeedError
        If there is one, with what to do.

    Notes
    -----
    Samples are told by what is in them, so that a copy in other data is found as well.
    """
    for layer, table in tables.items():
        if table.fit is None:
            continue
        seen = {*table.fit.marks}
        both = [position for position, mark in enumerate(marks) if mark in seen]
        if both:
            count = f"{len(both)} of the {len(marks)} samples" if len(both) > 1 else "a sample"
            raise GeedError(
                f"--output-action {layer}={table.source}: was fitted to {count} of D, the first "
                f"{label(both[0])}: what was seen is no test. Measure with the --samples and "
                "--seed of the fit, which leaves D out, or fit again to other data"
            )
