"""Networks of one layer whose maps lie on no plane, and what moves them."""

from typing import NamedTuple

import models
import numpy as np
import onnx

RNG = np.random.default_rng(0)


class Case(NamedTuple):
    net: onnx.ModelProto
    data: np.ndarray
    group: str
    options: dict
    #: How the page says that its pictures are read.
    reading: str


def _weights(*shape):
    return [models.weights("w", RNG.standard_normal(shape))]


def _of(nodes, values, taken, given):
    return models.build(
        nodes, values, [("x", models.FLOAT, ["N", *taken])], [("a", models.FLOAT, ["N", *given])]
    )


def _conv(**attributes):
    return [models.node("Conv", "x w", "h", **attributes), models.node("Relu", "h", "a")]


def _mixed():
    return [models.node("MatMul", "x w", "h"), models.node("Tanh", "h", "a")]


def _tokens():
    return [
        models.node("Conv", "x w", "h", strides=[4, 4]),
        models.node("Reshape", "h s", "f"),
        models.node("Transpose", "f", "a", perm=[0, 2, 1]),
    ]


def _noise(*shape):
    return RNG.standard_normal((7, *shape)).astype(np.float32)


BASES = np.eye(4, dtype=np.float32)[RNG.integers(0, 4, (7, 30))].transpose(0, 2, 1).copy()

CASES = {
    "series": Case(
        _of(_conv(pads=[2, 2]), _weights(6, 2, 5), (2, 90), (6, 90)),
        _noise(2, 90),
        "reverse",
        {"input_layout": "NCT", "layout": {"a": "NCT"}},
        "Shown: 90 places of the line from left to right.",
    ),
    "volume": Case(
        _of(_conv(pads=[1] * 6), _weights(4, 1, 3, 3, 3), (1, 5, 6, 6), (4, 5, 6, 6)),
        _noise(1, 5, 6, 6),
        "C4-z",
        {"input_layout": "NCDHW", "layout": {"a": "NCDHW"}},
        "Shown: the middle one of 5 slices across the depth.",
    ),
    "points": Case(
        _of(_mixed(), _weights(3, 5), (4, 3), (4, 5)),
        _noise(4, 3),
        "S4~6",
        {"input_layout": "NPC", "layout": {"a": "NPC"}},
        "Shown: 4 points from left to right.",
    ),
    "vectors": Case(
        _of([models.node("Mul", "x w", "a")], _weights(2, 6, 6), (2, 6, 6), (2, 6, 6)),
        _noise(2, 6, 6),
        "C4",
        {"input_layout": "NXHW", "layout": {"a": "NXHW"}},
        "Shown: lengths of vectors.",
    ),
    "bases": Case(
        _of(_conv(pads=[1, 1]), _weights(4, 4, 3), (4, 30), (4, 30)),
        BASES,
        "revcomp",
        {"input_layout": "NBT", "layout": {"a": "NBT"}},
        "Shown: the bases A, C, G, T from top to bottom.",
    ),
    "tokens": Case(
        _of(
            _tokens(),
            [*_weights(5, 3, 4, 4), models.integers("s", [0, 5, -1])],
            (3, 32, 32),
            (64, 5),
        ),
        _noise(3, 32, 32),
        "C4",
        {"layout": {"a": "NTD:8x8"}},
        "",
    ),
}


def lifting():
    """Maps of one kernel in four turns, which change places where the image turns, and that table.

    Returns
    -------
    net : onnx.ModelProto
    table : ndarray of int64, shape (4, 4)
    """
    # Its own generator: where all weights happen to be negative, maps are zero and any table fits.
    kernel = np.random.default_rng(4).standard_normal((1, 3, 3))
    bank = np.stack([np.rot90(kernel, k, (1, 2)) for k in range(4)])
    net = _of(_conv(pads=[1] * 4), [models.weights("w", bank)], (1, 9, 9), (4, 9, 9))
    return net, np.array([[(c - g) % 4 for c in range(4)] for g in range(4)])


def of_colours():
    """Maps of colour images under turns and hues: the hues leave maps in place.

    Returns
    -------
    Case
    """
    net = _of(_conv(pads=[1] * 4), _weights(5, 3, 3, 3), (3, 8, 8), (5, 8, 8))
    data = np.random.default_rng(2).random((7, 3, 8, 8)).astype(np.float32)
    return Case(net, data, "C4*hue3", {"layout": {"a": "NCHW"}}, "")
