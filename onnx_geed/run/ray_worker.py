"""A worker in a process of a Ray cluster, and what is sent to it and back."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
import platform
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, reason_of
from onnx_geed.run.job import Task
from onnx_geed.run.provenance import software_versions
from onnx_geed.run.stretch import Stretch
from onnx_geed.run.worker import Worker

__all__ = ["Outcome", "RemoteWorker", "packed", "sealed"]

# Networks, or passes of one, for which sessions are kept open: runs of a suite take turns.
_NETWORKS = 2


# Tasks, and functions that run their jobs, that are kept.
_TASKS = 4


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Parameters
    ----------
    value : object
        What it gave.
    error : Exception, optional
        What it raised instead.
    marks : tuple of mapping of int to str
        Hashes of the samples that it read, by position, of each moved input.
    seconds : float
        How long it ran.
    missing : bool
        Whether it was not run, its task being unknown to the worker.
    """

    value: Any = None
    error: Exception | None = None
    marks: tuple[Mapping[int, str], ...] = ()
    seconds: float = field(default=0.0, compare=False)
    missing: bool = False


class RemoteWorker:
    """Runs jobs one after the other, and keeps open what the next one needs too.

    Parameters
    ----------
    folder : str
        The folder that paths are relative to.
    path : sequence of str
        Where modules are looked for.
    environment : mapping of str to str
        Variables that say how kernels are compiled.
    """

    def __init__(self, folder: str, path: Sequence[str], environment: Mapping[str, str]) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path += [entry for entry in path if entry not in sys.path]
        os.environ.update(environment)
        self._worker = Worker(kept=_NETWORKS)
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def greet(self) -> tuple[str, dict[str, str]]:
        """Return the node, and the versions of the software that computes the numbers."""
        import ray

        return ray.get_runtime_context().get_node_id(), software_versions()

    def ready(self, shared: Sequence[tuple[str, Any]], job: bytes) -> None:
        """Open what a job needs; of what fails here the job itself will tell.

        Parameters
        ----------
        shared, job
            As :meth:`run` takes them.
        """
        with contextlib.suppress(Exception):
            task, _ = self._fetched(shared, {name: _get(at) for name, at in shared if at})
            if isinstance(opening := _unpacked(job, task), Stretch):
                self._worker.open(opening.jobs[0])

    def run(self, shared: Sequence[tuple[str, Any]], job: bytes) -> Outcome:
        """Run a job.

        Parameters
        ----------
        shared : sequence of (str, ObjectRef or None)
            The task, and the function that runs its jobs, each by its name and its place in the
            cluster's store; none where this worker has it, if it has kept it.
        job : bytes
            The job, without its task.

        Returns
        -------
        Outcome
        """
        if any(at is None and name not in self._kept for name, at in shared):
            return Outcome(missing=True)
        # What the cluster has lost is no fault of the job.
        contents = {name: _get(at) for name, at in shared if name not in self._kept}
        begun, task = time.perf_counter(), None
        try:
            task, run = self._fetched(shared, contents)
            value = run(self._worker, _unpacked(job, task))
            marks = tuple(m.intake.fresh() if m.intake else {} for m in task.source.moved)
        except Exception as error:
            told = _of_this_node(error, task) or _sendable(error)
            return Outcome(error=told, seconds=time.perf_counter() - begun)
        return Outcome(value, None, marks, time.perf_counter() - begun)

    def run_known(self, content: bytes) -> Outcome:
        """Run a job of which this worker has all that it shares with others.

        Parameters
        ----------
        content : bytes
            The names of that, and the job, as :meth:`run` takes them.

        Returns
        -------
        Outcome
        """
        names, job = pickle.loads(content)
        return self.run([(name, None) for name in names], job)

    def _fetched(
        self, shared: Sequence[tuple[str, Any]], contents: Mapping[str, Any]
    ) -> tuple[Task, Callable[[Worker, Any], Any]]:
        """Return a task and what runs its jobs: those that are kept, or else from their content."""
        (of_task, _), (of_run, _) = shared
        if of_task not in self._kept:
            self._keep(of_task, _opened(contents[of_task]))
        self._kept.move_to_end(of_task)
        task = self._kept[of_task]
        if of_run not in self._kept:
            self._keep(of_run, _unpacked(contents[of_run], task))
        self._kept.move_to_end(of_run)
        return task, self._kept[of_run]

    def _keep(self, name: str, value: Any) -> None:
        while len(self._kept) >= 2 * _TASKS:
            self._kept.popitem(last=False)
        self._kept[name] = value


def sealed(task: Task) -> tuple[bytes, list[NDArray[np.uint8]]]:
    """Return a task in bytes, and the arrays that it holds, which a node keeps once for all.

    Raises
    ------
    GeedError
        If data, an action of one's own or a function in place of a model cannot be sent to
        another process.
    """
    # Which sends along what stands in a script.
    cloudpickle: Any = importlib.import_module("ray.cloudpickle")
    buffers: list[pickle.PickleBuffer] = []
    try:
        content = cloudpickle.dumps(task, protocol=5, buffer_callback=buffers.append)
    except Exception as error:
        if isinstance(error, GeedError) or task.network.graph.function is None:
            raise
        raise GeedError(
            f"--executor ray: {task.network.graph.called} cannot be sent to another process "
            f"({reason_of(error)}); leave the executor out, or give a function that can be pickled"
        ) from None
    return content, [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]


def _opened(content: tuple[bytes, Sequence[NDArray[np.uint8]]]) -> Task:
    """Return the task that was sealed, its data opened here."""
    task: Task = pickle.loads(content[0], buffers=content[1])
    return task


class _Pickler(pickle.Pickler):
    """Leaves out the task, which is where it is unpickled already."""

    def __init__(self, file: io.BytesIO, task: Task) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._task = task

    def persistent_id(self, value: Any) -> str | None:
        """Name the task."""
        return "task" if value is self._task else None


class _Unpickler(pickle.Unpickler):
    """Puts the task back."""

    def __init__(self, file: io.BytesIO, task: Task) -> None:
        super().__init__(file)
        self._task = task

    def persistent_load(self, name: str) -> Task:
        """Return the task."""
        return self._task


def packed(value: Any, task: Task) -> bytes:
    """Return a value in bytes, a few hundred of a job: the task that it refers to is left out."""
    file = io.BytesIO()
    _Pickler(file, task).dump(value)
    return file.getvalue()


def _unpacked(content: bytes, task: Task) -> Any:
    return _Unpickler(io.BytesIO(content), task).load()


def _get(at: Any) -> Any:
    import ray

    return ray.get(at)


def _of_this_node(error: Exception, task: Task | None) -> GeedError | None:
    """Return an error about what the driver has, and this node lacks; ``None`` for any other.

    Parameters
    ----------
    error : Exception
        What a job ended in.
    task : Task, optional
        The task; none where it could not be opened here, as it was by the driver.
    """
    said = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
    weights = [] if task is None else [file.path for file in task.network.graph.weights]
    if gone := [path for path in weights if not os.path.isfile(path)]:
        said = f"{gone[0]}: there is no such file"
    elif task is not None and not _is_of_a_file(error):
        return None
    ray: Any = importlib.import_module("ray")
    cure = "put it there under the same name, on a disk that all nodes see, or at an address"
    if "://" in said:
        cure = (
            "give that node the driver's credentials and packages: variables such as "
            "AWS_ACCESS_KEY_ID belong in the environment of its ray start"
        )
    elif isinstance(error, ImportError):
        cure = "install it on all nodes, or put it where all of them find it"
    where = f"{platform.node()} ({ray.util.get_node_ip_address()})"
    return GeedError(f"--executor ray: node {where}, unlike the driver: {said}; {cure}")


def _is_of_a_file(error: BaseException | None) -> bool:
    """Say whether a file that is missing, or may not be read, is behind an error."""
    while error is not None:
        if isinstance(error, FileNotFoundError | PermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sendable(error: Exception) -> Exception:
    """Return an error that can be raised elsewhere too."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a class of one's own raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if type(again) is type(error) else RuntimeError(str(error))
