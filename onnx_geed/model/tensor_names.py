"""Tensors by what a user calls them: tensor, node, module path or glob."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from onnx_geed.errors import GeedError, known_names, nearest
from onnx_geed.groups import check_layout, parse_layout
from onnx_geed.model.tensors import Tensor
from onnx_geed.text import counted

__all__ = ["patterns_first", "resolve", "stated_layouts"]

Value = TypeVar("Value")

# So many are named where none of them is meant.
_FEW = 6

# What makes a name a glob.
_GLOB = frozenset("*?[")


def resolve(listed: Sequence[Tensor], pattern: str) -> tuple[Tensor, ...]:
    """Find tensors by tensor name, node name, module path or glob.

    Parameters
    ----------
    listed : sequence of Tensor
        From :func:`list_tensors`.
    pattern : str
        The name that the user wrote.

    Returns
    -------
    tuple of Tensor
        One tensor for a name; for a module path the tensor that the metadata give it, else its
        last; for a glob all that match, or of these the default layers where there are any.

    Raises
    ------
    GeedError
        If no tensor matches, with near names.
        If a tensor that is named cannot be measured, with the reason.
    """
    fine = [t for t in listed if not t.refused]
    if tensors := [t for t in fine if t.name == pattern] or [t for t in fine if t.node == pattern]:
        return (tensors[0],)
    if tensors := [t for t in fine if pattern in t.stated]:
        return (tensors[-1],)
    inside = [t for t in fine if any(_within(m, pattern) for m in t.module.split(","))]
    if inside:
        return (inside[-1],)
    if set(pattern) & _GLOB:
        tests: list[Callable[[Tensor], bool]] = [
            lambda t: fnmatch.fnmatchcase(t.name, pattern),
            lambda t: any(fnmatch.fnmatchcase(m, pattern) for m in (t.node, *t.module.split(","))),
        ]
        for test in tests:
            if matched := [t for t in fine if test(t)]:
                return _preferred(matched)
    for tensor in listed:
        if pattern in (tensor.name, tensor.node or None):
            raise GeedError(f"layer {pattern!r} {tensor.refused}; name another tensor")
    names = [t.name for t in fine] + [m for t in fine for m in t.module.split(",") if m]
    few = f" Tensors: {known_names([t.name for t in fine])};" if 0 < len(fine) <= _FEW else ""
    raise GeedError(
        f"no layer is called {pattern!r}.{nearest(pattern, names)}{few} onnx-geed layers lists "
        "all layers"
    )


def patterns_first(listed: Sequence[Tensor], given: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return what a user gives by names and patterns in the order in which it counts.

    Parameters
    ----------
    listed : sequence of Tensor
        From :func:`list_tensors`.
    given : mapping of str to object
        By names or patterns as :func:`resolve` takes them.

    Returns
    -------
    list of (str, object)
        Globs first, each kind in its own order: where the last one counts, a name counts over any
        glob, wherever it was written.
    """
    exact = {name for t in listed for name in (t.name, t.node)}
    return sorted(given.items(), key=lambda item: item[0] in exact or not set(item[0]) & _GLOB)


def stated_layouts(listed: Sequence[Tensor], stated: Mapping[str, str]) -> dict[str, str]:
    """Return the layouts that a user states, by tensor.

    Parameters
    ----------
    listed : sequence of Tensor
        From :func:`list_tensors`.
    stated : mapping of str to str
        Layouts by names or patterns as :func:`resolve` takes them.

    Returns
    -------
    dict of str to str
        Of several tensors that a glob names, those with as many axes as the layout has; a name
        counts over a glob.

    Raises
    ------
    GeedError
        If a text is no layout.
        If no tensor matches, or one that is named cannot be measured.
        If no tensor that is named has as many axes.
    """
    layouts: dict[str, str] = {}
    for key, text in patterns_first(listed, stated):
        rank = parse_layout(check_layout(text)).rank
        tensors = resolve(listed, key)
        fits = [t for t in tensors if t.shape is None or len(t.shape) == rank]
        if not fits:
            axes = len(tensors[0].shape or ())
            raise GeedError(
                (
                    f"--layout {key}={text}: is for {counted(rank, 'axis', 'axes')}, but tensor "
                    f"{tensors[0].name!r} "
                    f"has {axes}"
                )
                + ("; for tokens, write NTD:<H>x<W>" if axes == 3 else "")
            )
        layouts |= {t.name: text for t in fits}
    return layouts


def _within(module: str, path: str) -> bool:
    return module == path or module.startswith(path + ".")


def _preferred(matched: list[Tensor]) -> tuple[Tensor, ...]:
    measured = [t for t in matched if t.roles]
    points = [t for t in matched if t.point]
    return tuple(measured or points or matched)
