"""Modules of PyTorch: made by a callable, torchvision or timm, and given their weights."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

if __package__:
    from ._callables import look_up, parameters_of
    from ._exporters import zeros
    from ._inputs import Input, in_order, main_by_channels, read_inputs
    from ._options import Problem, checked_preprocess, missing, note, reason_of
    from ._weights import load_weights
else:
    from _callables import look_up, parameters_of
    from _exporters import zeros
    from _inputs import Input, in_order, main_by_channels, read_inputs
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


def described(inputs: list[Input], net: Any, parameters: Sequence[str] | None) -> list[Input]:
    """Bring inputs to the order of a model's call; an image is taken to be NCHW."""
    from torch import nn

    if len(inputs) == 1 and inputs[0].is_float and len(inputs[0].shape) == 3:
        inputs = [dataclasses.replace(inputs[0], layout="NCHW")]
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


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
