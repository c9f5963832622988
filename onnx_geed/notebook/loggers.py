"""Values written down beside those of training: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, looking_at, shown
from onnx_geed.extras import package
from onnx_geed.files import make_folder
from onnx_geed.named_paths import check_path

__all__ = ["log_mlflow", "log_tensorboard", "log_wandb"]

# Steps are numbers of 64 bits.
_STEPS = 1 << 63

# Letters of a tag: MLflow takes 250, with a number behind them.
_LONGEST = 230


@checked
def log_tensorboard(values: Mapping[str, Any], writer: Any, step: int) -> None:
    """Write values for TensorBoard.

    Parameters
    ----------
    values : mapping of str to float, or Result
        The values returned by :meth:`onnx_geed.EquivarianceMetric.compute` or
        :func:`onnx_geed.measure`.
    writer : object or str or Path
        A ``SummaryWriter`` of PyTorch, or any object with ``add_scalar(tag, value, step)``; or a
        folder, in which each call writes a new file.
    step : int
        The step, or the epoch.

    Raises
    ------
    GeedError
        If there are no values.
        If the writer is neither a folder nor has ``add_scalar``.
        If a folder is given and tensorboard is not installed.

    Notes
    -----
    Tags are ``equivariance/MEASURE/LAYER``. A missing value (NaN) is left out.
    """
    scalars = _scalars("log_tensorboard", values, step)
    if not isinstance(writer, str | Path):
        if not callable(getattr(writer, "add_scalar", None)):
            raise GeedError(
                "log_tensorboard: give a SummaryWriter, which has add_scalar, or a folder, found "
                f"{shown(writer)}"
            )
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, step)
        return
    check_path("writer", writer, only=True)
    summary = package("tensorboard.summary", "tensorboard", "log_tensorboard")
    make_folder(writer, option="log_tensorboard")
    own = summary.Writer(str(writer))
    try:
        log_tensorboard(values, own, step)
    finally:
        own.close()


@checked
def log_wandb(values: Mapping[str, Any], step: int | None = None, run: Any = None) -> None:
    """Log values to Weights & Biases.

    Parameters
    ----------
    values : mapping of str to float, or Result
        As for :func:`log_tensorboard`.
    step : int, optional
        The step; by default the run's own.
    run : wandb.Run, optional
        The run; by default the one that ``wandb.init`` started.

    Raises
    ------
    GeedError
        If there are no values, or no run, or ``run`` has no ``log``.
        If wandb is not installed.
    """
    scalars = _scalars("log_wandb", values, step)
    if run is None:
        run = package("wandb", "wandb", "log_wandb").run
    if run is None:
        raise GeedError("log_wandb: no run is active; call wandb.init first, or give one as run=")
    if not callable(getattr(run, "log", None)):
        raise GeedError(f"log_wandb: run is a run of wandb, which has log, found {shown(run)}")
    run.log(scalars, step=step)


@checked
def log_mlflow(values: Mapping[str, Any], step: int | None = None) -> None:
    """Log values as metrics of MLflow's active run, or of a new one.

    Parameters
    ----------
    values : mapping of str to float, or Result
        As for :func:`log_tensorboard`.
    step : int, optional
        The step.

    Raises
    ------
    GeedError
        If there are no values.
        If mlflow is not installed.
    """
    scalars = _scalars("log_mlflow", values, step)
    package("mlflow", "mlflow", "log_mlflow").log_metrics(scalars, step=step)


def _scalars(where: str, values: Mapping[str, Any], step: int | None) -> dict[str, float]:
    """Return what there is to log, by a tag that all of them take, and each another."""
    if step is not None and not -_STEPS <= step < _STEPS:
        raise GeedError(f"{where}: step {shown(step)} is too large; count steps or epochs")
    named, scalars = values, dict[str, float]()
    taken, numbers = set[str](), dict[str, int]()
    with looking_at(where, values):
        if isinstance(records := values.get("measurements"), list):
            named = {f"{r['measure']}@{r['layer']}": r["value"] for r in records}
        pairs = [(str(name), value) for name, value in named.items()]
    for name, value in pairs:
        if value is not None and not isinstance(value, int | float | np.floating | np.integer):
            raise GeedError(f"{where}: the value of {shown(name)} is not a number: {shown(value)}")
        # What has no value now keeps its tag: next time it may have one.
        taken.add(tag := _tag(name, taken, numbers))
        if value is None or value != value:
            continue
        try:
            scalars[tag] = float(value)
        except OverflowError:
            raise GeedError(f"{where}: the value of {shown(name)} has too many digits") from None
    return scalars


def _tag(name: str, taken: Container[str], numbers: dict[str, int]) -> str:
    """Return the tag of a value, which is no other's; ``numbers`` has the last of each tag.

    MLflow takes a tag for a path, in which nothing may be empty, and has the shortest.
    """
    plain = re.sub(r"[^\w./ -]", "_", name.replace("@", "/", 1))
    parts = (part.strip() for part in plain.split("/"))
    first = _cut("/".join(["equivariance", *(part for part in parts if part.strip("."))]))
    tag, number = first, numbers.get(first, 1)
    while tag in taken:
        number += 1
        tag = f"{first} {number}"
    numbers[first] = number
    return tag


def _cut(tag: str) -> str:
    """Return a tag whose middle is left out where it is long: layers differ at their ends."""
    if len(tag) <= _LONGEST:
        return tag
    return f"{tag[: _LONGEST // 2].rstrip('/. ')}/_/{tag[-_LONGEST // 2 :].lstrip('/. ')}"
