"""A DriftMonitor: windows of counters, a verdict per window, at most one request per action and window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from homeostat.api.deployment import Track
from homeostat.api.drift import Action, ActionStatus
from homeostat.api.kinds import Deployment, Monitor, Training
from homeostat.api.meta import Key
from homeostat.api.names import API_VERSION, LABEL_MODEL, LABEL_VERSION, request_annotation
from homeostat.api.wire.bundle import Baseline
from homeostat.cluster.observed import ObservedPod
from homeostat.domain.actions import (
    Hindrance,
    blocked,
    in_progress,
    last_promotion,
    past_actions,
    recorded,
    request_for,
    requested,
    resolved,
    retrain_hindrance,
    rollback_hindrance,
    undelivered,
)
from homeostat.domain.drift import (
    Act,
    Blocked,
    DriftReport,
    History,
    Window,
    action_policy,
    assess,
    history_from_state,
    next_action,
    policy,
)
from homeostat.domain.rollout_state import MOST_SECONDS
from homeostat.reconcile.drift_status import (
    Says,
    actions_say,
    carried,
    judged,
    no_rows_yet,
    stalled,
    suspended,
    waiting,
    watching,
    with_says,
)
from homeostat.reconcile.ports import World
from homeostat.reconcile.status import status_patch
from homeostat.reconcile.windows import Subject
from homeostat.runtime.outcome import Done, Outcome, RequeueAfter

LASTING: Final = frozenset({"Cooldown", "Budget", "Attempts"})
LATEST_LOOK: Final = 60.0
SOONEST_LOOK: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Watch:
    """A monitor with everything that it needs."""

    monitor: Monitor
    deployment: Deployment
    training: Training | None
    stable: Track
    baseline_digest: str
    pods: tuple[ObservedPod, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a judged window leads to."""

    actions: tuple[ActionStatus, ...]
    taken: tuple[ActionStatus, ...]
    hindrances: tuple[Hindrance, ...]


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one DriftMonitor up to the newest numbers."""
    monitor = world.monitors.get(key.namespace, key.name)
    if monitor is None or monitor.meta.deleting:
        _stop(key, world)
        return Done()
    now = world.clock.now()
    if monitor.invalid:
        _stop(key, world)
        return await _settle(monitor, stalled("SpecInvalid", monitor.invalid), world, now)
    deployment = world.deployments.get(key.namespace, monitor.spec.deployment_ref.name)
    problem = _problem(monitor, deployment)
    stable = deployment.status.stable if deployment is not None else None
    if problem or deployment is None or stable is None or stable.baseline_digest is None:
        _stop(key, world)
        return await _settle(monitor, problem, world, now)
    pods = world.pods.labelled(key.namespace, LABEL_MODEL, deployment.meta.name)
    training = _training(monitor, deployment, world)
    watch = _Watch(monitor, deployment, training, stable, stable.baseline_digest, pods, now)
    world.signals.watch(key, pods, interval_seconds=monitor.spec.interval.seconds)
    return await _look(key, watch, world)


def _stop(key: Key, world: World) -> None:
    world.signals.watch(key, (), interval_seconds=LATEST_LOOK)
    world.windows.forget(key)


async def _settle(monitor: Monitor, says: tuple[Says, ...], world: World, now: datetime) -> Outcome:
    after = with_says(monitor, {}, says, now)
    changed = await world.writer.patch_status(monitor, status_patch(monitor.status, after))
    if changed and says and says[0].status == "False" and says[0].reason != _ready_reason(monitor):
        world.writer.event(monitor, warning=True, reason=says[0].reason, note=says[0].message)
    return Done()


def _ready_reason(monitor: Monitor) -> str:
    return next((c.reason for c in monitor.status.conditions if c.type == "Ready"), "")


def _problem(monitor: Monitor, deployment: Deployment | None) -> tuple[Says, ...]:
    """Why nothing can be watched; empty when something can."""
    name = monitor.spec.deployment_ref.name
    if monitor.spec.suspend:
        return suspended()
    if deployment is None or deployment.meta.deleting:
        fix = "create it, or correct spec.deploymentRef.name"
        return stalled("TargetNotFound", f"ModelDeployment {name} is not in namespace {monitor.meta.namespace}; {fix}")
    stable = deployment.status.stable
    if stable is None:
        return waiting("NoStableVersion", f"ModelDeployment {name} serves no version yet")
    if stable.baseline_digest is None:
        fix = "serve a version that a ModelTraining made"
        return stalled("NoBaseline", f"version {stable.child} of {name} carries no baseline to compare with; {fix}")
    return ()


def _training(monitor: Monitor, deployment: Deployment, world: World) -> Training | None:
    name = next((_training_name(a, deployment) for a in monitor.spec.actions if a.type == "Retrain"), "")
    return world.trainings.get(monitor.meta.namespace, name) if name else None


def _training_name(action: Action, deployment: Deployment) -> str:
    if action.training_ref is not None:
        return action.training_ref.name
    follows = None if deployment.invalid else deployment.spec.model.training_ref
    return follows.name if follows is not None else ""


async def _look(key: Key, watch: _Watch, world: World) -> Outcome:
    monitor, stable, now = watch.monitor, watch.stable, watch.now
    mine = tuple(p for p in watch.pods if p.meta.labels.get(LABEL_VERSION) == stable.child)
    baseline = world.signals.baseline(mine, watch.baseline_digest)
    subject = Subject(monitor.meta.uid, stable.child, stable.digest, watch.baseline_digest)
    latest = ((p.meta.uid, world.signals.latest(p.meta.uid)) for p in watch.pods)
    stats = [(uid, found[1]) for uid, found in latest if found is not None]
    length = timedelta(seconds=min(monitor.spec.window.seconds, MOST_SECONDS))
    window = world.windows.collect(key, subject, stats, now, length)
    actions = resolved(monitor.status.actions, watch.training, watch.deployment)
    says = watching(watch.deployment.meta.name, stable.child)
    if isinstance(window, Window):
        await _judge(key, watch, (window, baseline), actions, world)
        return RequeueAfter(SOONEST_LOOK)
    says = (*says, *no_rows_yet(monitor, stable.child, window.rows, window.end))
    after = with_says(monitor, carried(actions, monitor.status), says, now)
    await world.writer.patch_status(monitor, status_patch(monitor.status, after))
    await _deliver(watch, actions, world)
    left = (window.end - now).total_seconds()
    return RequeueAfter(max(SOONEST_LOOK, min(left, LATEST_LOOK)))


async def _judge(
    key: Key, watch: _Watch, seen: tuple[Window, Baseline | None], actions: tuple[ActionStatus, ...], world: World
) -> None:
    """Assess the window, write the verdict, then act: a crash in between repeats nothing and loses nothing."""
    monitor, now = watch.monitor, watch.now
    window, baseline = seen
    says = watching(watch.deployment.meta.name, watch.stable.child)
    if baseline is None:
        because = f"no pod of {watch.stable.child} gave its baseline; {window.rows:.0f} rows in the window"
        says = (*says, Says("DataAvailable", "False", "InsufficientData", because))
        after = with_says(monitor, carried(actions, monitor.status), says, now)
        await world.writer.patch_status(monitor, status_patch(monitor.status, after))
        world.windows.close(key, window)
        return
    report = assess(window, baseline, policy(monitor.spec), _history(watch))
    plan = _decide(watch, report, actions)
    changes, found = judged(monitor, report, watch.baseline_digest)
    blocked_says = actions_say(bool(plan.taken), plan.hindrances)
    changes.update(carried(plan.actions, monitor.status))
    after = with_says(monitor, changes, (*says, *found, blocked_says), now)
    await world.writer.patch_status(monitor, status_patch(monitor.status, after))
    world.windows.close(key, window)
    await _deliver(watch, plan.actions, world)
    _record(watch, report, plan, world)


def _history(watch: _Watch) -> History:
    """What the windows before left; nothing when they were another version's: its baseline is another."""
    status = watch.monitor.status
    same = status.window is not None and status.window.version == watch.stable.child
    if not same or status.baseline_digest != watch.baseline_digest:
        return History()
    return history_from_state(status.state)


def _decide(watch: _Watch, report: DriftReport, actions: tuple[ActionStatus, ...]) -> _Plan:
    plan = _Plan(actions, (), ())
    for wanted in watch.monitor.spec.actions:
        due = next_action(
            report,
            action_policy(wanted),
            past_actions(plan.actions),
            watch.now,
            monitor_uid=watch.monitor.meta.uid,
            rollout_in_progress=in_progress(watch.deployment),
            promoted=last_promotion(watch.deployment),
        )
        if isinstance(due, Act | Blocked):
            plan = _planned(plan, due, _hindrance(wanted, due, watch), watch)
    return plan


def _hindrance(wanted: Action, due: Act | Blocked, watch: _Watch) -> Hindrance | None:
    own = _target_hindrance(wanted, watch)
    if isinstance(due, Act) or (own is not None and not own.lasting):
        return own  # an attempt that is under way is no failed attempt yet
    return Hindrance(due.reason, due.because, lasting=due.reason in LASTING)


def _target_hindrance(wanted: Action, watch: _Watch) -> Hindrance | None:
    if wanted.type == "Retrain":
        name = _training_name(wanted, watch.deployment)
        if watch.training is not None and watch.training.meta.name != name:
            return Hindrance("SeveralTrainings", "Retrain actions of one monitor must name one training", lasting=True)
        return retrain_hindrance(name, watch.training, watch.deployment)
    return rollback_hindrance(watch.deployment)


def _planned(plan: _Plan, due: Act | Blocked, hindrance: Hindrance | None, watch: _Watch) -> _Plan:
    if hindrance is None and isinstance(due, Act):
        entry = requested(due, watch.now, watch.stable.child)
        return replace(plan, actions=recorded(plan.actions, entry), taken=(*plan.taken, entry))
    if hindrance is None:
        return plan
    seen = recorded(plan.actions, blocked(due, hindrance, watch.now)) if hindrance.lasting else plan.actions
    return replace(plan, actions=seen, hindrances=(*plan.hindrances, hindrance))


async def _deliver(watch: _Watch, actions: tuple[ActionStatus, ...], world: World) -> None:
    """Put the newest request of each type on its target, unless it is or was there."""
    targets: dict[str, Training | Deployment | None] = {"Retrain": watch.training, "Rollback": watch.deployment}
    for kind, target in targets.items():
        newest = next((a for a in actions if a.type == kind and a.result != "Blocked"), None)
        if newest is None or target is None or not undelivered(newest, target):
            continue
        request = request_for(newest, watch.monitor.meta.name)
        text = {request_annotation(request.verb): request.to_text()}
        await world.writer.annotate(API_VERSION, target.kind, target.meta, text)


def _record(watch: _Watch, report: DriftReport, plan: _Plan, world: World) -> None:
    monitor, event = watch.monitor, world.writer.event
    before = {d.name: d.verdict for d in monitor.status.detectors}
    for found in report.found():
        if before.get(found.finding) != "Drift":
            event(monitor, warning=True, reason=f"{found.finding}Found", note=found.because)
    for taken in plan.taken:
        event(monitor, warning=False, reason=f"{taken.type}Requested", note=f"{taken.finding}: {taken.message}")
    told: Any = next((c for c in monitor.status.conditions if c.type == "ActionBlocked"), None)
    for hindrance in plan.hindrances:
        if hindrance.lasting and (told is None or told.reason != hindrance.reason):
            event(monitor, warning=True, reason="ActionBlocked", note=f"{hindrance.reason}: {hindrance.because}")
