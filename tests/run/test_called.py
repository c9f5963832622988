"""A function of arrays in place of an ONNX file."""

import functools
import json
import pickle
import sys
import threading
from pathlib import Path

import models
import naive
import numpy as np
import onnx
import pytest
import running

import onnx_geed
from onnx_geed import GeedError, compare, load, measure, measure_groups, write_cache, write_report
from onnx_geed.results import diagnose
from onnx_geed.run.called import Function, outputs_of, to_host
from onnx_geed.run.called_layouts import map_layouts_of

SHAPE = (3, 8, 8)
OPTIONS = {"samples": 5, "norm_samples": 8}
WEIGHTS = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
CLASSES = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
ONE = {"measures": ["unexplained@output"]}
LAYERS = {"latent": "z", "layout": {"map": "NCHW"}}


def images(n=9):
    return running.images(SHAPE, n)


def net(batch):
    # Not equivariant: what it adds up is heavier on one side.
    ramp = np.linspace(0, 1, batch.shape[-1], dtype=np.float32)
    maps = np.maximum(np.einsum("nchw,ck->nkhw", batch, WEIGHTS) + ramp, 0)
    pooled = (maps * ramp).mean((2, 3))
    return {"map": maps, "z": pooled, "logits": pooled @ CLASSES}


def values(result):
    return {(r["measure"], r["layer"]): r["value"] for r in result["measurements"]}


def test_its_figures_are_those_of_plain_loops():
    data, indices = images(), np.random.default_rng(0).permutation(9)
    result = measure(net, data, "C4", **OPTIONS, **LAYERS)
    drawn = data[indices[:8]]
    moved = naive.orbit("C4", drawn).astype(np.float32)
    flat = net(moved.reshape(-1, *SHAPE))
    orbits = {name: a.reshape(8, 4, *a.shape[1:]) for name, a in flat.items()}
    found = values(result)
    assert set(found) == {
        ("channel-cos", "map"),
        ("latent-l2", "z"),
        ("latent-cos", "z"),
        ("softmax-kl", "logits"),
    }
    cosines = naive.channel_cos(orbits["map"][:5], "C4")
    assert np.isclose(found["channel-cos", "map"], np.mean(cosines), atol=1e-5)
    z = orbits["z"].astype(float)
    middle = z[:5].mean(axis=1, keepdims=True)
    m = np.mean([np.linalg.norm(z[i, 0] - z[j, 0]) for i in range(8) for j in range(i)])
    far = np.linalg.norm(z[:5] - middle, axis=-1).mean()
    assert np.isclose(found["latent-l2", "z"], far / m, rtol=1e-5)


def test_a_session_called_by_hand_gives_the_bits_of_its_file(tmp_path):
    demo = Path(onnx_geed.__file__).parent / "demo"
    path, data = demo / "digits_cnn.onnx", np.load(demo / "digits.npz")["images"][:12, None]
    session = running.session(str(path))
    name = session.get_inputs()[0].name

    def called(batch):
        return session.run(None, {name: batch})[0]

    options = {**OPTIONS, "measures": ["softmax-kl", "flip-rate"]}
    own, whole = measure(called, data, "C8", **options), measure(path, data, "C8", **options)
    for a, b in zip(own["measurements"], whole["measurements"], strict=True):
        assert (a["value"], a["deviations"]) == (b["value"], b["deviations"])


def test_the_result_says_that_it_was_a_function(tmp_path):
    result = measure(net, images(), "C4", **OPTIONS)
    told = {"path": "net", "sha256": "", "opset": 0, "producer": "", "kind": "callable"}
    assert result["model"] == told
    assert result["runtime"]["provider"] == "callable"
    assert "optimisation" not in result["runtime"]
    assert any("function" in note for note in result["notes"])
    assert not any("--provider" in note for note in result["notes"])
    result.save(tmp_path / "net.json")
    assert load(tmp_path / "net.json")["model"] == told
    assert json.dumps(result)
    write_report([result], tmp_path / "page.html")
    assert "it has no fingerprint" in (tmp_path / "page.html").read_text()


def test_two_functions_are_not_one_model():
    a = measure(net, images(), "C4", **OPTIONS)
    b = measure(lambda x: net(x**2), images(), "C4", **OPTIONS)
    assert onnx_geed.aggregate([a, b])["warnings"] == []
    assert compare(a, b)["measurements"]
    assert diagnose(a) is not None


def test_maps_need_no_layout_where_their_grids_scale_as_the_inputs():
    plain = measure(net, images(), "C4", **OPTIONS)
    stated = measure(net, images(), "C4", **OPTIONS, layout={"map": "NCHW"})
    assert values(plain) == values(stated)
    assert ("channel-cos", "map") in values(plain)
    said = "read as maps, since their grids scale as the input's: map NCHW; say otherwise with"
    assert any(note.startswith(said) for note in plain["notes"])
    assert not any("read as maps" in note for note in stated["notes"])
    last = np.ascontiguousarray(images().transpose(0, 2, 3, 1))

    def channels_last(batch):
        out = net(batch.transpose(0, 3, 1, 2))
        return {**out, "map": out["map"].transpose(0, 2, 3, 1)}

    other = measure(channels_last, last, "C4", **OPTIONS, input_layout="NHWC")
    assert values(other) == pytest.approx(values(plain), rel=1e-5)
    metric = onnx_geed.EquivarianceMetric("C4")
    metric.update(net, images())
    assert set(metric.compute()) == {"channel-cos@map", "softmax-kl@logits"}


@pytest.mark.parametrize(
    ("shape", "plane", "layout"),
    [
        ((5, 8, 8), (8, 8), "NCHW"),
        ((5, 4, 4), (8, 8), "NCHW"),
        ((5, 3, 3), (8, 8), "NCHW"),  # a frame is lost, and every second place
        ((4, 4, 5), (8, 8), "NHWC"),
        ((4, 4, 4), (8, 8), None),  # either
        ((5, 9, 9), (8, 8), None),  # grown
        ((6, 7, 5), (8, 8), None),
        ((5, 1, 1), (8, 8), None),  # one place
        ((8, 20), (20, 30), None),
        ((4, 10, 15), (20, 30), "NCHW"),
        ((4, 18, 28), (20, 30), None),  # a frame alone is no stride
        ((16, 5, 8), (20, 30), "NCHW"),  # rounded up
        ((7, 12, 12), (20, 30), None),
        ((10, 15, 22), (20, 30), "NHWC"),
    ],
)
def test_grids_are_known_by_one_stride(shape, plane, layout):
    rows = np.zeros((2, 3, *plane), np.float32)
    array = np.random.default_rng(0).standard_normal((2, *shape))
    assert map_layouts_of({"y": array}, rows, "NCHW") == ({"y": layout} if layout else {})
    assert map_layouts_of({"y": array}, rows, "NPX") == {}


def test_attention_is_no_map():
    scores = np.random.default_rng(0).random((2, 3, 4, 4))
    shares = scores / scores.sum(axis=-1, keepdims=True)
    rows = np.zeros((2, 3, 8, 8), np.float32)
    assert map_layouts_of({"a": shares, "b": scores}, rows, "NCHW") == {"b": "NCHW"}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (net, "net"),
        (lambda x: net(x), "<lambda>"),
        (functools.partial(net), "net"),
        (np.vectorize(float), "vectorize"),
    ],
)
def test_it_is_called_by_its_name(function, name):
    assert Function(function).name == name


def test_outputs_have_names():
    a = np.ones((2, 3))
    assert list(outputs_of(a)) == ["output"]
    assert list(outputs_of((a, a))) == ["output.0", "output.1"]
    assert list(outputs_of([a])) == ["output.0"]
    assert list(outputs_of({"b": a, "a": a})) == ["b", "a"]


class Tensor:
    """As a framework's, which must be detached and brought to the host."""

    def __init__(self, array, where="device, with gradient"):
        self.array, self.where = array, where

    def detach(self):
        return Tensor(self.array, self.where.replace(", with gradient", ""))

    def cpu(self):
        assert "gradient" not in self.where
        return Tensor(self.array, "host")

    def __dlpack__(self, **options):
        assert self.where == "host", self.where
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_tensors_come_to_the_host_without_their_framework():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = to_host(Tensor(array))
    assert isinstance(got, np.ndarray)
    assert np.array_equal(got, array)
    got[0] = 7
    assert array[0, 0] == 0
    assert measure(lambda x: Tensor(net(x)["z"]), images(), "C4", **OPTIONS, **ONE)["measurements"]


class OnDevice:
    """A tensor of a GPU, as it offers itself for exchange."""

    def __init__(self, array, copies):
        self.array, self.copies = array, copies

    def __dlpack__(self, **options):
        if options.get("dl_device") == (1, 0) and options.get("copy") and self.copies:
            return self.array.__dlpack__()
        raise BufferError("device memory cannot be read")

    def __dlpack_device__(self):
        return 2, 0


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy 2.0 asks for no copy of tensors"
)
def test_tensors_of_a_gpu_are_copied_where_they_offer_it():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(to_host(OnDevice(array, copies=True)), array)


def test_a_tensor_that_stays_on_its_gpu_is_one_line():
    said = r"a tensor \(OnDevice\) is on cuda:0, and cannot be copied to the host .*tensor\.cpu\(\)"
    with pytest.raises(GeedError, match=said):
        to_host(OnDevice(np.ones(3), copies=False))

    def there(batch):
        return OnDevice(net(batch)["z"], copies=False)

    with pytest.raises(GeedError, match="is on cuda:0") as caught:
        measure(there, images(), "C4", **OPTIONS, **ONE)
    assert "\n" not in str(caught.value)
    metric = onnx_geed.EquivarianceMetric("C4", ["unexplained@output"])
    with pytest.raises(GeedError, match="is on cuda:0"):
        metric.update(lambda x: net(x)["z"], OnDevice(images(), copies=False))
    with pytest.raises(GeedError, match="is on cuda:0"):
        metric.update(there, images())


def test_what_it_does_to_its_batch_is_its_own():
    def spoiling(batch):
        out = net(batch)["z"]
        batch[:] = np.nan
        return out

    own = measure(spoiling, images(), "C4", **OPTIONS, **ONE)
    plain = measure(lambda x: net(x)["z"], images(), "C4", **OPTIONS, **ONE)
    assert values(own) == values(plain)


def test_it_is_called_by_one_thread_at_a_time():
    inside, most = threading.Semaphore(0), []

    def watched(batch):
        inside.release()
        most.append(inside._value)
        out = net(batch)
        inside.acquire()
        return out

    measure(watched, images(40), "C8", samples=40, batch_size=8, norm_samples=5)
    assert max(most) == 1


def test_several_groups_take_one_function():
    several = measure_groups(net, images(), ["C4", "flip-h"], **OPTIONS, **LAYERS)
    alone = measure(net, images(), "flip-h", **OPTIONS, **LAYERS)
    assert values(several[1]) == values(alone)


def test_whole_numbers_stay_whole_and_pixels_do_not():
    seen = set()

    def ids(batch):
        seen.add(batch.dtype)
        return np.stack([batch.sum(1), batch[:, 0]], axis=1).astype(np.float32)

    rows = np.random.default_rng(0).integers(0, 9, (9, 5))
    measure(ids, rows, "shift5", input_layout="NT", **OPTIONS, **ONE)
    assert seen == {np.dtype(np.int64)}
    seen.clear()
    pixels = (images() * 255).astype(np.uint8)
    measure(lambda b: (seen.add(b.dtype), net(b)["z"])[1], pixels, "C4", **OPTIONS, **ONE)
    assert seen == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "graph"}, "--engine graph: .*net is a function"),
        ({"untrained": True}, "--untrained: .*net is a function"),
        ({"provider": "cuda"}, "--provider cuda: .*net is a function"),
        ({"shard": "1/2"}, "--shard: .*net is a function"),
        ({"measures": ["channel-cos@conv1"]}, "no layer is called 'conv1'.*map, z and logits"),
    ],
)
def test_what_takes_a_graph_is_refused(options, said):
    with pytest.raises(GeedError, match=said):
        measure(net, images(), "C4", **OPTIONS, **options)


def test_a_cache_takes_a_fingerprint(tmp_path):
    with pytest.raises(GeedError, match=r"cache: .*net is a function"):
        write_cache(net, images(), "C4", tmp_path / "a.geed", **OPTIONS)
    assert not (tmp_path / "a.geed").exists()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: 1 / 0, "<lambda>: failed on a batch .*ZeroDivisionError: division by zero"),
        (lambda x: None, "output is one number, None"),
        (lambda x: "text", "output is one number"),
        (lambda x: x.sum(), "output is one number"),
        (lambda x: x.sum(0), "axis 0 is not the batch"),
        (lambda x: {}, "there is none"),
        (lambda x: {"a": x, 3: x}, "one is called 3"),
        (lambda x: {"input": x}, "calls an output 'input'"),
        (lambda x: x.astype(complex), "output is of complex128"),
        (lambda x: [[1, 2], [3]], "axis 0 is not the batch|is not an array"),
        (lambda x: net(x)["z"] * np.nan, "NaN"),
        (lambda x: x[:, :0], "holds no values"),
        (lambda x: np.ma.masked_less(x, 0.5), "values are masked"),
        (lambda x: sys.exit(3), "failed on a batch .*SystemExit"),
    ],
)
def test_a_function_that_is_none_of_a_batch_is_one_line(function, said):
    with pytest.raises(GeedError, match=said) as caught:
        measure(function, images(), "C4", **OPTIONS)
    assert "\n" not in str(caught.value)


def test_outputs_that_change_are_refused():
    calls = []

    def fickle(batch):
        calls.append(1)
        return net(batch) if len(calls) < 8 else net(batch)["z"]

    with pytest.raises(GeedError, match=r"'(logits|map)' is left out for \d+ rows"):
        measure(fickle, images(30), "C8", samples=30, batch_size=8, norm_samples=3)


def test_what_is_no_function_is_read_as_a_file():
    with pytest.raises(GeedError, match="a model is the path of an ONNX file, found 3"):
        measure(3, images(), "C4")


def test_a_function_goes_to_other_processes():
    assert pickle.loads(pickle.dumps(Function(net, "other"))).name == "other"
    assert pickle.loads(pickle.dumps(Function(net)))(images(2))["z"].shape == (2, 5)


@pytest.mark.filterwarnings("default")
def test_the_workers_of_a_cluster_call_it_to_the_same_bits():
    pytest.importorskip("ray", reason="needs ray")
    lock, weights = threading.Lock(), WEIGHTS

    def plain(batch):
        return np.maximum(np.einsum("nchw,ck->nk", batch, weights), 0)

    def holding(batch):
        with lock:
            return plain(batch)

    there = {"executor": "ray", "address": "local"}
    with pytest.raises(GeedError, match=r"--executor ray: holding cannot be sent .*lock"):
        measure(holding, images(), "C4", **OPTIONS, **ONE, **there)
    own = measure(plain, images(), "C4", **OPTIONS, **ONE)
    sent = measure(plain, images(), "C4", **OPTIONS, **ONE, **there)
    assert sent["runtime"]["executor"] == "ray"
    assert own["measurements"] == sent["measurements"]


def test_a_file_is_measured_as_before(tmp_path):
    onnx.save(pooled(), tmp_path / "a.onnx")
    assert "kind" not in measure(tmp_path / "a.onnx", images(), "C4", **OPTIONS)["model"]


def pooled():
    node = onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"])
    flat = onnx.helper.make_node("Flatten", ["p"], ["y"])
    return models.build(
        [node, flat], [], [("x", models.FLOAT, ["N", *SHAPE])], [("y", models.FLOAT, ["N", 3])]
    )


class OfTensors:
    """What a module of PyTorch says of an array."""

    def __call__(self, batch):
        given = type(batch).__module__ + "." + type(batch).__qualname__
        raise TypeError(f"conv2d() received an invalid combination of arguments - got ({given}, 3)")


def test_a_module_of_tensors_is_told_what_functions_get():
    with pytest.raises(GeedError, match=r"functions get NumPy arrays: give, for example, lambda x"):
        measure(OfTensors(), images(), "C4")
    with pytest.raises(GeedError, match=r"ZeroDivisionError: division by zero$"):
        measure(lambda batch: 1 / 0, images(), "C4")


class Uneven:
    """Samples one of which has another size than the others."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i >= 4:
            raise IndexError
        return np.zeros((3, 8, 7 + i // 3), np.float32)


@pytest.mark.parametrize(
    ("data", "said"),
    [(Uneven(), "^--data array: cannot be read"), (np.ma.masked_less(images(), 0.5), "masked")],
)
def test_data_that_are_no_array_of_samples_are_one_line(data, said):
    with pytest.raises(GeedError, match=said):
        measure(lambda x: x.reshape(len(x), -1), data, "C4", **OPTIONS)


@pytest.mark.parametrize("engine", ["auto", "graph"])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "float32", "float64"])
def test_a_disk_keeps_the_type_of_the_samples(tmp_path, dtype, engine):
    made = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = np.random.default_rng(2).standard_normal((49, 2)).astype(np.float32)
    nodes = [
        models.node("Cast", "x", "real", to=1),
        models.node("Flatten", "real", "flat"),
        models.node("MatMul", "flat w", "y"),
    ]
    net = models.build(
        nodes, [models.weights("w", weights)], [("x", made, ["N", 7, 7])], [("y", 1, ["N", 2])]
    )
    rows = np.random.default_rng(0).integers(0, 100, (9, 7, 7)).astype(dtype)
    result = measure(
        *(models.save(net, tmp_path / "m.onnx"), rows, "flip-h"),
        measures=["output-l2"],
        input_layout="NHW",
        layout={"y": "NK"},
        output_kind="embedding",
        support="disk",
        engine=engine,
        **OPTIONS,
    )
    inside = (rows * naive.disk_mask(7, 7))[result["data"]["indices"][:5]]
    y = [x.reshape(len(x), -1) @ weights for x in (inside, inside[..., ::-1])]
    mean = (y[0] + y[1]) / 2
    apart = np.stack([np.linalg.norm(one - mean, axis=1) for one in y])
    assert result["measurements"][0]["value"] == pytest.approx(apart.mean(), rel=1e-4)
