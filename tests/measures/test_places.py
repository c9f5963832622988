"""Class scores at places and whole tensors of every kind of axis, against the slow twin."""

import naive_letters as twin
import numpy as np
import pytest

from onnx_geed.groups import parse_group
from onnx_geed.measures import Layer, Request, deviations_of_orbits, make_plan, normaliser, view

SCORES = [
    ("C8", "NCHW", (4, 7, 7)),
    ("C8", "NCHW", (1, 5, 6)),
    ("C3", "NCHW", (2, 6, 5)),
    ("D8", "NHWC", (8, 8, 3)),
    ("flip-h", "NCHW", (1, 5, 5)),
    ("shift2x2", "NCHW", (3, 4, 6)),
    ("S4", "NPC", (4, 5)),
    ("S4", "NCP", (3, 4)),
    ("S3", "NPPC", (3, 3, 4)),
    ("S5~7", "NPC", (5, 3)),
    ("reverse", "NTC", (9, 4)),
    ("C4-z", "NCDHW", (3, 4, 4, 4)),
    ("C4", "NPC", (4, 5)),
]
WHOLE = [
    ("C8", "NCHW", (2, 6, 6)),
    ("C8", "NXHW", (2, 6, 6)),
    ("O", "NPX", (5, 3)),
    ("O", "NCDHW", (2, 4, 4, 4)),
    ("C8-y", "NXDHW", (3, 4, 4, 4)),
    ("revcomp", "NTB", (6, 4)),
    ("S4", "NPP", (4, 4)),
    ("D4", "NX", (2,)),
    ("C4", "NK", (5,)),
]


def measured(name, group, layout, y, kind="logits"):
    layer = Layer("y", y.shape[2:], layout, ("output",))
    order = parse_group(group).order
    plan = make_plan(
        parse_group(group),
        [(Request(name, "y", asked=True), layer)],
        input_exact=[True] * order,
        interpolation="bilinear",
        support="full",
        kinds={"y": kind},
        tables={},
    )
    (measure,) = plan.measures
    return measure, deviations_of_orbits(measure, view(layer, measure, y))[0]


def orbits(group, shape, samples=3):
    rng = np.random.default_rng(len(group) + sum(shape))
    return rng.normal(size=(samples, parse_group(group).order, *shape)).astype(np.float32)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize(("group", "layout", "shape"), SCORES)
def test_scores_deviate_as_slow_loops_have_it(group, layout, shape, kind):
    y, letters = orbits(group, shape), layout[1:]
    axis = 2 + letters.index("C")
    single = y.shape[axis] == 1
    if kind == "probabilities":
        e = np.exp(y.astype(float))
        y = (e / (1 + e if single else e.sum(axis, keepdims=True))).astype(np.float32)
    other = 1 - y if kind == "probabilities" else 0 * y
    both = (np.concatenate([other, y], axis) if single else y).astype(float)
    _, kl = measured("softmax-kl", group, layout, y, kind)
    wanted = twin.softmax_kl(both, group, letters, "bilinear", kind=kind)
    np.testing.assert_allclose(kl, wanted, rtol=1e-6, atol=1e-8)
    measure, flips = measured("flip-rate", group, layout, y, kind)
    np.testing.assert_allclose(flips, twin.flip_rate(both, group, letters), atol=1e-12)
    assert measure.counted == slice(1, None)
    assert flips[:, 1:].mean() > 0.05 < kl.mean()
    assert (flips[:, 0] == 0).all()


@pytest.mark.parametrize(("group", "layout", "shape"), WHOLE)
def test_whole_tensors_deviate_as_slow_loops_have_it(group, layout, shape):
    y, letters = orbits(group, shape), layout[1:]
    points = np.random.default_rng(1).normal(size=(7, *shape))
    _, distances = measured("output-l2", group, layout, y)
    np.testing.assert_allclose(distances, twin.output_l2(y, group, letters), rtol=1e-6, atol=1e-9)
    measure, squares = measured("unexplained", group, layout, y)
    m2 = normaliser("unexplained", points.reshape(7, -1))
    wanted = twin.unexplained(y, group, letters, points)
    np.testing.assert_allclose(squares / m2, wanted, rtol=1e-6, atol=1e-9)
    mean = twin.mean_without_identity(wanted, group, letters, shape)
    assert (squares / m2)[:, measure.counted].mean() == pytest.approx(mean, rel=1e-6)
    assert mean > 0.1
