"""Every metric of the operator, declared once. Labels are bounded: no object's name, drift scores apart."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

RECONCILE_SECONDS: Final = Histogram(
    "homeostat_reconcile_duration_seconds",
    "Time of one reconcile, from dequeue to status write.",
    ("kind", "outcome"),
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
API_WRITES: Final = Counter(
    "homeostat_api_writes_total",
    "Requests to the API server that change something.",
    ("verb", "kind"),
    registry=REGISTRY,
)
WRITES_SKIPPED: Final = Counter(
    "homeostat_api_writes_skipped_total",
    "Writes that were not sent, nothing would change.",
    ("verb", "kind"),
    registry=REGISTRY,
)
ACTIONS: Final = Counter(
    "homeostat_actions_total", "Events with a meaning to people.", ("kind", "reason"), registry=REGISTRY
)
LEADER: Final = Gauge("homeostat_leader", "1 while this process holds the Lease.", registry=REGISTRY)
QUEUE_LENGTH: Final = Gauge("homeostat_queue_length", "Keys that wait to be reconciled.", registry=REGISTRY)
LOOP_LAG: Final = Gauge(
    "homeostat_event_loop_lag_seconds", "Longest delay of the event loop in 10 s.", registry=REGISTRY
)
SCRAPES: Final = Counter("homeostat_scrapes_total", "Reads of serving pods.", ("outcome",), registry=REGISTRY)
DRIFT_SCORE: Final = Gauge(
    "homeostat_drift_score",
    "Score of a detector in the newest window.",
    ("namespace", "monitor", "detector"),
    registry=REGISTRY,
)
DRIFT_VERDICT: Final = Gauge(
    "homeostat_drift_verdict",
    "0 OK, 1 Warning, 2 Drift, -1 InsufficientData.",
    ("namespace", "monitor", "detector"),
    registry=REGISTRY,
)
