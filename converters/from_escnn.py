# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "escnn>=1.0.11", "numpy>=2.0", "onnx>=1.17", "onnxruntime>=1.20", "torch>=2.6", "pillow>=10.1"
# ]
# ///
"""Turn an escnn steerable network into an ONNX file that says how a group moves its channels.

  from_escnn.py nets.py:C8Net --checkpoint net.pt --input-shape 1,29,29 -o net.onnx

For every equivariant module whose fibres are permuted (regular, quotient and trivial fields), the
file has a table of that permutation, and `onnx-geed measure` then compares matched channels.
A full installation of escnn needs Fortran. To install it without:

  pip install torch onnx onnxruntime scipy joblib && pip install --no-deps escnn==1.0.11
"""

from __future__ import annotations

import argparse
import sys
import types
import warnings
from dataclasses import dataclass, replace
from typing import Any

if __package__:
    from ._exporters import older, zeros
    from ._finish import Source, finish
    from ._inputs import Input, read_inputs
    from ._options import Problem, command, missing, note, parser, reason_of
    from ._torch_modules import build, described
    from ._torch_outputs import run, watch
    from .from_torch import add_weights, annotated
else:
    from _exporters import older, zeros
    from _finish import Source, finish
    from _inputs import Input, read_inputs
    from _options import Problem, command, missing, note, parser, reason_of
    from _torch_modules import build, described
    from _torch_outputs import run, watch
    from from_torch import add_weights, annotated

INSTALL = "pip install torch scipy joblib, then pip install --no-deps escnn==1.0.11"
# How far a matrix may be from a permutation: they are computed in floating point.
_CLOSE = 1e-4


@dataclass(frozen=True, eq=False)
class Field:
    """What a module puts out: escnn's type of it, and how many axes it has."""

    kind: Any = None
    axes: int = 0


def arguments() -> argparse.ArgumentParser:
    command_parser = parser(
        __doc__ or "", "MODULE:CALLABLE or FILE.py:CALLABLE that makes the network (or is it)"
    )
    add_weights(command_parser.add_argument_group("the model"))
    command_parser.add_argument("--opset", type=int, help="ONNX opset (default: the exporter's)")
    return command_parser


def convert(settings: argparse.Namespace) -> None:
    with missing("torch", INSTALL):
        import torch
    stand_in()
    warnings.simplefilter("ignore")
    with missing("escnn", INSTALL):
        import escnn.nn
    torch.manual_seed(settings.seed)
    settings.pretrained = False
    inputs = read_inputs(settings.input_shape)
    if not inputs:
        raise Problem("--input-shape is needed: the shape of one sample, such as 1,29,29")
    net, _ = build(settings)
    if not any(isinstance(m, escnn.nn.EquivariantModule) for m in net.modules()):
        raise Problem(f"{settings.model}: has no escnn module; use from_torch.py instead")
    inputs = described(inputs, net, None)
    plain_tensors(net)
    types_ = fields(net, inputs)
    if (taken := types_.pop("input", None)) and letters(taken) != ("NCHW", ""):
        note("the input is not a scalar field; --input-layout must state its layout")
        inputs = [replace(i, layout="") for i in inputs]
    if letters(types_.get("", Field()))[0].startswith("NX"):
        point_right_and_down(net, vector_axes(types_[""].kind))
    inputs, stated = annotated(net, inputs)
    finish(
        Source(
            forward=lambda *x: run(net, *x),
            inputs=inputs,
            # The newer exporter does not trace what escnn does with its field types.
            exports=[("torchscript exporter", lambda: older(net, inputs, settings.opset))],
            watch=lambda *x: watch(net, x, settings.latent),
            actions=actions(types_),
            layouts=layouts(types_) | stated,
        ),
        settings,
    )


def stand_in() -> None:
    """Let escnn be imported without lie_learn, which only its groups in space need."""
    try:
        import lie_learn  # noqa: F401
    except ImportError:
        name = "lie_learn.representations.SO3.wigner_d"
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            module = types.ModuleType(".".join(parts[:i]))
            module.__path__ = []
            sys.modules.setdefault(module.__name__, module)
        sys.modules[name].wigner_D_matrix = None  # type: ignore[attr-defined]


def plain_tensors(net: Any) -> None:
    """Make a network of geometric tensors take and give plain ones; module paths stay."""
    import escnn.nn
    import torch

    kind = type(net)
    wraps = isinstance(net, escnn.nn.EquivariantModule)

    def forward(self: Any, x: Any) -> Any:
        if wraps and isinstance(x, torch.Tensor):
            x = escnn.nn.GeometricTensor(x, self.in_type)
        value = kind.forward(self, x)
        return getattr(value, "tensor", value)

    net.__class__ = type(
        kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__}
    )


def point_right_and_down(net: Any, axes: Any) -> None:
    """Make a network put out vectors (right, down), as rows are counted, of escnn's (right, up)."""
    kind = type(net)
    places = abs(axes).argmax(1)
    signs = [float(row[place]) for row, place in zip(axes, places, strict=True)]

    def forward(self: Any, x: Any) -> Any:
        value = kind.forward(self, x)
        factors = value.new_tensor(signs).reshape(1, 2, *[1] * (value.ndim - 2))
        return value[:, places.tolist()] * factors

    net.__class__ = type(
        kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__}
    )
    first, second = (f"{'-' if s < 0 else ''}v{p}" for s, p in zip(signs, places, strict=True))
    note(f"the output is a vector (v0, v1); in the file it is (right, down) = ({first}, {second})")


def fields(net: Any, inputs: list[Input]) -> dict[str, Field]:
    """Return what kind of field every module puts out, by module path.

    That of the network itself has an empty one, that of what it takes is called ``input``.
    """
    import torch

    seen: dict[str, Field] = {}
    last: list[Any] = []

    def hook(path: str) -> Any:
        def keep(_: Any, read: tuple[Any, ...], value: Any) -> None:
            if read and getattr(read[0], "tensor", None) is batch[0]:
                seen["input"] = Field(read[0].type, batch[0].ndim)
            if hasattr(value, "type") and hasattr(value, "tensor"):
                seen[path] = Field(value.type, value.tensor.ndim)
                last[:] = [value]

        return keep

    handles = [
        module.register_forward_hook(hook(path))
        for path, module in net.named_modules(remove_duplicate=False)
        if path
    ]
    torch.manual_seed(0)
    batch = [torch.randn(x.shape).to(x.dtype) for x in zeros(inputs)]
    try:
        with torch.no_grad():
            output = net(*batch)
    except Exception as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in batch)
        raise Problem(
            f"the model does not take a batch of shape {shapes}: {reason_of(error)}; "
            "--input-shape must be the shape of one sample"
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    # What a network puts out is its last field, or the mean of that over the plane.
    if last and isinstance(output, torch.Tensor):
        tensor = last[0].tensor
        for same in (tensor, tensor.mean((2, 3)) if tensor.ndim == 4 else tensor):
            if same.shape == output.shape and torch.allclose(same, output, atol=1e-5):
                seen[""] = Field(last[0].type, output.ndim)
                break
    return seen


def layouts(types_: dict[str, Field]) -> dict[str, str]:
    """Return the layouts of what modules put out, by module path, where fields say them."""
    known: dict[str, str] = {}
    left: dict[str, list[str]] = {}
    for path, kind in types_.items():
        layout, reason = letters(kind)
        if layout.startswith("NX") and path:
            reason = "vectors inside the network are not turned to right and down"
        elif layout:
            known[path] = layout
        if reason:
            left.setdefault(reason, []).append(path or "the output")
    for reason, paths in left.items():
        note(f"no layout for {shortened(paths)}: {reason}")
    return known


def letters(field: Field) -> tuple[str, str]:
    """Return the layout of a field, or why it has none; neither where a table or nothing is said.

    A scalar field is NCHW. A vector field is NXHW, and NX where it has no plane any more.
    """
    kind, plane = field.kind, "HW" if field.axes == 4 else ""
    if kind is None or kind.gspace.dimensionality != 2:
        return "", ""
    if all(r.is_trivial() for r in kind.representations):
        return ("NCHW", "") if plane else ("", "")
    if vector_axes(kind) is not None:
        return f"NX{plane}", ""
    if any(r.size == 2 and len(r.irreps) == 1 for r in kind.representations):
        names = ", ".join(sorted({r.name for r in kind.representations}))
        return "", f"{len(kind.representations)} fields ({names[:80]}), no single vector"
    return "", ""


def vector_axes(kind: Any) -> Any:
    """Return the signed permutation that makes a field's vectors (right, down); None for others."""
    import numpy as np

    space = kind.gspace
    if kind.size != 2 or len(kind.representations) != 1:
        return None
    unit = np.eye(2)
    for order in (unit, unit[::-1]):
        for sign in (1.0, -1.0):
            axes = np.diag([1.0, sign]) @ order  # of escnn's field to (right, up)
            if all(
                np.abs(axes @ kind.representation(g) - space.basespace_action(g) @ axes).max()
                < _CLOSE
                for g in space.fibergroup.testing_elements()
            ):
                return np.diag([1.0, -1.0]) @ axes
    return None


def shortened(paths: list[str]) -> str:
    return f"{', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}"


def actions(types_: dict[str, Field]) -> dict[str, dict[str, Any]]:
    """Return channel tables of the modules that put out geometric tensors, by module path."""
    tables: dict[str, dict[str, Any]] = {}
    left: dict[str, list[str]] = {}
    said = False
    for path, field in types_.items():
        layout, reason = letters(field)
        said = said or layout.startswith("NX")
        if not path or layout or reason:
            continue
        table = channel_table(field.kind)
        if isinstance(table, str):
            left.setdefault(table, []).append(path)
        elif any(row != sorted(row) for row in table["channels"]):
            tables[path] = table
    for reason, paths in left.items():
        note(f"no channel table for {shortened(paths)}: {reason}")
    if not tables and not said:
        note("no module has channels that the group permutes, so the file has no action table")
    return tables


def channel_table(kind: Any) -> dict[str, Any] | str:
    """Return the table of a field type in the element names of onnx-geed, or why there is none.

    Notes
    -----
    A table gathers, out[c] = in[table[g][c]], so that its rows are where the ones of rho(g) are.
    """
    import numpy as np

    names = element_names(kind.gspace)
    if isinstance(names, str):
        return names
    rows = {}
    for element, name in names:
        matrix = np.asarray(kind.representation(element))
        row = np.abs(matrix).argmax(1)
        ideal = np.zeros_like(matrix)
        ideal[np.arange(len(row)), row] = 1
        if np.abs(matrix - ideal).max() > _CLOSE:
            fields = sorted({r.name for r in kind.representations})
            return f"fields {', '.join(fields)[:80]} are not permuted by {kind.gspace.name}"
        rows[name] = [int(c) for c in row]
    order = sorted(rows, key=element_order)
    table = {"elements": order, "channels": [rows[name] for name in order]}
    if "flip" in rows:  # which of two groups have
        moved = next(g for g, name in names if name == "flip")
        across = np.asarray(kind.gspace.basespace_action(moved), float)[0, 0] < 0
        table["group"] = "flip-h" if across else "flip-v"
    return table


def element_order(name: str) -> tuple[bool, int]:
    number = name.removeprefix("s").removeprefix("r")
    return name.startswith("s"), int(number) if number.isdigit() else int(name == "flip")


def element_names(space: Any) -> list[tuple[Any, str]] | str:
    """Name a group's elements by what they do to the plane.

    r<k> rotates by 360 k / n degrees counter-clockwise, and s r<k> mirrors left-right after that.
    Their matrices settle it, whatever escnn's own parameters and axis of reflection mean.
    """
    import numpy as np

    group = space.fibergroup
    if getattr(space, "dimensionality", 0) != 2:
        return "the network does not act on the plane"
    if group.order() < 1:
        return f"{group.name} is not a finite group"
    moves = [(g, np.asarray(space.basespace_action(g), float)) for g in group.elements]
    turns = sum(np.linalg.det(m) > 0 for _, m in moves)
    mirror = np.diag([-1.0, 1.0])
    expected: dict[str, Any] = {}
    for k in range(turns):
        c, s = np.cos(2 * np.pi * k / turns), np.sin(2 * np.pi * k / turns)
        turn = np.array([[c, -s], [s, c]])
        expected[f"r{k}" if k else "e"] = turn
        if len(moves) > turns:
            expected[f"sr{k}" if k else "s"] = mirror @ turn
    if len(moves) == 2 and turns == 1:
        flips = {"flip-h": mirror, "flip-v": -mirror}
        other = next(m for _, m in moves if np.linalg.det(m) < 0)
        if not any(np.abs(other - m).max() < _CLOSE for m in flips.values()):
            return "its mirror is neither left-right nor up-down"
        expected = {"e": np.eye(2), "flip": other}
    named = []
    for g, m in moves:
        near = [n for n, e in expected.items() if np.abs(e - m).max() < _CLOSE]
        if len(near) != 1:
            return f"{space.name}: its mirrors are not those of a left-right mirror and rotations"
        named.append((g, near[0]))
    if sorted(n for _, n in named) != sorted(expected):
        return f"{space.name} does not act faithfully on the plane"
    return named


if __name__ == "__main__":
    command(arguments(), convert)
