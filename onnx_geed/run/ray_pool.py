"""A pool of workers on a Ray cluster: who runs which job next, and what is done when one dies.

One thread of the driver decides all of that, told of everything by a queue of events: so nothing is
locked.
"""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.jit import LOGGER
from onnx_geed.run.executor import NoWorkersError
from onnx_geed.run.provenance import software_versions
from onnx_geed.run.ray_cluster import Cluster
from onnx_geed.run.ray_stream import Flight, Stream, whose_turn
from onnx_geed.run.ray_worker import Outcome, RemoteWorker

__all__ = ["AGAIN", "Pool"]

#: A job whose worker died is run again so often.
AGAIN = 3

# Seconds from one look at the cluster to the next.
_LOOK = 1.0


# Events that are taken before workers are sent what is next.
_TOGETHER = 64


# Seconds that there may be no worker at all: a node may be coming, or start slowly.
_PATIENCE = 120.0


# Workers that fail to start before a run is given up, where none does.
_STARTS = 3


# Workers in a row that may die while they start or open a model: a job is not to blame for that.
_OPENINGS = 9


# Seconds until starting is tried again where others run.
_REST = 5.0


# Variables of the environment that say how kernels are compiled, and where they are kept.
_COMPILING = "NUMBA_"


# Packages whose versions decide figures.
_DECIDING = ("onnx-geed", "numpy", "numba", "onnxruntime", "onnxruntime-gpu")


@dataclass(eq=False)
class _Hand:
    """A worker: its actor, its node once it is ready, and the jobs that were sent to it."""

    actor: Any
    node: str = ""
    place: int = 0
    flying: deque[Flight] = field(default_factory=deque)
    stream: Stream | None = None
    #: What it was sent of what jobs share; references to that are costly to send with each.
    known: set[str] = field(default_factory=set)


class Pool:
    """Workers of a cluster, as many as it has processors.

    Parameters
    ----------
    cluster : Cluster
        The cluster, connected.
    share : float
        Share of a GPU that a worker takes.
    """

    def __init__(self, cluster: Cluster, share: float = 0.0) -> None:
        self._cluster, self._ray, self._share = cluster, cluster.ray, share
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._hands: dict[_Hand, None] = {}
        #: Hands with nothing to do, and those with one job.
        self._idle: dict[_Hand, None] = {}
        self._busy: dict[_Hand, None] = {}
        self._starting: dict[_Hand, None] = {}
        self._streams: list[Stream] = []
        self._nodes: set[str] = set()
        self._most = 0
        self._failed, self._rest = 0, 0.0
        self._looked, self._without = 0.0, time.monotonic()
        self._last_error = ""
        self._lost: Exception | None = None
        self._actor = self._ray.remote(RemoteWorker).options(
            num_cpus=1, num_gpus=share, max_restarts=0, max_task_retries=0, enable_task_events=False
        )
        self._thread = threading.Thread(target=self._work, name="onnx-geed-ray", daemon=True)
        self._thread.start()

    @property
    def nodes(self) -> int:
        """Nodes that had workers."""
        return len(self._nodes)

    @property
    def workers(self) -> int:
        """Most workers that there were at a time."""
        return self._most

    def run(self, stream: Stream) -> Iterator[Outcome]:
        """Yield the outcomes of a stream's jobs in order.

        Raises
        ------
        GeedError
            If a job's workers died again and again, or there is no worker.
        """
        self._events.put((self._open, stream))
        try:
            while (outcome := stream.ready.get()) is not None:
                if isinstance(outcome, Exception):
                    raise outcome
                self._events.put((self._take, stream))
                yield outcome
        finally:
            self._events.put((self._close, stream))

    def close(self) -> None:
        """End all workers, and what runs."""
        self._events.put((None,))
        self._thread.join(_REST)  # it may wait for a cluster that is gone
        while not self._events.empty():  # those who came too late
            handle, *arguments = self._events.get()
            if handle == self._open:
                handle(*arguments)

    # All that follows runs on the pool's own thread.

    def _work(self) -> None:
        try:
            self._look()
            while True:
                event = self._next_event(_LOOK)
                # What has come meanwhile is taken together, and answered once.
                for _ in range(_TOGETHER):
                    if event == (None,):
                        return
                    handle, *arguments = event or (self._look,)
                    handle(*arguments)
                    if (event := self._next_event()) is None:
                        break
                if time.monotonic() - self._looked > _LOOK:
                    self._look()
                self._send()
        except Exception as error:  # a fault here must not leave those who wait waiting
            self._give_up(error)
        finally:
            self._give_up(self._lost or NoWorkersError("--executor ray: was closed while it ran"))
            for hand in [*self._hands, *self._starting]:
                self._kill(hand)

    def _next_event(self, seconds: float = 0.0) -> tuple[Any, ...] | None:
        try:
            return self._events.get(block=seconds > 0, timeout=seconds or None)
        except queue.Empty:
            return None

    def _open(self, stream: Stream) -> None:
        if self._lost is not None:
            stream.ready.put(self._lost)
            return
        # Whoever comes later is not owed what others had before.
        stream.spent = min((other.spent for other in self._streams), default=0.0)
        self._streams.append(stream)

    def _take(self, stream: Stream) -> None:
        stream.taken += 1

    def _close(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)

    def _give_up(self, error: Exception) -> None:
        """End all streams with an error, those to come too."""
        self._lost = error
        for stream in self._streams:
            stream.ready.put(error)
        self._streams.clear()

    # Workers: as many as there are processors.

    def _look(self) -> None:
        """Start what workers there is room for, and end those that wait for room in vain."""
        self._looked = now = time.monotonic()
        if not self._cluster.is_here():
            raise NoWorkersError(
                "--executor ray: Ray's process of this machine (raylet) has ended, perhaps "
                "because memory ran out; start the cluster again, and run the command again"
            )
        nodes = {n["NodeID"]: n["Resources"] for n in self._ray.nodes() if n["Alive"]}
        for hand in [hand for hand in self._hands if hand.node not in nodes]:
            self._bury(hand, None)
        room = self._room(nodes.values())
        while len(self._starting) > max(0, room - len(self._hands)):
            hand, _ = self._starting.popitem()
            self._kill(hand)
        if now >= self._rest:
            for _ in range(room - len(self._hands) - len(self._starting)):
                self._start()
        if self._hands or not self._streams:
            self._without = now
        elif now - self._without > _PATIENCE:
            last = f"; last: {self._last_error}" if self._last_error else ""
            self._give_up(
                NoWorkersError(
                    f"--executor ray: no worker of the cluster at {self._cluster.where} started in "
                    f"{_PATIENCE:.0f} seconds: it has room for {room}, which others may have taken"
                    f"{last}; see ray status"
                )
            )

    def _room(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """Return the workers that nodes have room for, when nothing else runs there."""
        room = 0
        for resources in nodes:
            own = int(resources.get("CPU", 0))
            room += min(own, int(resources.get("GPU", 0) / self._share)) if self._share else own
        # One is asked for where there is no room: clusters may grow when they are asked.
        return max(1, room)

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k.startswith(_COMPILING)}
        actor = self._actor.remote(os.getcwd(), [p for p in sys.path if p], environment)
        hand = _Hand(actor)
        self._starting[hand] = None
        self._when_done(actor.greet.remote(), self._greeted, hand)

    def _greeted(self, hand: _Hand, future: Future[tuple[str, dict[str, str]]]) -> None:
        if self._starting.pop(hand, hand) is hand:
            return  # was ended meanwhile
        try:
            node, versions = future.result()
        except Exception as error:  # whatever Ray makes of a process that does not start
            self._failed += 1
            self._rest, self._last_error = time.monotonic() + _REST, _line(error)
            # What is killed while it starts may start the next time.
            most = _STARTS if "creation task" in str(error) else _OPENINGS
            if not self._hands and self._failed >= most:
                self._give_up(
                    NoWorkersError(f"--executor ray: no worker starts: {self._last_error}")
                )
            elif self._hands and self._failed == _STARTS:
                LOGGER.warning("some workers do not start: %s", self._last_error)
            return
        self._failed = 0
        if differ := _differing(versions):
            self._kill(hand)
            self._give_up(NoWorkersError(f"--executor ray: a node {differ}"))
            return
        taken = {other.place for other in self._hands if other.node == node}
        hand.node = node
        hand.place = next(place for place in itertools.count() if place not in taken)
        self._hands[hand] = self._idle[hand] = None
        self._nodes.add(node)
        self._most = max(self._most, len(self._hands))

    def _kill(self, hand: _Hand) -> None:
        for hands in (self._hands, self._idle, self._busy, self._starting):
            hands.pop(hand, None)
        self._ray.kill(hand.actor, no_restart=True)

    def _when_done(self, ref: Any, handle: Callable[..., None], *arguments: Any) -> None:
        """Have something done, on this thread, when a reference has its value."""
        future = ref.future()
        future.add_done_callback(lambda value: self._events.put((handle, *arguments, value)))

    # Jobs: the oldest of the stream that has the fewest workers.

    def _send(self) -> None:
        """Send jobs: first to those who have none, then the next one of those that are short."""
        for hands in (self._idle, self._busy):
            for hand in list(hands):
                streams = self._with_jobs(hands is self._busy)
                if not streams:
                    break
                self._send_to(hand, streams)

    def _with_jobs(self, second: bool) -> list[Stream]:
        hands = len(self._hands)
        streams = [s for s in self._streams if s.is_short or not second]
        return [stream for stream in streams if stream.has_job(hands, second=second)]

    def _send_to(self, hand: _Hand, streams: list[Stream]) -> None:
        """Send a worker the next job of the stream whose turn it is."""
        streams = [stream for stream in streams if hand.place < stream.most]
        if not streams:
            return
        stream = whose_turn(streams, hand.stream)
        try:
            fresh = stream.shared[-1][0] not in hand.known
            flight = stream.next(len(self._hands), fresh=fresh, second=bool(hand.flying))
        except Exception as error:  # whatever a job, or whoever makes it, raises when it is packed
            self._close(stream)
            stream.ready.put(error)
            return
        flight.tries += 1
        stream.flying += 1
        hand.stream = stream
        hand.flying.append(flight)
        shared = [(name, None if name in hand.known else at) for name, at in stream.shared]
        hand.known.update(name for name, _ in shared)
        flight.begun = not fresh
        self._sort_in(hand)
        if not fresh:
            self._start_job(hand, flight, shared)
        else:  # what a job is to blame for begins when all that it needs is open
            ready = hand.actor.ready.remote(shared, flight.content)
            self._when_done(ready, self._begun, hand, flight, flight.tries, shared)

    def _start_job(self, hand: _Hand, flight: Flight, shared: list[tuple[str, Any]]) -> None:
        # What is sent as bytes costs the least, of which there is room for no references.
        known = all(at is None for _, at in shared)
        if known:
            content = pickle.dumps(([name for name, _ in shared], flight.content))
            ref = hand.actor.run_known.remote(content)
        else:
            ref = hand.actor.run.remote(shared, flight.content)
        self._when_done(ref, self._landed, hand, flight, flight.tries)

    def _begun(
        self,
        hand: _Hand,
        flight: Flight,
        tries: int,
        shared: list[tuple[str, Any]],
        future: Future[None],
    ) -> None:
        """Start a job for which a worker has opened what it needs."""
        if flight.tries != tries or flight not in hand.flying:
            return
        error = future.exception()
        if isinstance(error, self._ray.exceptions.RayActorError):
            self._bury(hand, error)
            self._look()
            return
        if error is None:
            flight.begun, flight.stream.openings = True, 0
        self._start_job(hand, flight, shared)
        self._sort_in(hand)

    def _sort_in(self, hand: _Hand) -> None:
        """Enter a worker where those with as many jobs are, if what it has may have company."""
        self._idle.pop(hand, None)
        self._busy.pop(hand, None)
        company = all(flight.begun and flight.tries == 1 for flight in hand.flying)
        if hand in self._hands and company and len(hand.flying) < 2:
            (self._busy if hand.flying else self._idle)[hand] = None

    def _landed(self, hand: _Hand, flight: Flight, tries: int, future: Future[Outcome]) -> None:
        """Take what a job gave, or see to it that it is run again."""
        if flight.tries != tries or flight not in hand.flying:
            return
        try:
            outcome = future.result()
        except self._ray.exceptions.RayActorError as error:
            self._bury(hand, error)
            self._look()
            return
        except Exception as error:  # what was computed is lost with a node, or could not be fetched
            self._land(hand, flight)
            self._run_again(flight, error)
            return
        self._land(hand, flight)
        if outcome.missing:
            hand.known.clear()
            self._run_again(flight, None)
            return
        flight.stream.put(flight.number, outcome)

    def _land(self, hand: _Hand, flight: Flight) -> None:
        hand.flying.remove(flight)
        flight.stream.flying -= 1
        self._sort_in(hand)

    def _bury(self, hand: _Hand, error: Exception | None) -> None:
        """Let go of a worker that has died: each of its jobs may be the one that it ran.

        What the oldest gave may have been lost with it. Where its node is gone, none has to do with
        it.
        """
        flights = list(hand.flying)
        for flight in flights:
            self._land(hand, flight)
        self._kill(hand)
        for i, flight in enumerate(flights):
            if i or flight.begun or error is None:
                self._run_again(flight, error if flight.begun else None)
                continue
            # It had not begun: what it needs may be what cannot be opened, or it is mere chance.
            flight.stream.openings += 1
            if flight.stream.openings > _OPENINGS:
                what = f"{_OPENINGS + 1} workers died while they opened the model or the data"
                flight.stream.put(
                    flight.number,
                    GeedError(f"--executor ray: {what}; the last: {_line(error)}"),
                )
            else:
                self._run_again(flight, None)

    def _run_again(self, flight: Flight, error: Exception | None) -> None:
        """Have a job run elsewhere; one that was run when its worker died, not without end."""
        stream = flight.stream
        flight.deaths += error is not None
        if flight.deaths > AGAIN:
            what = f"{flight.name} was given to {flight.deaths} workers, and all of them died"
            text = _line(error) if error else ""
            stream.put(flight.number, GeedError(f"--executor ray: {what}; the last: {text}"))
            return
        stream.again.append(flight)


def _differing(versions: dict[str, str]) -> str:
    """Say which package that decides figures is another one at a node, and what to do."""
    own = software_versions()
    for name in _DECIDING:
        here, there = own.get(name, "none"), versions.get(name, "none")
        if here != there:
            return (
                f"has {name} {there}, and this process {here}: figures may differ; install the "
                "same versions on all nodes"
            )
    return ""


def _line(error: Exception) -> str:
    """Return in one line why a worker died, of the many that Ray has for it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "because" in line or "died" in line]
    text = (telling or lines or [type(error).__name__])[-1].partition(" Some common causes")[0]
    return text if len(text) <= 300 else f"{text[:297]}..."
