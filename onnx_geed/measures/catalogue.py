"""The measures there are: names, roles, units, titles, and how one is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnx_geed.errors import GeedError, nearest

__all__ = [
    "DEFAULT_MEASURES",
    "FLOOR",
    "FORMULAS",
    "LABELS",
    "MEASURES",
    "ROLES",
    "TITLES",
    "Request",
    "parse_request",
    "unit_of",
]

FORMULAS = {
    "channel-cos": (
        "m = -(mean over channels of the cosine between the channel of f(gx) and that of the moved "
        "map of x): -1 where the tensor is equivariant, at most 1",
        "cosine",
    ),
    "latent-l2": (
        "m = distance between f(gx) and the mean over the orbit: 0 where the tensor is invariant; "
        "not yet divided by M, the mean distance between the latents of different samples",
        "units of the tensor",
    ),
    "latent-cos": (
        "m = -cosine between f(gx) and the mean over the orbit: -1 where the tensor is invariant, "
        "at most 1; not yet divided by M, the mean cosine between the latents of different samples",
        "cosine",
    ),
    "softmax-kl": (
        "m = Kullback-Leibler divergence of the probabilities of gx from what those of x lead one "
        "to expect: 0 where they agree",
        "nats",
    ),
    "output-l2": (
        "m = distance between f(gx) and what f(x) leads one to expect: 0 where they agree",
        "units of the tensor",
    ),
}


LABELS = {
    "channel-cos": "channelwise EED",
    "latent-l2": "latent EED, distance",
    "latent-cos": "latent EED, cosine",
    "softmax-kl": "softmax EED (nats)",
    "output-l2": "output EED, distance",
}


Support = Literal["full", "disk"]


#: Names of the measures, in the order of the report.
MEASURES = ("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "output-l2")


# Below these distances from the perfect value there is nothing to explain.
FLOOR = {"channel-cos": 0.01, "latent-l2": 0.02, "latent-cos": 0.002, "softmax-kl": 1e-3}


Role = Literal["channel", "latent", "output"]


ROLES: dict[str, Role] = {
    "channel-cos": "channel",
    "latent-l2": "latent",
    "latent-cos": "latent",
    "softmax-kl": "output",
    "output-l2": "output",
}


#: Measures taken where none is asked for.
DEFAULT_MEASURES = ("channel-cos", "latent-l2", "latent-cos", "softmax-kl")


#: Titles of the measures.
TITLES = {
    "channel-cos": "Feature maps",
    "latent-l2": "Latent vector, distance",
    "latent-cos": "Latent vector, cosine",
    "softmax-kl": "Predictions",
    "output-l2": "Output vector",
}


@dataclass(frozen=True)
class Request:
    """A measure that was asked for, ``NAME`` or ``NAME@LAYER``.

    Parameters
    ----------
    measure : str
        Name of the measure.
    layer : str or None
        Tensor, node, glob or module path; ``None`` for the measure's default layers.
    asked : bool
        Whether the user named the measure, which then is not left out without an error.
    """

    measure: str
    layer: str | None = None
    asked: bool = False


def parse_request(text: str) -> Request:
    """Read ``NAME`` or ``NAME@LAYER``.

    Raises
    ------
    GeedError
        If no measure has that name.
    """
    name, at, layer = text.partition("@")
    if name not in MEASURES:
        raise GeedError(
            f"no measure is called {name!r}: there are {', '.join(MEASURES)}."
            f"{nearest(name, MEASURES)}"
        )
    if at and not layer:
        raise GeedError(f"measure {text!r}: write the layer after the @, or leave the @ out")
    return Request(name, layer or None, asked=True)


def unit_of(measure: str, normalised: bool) -> str:
    """Return the unit of a measure's values."""
    units = {
        "channel-cos": "−cosine",
        "latent-l2": "distance / M" if normalised else "distance",
        "latent-cos": "−cosine",
        "softmax-kl": "nats",
        "output-l2": "distance",
    }
    return units.get(measure, "deviation")
