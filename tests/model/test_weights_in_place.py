"""Large weights stay in the file: nothing that is measured, hashed or written knows of it."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading

import light
import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from running import images

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.model import annotate_model, external_data, fingerprint, load_model, weights_in_place
from onnx_geed.model.weights_in_place import model_bytes, with_weights
from onnx_geed.run import orbit_pieces

FEW = {"samples": 4, "norm_samples": 4, "provider": "cpu"}


@pytest.fixture(autouse=True)
def nearly_all_are_large(monkeypatch):
    monkeypatch.setattr(weights_in_place, "_LARGE", 64)
    monkeypatch.setattr(external_data, "_SMALL", 8)


@pytest.fixture
def path(tmp_path):
    return models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")


def left(proto):
    return [i for i in proto.graph.initializer if i.data_location == TensorProto.EXTERNAL]


def brought_in(proto, path):
    return onnx.ModelProto.FromString(b"".join(with_weights(proto, path)))


SOURCES = {
    "plain": lambda: models.random_cnn(0, (8, 8)),
    "half": models.fp16,
    "functions": models.local_function,
    "bodies": models.if_body,
    "declared": models.initializer_as_input,
    "quantised": models.qdq_int8,
    "classic": lambda: light.refilled("squeezenet"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_model_with_its_weights_brought_in_is_the_file(tmp_path, kind):
    path = models.save(SOURCES[kind](), tmp_path / "model.onnx")
    content, in_place = model_bytes(path)
    assert in_place
    assert len(content) < path.stat().st_size
    proto = onnx.ModelProto.FromString(content)
    assert left(proto)
    assert not any(i.raw_data for i in left(proto))
    assert brought_in(proto, path) == onnx.load(path)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_weights_that_are_lists_of_floats_are_left_too(path, kind):
    source = onnx.load(path)
    values = np.random.default_rng(0).normal(size=(6, 50)).astype(kind)
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    listed = onnx.helper.make_tensor("listed", number, values.shape, values.ravel().tolist())
    source.graph.initializer.append(listed)
    assert not listed.raw_data
    models.save(source, path)
    proto = load_model(path).proto
    assert "listed" in {i.name for i in left(proto)}
    brought = {i.name: numpy_helper.to_array(i) for i in brought_in(proto, path).graph.initializer}
    np.testing.assert_array_equal(brought["listed"], values)


def test_lists_in_pieces_or_of_another_type_are_read_as_protobuf_reads_them(path):
    def packed(count):
        return b"\x22" + bytes([4 * count]) + np.arange(count, dtype="<f4").tobytes()

    dims, named = b"\x08\x32", b"\x42\x01p"
    for number, pieces in ((b"\x10\x01", (20, 30)), (b"\x10\x06", (30,))):
        tensor = dims + number + named + b"".join(map(packed, pieces))
        graph = b"\x2a" + bytes([len(tensor) & 127 | 128, len(tensor) >> 7]) + tensor
        more = b"\x3a" + bytes([len(graph) & 127 | 128, len(graph) >> 7]) + graph
        path.write_bytes(path.read_bytes() + more)
        assert not model_bytes(path)[1]


def test_what_would_have_to_be_read_is_bounded(path, monkeypatch, tmp_path):
    monkeypatch.setattr(weights_in_place, "_MOST_READ", 4000)
    source = onnx.load(path)
    source.doc_string = "a" * 4000
    models.save(source, path)
    with pytest.raises(GeedError, match="have to be read: save the model again"):
        load_model(path)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "model.onnx"
    os.symlink(path, link)
    assert load_model(link).proto.doc_string  # what lies on a disk
    monkeypatch.setattr(weights_in_place, "is_hollow", lambda _: True)
    with pytest.raises(GeedError, match="have to be read: save the model again"):
        load_model(link)


def test_no_file_of_more_than_2_gib_is_begun(path, monkeypatch):
    proto = load_model(path).proto
    monkeypatch.setattr(weights_in_place, "_MOST", 2000)
    with pytest.raises(GeedError, match="larger than 2 GiB"):
        list(with_weights(proto, path))


def test_the_fingerprint_is_that_of_the_file(path):
    model = load_model(path)
    assert left(model.proto)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [stamp.path for stamp in model.weights] == [str(path)]


def test_the_fingerprint_goes_to_other_processes(path):
    model = load_model(path)
    other = pickle.loads(pickle.dumps(model))
    assert other.sha256 == model.sha256
    assert pickle.loads(pickle.dumps(other)).sha256 == model.sha256


def test_a_file_that_changes_while_it_is_read_has_no_fingerprint(path, monkeypatch):
    plain = fingerprint._through

    def slow(start, files):
        text = plain(start, files)
        os.utime(path, (1, 1))
        return text

    monkeypatch.setattr(fingerprint, "_through", slow)
    model = load_model(path)
    with pytest.raises(GeedError, match="changed since it was opened"):
        _ = model.sha256


def test_parts_of_a_message_and_strange_fields_are_kept(path):
    # Protobuf joins messages that come twice, and keeps fields that it does not know.
    source = onnx.load(path)
    more = onnx.ModelProto()
    more.graph.initializer.append(numpy_helper.from_array(np.arange(99.0), "more"))
    unknown = b"\xf8\x3f\x05" + b"\xf9\x3f" + bytes(8) + b"\xfd\x3f" + bytes(4)
    whole = source.SerializeToString() + unknown + more.SerializeToString()
    path.write_bytes(whole)
    content, in_place = model_bytes(path)
    assert in_place
    assert unknown in content
    proto = onnx.ModelProto.FromString(content)
    assert "more" in {i.name for i in left(proto)}
    assert brought_in(proto, path) == onnx.ModelProto.FromString(whole)


@pytest.mark.parametrize("share", np.linspace(0.02, 0.999, 23))
def test_a_file_that_is_cut_off_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(GeedError, match="not an ONNX model, or cut off"):
        load_model(path)


@pytest.mark.parametrize(
    "content", [b"\xff" * 99, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b\x0c", b"\x08"]
)
def test_what_is_no_model_is_taken_as_it_is(path, content):
    path.write_bytes(content)
    assert model_bytes(path) == (content, False)


def test_a_link_from_another_folder_is_read_whole_and_scores_alike(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "model.onnx"
    os.symlink(path, link)
    beside = tmp_path / "beside.onnx"
    os.symlink(path, beside)
    assert not left(load_model(link).proto)
    assert left(load_model(beside).proto)
    x = images((3, 8, 8), 4)
    results = [geed.measure(p, x, "C8", **FEW)["measurements"] for p in (path, link, beside)]
    assert results[0] == results[1] == results[2]


def test_a_pipe_is_read_once(path, tmp_path):
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    content = path.read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    model = load_model(pipe)
    writer.join()
    assert not left(model.proto)
    assert model.sha256 == hashlib.sha256(content).hexdigest()


def test_a_network_drawn_anew_takes_what_it_keeps_from_the_file(path):
    result = geed.measure(path, images((3, 8, 8), 4), "C4", untrained=True, **FEW)
    assert all("untrained" in m["references"] for m in result["measurements"])


def test_a_compiled_measurement_holds_the_weights(path, tmp_path):
    out = tmp_path / "out" / "measured.onnx"
    out.parent.mkdir()
    geed.compile_measurement(path, "C4", out)
    assert not left(onnx.load(out, load_external_data=False))
    onnx.checker.check_model(str(out))
    ort.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])


def test_an_annotated_model_holds_the_weights(path, tmp_path):
    out = tmp_path / "annotated.onnx"
    annotate_model(path, out, input="x")
    assert list(onnx.load(out).graph.initializer) == list(onnx.load(path).graph.initializer)


def test_a_model_that_is_replaced_during_a_run_is_refused(path, tmp_path, monkeypatch):
    other = models.save(models.random_cnn(5, (8, 8)), tmp_path / "other.onnx").read_bytes()
    changes = []
    plain = orbit_pieces.run_rows

    def changing(*a, **k):
        result = plain(*a, **k)
        if changes:
            changes.pop()()
        return result

    def replaced():
        (tmp_path / "new.onnx").write_bytes(other)
        os.replace(tmp_path / "new.onnx", path)

    monkeypatch.setattr(orbit_pieces, "run_rows", changing)
    changes.append(lambda: os.utime(path))
    assert geed.measure(path, images((3, 8, 8), 4), "C4", **FEW)["measurements"]
    changes.append(replaced)
    with pytest.raises(GeedError, match="its weights changed while it was measured"):
        geed.measure(path, images((3, 8, 8), 4), "C4", **FEW)


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="is a file of Linux")
def test_what_the_system_makes_up_as_it_is_read_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_in_place, "_MOST_READ", 1 << 20)
    (tmp_path / "m.onnx").symlink_to("/proc/self/pagemap")
    with pytest.raises(GeedError, match="more than 1 MiB of it would have to be read"):
        model_bytes(tmp_path / "m.onnx")
