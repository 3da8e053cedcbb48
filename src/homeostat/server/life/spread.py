"""Evens out a few long-lived connections over workers: decisions alone, no socket and no clock.

The kernel spreads connections by chance, so of 8 connections one worker may hold 7. It then closes some after an answer
(`Connection: close`), and new ones are steered to those with fewer, until each has its share of the requests.
"""

from collections.abc import Sequence
from typing import Final

from homeostat.server.counting.counters import READY, Slot

BEGIN: Final = 1.15  # times the fair share of requests at which a worker begins to shed
BUSY: Final = 20.0  # requests per second of all workers below which it does not matter who answers
_ROUND: Final = 0.25  # of a connection: measured rates waver
_FAVOUR: Final = 4  # how much likelier a worker with few connections gets a new one


def shed(rates: Sequence[float], connections: Sequence[int], own: int) -> int:
    """How many connections worker `own` should close now.

    rates: requests per second of each serving worker; connections: open ones of each. 0 when all is even, when there is
    little to do, or when moving one connection would only turn the imbalance round (two workers, one connection).
    """
    total, mine, held = sum(rates), rates[own], connections[own]
    fair = total / len(rates)
    if len(rates) < 2 or total < BUSY or held < 2 or mine < BEGIN * fair:
        return 0
    return min(int((mine - fair) * held / mine + _ROUND), held - 1)


def targets(connections: dict[int, int]) -> list[int]:
    """Workers that new connections go to, each as often as it is likely; connections: open ones by worker."""
    if not connections:
        return []
    mean = sum(connections.values()) / len(connections)
    chosen = []
    for number, held in sorted(connections.items()):
        chosen += [number] * (_FAVOUR if held <= mean - 0.5 else 1)
    return chosen


class Spread:
    """One worker's view of all: what the workers answered since the last look, read from their counters."""

    def __init__(self, slots: Sequence[Slot], number: int) -> None:
        self._slots, self._number = slots, number
        self._last: dict[int, int] = {}
        self._at = 0.0
        self._waits = False

    def look(self, now: float) -> int:
        """How many connections this worker should close now; call it about every second. now: seconds of any clock.

        After it said some, the next look only measures: what moved has to show first.
        """
        serving = [n for n, slot in enumerate(self._slots) if slot.get("state") == READY]
        answered = {n: self._slots[n].get("answered") for n in serving}
        since, before, self._at, last = now - self._at, self._at, now, self._last
        self._last = answered
        if not before or self._number not in answered or any(n not in last for n in serving) or since <= 0:
            return 0
        if self._waits:
            self._waits = False
            return 0
        rates = [max(0, answered[n] - last[n]) / since for n in serving]
        count = shed(rates, [self._slots[n].get("connections") for n in serving], serving.index(self._number))
        self._waits = count > 0
        return count
