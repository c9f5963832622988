"""Runners of a network, a batch in and named arrays out; a session of ONNX Runtime is one."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_geed.errors import GeedError
from onnx_geed.model import Joined, Model, expose_tensors, has_loops, joined_tensors
from onnx_geed.overrun import opening, watched
from onnx_geed.run.joining import in_parts, whole_of
from onnx_geed.run.runtime import first_line, load_runtime, runtime_conflict
from onnx_geed.text import counted
from onnx_geed.whole import awaited, whole

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = [
    "OPTIMISATION",
    "EndlessError",
    "NotRowsError",
    "Provider",
    "Runner",
    "Session",
    "SettledError",
    "open_exposed",
    "open_session",
    "ready_to_open",
]

Provider = Literal["auto", "cuda", "cpu"]

#: The level to which the runtime optimises a graph, as results state it.
OPTIMISATION = "all"


# TF32 rounds inputs of products to 10 bits; an exhaustive search of convolutions picks other
# algorithms, and so other last bits, from run to run.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


# Seconds of one run of a model with loops.
_LONGEST_RUN = 20.0


class SettledError(GeedError):
    """What comes out of the model in any way of running it."""


class EndlessError(SettledError):
    """A loop of the model goes on and on: to run it in another way would take as long."""


class NotRowsError(GeedError):
    """Axis 0 of some tensors is not the batch.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Their shapes.
    rows : str
        Of what, in words.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], rows: str) -> None:
        self.shapes, self.rows = dict(shapes), rows
        name, shape = next(iter(shapes.items()))
        super().__init__(
            f"tensor {name!r} has shape {shape} for {rows}: its axis 0 is not the batch; name "
            "another tensor (onnx-geed layers lists them)"
        )


class Runner(Protocol):
    """A network that runs: a batch in, named arrays out.

    An ONNX Runtime session is one, and so is any object of one's own with these members.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that a run returns, in order."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision that the network computes in."""

    def run(
        self, batch: NDArray[np.float32], feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run a batch (B, ...) in the model's layout, with the other inputs; return (B, ...) each.

        It is called from several threads at once.
        """

    def only(self, names: Sequence[str]) -> Runner:
        """Return the same runner, whose runs return no more than these tensors."""


@dataclass(frozen=True)
class Session:
    """An ONNX Runtime session with the tensors that it returns.

    Parameters
    ----------
    runtime : onnxruntime.InferenceSession
        The session; safe to call from several threads.
    input : str
        Name of the acted-on input.
    dtype : numpy.dtype
        Its dtype.
    outputs : tuple of str
        Tensors returned, in order.
    provider : {"cuda", "cpu"}
        The device that the model runs on.
    fixed : int
        Rows of every run, where the model takes no other number of them; a run of fewer is filled
        up with copies of its last row. 0 where the number is free.
    endless : threading.Event or None
        Where the model has loops, which may have no end: set once a run was ended for that.
    joined : mapping of str to Joined
        Tensors that the runtime gives in parts, which are put together here.
    """

    runtime: ort.InferenceSession = field(repr=False)
    input: str
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]
    provider: Literal["cuda", "cpu"]
    fixed: int = 0
    endless: threading.Event | None = field(default=None, repr=False)
    joined: Mapping[str, Joined] = field(default_factory=dict, repr=False)

    def run(
        self, batch: NDArray[np.float32], feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run one batch.

        Parameters
        ----------
        batch : ndarray of float32, shape (B, ...)
            In the model's own layout.
        feeds : mapping of str to ndarray, optional
            Values of the other inputs.

        Returns
        -------
        dict of str to ndarray, each shape (B, ...)
            By tensor; float32, whatever the model's precision.

        Raises
        ------
        EndlessError
            If a loop of the model does not end.
        SettledError
            If a finite number is too large for float32.
        GeedError
            If the runtime refuses the batch, or leaves out a tensor.
        """
        # Brought to float32 here and not by a Cast in the graph, which fusions would see through.
        arrays = self.run_as_given(batch, feeds)
        return {name: _in_float32(name, array) for name, array in arrays.items()}

    def only(self, names: Sequence[str]) -> Session:
        """Return the same session, whose runs return no more than these tensors."""
        return replace(self, outputs=tuple(names))

    def apart(self, names: Sequence[str]) -> Session:
        """Return the same session, whose runs leave the parts of these tensors apart."""
        joined = {name: one for name, one in self.joined.items() if name not in names}
        return replace(self, outputs=in_parts(self.outputs, self.joined, names), joined=joined)

    def run_as_given(
        self, batch: NDArray[np.float32], feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run one batch as :meth:`run` does; return arrays of the dtypes that the model gives."""
        feed = {self.input: batch.astype(self.dtype, copy=False), **(feeds or {})}
        if self.fixed:
            feed = self._filled_up(feed, len(batch))
        names = in_parts(self.outputs, self.joined)
        try:
            rows = self.fixed or len(batch)
            with awaited(), watched(rows), _ended_in_time(self.endless) as ending:
                arrays = self.runtime.run(list(names), feed, ending)
        except Exception as error:  # onnxruntime's exceptions share no public parent
            shape = feed[self.input].shape
            if self.endless is not None and self.endless.is_set():
                raise EndlessError(
                    f"a loop of the model has not ended after {_LONGEST_RUN:.0f} s on a batch of "
                    f"shape {shape}: take a smaller --batch-size, or a model whose loops end"
                ) from None
            raise GeedError(
                f"the model failed on a batch of shape {shape}: {first_line(error)}"
            ) from None
        for name, array in zip(names, arrays, strict=True):
            if not isinstance(array, np.ndarray):
                raise GeedError(
                    f"tensor {name!r} came back as {type(array).__name__}, not as an array: name "
                    "another tensor (onnx-geed layers lists them)"
                )
            if self.fixed and array.ndim and array.shape[0] != self.fixed:
                taken = f"the {counted(self.fixed, 'row')} that the model takes"
                raise NotRowsError({name: array.shape}, taken)
        # A number for all rows has no axis to cut.
        if self.fixed:
            arrays = [array[: len(batch)] if array.ndim else array for array in arrays]
        given = dict(zip(names, arrays, strict=True))
        return {name: whole_of(name, self.joined, given) for name in self.outputs}

    def _filled_up(self, feed: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
        """Repeat the last row of what has one row a sample."""
        if rows > self.fixed:
            raise GeedError(
                f"the model takes {counted(self.fixed, 'row')}, not {rows}: use --batch-size "
                f"{self.fixed}"
            )
        pick = np.minimum(np.arange(self.fixed), rows - 1)
        declared = {i.name: i.shape for i in self.runtime.get_inputs()}
        each = {
            name
            for name, value in feed.items()
            if value.shape[:1] == (rows,) and declared[name][:1] != [rows]
        }
        return {name: value[pick] if name in each else value for name, value in feed.items()}


@dataclass(frozen=True)
class _Called(Session):
    """A function in place of a network: its runtime is the function."""

    runtime: Any = field(repr=False)

    def run_as_given(
        self, batch: NDArray[np.float32], feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Call the function on one batch; return those of its arrays that are asked for."""
        given = batch.astype(self.dtype, copy=False)
        if self.fixed:
            given = given[np.minimum(np.arange(self.fixed), len(batch) - 1)]
        arrays = self.runtime(given)
        for name in self.outputs:
            if name not in arrays or len(arrays[name]) != len(given):
                found = f"of shape {arrays[name].shape}" if name in arrays else "left out"
                raise GeedError(
                    f"output {name!r} is {found} for {len(given)} rows: a function must give the "
                    "same outputs every time, one row per input row"
                )
        return {name: arrays[name][: len(batch)] for name in self.outputs}


@contextmanager
def _ended_in_time(endless: threading.Event | None) -> Iterator[Any]:
    """Give a run options by which it is ended once it takes too long, or none if it has no loops.

    A run behind one that did not end is ended at once.
    """
    if endless is None:
        yield None
        return
    ort = load_runtime()
    ending = ort.RunOptions()
    ending.log_severity_level = 4

    def end() -> None:
        endless.set()
        ending.terminate = True

    timer = threading.Timer(0 if endless.is_set() else _LONGEST_RUN, end)
    timer.daemon = True
    timer.start()
    try:
        yield ending
    finally:
        timer.cancel()


def open_session(
    content: bytes,
    folder: Path,
    *,
    input: str,
    outputs: Sequence[str],
    provider: Provider = "auto",
    loops: bool = False,
) -> Session:
    """Open a model in ONNX Runtime.

    Parameters
    ----------
    content : bytes
        The model as a file holds it, its external data not loaded.
    folder : Path
        Where its external data lie.
    input : str
        The acted-on input.
    outputs : sequence of str
        Outputs to return.
    provider : {"auto", "cuda", "cpu"}
        The device; ``auto`` takes CUDA where it works.
    loops : bool
        Whether the model has loops.

    Returns
    -------
    Session

    Raises
    ------
    GeedError
        If CUDA was asked for and is not to be had.
        If the runtime cannot load the model.
    """
    ort = load_runtime()
    tried = ""
    if provider != "cpu":
        runtime, tried = _try_cuda(ort, content, folder)
        if runtime is not None:
            return _session(runtime, input, outputs, "cuda", loops)
        if provider == "cuda":
            raise GeedError(f"--provider cuda: {tried}; use --provider cpu to run on the CPU")
    try:
        with whole(), opening():
            runtime = ort.InferenceSession(
                content, _options(ort, folder), providers=["CPUExecutionProvider"]
            )
    except Exception as error:  # onnxruntime's exceptions share no public parent
        raise GeedError(
            f"ONNX Runtime cannot load the model: {first_line(error)}; export it with operators "
            "and an opset that this version knows, or upgrade onnxruntime"
        ) from None
    return _session(runtime, input, outputs, "cpu", loops)


# numpy's dtypes by the names that the runtime has for those of inputs; of others, by their own.
_DTYPES: dict[str, Any] = {
    "float16": np.float16,
    "double": np.float64,
    "bool": np.bool_,
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def _session(
    runtime: ort.InferenceSession,
    input: str,
    outputs: Sequence[str],
    provider: Literal["cuda", "cpu"],
    loops: bool,
) -> Session:
    # The runtime keeps the model's bytes only to open it once more where a device fails, which is
    # never done here: a device is not changed in silence.
    runtime.disable_fallback()
    if hasattr(runtime, "_model_bytes"):
        runtime._model_bytes = None
    _give_back_memory()
    kinds = {i.name: i.type for i in runtime.get_inputs()}
    dtype = np.dtype(
        _DTYPES.get(kinds[input].removeprefix("tensor(").removesuffix(")"), np.float32)
    )
    endless = threading.Event() if loops else None
    return Session(runtime, input, dtype, tuple(outputs), provider, endless=endless)


def _give_back_memory() -> None:
    """Give the system what the runtime needed to open a model and has let go.

    The C library of Linux keeps it, as much as half the weights, and puts other arrays elsewhere.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def _options(ort: Any, folder: Path) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Runs go side by side, one a core.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Planned ahead, the memory of one run is a block of its own for every number of rows; asked for
    # piece by piece, it takes half of that in the same time.
    options.enable_mem_pattern = False
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.resolve())
    )
    return options


def _try_cuda(ort: Any, content: bytes, folder: Path) -> tuple[ort.InferenceSession | None, str]:
    """A CUDA session, or none and the reason."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        reason = "this onnxruntime has no CUDA provider (pip install onnxruntime-gpu)"
        return None, runtime_conflict() or reason
    if not sys.platform.startswith("win") and not Path("/dev/nvidiactl").exists():
        # Without a device the provider only prints a page of library errors.
        return None, "no NVIDIA device is visible to this process"
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    try:
        with whole(), opening():
            runtime = ort.InferenceSession(
                content,
                _options(ort, folder),
                providers=[("CUDAExecutionProvider", _CUDA_OPTIONS), "CPUExecutionProvider"],
            )
    except Exception as error:  # onnxruntime's exceptions share no public parent
        return None, f"CUDA failed to start: {first_line(error)}"
    # The runtime falls back to the processor without raising.
    if runtime.get_providers()[0] != "CUDAExecutionProvider":
        return None, "ONNX Runtime could not load CUDA (is CUDA 13 with cuDNN 9 installed?)"
    return runtime, ""


def open_exposed(
    graph: Model, input: str, names: Sequence[str], provider: Provider | str
) -> Session:
    """Open a session that returns the named tensors."""
    return ready_to_open(graph, input, names, provider)()


def ready_to_open(
    graph: Model, input: str, names: Sequence[str], provider: Provider | str
) -> Callable[[], Session]:
    """Do what opening a session is in Python; return what remains.

    That is nearly all the runtime's own, and so goes on beside Python in another thread.

    Raises
    ------
    GeedError
        If the runtime is missing. What it returns raises as :func:`open_session` does.
    """
    if graph.function is not None:
        kind = graph.proto.graph.input[0].type.tensor_type.elem_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        called = _Called(graph.function, input, dtype, tuple(names), "cpu")
        return lambda: called
    load_runtime()
    joined = joined_tensors(graph.proto, names)
    exposed = expose_tensors(graph, in_parts(names, joined))
    content, loops = exposed.SerializeToString(), has_loops(exposed.graph)
    del exposed

    def open_it() -> Session:
        session = open_session(
            content,
            graph.path.parent,
            input=input,
            outputs=names,
            provider=cast(Provider, provider),
            loops=loops,
        )
        return replace(session, joined=joined)

    return open_it


def _in_float32(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """Return activations in float32, in which they are compared.

    Raises
    ------
    SettledError
        If a finite number is too large for that.
    """
    with np.errstate(over="ignore"):
        small = np.asarray(array, dtype=np.float32)
    if array.dtype == np.float64 and np.isinf(small).any() and np.isfinite(array).all():
        raise SettledError(
            f"tensor {name!r}: holds numbers of up to {np.abs(array).max():.3g}, more than float32 "
            "does, in which tensors are compared; scale them in the model"
        )
    return small
