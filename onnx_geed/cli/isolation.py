"""``--isolate``: the command goes on in a child that can do little; the parent only waits for it.

The process forks when the command line is read and nothing else is loaded, so that it costs next to
nothing. The child is confined for good before it opens a model: memory, time, no network, and no
writing but to its output. Files that it writes lie in a folder of its own until it has ended; then
the parent, which reads nothing of a stranger's, gives them their names.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from onnx_geed.cli.landlock import adopt, close_network, close_writes, die_with_parent
from onnx_geed.cli.memory_limit import limit_memory
from onnx_geed.cli.signals import ENDING, line_of
from onnx_geed.cli.terminal import fail, tell
from onnx_geed.confinement import Confined, Protections, confine
from onnx_geed.errors import GeedError
from onnx_geed.files import writing_beside

__all__ = ["Bounds", "isolate"]


# Seconds between two looks at a child that has closed its pipe.
_LOOK = 0.005


# What a child ends with: the command's own, and those of signals that it tells of itself.
_STATUSES = frozenset((0, 1, 2, *(128 + number for number in ENDING)))


@dataclass(frozen=True)
class Bounds:
    """What a child may do.

    Parameters
    ----------
    subject : str
        What it works on, for messages.
    seconds : float
        The most seconds, of a suite's cell each.
    memory : str or None
        The most memory, such as ``4GiB``; None: that of the machine.
    files, folders : sequence of Path
        Its output: each file that it is to write, and folders that it fills.
    source : Path or None
        The model, where its external data are copied beside an output.
    """

    subject: str
    seconds: float
    memory: str | None
    files: Sequence[Path]
    folders: Sequence[Path]
    source: Path | None = None


@dataclass(frozen=True)
class _Ending:
    """How a child ended: its status, or what to tell; and the cell of a suite that it was at."""

    status: int
    message: str
    cell: str


def isolate(bounds: Bounds) -> None:
    """Go on in a confined child: return there, while the parent waits and exits with its status.

    A cell of a suite that ends the child is failed, and another child goes on with the others.

    Raises
    ------
    GeedError
        If the system cannot do it.
    """
    if not hasattr(os, "fork"):
        raise GeedError(
            "--isolate: needs Linux or macOS; leave it out, or run in a container or WSL"
        )
    parent = os.getpid()
    adopt()
    strangers = _children()
    with contextlib.ExitStack() as stack:
        places = stack.enter_context(_made(bounds, parent))
        failed: dict[str, str] = {}
        begun: set[str] = set()
        while True:
            ours, theirs = os.pipe()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(AttributeError, OSError, ValueError):
                    stream.flush()
            child = os.fork()
            if child == 0:
                stack.pop_all()  # the folders are the parent's to remove
                os.close(ours)
                # What lies in a folder of the output is written there, wherever that lies.
                own = {path: path for path in map(_real, bounds.folders)}
                how = Confined(_NONE, {**places.staging, **own}, theirs, failed, frozenset(begun))
                _enter(bounds, places, how)
                return
            os.close(theirs)
            ending = _wait(child, ours, bounds, begun, strangers)
            os.close(ours)
            if not ending.message or not ending.cell or ending.cell in failed:
                break
            failed[ending.cell] = ending.message
        status = ending.status
        if ending.message:
            status = fail(f"{bounds.subject}: {ending.message}")
        status = _take_over(bounds, places, whole=status < 2) or status
    sys.exit(status)


_NONE = Protections(memory_bytes=None, time_seconds=0.0, network=False, writes=False)


@dataclass(frozen=True)
class _Places:
    """Folders for files that are not yet in their place, by the folder of these; and for others."""

    staging: dict[Path, Path]
    scratch: Path
    open: tuple[Path, ...]
    kept: list[Path]


@contextlib.contextmanager
def _made(bounds: Bounds, parent: int) -> Iterator[_Places]:
    """Make the folders that a child writes to; remove at the end what it has not filled."""
    scratch = Path(tempfile.mkdtemp(prefix="onnx-geed-"))
    staging: dict[Path, Path] = {}
    made: list[Path] = []
    kept: list[Path] = []
    open_: list[Path] = [scratch, *bounds.folders]
    try:
        for file in bounds.files:
            if file.exists() and not file.is_file():
                open_.append(file)  # a pipe or device, which is written to as it is
                continue
            folder = _real(file).parent
            if folder not in staging:
                with contextlib.suppress(OSError):  # which the child tells of
                    ours = tempfile.mkdtemp(".unfinished", ".onnx-geed-", folder)
                    staging[folder] = Path(ours)
        for wanted in bounds.folders:
            for folder in reversed([wanted, *wanted.parents]):
                if not folder.exists():
                    with contextlib.suppress(OSError):
                        folder.mkdir()
                        made.append(folder)
        yield _Places(staging, scratch, (*open_, *staging.values()), kept)
    finally:
        if os.getpid() == parent:
            for folder in (scratch, *staging.values()):
                if folder not in kept:
                    shutil.rmtree(folder, ignore_errors=True)
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    folder.rmdir()  # which leaves one that is not empty


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _enter(bounds: Bounds, places: _Places, how: Confined) -> None:
    """Confine this process, and say where the system does not do all of it."""
    import resource  # which Windows has not

    os.setpgid(0, 0)
    for name in ("SIGTTOU", "SIGTTIN"):  # it writes to a terminal whose foreground is the parent
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    die_with_parent(signal.SIGKILL)
    os.environ["TMPDIR"] = tempfile.tempdir = str(places.scratch)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = limit_memory(bounds.memory)
    writes = close_writes(places.open)
    network = close_network()
    protections = Protections(
        memory_bytes=memory, time_seconds=bounds.seconds, network=network, writes=writes
    )
    confine(Confined(protections, how.staging, how.pipe, how.failed, how.begun))
    missing = [
        name
        for name, is_on in (
            ("limit memory", memory is not None),
            ("close the network", network),
            ("close files to writing", writes),
        )
        if not is_on
    ]
    if missing:
        tell(f"note: --isolate: this system cannot {' or '.join(missing)}; the other limits are on")


def _wait(child: int, pipe: int, bounds: Bounds, begun: set[str], strangers: set[int]) -> _Ending:
    """Wait until a child has ended, passing signals on to it, no longer than it may take."""
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    cell, rest, is_open, in_time = "", b"", True, True
    deadline = time.monotonic() + bounds.seconds
    with _signals_for(child) as came:
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            left = deadline - time.monotonic()
            if left <= 0:
                in_time = False
                break
            if not is_open:
                time.sleep(_LOOK)
            elif select.select([pipe], [], [], left)[0]:
                text = os.read(pipe, 1 << 16)
                is_open = bool(text)
                *lines, rest = (rest + text).split(b"\n")
                for line in lines:
                    cell = line.decode("utf-8", "replace")
                    if cell not in begun:  # each has the whole time once
                        deadline = time.monotonic() + bounds.seconds
                    begun.add(cell)
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # whatever it has started goes too
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        _end_children(strangers)
    if not in_time:
        return _Ending(
            2,
            f"was stopped after {bounds.seconds:g} s; raise --time-limit if it needs longer",
            cell,
        )
    if came and code not in _STATUSES:
        tell(line_of(came[0]))
        return _Ending(128 + came[0], "", cell)
    if code >= 0 and code not in _STATUSES:
        why = f"ended its process with status {code}, which no command uses"
        return _Ending(2, why, cell)
    return _Ending(code, _crash(-code, bounds) if code < 0 else "", cell)


def _children() -> set[int]:
    """Return this process's children, where the system tells of them."""
    found: set[int] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, listed.read_text().split()))
    return found


def _end_children(strangers: set[int]) -> None:
    """End what a child has left behind, which is this process's own by now, and all of its own."""
    while left := _children() - strangers:
        for child in left:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        for child in left:
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)


def _crash(number: int, bounds: Bounds) -> str:
    name = signal.Signals(number).name
    if number == signal.SIGFPE:
        why = "a library ended it on a fault in the model, a division that has no result"
        return f"crashed its process ({name}): {why}"
    limit = bounds.memory or "the one of this shell or machine"
    # A library that finds no memory ends a process by SIGABRT too.
    fault = "a fault in a library"
    if number == signal.SIGABRT:
        fault = "a library ended it on a fault in the model"
    return (
        f"crashed its process ({name}): {fault}, or too little memory (limit: "
        f"{limit}; raise --memory-limit)"
    )


@contextlib.contextmanager
def _signals_for(child: int) -> Iterator[list[int]]:
    """Pass what would end or stop this process on to its child; what comes again kills it.

    Yields
    ------
    list of int
        What came to end it.
    """
    came: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL if came else number)
        came.append(number)

    def stop(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.killpg(child, signal.SIGCONT)

    handlers: dict[int, Any] = dict.fromkeys(ENDING, forward)
    before = {n: signal.getsignal(n) for n in (*handlers, signal.SIGTSTP)}
    before = {n: h for n, h in before.items() if h not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handlers.get(number, stop))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_over(bounds: Bounds, places: _Places, *, whole: bool) -> int:
    """Give the files that were asked for their names, and no others; return the status.

    Where it has ended well, each must be there.
    """
    status = 0
    for file in bounds.files:
        target = _real(file)
        staging = places.staging.get(target.parent)
        if staging is None or (target.exists() and not target.is_file()):
            continue
        if not _is_plain(staging / target.name):
            if whole:
                status = fail(
                    f"{bounds.subject}: its process ended before it wrote {file}, which is "
                    "unchanged"
                )
            continue
        try:
            weights = _weights(staging, target, bounds.source)
            with writing_beside(target) as folder:
                for name in (*weights, Path(target.name)):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (staging / name).replace(folder / name)
        except (GeedError, OSError) as error:
            places.kept.append(staging)
            status = fail(f"{error}; what was written is kept in {staging}")
    return status


def _is_plain(path: Path) -> bool:
    """Say whether a regular file lies there itself, not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _weights(staging: Path, target: Path, source: Path | None) -> list[Path]:
    """Return the names of external data beside an output: true copies of what lies by the model.

    Raises
    ------
    GeedError
        If another file has the name of one.
    """
    if source is None:
        return []
    names = []
    for above, _, files in os.walk(staging):  # which follows no link
        for file in files:
            copy = Path(above, file)
            name = copy.relative_to(staging)
            own = source.parent / name
            if name == Path(target.name) or not _is_plain(copy) or not own.is_file():
                continue
            if not filecmp.cmp(copy, own, shallow=False):
                continue
            there = target.parent / name
            if not there.exists():
                names.append(name)
            elif not there.is_file() or not filecmp.cmp(copy, there, shallow=False):
                raise GeedError(
                    f"{there}: exists already and differs from {own}; name another folder"
                )
    return names
