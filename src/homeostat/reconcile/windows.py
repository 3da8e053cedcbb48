"""The open window of each monitor: what its pods counted since the window began. In memory only.

Counters of pods are monotone since their `start`, so a window is a sum of differences: a scrape that was missed is made
up by the next one, an operator that restarts loses the open window and invents nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from homeostat.api.meta import Key, parse_instant
from homeostat.api.wire.stats import PodStats
from homeostat.domain.drift import Window

NOT_JUDGED: Final = frozenset({"shadow", "fallback"})


@dataclass(frozen=True, slots=True)
class Subject:
    """What is watched: another one begins another window. version: child suffix such as `v7`."""

    monitor_uid: str
    version: str
    digest: str
    baseline_digest: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted. features: by feature and cell; predictions: by score cell."""

    rows: float = 0
    features: tuple[tuple[float, ...], ...] = ()
    predictions: tuple[float, ...] = ()
    labels: float = 0
    wrong: float = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return _combined(self, other, 1)

    def minus(self, other: Counts) -> Counts:
        """What came since `other`; nothing is below zero."""
        return _combined(self, other, -1)


@dataclass(frozen=True, slots=True)
class Open:
    """How far the open window is."""

    start: datetime
    end: datetime
    rows: float


@dataclass(slots=True)
class _Watched:
    """base: what each pod had counted when the window began, None for nothing. carried: of lives that pods ended in it."""

    subject: Subject
    began: datetime
    start: datetime
    edges_id: str = ""
    base: dict[str, PodStats | None] = field(default_factory=dict)
    last: dict[str, PodStats] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    carried: Counts = field(default_factory=Counts)

    def read(self, uid: str, stats: PodStats) -> None:
        before = self.last.get(uid)
        if before is None:
            self.base[uid] = None if _started_after(stats, self.began) else stats
        elif before.start != stats.start:
            self.carried = self.carried.plus(self.since_base(uid))
            self.base[uid] = None
        self.last[uid] = stats
        if stats.version == self.subject.version and stats.features is not None:
            self.edges_id = stats.features.edges_id

    def since_base(self, uid: str) -> Counts:
        version, base = self.subject.version, self.base[uid]
        total = counts(self.last[uid], version)
        return total if base is None else total.minus(counts(base, version))

    def rows(self) -> float:
        version = self.subject.version
        bases = sum(_rows(base, version) for base in self.base.values() if base is not None)
        return max(0.0, self.carried.rows + sum(_rows(stats, version) for stats in self.last.values()) - bases)

    def next(self, start: datetime) -> None:
        self.last = {uid: stats for uid, stats in self.last.items() if uid in self.present}
        self.base = dict(self.last)
        self.start, self.carried = start, Counts()


class Windows:
    """Open windows by monitor."""

    def __init__(self) -> None:
        self._watched: dict[Key, _Watched] = {}

    def forget(self, key: Key) -> None:
        """The monitor watches nothing any more."""
        self._watched.pop(key, None)

    def collect(
        self, key: Key, subject: Subject, pods: Iterable[tuple[str, PodStats]], now: datetime, length: timedelta
    ) -> Window | Open:
        """Add the newest numbers, by pod uid. The window when it is over, else how far it is; `close` it once it is judged."""
        watched = self._watched.get(key)
        if watched is None or watched.subject != subject:
            watched = self._watched[key] = _Watched(subject, now, now)
        seen = dict(pods)
        watched.present = frozenset(seen)
        for uid, stats in seen.items():
            if watched.last.get(uid) is not stats:
                watched.read(uid, stats)
        end = watched.start + length
        if now < end:
            return Open(watched.start, end, watched.rows())
        return _window(watched, end if now < end + length else now)

    def close(self, key: Key, window: Window) -> None:
        """The window was judged and its verdict is written: the next one begins where it ended."""
        watched = self._watched.get(key)
        if watched is not None and watched.start == window.start:
            watched.next(window.end)


def counts(stats: PodStats, version: str) -> Counts:
    """What a pod counted of `version` since its start: its own rows, and labels of that version's predictions."""
    feedback = stats.feedback.get(version)
    labels, wrong = (feedback.labels, feedback.wrong) if feedback else (0, 0)
    if stats.version != version:
        return Counts(labels=labels, wrong=wrong)
    judged = [s for track, s in stats.served.items() if track not in NOT_JUDGED]
    predictions: tuple[float, ...] = ()
    for served in judged:
        predictions = _added(predictions, served.predictions, 1)
    cells: tuple[tuple[float, ...], ...] = stats.features.cells if stats.features is not None else ()
    return Counts(_rows(stats, version), cells, predictions, labels, wrong)


def _rows(stats: PodStats, version: str) -> float:
    if stats.version != version:
        return 0.0
    if stats.features is not None:
        return float(stats.features.rows)
    return float(sum(s.rows for track, s in stats.served.items() if track not in NOT_JUDGED))


def _started_after(stats: PodStats, began: datetime) -> bool:
    try:
        return parse_instant(stats.start) >= began
    except (ValueError, TypeError):
        return False


def _window(watched: _Watched, end: datetime) -> Window:
    found = watched.carried
    for uid in watched.last:
        found = found.plus(watched.since_base(uid))
    return Window(
        start=watched.start,
        end=end,
        version=watched.subject.version,
        edges_id=watched.edges_id,
        rows=found.rows,
        features=found.features,
        predictions=found.predictions,
        labels=found.labels,
        wrong=found.wrong,
    )


def _combined(one: Counts, other: Counts, sign: int) -> Counts:
    wide = max(len(one.features), len(other.features))
    return Counts(
        rows=max(0, one.rows + sign * other.rows),
        features=tuple(_added(_at(one.features, i), _at(other.features, i), sign) for i in range(wide)),
        predictions=_added(one.predictions, other.predictions, sign),
        labels=max(0, one.labels + sign * other.labels),
        wrong=max(0, one.wrong + sign * other.wrong),
    )


def _at(features: Sequence[tuple[float, ...]], index: int) -> tuple[float, ...]:
    return features[index] if index < len(features) else ()


def _added(one: Sequence[float], other: Sequence[float], sign: int) -> tuple[float, ...]:
    wide = max(len(one), len(other))
    first, second = [*one, *[0.0] * (wide - len(one))], [*other, *[0.0] * (wide - len(other))]
    return tuple(max(0.0, a + sign * b) for a, b in zip(first, second, strict=True))
