"""Kinds of outputs: logits, probabilities or an embedding, declared, checked on data and stated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.groups import parse_layout
from onnx_geed.measures import Layer
from onnx_geed.model import (
    Model,
    Tensor,
    last_operator,
    output_kind,
    plain_ends,
    rescaled_end,
    stored_kind,
)
from onnx_geed.run.options import Options

__all__ = ["find_output_kinds"]

# How far over 1 a probability may be, which is a sum in float32.
_ROUNDING = 1e-5


# What rows are that do not sum to 1, behind these.
_NO_CLASSES = {
    "Sigmoid": "several labels at once",
    "Softmax": "it is taken over another axis, or rounded",
}


_KINDS = ("logits", "probabilities", "embedding")


def find_output_kinds(
    model: Model,
    output: str,
    listed: Sequence[Tensor],
    rows: Mapping[str, NDArray[np.float32]],
    options: Options,
    further: Callable[[str], NDArray[np.float32]] | None = None,
    asked: Collection[str] = (),
    layers: Mapping[str, Layer] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """Find what each tensor is as an output: declared, checked on data, and stated.

    Parameters
    ----------
    model : Model
        The model.
    output : str
        The chosen output.
    listed : sequence of Tensor
        The model's tensors.
    rows : mapping of str to ndarray
        A few rows of each tensor.
    options : Options
        The kind that the user states.
    further : callable, optional
        Gives more rows of a tensor; called only where the first ones raise a doubt.
    asked : collection of str
        Tensors besides the output whose kind matters.
    layers : mapping of str to Layer, optional
        Tensors with their layouts: of scores at places, rows lie along the classes.

    Returns
    -------
    kinds : dict of str to str
        ``logits``, ``probabilities``, ``embedding``, or in words what else it seems to be.
    notes : list of str
        Notes on what was decided without being told, and on what data contradict.

    Raises
    ------
    GeedError
        If the output is stated to be probabilities, and is not.
    """
    kinds: dict[str, str] = {}
    notes: list[str] = []
    plain = plain_ends(model)
    scores = any(tensor.scores for tensor in listed)
    stored = "the metadata" if stored_kind(model, output) else last_operator(model, output)
    by = stored if options.output_kind is None else "--output-kind"
    for name, array in rows.items():
        layer = (layers or {}).get(name) if name == output or name in asked else None
        declared = output_kind(model, output, options.output_kind) if name == output else None
        try:
            vectors = _vectors(array, layer)
        except GeedError:
            # Without an axis of classes only what is known to be none has a kind.
            if name == output and (declared == "embedding" or not (declared or scores)):
                kinds[name] = "embedding"
                notes += [] if declared else [_assumed(name, "embedding")]
            continue
        kinds[name] = _seen_kind(model, name, vectors, plain)
        matters = declared is None if name == output else name in asked
        if kinds[name] not in _KINDS and matters and further is not None:
            more = _vectors(further(name), layer)
            kinds[name] = _seen_kind(model, name, np.concatenate([vectors, more]), plain)
        if name == output:
            column = vectors.shape[-1] == 1
            kinds[name], note = _weighed_kind(
                name, kinds[name], declared, scores=scores, column=column, by=by
            )
            notes += [note] if note else []
    return kinds, notes


def _vectors(array: NDArray[np.float32], layer: Layer | None) -> NDArray[np.float32]:
    """Return rows that are class scores if the tensor is: along its channels, at every place."""
    if sum(length > 1 for length in array.shape[1:]) < 2:
        return array.reshape(len(array), -1)
    plain = layer is None or layer.layout == "?" or layer.is_one_place
    layout = parse_layout("NCHW" if plain or layer is None else layer.layout)
    if plain or layer is None or layout.channels != 1 or array.ndim != layout.rank:
        return parse_layout("NCHW").to_points(array, axes=1)[0]
    kept = layout.to_kept(array, layer.name)
    return np.moveaxis(kept, 1, -1).reshape(-1, kept.shape[1])


def _weighed_kind(
    name: str, seen: str, declared: str | None, *, scores: bool, column: bool, by: str
) -> tuple[str, str]:
    """Weigh what the chosen output is declared to be, by whom, against what is seen.

    Also return a note.
    """
    if declared is None:
        kind = seen if scores or seen == "probabilities" else "embedding"
        return kind, _assumed(name, kind) if kind in _KINDS else ""
    if declared == "probabilities" and not column and seen != "probabilities":
        if by == "--output-kind":
            raise GeedError(
                f"--output-kind probabilities: rows of {name!r} are not in [0, 1] with sum 1; "
                "use logits or embedding"
            )
        why = "is declared as probabilities, but its rows do not sum to 1"
        if by in _NO_CLASSES:
            why = f"ends in {by}, and its rows do not sum to 1: {_NO_CLASSES[by]}"
        return "embedding", (
            f"output {name!r} {why}; it is taken as an embedding, which output-l2 compares, and "
            "softmax-kl is left out"
        )
    # Of a single Sigmoid it is checked on every row that it stays in [0, 1].
    if declared == "logits" and seen == "probabilities":
        return declared, (
            f"output {name!r}: rows are in [0, 1] and sum to 1, as probabilities do, but {by} says "
            "logits; if they are probabilities, give --output-kind probabilities"
        )
    return declared, ""


def _assumed(name: str, kind: str) -> str:
    return f"output {name!r}: assuming {kind}; change with --output-kind"


def _seen_kind(
    model: Model, name: str, vectors: NDArray[np.float32], plain: Callable[[str], bool]
) -> str:
    """Say what rows are: probabilities, logits, or, in words, what would be wrong as either."""
    columns = vectors.shape[-1]
    inside = bool(((vectors >= 0) & (vectors <= 1 + _ROUNDING)).all())
    if columns == 1:
        return "a single column in [0, 1]" if inside else "logits"
    if _looks_like_probabilities(vectors):
        return "probabilities"
    if _sums_to_one(vectors, np.e, +1):  # the logarithm of probabilities: softmax gives them back
        return "logits"
    if plain(name):
        return "logits"
    for base, suffix in ((np.e, ""), (2, " to base 2"), (10, " to base 10")):
        if _sums_to_one(vectors, base, -1):
            return f"negative log-probabilities{suffix}"
        if _sums_to_one(vectors, base, +1):
            return f"log-probabilities{suffix}"
    if inside:
        return "numbers in [0, 1] whose rows do not sum to 1"
    total = vectors.sum(axis=-1, dtype=np.float64)
    if (vectors >= 0).all() and np.ptp(vectors, axis=0).max() > 1e-3 * total.mean() > 0:
        if np.allclose(total, 100, rtol=1e-3):
            return "percentages"
        if np.ptp(total) <= 1e-3 * total.mean():
            return f"shares of {total.mean():.4g}"
    if origin := rescaled_end(model, name):
        return f"a {origin}'s result, scaled"
    length = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    if np.allclose(length, 1, atol=1e-3):
        return "embedding"
    return "logits"


def _sums_to_one(vectors: NDArray[np.float32], base: float, sign: int) -> bool:
    """Say whether rows are logarithms of probabilities, or with sign -1 the negative of such."""
    logarithms = sign * vectors.astype(np.float64)
    if not (logarithms <= 1e-3).all():
        return False
    return bool(np.allclose(np.power(base, logarithms).sum(axis=-1), 1, atol=1e-3))


def _looks_like_probabilities(vectors: NDArray[np.float32]) -> bool:
    # Tree ensembles add up to a little over 1.
    inside = bool(((vectors >= 0) & (vectors <= 1 + _ROUNDING)).all())
    return inside and bool(np.allclose(vectors.sum(axis=-1, dtype=np.float64), 1, atol=1e-3))
