"""Values of inputs that are not acted on: one for each sample, or one that is fed for all."""

import models
import numpy as np
import pytest
from models import node

from onnx_geed import GeedError, measure

FLOAT = 1
RUN = {"samples": 6, "norm_samples": 6, "input_layout": "NTC", "input": "x", "provider": "cpu"}


def recurrent(tmp_path, batch="b", layers=1):
    """Scores of a sequence that begins with a state (layers, batch, 3), as recurrent layers do."""
    step = np.random.default_rng(0).normal(size=(1, 4, 1))
    nodes = [
        node("Mul", "x w", "weighed"),
        node("ReduceMean", "weighed", "mean", axes=[1], keepdims=0),
        node("ReduceSum", "h0 first", "state", keepdims=0),
        node("Mul", "mean state", "out"),
    ]
    shape = ["b", 4, 3]
    model = models.build(
        nodes,
        [models.weights("w", step), models.integers("first", [0])],
        [("x", FLOAT, shape), ("h0", FLOAT, [layers, batch, 3])],
        [("out", FLOAT, ["b", 3])],
    )
    for opset in model.opset_import:
        opset.version = 17
    return models.save(model, tmp_path / "recurrent.onnx"), step


def rate(path, x, state):
    asked = {"measures": ["output-l2"], "feed": {"h0": state}, "output_kind": "embedding"}
    (record,) = measure(path, x, "reverse", **asked, **RUN)["measurements"]
    return record["value"]


def drawn(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 6, "layers"])
def test_states_of_samples_that_do_not_lie_on_the_first_axis_are_refused(tmp_path, layers):
    """Only the first would be fed, to every sample: the file calls axis 1 as it calls the batch."""
    path, _ = recurrent(tmp_path, layers=layers)
    state = drawn(6 if layers == "layers" else layers, 6, 3)
    with pytest.raises(GeedError, match=r"^--feed h0: the samples lie along axis 1, .* 6 that"):
        rate(path, drawn(6, 4, 3), state)


def test_one_state_is_fed_for_all_samples_however_often_it_is_given(tmp_path):
    path, step = recurrent(tmp_path)
    x, state = drawn(6, 4, 3), drawn(1, 1, 3)
    y = [(v * step[0]).mean(axis=0) * state[0, 0] for g in (1, -1) for v in x[:, ::g]]
    wanted = np.linalg.norm(np.subtract(y[:6], y[6:]) / 2, axis=1).mean()
    assert rate(path, x, state) == pytest.approx(wanted, rel=1e-5)
    assert rate(path, x, np.repeat(state, 6, axis=1)) == pytest.approx(wanted, rel=1e-5)


def test_one_state_is_of_all_samples_whatever_it_holds(tmp_path):
    """NaN differs from itself; it is the output's fault, and not that of several states."""
    path, _ = recurrent(tmp_path)
    state = np.full((1, 1, 3), np.nan, np.float32)
    with pytest.raises(GeedError, match="NaN") as caught:
        rate(path, drawn(6, 4, 3), state)
    assert "--feed h0: the samples lie" not in str(caught.value)


def test_an_axis_that_no_name_tells_is_fed_as_it_is(tmp_path):
    path, _ = recurrent(tmp_path, batch="others")
    x, state = drawn(6, 4, 3), drawn(1, 1, 3)
    assert rate(path, x, state) > 0


@pytest.mark.parametrize(("alike", "told"), [(False, True), (True, False)])
def test_a_value_whose_later_axis_is_as_long_as_there_are_samples_is_told_of(tmp_path, alike, told):
    path, _ = recurrent(tmp_path, batch="others")
    state = drawn(1, 6, 3)
    if alike:
        state[:] = state[:, :1]
    asked = {"measures": ["output-l2"], "feed": {"h0": state}, "output_kind": "embedding"}
    notes = measure(path, drawn(6, 4, 3), "reverse", **asked, **RUN)["notes"]
    said = [n for n in notes if n.startswith("input h0: all of its value is fed with every sample")]
    assert bool(said) is told
    assert all("axis 1 has 6 entries, as there are samples" in note for note in said)
