"""Work in the background: order, bounds, and what happens when it fails."""

import threading
import time
from functools import partial

import pytest

from pipeline.base.background import Behind, ahead


def test_ahead_keeps_the_order_whatever_finishes_first():
    def job(number: int) -> int:
        time.sleep(0.01 * (5 - number))
        return number

    assert list(ahead((partial(job, number) for number in range(5)), depth=3, workers=3)) == [0, 1, 2, 3, 4]


def test_ahead_starts_no_job_before_the_one_depth_places_earlier_is_used_up():
    """The reader of examples.py relies on it: a room is filled again only when its window was given back."""
    started = []
    results = ahead(partial(started.append, number) for number in range(5))
    for used in range(5):
        next(results)
        time.sleep(0.02)
        assert len(started) <= used + 2
    assert list(results) == []


def test_ahead_raises_in_turn_and_stops():
    def job(number: int) -> int:
        if number == 2:
            raise OSError("no room")
        return number

    results = ahead((partial(job, number) for number in range(9)), depth=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="no room"):
        next(results)


def test_ahead_that_is_left_early_ends_its_thread():
    before = threading.active_count()
    results = ahead(partial(int, number) for number in range(100))
    next(results)
    results.close()
    assert threading.active_count() == before


def test_behind_does_every_job_in_order_before_the_block_ends():
    done = []
    with Behind.running(2) as behind:
        for number in range(20):
            behind.put(partial(done.append, number))
    assert done == list(range(20))


def test_behind_holds_no_more_than_its_depth():
    running = threading.Event()
    with Behind.running(2) as behind:
        behind.put(running.wait)
        behind.put(int)
        third = threading.Thread(target=behind.put, args=(int,))
        third.start()
        third.join(0.1)
        assert third.is_alive()
        running.set()
        third.join(5)
        assert not third.is_alive()


def test_a_failure_behind_stops_whoever_hands_over_or_asks_and_drops_what_waits():
    done, may_fail = [], threading.Event()

    def fails() -> None:
        may_fail.wait()
        raise OSError("disk full")

    def hand_over() -> None:
        with Behind.running(2) as behind:
            behind.put(fails)
            behind.put(partial(done.append, 1))
            behind.check()
            may_fail.set()
            while True:
                behind.check()

    with pytest.raises(OSError, match="disk full"):
        hand_over()
    assert done == []


def test_a_failure_of_the_last_job_is_raised_at_the_end():
    def fails() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Behind.running(2) as behind:
        behind.put(fails)


def test_a_failure_of_the_maker_drops_what_waits():
    done, running = [], threading.Event()

    def make() -> None:
        with Behind.running(3) as behind:
            behind.put(running.wait)
            behind.put(partial(done.append, 1))
            threading.Timer(0.05, running.set).start()
            raise KeyError("teacher")

    with pytest.raises(KeyError):
        make()
    assert done == []
