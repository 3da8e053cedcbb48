"""A ModelDeployment: one version serves, and another one takes its place when the evidence allows it.

The status is written before the cluster is changed, so whoever continues after a crash wants the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from homeostat.api.deployment import ModelDeploymentStatus, Track
from homeostat.api.kinds import Deployment
from homeostat.api.meta import Key
from homeostat.api.names import ANNOTATION_DIGEST, LABEL_TRAINING, LABEL_VERSION
from homeostat.domain.choice import Wanted, candidate, choose
from homeostat.domain.deployment import decide, flight_plan, sight
from homeostat.domain.desired.serving import ANNOTATION_MODEL_DIGEST, child_name, service_url
from homeostat.domain.desired.serving_options import not_carried, options, secrets
from homeostat.domain.flight import Decided, Facts, Flight, Side, flight_of, sides
from homeostat.domain.requests import pending
from homeostat.domain.revision import digest
from homeostat.domain.rollout import Stall, planned_seconds
from homeostat.domain.traffic import traffic
from homeostat.domain.verdict import (
    NO_ANALYSIS,
    Analysis,
    Verdict,
    analysis_from_state,
    analysis_state,
    begin,
    judge,
    metric,
)
from homeostat.reconcile.deployment_children import Applying, serving, wish
from homeostat.reconcile.deployment_optimized import optimized
from homeostat.reconcile.deployment_pods import (
    Diagnosis,
    Pods,
    behind,
    diagnose,
    forward_deadline_ms,
    living_pods,
    unstarted,
)
from homeostat.reconcile.deployment_status import View, carried_trouble, invalid_status, with_conditions
from homeostat.reconcile.ports import World
from homeostat.reconcile.status import status_patch
from homeostat.reconcile.ticks import Subject
from homeostat.runtime.outcome import Done, Outcome, RequeueAfter

EACH_SECOND: Final = 1.0
STALLED_SECONDS: Final = 10.0
TROUBLE_SECONDS: Final = 15.0
SETTLED_SECONDS: Final = 300.0  # safety only: events wake us
ROLES: Final = ("stable", "candidate", "previous")
EXTENDED_SECONDS: Final = 15.0  # a deadline that was put off is stored this long before the stored one


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was gathered."""

    facts: Facts
    pods: Pods
    analysis: Analysis | None


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one ModelDeployment forward by one decision, and the cluster to what it means."""
    deployment = world.deployments.get(key.namespace, key.name)
    if deployment is None or deployment.meta.deleting:
        _stop(key, world)
        return Done()
    now = world.clock.now()
    if deployment.invalid:
        _stop(key, world)
        await world.writer.patch_status(deployment, status_patch(deployment.status, invalid_status(deployment, now)))
        return Done()
    seen = gather(deployment, world, now)
    decided = decide(deployment, seen.facts, now)
    view = _view(deployment, decided, seen, world, now)
    after = await _write(deployment, view, with_conditions(view, now), world)
    _watch(key, after, decided.flight, seen.pods, world)
    trouble = await _apply(replace(deployment, status=after), decided, seen, world)
    if trouble != view.trouble:
        await _write_trouble(key, replace(view, trouble=trouble), world, now)
    stable = after.stable
    calm = view.wanted.problem is None and not view.updating and (stable is None or not seen.pods.unready(stable.child))
    return _outcome(decided, trouble=bool(trouble), settled=calm)


def _stop(key: Key, world: World) -> None:
    world.signals.watch(key, (), interval_seconds=EACH_SECOND)
    world.ticks.forget(key)


def gather(deployment: Deployment, world: World, now: datetime) -> _Seen:
    """What stores and pods tell of this deployment."""
    status, pods = deployment.status, living_pods(deployment, world)
    flight = flight_of(status)
    old = status.stable if flight is None else sides(status, flight.at)[0]
    analysis = _evidence(deployment, flight, pods, world, now)
    stats = [pods.stats[p.meta.uid][1] for p in pods.of(old.child) if p.meta.uid in pods.stats] if old else []
    facts = Facts(
        wanted=_wanted(deployment, world),
        requests=pending(deployment.meta.annotations, status.requests),
        image=world.config.server_image,
        verdict=_verdict(analysis, now),
        taken=_taken(deployment, world),
        ready={child: len(pods.ready(child)) for child in pods.by_child},
        optimized=optimized(deployment, pods),
        old=_side(deployment, old, pods, world),
        new=_new_side(deployment, flight, pods, world, now),
        busy=world.ticks.is_busy(deployment.key, now),
        deadline_ms=forward_deadline_ms(stats),
        pull_policy=world.config.image_pull_policy,
        plain_http=world.config.plain_http,
        doomed=_doomed(status, flight, pods),
    )
    return _Seen(facts, pods, analysis)


def _doomed(status: ModelDeploymentStatus, flight: Flight | None, pods: Pods) -> tuple[str, str] | None:
    """Why the new version can never serve; None while one of its pods is Ready, or while there is hope."""
    new = sides(status, flight.at)[1] if flight is not None else None
    found = diagnose(pods, new.child) if new is not None and not pods.ready(new.child) else None
    return found.doomed if found is not None else None


def _sick(deployment: Deployment, track: Track | None, pods: Pods, now: datetime) -> Diagnosis | None:
    if track is None:
        return None
    named = secrets(options(deployment.spec, track))
    return diagnose(pods, track.child) or unstarted(pods, track.child, named, now)


def _wanted(deployment: Deployment, world: World) -> Wanted:
    namespace, model = deployment.meta.namespace, deployment.spec.model
    follows = model.training_ref.name if model.training_ref is not None else ""
    pinned = model.version_ref.name if model.version_ref is not None else ""
    return choose(
        deployment,
        world.trainings.get(namespace, follows) if follows else None,
        world.versions.labelled(namespace, LABEL_TRAINING, follows) if follows else (),
        world.versions.get(namespace, pinned) if pinned else None,
        world.config.artifacts_uri,
    )


def _taken(deployment: Deployment, world: World) -> dict[str, str]:
    """Model digest by child, of the children that are there."""
    owned = world.workloads.owned_by(deployment.meta.uid)
    return {w.meta.labels.get(LABEL_VERSION, ""): w.meta.annotations.get(ANNOTATION_MODEL_DIGEST, "") for w in owned}


def _side(deployment: Deployment, track: Track | None, pods: Pods, world: World) -> Side:
    if track is None:
        return Side()
    workload = world.workloads.get(deployment.meta.namespace, child_name(deployment, track.child))
    wanted = workload.replicas if workload is not None else 0
    return Side(len(pods.ready(track.child)), wanted, pods.epoch(track.child))


def _new_side(deployment: Deployment, flight: Flight | None, pods: Pods, world: World, now: datetime) -> Side:
    """The new version: pods that forwards surely reach. After the flip, pods that an autoscaler just added are no fault."""
    old, new = (None, None) if flight is None else sides(deployment.status, flight.at)
    side = _side(deployment, new, pods, world)
    if flight is None or new is None or old is None:
        return side
    ready = len(pods.reachable(new.child, now))
    return replace(side, ready=ready, pods=len(pods.started(new.child, now)) if flight.at.flipped else side.pods)


def _evidence(
    deployment: Deployment,
    flight: Flight | None,
    pods: Pods,
    world: World,
    now: datetime,
) -> Analysis | None:
    """The comparison of old and new with what came since the last look; None when nothing is compared."""
    key = deployment.key
    old, new = (None, None) if flight is None else sides(deployment.status, flight.at)
    if flight is None or flight.back or old is None or new is None:
        world.ticks.forget(key)
        return None
    subject = Subject(flight.at.candidate, flight.at.started, old.child, new.child)
    if not world.ticks.known(key, subject):
        world.ticks.start(key, subject, _stored(deployment, flight, now), now)
    readings = [pods.reading(p, new=track is new) for track in (old, new) for p in pods.of(track.child)]
    return world.ticks.collect(key, readings, now, world.clock.monotonic())


def _stored(deployment: Deployment, flight: Flight, now: datetime) -> Analysis:
    status, spec = deployment.status, deployment.spec
    state = status.rollout.state.get("analysis") if status.rollout is not None else None
    found = analysis_from_state(state, now) if isinstance(state, dict) else None
    if found is not None:
        return found
    metrics = [metric(m) for m in spec.analysis.metrics]
    planned = planned_seconds(flight_plan(spec, status, flight))
    return begin(metrics, spec.analysis.false_rollback_rate, planned, flight.at.started)


def _verdict(analysis: Analysis | None, now: datetime) -> Verdict:
    return NO_ANALYSIS if analysis is None else judge(analysis, now)


def _view(deployment: Deployment, decided: Decided, seen: _Seen, world: World, now: datetime) -> View:
    status, flight = decided.status, decided.flight
    new = sides(status, flight.at)[1] if flight is not None else None
    fresh = flight is None or flight.at.first or world.ticks.due(deployment.key, _said(decided), now)
    fresh = fresh or _put_off(deployment, flight, now)
    status = status.model_copy(update={"url": service_url(replace(deployment, status=status))})
    return View(
        deployment=deployment,
        status=_with_evidence(deployment.status, status, seen.analysis, fresh=fresh),
        decided=decided,
        wanted=seen.facts.wanted,
        sick=_sick(deployment, status.stable, seen.pods, now),
        sick_new=_sick(deployment, new, seen.pods, now),
        trouble=carried_trouble(deployment.status),
        late=_late(decided, seen.pods, now),
        updating=flight is None and _updating(replace(deployment, status=status), world),
        paused=flight_plan(deployment.spec, status, None).paused,
        waiting=candidate(seen.facts.wanted, status) is not None,
        fresh=fresh,
    )


def _said(decided: Decided) -> str:
    """What must be written at once: all of the state that later decisions need, apart from evidence and sentences."""
    if decided.flight is None:
        return ""
    at = decided.flight.at
    reason = decided.decision.reason if decided.decision is not None else ""
    return f"{at.candidate} {at.phase} {at.step} {at.epoch} {at.weight} {at.flipped} {at.unready_since} {reason}"


def _put_off(deployment: Deployment, flight: Flight | None, now: datetime) -> bool:
    """Whether the stored deadline is near and was put off, by a pause or for want of stable's pods."""
    before = flight_of(deployment.status)
    if before is None or flight is None or before.at.deadline is None or flight.at.deadline is None:
        return False
    near = min(EXTENDED_SECONDS, deployment.spec.progress_deadline.seconds / 2)
    return before.at.deadline < flight.at.deadline and before.at.deadline <= now + timedelta(seconds=near)


def _with_evidence(
    before: ModelDeploymentStatus, after: ModelDeploymentStatus, analysis: Analysis | None, *, fresh: bool
) -> ModelDeploymentStatus:
    if after.rollout is None:
        return after
    if not fresh and before.rollout is not None:
        return after.model_copy(update={"rollout": before.rollout})
    if analysis is None:
        return after
    state = {**after.rollout.state, "analysis": analysis_state(analysis)}
    return after.model_copy(update={"rollout": after.rollout.model_copy(update={"state": state})})


def _late(decided: Decided, pods: Pods, now: datetime) -> tuple[str, ...]:
    flight = decided.flight
    if flight is None or flight.at.first or flight.at.epoch == 0:
        return ()
    at = flight.at
    old, new = sides(decided.status, at)
    front = new if at.flipped and not at.result else old
    return behind(pods, front.child, at.epoch, at.since, now) if front is not None else ()


def _updating(deployment: Deployment, world: World) -> bool:
    """Whether stable's pods are not yet what the spec says: not applied, not seen by its controller, or not replaced.

    A role is no setting of pods: another one is no update.
    """
    served = next((s for s in wish(deployment, None, None).served if s.role == "stable"), None)
    if served is None:
        return False
    workload = world.workloads.get(deployment.meta.namespace, child_name(deployment, served.track.child))
    if workload is None:
        return True
    applied = workload.meta.annotations.get(ANNOTATION_DIGEST, "").partition("@")[0]
    wanted = (digest(serving(deployment, replace(served, role=role), world)) for role in ROLES)
    behind = workload.observed_generation < workload.meta.generation
    old = workload.updated_replicas < max(workload.replicas, workload.total_replicas)
    return applied not in wanted or behind or old


async def _write(
    deployment: Deployment, view: View, after: ModelDeploymentStatus, world: World
) -> ModelDeploymentStatus:
    changed = await world.writer.patch_status(deployment, status_patch(deployment.status, after))
    if view.fresh and view.flight is not None:
        world.ticks.wrote(deployment.key, _said(view.decided), world.clock.now())
    if changed:
        for note in view.decided.notes:
            world.writer.event(deployment, warning=note.warning, reason=note.reason, note=note.because)
        _tell_trouble(deployment, after, world)
    return after


def _tell_trouble(deployment: Deployment, after: ModelDeploymentStatus, world: World) -> None:
    """An Event when it stalls, or for another reason than before."""
    known = {(c.status, c.reason) for c in deployment.status.conditions if c.type == "Stalled"}
    stalled = next((c for c in after.conditions if c.type == "Stalled" and c.status == "True"), None)
    if stalled is not None and (stalled.status, stalled.reason) not in known:
        world.writer.event(deployment, warning=True, reason=stalled.reason, note=stalled.message)


async def _write_trouble(key: Key, view: View, world: World, now: datetime) -> None:
    """What the writes ran into, or that they run into it no more."""
    current = world.deployments.get(key.namespace, key.name)
    if current is None:
        return
    after = with_conditions(replace(view, deployment=current), now)
    if await world.writer.patch_status(current, status_patch(current.status, after)):
        _tell_trouble(current, after, world)


def _watch(key: Key, status: ModelDeploymentStatus, flight: Flight | None, pods: Pods, world: World) -> None:
    """All pods of a replacement; else only those that do not get Ready, for what they say about it."""
    tracks = (status.stable,) if flight is None else sides(status, flight.at)
    found = [p for t in tracks if t is not None for p in (pods.of if flight is not None else pods.unready)(t.child)]
    world.signals.watch(key, found, interval_seconds=EACH_SECOND)


async def _apply(deployment: Deployment, decided: Decided, seen: _Seen, world: World) -> tuple[tuple[str, str], ...]:
    """Make it true. Returns what was refused."""
    flight, status, spec = decided.flight, deployment.status, deployment.spec
    flow = None
    if flight is not None:
        sighted = sight(spec, status, flight, seen.facts)
        flow = traffic(flight.at, flight_plan(spec, status, flight), sighted)
    applying = Applying(deployment, world, seen.pods)
    await applying.make_true(wish(deployment, flight, flow))
    return tuple([*applying.trouble, *_old_templates(deployment)][:1])


def _old_templates(deployment: Deployment) -> Iterator[tuple[str, str]]:
    """What the spec wants of pods that were made before there was such a thing."""
    for track in (deployment.status.stable, deployment.status.candidate):
        fields = not_carried(deployment.spec, track) if track is not None else ()
        if track is not None and fields:
            fix = "annotate homeostat.dev/refresh-requested to start them anew from the operator's current image"
            yield "RefreshNeeded", f"the pods of {track.child} are of before {', '.join(fields)}: {fix}"


def _outcome(decided: Decided, *, trouble: bool, settled: bool) -> Outcome:
    if decided.flight is not None:
        stalled = isinstance(decided.decision, Stall)
        return RequeueAfter(STALLED_SECONDS if stalled else EACH_SECOND)
    if decided.decision is not None:
        return RequeueAfter(EACH_SECOND)
    if trouble or not settled:
        return RequeueAfter(TROUBLE_SECONDS)
    return RequeueAfter(SETTLED_SECONDS)
