"""Class scores: logits and probabilities, told apart and brought to log-probabilities."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import Action
from onnx_geed.measures import kernels

__all__ = [
    "OutputKind",
    "ProbabilityError",
    "check_logits",
    "check_probabilities",
    "check_scores",
    "classes_of_x",
    "log_means",
    "log_probabilities",
    "log_ratios",
    "moved_classes",
    "predicted_classes",
]

I64 = NDArray[np.int64]


F64 = NDArray[np.float64]


OutputKind = Literal["logits", "probabilities"]


# By so much a probability may leave [0, 1] in half precision.
_ROUNDING = 1e-2


class ProbabilityError(GeedError):
    """A positive probability stands against zero; the caller knows the sample's name."""


def log_probabilities(y: ArrayLike, kind: OutputKind, *, check: bool = True) -> F64:
    """Return log-probabilities of a model's outputs, in float64.

    Parameters
    ----------
    y : array_like, shape (..., n)
        Logits or probabilities; n = 1 is the two-class case of a single logit or Sigmoid.
    kind : {"logits", "probabilities"}
        Kind of the scores.
    check : bool
        Whether probabilities are checked, which those that were resampled were before.

    Returns
    -------
    ndarray of float64, shape (..., max(n, 2))
        Natural logarithms; −inf where a probability is zero. The two-class case gives
        (log(1 − p), log p).

    Raises
    ------
    ProbabilityError
        If a probability is outside [0, 1].
    """
    values = np.asarray(y, dtype=np.float64)
    if kind == "probabilities":
        if check:
            check_scores(values, kind)
        if values.shape[-1] == 1:
            values = np.concatenate([1.0 - values, values], axis=-1)
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(values, 0.0))
    if values.shape[-1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=-1)
    rows = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    out = np.empty_like(rows)
    kernels.softmax_logs(rows, out)
    return out.reshape(values.shape)


def log_means(logs: F64) -> F64:
    """Return f̂ of eq. (2) for log-probabilities: the logarithms of mean probabilities.

    Parameters
    ----------
    logs : ndarray of float64, shape (N, elements, n)
        Natural logarithms; −inf where a probability is zero.

    Returns
    -------
    ndarray of float64, shape (N, n)
        By log-sum-exp; a class of probability zero under all elements stays −inf.
    """
    top = np.maximum(logs.max(axis=1), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        sums = np.exp(logs - top[:, None]).sum(axis=1)
        means: F64 = np.log(sums) + top - np.log(logs.shape[1])
    return means


def log_ratios(logs: F64, references: F64, out: F64) -> None:
    """Set ``out[i]`` = ln(q_i / p_i) from the logarithms of single probabilities, (rows, 1).

    Of p for the true class that is by how much its cross-entropy is above that of q.
    """
    np.subtract(references[:, 0], logs[:, 0], out=out)


def check_logits(y: ArrayLike, measure: str, name: str) -> None:
    """Refuse class scores of an unstated kind where they look like something else than logits.

    Parameters
    ----------
    y : array_like, shape (..., n)
        Class scores, finite.
    measure, name : str
        The measure and the scores, for the message.

    Raises
    ------
    GeedError
        If every row is in [0, 1] and sums to 1, or to 100; if a single column is in [0, 1]; if
        every row holds negative logarithms of probabilities.
    """
    rows = np.asarray(y, dtype=np.float64)
    low, high = rows.min(), rows.max()
    either = 'say kind="probabilities", or kind="logits" if they are logits'
    if low < -_ROUNDING:
        return
    if rows.shape[-1] == 1:
        if high > 1 + _ROUNDING:
            return
        looks = f"holds a single column in [0, 1], as a Sigmoid gives: {either}"
    elif high <= 1 + _ROUNDING and _all_near(rows.sum(axis=-1), 1):
        looks = f"holds rows in [0, 1] that sum to 1, as probabilities do: {either}"
    elif high <= 100 * (1 + _ROUNDING) and _all_near(rows.sum(axis=-1) / 100, 1):
        looks = (
            "holds rows that sum to 100, as percentages do: divide them by 100 and say "
            'kind="probabilities", or say kind="logits" if they are logits'
        )
    # Where one class of each row has it all, zeros beside large numbers are good logits too.
    elif _all_near(np.exp(-rows).sum(axis=-1), 1) and rows.min(axis=-1).max() > _ROUNDING:
        looks = (
            "holds negative logarithms of probabilities: give them with the other sign and say "
            'kind="logits"'
        )
    else:
        return
    raise GeedError(f"{measure}: {name} {looks}")


def _all_near(values: F64, target: float) -> bool:
    return bool((np.abs(values - target) <= _ROUNDING).all())


def check_probabilities(lowest: float, highest: float) -> None:
    """Refuse a range of values that no probabilities have.

    Raises
    ------
    ProbabilityError
        If it leaves [0, 1] by more than half precision rounds.
    """
    if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
        raise ProbabilityError(
            f"values of {lowest:.4g} to {highest:.4g} are not probabilities; state --output-kind "
            "logits or embedding"
        )


def check_scores(y: NDArray[Any], kind: OutputKind) -> None:
    """Refuse probabilities that are none, as :func:`check_probabilities` does; any logits pass."""
    if kind == "probabilities" and y.size:
        check_probabilities(y.min(), y.max())


def predicted_classes(y: NDArray[Any], kind: str) -> I64:
    """Return the class that each row of class scores is for.

    Parameters
    ----------
    y : ndarray, shape (..., n)
        Logits or probabilities; n = 1 is the two-class case.
    kind : {"logits", "probabilities"}
        Kind of the scores.

    Returns
    -------
    ndarray of int64, shape (...)
        The first of the largest.
    """
    if y.shape[-1] == 1:
        second = np.asarray(y[..., 0] > (0.5 if kind == "probabilities" else 0.0))
        return second.astype(np.int64)
    return np.asarray(np.argmax(y, axis=-1), dtype=np.int64)


def classes_of_x(y: NDArray[Any], kind: str, table: I64 | None) -> I64:
    """Return the class of x that each row of class scores of f(gx) is for.

    Parameters
    ----------
    y : ndarray, shape (..., n)
        As :func:`predicted_classes` takes them.
    kind : {"logits", "probabilities"}
        Kind of the scores.
    table : ndarray of int64, shape (n,), optional
        The permutation of the classes by φ_Y(g), of two for a single score; ``None`` for none.

    Returns
    -------
    ndarray of int64, shape (...)
        The first of the largest in the order of x: scores are moved back before they are compared,
        so that those which tie are for the same class under every element.
    """
    if table is None:
        return predicted_classes(y, kind)
    if y.shape[-1] == 1:
        other = np.float32(1) - y if kind == "probabilities" else np.zeros_like(y)
        y = np.concatenate([other, y], axis=-1)
    return predicted_classes(y[..., np.argsort(table)], kind)


def moved_classes(action: Action, count: int) -> I64:
    """Return where each element moves each class.

    Parameters
    ----------
    action : Action
        φ_Y, trivial or a permutation.
    count : int
        Number of classes.

    Returns
    -------
    ndarray of int64, shape (n, count)
        Each class itself under the trivial action.
    """
    classes = np.arange(count, dtype=np.float64)
    # Moving gathers: out[c] = in[table[c]], so that class table[c] comes to stand at c.
    moved: I64 = np.stack([np.argsort(action.apply(g, classes)) for g in range(action.group.order)])
    return moved
