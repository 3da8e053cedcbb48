"""What the conditions of a deployment say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from homeostat.api.base import TEXT_LENGTH
from homeostat.api.deployment import ModelDeploymentStatus, Quarantine, Track
from homeostat.api.kinds import Deployment
from homeostat.domain.choice import Problem, Wanted, in_quarantine
from homeostat.domain.conditions import Condition, with_condition
from homeostat.domain.flight import Decided, Flight
from homeostat.domain.rollout import Decision, Phase, Stall
from homeostat.reconcile.deployment_pods import Diagnosis
from homeostat.reconcile.status import read_conditions, written_conditions

TROUBLES: Final = frozenset({"NameTaken", "ChildRefused", "RefreshNeeded"})
NOTHING: Final = "NotStalled"
ALTERNATING: Final = frozenset({"ImageUnavailable"})  # the kubelet alternates between two texts; one is enough


@dataclass(frozen=True, slots=True)
class Says:
    """What one condition says."""

    type: str
    true: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What there is to say. status: after the decision. sick, sick_new: why stable, the new version has no Ready pod.

    trouble: what was refused. late: pods behind their route. updating: stable's pods are being replaced.
    paused: no rollout may begin. waiting: there is a version that could be rolled out. fresh: numbers may change.
    """

    deployment: Deployment
    status: ModelDeploymentStatus
    decided: Decided
    wanted: Wanted
    sick: Diagnosis | None = None
    sick_new: Diagnosis | None = None
    trouble: tuple[tuple[str, str], ...] = ()
    late: tuple[str, ...] = ()
    updating: bool = False
    paused: bool = False
    waiting: bool = False
    fresh: bool = True

    @property
    def flight(self) -> Flight | None:
        """The replacement under way."""
        return self.decided.flight

    @property
    def problem(self) -> Problem | None:
        """Why nothing can be chosen; None when what is served is of the training or version that the spec names."""
        problem, stable = self.wanted.problem, self.status.stable
        if problem is None or stable is None or not self.wanted.training:
            return problem
        own = stable.version_name == f"{self.wanted.training}-{stable.number}"
        return None if own else problem

    @property
    def banned(self) -> Quarantine | None:
        """Why the wanted version is not rolled out; None when it is served, or may be."""
        track, stable = self.wanted.track, self.status.stable
        served = track is not None and stable is not None and track.digest == stable.digest
        return None if served else in_quarantine(self.status, track)


def carried_trouble(status: ModelDeploymentStatus) -> tuple[tuple[str, str], ...]:
    """What was refused last time: it holds until the writes of this reconcile have been tried."""
    return tuple((c.reason, c.message) for c in status.conditions if c.type == "Stalled" and c.reason in TROUBLES)


def with_conditions(view: View, now: datetime) -> ModelDeploymentStatus:
    """The status with its conditions. A sentence with other numbers replaces the old one only when `fresh`."""
    stalled = _stalled(view)
    says = (
        _ready(view),
        _available(view),
        _reconciling(view, is_stalled=stalled.true),
        stalled,
        _progressing(view),
        _route_applied(view),
        *_rolled_back(view),
    )
    return _with_says(view.deployment, view.status, says, now, fresh=view.fresh)


def invalid_status(deployment: Deployment, now: datetime) -> ModelDeploymentStatus:
    """The status of a deployment whose spec cannot be read: what is served goes on."""
    says = (
        Says("Ready", False, "SpecInvalid", deployment.invalid),
        Says("Reconciling", False, "SpecInvalid", "waits for a changed spec"),
        Says("Stalled", True, "SpecInvalid", deployment.invalid),
    )
    return _with_says(deployment, deployment.status, says, now, fresh=True)


def _with_says(
    deployment: Deployment, status: ModelDeploymentStatus, says: tuple[Says, ...], now: datetime, *, fresh: bool
) -> ModelDeploymentStatus:
    generation = deployment.meta.generation
    conditions = read_conditions(deployment.status.conditions)
    known = {c.type: c for c in conditions}
    for said in says:
        state: Literal["True", "False"] = "True" if said.true else "False"
        old, message = known.get(said.type), said.message[:TEXT_LENGTH]
        same = old is not None and (old.status, old.reason) == (state, said.reason)
        if old is not None and same and (not fresh or said.reason in ALTERNATING):
            message = old.message
        conditions = with_condition(conditions, Condition(said.type, state, said.reason, message, now, generation))
    return status.model_copy(update={"observed_generation": generation, "conditions": written_conditions(conditions)})


def _name(track: Track) -> str:
    return track.version_name or track.child


def _because(decision: Decision | None, status: ModelDeploymentStatus) -> str:
    if decision is not None:
        return decision.because
    return status.rollout.message if status.rollout is not None else ""


def _ready(view: View) -> Says:  # noqa: PLR0911 one exit per case
    if view.trouble:
        return Says("Ready", False, *view.trouble[0])
    stable = view.status.stable
    if stable is None:
        return Says("Ready", False, *_not_yet(view))
    if stable.ready_replicas == 0:
        reason, because = (view.sick.reason, view.sick.because) if view.sick else ("NoReadyPods", "no pod is Ready")
        return Says("Ready", False, reason, f"{_name(stable)}: {because}")
    if view.flight is not None:
        return Says("Ready", True, *_under_way(view, view.flight, stable))
    if view.problem is not None and view.problem.lasting:
        return Says("Ready", False, view.problem.reason, f"{view.problem.because}; {_name(stable)} serves on")
    if view.banned is not None and view.deployment.spec.model.training_ref is None:
        return Says("Ready", False, "RolledBack", _rolled_back_words(view, view.banned, stable))
    return Says("Ready", True, "Serving", f"{_name(stable)} serves with {stable.ready_replicas} Ready pods")


def _not_yet(view: View) -> tuple[str, str]:
    """Why no version serves."""
    if view.flight is not None:
        if view.sick_new is not None:
            return view.sick_new.reason, view.sick_new.because
        stalled = isinstance(view.decided.decision, Stall)
        because = _because(view.decided.decision, view.status) or "the first version starts"
        return "ProgressDeadlineExceeded" if stalled else "Starting", because
    if view.problem is not None:
        return view.problem.reason, view.problem.because
    if view.paused:
        return "Paused", "paused: the first version is not started"
    if view.banned is not None:
        return "Quarantined", f"the wanted version is quarantined ({view.banned.reason})"
    return "Starting", "the first version starts"


def _under_way(view: View, flight: Flight, stable: Track) -> tuple[str, str]:
    because = _because(view.decided.decision, view.status)
    candidate = view.status.candidate
    if flight.at.phase is Phase.RETURNING:
        return "RollingBack", f"all requests go back to {_name(stable)}: {because}"
    if stable.digest == flight.at.candidate:
        return "Baking", f"{_name(stable)} was promoted: {because}"
    sick = f" ({view.sick_new.reason}: {view.sick_new.because})" if view.sick_new is not None else ""
    name = _name(candidate) if candidate is not None else ""
    return "RollingOut", f"{_name(stable)} serves; {name} gets {flight.at.weight} %: {because}{sick}"


def _rolled_back_words(view: View, bad: Quarantine, stable: Track) -> str:
    track = view.wanted.track
    name = _name(track) if track is not None and (track.version_name or track.child) else "the wanted version"
    fix = "change spec.model, or annotate homeostat.dev/lift-requested"
    return f"{name} was rolled back ({bad.reason}) and {_name(stable)} serves; {fix}"


def _available(view: View) -> Says:
    stable = view.status.stable
    ready = stable.ready_replicas if stable is not None else 0
    if stable is None or ready == 0:
        return Says("Available", False, "NoReadyPods", "no pod behind the front Service is Ready")
    return Says("Available", True, "PodsReady", f"{ready} pods of {_name(stable)} are Ready")


def _stalled(view: View) -> Says:
    if view.trouble:
        return Says("Stalled", True, *view.trouble[0])
    status = view.status
    if view.problem is not None and view.problem.lasting:
        return Says("Stalled", True, view.problem.reason, view.problem.because)
    first = view.flight is not None and view.flight.at.first
    sick = view.sick_new if first else view.sick
    unserved = first or view.updating or (status.stable is not None and status.stable.ready_replicas == 0)
    if unserved and sick is not None and sick.lasting:
        return Says("Stalled", True, sick.reason, sick.because)
    if first and isinstance(view.decided.decision, Stall):
        return Says("Stalled", True, view.decided.decision.reason, view.decided.decision.because)
    pinned = view.deployment.spec.model.training_ref is None
    if view.flight is None and view.banned is not None and pinned and status.stable is not None:
        return Says("Stalled", True, "RolledBack", _rolled_back_words(view, view.banned, status.stable))
    return Says("Stalled", False, NOTHING)


def _reconciling(view: View, *, is_stalled: bool) -> Says:
    if is_stalled:
        return Says("Reconciling", False, "Stalled", "waits for a change")
    if view.flight is not None:
        return Says("Reconciling", True, view.flight.at.phase.value, _because(view.decided.decision, view.status))
    if view.status.stable is None:
        return Says("Reconciling", True, *_not_yet(view))
    if view.status.stable.ready_replicas == 0:
        return Says("Reconciling", True, "NoReadyPods", "pods are starting")
    if view.updating:
        sick = f" ({view.sick.reason}: {view.sick.because})" if view.sick is not None else ""
        because = f"pods with changed settings take the place of the old ones{sick}"
        return Says("Reconciling", True, "PodsUpdating", because)
    return Says("Reconciling", False, "Settled", "nothing is being replaced")


def _progressing(view: View) -> Says:
    decision = view.decided.decision
    if view.flight is not None:
        reason = decision.reason if decision is not None else "RolloutStarted"
        return Says("Progressing", not isinstance(decision, Stall), reason, _because(decision, view.status))
    if view.banned is not None:
        fix = "a newer version is tried; annotate homeostat.dev/lift-requested to try this one again"
        return Says(
            "Progressing", False, "Quarantined", f"the wanted version is quarantined ({view.banned.reason}); {fix}"
        )
    if view.paused and view.waiting:
        return Says("Progressing", False, "Paused", "paused: the wanted version is not rolled out")
    return Says("Progressing", False, "Settled", "no version is being rolled out")


def _route_applied(view: View) -> Says:
    if view.flight is None or view.flight.at.first:
        return Says("RouteApplied", True, "NoRoute", "no pod forwards requests")
    if view.late:
        shown = ", ".join(view.late[:10])
        return Says(
            "RouteApplied", False, "PodsBehind", f"{shown} do not apply route {view.flight.at.epoch} after 10 s"
        )
    return Says("RouteApplied", True, "Applied", f"route {view.flight.at.epoch} is on all pods, none is 10 s behind")


def _rolled_back(view: View) -> tuple[Says, ...]:
    told = [n for n in view.decided.notes if n.rolled_back is not None]
    if told:
        last = told[-1]
        return (Says("RolledBack", bool(last.rolled_back), last.reason, last.because),)
    if any(c.type == "RolledBack" for c in view.deployment.status.conditions):
        return ()
    return (Says("RolledBack", False, "NotRolledBack", "no version was rolled back"),)
