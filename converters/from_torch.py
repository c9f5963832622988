# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.3", "torch>=2.6"]
# ///
"""Turn a PyTorch model into an ONNX file that onnx-geed measures.

from_torch.py nets.py:make_net --checkpoint net.pt --input-shape 3,32,32 -o net.onnx
from_torch.py torchvision:resnet50 --checkpoint resnet50.pth -o resnet50.onnx
from_torch.py timm:levit_192 --checkpoint LeViT-192.pth -o levit.onnx
from_torch.py traced.pt --input-shape 1,28,28 -o traced.onnx
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__:
    from ._callables import parameters_of
    from ._exporters import newer, older
    from ._finish import Source, finish
    from ._inputs import Input, add_input_shape, read_inputs
    from ._options import Problem, command, missing, parser
    from ._torch_modules import build, described
    from ._torch_outputs import gives_out, run, take_output, watch
    from ._torch_programs import from_program
else:
    from _callables import parameters_of
    from _exporters import newer, older
    from _finish import Source, finish
    from _inputs import Input, add_input_shape, read_inputs
    from _options import Problem, command, missing, parser
    from _torch_modules import build, described
    from _torch_outputs import gives_out, run, take_output, watch
    from _torch_programs import from_program

MODEL = (
    "MODULE:CALLABLE or FILE.py:CALLABLE that makes an nn.Module (or is one), torchvision:NAME, "
    "timm:NAME, or the file of a TorchScript or torch.export program"
)
INSTALL = "pip install torch onnx onnxscript onnxruntime"


def arguments() -> argparse.ArgumentParser:
    command_parser = parser(__doc__ or "", MODEL)
    group = command_parser.add_argument_group("the model")
    add_weights(group)
    group.add_argument(
        "--pretrained", action="store_true", help="torchvision, timm: download trained weights"
    )
    group.add_argument(
        "--take", metavar="KEY", help="the output to use, if the model returns a dict or tuple"
    )
    group = command_parser.add_argument_group("the export")
    group.add_argument(
        "--exporter",
        choices=("auto", "dynamo", "torchscript"),
        default="auto",
        help="dynamo is the newer exporter; auto tries it first, then the older one",
    )
    group.add_argument("--opset", type=int, help="ONNX opset (default: the exporter's)")
    return command_parser


def add_weights(group: Any) -> None:
    group.add_argument(
        "--kwargs", metavar="JSON", default="{}", help="arguments of the callable, as a JSON object"
    )
    add_input_shape(group, "C,H,W")
    group.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="weights: .pt/.pth (never unpickled), .safetensors, .npz",
    )
    group.add_argument(
        "--checkpoint-key",
        metavar="KEY",
        help="the entry of the checkpoint with the weights, such as teacher",
    )
    group.add_argument(
        "--prefix", metavar="PREFIX", help="use the keys with this prefix, and remove it"
    )
    group.add_argument(
        "--identity",
        metavar="MODULE",
        action="append",
        default=[],
        help="replace a module by the identity before the export: removes a head",
    )
    for keys in ("missing", "unexpected"):
        group.add_argument(
            f"--allow-{keys}",
            metavar="GLOB",
            action="append",
            nargs="?",
            const="*",
            default=[],
            help=f"accept {keys} keys (all, or those that match)",
        )


def convert(settings: argparse.Namespace) -> None:
    with missing("torch", INSTALL):
        import torch
    torch.manual_seed(settings.seed)
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that no exporter knows
    warnings.simplefilter("ignore")
    inputs = read_inputs(settings.input_shape)
    if Path(settings.model).is_file():
        source = from_program(settings, inputs)
    else:
        net, known = build(settings)
        if not inputs and "shape" in known:
            inputs = [Input("input", known["shape"])]
        if not inputs:
            raise Problem("--input-shape is needed: the shape of one sample, such as 3,224,224")
        known["preprocess"] = fitted(known.get("preprocess"), inputs[0].shape)
        source = from_module(net, inputs, settings, known)
    finish(source, settings)


def fitted(preprocess: dict[str, Any] | None, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Bring a library's resize and crop to the size that was asked for, in proportion."""
    crop, resize = ((preprocess or {}).get(key) for key in ("crop", "resize"))
    if preprocess is None or crop is None or len(shape) != 3:
        return preprocess
    before, size = crop if isinstance(crop, list) else [crop, crop], list(shape[1:])
    if before == size:
        return preprocess
    square = size[0] == size[1]
    if isinstance(resize, list):  # both sides, whatever the image's own proportions
        lengths = zip(resize, size, before, strict=True)
        resize = [max(side * new // old, new) for side, new, old in lengths]
    else:
        resize = max(resize * size[1] // before[1], size[1]) if square else size
    return {**preprocess, "resize": resize, "crop": size[0] if square else size}


def from_module(
    net: Any, inputs: list[Input], settings: argparse.Namespace, known: dict[str, Any]
) -> Source:
    """Describe a module; its class is changed where one of several outputs is to be taken."""
    import torch

    inputs = described(inputs, net, parameters_of(net.forward))
    inputs, layouts = annotated(net, inputs)
    if settings.take is not None:
        take_output(net, settings.take)
    batch = torch.export.Dim("batch", min=1)
    free = [{0: batch} for _ in inputs]
    exporters: dict[str, Callable[[], Any]] = {
        "dynamo": lambda: newer(net, inputs, as_called(net, free), settings.opset),
        "torchscript": lambda: older(net, inputs, settings.opset),
    }
    names = ["dynamo", "torchscript"] if settings.exporter == "auto" else [settings.exporter]
    # A user who has taken the head off does not have logits any more, nor classes.
    headless = gives_out(net, inputs, known.get("replaced", ()))
    return Source(
        forward=lambda *x: run(net, *x),
        inputs=inputs,
        exports=[(f"{name} exporter", exporters[name]) for name in names],
        watch=lambda *x: watch(net, x, settings.latent),
        preprocess=known.get("preprocess"),
        classes=None if headless else known.get("classes"),
        kind="embedding" if headless else known.get("kind"),
        layouts=layouts,
    )


def as_called(net: Any, values: list[Any]) -> tuple[Any, ...]:
    """Return what is told of each input by parameter: one that takes any number has a tuple."""
    return tuple(inspect.signature(net.forward).bind(*values).arguments.values())


def annotated(net: Any, inputs: list[Input]) -> tuple[list[Input], dict[str, str]]:
    """Read layouts that modules carry.

    A module's ``onnx_geed_layout`` is that of what it puts out; the model's
    ``onnx_geed_input_layout`` is that of what it takes, a dict by name for several inputs.

    Returns
    -------
    inputs : list of Input
    layouts : dict of str to str
        By module path, empty for the model itself.
    """
    layouts = {}
    for path, module in net.named_modules(remove_duplicate=False):
        layout = getattr(module, "onnx_geed_layout", None)
        if layout is not None:
            layouts[path] = text_of(layout, f"onnx_geed_layout of {path or 'the model'}")
    stated = getattr(net, "onnx_geed_input_layout", None)
    if stated is not None:
        called = "onnx_geed_input_layout of the model"
        if not isinstance(stated, dict):
            if len(inputs) > 1:
                raise Problem(
                    f"{called}: the model takes {len(inputs)} inputs; give a dict by name"
                )
            stated = {inputs[0].name: stated}
        names = [i.name for i in inputs]
        if names == ["input"] and len(stated) == 1:  # whose name was not given
            stated = dict(zip(names, stated.values(), strict=True))
        for name in stated:
            if name not in names:
                raise Problem(
                    f"{called}: there is no input {name}; there are {', '.join(names)}, and "
                    "--input-shape NAME=LENGTHS gives others"
                )
        inputs = [
            dataclasses.replace(i, layout=text_of(stated.get(i.name, i.layout), called))
            for i in inputs
        ]
    return inputs, layouts


def text_of(layout: Any, called: str) -> str:
    if not isinstance(layout, str):
        raise Problem(
            f"{called}: is {layout!r}; give a text with one letter per axis, such as 'NPC'"
        )
    return layout


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    command(arguments(), convert)
