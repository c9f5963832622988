"""Values of inputs that are not acted on: one for each sample, or one that is fed for all."""

import models
import numpy as np
import pytest
from models import node

from onnx_geed import GeedError, Preprocess, measure

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


# ------------------------------------------------------------------------------------------------
# Bytes of what is no picture
# ------------------------------------------------------------------------------------------------

_BYTES = np.random.default_rng(2).integers(0, 256, (6, 4, 3)).astype(np.uint8)


def scores_of_line(tmp_path, layout_shape=(4, 3)):
    """Scores that are linear in all entries of a sample."""
    w = np.random.default_rng(3).normal(size=(int(np.prod(layout_shape)), 3)).astype(np.float32)
    model = models.build(
        [node("Flatten", "x", "flat", axis=1), node("MatMul", "flat w", "out")],
        [models.weights("w", w)],
        [("x", FLOAT, ["b", *layout_shape])],
        [("out", FLOAT, ["b", 3])],
    )
    return models.save(model, tmp_path / "scores.onnx"), w


def of_bytes(result):
    return [note for note in result["notes"] if "bytes are fed as 0 to 255" in note]


@pytest.mark.parametrize(
    ("layout", "group"), [("NCT", "reverse"), ("NTC", "reverse"), ("NPC", "S4"), ("NCP", "S3")]
)
def test_bytes_that_are_no_picture_are_fed_as_they_are_and_told_of(tmp_path, layout, group):
    path, w = scores_of_line(tmp_path)
    asked = {"measures": ["unexplained@out"], "output_kind": "embedding"}
    asked |= RUN | {"input_layout": layout}
    result = measure(path, _BYTES, group, **asked)
    (record,) = result["measurements"]
    spread = (_BYTES.reshape(6, -1) @ w).astype(float).var(axis=0, ddof=1).sum()
    assert record["normaliser"] == pytest.approx(spread, rel=1e-5)
    (note,) = of_bytes(result)
    assert note.startswith(f"input x ({layout}): ")
    floats = measure(path, _BYTES.astype(np.float32), group, **asked)
    assert floats["measurements"] == result["measurements"]
    assert not of_bytes(floats)
    # One-hot and masks are meant as they are; and whoever states a scale has seen to it.
    assert not of_bytes(measure(path, _BYTES // 128, group, **asked))
    scaled = {"preprocess": Preprocess(scale=1 / 255)}
    assert not of_bytes(measure(path, _BYTES, group, **asked, **scaled))


def test_bytes_along_which_the_group_moves_nothing_are_told_of_too(tmp_path):
    """An input that is read by its layout and stays, and one without a layout."""
    path, _ = recurrent(tmp_path)
    state = np.full((1, 1, 3), 7, dtype=np.uint8)
    asked = {"measures": ["output-l2"], "output_kind": "embedding"} | RUN
    unstated = measure(path, drawn(6, 4, 3), "reverse", feed={"h0": state}, **asked)
    assert [note.split(":")[0] for note in of_bytes(unstated)] == ["input h0"]
    assert not of_bytes(measure(path, drawn(6, 4, 3), "reverse", feed={"h0": state // 7}, **asked))
    rows = np.full((6, 3), 7, dtype=np.uint8)
    model = models.build(
        [
            node("ReduceMean", "x", "mean", axes=[1], keepdims=0),
            node("Mul", "mean beside", "out"),
        ],
        [],
        [("x", FLOAT, ["b", 4, 3]), ("beside", FLOAT, ["b", 3])],
        [("out", FLOAT, ["b", 3])],
    )
    for opset in model.opset_import:
        opset.version = 17
    path = models.save(model, tmp_path / "beside.onnx")
    asked["input_layout"] = {"x": "NTC", "beside": "NK"}
    stated = measure(path, {"x": drawn(6, 4, 3), "beside": rows}, "reverse", **asked)
    assert [note.split(":")[0] for note in of_bytes(stated)] == ["input beside (NK)"]


def beside_images(tmp_path, kind, shape):
    """Scores of an image, and an input s of some type that they do not depend on."""
    nodes = [
        models.conv("x", "w", "map"),
        node("GlobalAveragePool", "map", "pooled"),
        node("Flatten", "pooled", "out"),
        node("Shape", "s", "unused"),
    ]
    kernels = models.weights("w", np.random.default_rng(0).normal(size=(3, 1, 3, 3)))
    takes = [("x", FLOAT, ["b", 1, 8, 8]), ("s", kind, shape)]
    outputs = [("out", FLOAT, ["b", 3]), ("unused", 7, None)]
    return models.save(models.build(nodes, [kernels], takes, outputs), tmp_path / "beside.onnx")


@pytest.mark.parametrize("shape", [["b"], ["b", 1]])
@pytest.mark.parametrize("given", [True, False])
def test_an_input_of_texts_is_refused_whether_or_not_it_is_fed(tmp_path, shape, given):
    path = beside_images(tmp_path, 8, shape)
    texts = np.array(["a", "b"] * 3).reshape([6, *shape[1:]])
    for values in (texts, texts.astype(object), texts[:1]):
        feed = {"s": values} if given else {}
        with pytest.raises(
            GeedError, match=r"^input s takes texts, and --feed gives arrays of num"
        ):
            measure(path, drawn(6, 1, 8, 8), "C4", feed=feed, samples=6, provider="cpu")


@pytest.mark.parametrize(
    "values", [np.array(["a"] * 6), np.array(["a"] * 6, object), np.array(["2001"] * 6, "M8[Y]")]
)
def test_what_is_no_number_is_refused_for_an_input_of_numbers(tmp_path, values):
    path = beside_images(tmp_path, FLOAT, ["b"])
    with pytest.raises(GeedError, match=r"^--feed s: the input takes float32 .* not numbers; give"):
        measure(path, drawn(6, 1, 8, 8), "C4", feed={"s": values}, samples=6, provider="cpu")
