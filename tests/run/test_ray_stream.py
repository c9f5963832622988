"""Streams of jobs share workers: in order, never far ahead, and none waits for another's end."""

import heapq
import itertools

import pytest

from onnx_geed.run.provenance import software_versions
from onnx_geed.run.ray_pool import _differing
from onnx_geed.run.ray_stream import Stream, whose_turn
from onnx_geed.run.ray_worker import Outcome


def stream(count):
    return Stream((), iter(range(count)), lambda job: b"%d" % job)


def given(own):
    taken = []
    while not own.ready.empty():
        taken.append(own.ready.get())
    return taken


def test_outcomes_are_handed_over_in_order_and_once():
    own = stream(4)
    flights = [own.next(2) for _ in range(4)]
    assert [flight.content for flight in flights] == [b"0", b"1", b"2", b"3"]
    assert not own.has_job(2)
    for number in (2, 0):
        own.put(number, Outcome(number))
    assert given(own) == [Outcome(0)]
    own.put(1, Outcome(1))
    assert given(own) == [Outcome(1), Outcome(2)]
    own.put(3, Outcome(3))
    assert given(own) == [Outcome(3), None]


def test_a_stream_without_jobs_ends_at_once():
    own = stream(0)
    assert not own.has_job(2)
    assert given(own) == [None]


def test_no_more_is_sent_ahead_than_a_few_jobs_a_worker():
    own = stream(1000)
    while own.has_job(2):
        own.next(2)
    assert own.sent == 8
    own.put(0, Outcome(0))
    assert not own.has_job(2)
    own.taken += 1
    assert own.has_job(2)


def test_a_job_that_lost_its_worker_goes_to_one_that_has_shown_that_it_stays():
    own = stream(10)
    lost, other = own.next(2), own.next(2)
    own.again += [other, lost]
    lost.deaths = 1
    assert own.next(2, fresh=True).number == 2
    assert own.next(2) is lost
    own.again += [lost]
    while own.sent < 8:
        own.next(2, fresh=True)
    # Where there is nothing else, it gets the one that lost the fewest.
    assert own.next(2, fresh=True) is other


def test_a_job_that_lost_its_worker_gets_one_for_itself():
    own = stream(3)
    lost = own.next(2)
    own.again.append(lost)
    assert [own.next(2, second=True).number for _ in range(2)] == [1, 2]
    assert not own.has_job(2, second=True)
    assert own.has_job(2)
    assert own.next(2) is lost


def test_after_an_error_no_more_is_sent_and_what_was_before_it_comes_first():
    own, error = stream(10), ValueError("no")
    flights = [own.next(2) for _ in range(3)]
    own.put(1, Outcome(error=error))
    assert not own.has_job(2)
    own.again += [flights[0]]
    assert own.next(2) is flights[0]
    own.put(0, Outcome(0))
    first, second = given(own)
    assert (first.value, second.error) == (0, error)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_large_stream_does_not_hold_up_small_ones(workers):
    """Jobs of a second: a small one of ten is done after about four times its own share."""
    large, smalls = stream(5000), [stream(10) for _ in range(3)]
    streams, now, ended = [large], 0.0, {}
    busy, numbers, own = [], itertools.count(), {}
    free = list(range(workers))
    for step in range(2000):
        if step == 50:
            for small in smalls:
                small.spent = large.spent
            streams += smalls
            begun = now
        for worker in list(free):
            waiting = [s for s in streams if s.has_job(10 * workers)]
            if waiting:
                chosen = whose_turn(waiting, own.get(worker))
                flight = chosen.next(10 * workers)
                chosen.flying += 1
                own[worker] = chosen
                free.remove(worker)
                heapq.heappush(busy, (now + 1, next(numbers), worker, flight))
        now, _, worker, flight = heapq.heappop(busy)
        free.append(worker)
        flight.stream.flying -= 1
        flight.stream.put(flight.number, Outcome(0, seconds=1.0))
        flight.stream.taken = flight.stream.given
        if flight.stream.given == 10 and flight.stream in smalls:
            ended[smalls.index(flight.stream)] = now - begun
    assert len(ended) == 3
    assert max(ended.values()) <= 4 * 10 / workers + 4 * 5 + 2
    assert large.given > 1000


def test_other_versions_are_named_and_others_do_not_matter():
    own = software_versions()
    assert _differing(own | {"python": "3.99", "h5py": "0"}) == ""
    assert "has numpy 1.0, and this process" in _differing(own | {"numpy": "1.0"})
    (runtime,) = [name for name in ("onnxruntime", "onnxruntime-gpu") if name in own][:1]
    assert f"has {runtime} none, and" in _differing({k: v for k, v in own.items() if k != runtime})
