"""Saved programs of PyTorch: torch.export's and TorchScript's."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import zipfile
from dataclasses import replace
from typing import Any

if __package__:
    from ._exporters import newer, older, quiet
    from ._finish import Source
    from ._inputs import DTYPES, Input, in_order
    from ._options import Problem, reason_of
    from ._torch_modules import check_weight_options, described
    from ._torch_outputs import interpret, run
else:
    from _exporters import newer, older, quiet
    from _finish import Source
    from _inputs import DTYPES, Input, in_order
    from _options import Problem, reason_of
    from _torch_modules import check_weight_options, described
    from _torch_outputs import interpret, run


def from_program(settings: argparse.Namespace, inputs: list[Input]) -> Source:
    """Describe a saved program: torch.export's, or TorchScript's."""
    import torch

    only_modules = ("checkpoint", "identity", "take", "pretrained")
    if any(getattr(settings, o) for o in only_modules) or settings.kwargs != "{}":
        raise Problem(
            f"{settings.model}: is an exported program; --checkpoint, --identity, --take, "
            "--pretrained and --kwargs only work for modules"
        )
    check_weight_options(settings)
    path = settings.model
    inside = archive_names(path)
    script: Any = None
    try:
        if any(n.endswith(("archive_format", "serialized_exported_program.json")) for n in inside):
            program = _exported(path, inside)
        elif any("/code/" in n for n in inside):
            script = torch.jit.load(path, map_location="cpu")
        else:
            raise Problem(
                f"{path}: neither a torch.export nor a TorchScript program; of a checkpoint say what "
                "it belongs to: MODULE:CALLABLE --checkpoint FILE"
            )
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"{path}: cannot be read ({reason_of(error)})") from None
    if script is not None:
        if settings.exporter == "dynamo":
            raise Problem(
                f"--exporter dynamo: {path} is a TorchScript program, which only the older exporter "
                "takes; leave the option out"
            )
        if not inputs:
            raise Problem("--input-shape is needed: the shape of one sample, such as 3,224,224")
        script = script.float().eval()
        names = [a.name for a in script.forward.schema.arguments[1:]]
        inputs = described(inputs, script, names)
        return Source(
            forward=lambda *x: run(script, *x),
            inputs=inputs,
            exports=[("torchscript exporter", lambda: older(script, inputs, settings.opset))],
        )
    if settings.exporter == "torchscript":
        raise Problem(
            f"--exporter torchscript: {path} is a torch.export program, which only the newer exporter "
            "takes; leave the option out"
        )
    (args, kwargs) = program.example_inputs or ((), {})
    user = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in user]
    if kwargs or not args or len(nodes) != len(args):
        raise Problem(f"{path}: has arguments other than tensors by position; wrap the model")
    for node in nodes:
        if isinstance(node.meta["val"].shape[0], int):
            raise Problem(
                f"{path}: was exported for batches of {node.meta['val'].shape[0]} only; export it with "
                "dynamic_shapes=({0: torch.export.Dim('batch')},)"
            )
    module = program.module()
    # One input is called so in every file; several have the names of the program.
    called = ["input"] if len(nodes) == 1 else [n.name for n in nodes]
    own = [
        Input(name, tuple(a.shape[1:]), str(a.dtype).removeprefix("torch."))
        for name, a in zip(called, args, strict=True)
    ]
    if other := next((i.dtype for i in own if i.dtype not in DTYPES), None):
        raise Problem(f"{path}: takes {other}; {' or '.join(DTYPES)} is needed")
    inputs = described(stated(inputs, own, nodes) if inputs else own, module, None)
    return Source(
        forward=lambda *x: run(module, *x),
        inputs=inputs,
        exports=[("dynamo exporter", lambda: newer(program, inputs, None, settings.opset))],
        watch=lambda *x: interpret(module, *x),
    )


def stated(given: list[Input], inputs: list[Input], nodes: list[Any]) -> list[Input]:
    """Give inputs of a program the shapes that the user states, where it leaves lengths free."""
    given = in_order(given, [n.name for n in nodes])
    taken = " and ".join(
        f"{node.name}={','.join(str(n) if isinstance(n, int) else 'free' for n in lengths)}"
        for node in nodes
        for lengths in [node.meta["val"].shape[1:]]
    )
    fits = len(given) == len(inputs) and all(
        one.dtype == own.dtype
        and len(one.shape) == len(own.shape)
        and all(n == m or not isinstance(m, int) for n, m in zip(one.shape, lengths, strict=True))
        for one, own, node in zip(given, inputs, nodes, strict=True)
        for lengths in [node.meta["val"].shape[1:]]
    )
    if not fits:
        shapes = " and ".join(f"{i.name}={','.join(map(str, i.shape))}" for i in given)
        raise Problem(
            f"--input-shape {shapes}: the program takes {taken}; leave the option out, or export "
            "the program for that shape"
        )
    return [replace(own, shape=one.shape) for one, own in zip(given, inputs, strict=True)]


def _exported(path: str, inside: list[str]) -> Any:
    """Load what torch.export saved, without what could run code.

    Where a part is no plain weights, torch.export reads it once more as a pickle that may do anything,
    unless the environment forbids it; and objects of Python it always reads so.
    """
    import torch

    if any("opaque_obj" in name for name in inside):
        raise Problem(
            f"{path}: has pickled Python objects, which could run code; save it without them"
        )
    force = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(force)
    os.environ[force] = "1"
    try:
        with quiet():
            return torch.export.load(path)
    except pickle.UnpicklingError:
        raise Problem(
            f"{path}: has pickled objects, which could run code; save the program again with "
            "torch.export.save, with only tensors as example inputs"
        ) from None
    finally:
        os.environ.pop(force)
        if before is not None:
            os.environ[force] = before


def archive_names(path: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
