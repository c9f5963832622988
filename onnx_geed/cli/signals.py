"""How a process ends on a signal: in one line on stderr, with status 128 + its number.

Loads nothing but the standard library, so that it can be installed before anything else is loaded.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

__all__ = [
    "ENDING",
    "SignalledError",
    "caught",
    "end_at_once",
    "finish",
    "install",
    "leave_at_the_end",
    "line_of",
    "open_streams",
]

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}


# Signals that a process ends on of itself, but those by which a fault of its own shows.
_NAMES = (
    *("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGPIPE"),
    *("SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGBREAK"),
)

ENDING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


# Modules while they are loaded: an exception there is swallowed, wrapped or half-loads a library.
_LOADING = "<frozen importlib._bootstrap>"


# Seconds until a signal that was swallowed is sent again.
_LATER = 0.02


# What registers a call for the end as the package is imported.
_WHOLE = "onnx_geed.whole"


# What tells which modules of the user's own were imported.
_OWN = "onnx_geed.own_code"


# What runs a module as the program, for ``python -m``.
_RUNNING = [("runpy", "_run_code"), ("runpy", "_run_module_as_main")]


# The signal that came first, whether signals are handled, the status of a finished command, and
# whether the process may leave with it.
_state: dict[str, int] = {}


class SignalledError(BaseException):
    """A signal came: what runs is wound up, as for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def line_of(number: int) -> str:
    """Return what is told of a signal."""
    name = signal.Signals(number).name
    return f"onnx-geed: {_WORDS.get(name, name)}"


def caught() -> int:
    """Return the number of the signal that came, 0 where none did."""
    return _state.get("caught", 0)


def install() -> Callable[[], None]:
    """Handle what would end this process, but for a fault of its own, from now on.

    A signal that is ignored from the start, as by ``nohup``, stays ignored, and one that has a
    handler of another's keeps it. Where they are handled
    already, or this is not the main thread, nothing is done.

    Returns
    -------
    callable
        Handles them as before.
    """
    if "handled" in _state or threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {n: signal.getsignal(n) for n in ENDING}
    before = {
        n: h
        for n, h in before.items()
        if h is signal.SIG_DFL or (n.name in _WORDS and h not in (signal.SIG_IGN, None))
    }
    _state["handled"] = 1
    # What is registered later is called before.
    if not _registered_by_others():
        atexit.register(_leave)
    for number in before:
        signal.signal(number, _stop)
    shown = sys.unraisablehook
    sys.unraisablehook = lambda lost: _once_more(lost) or shown(lost)

    def restore() -> None:
        sys.unraisablehook = shown
        for number, handler in before.items():
            signal.signal(number, handler)
        atexit.unregister(_leave)
        _state.clear()

    return restore


def finish(status: int) -> None:
    """Keep a finished command's status: no signal changes it while the process ends.

    Python ends threads and calls what was registered yet, and gives signals their default back
    before it is done.
    """
    if "handled" in _state:
        _state["finished"] = status
        atexit.register(_ignore)


def leave_at_the_end(caller: FrameType | None) -> None:
    """Let a finished command be the end of the process, where nothing else is to come.

    Parameters
    ----------
    caller : FrameType, optional
        What called the program: the console script, or ``python -m``. Of anything else, such as a
        debugger or a script that runs the command in between, Python ends the process.
    """
    within = []
    while caller is not None:
        within.append((caller.f_globals.get("__name__"), caller.f_code.co_name))
        caller = caller.f_back
    if within[1:] in ([], _RUNNING) and not sys.flags.inspect:
        _state["last"] = 1


def _ignore() -> None:
    shown = sys.unraisablehook

    # Of a signal that comes while it begins to be ignored, Python tells that it was.
    def told(lost: sys.UnraisableHookArgs) -> None:
        if not (isinstance(lost.exc_value, OSError) and "race condition" in str(lost.exc_value)):
            shown(lost)

    sys.unraisablehook = told
    for number in ENDING:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def _leave() -> None:
    """End a finished process here, when all that was registered has been called.

    Python would take half a million objects apart, one by one, for the system to take all memory
    back after that.
    """
    if not {"finished", "last"} <= _state.keys() or _is_watched():
        return
    if getattr(sys.modules.get(_OWN), "USED", ()):
        return  # they may have left files for Python to close
    if steps := sys.modules.get(_WHOLE):
        steps.let_come_back()  # which is called after this one
    try:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    except (AttributeError, OSError, ValueError):
        return  # Python finds the same, and says so
    os._exit(_state["finished"])


def _registered_by_others() -> bool:
    """Whether calls are registered for the end but the package's own one, or may be."""
    count = getattr(atexit, "_ncallbacks", None)
    return count is None or count() > (_WHOLE in sys.modules)


def _is_watched() -> bool:
    """Whether a tracer or profiler is at work, which may keep what it saw as the very last.

    One in C is a library that is loaded before all others.
    """
    if os.environ.get("LD_PRELOAD"):
        return True
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = [] if monitoring is None else [monitoring.get_tool(i) for i in range(6)]
    return any(tools) or sys.gettrace() is not None or sys.getprofile() is not None


def _stop(number: int, frame: FrameType | None) -> None:
    if "finished" in _state:
        os._exit(_state["finished"])
    again = caught()
    _state.setdefault("caught", number)
    if again or _is_loading(frame):
        _end(number)
    raise SignalledError(number)


def _once_more(lost: Any) -> bool:
    """Send a signal again whose exception was swallowed, as in a callback of the compiler."""
    if not isinstance(lost.exc_value, SignalledError):
        return False
    _state.pop("caught", None)
    later = threading.Timer(_LATER, _send, [lost.exc_value.number])
    later.daemon = True
    later.start()
    return True


def _send(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # which ends its waiting too
    else:
        _thread.interrupt_main(signal.Signals(number))


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _LOADING:
            return True
        frame = frame.f_back
    return False


def _end(number: int) -> NoReturn:
    """End at once: a second signal does not wait for what runs."""
    end_at_once(line_of(number), 128 + number)


def end_at_once(line: str, status: int) -> NoReturn:
    """End this process with a line, whatever its threads are at; leave no file unfinished."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
    # Only where it is loaded already, to its end, is anything unfinished.
    if remove := getattr(sys.modules.get("onnx_geed.files"), "remove_unfinished", None):
        remove()
    os._exit(status)


def open_streams() -> None:
    """Put the null device where a standard stream is closed, and a mark for letters it has not.

    Else the next file that is opened takes its place, and gets whatever a library prints; and a
    help text ends in an error where the terminal has few letters.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
