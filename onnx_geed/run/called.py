"""A function of arrays in place of an ONNX file: it is called, and its outputs are the layers.

What the rest of the package asks of a graph, it asks of one that stands in: from the input through
one node nobody looks into to each output in turn, the last of which is the model's output.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_geed.data import is_folder, open_rows, reading, rows_of
from onnx_geed.errors import GeedError, reason_of, shown
from onnx_geed.groups import parse_layout
from onnx_geed.model import Model, known_fingerprint, layout_key, load_model
from onnx_geed.run.called_layouts import map_layouts_of, note_on_layouts
from onnx_geed.run.options import Options
from onnx_geed.run.weights import check_weights_fit
from onnx_geed.typed import refuse_masked

__all__ = ["OF_A_FUNCTION", "Function", "open_model", "outputs_of", "to_host", "with_outputs"]

#: A note on results.
OF_A_FUNCTION = (
    "a function was measured instead of an ONNX file: it has no fingerprint; its outputs are the "
    "layers, in order, the last one the model's output; it chose its own device"
)

_INPUT, _OUTPUT, _DOMAIN = "input", "output", "onnx-geed.function"
_OPSET = 17

# Of the exchange of tensors, DLPack: where one lies.
_HOST = 1
_DEVICES = {
    2: "cuda",
    3: "cuda_host",
    4: "opencl",
    7: "vulkan",
    8: "metal",
    10: "rocm",
    14: "oneapi",
}


class Function:
    """A function of one batch, which is called by one thread at a time.

    Parameters
    ----------
    function : callable
        An array (B, ...) in, and an array (B, ...), several, or a dict of them by name out.
    name : str
        What to call it, if not by its own name.
    """

    def __init__(self, function: Callable[[Any], Any], name: str = "") -> None:
        self.function, self._name = function, name
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What results call it."""
        if self._name:
            return self._name
        function = getattr(self.function, "func", self.function)  # of functools.partial
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return str(name).rpartition(".")[2]

    def __call__(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the outputs on a batch, by name.

        Raises
        ------
        GeedError
            If the function fails, or returns something else.
        """
        try:
            # What it changes is its own.
            with self._lock:
                given = self.function(np.array(batch))
                return outputs_of(given)
        except GeedError:
            raise
        except (Exception, SystemExit) as error:
            raise GeedError(
                f"{self.name}: failed on a batch of shape {batch.shape}: "
                f"{type(error).__name__}: {reason_of(error)}{self._hint(error)}"
            ) from None

    def _hint(self, error: BaseException) -> str:
        """Say what a function gets, where it asks for tensors of a framework."""
        homes = {base.__module__.partition(".")[0] for base in type(self.function).__mro__}
        text = str(error)
        if "torch" not in homes and "must be Tensor" not in text and "numpy.ndarray" not in text:
            return ""
        return (
            "; functions get NumPy arrays: give, for example, "
            "lambda x: module(torch.from_numpy(x)), with module.eval() before"
        )

    def __reduce__(self) -> tuple[type[Function], tuple[Callable[[Any], Any], str]]:
        """Go to other processes without the lock."""
        return Function, (self.function, self._name)


def to_host(value: Any) -> NDArray[Any]:
    """Return an array of NumPy from a tensor of whatever framework.

    Parameters
    ----------
    value : ndarray or tensor
        A tensor that has ``detach`` is detached, and one that has ``cpu`` is copied to the host by
        it; then it is read through ``__dlpack__``, or else through ``__array__``.

    Returns
    -------
    ndarray
        A copy.

    Raises
    ------
    GeedError
        If it is on a device, and nothing copies it from there.
    """
    refuse_masked("an array", value)
    for step in ("detach", "cpu"):
        if not isinstance(value, np.ndarray) and callable(method := getattr(value, step, None)):
            value = method()
    try:
        return np.array(np.from_dlpack(value))
    except Exception:  # on a device, or of a kind that the exchange has no word for
        pass
    try:
        # Who holds it copies it to the host, where the exchange is of 2023 or later.
        return np.array(np.from_dlpack(value, device="cpu", copy=True))
    except Exception:  # as above
        pass
    # NumPy knows nothing of PyTorch's bfloat16.
    brief = "bfloat16" in str(getattr(value, "dtype", "")) and callable(getattr(value, "float", 0))
    try:
        array = np.array(np.from_dlpack(value.float()) if brief else value)
    except Exception as error:
        if device := _device(value):
            raise GeedError(_on_device(value, device)) from error
        raise
    if array.dtype == object and (device := _device(value)):
        raise GeedError(_on_device(value, device))
    return array


def _device(value: Any) -> str:
    """Return the device that a tensor says it is on; empty on the host, or where it says none."""
    try:
        kind, number = value.__dlpack_device__()
        return "" if kind == _HOST else f"{_DEVICES.get(int(kind), f'device {kind}')}:{number}"
    except Exception:  # of another's class
        return ""


def _on_device(value: Any, device: str) -> str:
    return (
        f"a tensor ({shown(type(value).__qualname__)}) is on {device}, and cannot be copied to "
        "the host automatically: copy it, as with tensor.cpu() or array.get()"
    )


def outputs_of(given: Any) -> dict[str, NDArray[Any]]:
    """Return what a function gave as arrays by name.

    Parameters
    ----------
    given : array, tuple, list or mapping of str to array
        Of a tuple or list, outputs are called ``output.0``, ``output.1`` and so on.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    GeedError
        If it is none of these, or no numbers.
    """
    named: dict[Any, Any] = {_OUTPUT: given}
    if isinstance(given, Mapping):
        named = dict(given)
    elif isinstance(given, tuple | list):
        named = {f"{_OUTPUT}.{i}": one for i, one in enumerate(given)}
    arrays = {}
    for name, value in named.items():
        try:
            arrays[name] = array = to_host(value)
        except GeedError:
            raise
        except Exception as error:
            raise _no_outputs(f"{shown(name)} is not an array ({reason_of(error)})") from None
        if not isinstance(name, str) or not name:
            raise _no_outputs(f"one is called {shown(name)}")
        if array.dtype.kind not in "fiub" or not array.ndim:
            what = f"of {array.dtype}" if array.ndim else "one number"
            raise _no_outputs(f"{shown(name)} is {what}, {shown(value)}")
        if 0 in array.shape[1:]:
            raise _no_outputs(f"{shown(name)} holds no values, {shown(value)}")
    if not arrays:
        raise _no_outputs("there is none")
    return arrays


def _no_outputs(found: str) -> GeedError:
    return GeedError(
        "a function must return an array (B, ...) of real numbers, or a tuple or dict of such "
        f"arrays: {found}"
    )


def open_model(model: Any, data: Any, options: Options) -> Model:
    """Return the model that is measured: of a file, or one that stands in for a function.

    Parameters
    ----------
    model : str, Path, Model or callable
        As the user gave it.
    data : object
        DATA, from which the input of a function is known.
    options : Options
        How to measure.

    Returns
    -------
    Model
        A function's outputs are known only with :func:`with_outputs`.

    Raises
    ------
    GeedError
        If the file cannot be read.
        If its weights take more than the memory.
        If a function is asked for what takes a graph.
    """
    if isinstance(model, Model | str | os.PathLike) or not callable(model):
        loaded = model if isinstance(model, Model) else load_model(model)
        check_weights_fit(loaded, options)
        loaded.fingerprint.begin()
        return loaded
    function = Function(model)
    for asked, why in {
        "--engine graph": "measures inside a graph" if options.engine == "graph" else "",
        "--untrained": "draws the weights of a graph again" if options.untrained else "",
        "--provider cuda": "asks ONNX Runtime for a device" if options.provider == "cuda" else "",
    }.items():
        if why:
            raise GeedError(
                f"{asked}: {why}, and {function.name} is a function, not an ONNX file: leave it "
                "out, or export the model"
            )
    rank, dtype = _input_of(data, options)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    taken = helper.make_tensor_value_info(_INPUT, kind, ["N", *[None] * (rank - 1)])
    return _model(function, taken, {_OUTPUT: None})


def with_outputs(
    model: Model, rows: NDArray[Any], layout: str, stated: Iterable[str] = ()
) -> tuple[Model, list[str]]:
    """Return the model that stands in for a function, its outputs known from a run on some rows.

    Parameters
    ----------
    model : Model
        As :func:`open_model` returned it.
    rows : ndarray, shape (B, ...)
        The rows.
    layout : str
        Their layout.
    stated : iterable of str
        Outputs, or patterns of them, whose layouts the user states.

    Returns
    -------
    model : Model
        With the layouts of outputs that are maps beyond doubt.
    notes : list of str
        On these.

    Raises
    ------
    GeedError
        If the function fails on them, or gives something else than a row a row.
    """
    assert isinstance(model.function, Function)
    outputs: dict[str, tuple[int, ...] | None] = {}
    arrays = model.function(rows)
    for name, array in arrays.items():
        if len(array) != len(rows):
            raise GeedError(
                f"{model.called}: gives {shown(name)} of shape {array.shape} for {len(rows)} "
                f"row{'s' * (len(rows) > 1)}: its axis 0 is not the batch"
            )
        if name == _INPUT:
            raise GeedError(f"{model.called}: calls an output {name!r}: give it another name")
        outputs[name] = array.shape[1:]
    found = map_layouts_of(arrays, rows, layout)
    named = _model(model.function, model.proto.graph.input[0], outputs)
    metadata = {layout_key(name): letters for name, letters in found.items()}
    return replace(named, metadata=metadata), note_on_layouts(found, stated)


def _model(
    function: Function,
    taken: onnx.ValueInfoProto,
    outputs: Mapping[str, tuple[int, ...] | None],
) -> Model:
    nodes = [
        helper.make_node("Function", [before], [name], domain=_DOMAIN)
        for before, name in zip([_INPUT, *outputs], outputs, strict=False)
    ]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None if s is None else ["N", *s])
        for n, s in outputs.items()
    ]
    graph = helper.make_graph(nodes, "called", [taken], infos[-1:], value_info=infos[:-1])
    versions = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 1)]
    proto = helper.make_model(graph, opset_imports=versions, ir_version=10)
    name = re.sub(r"[/\\]", "-", function.name) or "function"
    return Model(Path(name), proto, known_fingerprint(""), 0, "", {}, function=function)


def _input_of(data: Any, options: Options) -> tuple[int, str]:
    """Return how many axes a function's input has, and its dtype."""
    stated = options.input_layout
    rank = parse_layout(stated).rank if isinstance(stated, str) else 0
    if isinstance(data, str | Path) and is_folder(data):
        return rank or 4, "float32"
    with reading("--data array" if not isinstance(data, str | Path) else f"--data {data}"):
        named = next(iter(data.values()), ()) if isinstance(data, Mapping) else data
        rows = open_rows(str(data)) if isinstance(data, str | Path) else rows_of(named)
    shape, dtype = rows.shape, rows.dtype
    rows.close()
    whole = dtype.kind in "iu" and dtype != np.uint8  # which are pixels
    return rank or len(shape), str(dtype) if whole else "float32"
