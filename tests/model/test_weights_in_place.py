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
from onnx_geed.model import annotate_model, fingerprint, io, load_model, weights_in_place
from onnx_geed.model.weights_in_place import bring_in, model_bytes
from onnx_geed.run import orbit_pieces

FEW = {"samples": 4, "norm_samples": 4, "provider": "cpu"}


@pytest.fixture(autouse=True)
def nearly_all_are_large(monkeypatch):
    monkeypatch.setattr(weights_in_place, "_LARGE", 64)
    monkeypatch.setattr(io, "_SMALL", 8)


@pytest.fixture
def path(tmp_path):
    return models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")


def left(proto):
    return [i for i in proto.graph.initializer if i.data_location == TensorProto.EXTERNAL]


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
    bring_in(proto, path)
    assert proto == onnx.load(path)


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
    plain = fingerprint.digest

    def slow(content, extras):
        text = plain(content, extras)
        os.utime(path, (1, 1))
        return text

    monkeypatch.setattr(fingerprint, "digest", slow)
    model = load_model(path)
    with pytest.raises(GeedError, match="changed while it was read"):
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
    bring_in(proto, path)
    assert proto == onnx.ModelProto.FromString(whole)


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
