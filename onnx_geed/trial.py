"""A few rows are run before anything is measured: shapes, a free batch axis, kinds of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.graph import Input, Model, output_kind
from onnx_geed.layouts import to_points
from onnx_geed.options import Options
from onnx_geed.orbits import Source
from onnx_geed.points import Tensor
from onnx_geed.rewrite import expose, free_batch
from onnx_geed.session import Provider, Session, cores, open_session, probe_batch, run_alone

__all__ = ["Trial", "open_exposed", "output_kinds", "try_out"]


# Rows of the larger of the two batches in which a model is tried out.
_TRIAL_BATCH = 5
# How far over 1 a probability may be, which is a sum in float32.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Trial:
    """What came out of running a few rows."""

    session: Session
    graph: Model
    rows: dict[str, NDArray[np.float32]]
    one_by_one: bool
    notes: list[str]


def try_out(
    model: Model, acted: Input, names: Sequence[str], source: Source, options: Options
) -> Trial:
    """Run a few rows, alone and in batches, on the model with its batch axis free.

    Raises
    ------
    GeedError
        If the model fails, is random, or a tensor's axis 0 is not the batch.
    """
    rows, feeds = _trial_rows(source)
    # No run has more rows than there are, however many one may have.
    most = source.action.group.order * len(source.indices)
    batch = min(options.batch_size, most) if options.batch_size else _TRIAL_BATCH

    def attempt(candidate: Model) -> tuple[Session | None, str]:
        try:
            opened = open_exposed(candidate, acted.name, names, options.provider)
            return opened, probe_batch(opened, rows, batch, feeds)
        except GeedError as error:
            return None, str(error)

    graph, session, reason = model, None, "the batch is fixed"
    if not isinstance(acted.shape[0], int):
        session, reason = attempt(model)
    if reason:
        # Even a batch that is declared free may be pinned further on.
        freed = free_batch(model, acted.name, input_shape=rows[:1].shape)
        opened, still = attempt(freed)
        if opened is not None and not still:
            graph, session, reason = freed, opened, ""
        elif session is None:
            reason = still
    if session is None:
        session = open_exposed(model, acted.name, names, options.provider)
    notes = []
    if reason:
        # Alone, a row depends on nothing else; what still differs then is randomness.
        alone = [session.run(rows[:1], feeds(1)) for _ in range(2)]
        for name, a, b in zip(names, *alone, strict=True):
            if a.shape[:1] != (1,):
                raise GeedError(
                    f"tensor {name!r} has shape {a.shape} for one sample: its axis 0 is not the "
                    "batch; name another tensor (onnx-geed layers lists them)"
                )
            if not np.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True):
                raise GeedError(
                    f"the model is random: {name!r} differs between two runs on the same input; "
                    "export it in evaluation mode, without dropout or noise"
                )
        notes.append(f"run one by one, since in a batch {reason}")
    with ThreadPoolExecutor(cores()) as pool:
        arrays = run_alone(session, rows, feeds, pool)
    kept = {name: np.concatenate([a[k] for a in arrays]) for k, name in enumerate(names)}
    return Trial(session, graph, kept, bool(reason), notes)


def _trial_rows(source: Source) -> tuple[NDArray[np.float32], Callable[[int], dict[str, Any]]]:
    """Three different inputs, made from two samples at the most."""
    rows = source.rows([0])[: 2 if len(source.indices) > 1 else 3]
    if len(source.indices) > 1:
        rows = np.concatenate([rows, source.rows([1], orbits=False)])

    def feeds(count: int) -> dict[str, Any]:
        return source.other_inputs([0], count)

    return rows, feeds


def open_exposed(
    graph: Model, input: str, names: Sequence[str], provider: Provider | str
) -> Session:
    """Open a session that returns the named tensors."""
    return open_session(
        expose(graph, names),
        graph.path.parent,
        input=input,
        outputs=names,
        provider=cast(Provider, provider),
    )


def output_kinds(
    model: Model,
    output: str,
    listed: Sequence[Tensor],
    rows: Mapping[str, NDArray[np.float32]],
    options: Options,
) -> tuple[dict[str, str], list[str]]:
    """What each tensor is as an output: declared, checked on data, and stated."""
    kinds, notes = {}, []
    for name, array in rows.items():
        try:
            points = to_points(array, "NCHW", axes=1)[0]
        except GeedError:
            continue
        kinds[name] = "probabilities" if _looks_like_probabilities(points) else "logits"
        if name != output:
            continue
        declared = output_kind(model, output, options.output_kind)
        if declared is None:
            classifier = any("latent" in t.roles and t.name != output for t in listed)
            if kinds[name] == "logits" and not classifier:
                kinds[name] = "embedding"
            notes.append(
                f"output {name!r} is taken to be {kinds[name]}; --output-kind says otherwise"
            )
        elif declared == "probabilities" and points.shape[-1] == 1:
            kinds[name] = declared  # one Sigmoid; that it stays in [0, 1] is checked on every row
        elif declared == "probabilities" and kinds[name] != "probabilities":
            if options.output_kind:
                raise GeedError(
                    f"--output-kind probabilities: rows of {name!r} are not in [0, 1] with sum 1; "
                    "use logits or embedding"
                )
            kinds[name] = "embedding"
            notes.append(
                f"output {name!r} is declared as probabilities, but its rows do not sum to 1: "
                "softmax-kl is left out"
            )
        else:
            if declared == "logits" and kinds[name] == "probabilities" and not options.output_kind:
                notes.append(
                    f"output {name!r} is declared as logits, but its rows look like probabilities;"
                    " --output-kind probabilities says so"
                )
            kinds[name] = declared
    return kinds, notes


def _looks_like_probabilities(points: NDArray[np.float32]) -> bool:
    # Tree ensembles add up to a little over 1.
    inside = bool(((points >= 0) & (points <= 1 + _ROUNDING)).all())
    return inside and bool(np.allclose(points.sum(axis=-1, dtype=np.float64), 1, atol=1e-3))
