"""What trials of the gauntlet share: command lines, what they leave, and results held together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

DEMO = Path(str(files("onnx_geed.demo")))
MODEL, DIGITS = DEMO / "digits_cnn.onnx", DEMO / "digits.npz"
ROOT = Path(__file__).resolve().parents[1]
GEED = (sys.executable, "-m", "onnx_geed")

#: A run of the demo's network that takes no longer than the start of the interpreter.
FEW = ("--samples=12", "--norm-samples=12", "--batch-size=8")


class Failed(Exception):
    """What must hold does not."""


class Missing(Exception):
    """Something that this trial needs is not on this machine."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def hold(true: object, message: str) -> None:
    if not true:
        raise Failed(message)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}


def geed(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command line of the package to its end."""
    command = [*GEED, *map(str, words)]
    options = {"env": environment(), "text": True, "capture_output": True, **more}
    return subprocess.run(command, **options)  # type: ignore[call-overload]


def done(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run one that must end well."""
    ended = geed(*words, **more)
    hold(
        not ended.returncode, f"status {ended.returncode} of {words[0]}: {last_line(ended.stderr)}"
    )
    return ended


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def content(path: Path) -> Any:
    """A JSON file without what differs from run to run."""
    read = json.loads(path.read_text(encoding="utf-8"))
    for key in ("runtime", "created", "command"):
        read.pop(key, None)
    return read


def figures(path: Path) -> Any:
    """The figures of a result, which a cache gives as the live run does."""
    return content(path)["measurements"]


def unfinished(folder: Path) -> list[str]:
    """Files and folders that no reader knows."""
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if "unfinished" in p.name]
