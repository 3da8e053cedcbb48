"""The status of a monitor: what stands in its way, what a window said, what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from homeostat.api.base import TEXT_LENGTH
from homeostat.api.drift import ActionStatus, DetectorStatus, DriftMonitorStatus, MovedFeature, WindowStatus
from homeostat.api.kinds import Monitor
from homeostat.api.meta import format_instant
from homeostat.domain.actions import Hindrance
from homeostat.domain.conditions import Condition, with_condition
from homeostat.domain.drift import Detector, DriftReport, DriftVerdict, history_state
from homeostat.reconcile.status import read_conditions, written_conditions

State = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Says:
    """What one condition says."""

    type: str
    status: State
    reason: str
    message: str


def with_says(monitor: Monitor, changes: dict[str, Any], says: tuple[Says, ...], now: datetime) -> DriftMonitorStatus:
    """The old status with `changes` and what the conditions say. Equal to the old one when nothing changed."""
    generation = monitor.meta.generation
    conditions = read_conditions(monitor.status.conditions)
    for said in says:
        new = Condition(said.type, said.status, said.reason, said.message[:TEXT_LENGTH], now, generation)
        conditions = with_condition(conditions, new)
    changes = {**changes, "observed_generation": generation, "conditions": written_conditions(conditions)}
    return monitor.status.model_copy(update=changes)


def watching(target: str, version: str) -> tuple[Says, ...]:
    """Everything is there that the monitor needs."""
    message = f"watches {target}, stable version {version}"
    return (
        Says("Ready", "True", "Watching", message),
        Says("Reconciling", "False", "Watching", message),
        Says("Stalled", "False", "NotStalled", ""),
    )


def suspended() -> tuple[Says, ...]:
    """The spec says that nothing is read or done."""
    message = "spec.suspend is true: nothing is read or done"
    return (
        Says("Ready", "True", "Suspended", message),
        Says("Reconciling", "False", "Suspended", message),
        Says("Stalled", "False", "NotStalled", ""),
    )


def stalled(reason: str, message: str) -> tuple[Says, ...]:
    """A person must change something first."""
    return (
        Says("Ready", "False", reason, message),
        Says("Reconciling", "False", reason, message),
        Says("Stalled", "True", reason, message),
        Says("DataAvailable", "False", reason, message),
    )


def waiting(reason: str, message: str) -> tuple[Says, ...]:
    """It will pass by itself."""
    return (
        Says("Ready", "False", reason, message),
        Says("Reconciling", "True", reason, message),
        Says("Stalled", "False", "NotStalled", ""),
        Says("DataAvailable", "False", reason, message),
    )


def no_rows_yet(monitor: Monitor, version: str, rows: float, end: datetime) -> tuple[Says, ...]:
    """Before the first window of a version is judged; empty when what the last one said still stands."""
    window = monitor.status.window
    told = next((c.reason for c in monitor.status.conditions if c.type == "DataAvailable"), "")
    if window is not None and window.version == version and told in {"EnoughRows", "InsufficientData"}:
        return ()
    until = f"the open window of {version} ends at {format_instant(end.replace(microsecond=0))}"
    seen = f"0 of {monitor.spec.min_rows} rows that are needed so far; " if rows == 0 else ""
    return (Says("DataAvailable", "False", "InsufficientData", f"{seen}{until}"),)


def judged(monitor: Monitor, report: DriftReport, baseline_digest: str) -> tuple[dict[str, Any], tuple[Says, ...]]:
    """What a judged window changes in the status, and what conditions say of it."""
    window = report.window
    changes: dict[str, Any] = {
        "window": WindowStatus(
            start=format_instant(window.start),
            end=format_instant(window.end),
            rows=int(window.rows),
            labels=int(window.labels),
            version=window.version,
        ),
        "baseline_digest": baseline_digest,
        "drift": _worst(report),
        "detectors": tuple(_detector(d) for d in report.detectors),
        "state": history_state(report.history),
    }
    return changes, (_data(monitor, report), *(_found(d) for d in report.detectors))


def actions_say(wanted: bool, hindrances: tuple[Hindrance, ...]) -> Says:
    """Condition ActionBlocked."""
    if hindrances:
        first = min(hindrances, key=lambda h: not h.lasting)
        return Says("ActionBlocked", "True", first.reason, first.because)
    if wanted:
        return Says("ActionBlocked", "False", "ActionRequested", "the action was requested")
    return Says("ActionBlocked", "False", "NothingToDo", "nothing calls for an action")


def carried(actions: tuple[ActionStatus, ...], status: DriftMonitorStatus) -> dict[str, Any]:
    """The change of `actions`, empty when there is none."""
    return {} if actions == status.actions else {"actions": actions}


def _worst(report: DriftReport) -> str:
    for verdict in (DriftVerdict.DRIFT, DriftVerdict.WARNING):
        names = [d.finding for d in report.detectors if d.verdict is verdict]
        if names:
            text = ",".join(names)
            return text if verdict is DriftVerdict.DRIFT else f"Warning({text})"
    silent = all(d.verdict is DriftVerdict.INSUFFICIENT_DATA for d in report.detectors)
    return "InsufficientData" if silent else "None"


def _data(monitor: Monitor, report: DriftReport) -> Says:
    inputs = next(d for d in report.detectors if d.finding == "DataDrift")
    window = report.window
    span = f"in the window to {format_instant(window.end)}"
    if inputs.verdict is DriftVerdict.INSUFFICIENT_DATA:
        return Says("DataAvailable", "False", "InsufficientData", f"{inputs.because} {span}")
    message = f"at least {monitor.spec.min_rows} rows: {window.rows:.0f}, with {window.labels:.0f} labels, {span}"
    return Says("DataAvailable", "True", "EnoughRows", message)


def _found(detector: Detector) -> Says:
    verdict = detector.verdict
    states: dict[DriftVerdict, tuple[State, str]] = {
        DriftVerdict.DRIFT: ("True", f"{detector.finding}Found"),
        DriftVerdict.WARNING: ("False", "Warning"),
        DriftVerdict.OK: ("False", "WithinBounds"),
        DriftVerdict.INSUFFICIENT_DATA: ("Unknown", "InsufficientData"),
    }
    status, reason = states[verdict]
    return Says(detector.finding, status, reason, detector.because)


def _detector(detector: Detector) -> DetectorStatus:
    return DetectorStatus(
        name=detector.finding,
        verdict=detector.verdict.value,
        score=detector.score,
        consecutive=detector.consecutive,
        message=detector.because[:TEXT_LENGTH],
        features=tuple(MovedFeature(name=m.name, effect=m.effect, p=m.p) for m in detector.features),
    )
