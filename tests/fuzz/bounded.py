"""Commands run in processes of their own, with bounds on time and memory: how did each end?

``python bounded.py`` is a server: it loads the package once, and forks for every command line that
it reads. ``Bounded`` starts it and asks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GIB = 1 << 30

#: What a stranger's file may cost.
SECONDS, MEMORY = 60.0, 2 * GIB

LONGEST_LINE = 400

# Lines of what goes on.
_COMPILING = "onnx-geed: compiling kernels"
_TOLD = ("note: ", "fitting ", _COMPILING)

# What no terminal may be shown; JSON is escaped.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Parameters
    ----------
    status : int
        Its exit status; of a signal, the signal's number negated; -9 where its time was over.
    out, err : str
        Its stdout and its stderr.
    seconds : float
        How long it took.
    peak : int
        Most bytes of memory that it held.
    left : tuple of str
        Files that it left.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak: int
    left: tuple[str, ...]

    @property
    def compiled(self) -> bool:
        """Whether loops were compiled, which takes as long as it takes."""
        return _COMPILING in self.err

    def fault(self, line: Sequence[str] = ()) -> str:
        """Say what is wrong with that; empty where nothing is.

        It must end in a figure or in one line of fewer than 400 characters with status 2, in time,
        within its memory, and leave no file behind a refusal. Gates may end with status 1;
        ``--verify`` tells all damages; a suite goes on after a cell that failed.

        Parameters
        ----------
        line : sequence of str
            What was run.
        """
        suite = "benchmark" in line
        lines = [line for line in self.err.split("\n") if line.strip()]
        told = [line for line in lines if not line.startswith(_TOLD)]
        if suite:
            told = [line for line in told if line.startswith("onnx-geed: ")]
        last = told[-1] if told else ""
        listed = "--verify" in line and all(" is damaged in " in one for one in told)
        if self.seconds > SECONDS:
            return f"took {self.seconds:.0f} s"
        if self.status not in ((0, 1, 2) if "--fail-above" in line else (0, 2)):
            return f"status {self.status}: {last[:200]}"
        if self.peak > MEMORY:
            return f"held {self.peak / GIB:.1f} GiB: {last[:200]}"
        if "Traceback" in self.err or "onnx-geed: internal error" in self.err:
            return f"traceback: {last[:250]}"
        if any(len(line) >= LONGEST_LINE for line in lines):
            return f"line of {max(map(len, lines))} characters: {last[:80]}"
        if self.status == 2 and len(told) != 1 and not listed:
            return f"{len(told)} lines: {told}"[:300]
        for text in (self.err, self.out):
            if unsafe := _UNSAFE.search(text):
                return f"raw {unsafe[0]!r} on the terminal: {last[:80]!r}"
        if self.status == 2 and self.left and not suite:
            return f"left {', '.join(self.left[:3])}"
        return ""


class Bounded:
    """A server that runs commands of ``onnx-geed``, each in a process of its own.

    Parameters
    ----------
    seconds : float
        After so long a command is killed.
    memory : int
        More bytes of data than that no command gets.
    held : int
        A command that holds more is killed: what it asks for and never touches counts for nothing.
    """

    def __init__(
        self, seconds: float = SECONDS + 5, memory: int = 4 * GIB, held: int = 1 << 60
    ) -> None:
        self._limits = {"limit": seconds, "memory": memory, "held": held}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def run(self, arguments: Sequence[str | Path], folder: Path) -> Ended:
        """Run a command in a folder, to which nothing may be added."""
        assert self._server.stdin
        assert self._server.stdout
        request = {"arguments": list(map(str, arguments)), "folder": str(folder), **self._limits}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return Ended(**{**answer, "left": tuple(answer["left"])})

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def __enter__(self) -> Bounded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve() -> None:
    import h5py  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    import onnx_geed.cache
    import onnx_geed.cli.commands
    import onnx_geed.model.listing
    import onnx_geed.report.model_tables
    import onnx_geed.run.measurements
    import onnx_geed.run.prepare  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(asdict(_run(**json.loads(line)))), flush=True)


def _run(arguments: list[str], folder: str, limit: float, memory: int, held: int) -> Ended:
    before = _files(folder)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = os.fork()
        if not child:
            _become(arguments, folder, memory, out, err)
        status, peak = _wait(child, start + limit, held)
        seconds = time.monotonic() - start
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(100_000).decode("utf-8", "backslashreplace"))
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(code, *texts, seconds, peak, tuple(sorted(_files(folder) - before)))


def _files(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def _become(arguments: list[str], folder: str, memory: int, out: Any, err: Any) -> None:
    """Be the command, and never come back."""
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for stream, descriptor in ((null, 0), (out.fileno(), 1), (err.fileno(), 2)):
            os.dup2(stream, descriptor)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        sys.argv = ["onnx-geed", *arguments]
        from onnx_geed.cli.commands import cli

        try:
            cli(arguments, prog_name="onnx-geed")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, until: float, most: int) -> tuple[int, int]:
    """Return status and most bytes of a process, killed where it takes long or holds much."""
    pause = 0.002
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return status, used.ru_maxrss * 1024
        if time.monotonic() > until or _held(child) > most:
            os.kill(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            return status, used.ru_maxrss * 1024
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _held(child: int) -> int:
    """Return the bytes of memory that a process holds, where the system tells."""
    try:
        return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    _serve()
