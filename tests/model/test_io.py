"""A file becomes a model, or one line says what is wrong with it."""

from __future__ import annotations

import os
import shutil

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from running import images, run

from onnx_geed.errors import GeedError
from onnx_geed.model import Model, expose_tensors as expose, load_model
from onnx_geed.model.metadata import metadata_json
from onnx_geed.model.nodes import reads
from onnx_geed.run.session import open_session


def complaint(path):
    with pytest.raises(GeedError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_was_read_is_told(tmp_path):
    source = models.with_metadata(models.random_cnn(0, (8, 8)), {"onnx_geed.input": "x"})
    path = models.save(source, tmp_path / "a.onnx")
    model = load_model(path)
    assert isinstance(model, Model)
    assert (model.opset, model.producer) == (17, "onnx-geed tests")
    assert model.metadata["onnx_geed.input"] == "x"
    assert len(model.sha256) == 64
    assert model.proto == source


def test_a_missing_file_is_named_with_its_neighbour(tmp_path):
    models.save(models.constant(), tmp_path / "resnet.onnx")
    assert "resnet.onnx" in complaint(tmp_path / "resnte.onnx")


def test_a_folder_is_no_model(tmp_path):
    assert "folder" in complaint(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is a text file\n", b"\x89PNG\r\n\x1a\n" * 9]
)
def test_other_files_are_no_models(tmp_path, content):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    assert "not an ONNX model" in complaint(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_model_is_refused(tmp_path, share):
    path = models.save(models.random_cnn(0, (8, 8)), tmp_path / "a.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "not an ONNX model" in complaint(path)


def test_a_file_over_2_gib_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.onnx"
    with path.open("wb") as stream:
        stream.truncate((1 << 31) + 1)  # sparse: takes no room
    assert "external data" in complaint(path)


def test_large_external_data_are_not_loaded_and_count_in_the_fingerprint(tmp_path):
    source = models.random_cnn(0, (8, 8))
    big = np.random.default_rng(0).normal(size=(5, 500)).astype(np.float32)
    source.graph.initializer.append(numpy_helper.from_array(big, "unused"))
    path = models.save_external(tmp_path, source)
    model = load_model(path)
    stored = {i.name: i.data_location for i in model.proto.graph.initializer}
    assert stored["unused"] == TensorProto.EXTERNAL
    before = model.sha256
    weights = tmp_path / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_model(path).sha256 != before


def test_shapes_stored_externally_are_read_since_the_runtime_will_not(tmp_path):
    source = models.static_batch()
    path = models.save_external(tmp_path, source)
    model = load_model(path)
    x = images((3, 8, 8), 1)
    session = open_session(
        expose(model, ["latent"]).SerializeToString(),
        tmp_path,
        input="x",
        outputs=["latent"],
        provider="cpu",
    )
    np.testing.assert_allclose(session.run(x)["latent"], run(source, x, ["latent"])[0], rtol=1e-5)


def test_missing_external_data_are_named(tmp_path):
    path = models.save_external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    assert "'weights.bin' are missing" in complaint(path)


def test_external_data_that_are_a_hole_of_any_size_are_not_read(tmp_path):
    path = models.save_external(tmp_path)
    os.truncate(tmp_path / "weights.bin", 1 << 36)
    assert "have 64.0 GiB, but the model uses only the first" in complaint(path)


def test_cut_external_data_are_named(tmp_path):
    path = models.save_external(tmp_path)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "'weights.bin' end before" in complaint(path)


def test_a_symbolic_link_out_of_the_folder_is_refused(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    path = models.save_external(inside)
    shutil.move(inside / "weights.bin", outside / "weights.bin")
    os.symlink(outside / "weights.bin", inside / "weights.bin")
    assert "symbolic link" in complaint(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/tmp/weights.bin", "a/../../weights.bin"])
def test_external_data_elsewhere_are_refused(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    path = models.save_external(folder)
    shutil.copy(folder / "weights.bin", tmp_path / "weights.bin")
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save(proto, path)
    assert "outside its folder" in complaint(path)


def test_unsorted_nodes_are_sorted_and_sorted_ones_stay(tmp_path):
    straight = models.random_cnn(0, (8, 8))
    sorted_again = load_model(models.save(models.unsorted(), tmp_path / "a.onnx")).proto.graph
    known = {"x"} | {i.name for i in sorted_again.initializer}
    for node in sorted_again.node:
        assert known.issuperset(reads(node))
        known.update(node.output)
    kept = load_model(models.save(straight, tmp_path / "b.onnx")).proto.graph
    assert list(kept.node) == list(straight.graph.node)


def test_a_cycle_is_named(tmp_path):
    proto = models.build(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
        [],
        [("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [("b", TensorProto.FLOAT, None)],
    )
    assert "cycle" in complaint(models.save(proto, tmp_path / "a.onnx"))


def test_local_functions_are_inlined(tmp_path):
    model = load_model(models.save(models.local_function(), tmp_path / "a.onnx"))
    assert not model.proto.functions
    assert "Relu" in {n.op_type for n in model.proto.graph.node}


def test_a_node_reads_what_its_bodies_capture():
    conditional = next(n for n in models.if_body().graph.node if n.op_type == "If")
    assert set(conditional.input) < set(reads(conditional))
    # A body may also hand on what it captures as it is.
    body = helper.make_graph([], "b", [], [onnx.ValueInfoProto(name="outer")])
    assert reads(helper.make_node("If", ["c"], ["y"], then_branch=body)) == ["c", "outer"]


def test_metadata_that_are_no_json_are_named(tmp_path):
    source = models.with_metadata(models.constant(), {"onnx_geed.modules": "{no"})
    model = load_model(models.save(source, tmp_path / "a.onnx"))
    assert metadata_json(model, "onnx_geed.classes") is None
    with pytest.raises(GeedError, match=r"onnx_geed\.modules is not JSON"):
        metadata_json(model, "onnx_geed.modules")
