# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "numpy>=2.0", "onnx>=1.17", "onnxruntime>=1.20", "scikit-learn>=1.5", "skl2onnx>=1.18"
# ]
# ///
"""Turn a scikit-learn pipeline into an ONNX file that onnx-geed measures.

  from_sklearn.py digits.joblib --trust --input-shape 8,8 -o digits.onnx
  from_sklearn.py nets.py:trained --input-shape 20 -o tabular.onnx

The output of a classifier is its probabilities, as one array. --input-shape is the shape of the
image (or, with --input-layout, of the line, volume or set of points) that the features form, row
by row: the group acts on it. Give only their number if they are plain features.
Reading a .pkl or .joblib file runs its code, so it needs --trust.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__:
    from ._callables import look_up
    from ._exporters import quiet
    from ._finish import Source, finish
    from ._graph import fingerprint, keep_outputs
    from ._inputs import add_input_shape, read_inputs
    from ._options import Problem, command, missing, parser, reason_of
else:
    from _callables import look_up
    from _exporters import quiet
    from _finish import Source, finish
    from _graph import fingerprint, keep_outputs
    from _inputs import add_input_shape, read_inputs
    from _options import Problem, command, missing, parser, reason_of

MODEL = "a .skops, .joblib or .pkl file, or MODULE:CALLABLE / FILE.py:CALLABLE (or an estimator)"
# skl2onnx would take different versions of ONNX for different estimators.
_OPSET = 18
INSTALL = "pip install scikit-learn skl2onnx onnxruntime"


def arguments() -> argparse.ArgumentParser:
    command_parser = parser(__doc__ or "", MODEL)
    group = command_parser.add_argument_group("the model")
    group.add_argument("--trust", action="store_true", help="read a pickle, which can run any code")
    add_input_shape(group, "H,W")
    group.add_argument("--opset", type=int, help=f"ONNX opset (default: {_OPSET})")
    return command_parser


def convert(settings: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    with missing("scikit-learn or skl2onnx", INSTALL):
        import skl2onnx
        import sklearn.base
    model = load(settings)
    fitted = [m for m in (model, *steps_of(model)) if hasattr(m, "n_features_in_")]
    features = getattr(fitted[0], "n_features_in_", None) if fitted else None
    if features is None:
        raise Problem(f"{settings.model}: is not fitted; call fit before it is saved")
    last = "predict" if sklearn.base.is_regressor(model) else "transform"
    methods = ("predict_proba", "decision_function", last)
    method = next((m for m in methods if hasattr(model, m)), None)
    if method is None or getattr(model, "voting", None) == "hard":
        raise Problem(
            f"{settings.model}: this {type(model).__name__} only predicts labels, which are not "
            "numbers; use one with predict_proba, decision_function or transform"
        )

    inputs = read_inputs(settings.input_shape)
    if not inputs:
        side = math.isqrt(features)
        image = f"1,{side},{side}" if side * side == features else "C,H,W"
        raise Problem(
            f"--input-shape is needed: the shape that the {features} features form, such as "
            f"--input-shape {image} for an image, row by row, or {features} for plain features"
        )
    shape = inputs[0].shape
    if len(inputs) > 1 or not inputs[0].is_float or math.prod(shape) != features:
        raise Problem(
            f"--input-shape {' '.join(settings.input_shape)}: the model takes {features} features, "
            "as floats in one array"
        )
    images = {2: "NHW", 3: "NCHW"}
    inputs = [replace(inputs[0], layout=images.get(len(shape), ""))]

    def forward(x: Any) -> Any:
        value = getattr(model, method)(x.reshape(len(x), -1))
        if isinstance(value, list):
            raise Problem(
                f"{settings.model}: predicts {len(value)} labels at once; convert one of its "
                "estimators instead"
            )
        return value.reshape(len(x), -1)

    scored = method in ("predict_proba", "decision_function") and not pairwise(model)
    classes = getattr(model, "classes_", None) if scored else None
    kind = {"predict_proba": "probabilities", "decision_function": "logits"}.get(method)
    finish(
        Source(
            forward=forward,
            inputs=inputs,
            exports=[("skl2onnx", lambda: export(skl2onnx, model, shape, features, settings))],
            watch=lambda x: watch(model, x),
            classes=None if classes is None else [str(c) for c in classes],
            kind=kind if kind and scored else "embedding",
        ),
        settings,
    )


def pairwise(model: Any) -> bool:
    """Whether decision values are of pairs of classes, which are no scores of classes."""
    if hasattr(model, "predict_proba") or len(getattr(model, "classes_", ())) <= 2:
        return False
    final = final_of(model)
    final = final_of(getattr(final, "best_estimator_", final))  # of a search
    return getattr(final, "decision_function_shape", None) == "ovo"


def final_of(model: Any) -> Any:
    """Return what a pipeline ends with, inside pipelines too."""
    while steps_of(model):
        model = steps_of(model)[-1]
    return model


def steps_of(model: Any) -> list[Any]:
    """Return the steps of a pipeline that do something; none of anything else."""
    return [s for _, s in getattr(model, "steps", []) if s is not None and s != "passthrough"]


def load(settings: argparse.Namespace) -> Any:
    path = Path(settings.model)
    if not path.is_file():
        where, colon, name = settings.model.rpartition(":")
        if not colon or not where:
            raise Problem(f"{settings.model}: neither a file nor MODULE:CALLABLE")
        return estimator(where, name, settings.model)
    if path.suffix == ".skops":
        with missing("skops", "pip install skops"):
            import skops.io
        try:
            unknown = skops.io.get_untrusted_types(file=path)
            if unknown and not settings.trust:
                raise Problem(
                    f"{path}: has types that skops does not know: {', '.join(unknown[:4])}; "
                    "--trust accepts them"
                )
            return skops.io.load(path, trusted=unknown)
        except Problem:
            raise
        except Exception as error:
            raise Problem(f"{path}: cannot be read ({reason_of(error)})") from None
    if not settings.trust:
        raise Problem(
            f"{path}: reading a pickle runs its code; use --trust if you trust it, or save the model "
            "with skops"
        )
    try:
        import joblib

        return joblib.load(path)
    except Exception as error:
        raise Problem(
            f"{path}: cannot be read ({reason_of(error)}); was it saved by another version of scikit-learn?"
        ) from None


def estimator(where: str, name: str, text: str) -> Any:
    target = look_up(where, name, text)
    if hasattr(target, "get_params") and not isinstance(target, type):
        return target
    try:
        return target()
    except Exception as error:
        raise Problem(f"{text} cannot be made: {reason_of(error)}") from None


def export(
    skl2onnx: Any, model: Any, shape: tuple[int, ...], features: int, settings: argparse.Namespace
) -> Any:
    from onnx import TensorProto, helper
    from skl2onnx.common.data_types import FloatTensorType

    classifier = hasattr(model, "classes_")
    final = final_of(model)
    for part in (model, *model.get_params().values()):
        if hasattr(part, "flatten_transform"):
            part.flatten_transform = False  # it concerns `transform` alone, and stops skl2onnx
    # Which of them a classifier knows differs; plain scores are what is wanted in every case.
    plain: list[dict[str, Any]] = [{"zipmap": False}, {}]
    if classifier and not hasattr(model, "predict_proba"):
        plain = [{"zipmap": False, "raw_scores": True}, {"raw_scores": True}, *plain]
    with quiet(), plain_integers():
        for i, options in enumerate(plain if classifier else [{}]):
            try:
                proto = skl2onnx.convert_sklearn(
                    model,
                    "model",
                    initial_types=[("input", FloatTensorType([None, features]))],
                    target_opset={"": settings.opset or _OPSET, "ai.onnx.ml": 3},
                    # Of the pipeline, some options would mean something else.
                    options={id(final): options} if options else None,
                )
                break
            except NameError:
                if i + 1 == len(plain):
                    raise
    graph = proto.graph
    # The first output of classifiers, detectors and clusterings is the label.
    floats = [o for o in graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT]
    keep_outputs(graph, [(floats or graph.output)[0].name])
    if len(getattr(model, "classes_", ())) == 2 and not hasattr(model, "predict_proba"):
        only_second(graph)
    if len(shape) > 1:
        fed = graph.input[0].name
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name == fed:
                    node.input[i] = "features"
        graph.node.insert(0, helper.make_node("Flatten", [fed], ["features"], "features", axis=1))
        dims = graph.input[0].type.tensor_type.shape.dim
        del dims[1:]
        for length in shape:
            dims.add().dim_value = length
    return proto


@contextlib.contextmanager
def plain_integers() -> Iterator[None]:
    """Let onnx take the booleans that skl2onnx writes of histogram trees."""
    import onnx.helper

    original = onnx.helper.make_attribute

    def make(key: str, value: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(value, (list, tuple)) and any(str(v) in ("True", "False") for v in value):
            value = [int(v) if str(v) in ("True", "False") else v for v in value]
        return original(key, value, *rest, **named)

    onnx.helper.make_attribute = make
    try:
        yield
    finally:
        onnx.helper.make_attribute = original


def only_second(graph: Any) -> None:
    """Keep the score of the second of two classes, as scikit-learn's decision_function does."""
    import numpy as np
    from onnx import helper, numpy_helper

    (output,) = graph.output
    second = numpy_helper.from_array(np.array([1], np.int64), "second")
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == output.name:
                node.output[i] = "both_scores"
    graph.initializer.append(second)
    graph.node.append(
        helper.make_node("Gather", ["both_scores", "second"], [output.name], "second_score", axis=1)
    )
    for dim in output.type.tensor_type.shape.dim[1:]:
        dim.dim_value = 1


def watch(model: Any, x: Any) -> dict[str, Any]:
    """Return what each step of a pipeline but the last puts out, by its name."""
    seen = {}
    value = x.reshape(len(x), -1)
    for name, step in list(getattr(model, "steps", ()))[:-1]:
        if step is None or step == "passthrough":
            continue
        value = step.transform(value)
        seen[name] = fingerprint(value)
    return seen


if __name__ == "__main__":
    command(arguments(), convert)
