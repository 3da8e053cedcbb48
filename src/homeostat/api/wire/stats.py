"""What `/stats` on the admin port says. Counters are monotone since `start`; a new `start` means that they began anew."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


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
    """

    ok: int = 0
    failed: int = 0
    busy: int = 0


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


class Feedback(_Wire):
    """Labels by the version that made the prediction. `squared_error`: sum of (probability or value - label)^2; null: unknown."""

    labels: int = 0
    wrong: int = 0
    squared_error: float | None = 0.0


class PodStats(_Wire):
    """One pod's counters."""

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
    feedback: dict[str, Feedback] = {}
    feedback_refused: dict[str, int] = {}
