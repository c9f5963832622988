"""MODULE:CALLABLE and FILE.py:CALLABLE: how a converter is told of a model."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__:
    from ._options import Problem, reason_of
else:
    from _options import Problem, reason_of


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


def parameters_of(function: Callable[..., Any]) -> list[str] | None:
    """Return what a function can be given by position; None where that is anything."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
