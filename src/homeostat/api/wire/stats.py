"""What the admin port says of what was counted. Counters are monotone since `start`; a new `start` means that they began anew.

`/stats` is `PodStats`; `/stats?view=rollout&bounds=0.01,0.05&versions=v7,v8` is `RolloutStats`, some 200 bytes for what a
rollout needs each second; `/stats/history` is `History`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from homeostat.api.wire.optimization import Optimization


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class State(_Wire):
    """Why the pod is or is not ready. `Ready`, `Loading`, `Draining`, or a reason such as `NotOnnx`, `DigestMismatch`."""

    reason: str
    message: str = ""


class Outcomes(_Wire):
    """Requests without hop header by the side that was drawn for them, counted where they were received.

    failed: transport error, 5xx, deadline, or 4xx where the other side answers 2xx; fallback changes no outcome.
    busy: 429 or 503 of that side: capacity, not fault.
    lanes: of the same requests those with a sticky key, by lane: ok, failed, busy; empty when no request had one.
    """

    ok: int = 0
    failed: int = 0
    busy: int = 0
    lanes: tuple[tuple[int, int, int], ...] = ()


class Served(_Wire):
    """Work of this pod's model under one track.

    latency: requests by bucket of `PodStats.latency_bounds` (one more for above), inside the server.
    predictions: rows by score cell of the baseline.
    """

    requests: int = 0
    rows: int = 0
    latency: tuple[int, ...] = ()
    predictions: tuple[int, ...] = ()


class Features(_Wire):
    """Rows by feature and cell, in the baseline's order; cells as in the baseline (value cells, `nan`, `other`)."""

    edges_id: str
    rows: int
    cells: tuple[tuple[int, ...], ...]


class Gram(_Wire):
    """Sums over `Features.rows` rows, as `GramBaseline` has them of the training rows."""

    features: tuple[int, ...]
    scale: int
    sums: tuple[int, ...]
    products: tuple[int, ...]


class Feedback(_Wire):
    """Labels by the version that made the prediction. `squared_error`: sum of (probability or value - label)^2; null: unknown.

    error, absolute_error: sums of value - label and of its size, of a regression; null for classes.
    labels_by_cell: labels by score cell of the prediction, positives_by_cell: of these the positive ones; trailing zeros left
    out, cells above 63 in the last. Positive is, for two classes, the last label; for more, the predicted one (so these are
    the right ones); for a regression, a label above the value.
    """

    labels: int = 0
    wrong: int = 0
    squared_error: float | None = 0.0
    error: float | None = None
    absolute_error: float | None = None
    labels_by_cell: tuple[int, ...] = ()
    positives_by_cell: tuple[int, ...] = ()


class Agreement(_Wire):
    """Mirrored requests by what the mirror's version answered: the same as the one that answered, otherwise, or nothing."""

    agreed: int = 0
    differed: int = 0
    failed: int = 0


class PodStats(_Wire):
    """One pod's counters.

    projections: rows by projection and cell, as `ProjectionBaseline` has them; with `gram` of the same rows as `features`.
    agreement: by the version that got the mirrored requests. optimization: null when none was asked for.
    sample: share of the rows that are in `features`, `gram`, `projections` and `Served.predictions`, below 1; null: all.
    What else is counted is exact in any case.
    """

    v: Literal[1] = 1
    model: str
    version: str
    start: str
    now: float
    state: State
    route_epoch: int = 0
    forwards: dict[str, Outcomes] = {}
    served: dict[str, Served] = {}
    latency_bounds: tuple[float, ...] = ()
    features: Features | None = None
    gram: Gram | None = None
    projections: tuple[tuple[int, ...], ...] = ()
    feedback: dict[str, Feedback] = {}
    feedback_refused: dict[str, int] = {}
    agreement: dict[str, Agreement] = {}
    optimization: Optimization | None = None
    sample: float | None = None


TRACK_KEYS = {"s": "stable", "c": "candidate", "h": "holdback", "m": "shadow", "f": "fallback"}


class RolloutStats(_Wire):
    """The view of `/stats` for rollouts: at most 512 bytes without lanes and 2 KiB with, so its keys are short.

    i: the pod's version. s: `start`. n: now, Unix seconds. r: the state's reason. e: route epoch.
    f: by side [ok, failed, busy]. k: by side eight lanes of the same; only when a request had a sticky key.
    t: by track [requests, rows, requests above each asked bound], by the keys of `TRACK_KEYS`: requests whose client chose
    the side are in no comparison, so they are left out. b: by version [labels, wrong]. a: by version [agreed, differed,
    failed]. f, k, b and a have the asked versions; without `versions` the pod's own and the side that it saw last.
    What is zero throughout is left out.
    """

    v: Literal[1]
    i: str
    s: str
    n: float
    r: str
    e: int = 0
    f: dict[str, tuple[int, int, int]] = {}
    k: dict[str, tuple[tuple[int, int, int], ...]] = {}
    t: dict[str, tuple[int, ...]] = {}
    b: dict[str, tuple[int, int]] = {}
    a: dict[str, tuple[int, int, int]] = {}

    def stats(self, model: str, bounds: tuple[float, ...]) -> PodStats:
        """The same as `PodStats`, which decisions are made from. bounds: those that were asked, rising: now the latency's."""
        served = {}
        for key, (requests, rows, *above) in self.t.items():
            over = [requests, *above]
            latency = [a - b for a, b in zip(over, [*above, 0], strict=True)]
            served[TRACK_KEYS[key]] = Served(requests=requests, rows=rows, latency=tuple(latency))
        return PodStats(
            model=model,
            version=self.i,
            start=self.s,
            now=self.n,
            state=State(reason=self.r),
            route_epoch=self.e,
            forwards={
                name: Outcomes(ok=ok, failed=failed, busy=busy, lanes=self.k.get(name, ()))
                for name, (ok, failed, busy) in self.f.items()
            },
            served=served,
            latency_bounds=bounds,
            feedback={
                name: Feedback(labels=labels, wrong=wrong, squared_error=None)
                for name, (labels, wrong) in self.b.items()
            },
            agreement={
                name: Agreement(agreed=agreed, differed=differed, failed=failed)
                for name, (agreed, differed, failed) in self.a.items()
            },
        )


class Block(_Wire):
    """What was counted in `seconds` from `at` (Unix seconds) on. Tracks and sides with nothing are left out."""

    at: float
    seconds: float
    forwards: dict[str, Outcomes] = {}
    served: dict[str, Served] = {}


class History(_Wire):
    """The pod's last hour, oldest first. fine: blocks of 10 s of the last 10 minutes; coarse: of 60 s of the last hour.

    Blocks begin with `start`, so a young pod has fewer; the minute that is not over is in no coarse block yet.
    """

    v: Literal[1] = 1
    model: str
    version: str
    start: str
    now: float
    latency_bounds: tuple[float, ...] = ()
    fine: tuple[Block, ...] = ()
    coarse: tuple[Block, ...] = ()
