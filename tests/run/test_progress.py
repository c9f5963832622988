"""One meter counts a whole run: in a unit that it names, up to a total that it knows."""

import models
import numpy as np
import pytest
from running import images

import onnx_geed as geed
from onnx_geed.cache import measure_through_cache, verify_cache, write_cache

FEW = {"samples": 5, "norm_samples": 9, "provider": "cpu", "batch_size": 4}


class Told:
    """What a run tells: the units that it counts in, and every step."""

    def __init__(self):
        self.units, self.steps = [], []

    def begin(self, unit):
        self.units.append(unit)

    def __call__(self, done, total):
        self.steps.append((done, total))


@pytest.fixture
def net(tmp_path):
    return models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")


def ends_at_its_total(told):
    done = [step for step, _ in told.steps]
    assert done == sorted(done)
    return told.steps[-1][0] == told.steps[-1][1]


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_scales_and_points_are_counted_in(net, engine):
    told = Told()
    result = geed.measure(
        net,
        images((3, 8, 8), 12),
        "C4",
        references=True,
        untrained=True,
        engine=engine,
        progress=told,
        **FEW,
    )
    assert told.units == ["inferences"]
    assert ends_at_its_total(told)
    # Orbits and points, the same of the untrained network, and six rows a sample of round trips.
    assert told.steps[-1][0] == 2 * (5 * 4 + 4) + 5 * 6
    assert result["runtime"]["inferences"] == told.steps[-1][0]
    assert {total for _, total in told.steps} == {told.steps[-1][1]}


def test_what_ends_early_ends_at_its_total_too(net):
    told, data = Told(), np.repeat(images((3, 8, 8), 60), 1, axis=0)
    result = geed.measure(
        net, data, "C4", precision=0.5, references=True, progress=told, provider="cpu"
    )
    n = result["precision"]["samples"]
    assert n < 60
    assert told.steps[0][1] > 60 * 4
    assert told.steps[-1] == (4 * n + (60 - 20) + 6 * n,) * 2


def test_several_passes_are_counted(net):
    told = Told()
    result = geed.measure(
        net, images((3, 8, 8), 12), "C4", memory="12kB", progress=told, samples=5, norm_samples=9
    )
    assert ends_at_its_total(told)
    assert result["runtime"]["inferences"] == told.steps[-1][0] > 5 * 4 + 4


def test_a_cache_counts_orbits_and_its_shards(net, tmp_path):
    folder, data, write, read, both, verify = (
        tmp_path / "a.geed",
        images((3, 8, 8), 12),
        *(Told() for _ in range(4)),
    )
    write_cache(net, data, "C4", folder, progress=write, **FEW)
    geed.measure_cache(folder, progress=read)
    measure_through_cache(net, data, "C4", tmp_path / "b.geed", progress=both, **FEW)
    assert verify_cache(folder, progress=verify) == []
    assert write.units == read.units == ["orbits"]
    assert both.units == ["orbits", "orbits"]
    assert verify.units == ["shards"]
    assert write.steps[-1] == read.steps[-1] == (5, 5)
    assert both.steps[-1] == (10, 10)
    assert all(map(ends_at_its_total, (write, read, both, verify)))


def test_a_plain_function_is_told_too(net):
    steps = []
    geed.measure(
        net, images((3, 8, 8), 9), "C4", progress=lambda done, total: steps.append(done), **FEW
    )
    assert steps[-1] == 5 * 4 + 4
