"""The status of a training that follows from a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from homeostat.api.base import TEXT_LENGTH
from homeostat.api.kinds import Training, Version
from homeostat.api.meta import format_instant
from homeostat.api.training import LatestVersion, MetricValue, ModelTrainingSpec, ModelTrainingStatus, RunStatus
from homeostat.api.wire.run import RunSummary
from homeostat.domain.champion import latest
from homeostat.domain.conditions import Condition, with_condition
from homeostat.domain.requests import echo
from homeostat.domain.schedule import due, next_time
from homeostat.domain.training import (
    Decision,
    Finish,
    Running,
    Start,
    Suspended,
    Wait,
    job_name,
    spec_digest,
)
from homeostat.reconcile.status import read_conditions, written_conditions

KEPT_RUNS: Final = 10
IMAGE_TROUBLE: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})


@dataclass(frozen=True, slots=True)
class _Says:
    """What one condition says."""

    type: str
    true: bool
    reason: str
    message: str


def next_status(
    training: Training, decision: Decision, versions: Sequence[Version], now: datetime
) -> ModelTrainingStatus:
    """The status after `decision`. Pure; equal to the old one when nothing changed."""
    changes: dict[str, Any] = {"observed_generation": training.meta.generation}
    changes.update(_run_changes(training, decision, now))
    changes["next_schedule_time"] = _next_time(training, decision, now)
    changes["latest_version"] = _latest(training.status, decision, versions)
    after = training.status.model_copy(update=changes)
    conditions = read_conditions(after.conditions)
    for said in _conditions(training.spec, after, decision):
        conditions = with_condition(conditions, _condition(said, training.meta.generation, now))
    return after.model_copy(update={"conditions": written_conditions(conditions)})


def invalid_status(training: Training, now: datetime) -> ModelTrainingStatus:
    """The status of a training whose spec cannot be read."""
    conditions = read_conditions(training.status.conditions)
    for said in (
        _Says("Ready", False, "SpecInvalid", training.invalid),
        _Says("Reconciling", False, "SpecInvalid", "waits for a changed spec"),
        _Says("Stalled", True, "SpecInvalid", training.invalid),
    ):
        conditions = with_condition(conditions, _condition(said, training.meta.generation, now))
    return training.status.model_copy(
        update={"observed_generation": training.meta.generation, "conditions": written_conditions(conditions)}
    )


def _condition(said: _Says, generation: int, now: datetime) -> Condition:
    return Condition(said.type, "True" if said.true else "False", said.reason, said.message, now, generation)


def _run_changes(training: Training, decision: Decision, now: datetime) -> dict[str, Any]:
    status = training.status
    match decision:
        case Start():
            return _started(training, decision, now)
        case Running() if status.current_run is not None:
            return {"current_run": _shown(status.current_run, decision)}
        case Finish() if status.current_run is not None:
            done = _finished(status.current_run, decision, now)
            return {"current_run": None, "runs": (done, *status.runs)[:KEPT_RUNS]}
        case _:
            return {}


def _started(training: Training, decision: Start, now: datetime) -> dict[str, Any]:
    number = decision.number
    run = RunStatus(
        number=number,
        trigger=decision.trigger,
        job_name=job_name(training.meta.name, number),
        start_time=format_instant(now),
        reason="Starting",
        message=f"run {number} starts",
    )
    changes: dict[str, Any] = {
        "last_run": number,
        "spec_digest": spec_digest(training.spec),
        "current_run": run,
    }
    if decision.request is not None:
        echoed = echo(decision.request, now, f"run {number}")
        changes["requests"] = {**training.status.requests, decision.request.verb: echoed}
    if decision.due is not None:
        changes["last_schedule_time"] = format_instant(decision.due)
    return changes


def _shown(run: RunStatus, decision: Running) -> RunStatus:
    if decision.reason in IMAGE_TROUBLE and run.reason in IMAGE_TROUBLE:
        return run  # the kubelet alternates between two texts; one is enough
    return run.model_copy(update={"reason": decision.reason, "message": decision.because[:TEXT_LENGTH]})


def _finished(run: RunStatus, decision: Finish, now: datetime) -> RunStatus:
    digest = next((d.digest for d in decision.summary.data if d.name == "train"), None) if decision.summary else None
    return run.model_copy(
        update={
            "completion_time": format_instant(now),
            "result": decision.result,
            "reason": decision.reason[:128],
            "message": decision.because[:TEXT_LENGTH],
            "version_name": decision.version,
            "data_digest": digest or None,
        }
    )


def _next_time(training: Training, decision: Decision, now: datetime) -> str | None:
    spec = training.spec
    if spec.schedule is None:
        return None
    if isinstance(decision, Start) and decision.due is not None:
        planned = next_time(spec.schedule, spec.time_zone, now)
    else:
        planned = due(spec.schedule, spec.time_zone, training.status.next_schedule_time, now)
    return None if planned.at is None else format_instant(planned.at)


def _latest(status: ModelTrainingStatus, decision: Decision, versions: Sequence[Version]) -> LatestVersion | None:
    newest = latest(versions)
    seen = (
        None
        if newest is None
        else LatestVersion(
            name=newest.meta.name,
            number=newest.spec.number,
            digest=newest.spec.artifact.digest,
            metrics=newest.spec.metrics,
        )
    )
    if not (isinstance(decision, Finish) and decision.result == "Succeeded"):
        return seen
    run, summary = status.current_run, decision.summary
    if run is None or summary is None or (seen is not None and seen.number >= run.number):
        return seen
    return _made(run, summary)  # the store will see it in a moment


def _made(run: RunStatus, summary: RunSummary) -> LatestVersion:
    metrics = tuple(MetricValue(name=name, value=value) for name, value in sorted(summary.metrics.items()))[:32]
    return LatestVersion(name=run.job_name, number=run.number, digest=summary.model_digest, metrics=metrics)


def _conditions(spec: ModelTrainingSpec, after: ModelTrainingStatus, decision: Decision) -> tuple[_Says, ...]:
    return (
        _ready(after, decision),
        _reconciling(after, decision),
        _stalled(after, decision),
        *_outcome(spec, decision),
    )


def _ready(after: ModelTrainingStatus, decision: Decision) -> _Says:
    if after.latest_version is not None:
        newest = after.latest_version
        shown = ", ".join(f"{m.name} {m.value:.4g}" for m in newest.metrics[:4])
        message = f"{newest.name} is the newest accepted version" + (f" ({shown})" if shown else "")
        return _Says("Ready", True, "VersionAvailable", message)
    if after.current_run is not None:
        return _Says("Ready", False, after.current_run.reason, after.current_run.message)
    if isinstance(decision, Suspended):
        return _Says("Ready", False, "Suspended", decision.because)
    last = after.runs[0] if after.runs else None
    if last is not None and last.result in {"Failed", "GateFailed"}:
        return _Says("Ready", False, last.reason or last.result, last.message)
    why = decision.because if isinstance(decision, Wait) and decision.reason == "ScheduleInvalid" else ""
    if why:
        return _Says("Ready", False, "ScheduleInvalid", why)
    fix = "ask for a run with the annotation homeostat.dev/retrain-requested"
    return _Says("Ready", False, "NoVersion", f"no accepted version is there; {fix}")


def _reconciling(after: ModelTrainingStatus, decision: Decision) -> _Says:
    if after.current_run is not None:
        return _Says("Reconciling", True, after.current_run.reason, after.current_run.message)
    match decision:
        case Wait(reason=reason, because=because):
            return _Says("Reconciling", False, reason, because)
        case Suspended(because=because):
            return _Says("Reconciling", False, "Suspended", because)
        case _:
            return _Says("Reconciling", False, "Idle", "no run is under way")


def _stalled(after: ModelTrainingStatus, decision: Decision) -> _Says:
    if isinstance(decision, Wait) and decision.reason == "ScheduleInvalid":
        return _Says("Stalled", True, decision.reason, decision.because)
    last = after.runs[0] if after.runs else None
    failed = last is not None and last.result in {"Failed", "GateFailed"}
    if last is not None and failed and after.latest_version is None and after.current_run is None:
        return _Says("Stalled", True, last.reason or last.result, last.message)
    return _Says("Stalled", False, "NotStalled", "")


def _outcome(spec: ModelTrainingSpec, decision: Decision) -> tuple[_Says, ...]:
    if not isinstance(decision, Finish):
        return ()
    good = decision.result in {"Succeeded", "Unchanged"}
    run = _Says("RunSucceeded", good, decision.reason, decision.because[:TEXT_LENGTH])
    if decision.result == "Failed":
        return (run,)
    gates = decision.summary.gates if decision.summary else ()
    listed = ", ".join(
        f"{g.metric} {g.observed:.4g} {'meets' if g.passed else 'misses'} {g.required}"
        for g in sorted(gates, key=lambda g: g.passed)
    )
    reason = "GatesPassed" if good and spec.gates else "NoGates" if good else "GateFailed"
    return run, _Says("GatesPassed", good, reason, listed or decision.because[:TEXT_LENGTH])
