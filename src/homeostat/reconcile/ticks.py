"""Live evidence of each rollout, in memory: what pods counted since their last scrape, and the analysis that it feeds.

Counters are monotone since a pod's `start`. A pod that was born since we watch counts from zero, every other one from its
first reading; a restart of the pod or of the operator loses evidence and invents none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from homeostat.api.meta import Key, parse_instant
from homeostat.api.wire.stats import Feedback, Outcomes, PodStats
from homeostat.domain.verdict import Analysis, Sides, Tick, observe
from homeostat.stats.evidence import Counts

FRESH_SECONDS: Final = 5.0
BUSY_SECONDS: Final = 30.0
BUSY_SHARE: Final = 0.01
CHECKPOINT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A pod's newest numbers. at: monotonic time of the scrape. new: it runs the candidate; ready: it is Ready."""

    uid: str
    new: bool
    ready: bool
    at: float = 0.0
    stats: PodStats | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared; another one begins anew. old, new: child names such as `v7`."""

    candidate: str
    started: datetime
    old: str
    new: str


@dataclass(slots=True)
class _Watched:
    subject: Subject
    began: datetime
    analysis: Analysis
    last: dict[str, PodStats] = field(default_factory=dict)
    busy: deque[tuple[datetime, int, int]] = field(default_factory=deque)
    written: datetime | None = None
    said: str = ""


class Ticks:
    """The open comparison of each deployment."""

    def __init__(self) -> None:
        self._watched: dict[Key, _Watched] = {}

    def forget(self, key: Key) -> None:
        """Nothing is compared any more."""
        self._watched.pop(key, None)

    def known(self, key: Key, subject: Subject) -> bool:
        """Whether the comparison's evidence is here, and need not be read from status."""
        watched = self._watched.get(key)
        return watched is not None and watched.subject == subject

    def start(self, key: Key, subject: Subject, analysis: Analysis, now: datetime) -> None:
        """Begin, or go on with what the status held."""
        self._watched[key] = _Watched(subject, now, analysis)

    def collect(self, key: Key, readings: Iterable[Reading], now: datetime, monotonic: float) -> Analysis:
        """The evidence with what came since the last call. Raises KeyError when it was not started."""
        watched, pods = self._watched[key], tuple(readings)
        scraped = [(p, p.stats) for p in pods if p.stats is not None and watched.last.get(p.uid) is not p.stats]
        if scraped:
            increases = [_increase(watched, p.uid, stats) for p, stats in scraped]
            watched.analysis = observe(watched.analysis, _tick(watched, increases, pods, now, monotonic))
        return watched.analysis

    def is_busy(self, key: Key, now: datetime) -> bool:
        """Whether over 1 % of the candidate's answers of the last 30 s were 429 or 503."""
        watched = self._watched.get(key)
        if watched is None:
            return False
        while watched.busy and now - watched.busy[0][0] > timedelta(seconds=BUSY_SECONDS):
            watched.busy.popleft()
        return sum(b for _, b, _ in watched.busy) > BUSY_SHARE * sum(n for _, _, n in watched.busy)

    def due(self, key: Key, said: str, now: datetime) -> bool:
        """Whether evidence and sentences should be written now: `said` (phase and reason) changed, or 30 s are over."""
        watched = self._watched.get(key)
        if watched is None or watched.written is None or watched.said != said:
            return True
        return now - watched.written >= timedelta(seconds=CHECKPOINT_SECONDS)

    def wrote(self, key: Key, said: str, now: datetime) -> None:
        """They were written."""
        watched = self._watched.get(key)
        if watched is not None:
            watched.written, watched.said = now, said


@dataclass(frozen=True, slots=True)
class _Increase:
    """What one pod counted of both sides since its last scrape."""

    uid: str
    errors: tuple[Counts, Counts]
    labels: tuple[Counts, Counts]
    busy: tuple[int, int]


def _increase(watched: _Watched, uid: str, stats: PodStats) -> _Increase:
    before = watched.last.get(uid)
    watched.last[uid] = stats
    subject = watched.subject
    if before is None and not _born_since(stats, watched.began):
        before = (
            stats  # its first reading: what it counted earlier was not during the comparison, or was judged already
        )
    if before is not None and before.start != stats.start:
        before = None
    forwards = [_outcomes(stats, before, name) for name in (subject.new, subject.old)]
    feedback = [_labels(stats, before, name) for name in (subject.new, subject.old)]
    ok, failed, busy = forwards[0]
    return _Increase(
        uid,
        errors=(Counts(forwards[0][1], sum(forwards[0][:2])), Counts(forwards[1][1], sum(forwards[1][:2]))),
        labels=(Counts(*feedback[0]), Counts(*feedback[1])),
        busy=(busy, ok + failed + busy),
    )


def _outcomes(stats: PodStats, before: PodStats | None, version: str) -> tuple[int, int, int]:
    new = stats.forwards.get(version, Outcomes())
    old = before.forwards.get(version, Outcomes()) if before is not None else Outcomes()
    return max(0, new.ok - old.ok), max(0, new.failed - old.failed), max(0, new.busy - old.busy)


def _labels(stats: PodStats, before: PodStats | None, version: str) -> tuple[int, int]:
    new = stats.feedback.get(version, Feedback())
    old = before.feedback.get(version, Feedback()) if before is not None else Feedback()
    return max(0, new.wrong - old.wrong), max(0, new.labels - old.labels)


def _tick(
    watched: _Watched, increases: list[_Increase], pods: tuple[Reading, ...], now: datetime, monotonic: float
) -> Tick:
    busy, answered = sum(i.busy[0] for i in increases), sum(i.busy[1] for i in increases)
    if answered:
        watched.busy.append((now, busy, answered))
    present = {p.uid for p in pods}
    watched.last = {uid: stats for uid, stats in watched.last.items() if uid in present}
    ready = [p for p in pods if p.ready]
    fresh = [p for p in ready if p.stats is not None and monotonic - p.at <= FRESH_SECONDS]
    return Tick(
        at=now,
        sides={
            "ErrorRate": _sides({i.uid: i.errors for i in increases}),
            "Quality": _sides({i.uid: i.labels for i in increases}),
        },
        candidate_pods=sum(p.new for p in ready),
        candidate_scraped=sum(p.new for p in fresh),
        stable_pods=sum(not p.new for p in ready),
        stable_scraped=sum(not p.new for p in fresh),
    )


def _sides(counted: Mapping[str, tuple[Counts, Counts]]) -> Sides:
    stable = {uid: old for uid, (_, old) in counted.items() if old.total > 0}
    return Sides(sum((new for new, _ in counted.values()), Counts()), stable)


def _born_since(stats: PodStats, began: datetime) -> bool:
    try:
        return parse_instant(stats.start) >= began
    except (TypeError, ValueError):
        return False
