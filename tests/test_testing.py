import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import onnx_geed
from onnx_geed import GeedError, measure
from onnx_geed.cli import cli
from onnx_geed.results import over_limits
from onnx_geed.results.limits import junit_xml
from onnx_geed.testing import assert_equivariant

DEMO = Path(onnx_geed.__file__).parent / "demo"

SIZE = 6


def net(path, weights):
    """Write x → maps (1×1 Conv) → latent (weighted sums of pixels) → logits."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["maps"]),
        helper.make_node("Flatten", ["maps"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["latent"]),
        helper.make_node("MatMul", ["latent", "h"], ["logits"]),
    ]
    arrays = {
        "k": np.ones((1, 1, 1, 1), np.float32),
        "w": weights.reshape(SIZE * SIZE, 1).astype(np.float32),
        "h": np.array([[1.0, -1.0]], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def invariant(tmp_path):
    return net(tmp_path / "good.onnx", np.ones((SIZE, SIZE)))


@pytest.fixture
def lopsided(tmp_path):
    """Write a model that looks at the left half alone."""
    return net(tmp_path / "bad.onnx", np.repeat([[1, 1, 1, 0, 0, 0]], SIZE, axis=0))


def data():
    """Return samples that a mirror leaves alone, but for number 3."""
    x = np.full((6, 1, SIZE, SIZE), 0.1, np.float32) * np.arange(1, 7).reshape(6, 1, 1, 1)
    x[3, 0, :, 0] = 1.0
    return x.astype(np.float32)


def test_what_is_equivariant_passes_and_is_handed_back(invariant):
    result = assert_equivariant(invariant, data(), "D4", measure="softmax-kl", limit=1e-6)
    assert result["measurements"][0]["value"] <= 1e-6
    assert result["group"]["name"] == "D4"


def test_the_message_names_layer_element_and_sample(lopsided):
    with pytest.raises(AssertionError) as caught:
        assert_equivariant(lopsided, data(), "flip-h", measure="output-l2@latent", limit=1e-3)
    text = str(caught.value)
    # The left half sums to 6 + 12·0.4 or 18·0.4: either is half the difference off the mean.
    assert "output-l2@latent: 0.3 > 0.001" in text
    assert "worst element" in text
    assert "worst sample sample 3: 1.8, largest for" in text
    assert "1 of 1 value over the limit" in text
    assert "(95 % interval -0.47" in text  # 0.3 ± 2.571·1.8/6


def test_the_worst_element_is_named(tmp_path):
    path = net(tmp_path / "m.onnx", np.arange(36).reshape(6, 6))
    x = np.zeros((2, 1, 6, 6), np.float32)
    x[:, 0, 0, 0] = 1.0
    with pytest.raises(AssertionError) as caught:
        assert_equivariant(path, x, "C4", measure="channel-cos@maps", limit=-2.0)
    assert "channel-cos@maps: -1 > -2" in str(caught.value)
    x[:, 0, 0, 0] = [1.0, 2.0]
    with pytest.raises(AssertionError) as caught:
        assert_equivariant(path, x, "C4", measure="output-l2@latent", limit=0.1)
    # The bright corner is worth 0, 30, 35, 5 in turn, 17.5 on the mean.
    assert "output-l2@latent: 22.5 > 0.1" in str(caught.value)  # 1.5·(17.5 + 12.5)/2
    assert "worst element e: 26.25" in str(caught.value)  # 1.5·17.5
    assert "worst sample sample 1: 30, largest for e: 35" in str(caught.value)


def test_a_limit_that_is_met_exactly_passes(invariant):
    value = measure(invariant, data(), "D4")["measurements"][0]["value"]
    assert_equivariant(invariant, data(), "D4", measure="channel-cos", limit=value)
    with pytest.raises(AssertionError):
        assert_equivariant(
            invariant, data(), "D4", measure="channel-cos", limit=np.nextafter(value, -2)
        )


def test_the_exact_part_is_mentioned_where_it_passes(invariant):
    x = np.random.default_rng(0).random((5, 1, SIZE, SIZE)).astype(np.float32)
    with pytest.raises(AssertionError, match="the exact elements alone pass"):
        assert_equivariant(invariant, x, "C8", measure="output-l2@latent", limit=1e-4)


def test_wrong_use_is_no_failed_assertion(invariant):
    for options in (
        {"measure": "softmax", "limit": 1.0},
        {"measure": "softmax-kl@nowhere", "limit": 1.0},
        {"measure": "softmax-kl", "limit": float("nan")},
        {"measure": "channel-cos", "limit": 0.9},
        {"measure": "softmax-kl", "limit": 1.0, "measures": ["latent-l2"]},
    ):
        with pytest.raises(GeedError):
            assert_equivariant(invariant, data(), "D4", **options)


def test_junit_counts_cases_and_failures(lopsided):
    result = measure(lopsided, data(), "flip-h")
    suite = ET.fromstring(junit_xml(result, ["softmax-kl=0", "channel-cos=0"]).encode())
    assert suite.tag == "testsuite"
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failures = suite.findall("testcase/failure")
    assert len(failures) == 1
    assert "softmax-kl@logits" in failures[0].text
    assert "sample 3" in failures[0].text
    with pytest.raises(GeedError, match="is not measured"):
        junit_xml(result, ["output-l2=0"])


def test_names_that_xml_cannot_hold_are_cleaned(lopsided):
    result = measure(lopsided, data(), "flip-h")
    result["model"]["path"] = "a\x01<b>&.onnx"
    case = ET.fromstring(junit_xml(result, ["softmax-kl=0"]).encode()).find("testcase")
    assert case.get("classname") == "onnx-geed.a?<b>&.onnx"


def test_the_command_writes_junit(lopsided, tmp_path):
    np.save(tmp_path / "x.npy", data())
    command = ["measure", str(lopsided), "--data", str(tmp_path / "x.npy"), "--group", "flip-h"]
    file = tmp_path / "j.xml"
    run = CliRunner().invoke(cli, [*command, "--fail-above", "softmax-kl=0", "--junit", str(file)])
    assert run.exit_code == 1
    assert ET.parse(file).getroot().get("failures") == "1"
    run = CliRunner().invoke(cli, [*command, "--junit", str(file)])
    assert (run.exit_code, "--fail-above" in run.stderr) == (2, True)
    nowhere = str(tmp_path / "none" / "j.xml")
    run = CliRunner().invoke(cli, [*command, "--fail-above", "softmax-kl=0", "--junit", nowhere])
    assert run.exit_code == 2
    assert run.stderr.startswith(f"onnx-geed: --junit {nowhere}")


def test_every_gate_holds_the_same_value_against_a_limit():
    # latent-cos is told unnormalised elsewhere; a limit is for the value that a result holds.
    model, digits = DEMO / "digits_cnn.onnx", str(DEMO / "digits.npz")
    result = measure(model, digits, "C4", samples=4, measures=["latent-cos"])
    (record,) = result["measurements"]
    assert record["normaliser"] > 0
    assert abs(record["value"] - record["unnormalised"]) > 1e-3
    for limit in sorted((record["value"], record["unnormalised"])):
        for step in (-1e-4, 1e-4):
            text = f"latent-cos={limit + step}"
            over = record["value"] > limit + step
            assert bool(over_limits(result, [text])) == over
            assert ('failures="1"' in junit_xml(result, [text])) == over
            chosen = {"measure": "latent-cos", "samples": 4, "limit": limit + step}
            if not over:
                assert_equivariant(model, digits, "C4", **chosen)
                continue
            with pytest.raises(AssertionError, match=f"{record['value']:.6g} >"):
                assert_equivariant(model, digits, "C4", **chosen)
