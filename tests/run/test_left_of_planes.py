"""Hidden tensors that keep one side of a plane, or two of a volume: moved as those sides are."""

import models
import numpy as np
import onnx
import pytest
from models import node
from onnx import helper

from onnx_geed import GeedError, measure

RUN = {"samples": 5, "norm_samples": 5, "provider": "cpu"}


def profile(path, *shape):
    """Write 1×1 convolutions, a mean over the first side of the grid, and a head on its maxima."""
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((4, shape[0], *[1] * (len(shape) - 1)))
    sides = list(range(2, len(shape)))
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("ReduceMean", "r", "mean", axes=[2], keepdims=0),
        node("Tanh", "mean", "th"),
        node("ReduceMax", "th", "latent", axes=sides, keepdims=0),
        node("MatMul", "latent h", "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "profile",
        [helper.make_tensor_value_info("x", 1, ["N", *shape])],
        [helper.make_tensor_value_info("logits", 1, ["N", 3])],
        [models.weights("w", kernel), models.weights("h", rng.standard_normal((4, 3)))],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def images(*shape):
    return np.random.default_rng(2).standard_normal((5, *shape)).astype(np.float32)


@pytest.mark.parametrize("group", ["flip-h", "flip-v", "C2", "D2", "shift2x3"])
def test_a_row_that_is_left_of_an_image_moves_as_the_image_does(tmp_path, group):
    """1×1 convolutions and means commute with moving pixels: the row is exactly equivariant."""
    path, x = profile(tmp_path / "m.onnx", 3, 6, 6), images(3, 6, 6)
    asked = ["channel-cos@th", "unexplained@th"]
    result = measure(path, x, group, measures=asked, layout={"th": "NCW"}, **RUN)
    cosine, unexplained = (record["value"] for record in result["measurements"])
    assert cosine == pytest.approx(-1, abs=1e-6)
    assert unexplained == pytest.approx(0, abs=1e-9)


def test_a_row_of_which_another_side_is_meant_is_no_better_than_the_wrong_one(tmp_path):
    """The letter counts: rows that are mirrored are not, if they are said to be columns."""
    path, x = profile(tmp_path / "m.onnx", 3, 6, 6), images(3, 6, 6)
    result = measure(path, x, "flip-h", measures=["unexplained@th"], layout={"th": "NCH"}, **RUN)
    assert result["measurements"][0]["value"] > 0.1


@pytest.mark.parametrize("group", ["C4", "D4", "C8", "SO2~3"])
def test_a_row_is_refused_where_rows_become_columns(tmp_path, group):
    path, x = profile(tmp_path / "m.onnx", 3, 6, 6), images(3, 6, 6)
    with pytest.raises(GeedError, match="only W is left of HW"):
        measure(path, x, group, measures=["channel-cos@th"], layout={"th": "NCW"}, **RUN)


@pytest.mark.parametrize(("group", "exact"), [("C2-x", True), ("C4-x", False), ("O", False)])
def test_a_projection_of_a_volume_is_moved_or_left_out_with_a_note(tmp_path, group, exact):
    """Half a turn about x mirrors the sum over depth; a quarter maps it to no such sum."""
    path, x = profile(tmp_path / "m.onnx", 1, 6, 6, 6), images(1, 6, 6, 6)
    stated = {"input_layout": "NCDHW", "measures": ["channel-cos"]}
    result = measure(path, x, group, **stated, **RUN)
    values = {record["layer"]: record["value"] for record in result["measurements"]}
    assert values["r"] == pytest.approx(-1, abs=1e-6)
    left_out = [note for note in result["notes"] if note.startswith("left out: channel-cos@th: ")]
    assert bool(left_out) != exact
    assert ("th" in values) == exact
    if exact:
        assert values["th"] == pytest.approx(-1, abs=1e-6)
