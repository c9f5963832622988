"""What a network of PyTorch puts out, and what each of its modules does."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

if __package__:
    from ._graph import fingerprint
    from ._options import Problem
else:
    from _graph import fingerprint
    from _options import Problem


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
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
