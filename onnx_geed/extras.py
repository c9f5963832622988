"""Packages for one purpose, such as to read one kind of file, each installed by an extra."""

from __future__ import annotations

import importlib
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.whole import whole

__all__ = ["package"]


def package(name: str, extra: str, where: str) -> Any:
    """Import a package that an extra brings.

    Parameters
    ----------
    name : str
        The package.
    extra : str
        The extra of onnx-geed.
    where : str
        What it is wanted for, for the message.

    Returns
    -------
    module

    Raises
    ------
    GeedError
        If it is not installed, or a library that it needs is not.
    """
    try:
        with whole():
            return importlib.import_module(name)
    except (ImportError, OSError) as error:
        whose = name.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name in (name, whose)
        why = f"{whose} is not installed" if missing else f"{name} does not load: {error}"
        raise GeedError(f"{where}: {why}; pip install 'onnx-geed[{extra}]'") from None
