"""Models that mean harm end in a figure or in one line, in bounded time and memory."""

import random
import sys
from pathlib import Path

import google.protobuf
import hostile_models
import models
import numpy as np
import onnx
import pytest

from onnx_geed import measure
from onnx_geed.errors import GeedError
from onnx_geed.model import list_layers
from onnx_geed.model.fatal_attributes import check_attributes

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

from bounded import Bounded, Ended
from fuzz import fuzz
from mutate import mutated

# Where these run out of time, they do so at the time allowed.
_MEASURED = (
    "endless_loop_on_data endless_loop_on_a_shape data_that_double[40] data_that_explode[Tile] "
    "data_that_explode[Gather] data_that_explode[Conv] many_tensors_alive[500] batch_that_doubles "
    "large_range[10000000000] large_constant_of_shape[[10000000000]] growing[OneHot] "
    "shape_that_doubles text_that_doubles regex_that_backtracks functions[mutual] functions[bomb] "
    "einsum_that_sums_over_everything sparse_weights tensors_in_a[sequence] opset[1000000000] "
    "sparse_weights_of[300000000] texts[many] texts[long] texts[attribute] "
    "metadata[action_deep] metadata[preprocess_deep] metadata[classes_deep] tensor_called[newline]"
)

_FATAL = [name for name in hostile_models.CASES if name.startswith("fatal_attribute[")]
_CONSTANT = [name for name in hostile_models.CASES if name.startswith("fatal_constant[")]


@pytest.fixture(scope="module")
def bounded():
    with Bounded() as server:
        yield server


def write(folder, name):
    made = hostile_models.CASES[name]()
    content = made if isinstance(made, bytes) else made.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    np.save(folder / "x.npy", models_images())


def models_images():
    return np.random.default_rng(0).random((6, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("name", hostile_models.CASES)
def test_a_hostile_model_is_listed_or_refused_in_one_line(bounded, tmp_path, name):
    write(tmp_path, name)
    ended = bounded.run(["layers", "model.onnx"], tmp_path)
    assert not ended.fault(), ended


@pytest.mark.parametrize("name", [*_MEASURED.split(), *_FATAL, *_CONSTANT])
def test_a_hostile_model_is_measured_or_refused_in_one_line(bounded, tmp_path, name):
    write(tmp_path, name)
    line = "measure model.onnx --data x.npy --group C4 --samples 3 --norm-samples 3 --out r.json"
    ended = bounded.run([*line.split(), "--provider", "cpu"], tmp_path)
    assert not ended.fault(), ended
    assert (tmp_path / "r.json").exists() == (ended.status == 0)


_REFUSED = [
    name
    for name in hostile_models.CASES
    if name.startswith(("tensor_in_a_function[", "sparse_tensor_in_an_attribute["))
]


@pytest.mark.parametrize(
    "name", [*_REFUSED, "texts_that_are_not_utf_8", "functions_of_one_name[17]"]
)
def test_what_lies_in_a_function_or_an_attribute_is_refused_as_all_else(tmp_path, name):
    write(tmp_path, name)
    with pytest.raises(GeedError, match=r"model\.onnx: (its|it has|tensor) "):
        list_layers(tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", ["wraps", "noise", "more_than_fits"])
def test_noise_that_takes_too_much_memory_is_refused_before_it_is_made(bounded, tmp_path, kind):
    write(tmp_path, f"input_of_shape[{kind}]")
    ended = bounded.run(["compile", "model.onnx", "--group", "C4", "-o", "made.onnx"], tmp_path)
    assert not ended.fault(), ended
    assert "of memory at once" in ended.err


@pytest.mark.parametrize(
    ("err", "status", "peak", "left", "fault"),
    [
        ("onnx-geed: no", 2, 0, (), ""),
        ("note: a\nonnx-geed: no", 2, 0, (), ""),
        ("onnx-geed: a\nonnx-geed: b", 2, 0, (), "2 lines"),
        ("onnx-geed: internal error, KeyError: 1 (a.py, line 3)", 2, 0, (), "traceback"),
        ("onnx-geed: " + "x" * 400, 2, 0, (), "line of"),
        ("onnx-geed: \x1b[2J", 2, 0, (), "raw"),
        ("", -11, 0, (), "status -11"),
        ("", 1, 0, (), "status 1"),
        ("", 0, 3 << 30, (), "held"),
        ("onnx-geed: no", 2, 0, ("r.json",), "left r.json"),
        ("", 0, 0, ("r.json",), ""),
    ],
)
def test_what_counts_as_a_fault(err, status, peak, left, fault):
    said = Ended(status, "", err, 0.1, peak, left).fault()
    assert said.startswith(fault)
    assert bool(said) == bool(fault)


def test_time_and_memory_of_a_command_are_bounded(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "slow.py").write_text("def x():\n    import time\n    time.sleep(60)\n")
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")
    with Bounded(seconds=1.5) as server:
        slow = ["measure", "model.onnx", "--data", "slow:x", "--group", "C4"]
        ended = server.run(slow, tmp_path)
        assert ended.fault().startswith("status -9")
        assert server.run(["layers", "m.onnx"], tmp_path).status == 2
        assert "device" in server.run(["layers", "/dev/zero"], tmp_path).err


def test_the_first_mutations_of_a_seed_find_nothing():
    # Others do, now and then: python tests/fuzz/fuzz.py looks for them.
    found = fuzz("models", 1, 30.0, cases=range(100))
    assert found.runs > 3
    assert not found.faults


def test_a_seed_repeats_its_mutations():
    net = models.random_cnn(0, (8, 8))
    first, second = ([mutated(net, random.Random(s)) for s in range(40)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 35


@pytest.mark.parametrize("limit", ["600MiB", "1MB"])
def test_a_limit_on_the_process_ends_in_one_line(bounded, tmp_path, limit):
    wide = hostile_models.net(
        [
            hostile_models.node("Tile", "x n", "g"),
            hostile_models.node("ReduceMean", "g", "r", axes=[2, 3]),
            hostile_models.node("Add", "x r", "z"),
        ],
        [hostile_models.ints("n", [1, 1, 1000, 1500])],
        end="z",
    )
    models.save(wide, tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", models_images())
    line = f"measure model.onnx --data x.npy --group C4 --samples 3 --memory-limit {limit}"
    ended = bounded.run(line.split(), tmp_path)
    assert ended.status == 2
    assert not ended.fault(), ended
    assert ("--memory-limit" in ended.err) == (limit == "1MB")


@pytest.mark.parametrize("name", [n for n in hostile_models.CASES if n.startswith("division[")])
def test_a_division_that_ends_the_process_is_refused_by_its_node(tmp_path, name):
    write(tmp_path, name)
    with pytest.raises(GeedError, match=r"its node (Div|Mod) the_division divides .* (0|-1)\b"):
        list_layers(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("divided", "by"), [(-(2**63), 2), (7, -1), (7, -2), (None, 16), (None, -2), (0, [3, 5])]
)
def test_other_divisions_of_whole_numbers_are_taken(tmp_path, divided, by):
    path = tmp_path / "model.onnx"
    models.save(hostile_models.division(("Div", divided, by)), path)
    assert list_layers(path)


@pytest.mark.parametrize("op", ["Loop", "SequenceAt", "SequenceErase", "SequenceInsert"])
def test_a_computed_place_without_a_value_is_refused_and_one_with_a_value_is_taken(
    bounded, tmp_path, op
):
    np.save(tmp_path / "x.npy", models_images())
    for made, status in (("Sub", 2), ("Sum", 0)):
        models.save(hostile_models.at_a_computed_place(op, made), tmp_path / "model.onnx")
        line = "measure model.onnx --data x.npy --group C4 --samples 3 --norm-samples 3"
        ended = bounded.run(line.split(), tmp_path)
        assert not ended.fault(), ended
        assert ended.status == status, ended


@pytest.mark.parametrize("name", _FATAL)
def test_an_attribute_that_ends_the_process_is_refused_by_its_node(tmp_path, name):
    write(tmp_path, name)
    build = hostile_models.CASES[name]
    told, op = build.args[0][:2]
    with pytest.raises(GeedError, match=f"its node {op} the_node has {told}\\b"):
        list_layers(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", _CONSTANT)
def test_a_constant_that_ends_the_process_is_refused_by_its_node(tmp_path, name):
    write(tmp_path, name)
    op, _, why = hostile_models.CASES[name].args[0]
    with pytest.raises(GeedError, match=rf"its node {op} the_node has a constant input \S+ {why},"):
        list_layers(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("op", "stated", "told"),
    [
        ("MoE", {"swiglu_limit": -1.0}, "swiglu_limit -1"),
        ("QMoE", {"swiglu_limit": float("nan")}, "swiglu_limit nan"),
        ("FeatureVectorizer", {"inputdimensions": [3, -1]}, "inputdimensions -1"),
        ("Einsum", {"equation": "a" * 20_000}, "equation aaa"),
        ("Einsum", {"equation": "ij,jk->i1"}, "equation"),
        ("Split", {"num_outputs": 0}, "num_outputs 0"),
    ],
)
def test_attributes_that_no_operator_allows_are_refused(op, stated, told):
    graph = onnx.GraphProto(node=[onnx.helper.make_node(op, ["x"], ["y"], **stated)])
    with pytest.raises(GeedError, match=f"has {told}") as refused:
        check_attributes(graph, Path("m.onnx"))
    assert len(str(refused.value)) < 350


@pytest.mark.parametrize("inside", ["body", "function"])
def test_fatal_attributes_are_found_in_bodies_and_functions(tmp_path, inside):
    fatal = hostile_models.node("RandomNormal", "", "r", name="n", shape=[1], scale=-1.0)
    add = hostile_models.node("Add", "x r", "z")
    if inside == "body":
        branch = hostile_models.graph_of(
            [fatal, add], [], [("z", hostile_models.FLOAT, ["N", 3, 8, 8])]
        )
        outer = hostile_models.node("If", "yes", "z", then_branch=branch, else_branch=branch)
        yes = onnx.numpy_helper.from_array(np.array(True), "yes")
        model = hostile_models.net([outer], [yes], end="z")
    else:
        fatal.attribute[-1].CopyFrom(
            onnx.AttributeProto(name="scale", ref_attr_name="s", type=onnx.AttributeProto.FLOAT)
        )
        opsets = [onnx.helper.make_opsetid("", 17)]
        own = onnx.helper.make_function("own", "F", ["x"], ["z"], [fatal, add], opsets, ["s"])
        outer = onnx.helper.make_node("F", ["x"], ["z"], domain="own", s=-1.0)
        model = hostile_models.net([outer], functions=[own], domains=["own"], end="z")
    models.save(model, tmp_path / "model.onnx")
    with pytest.raises(GeedError, match=r"its node RandomNormal \S+ has scale -1 "):
        list_layers(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("op", "stated"),
    [
        ("LayerNormalization", {"axis": -1}),
        ("GatherND", {"batch_dims": 0}),
        ("RotaryEmbedding", {"num_heads": 0}),
        ("RandomUniform", {"low": 1.0, "high": 1.0}),
        ("RandomNormal", {}),
        ("Einsum", {"equation": "...ij, ...jk -> ...ik"}),
        ("Einsum", {"equation": "bhid,bhjd"}),
        ("Split", {"num_outputs": 1}),
        ("MoE", {"swiglu_limit": 7.0}),
        (
            "TfIdfVectorizer",
            {"ngram_counts": [0, 2], "pool_int64s": [5, 6, 7, 8], "ngram_indexes": [0, 1, 2]},
        ),
    ],
)
def test_attributes_that_an_operator_allows_are_taken(op, stated):
    graph = onnx.GraphProto(node=[onnx.helper.make_node(op, ["x"], ["y"], **stated)])
    check_attributes(graph, Path("m.onnx"))


# ------------------------------------------------------------------------------------------------
# Of the mechanisms, what a process of its own does not show
# ------------------------------------------------------------------------------------------------


def test_an_unforeseen_error_is_the_model_s_if_the_checker_refuses_it(tmp_path):
    path = tmp_path / "m.onnx"
    model = models.random_cnn(0, (8, 8))
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    conv.attribute.append(onnx.helper.make_attribute("auto_pad", 7))
    models.save(model, path)
    with pytest.raises(GeedError, match="is not a valid ONNX model"):
        list_layers(path)


def test_a_fault_with_a_function_as_the_model_stays_one(monkeypatch):
    from onnx_geed.run import setting

    def broken(*_, **__):
        raise ValueError("repeated axis")

    monkeypatch.setattr(setting, "make_source", broken)
    with pytest.raises(ValueError, match="repeated axis"):
        measure(lambda x: {"y": x.mean((2, 3))}, models_images(), "C4", measures=["output-l2"])


def test_a_fault_of_ours_stays_one_where_the_checker_has_nothing_to_say(tmp_path, monkeypatch):
    from onnx_geed.model import listing

    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "m.onnx")
    monkeypatch.setattr(listing, "inputs", lambda _: [][0])
    with pytest.raises(IndexError):
        list_layers(path)


def test_activations_beyond_the_memory_are_named(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(hostile_models.CASES["data_that_double[30]"]().SerializeToString())
    with pytest.raises(
        GeedError, match=r"one row take .*, the largest being tensor d(27|30) .*--memory"
    ):
        measure(path, models_images(), "C4", samples=3)


def test_a_batch_beyond_the_memory_is_made_smaller_and_told(tmp_path):
    wide = hostile_models.net(
        [
            hostile_models.node("Tile", "x n", "g"),
            hostile_models.node("ReduceMean", "g", "r", axes=[2, 3]),
            hostile_models.node("Add", "x r", "z"),
        ],
        [hostile_models.ints("n", [1, 1, 160, 80])],
        end="z",
    )
    path = models.save(wide, tmp_path / "m.onnx")
    options = {"samples": 20, "norm_samples": 3, "provider": "cpu", "measures": ["output-l2"]}
    data = np.random.default_rng(0).random((30, 3, 8, 8), dtype=np.float32)
    asked = measure(path, data, "C4", memory="256MiB", batch_size=10**9, **options)
    plain = measure(path, data, "C4", **options)
    told = [note for note in asked["notes"] if "--batch-size 1000000000" in note]
    assert len(told) == 1
    assert asked["runtime"]["batch_size"] < 30
    (value,), (same,) = ([m["value"] for m in r["measurements"]] for r in (asked, plain))
    assert np.isclose(value, same, rtol=1e-5)


# Before 7.35 protobuf does not say why it reads no further.
DEEP = (
    "bodies of its nodes (If, Loop, Scan) lie in each other deeper"
    if tuple(map(int, google.protobuf.__version__.split(".")[:2])) >= (7, 35)
    else "not an ONNX model, or cut off"
)


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("bodies_in_bodies[50]", DEEP),
        ("bodies_in_bodies[10000]", DEEP),
        ("nodes_by_the_hundred_thousand", "cut a part out of it by onnx.utils.extract_model"),
        ("cut_at[0.5]", "not an ONNX model, or cut off"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(tmp_path, case, told):
    write(tmp_path, case)
    with pytest.raises(GeedError) as refused:
        list_layers(tmp_path / "model.onnx")
    assert told in str(refused.value)
