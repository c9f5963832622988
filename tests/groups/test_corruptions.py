import sys
import types

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from onnx_geed import GeedError
from onnx_geed.groups.corruptions import CORRUPTIONS, corrupted
from onnx_geed.groups.photometric import from_bytes


def photo(side=48):
    down, across = np.mgrid[:side, : side + 5] / side
    waves = [np.sin(5 * down + k) * np.cos(7 * across - k) for k in range(3)]
    return from_bytes(np.rint(127 + 100 * np.stack(waves)).astype(np.uint8))


@pytest.fixture
def stand_in(monkeypatch):
    """A package of that name that draws from NumPy's shared generator."""

    def corrupt(image, severity, corruption_name, **own):
        assert image.dtype == np.uint8
        if corruption_name == "fog":
            raise AttributeError("`np.float_` was removed\nin NumPy 2")
        own = {"with": sorted(own)}
        drawn = np.random.randint(0, 9, image.shape)  # noqa: NPY002
        calls.append((corruption_name, severity, own["with"]))
        return (image // 2 + severity + drawn).astype(np.uint8)

    calls = []
    module = types.ModuleType("imagecorruptions")
    module.corrupt = corrupt
    monkeypatch.setitem(sys.modules, "imagecorruptions", module)
    return calls


def test_what_is_drawn_follows_from_the_seed_and_leaves_the_shared_generator_alone(stand_in):
    x = photo()
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first = corrupted(x, "snow", 2, seed=(0, 1, 2))
    assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    assert_array_equal(first, corrupted(x, "snow", 2, seed=(0, 1, 2)))
    assert (first != corrupted(x, "snow", 2, seed=(0, 2, 2))).any()
    assert first.dtype == np.float32
    assert first.shape == x.shape
    corrupted(x, "glass_blur", 4, seed=(0, 1, 2))
    assert stand_in[0] == ("snow", 2, [])
    assert stand_in[-1] == ("glass_blur", 4, ["seed"])


def test_a_package_that_fails_is_named_in_one_line(stand_in):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(GeedError) as caught:
        corrupted(photo(), "fog", 2, seed=(0, 1, 2))
    said = str(caught.value)
    assert said.startswith("group imagenet-c:fog: the package imagecorruptions fails (`np.float_`")
    assert said.endswith("pip install 'onnx-geed[imagenet-c]'")
    assert "\n" not in said
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(
        GeedError, match=r"^group imagenet-c:fog: .*pip install 'onnx-geed\[imagenet-c\]'$"
    ):
        corrupted(photo(), "fog", 1, seed=(0, 1, 2))


@pytest.mark.parametrize(
    ("name", "severity", "shape", "says"),
    [
        ("fogg", 1, (3, 48, 48), "Did you mean 'fog'"),
        ("fog", 6, (3, 48, 48), "severities must be 1, 2, 3, 4 or 5; found 6"),
        ("fog", 1.5, (3, 48, 48), "found 1.5"),
        ("fog", 1, (1, 48, 48), "the input is 1×48×48"),
        ("fog", 1, (3, 28, 48), "32×32 pixels or more"),
    ],
)
def test_what_is_no_corruption_is_named(name, severity, shape, says):
    with pytest.raises(GeedError, match=r"^group imagenet-c") as caught:
        corrupted(np.zeros(shape, np.float32), name, severity, seed=(0, 0, 1))
    assert says in str(caught.value)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corrupts_more_the_more_severe_it_is(name):
    """With the package itself, where it is installed."""
    pytest.importorskip("imagecorruptions", reason="the extra imagenet-c is not installed")
    x = photo()
    mild, severe = (corrupted(x, name, severity, seed=(0, 1, 2)) for severity in (1, 5))
    assert mild.shape == x.shape
    assert 0 < np.abs(mild - x).mean() < np.abs(severe - x).mean()
    assert_array_equal(mild, corrupted(x, name, 1, seed=(0, 1, 2)))
