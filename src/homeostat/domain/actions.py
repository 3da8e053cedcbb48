"""What came of a monitor's actions, and whether another may begin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from homeostat.api.base import TEXT_LENGTH
from homeostat.api.drift import ActionStatus
from homeostat.api.kinds import Deployment, Training
from homeostat.api.meta import RequestEcho, format_instant, parse_instant
from homeostat.api.names import request_annotation
from homeostat.domain.choice import in_quarantine
from homeostat.domain.drift import Act, Blocked, PastAction
from homeostat.domain.requests import Request, pending, read

KEPT: Final = 10  # of each type, so that every budget and maxAttempts can be counted
VERBS: Final = {"Retrain": "retrain", "Rollback": "rollback"}


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why an action is not taken now. `lasting`: a person should look; else it passes by itself."""

    reason: str
    because: str
    lasting: bool = False


def in_progress(deployment: Deployment) -> bool:
    """Whether a version is being replaced, its bake included."""
    rollout = deployment.status.rollout
    return rollout is not None and rollout.phase != "Done"


def last_promotion(deployment: Deployment) -> datetime | None:
    """When a version was promoted last, by whomever; None when none is known."""
    return max((parse_instant(h.ended) for h in deployment.status.history if h.result == "Promoted"), default=None)


def past_actions(actions: Iterable[ActionStatus]) -> tuple[PastAction, ...]:
    """The actions of a status as the decision wants them."""
    return tuple(PastAction(a.id, a.type, parse_instant(a.time), a.result) for a in actions)


def resolved(
    actions: tuple[ActionStatus, ...], training: Training | None, deployment: Deployment
) -> tuple[ActionStatus, ...]:
    """The actions with the results that are known by now."""
    return tuple(a if a.result != "Requested" else _resolve(a, training, deployment) for a in actions)


def _resolve(action: ActionStatus, training: Training | None, deployment: Deployment) -> ActionStatus:
    if action.type == "Rollback":
        return _after_rollback(action, deployment)
    runs = training.status.runs if training is not None else ()
    run = next((r for r in runs if r.trigger.source == action.id), None)
    if run is None or run.result == "Running":
        return action
    if run.result != "Succeeded":
        return _ended(action, "Failed", run.reason or run.result, run.message)
    return _after_rollout(action, run.version_name or "", deployment)


def _after_rollback(action: ActionStatus, deployment: Deployment) -> ActionStatus:
    since, status = parse_instant(action.time), deployment.status
    echo = status.requests.get("rollback")
    answered = echo is not None and echo.id == action.id
    stays = bool(action.version) and status.stable is not None and status.stable.child == action.version
    back = (h for h in status.history if h.reason == "RollbackRequested" and parse_instant(h.ended) >= since)
    gone = next(back, None)
    if answered and gone is not None and not stays:
        return _ended(action, "Done", "RolledBack", f"{gone.version_name} was rolled back")
    later = (h for h in status.history if h.result == "Promoted" and parse_instant(h.ended) > since)
    after = next(later, None)
    if after is not None:
        return _ended(action, "Promoted", "PromotedSince", f"{after.version_name} was promoted since")
    if echo is not None and answered and not in_progress(deployment):
        return _ended(action, "Failed", "NotPossible", echo.result)
    return action


def _after_rollout(action: ActionStatus, name: str, deployment: Deployment) -> ActionStatus:
    past = next((h for h in deployment.status.history if h.version_name == name), None)
    stable = deployment.status.stable
    if past is not None and past.result != "Promoted":
        return _ended(action, "Failed", past.result, f"{name}: {past.message or past.reason}")
    if past is not None or (stable is not None and stable.version_name == name and not in_progress(deployment)):
        return _ended(action, "Promoted", "Promoted", f"{name} was promoted")
    return action


def _ended(action: ActionStatus, result: str, reason: str, message: str) -> ActionStatus:
    return action.model_copy(update={"result": result, "reason": reason[:128], "message": message[:TEXT_LENGTH]})


def retrain_hindrance(name: str, training: Training | None, deployment: Deployment) -> Hindrance | None:
    """Why asking for a run makes no sense now. name: of the training wanted, empty when none is known."""
    if not name:
        fix = "set trainingRef in the action, or let the deployment follow a training"
        return Hindrance("NoTraining", f"{deployment.meta.name} follows no ModelTraining; {fix}", lasting=True)
    if training is None or training.invalid:
        return Hindrance("TrainingNotFound", f"ModelTraining {name} is not there (or not readable)", lasting=True)
    run = training.status.current_run
    if run is not None:
        return Hindrance("RunInProgress", f"run {run.number} of {name} is under way")
    if any(r.verb == "retrain" for r in pending(training.meta.annotations, training.status.requests)):
        return Hindrance("RunInProgress", f"{name} was asked for a run that has not started yet")
    return _awaiting_rollout(name, training, deployment)


def _awaiting_rollout(name: str, training: Training, deployment: Deployment) -> Hindrance | None:
    newest, status = training.status.latest_version, deployment.status
    follows = deployment.spec.model.training_ref
    if newest is None or follows is None or follows.name != name:
        return None
    tried = {q.digest for q in status.quarantined} | {h.digest for h in status.history}
    stable = status.stable
    served = stable is not None and (newest.digest == stable.digest or newest.number <= stable.number)
    if served or newest.digest in tried:
        return None
    return Hindrance("RolloutAwaited", f"{newest.name} is made but not rolled out yet")


def rollback_hindrance(deployment: Deployment) -> Hindrance | None:
    """Why asking to go back makes no sense now."""
    name, previous = deployment.meta.name, deployment.status.previous
    if previous is None:
        return Hindrance("NoPreviousVersion", f"{name} has no version to go back to", lasting=True)
    bad = in_quarantine(deployment.status, previous)
    if bad is None:
        return None
    because = f"the previous version {previous.child} of {name} is quarantined ({bad.reason})"
    return Hindrance("PreviousQuarantined", because[:TEXT_LENGTH], lasting=True)


def requested(act: Act, now: datetime, version: str = "") -> ActionStatus:
    """An action that is taken now. version: the stable one."""
    return _entry(act, "Requested", act.finding, act.because, now).model_copy(update={"version": version})


def blocked(act: Act | Blocked, hindrance: Hindrance, now: datetime) -> ActionStatus:
    """An action that is due and not taken."""
    return _entry(act, "Blocked", hindrance.reason, hindrance.because, now)


def _entry(
    act: Act | Blocked, result: Literal["Requested", "Blocked"], reason: str, message: str, now: datetime
) -> ActionStatus:
    return ActionStatus(
        id=act.id,
        type=act.type,
        finding=act.finding,
        time=format_instant(now),
        result=result,
        reason=reason[:128],
        message=message[:TEXT_LENGTH],
    )


def recorded(actions: tuple[ActionStatus, ...], entry: ActionStatus) -> tuple[ActionStatus, ...]:
    """`actions` with one more, newest first; `KEPT` of its type, and of blocked ones the newest: they cost no budget."""
    same = [a for a in (entry, *actions) if a.type == entry.type]
    taken = [a for a in same if a.result != "Blocked"][:KEPT]
    kept = {a.id for a in taken}
    return (entry, *(a for a in actions if a.type != entry.type or (a.result != "Blocked" and a.id in kept)))


def request_for(action: ActionStatus, monitor: str) -> Request:
    """The request that carries out an action."""
    version = action.version if action.type == "Rollback" else ""
    trigger = "Degradation" if action.finding == "Degradation" else "Drift"
    reason = f"{action.finding}: {action.message}"
    return Request(VERBS[action.type], action.id, f"DriftMonitor/{monitor}", reason, trigger, version)


def undelivered(action: ActionStatus, target: Training | Deployment) -> bool:
    """Whether the action's request is neither on its target nor was it ever.

    It was (or something later was) when the echo is not older than the action; another one's pending request is not
    overwritten.
    """
    if action.result != "Requested":
        return False
    verb = VERBS[action.type]
    text = target.meta.annotations.get(request_annotation(verb), "")
    echo: RequestEcho | None = target.status.requests.get(verb)
    if read(verb, text).id == action.id or (echo is not None and echo.id == action.id):
        return False
    if echo is not None and parse_instant(echo.time) >= parse_instant(action.time):
        return False
    return not any(r.verb == verb for r in pending(target.meta.annotations, target.status.requests))
