"""Notes on the machine that a run is on, which a result that is read from a cache has none of."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["machine_notes", "without_machine_notes"]

_RUNNING = {"cpu": "Running on CPU (no usable GPU)", "cuda": "Running on the GPU (CUDA)"}


def machine_notes(provider: str, asked: str) -> list[str]:
    """Say where a model runs, if that was left to the program.

    Parameters
    ----------
    provider : str
        Where it runs: ``cpu``, ``cuda``, or elsewhere, of which there is nothing to say.
    asked : str
        What ``--provider`` was; ``auto`` leaves it open.
    """
    return [_RUNNING[provider]] if asked == "auto" and provider in _RUNNING else []


def without_machine_notes(notes: Iterable[str]) -> list[str]:
    """Return notes without those of the machine, to be kept with activations."""
    return [note for note in notes if note not in _RUNNING.values()]
