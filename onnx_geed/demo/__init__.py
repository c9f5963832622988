"""The embedded default: a small CNN, the same network untrained, and real digits."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_geed.results import Result

__all__ = ["demo_data", "demo_results", "demo_text"]


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
        for i, name in enumerate(("digits_cnn.onnx", "digits_cnn_untrained.onnx")):
            begin_run(progress, i, 2, name)
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


def _meaning(trained: Result, untrained: Result) -> str:
    """Return three sentences, every number and direction of which is read from the results."""

    def value(result: Result, measure: str, position: int = 0) -> float:
        records = [r for r in result["measurements"] if r["measure"] == measure]
        number = records[position]["value"]
        assert number is not None, "the demo's M is positive"
        return number

    first, last = value(trained, "channel-cos"), value(trained, "channel-cos", -1)
    latent, latent0 = value(trained, "latent-l2"), value(untrained, "latent-l2")
    softmax, softmax0 = value(trained, "softmax-kl"), value(untrained, "softmax-kl")
    channels = (
        f"Channelwise cosine is -1 where rotating the image just rotates every feature map: it "
        f"goes from {first:.2f} in the first block to {last:.2f} in the last, so training on "
        "rotated digits did "
        + ("not make the layers equivariant." if last > -0.9 else "make the layers equivariant.")
    )
    latents = (
        f"In the latent space the orbit of a digit spreads {latent:.2f} times as far as different "
        f"digits are apart (untrained: {latent0:.2f}), so the trained network is the "
        + ("more" if latent < latent0 else "less")
        + " invariant one there"
        + (
            ", by some other way than equivariant layers."
            if latent < latent0 and last > -0.9
            else "."
        )
    )
    outputs = (
        f"Its predictions move by {softmax:.3g} nats under rotation and the untrained network's by "
        f"{softmax0:.2g}: "
        + (
            "the untrained one looks invariant only because it hardly reacts to its input at all, "
            "which is why one measure alone is not enough."
            if softmax0 < softmax
            else "here too the trained network is the more invariant one."
        )
    )
    return "\n".join(textwrap.fill(text, 100) for text in (channels, latents, outputs))
