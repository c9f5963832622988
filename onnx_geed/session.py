"""ONNX Runtime: the provider as asked or an error, one batch in, activations out."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

__all__ = [
    "Provider",
    "Session",
    "changes",
    "cores",
    "open_session",
    "probe_batch",
    "probe_places",
    "relative_change",
    "run_alone",
    "runtime_conflict",
]

Provider = Literal["auto", "cuda", "cpu"]

# TF32 rounds inputs of products to 10 bits; an exhaustive search of convolutions picks other
# algorithms, and so other last bits, from run to run.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


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
        What the model runs on.
    fixed : int
        Rows of every run, where the model takes no other number of them; a run of fewer is filled
        up with copies of its last row. 0 where the number is free.
    """

    runtime: ort.InferenceSession = field(repr=False)
    input: str
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]
    provider: Literal["cuda", "cpu"]
    fixed: int = 0

    def run(
        self, batch: NDArray[np.float32], feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[np.float32]]:
        """Run one batch.

        Parameters
        ----------
        batch : ndarray of float32, shape (B, ...)
            In the model's own layout.
        feeds : mapping of str to ndarray, optional
            Values of the other inputs.

        Returns
        -------
        list of ndarray, each shape (B, ...)
            One array a tensor; float32, whatever the model's precision.

        Raises
        ------
        GeedError
            If the runtime refuses the batch, or leaves out a tensor.
        """
        # Brought to float32 here and not by a Cast in the graph, which fusions would see through.
        return [np.asarray(a, dtype=np.float32) for a in self.run_as_given(batch, feeds)]

    def run_as_given(
        self, batch: NDArray[np.float32], feeds: Mapping[str, NDArray[Any]] | None = None
    ) -> list[NDArray[Any]]:
        """Run one batch as :meth:`run` does; return arrays of the dtypes that the model gives."""
        feed = {self.input: batch.astype(self.dtype, copy=False), **(feeds or {})}
        if self.fixed:
            feed = self._filled_up(feed, len(batch))
        try:
            arrays = self.runtime.run(list(self.outputs), feed)
        except Exception as error:  # onnxruntime's exceptions share no public parent
            shape = feed[self.input].shape
            raise GeedError(
                f"the model failed on a batch of shape {shape}: {_first_line(error)}"
            ) from None
        for name, array in zip(self.outputs, arrays, strict=True):
            if not isinstance(array, np.ndarray):
                raise GeedError(
                    f"tensor {name!r} came back as {type(array).__name__}, not as an array: name "
                    "another tensor (onnx-geed layers lists them)"
                )
            if self.fixed and array.ndim and array.shape[0] != self.fixed:
                raise GeedError(
                    f"tensor {name!r} has shape {array.shape} for the {self.fixed} rows that the "
                    "model takes: its axis 0 is not the batch; name another tensor (onnx-geed "
                    "layers lists them)"
                )
        # A number for all rows has no axis to cut.
        return [a[: len(batch)] if self.fixed and a.ndim else a for a in arrays]

    def _filled_up(self, feed: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
        """Repeat the last row of what has one row a sample."""
        if rows > self.fixed:
            raise GeedError(
                f"the model takes {self.fixed} rows, not {rows}: use --batch-size {self.fixed}"
            )
        pick = np.minimum(np.arange(self.fixed), rows - 1)
        declared = {i.name: i.shape for i in self.runtime.get_inputs()}
        each = {
            name
            for name, value in feed.items()
            if value.shape[:1] == (rows,) and declared[name][:1] != [rows]
        }
        return {name: value[pick] if name in each else value for name, value in feed.items()}


def open_session(
    proto: onnx.ModelProto,
    folder: Path,
    *,
    input: str,
    outputs: Sequence[str],
    provider: Provider = "auto",
    threads: int = 1,
) -> Session:
    """Open a model in ONNX Runtime.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model, its external data not loaded.
    folder : Path
        Where its external data lie.
    input : str
        The acted-on input.
    outputs : sequence of str
        Outputs to return.
    provider : {"auto", "cuda", "cpu"}
        What to run on; ``auto`` takes CUDA where it works.
    threads : int
        Threads inside one run; 1 where several runs go side by side.

    Returns
    -------
    Session

    Raises
    ------
    GeedError
        If CUDA was asked for and is not to be had.
        If the runtime cannot load the model.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    data = proto.SerializeToString()
    tried = ""
    if provider != "cpu":
        runtime, tried = _try_cuda(ort, data, folder, threads)
        if runtime is not None:
            return _session(runtime, input, outputs, "cuda")
        if provider == "cuda":
            raise GeedError(f"--provider cuda: {tried}; use --provider cpu to run on the processor")
    try:
        runtime = ort.InferenceSession(
            data, _options(ort, folder, threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions share no public parent
        raise GeedError(
            f"ONNX Runtime cannot load the model: {_first_line(error)}; export it with operators "
            "and an opset that this version knows, or upgrade onnxruntime"
        ) from None
    return _session(runtime, input, outputs, "cpu")


def _session(
    runtime: ort.InferenceSession,
    input: str,
    outputs: Sequence[str],
    provider: Literal["cuda", "cpu"],
) -> Session:
    kinds = {i.name: i.type for i in runtime.get_inputs()}
    dtype = np.dtype(
        {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(kinds[input], np.float32)
    )
    return Session(runtime, input, dtype, tuple(outputs), provider)


def _options(ort: Any, folder: Path, threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.resolve())
    )
    return options


def _try_cuda(
    ort: Any, data: bytes, folder: Path, threads: int
) -> tuple[ort.InferenceSession | None, str]:
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
        runtime = ort.InferenceSession(
            data,
            _options(ort, folder, threads),
            providers=[("CUDAExecutionProvider", _CUDA_OPTIONS), "CPUExecutionProvider"],
        )
    except Exception as error:  # onnxruntime's exceptions share no public parent
        return None, f"CUDA failed to start: {_first_line(error)}"
    # The runtime falls back to the processor without raising.
    if runtime.get_providers()[0] != "CUDAExecutionProvider":
        return None, "ONNX Runtime could not load CUDA (is CUDA 13 with cuDNN 9 installed?)"
    return runtime, ""


def runtime_conflict() -> str:
    """Say that both builds of ONNX Runtime are installed, with the cure; else nothing."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    if len(found) < 2:
        return ""
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
        "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install the one you want"
    )


def probe_batch(
    session: Session,
    rows: NDArray[np.float32],
    batch: int,
    feeds: Callable[[int], Mapping[str, NDArray[Any]]],
) -> str:
    """Test that a row's activations do not depend on the batch that it is in.

    Parameters
    ----------
    session : Session
        The opened model.
    rows : ndarray of float32, shape (R, ...)
        Some different inputs, R ≥ 2.
    batch : int
        A batch size to try besides 2.
    feeds : callable
        Gives the other inputs for a number of rows.

    Returns
    -------
    str
        Empty where all is well; else what goes wrong, naming the tensor.

    Notes
    -----
    A row may change by 1e-3 of the spread between rows: kernels for other batch sizes add up in
    another order, while rows that are merged or normalised together change by about the spread.
    """
    picks = [np.arange(size) % len(rows) for size in sorted({2, batch} - {1}, reverse=True)]
    with ThreadPoolExecutor(cores()) as pool:
        # The longest first: all are single-threaded runs.
        runs = [pool.submit(session.run, rows[pick], feeds(len(pick))) for pick in picks]
        alone = run_alone(session, rows, feeds, pool)
    for name, array in zip(session.outputs, alone[0], strict=True):
        if array.shape[:1] != (1,):
            return f"axis 0 of {name!r} is not the batch: {array.shape} for one row"
    for pick, run in reversed(list(zip(picks, runs, strict=True))):
        size = len(pick)
        try:
            together = run.result()
        except GeedError as error:
            return str(error)
        for k, (name, array) in enumerate(zip(session.outputs, together, strict=True)):
            if array.shape != (size, *alone[0][k].shape[1:]):
                return f"{name!r} has shape {array.shape} for a batch of {size}"
            expected = np.concatenate([alone[i][k] for i in pick])
            change = relative_change(array, expected)
            if change > 1e-3:
                return f"{name!r} {changes(change)}"
    return ""


def changes(change: float) -> str:
    """Say by how much a tensor changes with its batch."""
    much = f"{change:.1e} of" if change < 10 else "far more than"
    return f"changes by {much} its spread with the batch it is in"


def probe_places(
    session: Session,
    rows: NDArray[np.float32],
    feeds: Callable[[int], Mapping[str, NDArray[Any]]],
) -> str:
    """Test that a row gives the same at every place of a batch of fixed size.

    Parameters
    ----------
    session : Session
        The opened model, its ``fixed`` number of rows set.
    rows : ndarray of float32, shape (R, ...)
        Some different inputs.
    feeds : callable
        Gives the other inputs for a number of rows.

    Returns
    -------
    str
        Empty where all is well; else what goes wrong, naming the tensor.
    """
    alone = [session.run(rows[i : i + 1], feeds(1)) for i in range(len(rows))]
    for shift in range(len(rows)):
        pick = (np.arange(session.fixed) + shift) % len(rows)
        together = session.run(rows[pick], feeds(session.fixed))
        for k, (name, array) in enumerate(zip(session.outputs, together, strict=True)):
            change = relative_change(array, np.concatenate([alone[i][k] for i in pick]))
            if change > 1e-3:
                return f"{name!r} {changes(change)}"
    return ""


def run_alone(
    session: Session,
    rows: NDArray[np.float32],
    feeds: Callable[[int], Mapping[str, NDArray[Any]]],
    pool: Executor,
) -> list[list[NDArray[np.float32]]]:
    """Run rows one by one, side by side; return one array a tensor for each."""
    return list(pool.map(lambda i: session.run(rows[i : i + 1], feeds(1)), range(len(rows))))


def relative_change(
    array: NDArray[np.float32], expected: NDArray[np.float32], spread: float = 0.0
) -> float:
    """Return by how much rows differ from what is expected, measured by the rows' spread.

    Parameters
    ----------
    array, expected : ndarray of float32, shape (R, ...)
        Rows of a tensor.
    spread : float
        The spread of the tensor as far as it is known from other rows.

    Returns
    -------
    float
        The largest difference, divided by the largest one between two expected rows.
    """
    known = np.isfinite(expected)  # NaN and infinity are named later, with their sample
    with np.errstate(invalid="ignore"):  # of infinities, which are left out
        apart = np.abs(np.where(known, array - expected, 0)).max(initial=0.0)
    finite = np.where(known, expected, 0)
    spread = max(spread, float(np.abs(finite - finite[:1]).max(initial=0.0)))
    # Rows that hardly differ are compared on their own scale.
    scale = max(spread, 1e-3 * float(np.abs(finite).max(initial=0.0)), 1e-30)
    return float(apart) / scale


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line if len(line) <= 300 else line[:297] + "..."
