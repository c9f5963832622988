"""ONNX Runtime itself: loaded, quiet, and whether what is installed of it is whole."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.whole import whole

__all__ = ["first_line", "load_runtime", "runtime_conflict"]

# What to do where the runtime is missing.
_INSTALL = "pip install onnxruntime (CPU) or onnxruntime-gpu, but not both"


def load_runtime() -> Any:
    """Return ONNX Runtime, which reports to nobody, here or elsewhere.

    Raises
    ------
    GeedError
        If it is not installed, does not load, or is there in part alone.
    """
    # From 1.29 on it would keep an identifier in the user's home, and look for a host to report to.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        with whole():
            import onnxruntime as ort
    except (ImportError, OSError) as error:
        gone = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        why = "is not installed" if gone else f"does not load ({first_line(error)})"
        raise GeedError(f"ONNX Runtime {why}: {_INSTALL}") from None
    # Two builds write the same files; where one is uninstalled, Python imports what is left.
    if not hasattr(ort, "InferenceSession"):
        fault = (
            "ONNX Runtime is only partly installed, as happens when one of its two builds is "
            "uninstalled"
        )
        raise GeedError(f"{fault}: pip uninstall -y onnxruntime onnxruntime-gpu, then {_INSTALL}")
    ort.disable_telemetry_events()  # of earlier ones on Windows, and where it was imported before
    ort.set_default_logger_severity(4)
    return ort


def runtime_conflict() -> str:
    """Say that both builds of ONNX Runtime are installed, with the cure; else nothing."""
    installed = 0
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        installed += 1
    if installed < 2:
        return ""
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
        f"pip uninstall -y onnxruntime onnxruntime-gpu, then {_INSTALL}"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, of at most 200 characters."""
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line if len(line) <= 200 else line[:197] + "..."
