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
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import io
import json
import logging
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__:
    from ._finish import Source, finish
    from ._graph import fingerprint
    from ._inputs import DTYPES, Input, add_input_shape, in_order, read_inputs
    from ._options import Problem, checked_preprocess, command, missing, note, parser, reason_of
    from ._weights import load_weights
else:
    from _finish import Source, finish
    from _graph import fingerprint
    from _inputs import DTYPES, Input, add_input_shape, in_order, read_inputs
    from _options import Problem, checked_preprocess, command, missing, note, parser, reason_of
    from _weights import load_weights

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


def described(inputs: list[Input], net: Any, parameters: Sequence[str] | None) -> list[Input]:
    """Bring inputs to the order of a model's call; an image is taken to be NCHW."""
    from torch import nn

    if len(inputs) == 1 and inputs[0].is_float and len(inputs[0].shape) == 3:
        inputs = [dataclasses.replace(inputs[0], layout="NCHW")]
    rows = [m.num_embeddings for m in net.modules() if isinstance(m, nn.Embedding)]
    inputs = [dataclasses.replace(i, below=min(rows, default=2)) for i in inputs]
    return in_order(inputs, parameters)


def parameters_of(function: Callable[..., Any]) -> list[str] | None:
    """Return what a function can be given by position; None where that is anything."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def zeros(inputs: Iterable[Input]) -> tuple[Any, ...]:
    """Return a batch of two for a trace."""
    import torch

    return tuple(torch.zeros(2, *i.shape, dtype=getattr(torch, i.dtype)) for i in inputs)


def fitted(preprocess: dict[str, Any] | None, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Bring a library's resize and crop to the size that was asked for, in proportion."""
    if preprocess is None or preprocess.get("crop") in (None, shape[-1]) or len(shape) != 3:
        return preprocess
    if shape[1] != shape[2]:
        return {**preprocess, "resize": [shape[1], shape[2]], "crop": [shape[1], shape[2]]}
    resize = preprocess["resize"] * shape[2] // preprocess["crop"]
    return {**preprocess, "resize": max(resize, shape[2]), "crop": shape[2]}


def build(settings: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Make the module, load its weights, and return what its library knows of it."""
    from torch import nn

    try:
        kwargs = json.loads(settings.kwargs)
    except ValueError as error:
        raise Problem(f"--kwargs {settings.kwargs}: not JSON ({error})") from None
    if not isinstance(kwargs, dict):
        raise Problem(f"--kwargs {settings.kwargs}: not a JSON object")
    where, colon, name = settings.model.rpartition(":")
    if not colon or not where or not name:
        raise Problem(f"{settings.model}: neither a file nor MODULE:CALLABLE")
    known: dict[str, Any] = {}
    if where == "torchvision":
        make, known = torchvision_model(name, settings.pretrained)
    elif where == "timm":
        make = timm_model(name, settings.pretrained)
    else:
        make = look_up(where, name, settings.model)
    if isinstance(make, nn.Module):
        net = make
    else:
        try:
            net = make(**kwargs)
        except Problem:
            raise
        except (Exception, SystemExit) as error:
            raise Problem(
                f"{settings.model} cannot be made: {reason_of(error)}; see --kwargs"
            ) from None
    if not isinstance(net, nn.Module):
        raise Problem(f"{settings.model}: returns {type(net).__name__}, not a torch.nn.Module")
    if where == "timm":
        known = timm_knows(net)
    if any(nn.parameter.is_lazy(p) for p in (*net.parameters(), *net.buffers())):
        fill_lazy(net, settings, known)
    for path in settings.identity:
        replace_by_identity(net, path)
        settings.allow_unexpected.append(f"{path}.*")  # the head's own weights, which go with it
    if settings.checkpoint:
        load_weights(net, settings)
    elif not settings.pretrained and not isinstance(make, nn.Module):
        note("no --checkpoint given: the weights are those that the callable makes, usually random")
    return net.float().eval().requires_grad_(False), known


def fill_lazy(net: Any, settings: argparse.Namespace, known: dict[str, Any]) -> None:
    """Let lazy layers take their shapes from a sample."""
    import torch

    inputs = read_inputs(settings.input_shape)
    if not inputs and "shape" in known:
        inputs = [Input("input", known["shape"])]
    if not inputs:
        raise Problem(
            "--input-shape is needed, because lazy layers take their shapes from a sample"
        )
    inputs = described(inputs, net, parameters_of(net.forward))
    try:
        with torch.no_grad():
            net.eval()(*zeros(inputs))
    except Exception as error:
        shapes = " and ".join(str(i.shape) for i in inputs)
        raise Problem(
            f"--input-shape {shapes}: the model does not take it: {reason_of(error)}"
        ) from None


def look_up(where: str, name: str, model: str) -> Any:
    """Import a callable from a module or a file."""
    try:
        if where.endswith(".py"):
            if not Path(where).is_file():
                raise Problem(f"{model}: there is no file {where}")
            sys.path.insert(0, str(Path(where).resolve().parent))
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except Problem:
        raise
    except SystemExit:
        raise Problem(
            f"{model}: {where} ends when it is imported; put what runs a training under "
            "`if __name__ == '__main__':`"
        ) from None
    except Exception as error:
        raise Problem(f"{model}: {where} cannot be imported ({reason_of(error)})") from None
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            here = [
                n for n in dir(target) if not n.startswith("_") and callable(getattr(target, n))
            ]
            raise Problem(f"{model}: {where} has no {name}; it has {', '.join(here[:12])}")
        target = getattr(target, part)
    if not callable(target):
        raise Problem(f"{model}: this is a {type(target).__name__}, not a callable")
    return target


def import_torchvision() -> Any:
    """Import torchvision, with a CPU build of torch too.

    torchvision's own operators are missing where its library does not fit torch; it then fails on
    registering shapes for them. None of them is in a classifier, so that names are enough.
    """
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for op in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        # Kept alive: the operators go when the library does.
        torch._onnx_geed_torchvision = library  # type: ignore[attr-defined]
        return importlib.import_module("torchvision")


def torchvision_model(name: str, pretrained: bool) -> tuple[Callable[..., Any], dict[str, Any]]:
    with missing("torchvision", "pip install torchvision"):
        models = import_torchvision().models
    try:
        make, listed = models.get_model_builder(name), models.get_model_weights(name)
    except ValueError:
        raise Problem(
            f"torchvision:{name}: no such model{near(name, models.list_models())}"
        ) from None
    known: dict[str, Any] = {}
    weights = next(
        iter(listed), None
    )  # the first is what --checkpoint files mostly were trained as
    if pretrained:
        weights = listed.DEFAULT
    if weights is not None:
        steps = weights.transforms()
        with contextlib.suppress(AttributeError):
            known["preprocess"] = checked_preprocess(
                {
                    "resize": steps.resize_size[0],
                    "crop": steps.crop_size[0],
                    "channels": "RGB",
                    "mean": list(steps.mean),
                    "std": list(steps.std),
                    "interpolation": steps.interpolation.value,
                },
                "torchvision",
            )
            known["shape"] = (3, steps.crop_size[0], steps.crop_size[0])
            known["kind"] = "logits"
        if pretrained:
            known["classes"] = weights.meta.get("categories")
    # Some would otherwise download a backbone, or warn of initialisation to come.
    options: dict[str, Any] = {"weights": weights if pretrained else None}
    if "init_weights" in inspect.signature(make).parameters or name in (
        "googlenet",
        "inception_v3",
    ):
        options["init_weights"] = True
    return lambda **kwargs: make(**{**options, **kwargs}), known


def timm_model(name: str, pretrained: bool) -> Callable[..., Any]:
    with contextlib.suppress(Exception):
        import_torchvision()
    with missing("timm", "pip install timm"):
        import timm
    base = name.split(".")[0]
    if not timm.is_model(base):
        raise Problem(f"timm:{name}: no such model{near(base, timm.list_models())}")
    return lambda **kwargs: timm.create_model(name, pretrained=pretrained, **kwargs)


def timm_knows(net: Any) -> dict[str, Any]:
    config = {**getattr(net, "default_cfg", {}), **getattr(net, "pretrained_cfg", {})}
    size = config.get("test_input_size") if not config.get("input_size") else config["input_size"]
    if not size:
        return {}
    crop, share = int(size[-1]), config.get("crop_pct") or 0.875
    preprocess = {
        "resize": int(crop / share),
        "crop": crop,
        "channels": "RGB",
        "mean": list(config.get("mean", (0.485, 0.456, 0.406))),
        "std": list(config.get("std", (0.229, 0.224, 0.225))),
        "interpolation": config.get("interpolation", "bilinear"),
    }
    known: dict[str, Any] = {
        "shape": tuple(size),
        "preprocess": checked_preprocess(preprocess, "timm"),
        "kind": "logits" if getattr(net, "num_classes", 0) else "embedding",
    }
    return known


def near(name: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def replace_by_identity(net: Any, path: str) -> None:
    from torch import nn

    try:
        net.get_submodule(path)
    except AttributeError:
        raise Problem(
            f"--identity {path}: no such module; the modules are "
            f"{', '.join(n for n, _ in net.named_children())}"
        ) from None
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, nn.Identity())


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
    exporters: dict[str, Callable[[], Any]] = {
        "dynamo": lambda: newer(net, inputs, [{0: batch} for _ in inputs], settings.opset),
        "torchscript": lambda: older(net, inputs, settings.opset),
    }
    names = ["dynamo", "torchscript"] if settings.exporter == "auto" else [settings.exporter]
    # A user who has taken the head off does not have logits any more.
    kind = "embedding" if settings.identity else known.get("kind")
    return Source(
        forward=lambda *x: run(net, *x),
        inputs=inputs,
        exports=[(f"{name} exporter", exporters[name]) for name in names],
        watch=lambda *x: watch(net, x, settings.latent),
        preprocess=known.get("preprocess"),
        classes=known.get("classes"),
        kind=kind,
        layouts=layouts,
    )


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


def take_output(net: Any, key: str) -> None:
    """Make `forward` return one of several tensors; module paths stay as they are."""
    kind = type(net)

    def forward(self: Any, *x: Any) -> Any:
        options = tensors_of(kind.forward(self, *x))
        if key not in options:
            raise Problem(f"--take {key}: the outputs are {listing(options)}")
        return options[key]

    net.__class__ = type(
        kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__}
    )


def tensors_of(value: Any) -> dict[str, Any]:
    import torch

    if isinstance(value, torch.Tensor):
        return {"0": value}
    if dataclasses.is_dataclass(value) and not hasattr(value, "items"):
        pairs = list(vars(value).items())
    elif hasattr(value, "_asdict"):
        pairs = [*enumerate(value), *value._asdict().items()]
    elif hasattr(value, "items"):
        pairs = list(value.items())
    else:
        pairs = list(enumerate(value)) if isinstance(value, (list, tuple)) else []
    return {str(k): v for k, v in pairs if isinstance(v, torch.Tensor)}


def listing(options: dict[str, Any]) -> str:
    return ", ".join(f"{k} {tuple(v.shape)}" for k, v in options.items()) or "no tensors"


def run(net: Callable[..., Any], *x: Any) -> Any:
    import torch

    with torch.no_grad():
        value = net(*(torch.from_numpy(a.copy()) for a in x))  # which the model may change in place
    if not isinstance(value, torch.Tensor):
        raise Problem(
            f"the model returns a {type(value).__name__}; choose an output with --take KEY from "
            f"{listing(tensors_of(value))}"
        )
    return value.float().numpy()


def watch(net: Any, x: Sequence[Any], latent: str | None) -> dict[str, Any]:
    """Return what each module puts out last, copied before something changes it in place."""
    import torch

    seen: dict[str, Any] = {}

    def hook(path: str) -> Callable[..., None]:
        def keep(_: Any, read: tuple[Any, ...], value: Any) -> None:
            tensor = next((r for r in read if isinstance(r, torch.Tensor)), None)
            if latent == f"{path}:in" and tensor is not None:
                seen[latent] = fingerprint(tensor.detach().float().numpy())
            # escnn puts out a GeometricTensor, which carries a tensor.
            tensor = getattr(value, "tensor", value)
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                seen[path] = fingerprint(tensor.detach().float().numpy())

        return keep

    hooks = [
        module.register_forward_hook(hook(path))
        for path, module in net.named_modules(remove_duplicate=False)
        if path
    ]
    try:
        with torch.no_grad():
            net(*(torch.from_numpy(a.copy()) for a in x))
    finally:
        for handle in hooks:
            handle.remove()
    return seen


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


def inlined(proto: Any) -> Any:
    if not proto.functions:
        return proto
    import onnx.inliner

    return onnx.inliner.inline_local_functions(proto)


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


def from_program(settings: argparse.Namespace, inputs: list[Input]) -> Source:
    """Describe a saved program: torch.export's, or TorchScript's."""
    import torch

    if settings.checkpoint or settings.identity or settings.take or settings.kwargs != "{}":
        raise Problem(
            f"{settings.model}: is an exported program; --checkpoint, --identity, --take and --kwargs only work for modules"
        )
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
    inputs = [
        Input(name, tuple(a.shape[1:]), str(a.dtype).removeprefix("torch."))
        for name, a in zip(called, args, strict=True)
    ]
    if other := next((i.dtype for i in inputs if i.dtype not in DTYPES), None):
        raise Problem(f"{path}: takes {other}; {' or '.join(DTYPES)} is needed")
    inputs = described(inputs, module, None)
    return Source(
        forward=lambda *x: run(module, *x),
        inputs=inputs,
        exports=[
            ("dynamo exporter", lambda: newer(program, inputs, None, settings.opset)),
            ("torchscript exporter", lambda: older(module, inputs, settings.opset)),
        ],
        watch=lambda *x: interpret(module, *x),
    )


def archive_names(path: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def interpret(module: Any, *x: Any) -> dict[str, Any]:
    """Run a program node by node; what a module puts out is the value of its last node."""
    import torch

    seen: dict[str, Any] = {}

    class Watching(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                stack = (n.meta or {}).get("nn_module_stack") or {}
                for path, _ in stack.values():
                    clean = path.removeprefix("L['self'].").removeprefix("L__self__.")
                    if clean:
                        seen[clean] = fingerprint(value.detach().float().numpy())
            return value

    with torch.no_grad():
        Watching(module).run(*(torch.from_numpy(a.copy()) for a in x))
    return seen


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    command(arguments(), convert)
