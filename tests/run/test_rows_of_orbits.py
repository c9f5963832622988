"""Rows of several orbits at once are those of each orbit."""

import models
import numpy as np
import pytest
from letter_cases import CASES, data_of

import onnx_geed as geed
from onnx_geed.run.open_source import source_of
from onnx_geed.run.options import make_options

RNG = np.random.default_rng(3)
GROUPS = ("C8", "D4", "C4", "flip-h", "shift7x3", "zoom:0.8..1.2/3", "brightness:0.5..1.5/3")


def compared(source, count):
    together = source.rows(range(count))
    apart = [source.rows([p]) for p in range(count)]
    np.testing.assert_array_equal(together, np.concatenate(apart))
    assert together.dtype == apart[0].dtype
    return apart


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("support", ["full", "disk"])
def test_of_images(tmp_path, group, support):
    path = models.save(models.random_cnn(3, (7, 9)), tmp_path / "model.onnx")
    data = RNG.normal(size=(5, 3, 7, 9)).astype(np.float32)
    options = make_options({"support": support, "provider": "cpu", "samples": 5})
    apart = compared(source_of(geed.load_model(path), data, group, options), 5)
    assert any((rows[0] != rows[-1]).any() for rows in apart)
    assert (apart[0] != apart[1]).any()


@pytest.mark.parametrize(
    "name",
    [name for name, case in CASES.items() if len(case.inputs) == 1 and all(case.inputs.values())],
)
def test_of_every_layout(tmp_path, name):
    case = CASES[name]
    path = models.save(case.model(), tmp_path / "model.onnx")
    (moved,) = [key for key, layout in case.inputs.items() if layout]
    options = make_options({"input": moved, "input_layout": case.inputs[moved], "samples": 4})
    source = source_of(geed.load_model(path), data_of(case)[moved], case.group, options)
    compared(source, 4)
