"""A Keras file becomes an ONNX file whose measures are those of hooks inside Keras."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from converting import assert_equal_to_hooks, converted, refused

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="needs Keras on PyTorch")

# Of Keras and PyTorch themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(2)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(6, 3, padding="same", activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(8, 3, activation="relu", name="second"),
            layers.Flatten(name="flat"),
            layers.Dense(12, activation="relu", name="features"),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    rng = np.random.default_rng(0)
    scale, shift = 1 + rng.random(6) / 2, rng.standard_normal(6) / 5
    net.get_layer("norm").set_weights([scale, shift, shift[::-1], scale[::-1]])
    return net


@pytest.fixture
def box(tmp_path, net):
    net.save(tmp_path / "net.keras")
    return tmp_path


def hooks(net, layers, latent):
    outputs = [net.get_layer(n).output for n in (*layers, latent)]
    sub = keras.Model(net.inputs, [*outputs, net.outputs[0]])

    def run(x):
        *arrays, output = (keras.ops.convert_to_numpy(v) for v in sub(x, training=False))
        maps = [a.transpose(0, 3, 1, 2) if a.ndim == 4 else a for a in arrays]
        return dict(zip((*layers, "latent"), maps, strict=True)) | {"output": output}

    return run


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_is_measured_is_what_keras_computes(tmp_path, net, suffix):
    net.save(tmp_path / f"net{suffix}")
    file = converted("keras", tmp_path, f"net{suffix}")
    data = np.random.default_rng(1).random((6, 10, 10, 3)).astype(np.float32)
    for group in ("C8", "flip-h"):
        layers = ("first", "norm", "second")
        assert_equal_to_hooks(
            *(file, group, data, hooks(net, layers, "features"), layers),
            layout="NHWC",
            kind="probabilities",
        )


def test_weights_alone_need_the_callable_that_makes_the_model(box, net):
    net.save_weights(box / "net.weights.h5")
    assert "MODULE:CALLABLE --weights" in refused("keras", box, "net.weights.h5")
    code = "import keras\n\n\ndef make():\n    return keras.models.load_model('net.keras')\n"
    (box / "nets.py").write_text(code)
    file = converted("keras", box, "nets.py:make", "--weights", "net.weights.h5")
    data = np.random.default_rng(1).random((5, 10, 10, 3)).astype(np.float32)
    assert_equal_to_hooks(
        *(file, "C4", data, hooks(net, (), "features")), layout="NHWC", kind="probabilities"
    )
    (box / "nets.py").write_text(
        "import keras\n\n\ndef make():\n    net = keras.models.load_model('net.keras')\n"
        "    return keras.Sequential(net.layers[:-1])\n"
    )
    told = refused(
        "keras", box, "nets.py:make", "--weights", "net.weights.h5", "--input-shape", "10,10,3"
    )
    assert "2 more arrays" in told


def test_the_same_model_gives_the_same_file(box):
    first = converted("keras", box, "net.keras").read_bytes()
    assert converted("keras", box, "net.keras").read_bytes() == first


def test_what_does_not_fit_is_told_and_leaves_no_file(box):
    (box / "broken.keras").write_bytes(b"no model")
    assert "broken.keras" in refused("keras", box, "broken.keras")
    assert "no.keras" in refused("keras", box, "no.keras")
    assert "--input-shape" in refused("keras", box, "net.keras", "--input-shape", "9,9,3")
    assert "first" in refused("keras", box, "net.keras", "--latent", "frist")


def test_code_inside_a_file_is_not_run_unasked(tmp_path):
    net = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Lambda(lambda x: x * 2)])
    net.save(tmp_path / "net.keras")
    assert "--unsafe" in refused("keras", tmp_path, "net.keras")


def test_the_layout_of_the_input_is_its_own_not_that_of_a_layer_behind_a_permutation(tmp_path):
    layers = keras.layers
    x = keras.Input((10, 10, 3))
    y = layers.Permute((3, 1, 2))(x)
    y = layers.Conv2D(6, 3, data_format="channels_first", name="maps")(y)
    y = layers.GlobalAveragePooling2D(data_format="channels_first", name="latent")(y)
    net = keras.Model(x, layers.Dense(4, name="head")(y))
    net.save(tmp_path / "net.keras")
    file = converted("keras", tmp_path, "net.keras", "--output-kind", "logits")
    assert metadata_of(file)["onnx_geed.input_layout"] == "NHWC"
    images = np.random.default_rng(0).random((4, 10, 10, 3)).astype(np.float32)
    seen = hooks(net, (), "latent")
    assert_equal_to_hooks(file, "C4", images, seen, layout="NHWC")


def test_a_saved_model_is_what_tensorflow_serves(tmp_path):
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    pytest.importorskip("tf2onnx", reason="needs tf2onnx")
    code = (
        "import keras, numpy as np\n"
        "layers = [keras.Input((10, 10, 3)), keras.layers.Conv2D(6, 3, activation='relu'),\n"
        "    keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D(),\n"
        "    keras.layers.Dense(4)]\n"
        "net = keras.Sequential(layers)\n"
        "net.export('saved')\n"
        "x = np.random.default_rng(0).random((4, 10, 10, 3)).astype('f4')\n"
        "np.savez('seen.npz', x=x, y=net(x).numpy())\n"
    )
    env = os.environ | {"KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    file = converted("keras", tmp_path, "saved", "--output-kind", "logits")
    assert metadata_of(file)["onnx_geed.input_layout"] == "NHWC"
    seen = np.load(tmp_path / "seen.npz")
    (output,) = onnxruntime.InferenceSession(str(file)).run(None, {"input": seen["x"]})
    np.testing.assert_allclose(output, seen["y"], rtol=1e-4, atol=1e-6)


def metadata_of(file):
    return {p.key: p.value for p in onnx.load(file).metadata_props}


def test_lines_graphs_and_words_have_layouts_names_and_types(tmp_path):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    x = keras.Input((12, 2))
    y = layers.Conv1D(6, 3, padding="same", activation="relu", name="maps")(x)
    net = keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling1D()(y)))
    net.save(tmp_path / "line.keras")
    stated = ("--input-layout", "NTC", "--layout", "maps=NTC")
    found = metadata_of(converted("keras", tmp_path, "line.keras", *stated))
    assert found["onnx_geed.input_layout"] == "NTC"
    assert found[f"onnx_geed.layout.{json.loads(found['onnx_geed.modules'])['maps']}"] == "NTC"

    nodes, adj = keras.Input((10, 3), name="nodes"), keras.Input((10, 10), name="adj")
    y = layers.Dense(8, activation="relu")(layers.Dot((2, 1))([adj, nodes]))
    net = keras.Model([nodes, adj], layers.Dense(4)(layers.Dot((2, 1))([adj, y])))
    net.save(tmp_path / "graph.keras")
    stated = ("--input-layout", "nodes=NPC", "--input-layout", "adj=NPP", "--layout", "output=NPC")
    file = converted("keras", tmp_path, "graph.keras", *stated)
    found = metadata_of(file)
    layouts = [found[f"onnx_geed.{k}"] for k in ("input_layout", "layout.adj", "layout.output")]
    assert layouts == ["NPC", "NPP", "NPC"]
    rng = np.random.default_rng(0)
    fed = {"nodes": rng.random((4, 10, 3), "f4"), "adj": rng.random((4, 10, 10), "f4")}
    (output,) = onnxruntime.InferenceSession(str(file)).run(None, fed)
    expected = keras.ops.convert_to_numpy(net([fed["nodes"], fed["adj"]]))
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)

    ids = keras.Input((12,), dtype="int32")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(30, 8)(ids))
    keras.Model(ids, layers.Dense(4)(y)).save(tmp_path / "words.keras")
    file = converted("keras", tmp_path, "words.keras", "--input-layout", "NT")
    assert metadata_of(file)["onnx_geed.input_layout"] == "NT"
    assert onnx.load(file).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    assert "names 3 axes" in refused("keras", tmp_path, "words.keras", "--input-layout", "NTC")


def test_inputs_of_a_dict_have_the_values_of_their_names(tmp_path):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    # Unlike the dict, the model's own list of inputs is sorted.
    right, left = (keras.Input((8, 8, 3), name=name) for name in ("right", "left"))
    maps = [layers.Conv2D(4, 3)(right), -layers.Conv2D(4, 3)(left)]
    y = layers.GlobalAveragePooling2D()(layers.Add()(maps))
    net = keras.Model({"right": right, "left": left}, layers.Dense(3)(y))
    net.save(tmp_path / "net.keras")
    file = converted("keras", tmp_path, "net.keras")
    rng = np.random.default_rng(0)
    fed = {name: rng.random((4, 8, 8, 3), "f4") for name in ("right", "left")}
    (output,) = onnxruntime.InferenceSession(str(file)).run(None, fed)
    expected = keras.ops.convert_to_numpy(net(fed))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_several_outputs_are_taken_by_key_or_by_layer_and_their_own_kind_is_stored(tmp_path):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    x = keras.Input((10, 10, 3))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(x))
    box = layers.Dense(2, name="box")(y)
    kinds = layers.Dense(3, activation="softmax", name="kinds")(y)
    data = np.random.default_rng(0).random((4, 10, 10, 3), "f4")
    # A key may be another layer's name.
    for outputs, takes in (({"kinds": box, "box": kinds}, "kinds box"), ([box, kinds], "box 1")):
        keras.Model(x, outputs).save(tmp_path / "net.keras")
        for take, output, kind in zip(
            takes.split(), (box, kinds), (None, "probabilities"), strict=True
        ):
            file = converted("keras", tmp_path, "net.keras", "--take", take)
            (found,) = onnxruntime.InferenceSession(str(file)).run(None, {"input": data})
            expected = keras.ops.convert_to_numpy(keras.Model(x, output)(data))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            assert metadata_of(file).get("onnx_geed.output_kind") == kind


def test_the_kind_is_that_of_what_is_computed_last_not_of_the_last_layer_made(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import keras\n"
        "layers = keras.layers\n"
        "class Gated(keras.Model):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(4)\n"
        "        self.gate = layers.Dense(3, activation='sigmoid')\n"
        "    def call(self, x):\n"
        "        y = self.pool(x)\n"
        "        return self.head(y * self.gate(y))\n"
    )
    file = converted("keras", tmp_path, "nets.py:Gated", "--input-shape", "8,8,3")
    assert "onnx_geed.output_kind" not in metadata_of(file)


def test_classes_are_those_of_the_axis_of_channels(tmp_path):
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    maps = layers.Conv2D(4, 3, padding="same", activation="softmax")(x)
    keras.Model(x, maps).save(tmp_path / "net.keras")
    names = [f"kind {i}" for i in range(8)]
    for count in (4, 8):
        (tmp_path / f"{count}.txt").write_text("\n".join(names[:count]))
    file = converted("keras", tmp_path, "net.keras", "--classes", "4.txt")
    assert json.loads(metadata_of(file)["onnx_geed.classes"]) == names[:4]
    told = refused("keras", tmp_path, "net.keras", "--classes", "8.txt")
    assert "8 classes" in told
    assert "(8, 8, 4) per sample, has 4" in told


def test_an_image_beside_another_input_is_preprocessed(tmp_path):
    layers = keras.layers
    x, more = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="more")
    y = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), more])
    keras.Model([x, more], layers.Dense(3)(y)).save(tmp_path / "net.keras")
    file = converted("keras", tmp_path, "net.keras", "--preprocess", "imagenet")
    assert metadata_of(file)["onnx_geed.input_layout"] == "NHWC"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_becomes_float32_with_the_same_weights(tmp_path, policy):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((8, 8, 3))])
    for layer in (layers.Conv2D(6, 3, dtype=policy), layers.GlobalAveragePooling2D(dtype=policy)):
        net.add(layer)
    net.add(layers.Dense(4, dtype=policy))
    net.save(tmp_path / "net.keras")
    file = converted("keras", tmp_path, "net.keras")
    # A mean over places of a convolution is that of windows, multiplied by its weights.
    weight, bias, head, shift = (w.astype(np.float64) for w in net.get_weights())
    data = np.random.default_rng(0).random((4, 8, 8, 3))
    windows = np.lib.stride_tricks.sliding_window_view(data, (3, 3), (1, 2)).mean((1, 2))
    expected = (np.einsum("nchw,hwck->nk", windows, weight) + bias) @ head + shift
    (output,) = onnxruntime.InferenceSession(str(file)).run(None, {"input": data.astype("f4")})
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
