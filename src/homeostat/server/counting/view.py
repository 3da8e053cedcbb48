"""What all workers counted together: read from shared memory, so what the admin port says costs the workers nothing."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from homeostat.api.wire.bundle import Baseline
from homeostat.api.wire.optimization import Optimization
from homeostat.api.wire.stats import (
    TRACK_KEYS,
    Agreement,
    Features,
    Feedback,
    Gram,
    Outcomes,
    PodStats,
    RolloutStats,
    Served,
    State,
)
from homeostat.server.counting.counters import (
    AGREEMENT,
    BUCKETS,
    CODES,
    COUNTERS,
    EXEMPLAR_WORDS,
    LABEL_CELLS,
    LABEL_SUMS,
    LATENCY_BOUNDS,
    OUTCOMES,
    REFUSALS,
    TRACKS,
    NameTable,
    Shape,
    Slot,
    count_totals,
    totals,
)

MOST_VERSIONS: Final = 4
_TRACE: Final = re.compile(rb"[0-9a-f]{32}")
_LETTER: Final = {track: key for key, track in TRACK_KEYS.items()}


@dataclass(frozen=True, slots=True)
class Pod:
    """Who this pod is. start: RFC 3339 instant since when its counters grow. optimization: of its model, if asked for.

    sample: share of the rows that are counted by cell.
    """

    model: str
    version: str
    start: str
    baseline: Baseline | None
    optimization: Optimization | None = None
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The newest traced request of a latency bucket. at: Unix seconds."""

    trace: str
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class View:
    """Sums over workers at one moment. counts: by the names of `COUNTERS`; binned: by those of `Shape.sums`."""

    shape: Shape
    counts: dict[str, list[int]]
    queued: int
    connections: int
    forwards: dict[str, Outcomes]
    feedback: dict[str, Feedback]
    agreement: dict[str, Agreement]
    binned: dict[str, list[int]] = field(default_factory=dict)

    @property
    def rows(self) -> list[int]:
        """Rows by track."""
        return self.counts["rows"]

    @property
    def feature_rows(self) -> int:
        """Rows that are in the cells of features."""
        return self.binned["rows"][0]

    @property
    def cells(self) -> tuple[tuple[int, ...], ...]:
        """Rows by feature and cell."""
        return _cut(self.binned["cells"], self.shape.features)

    @property
    def projections(self) -> tuple[tuple[int, ...], ...]:
        """Rows by projection and cell."""
        return _cut(self.binned["projections"], self.shape.projections)

    @property
    def predictions(self) -> dict[str, tuple[int, ...]]:
        """Rows by track and score cell."""
        found = _cut(self.binned["predictions"], [self.shape.predictions] * len(TRACKS))
        return dict(zip(TRACKS, found, strict=True))

    def latency_of(self, track: str) -> list[int]:
        """Requests by latency bucket under one track."""
        place = TRACKS.index(track) * BUCKETS
        return self.counts["latency"][place : place + BUCKETS]

    def codes_of(self, protocol: int, track: int) -> list[int]:
        """Requests by status code that came by one protocol, under one track."""
        place = (protocol * len(TRACKS) + track) * len(CODES)
        return self.counts["requests"][place : place + len(CODES)]


def _cut(words: Sequence[int], sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    ends = list(accumulate(sizes))
    return tuple(tuple(words[end - size : end]) for size, end in zip(sizes, ends, strict=True))


def read(slots: Sequence[Slot], *, rows: bool = True) -> View:
    """The sums now. rows: also those over rows, which are most of it."""
    shape = slots[0].layout.shape
    used = [slot for slot in slots if slot.get("used")] or [slots[0]]
    binned: dict[str, list[int]] = {}
    if rows:
        words, place = _binned(shape, [slot.binned() for slot in used]), 0
        for name, size in shape.sums.items():
            binned[name] = words[place : place + size]
            place += size
    return View(
        shape=shape,
        counts={name: totals([slot.words(name, size) for slot in used]) for name, size in COUNTERS.items()},
        queued=sum(slot.get("queued") for slot in used),
        connections=sum(slot.get("connections") for slot in used),
        forwards={name: _outcomes(words) for name, words in _named(used, "forwards")},
        feedback=_feedback(used),
        agreement={
            name: Agreement(**dict(zip(AGREEMENT, words, strict=True))) for name, words in _named(used, "agreement")
        },
        binned=binned,
    )


def _binned(shape: Shape, copies: Sequence[bytes]) -> list[int]:
    begin, end = shape.signed
    signed = [memoryview(copy)[begin * 8 : end * 8].cast("q").tolist() for copy in copies]
    before = count_totals([copy[: begin * 8] for copy in copies])
    return [*before, *totals(signed), *count_totals([copy[end * 8 :] for copy in copies])]


def _named(slots: Sequence[Slot], table: str) -> Iterator[tuple[str, list[int]]]:
    """Words of each name of a table, summed over slots."""
    found: dict[str, list[list[int]]] = {}
    for slot in slots:
        names = NameTable(slot, table)
        for name, place in names.items():
            found.setdefault(name, []).append(slot.q[place : place + names.words].tolist())
    return ((name, totals(words)) for name, words in found.items())


def _outcomes(words: list[int]) -> Outcomes:
    size = len(OUTCOMES)
    ok, failed, busy = (sum(words[i::size]) for i in range(size))
    lanes = tuple(
        (a, b, c) for a, b, c in zip(words[size::size], words[size + 1 :: size], words[size + 2 :: size], strict=True)
    )
    return Outcomes(ok=ok, failed=failed, busy=busy, lanes=lanes if any(map(any, lanes)) else ())


def _feedback(slots: Sequence[Slot]) -> dict[str, Feedback]:
    sums = dict(_named(slots, "feedback"))
    errors: dict[str, list[float]] = {}
    for slot in slots:
        for name, place in NameTable(slot, "feedback").items():
            before = errors.get(name, [0.0, 0.0, 0.0])
            errors[name] = [
                a + b for a, b in zip(before, slot.d[place + 2 : place + len(LABEL_SUMS)].tolist(), strict=True)
            ]
    found = {}
    for name, words in sums.items():
        squared, error, absolute = errors[name]
        by_cell = words[len(LABEL_SUMS) :]
        used = max((i + 1 for i in range(LABEL_CELLS) if by_cell[2 * i]), default=0)
        found[name] = Feedback(
            labels=words[0],
            wrong=words[1],
            squared_error=squared,
            error=error if absolute else None,
            absolute_error=absolute or None,
            labels_by_cell=tuple(by_cell[0 : 2 * used : 2]),
            positives_by_cell=tuple(by_cell[1 : 2 * used : 2]),
        )
    return found


def exemplars(slots: Sequence[Slot]) -> dict[tuple[int, int], Exemplar]:
    """The newest traced request by track's place and latency bucket."""
    found: dict[tuple[int, int], Exemplar] = {}
    for slot in slots:
        if not slot.get("used"):
            continue
        start, size = slot.at["exemplars"], EXEMPLAR_WORDS
        for place, at in enumerate(slot.d[start + size - 1 : start + len(TRACKS) * BUCKETS * size].tolist()[::size]):
            key = divmod(place, BUCKETS)
            if at and (key not in found or at > found[key].at):
                one = _exemplar(slot, start + place * size, at)
                if one is not None:
                    found[key] = one
    return found


def _exemplar(slot: Slot, place: int, at: float) -> Exemplar | None:
    trace, seconds = bytes(slot.raw[place * 8 : place * 8 + 32]), slot.d[place + 4]
    whole = slot.d[place + 5] == at and _TRACE.fullmatch(trace)  # not while it is being written
    return Exemplar(trace.decode(), seconds, at) if whole else None


def pod_stats(pod: Pod, view: View, state: State, epoch: int, now: float) -> PodStats:
    """`/stats`. Tracks under which nothing ran are left out."""
    predictions = view.predictions
    served = {
        track: Served(
            requests=sum(view.latency_of(track)),
            rows=view.rows[i],
            latency=tuple(view.latency_of(track)),
            predictions=predictions[track],
        )
        for i, track in enumerate(TRACKS)
        if view.rows[i]
    }
    features, gram, baseline = None, None, pod.baseline
    if baseline is not None:
        features = Features(edges_id=baseline.edges_id, rows=view.feature_rows, cells=view.cells)
        if baseline.gram is not None:
            sums, products = tuple(view.binned["gram"]), tuple(view.binned["products"])
            gram = Gram(features=baseline.gram.features, scale=baseline.gram.scale, sums=sums, products=products)
    return PodStats(
        model=pod.model,
        version=pod.version,
        start=pod.start,
        now=now,
        state=state,
        route_epoch=epoch,
        forwards=view.forwards,
        served=served,
        latency_bounds=LATENCY_BOUNDS,
        features=features,
        gram=gram,
        projections=view.projections,
        feedback=view.feedback,
        feedback_refused={name: n for name, n in zip(REFUSALS, view.counts["refused"], strict=True) if n},
        agreement=view.agreement,
        optimization=pod.optimization,
        sample=pod.sample if pod.sample < 1.0 else None,
    )


def rollout_stats(
    pod: Pod,
    view: View,
    state: State,
    epoch: int,
    now: float,
    *,
    bounds: Sequence[float],
    versions: Sequence[str],
) -> RolloutStats:
    """`/stats?view=rollout`. bounds: some of `LATENCY_BOUNDS`, rising. versions: at most `MOST_VERSIONS`; none: see the model."""
    others = [name for name in view.forwards if name != pod.version]
    names = versions or [pod.version, *others[-1:]]
    places = [LATENCY_BOUNDS.index(bound) + 1 for bound in bounds]
    tracks = {}
    for i, track in enumerate(TRACKS):
        if view.rows[i] and track in _LETTER:
            counts = view.latency_of(track)
            tracks[_LETTER[track]] = (sum(counts), view.rows[i], *(sum(counts[place:]) for place in places))
    sides = {name: view.forwards[name] for name in names if name in view.forwards}
    labels = {name: view.feedback[name] for name in names if name in view.feedback}
    mirrors = {name: view.agreement[name] for name in names if name in view.agreement}
    return RolloutStats(
        v=1,
        i=pod.version,
        s=pod.start,
        n=round(now, 3),
        r=state.reason,
        e=epoch,
        f={name: (side.ok, side.failed, side.busy) for name, side in sides.items()},
        k={name: side.lanes for name, side in sides.items() if side.lanes},
        t=tracks,
        b={name: (one.labels, one.wrong) for name, one in labels.items()},
        a={name: (one.agreed, one.differed, one.failed) for name, one in mirrors.items()},
    )
