"""The embedded default: a small CNN, the same network untrained, and real digits."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_geed.results import Result

__all__ = ["demo_data", "demo_results", "demo_text", "write_demo_page"]

_NETWORKS = ("digits_cnn.onnx", "digits_cnn_untrained.onnx")

# Digits of each network that can be looked at.
_SHOWN = 24


def demo_results(
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Result, Result]:
    """Measure the trained and the untrained network on the embedded digits under C8.

    Parameters
    ----------
    progress : callable, optional
        Told how far each run is.

    Returns
    -------
    trained, untrained : dict
        Results of :func:`onnx_geed.measure`.
    """
    from onnx_geed.run import begin_run, measure

    results = []
    with as_file(files(__name__)) as folder:
        for i, name in enumerate(_NETWORKS):
            begin_run(progress, i, len(_NETWORKS), name)
            results.append(
                measure(
                    folder / name,
                    f"{folder / 'digits.npz'}",
                    "C8",
                    progress=progress,
                    command="onnx-geed demo",
                )
            )
    return results[0], results[1]


@contextmanager
def demo_data() -> Iterator[str]:
    """Give the path of the embedded digits, as ``--data`` takes it."""
    with as_file(files(__name__)) as folder:
        yield f"{folder / 'digits.npz'}"


def demo_text(trained: Result, untrained: Result) -> str:
    """Return the tables of :func:`demo_results`, and what they mean."""
    from onnx_geed.report import table

    return "\n".join(
        (
            "A small CNN trained on rotated MNIST digits 0-8, under rotations by 45° (C8):",
            "",
            table(trained),
            "",
            "The same network untrained:",
            "",
            table(untrained),
            "",
            _meaning(trained, untrained),
        )
    )


def write_demo_page(results: Sequence[Result], page: str | Path, command: str) -> None:
    """Write a page of both networks on which single digits can be looked at.

    Parameters
    ----------
    results : sequence of dict
        What :func:`demo_results` returns.
    page : str or Path
        The HTML file.
    command : str
        The command that the page names as its own.

    Raises
    ------
    GeedError
        If the page cannot be written, or what draws it is not installed.
    """
    from onnx_geed.report import samples_to_show, write_report
    from onnx_geed.run import explore

    with demo_data() as data:
        explorations = [
            explore(result, Path(data).parent / name, data, samples_to_show(result, _SHOWN))
            for result, name in zip(results, _NETWORKS, strict=True)
        ]
        write_report(results, page, data=data, explorations=explorations, command=command)


def _meaning(trained: Result, untrained: Result) -> str:
    """Return three sentences, every number and direction of which is read from the results."""
    from onnx_geed.measures import descriptor_of, told

    def value(result: Result, measure: str, position: int = 0) -> float:
        records = [r for r in result["measurements"] if r["measure"] == measure]
        number = records[position]["value"]
        assert number is not None, "the demo's M is positive"
        return told(descriptor_of(measure), number)

    first, last = value(trained, "channel-cos"), value(trained, "channel-cos", -1)
    latent, latent0 = value(trained, "latent-l2"), value(untrained, "latent-l2")
    softmax, softmax0 = value(trained, "softmax-kl"), value(untrained, "softmax-kl")
    channels = (
        f"channel-cos is the cosine of feature maps: 1 if rotating the image just rotates every "
        f"map. It goes from {first:.2f} in the first block to {last:.2f} in the last, so "
        "training on rotated digits did "
        + ("not make the layers equivariant." if last < 0.9 else "make the layers equivariant.")
    )
    latents = (
        f"In the latent space the orbit of a digit spreads {latent:.2f} times as far as different "
        f"digits are apart (untrained: {latent0:.2f}), so the trained network is the "
        + ("more" if latent < latent0 else "less")
        + " invariant one there"
        + (", but not through equivariant layers." if latent < latent0 and last < 0.9 else ".")
    )
    outputs = (
        f"Its predictions move by {softmax:.3g} nats under rotation and the untrained network's by "
        f"{softmax0:.2g}: "
        + (
            "the untrained one looks invariant only because it hardly reacts to its input. One "
            "measure alone is not enough."
            if softmax0 < softmax
            else "here too the trained network is the more invariant one."
        )
    )
    return "\n".join(textwrap.fill(text, 100) for text in (channels, latents, outputs))
