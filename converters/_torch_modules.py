"""Modules of PyTorch: made by a callable, torchvision or timm, and given their weights."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

if __package__:
    from ._callables import look_up, parameters_of
    from ._exporters import zeros
    from ._inputs import Input, in_order, layout_by_shape, main_by_channels, read_inputs
    from ._options import Problem, checked_preprocess, missing, note, reason_of
    from ._weights import load_weights
else:
    from _callables import look_up, parameters_of
    from _exporters import zeros
    from _inputs import Input, in_order, layout_by_shape, main_by_channels, read_inputs
    from _options import Problem, checked_preprocess, missing, note, reason_of
    from _weights import load_weights


def build(settings: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Make the module, load its weights, and return what its library knows of it."""
    from torch import nn

    try:
        kwargs = json.loads(settings.kwargs)
    except ValueError as error:
        raise Problem(f"--kwargs {settings.kwargs}: not JSON ({error})") from None
    if not isinstance(kwargs, dict):
        raise Problem(f"--kwargs {settings.kwargs}: not a JSON object")
    check_weight_options(settings)
    where, colon, name = settings.model.rpartition(":")
    if not colon or not where or not name:
        raise Problem(f"{settings.model}: neither a file nor MODULE:CALLABLE")
    if settings.pretrained and where not in ("torchvision", "timm"):
        raise Problem(
            f"--pretrained: only torchvision:NAME and timm:NAME have trained weights to download, "
            f"not {settings.model}; see --checkpoint"
        )
    known: dict[str, Any] = {}
    if where == "torchvision":
        make, known = torchvision_model(name, settings, kwargs)
    elif where == "timm":
        make = timm_model(name, settings.pretrained)
    else:
        make = look_up(where, name, settings.model)
    if isinstance(make, nn.Module):
        if kwargs:
            raise Problem(
                f"--kwargs {settings.kwargs}: {settings.model} is a module that is made already; "
                "name what makes it"
            )
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
    known["replaced"] = []
    for path in settings.identity:
        known["replaced"] += replace_by_identity(net, path)
        settings.allow_unexpected.append(f"{path}.*")  # the head's own weights, which go with it
    if settings.checkpoint:
        load_weights(net, settings)
    elif not settings.pretrained and not isinstance(make, nn.Module):
        note("no --checkpoint given: the weights are those that the callable makes, usually random")
    return net.float().eval().requires_grad_(False), known


def check_weight_options(settings: argparse.Namespace) -> None:
    """Refuse options that say how a checkpoint is read where there is none."""
    options = ("checkpoint_key", "prefix", "allow_missing", "allow_unexpected")
    if given := [o for o in options if getattr(settings, o) and not settings.checkpoint]:
        raise Problem(
            f"--{given[0].replace('_', '-')}: says how --checkpoint is read, which is not given; "
            "give both, or neither"
        )


def described(inputs: list[Input], net: Any, parameters: Sequence[str] | None) -> list[Input]:
    """Bring inputs to the order of a model's call; an image is NCHW unless its shape says NHWC."""
    from torch import nn

    if len(inputs) == 1 and inputs[0].is_float and len(inputs[0].shape) == 3:
        layout = layout_by_shape(inputs[0].shape) or "NCHW"
        inputs = [dataclasses.replace(inputs[0], layout=layout)]
    rows = [m.num_embeddings for m in net.modules() if isinstance(m, nn.Embedding)]
    inputs = [dataclasses.replace(i, below=min(rows, default=2)) for i in inputs]
    inputs = in_order(inputs, parameters)
    return main_by_channels(inputs) if len(inputs) > 1 else inputs


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


def torchvision_model(
    name: str, settings: argparse.Namespace, kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    pretrained = settings.pretrained
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
    family = make.__module__.rpartition(".")[2]
    # What follows torchvision sets itself where it is given weights, and refuses to be told.
    if family in ("googlenet", "inception") and not pretrained:
        options |= {"init_weights": True, "transform_input": True}
        if "transform_input" not in kwargs:
            note(
                f"torchvision:{name} is built with transform_input=true, as its published weights "
                "need; --kwargs '{\"transform_input\": false}' builds it without"
            )
    if family == "vision_transformer" and not pretrained:
        given = read_inputs(settings.input_shape)
        size = given[0].shape[-1:] if given else known.get("shape", (224,))[-1:]
        options["image_size"] = kwargs.get("image_size", *size)
        known["shape"] = (3, options["image_size"], options["image_size"])
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
    preprocess = {
        **timm_geometry(config, tuple(size[-2:])),
        "channels": "RGB",
        "mean": list(config.get("mean", (0.485, 0.456, 0.406))),
        "std": list(config.get("std", (0.229, 0.224, 0.225))),
    }
    known: dict[str, Any] = {
        "shape": tuple(size),
        "preprocess": checked_preprocess(preprocess, "timm"),
        "kind": "logits" if getattr(net, "num_classes", 0) else "embedding",
    }
    return known


def timm_geometry(config: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return how timm brings an image to its size; nothing where a file cannot state that."""
    mode = config.get("crop_mode") or "center"
    scaled = [int(length / (config.get("crop_pct") or 0.875)) for length in size]
    square = size[0] == size[1]
    resize: Any = scaled if mode == "squash" else scaled[0]
    if mode not in ("center", "squash") or (mode == "center" and not square):
        note(
            f"timm brings images to {size[0]}x{size[1]} by crop_mode={mode}, which a file cannot "
            "state: resize and crop are not stored; prepare the images so, or see --preprocess"
        )
        return {}
    return {
        "resize": resize,
        "crop": size[0] if square else list(size),
        "interpolation": config.get("interpolation", "bilinear"),
    }


def near(name: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def replace_by_identity(net: Any, path: str) -> list[Any]:
    """Put an identity in the place of a module, and return it if the module had weights."""
    from torch import nn

    try:
        module = net.get_submodule(path)
    except AttributeError:
        raise Problem(
            f"--identity {path}: no such module; the modules are "
            f"{', '.join(n for n, _ in net.named_children())}"
        ) from None
    parent, _, name = path.rpartition(".")
    identity = nn.Identity()
    setattr(net.get_submodule(parent), name, identity)
    return [identity] if any(True for _ in module.parameters()) else []


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
