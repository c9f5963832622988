"""Measure a model and keep its activations: a cache is written, and then measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_geed.arguments import checked
from onnx_geed.cache.contents import Dtype, Mode
from onnx_geed.cache.measure import measure_cache
from onnx_geed.cache.write import write_chosen
from onnx_geed.errors import GeedError
from onnx_geed.results import Interval, Result
from onnx_geed.run import Executor, ExecutorName, Progress, machine_notes, make_options

__all__ = ["measure_through_cache"]

# Options that a cache cannot serve, by what they would do.
_AGAIN = ("references", "untrained")


@checked
def measure_through_cache(
    model: Any,
    data: Any,
    group: Any,
    folder: str | Path,
    *,
    mode: Mode = "raw",
    dtype: Dtype = "float32",
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    command: str | None = None,
    limits: Sequence[str] = (),
    interval: Interval = "t",
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    **options: Any,
) -> Result:
    """Write a cache of a model's activations, or finish one, and measure it.

    Parameters
    ----------
    model, data, group
        As for :func:`onnx_geed.measure`.
    folder : str or Path
        The cache, a folder ``NAME.geed``.
    mode, dtype, notify
        As :func:`onnx_geed.write_cache` takes them.
    progress : callable, optional
        Told of orbits that are written and measured, of all.
    command : str, optional
        The command to store in the result.
    limits : sequence of str
        As for :func:`onnx_geed.measure`.
    interval : {"t", "bootstrap"}
        Interval over samples.
    executor, address
        As for :func:`onnx_geed.measure`.
    **options
        Further fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        The result of schema ``onnx-geed/result/1``, as :func:`onnx_geed.measure_cache` returns it.

    Raises
    ------
    GeedError
        If an option asks for what a cache cannot keep, and whatever :func:`onnx_geed.write_cache`
        and :func:`onnx_geed.measure_cache` refuse.
    """
    if options.pop("engine", "auto") == "graph":
        raise GeedError(
            "--engine graph: computes without storing activations; leave out --cache or --engine."
        )
    if options.pop("precision", None) is not None:
        raise GeedError(
            "--precision: a cache holds a fixed number of orbits; write it with --samples N, then "
            "measure the cache with --precision."
        )
    for name in _AGAIN:
        if options.pop(name, False):
            raise GeedError(
                f"--{name}: needs further runs of the model, which a cache does not store; leave "
                "--cache out."
            )
    write_chosen(
        model,
        data,
        group,
        folder,
        chosen=make_options(options),
        mode=mode,
        dtype=dtype,
        progress=None if progress is None else _Half(progress, 0),
        notify=notify,
        limits=limits,
        executor=executor,
        address=address,
    )
    result = measure_cache(
        folder,
        measures=options.get("measures", ()),
        target=options.get("target", {}),
        interval=interval,
        background=options.get("background"),
        progress=None if progress is None else _Half(progress, 1),
        command=command,
    )
    # Here the model did run.
    running = machine_notes(result["runtime"]["provider"], options.get("provider", "auto"))
    result["notes"] = [*running, *result["notes"]]
    return result


@dataclass(frozen=True)
class _Half:
    """Tells of one half of a run: orbits are written, and then measured."""

    progress: Progress
    before: int

    def begin(self, unit: str) -> None:
        """Say what is counted."""
        if (begin := getattr(self.progress, "begin", None)) is not None:
            begin(unit)

    def __call__(self, done: int, total: int) -> None:
        self.progress(self.before * total + done, 2 * total)
