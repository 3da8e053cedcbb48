"""What a replacement is: where it stands, what is seen of it, what may be decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, get_args

from homeostat.api.deployment import ModelDeploymentSpec
from homeostat.api.meta import format_instant, parse_instant
from homeostat.domain.verdict import Verdict

MOST_SECONDS: Final = 10 * 365 * 86400.0  # a longer duration is as good as never, and fits the calendar

Result = Literal["", "Promoted", "RolledBack", "Superseded"]
Request = Literal["", "Promote", "PromoteFull", "Abort", "Rollback"]


class Phase(StrEnum):
    """What the replacement waits for."""

    SCALING = "Scaling"  # candidate's pods for the step's weight
    ROUTING = "Routing"  # old pods apply the step's weight
    HOLDING = "Holding"  # evidence and the step's duration
    FILLING = "Filling"  # candidate gets as many ready pods as stable has
    MIRRORING = "Mirroring"  # candidate's pods apply the holdback route
    SHIFTING = "Shifting"  # old pods apply all but the holdback
    BAKING = "Baking"  # flipped; the old version keeps the holdback
    FINISHING = "Finishing"  # new pods drop the holdback route
    RETURNING = "Returning"  # everything goes back to the old version
    DONE = "Done"


@dataclass(frozen=True, slots=True)
class Step:
    """Share of the requests in percent, and how long it is held at least."""

    weight: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What the spec wants of a replacement."""

    steps: tuple[Step, ...]
    bake_seconds: float
    holdback: int
    progress_seconds: float
    on_inconclusive: Literal["Pause", "Promote", "Rollback"] = "Pause"
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """Where a replacement stands; fits in status.

    candidate: digest of the new version. weight: percent that old pods send to the new version. epoch: of all routes.
    since: the clock of the phase (of the step: when its weight was applied). deadline: of readiness, route, promotion.
    unready_since: when under half of the new pods were Ready first. old_pods: the old version's count at the flip.
    first: nothing is replaced. result, reason, because: how it ends.
    """

    candidate: str
    phase: Phase
    started: datetime
    since: datetime
    epoch: int
    step: int = 0
    weight: int = 0
    deadline: datetime | None = None
    unready_since: datetime | None = None
    old_pods: int = 0
    flipped: bool = False
    first: bool = False
    result: Result = ""
    reason: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there. wanted: digest that should be rolled out now (the newest that may be).

    *_ready: Ready pods. candidate_pods: pods it should have. candidate_most: its upper bound.
    *_epoch: the lowest epoch that a Ready pod of that version applies, None when one tells nothing (or none is Ready).
    busy: the candidate answered over 1 % of 30 s with 429 or 503. request: what a person or monitor asks for, unconsumed.
    doomed: reason and sentence of a fault of the candidate's model that no waiting mends; None without one.
    """

    plan: Plan
    wanted: str
    verdict: Verdict
    stable_ready: int
    candidate_ready: int
    candidate_pods: int
    candidate_most: int = 1000
    stable_epoch: int | None = None
    candidate_epoch: int | None = None
    busy: bool = False
    request: Request = ""
    doomed: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing changes before `until`, or before something else is seen."""

    after: Rollout
    until: datetime
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Advance:
    """`after` holds from now: its traffic is to be made true."""

    after: Rollout
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Promote:
    """The flip: the front Service selects the new version from now."""

    after: Rollout
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Everything goes back to the old version. `quarantine`: the digest is at fault (it was not merely superseded)."""

    after: Rollout
    reason: str
    because: str
    quarantine: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """It is over: the version that lost may be scaled away. `after.result` says how it ended."""

    after: Rollout
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Stall:
    """A first version that does not get Ready. It may still; the next one replaces it; nothing is quarantined."""

    after: Rollout
    reason: str
    because: str


Decision = Hold | Advance | Promote | RollBack | Complete | Stall


def plan(spec: ModelDeploymentSpec) -> Plan:
    """The spec's words as numbers."""
    return Plan(
        steps=tuple(Step(s.weight, s.duration.seconds) for s in spec.strategy.canary.steps),
        bake_seconds=spec.bake.duration.seconds,
        holdback=spec.bake.holdback,
        progress_seconds=spec.progress_deadline.seconds,
        on_inconclusive=spec.analysis.on_inconclusive,
        paused=spec.paused,
    )


def planned_seconds(wanted: Plan) -> float:
    """The longest that evidence is planned for: twice each step, and the bake."""
    return sum(2 * s.duration_seconds for s in wanted.steps) + wanted.bake_seconds


def begin(candidate: str, wanted: Plan, now: datetime, *, epoch: int, first: bool) -> Rollout:
    """A replacement from its start. epoch: the deployment's counter so far. first: there is no version to replace."""
    straight = first or not wanted.steps
    phase = Phase.FILLING if straight else Phase.SCALING
    return Rollout(candidate, phase, now, now, epoch, deadline=later(now, wanted.progress_seconds), first=first)


def floor_for(weight: int, seen: Seen) -> int:
    """Ready pods that the candidate needs before it gets `weight` percent of what stable's pods bear."""
    return max(1, min(math.ceil(weight * seen.stable_ready / 100), seen.candidate_most))


def later(at: datetime, seconds: float) -> datetime:
    """`at` plus seconds, ten years at most."""
    return at + timedelta(seconds=min(seconds, MOST_SECONDS))


@dataclass(frozen=True, slots=True)
class Choice:
    """A version that could be served. number: of its ModelVersion, 0 when it has none."""

    digest: str
    number: int


def next_candidate(
    wanted: Choice | None, stable: Choice | None, quarantined: frozenset[str], *, follows: bool
) -> Choice | None:
    """The version to roll out, or None when what is served is right.

    Never a quarantined digest, never what is stable already. follows: the deployment follows a training, then
    it is always newer than stable; a pinned version may be any.
    """
    if wanted is None or wanted.digest in quarantined:
        return None
    if stable is None:
        return wanted
    if wanted.digest == stable.digest or (follows and wanted.number <= stable.number):
        return None
    return wanted


def rollout_state(at: Rollout) -> dict[str, Any]:
    """Small JSON for the CR's status; instants as RFC 3339, nothing that is at its default."""
    fields: dict[str, Any] = {
        "candidate": at.candidate,
        "phase": at.phase.value,
        "started": format_instant(at.started),
        "since": format_instant(at.since),
        "epoch": at.epoch,
        "step": at.step,
        "weight": at.weight,
        "deadline": at.deadline and format_instant(at.deadline),
        "unreadySince": at.unready_since and format_instant(at.unready_since),
        "oldPods": at.old_pods,
        "flipped": at.flipped,
        "first": at.first,
        "result": at.result,
        "reason": at.reason,
        "because": at.because,
    }
    return {name: value for name, value in fields.items() if value or name == "epoch"}


def rollout_from_state(state: Mapping[str, Any]) -> Rollout | None:
    """The replacement written by `rollout_state`; None when it is not readable."""
    try:
        result: Result = next(r for r in get_args(Result) if r == state.get("result", ""))
        return Rollout(
            candidate=str(state["candidate"]),
            phase=Phase(state["phase"]),
            started=parse_instant(state["started"]),
            since=parse_instant(state["since"]),
            epoch=int(state["epoch"]),
            step=int(state.get("step", 0)),
            weight=int(state.get("weight", 0)),
            deadline=_instant(state.get("deadline")),
            unready_since=_instant(state.get("unreadySince")),
            old_pods=int(state.get("oldPods", 0)),
            flipped=bool(state.get("flipped", False)),
            first=bool(state.get("first", False)),
            result=result,
            reason=str(state.get("reason", "")),
            because=str(state.get("because", "")),
        )
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)
