"""What a ModelDeployment does next: begins, continues or ends the replacement of a version. Pure; the status is the memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from homeostat.api.base import TEXT_LENGTH
from homeostat.api.deployment import (
    Autoscaling,
    ModelDeploymentSpec,
    ModelDeploymentStatus,
    RolloutHistory,
    RolloutStatus,
    Track,
)
from homeostat.api.kinds import Deployment
from homeostat.api.meta import format_instant
from homeostat.domain.asked import Asked, asked, consume, flight_request, paused, without_stale
from homeostat.domain.choice import candidate, child_of, in_quarantine, quarantined, rollout_target
from homeostat.domain.flight import Decided, Facts, Flight, Note, flight_of, sides
from homeostat.domain.revision import digest
from homeostat.domain.rollout import (
    Advance,
    Complete,
    Decision,
    Phase,
    Plan,
    Promote,
    RollBack,
    Rollout,
    Seen,
    begin,
    next_step,
    plan,
    rollout_state,
)

KEPT_HISTORY: Final = 10
REASON: Final = 128


def decide(deployment: Deployment, facts: Facts, now: datetime) -> Decided:
    """One decision. Total: a status that cannot be read as a replacement counts as none."""
    status = _same_model(deployment.spec, deployment.status)
    wants = asked(facts.requests)
    status = _refreshed(status, wants, facts)
    status, notes = consume(status, wants, facts.image, now)
    flight = flight_of(status)
    status, wants = without_stale(status, wants, _in_question(status, flight), now)
    decided = (
        _on_ground(deployment, status, facts, wants, now)
        if flight is None
        else _in_flight(deployment.spec, status, flight, (facts, wants), now)
    )
    told = tuple(Note(reason, because) for reason, because in notes)
    shown = counted(decided.status, decided.flight, facts)
    return replace(decided, status=shown, notes=(*told, *decided.notes))


def _in_question(status: ModelDeploymentStatus, flight: Flight | None) -> str:
    """Child of the version that a rollback would leave."""
    track = status.stable if flight is None else sides(status, flight.at)[1]
    return "" if track is None else track.child


def flight_plan(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, flight: Flight | None) -> Plan:
    """What the spec wants of this replacement. Going back by request is straight: no steps, no bake, no pause."""
    wanted = replace(plan(spec), paused=spec.paused or paused(status.requests))
    if flight is None or not flight.back:
        return wanted
    return replace(wanted, steps=(), bake_seconds=0.0, holdback=0, paused=False)


def _same_model(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """A changed `spec.model` lifts the quarantine."""
    now = digest(spec.model.to_json())
    if status.model_digest == now:
        return status
    return status.model_copy(
        update={"model_digest": now, "quarantined": () if status.model_digest else status.quarantined}
    )


def _refreshed(status: ModelDeploymentStatus, wants: Asked, facts: Facts) -> ModelDeploymentStatus:
    """All tracks with the operator's present settings of pods, when that is asked for."""
    if "refresh" not in wants.by_verb:
        return status
    tracks = {"stable": status.stable, "candidate": status.candidate, "previous": status.previous}
    return status.model_copy(update={r: t.model_copy(update=facts.pod) for r, t in tracks.items() if t is not None})


def _on_ground(
    deployment: Deployment, status: ModelDeploymentStatus, facts: Facts, wants: Asked, now: datetime
) -> Decided:
    for verb in ("promote", "promote-full", "abort"):
        status = wants.echoed(status, verb, now, "no rollout is under way")
    if "rollback" in wants.by_verb:
        return _return(deployment, status, wants, now)
    track = candidate(facts.wanted, status)
    if track is None or flight_plan(deployment.spec, status, None).paused:
        return Decided(status)
    return _begin(deployment, status, _named(track, status, facts), Flight(_start(deployment, status, track, now)))


def _named(track: Track, status: ModelDeploymentStatus, facts: Facts) -> Track:
    """The track with child, image and what is pinned with it; a version that is kept idle keeps its own."""
    idle = status.previous
    if idle is not None and idle.digest == track.digest:
        kept = {"child": idle.child, "image": idle.image, "template": idle.template}
        return track.model_copy(update={**kept, "pull_policy": idle.pull_policy, "plain_http": idle.plain_http})
    own = {t.child: t.digest for t in (status.stable, status.previous) if t is not None}
    return track.model_copy(update={"child": child_of(track, {**facts.taken, **own}), **facts.pod})


def _start(deployment: Deployment, status: ModelDeploymentStatus, track: Track, now: datetime) -> Rollout:
    wanted, first = flight_plan(deployment.spec, status, None), status.stable is None
    return begin(track.digest, wanted, now, epoch=status.epoch, first=first)


def _begin(deployment: Deployment, status: ModelDeploymentStatus, track: Track, flight: Flight) -> Decided:
    name = track.version_name or track.child
    stable = status.stable
    what = (
        f"{name} is the first version" if stable is None else f"{name} replaces {stable.version_name or stable.child}"
    )
    message = f"{deployment.meta.name}: {what}"
    status = status.model_copy(update={"candidate": track, "rollout": _shown(flight, message)})
    note = Note("RolloutStarted", message, rolled_back=True if flight.back else None)
    return Decided(status, flight, notes=(note,))


def _return(deployment: Deployment, status: ModelDeploymentStatus, wants: Asked, now: datetime) -> Decided:
    """Back to the previous version after the bake: a straight replacement that starts its pods first."""
    stable, previous = status.stable, status.previous
    if stable is None or previous is None:
        return Decided(wants.echoed(status, "rollback", now, "there is no previous version to go back to"))
    bad = in_quarantine(status, previous)
    if bad is not None:
        why = f"the previous version {previous.child} is quarantined ({bad.reason})"
        return Decided(wants.echoed(status, "rollback", now, why))
    status = wants.echoed(status, "rollback", now, f"{stable.child} goes back to {previous.child}")
    status = status.model_copy(update={"quarantined": quarantined(status, stable.digest, "RollbackRequested", now)})
    straight = replace(flight_plan(deployment.spec, status, None), steps=())
    at = begin(previous.digest, straight, now, epoch=status.epoch, first=False)
    return _begin(deployment, status, previous, Flight(at, back=True))


def _in_flight(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    flight: Flight,
    given: tuple[Facts, Asked],
    now: datetime,
) -> Decided:
    facts, wants = given
    seen = sight(spec, status, flight, facts, wants)
    decision = next_step(flight.at, seen, now)
    fixed = flight.deadline_ms or (facts.deadline_ms if decision.after.epoch > flight.at.epoch else 0)
    after = replace(flight, at=decision.after, deadline_ms=fixed)
    status = _echoes(status, flight, decision, wants, now)
    status = status.model_copy(update={"epoch": max(status.epoch, decision.after.epoch)})
    status, notes = _moved(status, after, decision, now)
    if isinstance(decision, Complete):
        return Decided(status.model_copy(update={"rollout": None}), None, decision, notes)
    return Decided(status.model_copy(update={"rollout": _shown(after, decision.because)}), after, decision, notes)


def sight(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    flight: Flight,
    facts: Facts,
    wants: Asked | None = None,
) -> Seen:
    """The facts as the replacement's decision sees them."""
    new = sides(status, flight.at)[1]
    target = rollout_target(facts.wanted, status, flight.at, new.number if new else 0)
    most = spec.replicas if spec.replicas is not None else (spec.autoscaling or Autoscaling()).max_replicas
    return Seen(
        plan=flight_plan(spec, status, flight),
        wanted=flight.at.candidate if flight.back else target,
        verdict=facts.verdict,
        stable_ready=facts.old.ready,
        candidate_ready=facts.new.ready,
        candidate_pods=facts.new.pods,
        candidate_most=most,
        stable_epoch=facts.old.epoch,
        candidate_epoch=facts.new.epoch,
        busy=facts.busy,
        doomed=facts.doomed,
        request=flight_request(wants, back=flight.back),
    )


def _echoes(
    status: ModelDeploymentStatus, flight: Flight, decision: Decision, wants: Asked, now: datetime
) -> ModelDeploymentStatus:
    """What was asked for is consumed with the decision that follows from it; `promote-full` stays until the flip."""
    came = f"{decision.reason}: {decision.because}"
    if flight.at.first:
        came = "a first version replaces nothing, so there is nothing to promote or to go back to"
    status = wants.echoed(status, "promote", now, came)
    for verb in ("rollback", "abort"):
        if isinstance(decision, RollBack | Complete) or flight.at.first or flight.at.phase is Phase.RETURNING:
            status = wants.echoed(status, verb, now, came)
    waits = decision.after.phase in (Phase.FILLING, Phase.MIRRORING, Phase.SHIFTING) and not flight.at.first
    return status if waits else wants.echoed(status, "promote-full", now, came)


def _moved(
    status: ModelDeploymentStatus, flight: Flight, decision: Decision, now: datetime
) -> tuple[ModelDeploymentStatus, tuple[Note, ...]]:
    """Roles, quarantine and history after a decision."""
    old, new = sides(status, decision.after)
    match decision:
        case Advance():
            return status, (Note(decision.reason, decision.because),)
        case Promote():
            moved = {"stable": new, "previous": old, "candidate": None}
            return status.model_copy(update=moved), (Note("Promoted", decision.because),)
        case RollBack():
            return _rolled_back(status, flight, decision, now)
        case Complete():
            return _completed(status, flight, decision, now)
        case _:
            return status, ()


def _rolled_back(
    status: ModelDeploymentStatus, flight: Flight, decision: RollBack, now: datetime
) -> tuple[ModelDeploymentStatus, tuple[Note, ...]]:
    old, new = sides(status, decision.after)
    changes: dict[str, Any] = {}
    if decision.after.flipped:
        changes = {"stable": old, "candidate": new, "previous": None}
    fault = decision.quarantine and not flight.back
    if fault and new is not None:
        changes["quarantined"] = quarantined(status, new.digest, decision.reason, now)
    name = "" if new is None else new.version_name or new.child
    note = Note("RolledBack" if fault else decision.reason, f"{name}: {decision.because}", fault, fault or None)
    return status.model_copy(update=changes), (note,)


def _completed(
    status: ModelDeploymentStatus, flight: Flight, decision: Complete, now: datetime
) -> tuple[ModelDeploymentStatus, tuple[Note, ...]]:
    at = decision.after
    old, new = sides(status, at)
    promoted = at.result == "Promoted"
    changes: dict[str, Any] = {"candidate": None}
    if promoted and at.first:
        changes["stable"] = new
    elif not promoted and at.flipped:
        changes["previous"] = new  # kept idle as the record of what was before; quarantined
    left = old if flight.back and promoted else new
    result = "RolledBack" if flight.back else at.result or "Superseded"
    entry = RolloutHistory(
        version_name=(left.version_name or left.child) if left else "",
        digest=left.digest if left else at.candidate,
        started=format_instant(at.started),
        ended=format_instant(now),
        result=result,
        reason=("RollbackRequested" if flight.back else decision.reason)[:REASON],
        message=decision.because[:TEXT_LENGTH],
    )
    changes["history"] = (entry, *status.history)[:KEPT_HISTORY]
    note = Note(
        "RolloutCompleted" if promoted else "RolloutEnded",
        f"{entry.version_name}: {decision.because}",
        rolled_back=False if promoted and not flight.back else None,
    )
    return status.model_copy(update=changes), (note,)


def _shown(flight: Flight, message: str) -> RolloutStatus:
    at = flight.at
    state: dict[str, Any] = rollout_state(at)
    if flight.back:
        state["back"] = True
    if flight.deadline_ms:
        state["deadlineMs"] = flight.deadline_ms
    return RolloutStatus(
        phase=at.phase.value,
        step=at.step,
        started=format_instant(at.started),
        since=format_instant(at.since),
        deadline=format_instant(at.deadline) if at.deadline else None,
        epoch=at.epoch,
        message=message[:TEXT_LENGTH],
        state=state,
    )


def counted(status: ModelDeploymentStatus, flight: Flight | None, facts: Facts) -> ModelDeploymentStatus:
    """The tracks with their Ready pods, weights, the weights that all Ready pods apply, and how they were optimised."""
    changes: dict[str, Any] = {}
    weights = _weights(status, flight)
    for role in ("stable", "candidate", "previous"):
        track: Track | None = getattr(status, role)
        if track is None:
            continue
        weight = weights.get(role, 0)
        applied = weight if _applies(flight, facts) else track.applied_weight
        ready = facts.ready.get(track.child, 0)
        counts = {"weight": weight, "applied_weight": applied, "ready_replicas": ready}
        optimized = facts.optimized.get(track.child, track.optimization)
        changes[role] = track.model_copy(update={**counts, "optimization": optimized})
    return status.model_copy(update=changes)


def _weights(status: ModelDeploymentStatus, flight: Flight | None) -> dict[str, int]:
    if flight is None or flight.at.first or flight.at.phase is Phase.RETURNING:
        return {"stable": 100}
    weight = flight.at.weight if flight.at.phase is not Phase.FINISHING else 100
    flipped = status.stable is not None and status.stable.digest == flight.at.candidate
    return {"stable": weight, "previous": 100 - weight} if flipped else {"stable": 100 - weight, "candidate": weight}


def _applies(flight: Flight | None, facts: Facts) -> bool:
    if flight is None or flight.at.first:
        return True
    front = facts.new if flight.at.flipped and flight.at.phase is not Phase.RETURNING else facts.old
    return front.ready > 0 and front.epoch is not None and front.epoch >= flight.at.epoch
