"""How much more stable's own pods scatter than chance explains: the damping of the sequential test.

Pearson's chi-square of the pods' events against their exposure in blocks of 10 s and 60 s and over the whole rollout.
Only from stable, never from the candidate, which would excuse itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

HORIZONS: Final = (10.0, 60.0)  # seconds
MOST: Final = 1000.0
PODS_FOR_WHOLE: Final = 3
MOST_PER_FREEDOM: Final = 2000.0


class Exposed(Protocol):
    """Events out of a total."""

    @property
    def bad(self) -> float:
        """Events."""
        ...

    @property
    def total(self) -> float:
        """Of how many."""
        ...


Pair = tuple[float, float]
Tally = Mapping[str, Pair]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sums over the closed blocks of one length. x, d: chi-square and freedom; q, b: squares of x/d and their number.

    waiting: a closed block of a single pod; the next one plays its neighbour.
    """

    x: float = 0.0
    d: float = 0.0
    q: float = 0.0
    b: float = 0.0
    opened: float | None = None
    open: Tally = field(default_factory=dict)
    waiting: Pair | None = None

    def add(self, at_seconds: float, seconds: float, pods: Tally) -> Blocks:
        """With one more tick; the block is closed when it is `seconds` long."""
        opened = at_seconds if self.opened is None else self.opened
        tally = add_up(self.open, pods)
        if at_seconds - opened < seconds:
            return replace(self, opened=opened, open=tally)
        exposed = [pair for pair in tally.values() if pair[1] > 0]
        closed = replace(self, opened=at_seconds, open={})
        if len(exposed) != 1:
            return closed.score(exposed)
        if closed.waiting is None:
            return replace(closed, waiting=exposed[0])
        return replace(closed.score((closed.waiting, exposed[0])), waiting=None)

    def score(self, pairs: Iterable[Pair]) -> Blocks:
        """With the chi-square of these pairs added."""
        x, df = pearson(pairs)
        if df == 0:
            return self
        x = min(x, MOST_PER_FREEDOM * df)
        return replace(self, x=self.x + x, d=self.d + df, q=self.q + (x / df) ** 2, b=self.b + 1)


@dataclass(frozen=True, slots=True)
class Dispersion:
    """phi as it builds up over a rollout. floor: what an earlier operator had found."""

    floor: float = 1.0
    whole: Tally = field(default_factory=dict)
    blocks: tuple[Blocks, ...] = (Blocks(), Blocks())

    def add(self, at_seconds: float, pods: Mapping[str, Exposed]) -> Dispersion:
        """With the counts of one more tick, by pod."""
        tally = {pod: (c.bad, c.total) for pod, c in pods.items()}
        blocks = tuple(b.add(at_seconds, s, tally) for b, s in zip(self.blocks, HORIZONS, strict=True))
        return Dispersion(self.floor, add_up(self.whole, tally), blocks)

    def value(self) -> float:
        """Damping phi >= 1, at most 1000. Above 1 only when it is clear by two standard errors."""
        found = [self.floor]
        # root mean square over blocks: rare heavy bursts weigh more
        found.extend(max(b.x / b.d, math.sqrt(b.q / b.b)) for b in self.blocks if clear(b.x, b.d))
        if len(self.whole) >= PODS_FOR_WHOLE:
            x, df = pearson(self.whole.values())
            if clear(x, df):
                found.append(x / df)
        return min(max(found), MOST)


def clear(x: float, df: float) -> bool:
    """Whether chi-square `x` on `df` is above its mean by two standard errors."""
    return df >= 2 and x / df > 1 + 2 * math.sqrt(2 / df)


def pearson(pairs: Iterable[Pair]) -> Pair:
    """Chi-square of events against exposure and its degrees of freedom; (0, 0) without events or with one pod."""
    exposed = [pair for pair in pairs if pair[1] > 0]
    events, total = sum(k for k, _ in exposed), sum(n for _, n in exposed)
    if events <= 0 or len(exposed) < 2:
        return 0.0, 0.0
    expected = [(k, events * n / total) for k, n in exposed]
    return sum((k - e) ** 2 / e for k, e in expected if e > 0), float(len(exposed) - 1)


def add_up(sums: Tally, more: Tally) -> Tally:
    """Sums by pod."""
    out = dict(sums)
    for pod, (k, n) in more.items():
        old = out.get(pod, (0.0, 0.0))
        out[pod] = (old[0] + k, old[1] + n)
    return out
