"""ImageNet-C through and through: with a stand-in for the package, and with it where it is."""

import json
import sys
import types

import models
import naive
import numpy as np
import pytest
from running import images, run

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.errors import GeedError

SIZE = (32, 33)
OPTIONS = {"samples": 3, "norm_samples": 5, "seed": 3, "provider": "cpu", "output_kind": "logits"}
ELEMENTS = ["e", *(f"snow{severity}" for severity in range(1, 6))]


@pytest.fixture
def stand_in(monkeypatch):
    """A package of that name that darkens and draws from NumPy's shared generator."""

    def corrupt(image, severity=1, corruption_name=None):
        assert corruption_name == "snow"
        assert image.dtype == np.uint8
        assert image.shape == (*SIZE, 3)
        return (image // (severity + 1) + np.random.randint(0, 9, image.shape)).astype(np.uint8)  # noqa: NPY002

    module = types.ModuleType("imagecorruptions")
    module.corrupt = corrupt
    monkeypatch.setitem(sys.modules, "imagecorruptions", module)


def measured(tmp_path, data, **options):
    path = models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx")
    asked = {"measures": ["output-l2", "channel-cos"], **OPTIONS, **options}
    return geed.measure(path, data, "imagenet-c:snow", **asked)


def member(image, severity, seed):
    """What the stand-in makes of an image (C, H, W), by hand."""
    pixels = np.floor(np.clip(image.astype(np.float64), 0, 1) * 255 + 0.5).astype(int)
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    drawn = np.random.RandomState(number).randint(0, 9, (*SIZE, 3))
    return ((pixels // (severity + 1) + drawn.transpose(2, 0, 1)) / 255).astype(np.float32)


def test_a_corruption_is_measured_at_its_five_severities(tmp_path, stand_in):
    model, data = models.random_cnn(1, SIZE), images((3, *SIZE), 6)
    result = measured(tmp_path, data)
    part = result["group"]
    assert (part["kind"], part["parameter"]) == ("family", "severity")
    assert part["elements"] == ELEMENTS
    assert part["parameters"] == [None, 1, 2, 3, 4, 5]
    of_d, _ = naive.sample_indices(6, 3, 3, 5)
    wanted = []
    for i in map(int, of_d):
        orbit = [data[i], *(member(data[i], g, (3, i, g)) for g in range(1, 6))]
        y = run(model, np.stack(orbit), ["logits"])[0].astype(np.float64)
        wanted.append(np.linalg.norm(y[1:] - y[0], axis=1))
    record = next(r for r in result["measurements"] if r["measure"] == "output-l2")
    got = np.array(record["deviations"])
    np.testing.assert_allclose(got[:, 1:], wanted, rtol=1e-4)
    assert record["value"] == pytest.approx(np.mean(wanted), rel=1e-4)
    assert list(record["per_element"].values()) == pytest.approx(np.mean(wanted, axis=0), rel=1e-4)


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_of_a_corruption_needs_no_package(tmp_path, stand_in, monkeypatch, mode):
    data = images((3, *SIZE), 6)
    live = measured(tmp_path, data, engine="kernels")
    asked = {"measures": ["output-l2", "channel-cos"], **OPTIONS}
    path, folder = tmp_path / "model.onnx", tmp_path / "a.geed"
    write_cache(path, data, "imagenet-c:snow", folder, mode=mode, **asked)
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    cached = measure_cache(folder)
    for a, b in zip(live["measurements"], cached["measurements"], strict=True):
        assert json.dumps(a["deviations"]) == json.dumps(b["deviations"])
        assert a["value"] == b["value"]


def test_without_the_package_a_run_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(GeedError, match=r"imagenet-c:snow: .*pip install 'onnx-geed\[imagenet-c\]"):
        measured(tmp_path, images((3, *SIZE), 6))


@pytest.mark.filterwarnings("default")
def test_with_the_package_more_severe_is_farther(tmp_path):
    pytest.importorskip("imagecorruptions", reason="the extra imagenet-c is not installed")
    down, across = np.mgrid[: SIZE[0], : SIZE[1]] / 32
    data = np.stack(
        [[0.5 + 0.4 * np.sin(5 * down + k) * np.cos(7 * across - i) for k in range(3)]
         for i in range(6)]
    ).astype(np.float32)  # fmt: skip
    path = models.save(models.random_cnn(1, SIZE), tmp_path / "model.onnx")
    result, again = (
        geed.measure(path, data, "imagenet-c:gaussian_noise", measures=["output-l2"], **OPTIONS)
        for _ in range(2)
    )
    (record,) = result["measurements"]
    means = list(record["per_element"].values())
    assert 0 < means[0] < means[-1]
    assert record["deviations"] == again["measurements"][0]["deviations"]
