# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "keras>=3.5", "numpy>=2.0", "onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.3", "torch>=2.6"
# ]
# ///
"""Turn a Keras model into an ONNX file that onnx-geed measures.

  from_keras.py net.keras -o net.onnx
  from_keras.py net.h5 --preprocess bytes -o net.onnx
  from_keras.py nets.py:make_net --weights net.weights.h5 -o net.onnx
  from_keras.py saved_model/ -o net.onnx            (needs TensorFlow and tf2onnx)

Keras runs on PyTorch. With KERAS_BACKEND=tensorflow it needs tf2onnx.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __package__:
    from ._callables import look_up
    from ._exporters import newer, older, quiet
    from ._finish import Source, finish
    from ._graph import fingerprint
    from ._inputs import (
        DTYPES,
        Input,
        add_input_shape,
        in_order,
        layout_by_shape,
        main_by_channels,
        read_inputs,
    )
    from ._options import Problem, command, missing, note, parser, reason_of
else:
    from _callables import look_up
    from _exporters import newer, older, quiet
    from _finish import Source, finish
    from _graph import fingerprint
    from _inputs import (
        DTYPES,
        Input,
        add_input_shape,
        in_order,
        layout_by_shape,
        main_by_channels,
        read_inputs,
    )
    from _options import Problem, command, missing, note, parser, reason_of

MODEL = "a .keras or .h5 file, a SavedModel folder, or MODULE:CALLABLE / FILE.py:CALLABLE"
INSTALL = "pip install keras torch onnx onnxscript onnxruntime"


def arguments() -> argparse.ArgumentParser:
    command_parser = parser(__doc__ or "", MODEL)
    group = command_parser.add_argument_group("the model")
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="a .weights.h5 file for the model that MODULE:CALLABLE builds",
    )
    group.add_argument(
        "--kwargs", metavar="JSON", default="{}", help="arguments of the callable, as a JSON object"
    )
    group.add_argument(
        "--custom",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="your own layer or function that the file uses; repeatable",
    )
    group.add_argument(
        "--unsafe", action="store_true", help="run Python code in the file (Lambda layers)"
    )
    group.add_argument(
        "--take", metavar="KEY", help="the output to use, if there are several: its name or number"
    )
    add_input_shape(group, "H,W,C")
    group.add_argument("--opset", type=int, help="ONNX opset (default: the exporter's)")
    return command_parser


def convert(settings: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved = (Path(settings.model) / "saved_model.pb").is_file()
    if saved:
        finish(from_saved_model(settings), settings)
        return
    backend = os.environ.setdefault("KERAS_BACKEND", "torch")
    with missing(backend, INSTALL):
        importlib.import_module(backend)
    with missing("keras", INSTALL), quiet():
        import keras
    if backend not in ("torch", "tensorflow"):
        raise Problem(f"KERAS_BACKEND={backend}: give torch, or tensorflow with tf2onnx")
    keras.utils.set_random_seed(settings.seed)
    model = load(settings)
    layers = dict(named_layers(model))
    inputs = inputs_of(model, layers.values(), read_inputs(settings.input_shape))
    exports: list[tuple[str, Callable[[], Any]]]
    if backend == "torch":
        exports = torch_exports(model, inputs, settings)
    else:
        exports = [
            (
                "tf2onnx",
                lambda: by_tf2onnx(lambda *x: call(model, x, settings.take), inputs, settings),
            )
        ]
    finish(
        Source(
            forward=lambda *x: run(model, x, settings.take),
            inputs=inputs,
            exports=exports,
            watch=lambda *x: watch(model, layers, x, settings),
        ),
        settings,
    )


def load(settings: argparse.Namespace) -> Any:
    import keras

    path = Path(settings.model)
    custom = {text.rpartition(":")[2]: pair(text) for text in settings.custom}
    if path.is_dir():
        raise Problem(f"{path}: is a folder without saved_model.pb; give a .keras or .h5 file")
    if path.is_file():
        if path.suffix.lower() not in (".keras", ".h5", ".hdf5"):
            raise Problem(f"{path}: not a .keras or .h5 file; rename it if it is one")
        try:
            with quiet():
                model = keras.saving.load_model(
                    path, custom_objects=custom, compile=False, safe_mode=not settings.unsafe
                )
        except Exception as error:
            text = reason_of(error)
            if path.name.endswith(".weights.h5") or "No model config" in text:
                raise Problem(
                    f"{path}: has only weights; give MODULE:CALLABLE --weights {path}"
                ) from None
            if "Lambda" in text and not settings.unsafe:
                raise Problem(
                    f"{path}: has Python code in a Lambda layer; if you trust it, --unsafe runs it"
                ) from None
            hint = "; --custom MODULE:NAME tells where it is" if "custom" in text.lower() else ""
            raise Problem(f"{path}: Keras cannot load it ({text}){hint}") from None
        if settings.weights:
            raise Problem(
                "--weights only works with MODULE:CALLABLE; a model file has its own weights"
            )
    else:
        model = built(settings)
    model.trainable = False
    compute_in_float32(model)
    return model


def compute_in_float32(model: Any) -> None:
    """Let layers compute in float32 with the weights as they are, as from_torch.py does.

    What half precision rounds off in between differs from machine to machine.
    """
    import keras

    halves = ("float16", "bfloat16")
    layers = [
        layer
        for layer in (model, *(layer for _, layer in named_layers(model)))
        if layer.dtype_policy.compute_dtype in halves
        and getattr(layer.dtype_policy, "quantization_mode", None) is None
    ]
    for layer in layers:
        layer.dtype_policy = "float32"
    if layers and keras.backend.backend() == "torch":
        model.float()  # of weights that are in half precision themselves


def built(settings: argparse.Namespace) -> Any:
    import keras

    try:
        kwargs = json.loads(settings.kwargs)
    except ValueError as error:
        raise Problem(f"--kwargs {settings.kwargs}: not JSON ({error})") from None
    model = pair(settings.model)
    if not isinstance(model, keras.Model):
        try:
            model = model(**kwargs)
        except Exception as error:
            raise Problem(
                f"{settings.model} cannot be made: {reason_of(error)}; see --kwargs"
            ) from None
    if not isinstance(model, keras.Model):
        raise Problem(f"{settings.model}: returns {type(model).__name__}, not a keras.Model")
    if settings.input_shape:  # a subclassed model has no weights before its first call
        run(
            model, [_zeros((1, *i.shape), i.dtype) for i in read_inputs(settings.input_shape)], None
        )
    if settings.weights:
        if not Path(settings.weights).is_file():
            raise Problem(f"--weights {settings.weights}: no such file")
        try:
            model.load_weights(settings.weights)
        except Exception as error:
            raise Problem(
                f"--weights {settings.weights}: do not fit the model ({reason_of(error)}); "
                "is it another model's?"
            ) from None
        if (more := stored(settings.weights) - len(model.weights)) > 0:
            raise Problem(
                f"--weights {settings.weights}: has {more} more arrays than the model; is it "
                "another model's, or does it need --kwargs?"
            )
    else:
        note("no --weights given: the weights are those that the callable makes, usually random")
    return model


def stored(path: str) -> int:
    """Count the arrays of layers in a .weights.h5 file; Keras passes over those it has no use for."""
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        parts = name.split("/")
        if isinstance(item, h5py.Dataset) and "vars" in parts:
            names.extend([name] if not {"optimizer", "seed_generator"} & set(parts) else [])

    with h5py.File(path) as file:
        file.visititems(visit)
    return len(names)


def pair(text: str) -> Any:
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise Problem(f"{text}: neither a file nor MODULE:CALLABLE")
    return look_up(where, name, text)


def _zeros(shape: tuple[int, ...], dtype: str) -> Any:
    import numpy as np

    return np.zeros(shape, dtype)


def inputs_of(model: Any, layers: Iterable[Any], given: list[Input]) -> list[Input]:
    """Return what a model takes: what it says itself, with the shapes that the user gave."""
    layers = list(layers)
    known = list(getattr(model, "inputs", None) or ())
    if not known and not given:
        raise Problem("the model takes any shape; state one with --input-shape, such as 224,224,3")
    if not known and len(given) > 1:
        raise Problem(
            f"the model takes {len(given)} inputs without names: make it by keras.Model(inputs, outputs)"
        )
    # One input is called so in every file; several have the names of the model.
    names = [k.name for k in known] if len(known) > 1 else ["input"]
    if len(known) <= 1 and len(given) == 1:
        names = [given[0].name]
    shapes = {i.name: i.shape for i in in_order(given, names if known else None)}
    rows = [layer.input_dim for layer in layers if type(layer).__name__ == "Embedding"]
    inputs = []
    for name, one in zip(names, known or given, strict=True):
        shape = shapes.get(name) or tuple(one.shape[1:])
        if any(d is None for d in shape):
            raise Problem(
                f"the model takes {tuple(one.shape)} as {name}; state a shape with --input-shape, "
                "such as 224,224,3"
            )
        dtype = one.dtype if one.dtype in DTYPES else "float32"
        layout = layout_of(layers, shape) if len(names) == 1 else ""
        inputs.append(Input(name, shape, dtype, layout, min(rows, default=2)))
    return main_by_channels(inputs) if len(inputs) > 1 else inputs


def named_layers(model: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield layers by name, inner ones as outer.inner."""
    for layer in getattr(model, "layers", None) or getattr(model, "_layers", ()):
        if type(layer).__name__ == "InputLayer":
            continue
        path = f"{at}.{layer.name}" if at else layer.name
        yield path, layer
        yield from named_layers(layer, path)


def layout_of(layers: Any, shape: tuple[int, ...]) -> str:
    import keras

    if len(shape) != 3:
        return ""
    formats = [f for f in (getattr(layer, "data_format", None) for layer in layers) if f]
    first = formats[0] if formats else keras.config.image_data_format()
    stated = "NCHW" if first == "channels_first" else "NHWC"
    # A layer may read what another has permuted: the input's own shape has the last word.
    return layout_by_shape(shape) or stated


def call(model: Any, x: Sequence[Any], take: str | None) -> Any:
    import keras

    fed: Any = x[0] if len(x) == 1 else list(x)
    form = getattr(model, "input", None)
    if keras.tree.is_nested(form):
        # Inputs are in the order of model.inputs: of a dict, that of its sorted keys.
        fed = keras.tree.pack_sequence_as(form, list(x))
    value = model(fed, training=False)
    if hasattr(value, "shape"):
        if take is not None:
            raise Problem(f"--take {take}: the model has only one output; leave --take out")
        return value
    options = outputs_by_key(model, value)
    if take not in options:
        text = ", ".join(f"{k} {tuple(v.shape)}" for k, v in options.items())
        raise Problem(f"the model has several outputs; choose with --take KEY from {text}")
    return options[take]


def outputs_by_key(model: Any, value: Any) -> dict[str, Any]:
    """Return several outputs by what --take calls them: keys of a dict; else numbers and layers."""
    if isinstance(value, dict):
        return {str(key): one for key, one in value.items()}
    numbered = {str(i): one for i, one in enumerate(value)}
    names = getattr(model, "output_names", None) or []
    if len(names) != len(numbered):
        return numbered
    # A layer that puts out several has only their numbers.
    own = {k: v for k, v in zip(names, value, strict=True) if names.count(k) == 1}
    return numbered | own


def run(model: Any, x: Sequence[Any], take: str | None) -> Any:
    import keras

    with no_gradients():
        return keras.ops.convert_to_numpy(call(model, x, take))


@contextlib.contextmanager
def no_gradients() -> Iterator[None]:
    import keras

    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield


def watch(
    model: Any, layers: dict[str, Any], x: Sequence[Any], settings: argparse.Namespace
) -> dict[str, Any]:
    """Return fingerprints of what each layer puts out last, by its name."""
    import keras

    seen: dict[str, Any] = {}
    channels_last = layout_of(layers.values(), (1, 1, 1)) == "NHWC"

    def spy(path: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if settings.latent == f"{path}:in" and args and hasattr(args[0], "shape"):
                seen[settings.latent] = fingerprint(keras.ops.convert_to_numpy(args[0]))
            value = original(*args, **kwargs)
            if hasattr(value, "shape"):
                seen[path] = fingerprint(keras.ops.convert_to_numpy(value), moved=channels_last)
            return value

        return watched

    for path, layer in layers.items():
        object.__setattr__(layer, "call", spy(path, layer.call))
    try:
        with no_gradients():
            call(model, x, settings.take)
    finally:
        for layer in layers.values():
            with contextlib.suppress(AttributeError):
                object.__delattr__(layer, "call")
    return seen


def torch_exports(
    model: Any, inputs: list[Input], settings: argparse.Namespace
) -> list[tuple[str, Callable[[], Any]]]:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *x: Any) -> Any:
            return call(self.model, x, settings.take)

    net = Net().eval()
    # Under the name of a parameter that stands for any number of inputs.
    batch = (tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs),)
    return [
        ("dynamo exporter", lambda: plain(newer(net, inputs, batch, settings.opset))),
        ("torchscript exporter", lambda: plain(older(net, inputs, settings.opset))),
    ]


def plain(proto: Any) -> Any:
    """Drop the paths of torch modules, which are not what Keras calls its layers."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.name = node.name.replace("/", "_")
    return proto


def by_tf2onnx(function: Callable[..., Any], inputs: list[Input], settings: Any) -> Any:
    with missing("tf2onnx", "pip install tf2onnx"):
        import tf2onnx
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *i.shape), i.dtype, name=i.name) for i in inputs]
    with quiet():
        proto, _ = tf2onnx.convert.from_function(
            tf.function(function, input_signature=signature),
            input_signature=signature,
            opset=settings.opset or 18,
        )
    return proto


def from_saved_model(settings: argparse.Namespace) -> Source:
    """Describe a SavedModel: its serving signature, which only TensorFlow runs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with missing(
        "tensorflow", "a SavedModel needs pip install tensorflow tf2onnx (or save it as .keras)"
    ):
        import tensorflow as tf
    try:
        loaded = tf.saved_model.load(settings.model)
        signature = loaded.signatures["serving_default"]
    except Exception as error:
        raise Problem(f"{settings.model}: cannot be served ({reason_of(error)})") from None
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        raise Problem(
            f"{settings.model}: has {len(inputs)} inputs; only models with one can be converted"
        )
    (name, spec), outputs = next(iter(inputs.items())), list(signature.structured_outputs)
    take = settings.take or (outputs[0] if len(outputs) == 1 else None)
    if take not in outputs:
        raise Problem(f"{settings.model}: choose an output with --take from {', '.join(outputs)}")
    given = read_inputs(settings.input_shape)
    shape = given[0].shape if len(given) == 1 else tuple(spec.shape[1:])
    if len(given) > 1 or any(d is None for d in shape):
        raise Problem("--input-shape is needed: the shape of one sample, such as 224,224,3")

    def function(x: Any) -> Any:
        # Through the model, which takes its variables with it when nothing holds it any more.
        return loaded.signatures["serving_default"](**{name: x})[take]

    dtype = spec.dtype.name if spec.dtype.name in DTYPES else "float32"
    main = Input(
        given[0].name if given else "input", shape, dtype, "NHWC" if len(shape) == 3 else ""
    )
    return Source(
        forward=lambda x: function(tf.constant(x)).numpy(),
        inputs=[main],
        exports=[("tf2onnx", lambda: by_tf2onnx(function, [main], settings))],
    )


if __name__ == "__main__":
    command(arguments(), convert)
