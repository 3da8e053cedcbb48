"""What all workers counted together: read from shared memory, so `/stats` and `/metrics` cost the workers nothing."""

from dataclasses import dataclass

from homeostat.api.wire.bundle import Baseline
from homeostat.api.wire.stats import Features, Feedback, Outcomes, PodStats, Served, State
from homeostat.server.counters import (
    BATCH_BOUNDS,
    CODES,
    LATENCY_BOUNDS,
    REFUSALS,
    TRACKS,
    NameTable,
    Slot,
    totals,
)

BUCKETS = len(LATENCY_BOUNDS) + 1


@dataclass(frozen=True, slots=True)
class Pod:
    """Who this pod is. start: RFC 3339 instant since when its counters grow."""

    model: str
    version: str
    start: str
    baseline: Baseline | None


@dataclass(frozen=True, slots=True)
class View:
    """Sums over workers at one moment. requests: by track, then code; latency: by track, then bucket."""

    requests: list[int]
    rows: list[int]
    latency: list[int]
    latency_ns: list[int]
    inference: list[int]
    inference_ns: int
    batches: list[int]
    batch_rows: int
    queued: int
    connections: int
    refused: list[int]
    forwards: dict[str, Outcomes]
    feedback: dict[str, Feedback]
    feature_rows: int
    cells: tuple[tuple[int, ...], ...]
    predictions: dict[str, tuple[int, ...]]

    def latency_of(self, track: str) -> list[int]:
        """Requests by latency bucket under one track."""
        place = TRACKS.index(track) * BUCKETS
        return self.latency[place : place + BUCKETS]

    def codes_of(self, track: str) -> list[int]:
        """Requests by status code under one track."""
        place = TRACKS.index(track) * len(CODES)
        return self.requests[place : place + len(CODES)]


def read(slots: list[Slot]) -> View:
    """The sums now."""
    shape = slots[0].layout.shape

    def total(name: str, size: int) -> list[int]:
        return totals([slot.words(name, size) for slot in slots])

    binned = totals([slot.binned() for slot in slots])
    cells, place = [], 2
    for size in shape.features:
        cells.append(tuple(binned[place : place + size]))
        place += size
    predictions = {}
    for track in TRACKS:
        predictions[track] = tuple(binned[place : place + shape.predictions])
        place += shape.predictions
    return View(
        requests=total("requests", len(TRACKS) * len(CODES)),
        rows=total("rows", len(TRACKS)),
        latency=total("latency", len(TRACKS) * BUCKETS),
        latency_ns=total("latency_ns", len(TRACKS)),
        inference=total("inference", BUCKETS),
        inference_ns=total("inference_ns", 1)[0],
        batches=total("batches", len(BATCH_BOUNDS) + 1),
        batch_rows=total("batch_rows", 1)[0],
        queued=total("queued", 1)[0],
        connections=total("connections", 1)[0],
        refused=total("refused", len(REFUSALS)),
        forwards=_forwards(slots),
        feedback=_feedback(slots),
        feature_rows=binned[1],
        cells=tuple(cells),
        predictions=predictions,
    )


def _forwards(slots: list[Slot]) -> dict[str, Outcomes]:
    sums: dict[str, list[int]] = {}
    for slot in slots:
        for name, place in NameTable(slot, "forwards").items():
            words = slot.q[place : place + 3].tolist()
            sums[name] = [a + b for a, b in zip(sums.get(name, [0, 0, 0]), words, strict=True)]
    return {name: Outcomes(ok=s[0], failed=s[1], busy=s[2]) for name, s in sums.items()}


def _feedback(slots: list[Slot]) -> dict[str, Feedback]:
    sums: dict[str, Feedback] = {}
    for slot in slots:
        for name, place in NameTable(slot, "feedback").items():
            before = sums.get(name, Feedback())
            sums[name] = Feedback(
                labels=before.labels + slot.q[place],
                wrong=before.wrong + slot.q[place + 1],
                squared_error=(before.squared_error or 0.0) + slot.d[place + 2],
            )
    return sums


def pod_stats(pod: Pod, view: View, state: State, epoch: int, now: float) -> PodStats:
    """`/stats`. Tracks under which nothing ran are left out."""
    served = {
        track: Served(
            requests=sum(view.latency_of(track)),
            rows=view.rows[i],
            latency=tuple(view.latency_of(track)),
            predictions=view.predictions[track],
        )
        for i, track in enumerate(TRACKS)
        if view.rows[i]
    }
    features = None
    if pod.baseline is not None:
        features = Features(edges_id=pod.baseline.edges_id, rows=view.feature_rows, cells=view.cells)
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
        feedback=view.feedback,
        feedback_refused={name: n for name, n in zip(REFUSALS, view.refused, strict=True) if n},
    )
