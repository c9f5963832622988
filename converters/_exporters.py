"""PyTorch's two exporters to ONNX, quiet, with a free batch axis."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__:
    from ._inputs import Input
    from ._options import note
else:
    from _inputs import Input
    from _options import note


def newer(net: Any, inputs: Sequence[Input], dynamic: Any, opset: int | None) -> Any:
    import torch

    names: dict[str, Any] = {"input_names": [i.name for i in inputs], "output_names": ["output"]}
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            net,
            zeros(inputs),
            dynamo=True,
            dynamic_shapes=dynamic,
            opset_version=opset,
            external_data=False,
            verbose=False,
            **names,
        )
    assert program is not None
    return inlined(program.model_proto)


def older(net: Any, inputs: Sequence[Input], opset: int | None) -> Any:
    import onnx
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught, quiet(), torch.no_grad():
        warnings.simplefilter("always", torch.jit.TracerWarning)
        torch.onnx.export(
            net,
            zeros(inputs),
            buffer,
            dynamo=False,
            input_names=[i.name for i in inputs],
            output_names=["output"],
            dynamic_axes={name: {0: "batch"} for name in (*(i.name for i in inputs), "output")},
            opset_version=opset,
        )
    frozen = [
        w
        for w in caught
        # escnn's are checks of shapes and types.
        if "Python boolean" in str(w.message) and "escnn" not in Path(w.filename).parts
    ]
    if frozen:
        # Parity on a few batches does not show what another input would have taken.
        where = f"{Path(frozen[0].filename).name}:{frozen[0].lineno}"
        note(f"the exported file has a fixed decision that may depend on the data, at {where}")
    return inlined(onnx.load_from_string(buffer.getvalue()))


def zeros(inputs: Iterable[Input]) -> tuple[Any, ...]:
    """Return a batch of two for a trace."""
    import torch

    return tuple(torch.zeros(2, *i.shape, dtype=getattr(torch, i.dtype)) for i in inputs)


def inlined(proto: Any) -> Any:
    if not proto.functions:
        return proto
    import onnx.inliner

    return onnx.inliner.inline_local_functions(proto)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters print and log to themselves, C++ code too; their errors are told."""
    logging.disable(logging.CRITICAL)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream, _ in kept:
            os.dup2(nowhere, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
