"""Lazy faces: a package's public names, attached when they are first used."""

from __future__ import annotations

import ast
import importlib
from typing import Any

from onnx_geed.whole import whole

__all__ = ["lazy"]


def lazy(namespace: dict[str, Any]) -> None:
    """Attach a package's public names when they are first used.

    The names are those that the package's ``__init__.py`` imports under ``if TYPE_CHECKING``, so
    that one list serves the type checker and the running program, and importing a package loads
    nothing behind its face.

    Parameters
    ----------
    namespace : dict
        The package's ``globals()``, which gets ``__getattr__``, ``__dir__`` and ``__all__``.

    Raises
    ------
    ImportError
        If only compiled files are installed, in which the list cannot be read.
    """
    package = namespace["__name__"]
    source = namespace["__spec__"].loader.get_source(package)
    if source is None:
        raise ImportError(
            f"{package}: its names are read from its .py files, which are missing; install "
            "onnx-geed with them",
            name=package,
        )
    homes = {
        alias.asname or alias.name: (statement.module, alias.name)
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }

    def attach(name: str) -> Any:
        if name not in homes:
            raise AttributeError(_missing(package, name, homes), name=name)
        home, original = homes[name]
        with whole():
            value = getattr(importlib.import_module(home), original)
        namespace[name] = value
        return value

    namespace["__all__"] = sorted(name for name in homes if not name.startswith("__"))
    namespace["__getattr__"] = attach
    # What a notebook completes: not what the face is made of.
    namespace["__dir__"] = lambda: sorted({*homes, *filter(_is_special, namespace)})


def _is_special(name: str) -> bool:
    return name.startswith("__")


def _missing(package: str, name: str, homes: dict[str, tuple[str, str]]) -> str:
    message = f"module {package!r} has no attribute {name!r}"
    if name.startswith("__"):  # which Python asks of every module
        return message
    from onnx_geed.errors import nearest

    near = nearest(name, homes)
    return f"{message}.{near}" if near else message
