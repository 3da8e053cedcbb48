"""The work queue."""

from __future__ import annotations

import asyncio

import pytest

from homeostat.runtime.queue import KeyedQueue

LOOP = asyncio.new_event_loop()


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def taken(queue: KeyedQueue[str]) -> str | None:
    async def try_once() -> str | None:
        try:
            return await asyncio.wait_for(queue.get(), 0.005)
        except TimeoutError:
            return None

    return LOOP.run_until_complete(try_once())


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def queue(clock: Hand) -> KeyedQueue[str]:
    return KeyedQueue(clock, jitter=0.0)


def test_a_key_that_is_added_twice_is_handed_out_once(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert taken(queue) == "a"
    assert taken(queue) is None


def test_a_key_that_is_added_while_held_comes_again_after_done(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    assert taken(queue) == "a"
    queue.add("a")
    assert taken(queue) is None
    queue.done("a")
    assert taken(queue) == "a"


def test_user_changes_go_before_the_start_up_list(queue: KeyedQueue[str]) -> None:
    queue.add("resync", low=True)
    queue.add("change")
    assert [taken(queue), taken(queue)] == ["change", "resync"]


def test_a_change_lifts_a_key_of_low_priority(queue: KeyedQueue[str]) -> None:
    queue.add("one", low=True)
    queue.add("two", low=True)
    queue.add("two")
    assert taken(queue) == "two"


def test_of_two_delays_the_shorter_one_counts(queue: KeyedQueue[str], clock: Hand) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    clock.at = 4.9
    assert taken(queue) is None
    clock.at = 5.0
    assert taken(queue) == "a"
    queue.done("a")
    clock.at = 30
    assert taken(queue) is None


def test_failures_wait_longer_each_time_and_a_success_resets_that(queue: KeyedQueue[str], clock: Hand) -> None:
    waits = []
    for _ in range(4):
        queue.add("a")
        assert taken(queue) == "a"
        waits.append(queue.failed("a"))
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits))
    clock.at = 100
    assert taken(queue) == "a"
    queue.done("a")
    queue.add("a")
    assert taken(queue) == "a"
    assert queue.failed("a") <= 1.25


def test_retry_after_is_obeyed(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    assert taken(queue) == "a"
    assert queue.failed("a", retry_after=7) >= 7


def test_the_age_of_the_oldest_key_is_known(queue: KeyedQueue[str], clock: Hand) -> None:
    assert queue.oldest_seconds() == 0
    queue.add("a")
    clock.at = 3
    queue.add("b", low=True)
    clock.at = 5
    assert queue.oldest_seconds() == 5
