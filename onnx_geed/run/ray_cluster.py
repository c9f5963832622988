"""The connection to a Ray cluster: the one that runs, one at an address, or a new one here."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onnx_geed.errors import GeedError, shown
from onnx_geed.extras import package
from onnx_geed.run.executor import cores

__all__ = ["Cluster", "connect"]

# Seconds that somebody at an address has to answer.
_ANSWERED_IN = 5.0


# What HTTP/2, which Ray speaks, begins with; the other side begins with settings too.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


_SETTINGS = 4


# The file that every process writes its errors to.
_STDERR = 2


# The variable of the environment that says what Ray's compiled half writes.
_LEVEL = "RAY_BACKEND_LOG_LEVEL"


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Parameters
    ----------
    ray : module
        Ray.
    own : bool
        Whether it was connected here, and is to be left at the end. What was started is stopped.
    where : str
        Where it is, for messages.
    """

    ray: Any
    own: bool
    where: str

    def is_here(self) -> bool:
        """Whether Ray's process of this machine runs; without it Ray soon ends this one."""
        with contextlib.suppress(AttributeError):  # another version's names, or no such sockets
            name = self.ray._private.worker.global_worker.node.raylet_socket_name
            with socket.socket(socket.AF_UNIX) as line:
                try:
                    line.connect(name)
                except (ConnectionRefusedError, FileNotFoundError):
                    return False
                except OSError:
                    return True
        return True

    def leave(self) -> None:
        """Leave the cluster, which ends one that was started here."""
        if self.own:
            with _quiet(self.ray):
                self.ray.shutdown()


def connect(address: str | None) -> Cluster:
    """Connect to a cluster.

    Parameters
    ----------
    address : str, optional
        ``auto``, ``local`` or ``HOST:PORT``; ``auto`` by default.

    Returns
    -------
    Cluster

    Raises
    ------
    GeedError
        If Ray is not installed.
        If the address is none of these, or nothing that speaks Ray's language answers there.
        If this process is connected to another cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    if address not in (None, "auto", "local"):
        _check_address(str(address))
    ray = package("ray", "ray", "--executor ray")
    if ray.is_initialized():
        at = str(ray.get_runtime_context().gcs_address)
        if address not in (None, "auto") and _port(at) != _port(str(address)):
            raise GeedError(
                f"--address {address}: this process is connected to the cluster at {at} already; "
                "leave the address out, or call ray.shutdown() before"
            )
        return Cluster(ray, False, at)
    if address in (None, "auto"):
        address = _running()
    elif address != "local":
        _check_answers(str(address))
    options: dict[str, Any] = {"address": address or "local"}
    if options["address"] == "local":
        options |= {"num_cpus": cores(), "include_dashboard": False}
    try:
        with _handlers_kept(), _quiet(ray), _native_quiet(options["address"] != "local"):
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # whatever Ray raises where it cannot be had
        raise GeedError(
            f"--executor ray: no cluster at {options['address']}: {' '.join(str(error).split())}"
        ) from None
    _silence(ray)
    return Cluster(ray, True, str(options["address"]))


def _check_address(address: str) -> None:
    """Refuse what is no address."""
    if not re.fullmatch(r"[^:/\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address):
        hint = ", from one of its nodes" if address.startswith("ray://") else ""
        raise GeedError(
            f"--address {shown(address)}: must be auto, local or the HOST:PORT that ray start "
            f"printed{hint}"
        )


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _running() -> str | None:
    """Return the address of the cluster that ``ray start`` began here, if it still answers."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named and named != "local":
        _check_address(named)
        _check_answers(named)
        return named
    from ray._private import utils

    with contextlib.suppress(AttributeError, OSError, GeedError):
        if found := utils.read_ray_address():
            _check_answers(found)
            return str(found)
    return None


def _check_answers(address: str) -> None:
    """Refuse an address where nobody answers, for which Ray itself waits minutes."""
    host, _, port = address.rpartition(":")
    start = "start it with ray start --head, or give --address local for one on this machine"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWERED_IN) as line:
            line.settimeout(_ANSWERED_IN)
            if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
                return
            line.sendall(_GREETING)
            answer = line.recv(9)
    except (OSError, OverflowError) as error:
        reason = str(error) if not isinstance(error, OSError) else error.strerror or str(error)
        raise GeedError(
            f"--address {address}: no Ray cluster answers there ({reason}); {start}"
        ) from None
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise GeedError(f"--address {address}: what answers there is not a Ray cluster; {start}")


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep this process's own ways to end on a signal, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {n: signal.getsignal(getattr(signal, n)) for n in numbers}
    try:
        yield
    finally:
        for name, handler in before.items():
            if handler is not None:
                signal.signal(getattr(signal, name), handler)


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Keep what Ray warns of to itself: whatever matters is told in a line of our own."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _native_quiet(joined: bool) -> Iterator[None]:
    """Keep what Ray's compiled half writes to the file of stderr to itself, as ``_quiet`` does.

    Of a cluster that is joined also what it would write later, such as that objects were lost with
    a node. Ray reads that once, and has a message for it too.
    """
    named = joined and _LEVEL not in os.environ
    if named:
        os.environ[_LEVEL] = "fatal"
    try:
        kept = os.dup(_STDERR)
    except OSError:  # a process without stderr
        kept = None
    try:
        if kept is not None:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), _STDERR)
        yield
    finally:
        if kept is not None:
            os.dup2(kept, _STDERR)
            os.close(kept)
        if named:
            del os.environ[_LEVEL]


def _silence(ray: Any) -> None:
    """Keep the cluster's messages off stdout, where results go; Ray has no option for these."""
    with contextlib.suppress(AttributeError):
        ray._private.worker.print_to_stdstream = _print_nothing


def _print_nothing(*arguments: Any, **options: Any) -> None:
    """Print nothing of what a cluster tells: a worker that died is told of where it matters."""
