"""The queue as a state machine: nothing is lost, nobody shares a key."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from homeostat.runtime.queue import KeyedQueue

KEYS = st.sampled_from("abcd")


class Queueing(RuleBasedStateMachine):
    """wanted: keys that were added and not handed out since."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.loop = asyncio.new_event_loop()
        self.queue: KeyedQueue[str] = KeyedQueue(lambda: self.now, jitter=0.0)
        self.wanted: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.held: set[str] = set()

    def teardown(self) -> None:
        self.loop.close()

    @rule(key=KEYS, low=st.booleans())
    def add(self, key: str, low: bool) -> None:
        self.queue.add(key, low=low)
        self.wanted.add(key)

    @rule(key=KEYS, seconds=st.floats(0.1, 9))
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self.delayed[key] = min(self.delayed.get(key, 1e9), self.now + seconds)

    @rule(seconds=st.floats(0.1, 9))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        ready = {k for k, at in self.delayed.items() if at <= self.now} | self.wanted
        if not ready - self.held:
            return
        came_due = {k for k in self.held if self.delayed.get(k, 1e9) <= self.now}
        self.wanted |= came_due  # what comes due while it is held waits for its holder, like an add
        for key in came_due:
            del self.delayed[key]
        key = self.loop.run_until_complete(asyncio.wait_for(self.queue.get(), 1))
        assert key not in self.held
        assert key in self.wanted or self.delayed.get(key, 1e9) <= self.now
        self.held.add(key)
        self.wanted.discard(key)
        self.delayed.pop(key, None)

    @rule(well=st.booleans())
    def finish(self, well: bool) -> None:
        if self.held:
            key = self.held.pop()
            if well:
                self.queue.done(key)
            else:
                wait = self.queue.failed(key)
                if key in self.wanted:  # its change is worked on with the retry
                    self.wanted.discard(key)
                self.delayed[key] = min(self.delayed.get(key, 1e9), self.now + wait)

    @invariant()
    def what_waits_is_what_was_added(self) -> None:
        assert len(self.queue) <= 4


Queueing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_nothing_is_lost_and_nobody_shares_a_key = Queueing.TestCase
