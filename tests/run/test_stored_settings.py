"""Settings stored in a file count for the input or output that they were stored for."""

from __future__ import annotations

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.model import action_key, annotate_model as annotate, layout_key, list_layers
from onnx_geed.run import compile_measurement

FLOAT, SAMPLES = TensorProto.FLOAT, 6
RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal((48, 3)).astype(np.float32) * 0.3 for _ in range(2))
ENDING = RNG.standard_normal((3, 3)).astype(np.float32) * 2
X, Y = (RNG.random((9, *shape), dtype=np.float32) for shape in ((3, 4, 4), (4, 4, 3)))
DRAWN = np.random.default_rng(0).permutation(9)[:SAMPLES]


def two_images():
    """Scores of two pictures, ``a`` with channels first and ``b`` with channels last."""
    nodes = [
        models.node("Flatten", "a", "fa"),
        models.node("Flatten", "b", "fb"),
        models.node("MatMul", "fa A", "ca"),
        models.node("MatMul", "fb B", "cb"),
        models.node("Add", "ca cb", "sum"),
        models.node("Tanh", "sum", "tanh"),
        models.node("MatMul", "tanh E", "logits"),
    ]
    stored = [models.weights(n, v) for n, v in (("A", A), ("B", B), ("E", ENDING))]
    ins = [("a", FLOAT, ["N", 3, 4, 4]), ("b", FLOAT, ["N", 4, 4, 3])]
    return models.build(nodes, stored, ins, [("logits", FLOAT, ["N", 3])])


def three_heads():
    """Scores, their probabilities and a pose, all from one latent."""
    nodes = [
        models.node("Flatten", "a", "fa"),
        models.node("MatMul", "fa A", "ca"),
        models.node("Relu", "ca", "lat"),
        models.node("MatMul", "lat E", "logits"),
        models.node("Softmax", "logits", "probs", axis=1),
        models.node("MatMul", "lat A2", "pose"),
    ]
    stored = [models.weights(n, v) for n, v in (("A", A), ("E", ENDING), ("A2", ENDING[:, :2]))]
    outs = [("logits", FLOAT, ["N", 3]), ("probs", FLOAT, ["N", 3]), ("pose", FLOAT, ["N", 2])]
    return models.build(nodes, stored, [("a", FLOAT, ["N", 3, 4, 4])], outs)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def divergence(scores):
    """The mean divergence of softmaxes, of a sequence over the elements, from their mean."""
    p = softmax(np.stack(scores))
    return (p * np.log(p / p.mean(axis=0))).sum(axis=-1).mean()


def as_it_is(x):
    return x


def expected(moved, prepare_a=as_it_is, prepare_b=as_it_is):
    """softmax-kl of the two pictures under a flip of those that are named."""

    def scores(flipped):
        a = X[DRAWN].astype(float)[..., :: -1 if flipped and "a" in moved else 1]
        b = Y[DRAWN].astype(float)[..., :: -1 if flipped and "b" in moved else 1, :]
        sums = prepare_a(a).reshape(SAMPLES, -1) @ A + prepare_b(b).reshape(SAMPLES, -1) @ B
        return np.tanh(sums) @ ENDING

    return divergence([scores(flipped) for flipped in (False, True)])


def standardised(x):
    return (x - 0.5) / 0.25


def measured(path, data=None, measure="softmax-kl", **options):
    result = geed.measure(
        path,
        {"a": X, "b": Y} if data is None else data,
        "flip-h",
        samples=SAMPLES,
        measures=[measure],
        **options,
    )
    return result["measurements"][0]["value"], result["notes"]


@pytest.fixture
def two(tmp_path):
    return models.save(two_images(), tmp_path / "two.onnx")


@pytest.fixture
def heads(tmp_path):
    return models.save(three_heads(), tmp_path / "heads.onnx")


@pytest.fixture
def known(tmp_path):
    """Annotate a model, which is then the next one of its folder."""
    names = (tmp_path / f"known{i}.onnx" for i in range(9))

    def write(path, **options):
        annotate(path, out := next(names), **options)
        return out

    return write


def metadata(path):
    return {p.key: p.value for p in onnx.load(path).metadata_props}


BOTH = {"a": "NCHW", "b": "NHWC"}


@pytest.mark.parametrize("main", ["a", "b"])
@pytest.mark.parametrize("chosen", ["a", "b", None])
def test_both_inputs_move_whichever_is_named(two, known, main, chosen):
    path = known(two, input=main, input_layout=BOTH)
    assert measured(path, input=chosen)[0] == pytest.approx(expected("ab"), rel=1e-5)
    letters = {one["name"]: one["layout"] for one in list_layers(path, input=chosen)["inputs"]}
    assert letters == BOTH


def test_the_stored_layout_of_the_input_that_was_named_stays_its_own(two, known):
    path = known(known(two, input_layout=BOTH), input="b")
    assert metadata(path) == {
        "onnx_geed.input": "b",
        "onnx_geed.input_layout": "NHWC",
        layout_key("a"): "NCHW",
    }
    assert measured(path)[0] == pytest.approx(expected("ab"), rel=1e-5)
    back = known(path, input="a")
    assert metadata(back) == metadata(known(two, input_layout=BOTH))


def test_the_layout_of_one_of_two_inputs_is_stored_with_its_name(two, known):
    path = known(two, input_layout={"b": "NHWC"})
    assert metadata(path)["onnx_geed.input"] == "b"
    assert measured(path)[0] == pytest.approx(expected("b"), rel=1e-5)
    path = known(path, input="a", input_layout="NCHW")
    assert measured(path)[0] == pytest.approx(expected("ab"), rel=1e-5)


def test_a_layout_without_a_name_is_of_the_input_that_is_acted_on_by_default(tmp_path):
    # Of four axes there is one, so that NCHW is no layout of the other.
    ins = [("img", FLOAT, ["N", 3, 4, 4]), ("pts", FLOAT, ["N", 5, 2])]
    nodes = [
        models.node("Flatten", "img", "f"),
        models.node("Flatten", "pts", "g"),
        models.node("Concat", "f g", "y", axis=1),
    ]
    stored = models.with_metadata(
        models.build(nodes, [], ins, [("y", FLOAT, None)]), {"onnx_geed.input_layout": "NCHW"}
    )
    path = models.save(stored, tmp_path / "stored.onnx")
    for stated, own in (("NPX", "NPX"), (None, None)):
        listed = list_layers(path, input="pts", layout_of_input=stated)["inputs"]
        assert {i["name"]: i["layout"] for i in listed} == {"img": "NCHW", "pts": own}


def test_two_stored_layouts_of_one_input_are_refused(two, known, tmp_path):
    entries = {
        "onnx_geed.input": "b",
        "onnx_geed.input_layout": "NCHW",
        layout_key("b"): "NHWC",
        layout_key("a"): "NCHW",
    }
    path = models.save(models.with_metadata(two_images(), entries), tmp_path / "both.onnx")
    for chosen in ("a", "b"):
        with pytest.raises(
            GeedError, match=r"input_layout = NCHW: state one with --input-layout b="
        ):
            measured(path, input=chosen)
    assert measured(path, input_layout="NHWC")[0] == pytest.approx(expected("ab"), rel=1e-5)
    with pytest.raises(GeedError, match="state one"):
        measured(known(path, input="b"))
    mended = known(path, input_layout="NHWC")
    assert measured(mended)[0] == pytest.approx(expected("ab"), rel=1e-5)


NAMELESS = {"onnx_geed.input_layout": "NCHW", layout_key("b"): "NHWC"}


@pytest.mark.parametrize("chosen", ["a", "b", None])
def test_a_layout_without_a_name_is_of_the_input_that_has_none_of_its_own(known, tmp_path, chosen):
    stored = NAMELESS | {"onnx_geed.preprocess": '{"mean": [0.5], "std": [0.25]}'}
    path = models.save(models.with_metadata(two_images(), stored), tmp_path / "net.onnx")
    wanted = expected("ab", prepare_a=standardised)
    assert measured(path, input=chosen)[0] == pytest.approx(wanted, rel=1e-5)
    letters = {one["name"]: one["layout"] for one in list_layers(path, input=chosen)["inputs"]}
    assert letters == BOTH
    named = known(path, input="a")
    assert metadata(named) == stored | {"onnx_geed.input": "a"}
    assert measured(named, input=chosen)[0] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("chosen", ["a", "b"])
def test_a_layout_without_a_name_is_of_an_input_with_as_many_axes(known, tmp_path, chosen):
    net = two_images()
    net.graph.input.append(onnx.helper.make_tensor_value_info("scale", FLOAT, ["N"]))
    net.graph.initializer.append(models.integers("last", [1]))
    net.graph.node[-1].input[0] = "scaled"
    last = net.graph.node.pop()
    net.graph.node.append(models.node("Unsqueeze", "scale last", "column"))
    net.graph.node.extend([models.node("Mul", "tanh column", "scaled"), last])
    path = models.save(models.with_metadata(net, NAMELESS), tmp_path / "net.onnx")
    value, _ = measured(path, input=chosen, feed={"scale": np.ones(1, np.float32)})
    assert value == pytest.approx(expected("ab"), rel=1e-5)


def test_a_layout_without_a_name_beside_one_of_each_input_is_refused(tmp_path):
    stored = NAMELESS | {layout_key("a"): "NHWC"}
    path = models.save(models.with_metadata(two_images(), stored), tmp_path / "net.onnx")
    for chosen in ("a", "b"):
        with pytest.raises(GeedError, match=f"state one with --input-layout {chosen}="):
            measured(path, input=chosen)


@pytest.mark.parametrize("wrong", ["onnx_geed.input_layout", layout_key("b")])
def test_of_two_stored_layouts_the_one_that_annotate_is_given_stays(known, tmp_path, wrong):
    entries = {
        "onnx_geed.input": "b",
        "onnx_geed.input_layout": "NHWC",
        layout_key("b"): "NHWC",
        layout_key("a"): "NCHW",
    }
    net = models.with_metadata(two_images(), entries | {wrong: "NCHW"})
    path = known(models.save(net, tmp_path / "net.onnx"), input_layout="NHWC")
    assert metadata(path) == {k: v for k, v in entries.items() if k != layout_key("b")}
    assert measured(path)[0] == pytest.approx(expected("ab"), rel=1e-5)


def test_annotate_takes_tensors_of_any_moved_input(two, known):
    path = known(two, input_layout=BOTH, latent="cb", layout={"f*": "NK"})
    stored = metadata(path)
    assert stored["onnx_geed.latent"] == "cb"
    assert {layout_key("fa"), layout_key("fb")} <= set(stored)
    again = known(path, preprocess="mean=0.5")  # the stored latent is no fault
    assert metadata(again)["onnx_geed.latent"] == "cb"
    eye = np.stack([np.eye(3)] * 2)
    table = two.parent / "table.npz"
    np.savez(table, elements=["e", "h"], channel_matrices=eye)
    assert action_key("cb") in metadata(known(path, output_action={"cb": table}))


PREPROCESS = "mean=0.5 std=0.25"


@pytest.mark.parametrize("main", ["a", "b"])
@pytest.mark.parametrize("chosen", ["a", "b"])
def test_stored_preprocessing_is_that_of_its_input(two, known, main, chosen):
    path = known(two, input=main, input_layout=BOTH, preprocess=PREPROCESS)
    prepared = {f"prepare_{main}": standardised}
    wanted = pytest.approx(expected("ab", **prepared), rel=1e-5)
    value, notes = measured(path, input=chosen)
    assert value == wanted
    assert not [note for note in notes if "preprocessing is not applied" in note]
    out = path.parent / "compiled.onnx"
    written = compile_measurement(
        path, "flip-h", out, data={"a": X, "b": Y}, input=chosen, measures=["softmax-kl"]
    )
    assert bool(written["input"]["preprocess"]) == (main == chosen)
    (other,) = written["others"]
    assert other["preprocess"] == ({} if main == chosen else {"mean": [0.5], "std": [0.25]})
    said = {i.name: i.doc_string for i in onnx.load(out).graph.input}
    assert said == {one["name"]: one["meaning"] for one in (written["input"], other)}
    assert {*said} == {"samples", f"samples/{'ab'.replace(chosen, '')}"}
    assert all("(scaled, mean and std applied), not yet moved" in text for text in said.values())


def test_an_input_that_does_not_move_is_prepared_too(two, known):
    # No flip moves an adjacency.
    layouts = {"a": "NCPP", "b": "NHWC"}
    path = known(two, input="a", input_layout=layouts, preprocess=PREPROCESS)
    value, notes = measured(path, input="b")
    assert value == pytest.approx(expected("b", prepare_a=standardised), rel=1e-5)
    assert any("input a (NCPP" in note for note in notes)
    out = path.parent / "compiled.onnx"
    written = compile_measurement(
        path, "flip-h", out, data={"a": X, "b": Y}, input="b", measures=["softmax-kl"]
    )
    (other,) = written["others"]
    assert other["name"] == "samples/a"
    assert other["shape"] == ["N", 3, 4, 4]
    assert other["preprocess"] == {"mean": [0.5], "std": [0.25]}
    assert "mean and std applied), which the group does not move" in other["meaning"]


def test_what_a_compiled_file_takes_as_it_is_is_said_too(two, known, tmp_path):
    path = known(two, input="a", preprocess=PREPROCESS)
    written = compile_measurement(
        path,
        *("flip-h", tmp_path / "compiled.onnx"),
        data={"a": X, "b": Y},
        input="b",
        input_layout="NHWC",
        measures=["softmax-kl"],
    )
    (other,) = written["others"]
    assert other["preprocess"] == {}
    assert other["meaning"] == (
        "samples as the model takes them, which the group does not move; N is free"
    )


@pytest.mark.parametrize("layouts", [BOTH, {"a": "NCPP", "b": "NHWC"}])
def test_what_is_fed_to_an_input_with_axes_is_prepared_too(two, known, layouts):
    path = known(two, input="a", input_layout=layouts, preprocess=PREPROCESS)
    moved = "ab" if layouts == BOTH else "b"
    value, notes = measured(path, Y, input="b", feed={"a": X})
    assert value == pytest.approx(expected(moved, prepare_a=standardised), rel=1e-5)
    assert len([note for note in notes if "--feed a is preprocessed" in note]) == 1
    _, notes = measured(path, input="b")
    assert not [note for note in notes if "--feed" in note]
    _, notes = measured(path, X, input="a", feed={"b": Y})
    assert not [note for note in notes if "--feed" in note]


def test_preprocessing_that_the_user_states_is_that_of_the_acted_on_input(two):
    for chosen in ("a", "b"):
        value, _ = measured(two, input=chosen, input_layout=BOTH, preprocess=PREPROCESS)
        wanted = expected("ab", **{f"prepare_{chosen}": standardised})
        assert value == pytest.approx(wanted, rel=1e-5)


def test_results_tell_how_each_input_was_prepared(two, known):
    def result(preprocess, chosen):
        path = known(two, input="a", input_layout=BOTH, preprocess=preprocess)
        asked = {"samples": SAMPLES, "measures": ["softmax-kl"], "input": chosen}
        return geed.measure(path, {"a": X, "b": Y}, "flip-h", **asked)

    first, again, second, third = (result(p, "b") for p in (*[PREPROCESS] * 2, "mean=0.1", None))
    own = {"mean": [0.5], "std": [0.25]}
    assert [one.get("preprocess") for one in first["data"]["inputs"]] == [None, own]
    assert third["data"]["inputs"][1]["preprocess"] == first["data"]["preprocess"] == {}
    geed.compare(first, again)
    for other in (second, third):
        assert geed.compare(first, other, force=True)["differ_in"] == ["what input a was fed"]
        with pytest.raises(GeedError, match="differ in what input a was fed"):
            geed.compare(first, other)
    assert result(PREPROCESS, "a")["data"]["preprocess"] == own


def test_preprocessing_of_an_input_without_axes_is_noted(two, known):
    path = known(two, input="a", preprocess=PREPROCESS)
    value, notes = measured(path, input="b", input_layout="NHWC")
    assert value == pytest.approx(expected("b"), rel=1e-5)
    assert [n for n in notes if "input a: the model's preprocessing is not applied to it" in n]
    value, notes = measured(path, input="b", input_layout=BOTH)
    assert value == pytest.approx(expected("ab", prepare_a=standardised), rel=1e-5)
    assert not [n for n in notes if "preprocessing is not applied" in n]
    with pytest.raises(GeedError, match="is for input 'a', not for 'b'"):
        known(path, input="b")
    path = known(path, input="b", input_layout=BOTH, preprocess=PREPROCESS)
    assert measured(path)[0] == pytest.approx(expected("ab", prepare_b=standardised), rel=1e-5)


def test_a_stored_kind_is_that_of_its_output(heads, known):
    a = X[DRAWN].astype(float)
    hidden = [np.maximum(x.reshape(SAMPLES, -1) @ A, 0) for x in (a, a[..., ::-1])]
    wanted = divergence([h @ ENDING for h in hidden])
    of_pose = divergence([h @ ENDING[:, :2] for h in hidden])
    plain = {"data": X, "input_layout": "NCHW"}
    for output, kind in (
        ("logits", "logits"),
        ("probs", "probabilities"),
        ("pose", "embedding"),
    ):
        stored = known(heads, output=output, output_kind=kind)
        for other in ("logits", "probs"):
            value, _ = measured(stored, output=other, **plain)
            assert value == pytest.approx(wanted, rel=1e-5)
    stored = known(heads, output="logits", output_kind="logits")
    value, notes = measured(stored, output="pose", **plain)
    assert value == pytest.approx(of_pose, rel=1e-5)
    assert any("'pose': assuming logits" in note for note in notes)
    assert list_layers(stored, output="probs")["output"]["kind"] == "probabilities"
    hidden_by_kind = known(heads, output="pose", output_kind="embedding")
    assert latent_of(hidden_by_kind, "logits") == ["lat"]


def test_another_output_is_stored_without_the_kind_of_the_former(heads, known):
    stored = known(heads, output="logits", output_kind="logits")
    assert metadata(known(stored, output="probs")) == {"onnx_geed.output": "probs"}
    assert metadata(known(stored, output="logits")) == metadata(stored)
    told = known(stored, output="probs", output_kind="probabilities")
    assert metadata(told)["onnx_geed.output_kind"] == "probabilities"


def latent_of(path, output):
    listed = list_layers(path, output=output)["tensors"]
    return [tensor["name"] for tensor in listed if "latent" in tensor["roles"]]


def two_branches():
    """Two outputs, each with a latent of its own, and the softmax of the first."""
    nodes = [
        models.node("Flatten", "a", "fa"),
        models.node("MatMul", "fa A", "left"),
        models.node("MatMul", "fa B", "right"),
        models.node("Relu", "left", "of_left"),
        models.node("Relu", "right", "of_right"),
        models.node("MatMul", "of_left E", "first"),
        models.node("MatMul", "of_right E", "second"),
        models.node("Softmax", "first", "shares", axis=1),
    ]
    stored = [models.weights(n, v) for n, v in (("A", A), ("B", B), ("E", ENDING))]
    outs = [(name, FLOAT, ["N", 3]) for name in ("first", "second", "shares")]
    return models.build(nodes, stored, [("a", FLOAT, ["N", 3, 4, 4])], outs)


@pytest.mark.parametrize("stored", ["first", None])
def test_a_stored_latent_is_of_no_output_that_does_not_read_it(tmp_path, stored):
    entries = {"onnx_geed.latent": "left"} | ({"onnx_geed.output": stored} if stored else {})
    path = models.save(models.with_metadata(two_branches(), entries), tmp_path / "net.onnx")
    found = {output: latent_of(path, output) for output in ("first", "second", "shares")}
    assert found == {"first": ["left"], "second": ["of_right"], "shares": ["left"]}


@pytest.mark.parametrize("stored", ["first", None])
def test_another_output_is_stored_without_a_latent_that_it_does_not_read(tmp_path, known, stored):
    entries = {"onnx_geed.latent": "left"} | ({"onnx_geed.output": stored} if stored else {})
    path = models.save(models.with_metadata(two_branches(), entries), tmp_path / "net.onnx")
    second = known(path, output="second")
    assert metadata(second) == {"onnx_geed.output": "second"}
    assert latent_of(second, None) == ["of_right"]
    assert metadata(known(path, output="shares")) == entries | {"onnx_geed.output": "shares"}
    own = known(path, output="second", latent="right")
    assert metadata(own) == {"onnx_geed.output": "second", "onnx_geed.latent": "right"}
    # What was stored with this output is the user's own affair.
    odd = known(known(path, output="second"), latent="left")
    assert metadata(known(odd, output="second"))["onnx_geed.latent"] == "left"
