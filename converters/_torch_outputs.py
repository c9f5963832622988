"""What a network of PyTorch puts out, and what each of its modules does."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

if __package__:
    from ._exporters import zeros
    from ._graph import fingerprint
    from ._inputs import Input
    from ._options import Problem
else:
    from _exporters import zeros
    from _graph import fingerprint
    from _inputs import Input
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


def gives_out(net: Any, inputs: Sequence[Input], modules: Sequence[Any]) -> bool:
    """Whether the output is what one of these modules gives out, in whatever shape."""
    import torch

    seen: list[Any] = []
    hooks = [m.register_forward_hook(lambda _, __, value: seen.append(value)) for m in modules]
    if not hooks:
        return False
    draw = torch.Generator().manual_seed(0)
    batch = [
        torch.rand(2, *i.shape, generator=draw) if i.is_float else zero
        for i, zero in zip(inputs, zeros(inputs), strict=True)
    ]
    try:
        with torch.no_grad():
            output = net(*batch)
    except Exception:  # what it does not take is told where it is described
        return False
    finally:
        for handle in hooks:
            handle.remove()
    return isinstance(output, torch.Tensor) and any(
        isinstance(value, torch.Tensor) and torch.equal(value.reshape(-1), output.reshape(-1))
        for value in seen
    )


def interpret(module: Any, *x: Any) -> dict[str, Any]:
    """Run a program node by node, and return what each module puts out, if that is one tensor."""
    import torch

    seen: dict[str, Any] = {}
    paths = put_out(module.graph)

    class Watching(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                for path in paths.get(n, ()):
                    seen[path] = fingerprint(value.detach().float().numpy())
            return value

    with torch.no_grad():
        Watching(module).run(*(torch.from_numpy(a.copy()) for a in x))
    return seen


def put_out(graph: Any) -> dict[Any, list[str]]:
    """Return the paths of modules by the node of a program that they put out in their last call.

    A module of which several nodes are read from outside puts out several tensors, and none is it.
    """
    calls: dict[str, tuple[str, list[Any]]] = {}
    for node in graph.nodes:
        for call, (path, _) in ((node.meta or {}).get("nn_module_stack") or {}).items():
            clean = path.removeprefix("L['self'].").removeprefix("L__self__.")
            if clean:
                calls.setdefault(call, (clean, []))[1].append(node)
    found: dict[str, Any] = {}
    for path, nodes in calls.values():
        within = {*nodes}
        # Statistics that a batch norm keeps go out too, into its own buffers.
        read = [n for n in nodes if any(u not in within and not _keeps(u) for u in n.users)]
        # Where none is read, the module has changed its input in place.
        found[path] = (read or nodes[-1:])[0] if len(read) < 2 else None
    paths: dict[Any, list[str]] = {}
    for path, node in found.items():
        if node is not None:
            paths.setdefault(node, []).append(path)
    return paths


def _keeps(node: Any) -> bool:
    return "copy_" in str(node.target)


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
