"""How people read values: one sign, one direction, one range, wherever they stand."""

import math

import numpy as np
import pytest

from onnx_geed.measures import (
    CATALOGUE,
    descriptor_of,
    gap_within,
    perfect_words,
    range_of,
    sign_words,
    told,
    told_ends,
    told_gap,
    within,
)

COSINES = ("channel-cos", "latent-cos")
SCALES = ("value", "relative", "unnormalised")


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("scale", SCALES)
def test_cosines_alone_change_their_sign_and_relative_values_never(name, scale):
    measure = descriptor_of(name)
    sign = -1 if name in COSINES and scale != "relative" else 1
    for value in (-1.0, -0.25, 0.0, 3.0):
        assert told(measure, value, scale) == sign * value
        assert math.copysign(1, told(measure, 0.0, scale)) == 1  # never "-0.0000"


def test_ranges_are_those_of_the_specification():
    known = {
        "channel-cos": ((-1, 1), (-1, 1)),
        "latent-l2": ((0, math.inf), (0, math.inf)),
        "latent-cos": ((-math.inf, math.inf), (-1, 1)),
        "softmax-kl": ((0, math.inf), (0, math.inf)),
        "output-l2": ((0, math.inf), (0, math.inf)),
        "unexplained": ((0, math.inf), (0, math.inf)),
        "flip-rate": ((0, 1), (0, 1)),
        "sensitivity": ((0, math.inf), (0, math.inf)),
        "symmetry-share": ((0, 1), (0, math.inf)),
    }
    assert set(known) == set(CATALOGUE)
    for name, (divided, plain) in known.items():
        measure = descriptor_of(name)
        assert range_of(measure) == divided
        assert range_of(measure, "unnormalised") == plain
        assert range_of(measure, "relative") == (0, math.inf)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("scale", SCALES)
def test_no_interval_leaves_the_range_whatever_its_ends(name, scale):
    measure, rng = descriptor_of(name), np.random.default_rng(0)
    least, most = range_of(measure, scale)
    for low, width in zip(rng.normal(0, 2, 50), rng.exponential(2, 50), strict=True):
        kept = within(measure, (low, low + width), scale)
        assert least <= kept[0] <= kept[1] or kept[0] == kept[1]
        assert kept[1] <= most
        # What lay inside stays as it was.
        inside = min(max(low, least), most)
        assert kept[0] == inside
        shown = told_ends(measure, (low, low + width), scale)
        assert shown == tuple(sorted(told(measure, x, scale) for x in kept))
        gap = gap_within(measure, (low, low + width), scale)
        assert gap[0] >= least - most
        assert gap[1] <= most - least


def test_an_interval_of_cosines_ends_at_one():
    measure = descriptor_of("channel-cos")
    assert told_ends(measure, (-1.02, -0.9)) == (0.9, 1.0)
    assert told_gap(measure, (-2.5, 0.1)) == (-0.1, 2.0)
    assert told_ends(measure, None) is None
    assert told_gap(descriptor_of("flip-rate"), (-1.5, 0.5)) == (-1.0, 0.5)
    assert told_ends(descriptor_of("flip-rate"), (-0.1, 1.2)) == (0.0, 1.0)


def test_words_say_what_is_perfect_and_which_way_is_better():
    assert perfect_words(descriptor_of("channel-cos")) == "1 is perfect, higher is better"
    assert perfect_words(descriptor_of("latent-cos")) == "1/M is perfect, higher is better"
    assert perfect_words(descriptor_of("latent-cos"), "relative") == (
        "0 is perfect, lower is better"
    )
    names = ["channel-cos", "latent-l2", "softmax-kl", "channel-cos"]
    assert sign_words((name, "value") for name in names) == (
        "channel-cos: 1 is perfect, higher is better; latent-l2, softmax-kl: 0 is perfect, lower "
        "is better; cosines have a minus in files and limits"
    )
    assert "minus" not in sign_words([("latent-l2", "value"), ("channel-cos", "relative")])
