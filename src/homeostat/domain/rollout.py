"""The replacement of one version by another, one decision at a time.

    Scaling → Routing → Holding (per step) → Filling → Mirroring → Shifting → [flip] → Baking → Finishing → Done
                  any of them → Returning → Done

`Rollout` is all that outlives the operator; `traffic.traffic` says what it means for routes, floors and the front
Service. "Old" and "new" keep their meaning until the end of the bake, whatever the front Service selects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from homeostat.domain.rollout_state import (
    Advance,
    Choice,
    Complete,
    Decision,
    Hold,
    Phase,
    Plan,
    Promote,
    Request,
    Result,
    RollBack,
    Rollout,
    Seen,
    Stall,
    Step,
    begin,
    floor_for,
    later,
    next_candidate,
    plan,
    planned_seconds,
    rollout_from_state,
    rollout_state,
)
from homeostat.stats.evidence import Outcome

__all__ = [
    "Advance",
    "Choice",
    "Complete",
    "Decision",
    "Hold",
    "Phase",
    "Plan",
    "Promote",
    "Request",
    "Result",
    "RollBack",
    "Rollout",
    "Seen",
    "Stall",
    "Step",
    "begin",
    "floor_for",
    "later",
    "next_candidate",
    "next_step",
    "plan",
    "planned_seconds",
    "rollout_from_state",
    "rollout_state",
]

LEAST_REQUESTS: Final = 100  # of the candidate, before an undecided step advances
UNREADY_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 60.0  # forwarders' connections live at most 30 s; twice that
ROUTE_SECONDS: Final = 30.0


def next_step(at: Rollout, seen: Seen, now: datetime) -> Decision:
    """What to do with the replacement. Total: every input gives a decision."""
    at = _with_readiness(at, seen, now)
    if at.phase is Phase.DONE:
        return Complete(at, at.result or "Done", at.because)
    if at.phase is Phase.RETURNING:
        return _returning(at, seen, now)
    if at.first:
        return _first(at, seen, now)
    return _ends_early(at, seen, now) or _paused(at, seen, now) or _PHASES[at.phase](at, seen, now)


def _first(at: Rollout, seen: Seen, now: datetime) -> Decision:
    if seen.wanted != at.candidate:
        because = "a newer version replaces one that was never served"
        return Complete(replace(at, phase=Phase.DONE, result="Superseded", because=because), "Superseded", because)
    if seen.candidate_ready >= 1:
        because = f"{seen.candidate_ready} pods of the first version are Ready"
        return Complete(_done(replace(at, flipped=True), "Promoted", because), "Promoted", because)
    because = f"0 of {seen.candidate_pods} pods of the first version are Ready"
    if at.deadline is not None and now >= at.deadline:
        return Stall(at, "ProgressDeadlineExceeded", f"{because} after {seen.plan.progress_seconds:.0f} s")
    return Hold(at, at.deadline or later(now, 1), "CandidateStarting", because)


def _ends_early(at: Rollout, seen: Seen, now: datetime) -> Decision | None:
    found = _fault(at, seen, now)
    if found is not None:
        reason, because = found
        if at.flipped and seen.stable_ready == 0:
            because = f"no pod of the old version is Ready to go back to ({because})"
            return Hold(at, later(now, 1), "RollbackWaits", because)
        return _back(at, now, (reason, because), "RolledBack")
    if not at.flipped and seen.wanted != at.candidate:
        return _back(at, now, ("Superseded", "a newer version takes this one's place"), "Superseded")
    if not at.flipped and seen.request == "PromoteFull" and at.phase in _BEFORE_FILLING:
        return _fill(at, seen, now, "a person asked for the promotion without further steps")
    return None


def _fault(at: Rollout, seen: Seen, now: datetime) -> tuple[str, str] | None:
    if seen.verdict.outcome is Outcome.FAIL:
        return "AnalysisFailed", seen.verdict.because
    if seen.request in ("Abort", "Rollback"):
        return f"{seen.request}Requested", f"{seen.request.lower()} was requested"
    if seen.doomed is not None and seen.candidate_ready == 0 and not at.flipped:
        return seen.doomed
    if at.flipped and at.unready_since is not None and now >= later(at.unready_since, UNREADY_SECONDS):
        share = f"{seen.candidate_ready} of {seen.candidate_pods}"
        return "CandidateNotReady", f"{share} pods of the new version are Ready, under half for {UNREADY_SECONDS:.0f} s"
    return _dead(at, seen, now) if at.phase is Phase.HOLDING else None


def _dead(at: Rollout, seen: Seen, now: datetime) -> tuple[str, str] | None:
    """A candidate that lost its pods during a step: with little traffic the evidence alone would take hours."""
    if at.unready_since is None or seen.stable_ready == 0:
        return None
    if now < later(at.unready_since, seen.plan.progress_seconds):
        return None
    share = f"{seen.candidate_ready} of {seen.candidate_pods}"
    return "ProgressDeadlineExceeded", f"{share} pods are Ready, under half for {seen.plan.progress_seconds:.0f} s"


def _paused(at: Rollout, seen: Seen, now: datetime) -> Decision | None:
    if not seen.plan.paused or at.flipped:
        return None
    after = replace(at, deadline=later(now, seen.plan.progress_seconds) if at.deadline else None)
    return Hold(after, later(now, 60), "Paused", "spec.paused is true")


def _scaling(at: Rollout, seen: Seen, now: datetime) -> Decision:
    if at.step >= len(seen.plan.steps):
        return _fill(at, seen, now, "no step is left")
    weight = max(at.weight, seen.plan.steps[at.step].weight)
    need = floor_for(weight, seen)
    because = f"{seen.candidate_ready} of {need} pods that {weight} % need are Ready"
    if seen.candidate_ready < need or seen.stable_ready == 0:
        return _wait(at, seen, now, "CandidateStarting", because)
    after = replace(at, phase=Phase.ROUTING, weight=weight, epoch=at.epoch + 1, since=now)
    return Advance(after, "StepRouted", f"{because}; {weight} % go to the candidate")


def _routing(at: Rollout, seen: Seen, now: datetime) -> Decision:
    if not _applied(seen.stable_ready, seen.stable_epoch, at.epoch):
        return _wait(at, seen, now, "RouteNotApplied", _behind("stable's", seen.stable_epoch, at.epoch))
    after = replace(at, phase=Phase.HOLDING, since=now, deadline=None)
    return Advance(after, "StepApplied", f"all {seen.stable_ready} Ready pods send {at.weight} % to the candidate")


def _holding(at: Rollout, seen: Seen, now: datetime) -> Decision:  # noqa: PLR0911 one exit per rule
    if at.step >= len(seen.plan.steps):
        return _fill(at, seen, now, "no step is left")
    due = later(at.since, seen.plan.steps[at.step].duration_seconds)
    verdict = seen.verdict
    if seen.request == "Promote":
        return _onward(at, seen, now, "a person ended the step")
    if now < due:
        return Hold(at, due, "StepHolding", f"{at.weight} % are held: {verdict.because}")
    if seen.busy:
        return Hold(at, later(now, 1), "CandidateBusy", "over 1 % of the candidate's answers in 30 s are 429 or 503")
    if verdict.outcome is Outcome.PASS:
        return _onward(at, seen, now, verdict.because)
    if verdict.outcome is Outcome.ERROR:
        return Hold(at, later(now, 1), "AnalysisError", verdict.because)
    return _undecided(at, seen, now)


def _undecided(at: Rollout, seen: Seen, now: datetime) -> Decision:
    verdict, last = seen.verdict, at.step == len(seen.plan.steps) - 1
    until = later(at.since, 2 * seen.plan.steps[at.step].duration_seconds)
    if now < until:
        return Hold(at, until, "Inconclusive", verdict.because)
    if last and seen.plan.on_inconclusive == "Rollback":
        return _back(at, now, ("Inconclusive", f"undecided after twice the step: {verdict.because}"), "RolledBack")
    if last and seen.plan.on_inconclusive == "Pause":
        because = f"undecided after twice the last step; annotate promote-requested or wait: {verdict.because}"
        return Hold(at, later(now, 1), "InconclusivePaused", because)
    missing = LEAST_REQUESTS - verdict.candidate_requests
    if not last and missing > 0:
        because = f"{missing:.0f} requests of the candidate are missing for a look at its rates: {verdict.because}"
        return Hold(at, later(now, 1), "Inconclusive", because)
    if not last and not verdict.within_tolerance:
        return Hold(at, later(now, 1), "Inconclusive", f"rates are outside the tolerance: {verdict.because}")
    return _onward(at, seen, now, f"undecided after twice the step, rates are within the tolerance: {verdict.because}")


def _filling(at: Rollout, seen: Seen, now: datetime) -> Decision:
    need = floor_for(100, seen)
    because = f"{seen.candidate_ready} of {need} pods that all requests need are Ready"
    if seen.candidate_ready < need or (seen.stable_ready == 0 and seen.request != "PromoteFull"):
        return _wait(at, seen, now, "CandidateScaling", because)
    if seen.stable_ready == 0:
        return _flip(at, seen, now, "a person asked for it and no pod of the old version is Ready")
    after = replace(at, phase=Phase.MIRRORING, epoch=at.epoch + 1, since=now)
    return Advance(after, "HoldbackRouted", f"{because}; they get the holdback route")


def _mirroring(at: Rollout, seen: Seen, now: datetime) -> Decision:
    if not _applied(seen.candidate_ready, seen.candidate_epoch, at.epoch):
        return _wait(at, seen, now, "RouteNotApplied", _behind("the candidate's", seen.candidate_epoch, at.epoch))
    weight = max(at.weight, 100 - seen.plan.holdback)
    after = replace(at, phase=Phase.SHIFTING, weight=weight, epoch=at.epoch + 1, since=now)
    return Advance(after, "Shifting", f"{weight} % go to the candidate before the flip")


def _shifting(at: Rollout, seen: Seen, now: datetime) -> Decision:
    need = floor_for(100, seen)
    if seen.candidate_ready < need:
        because = f"{seen.candidate_ready} of {need} pods that all requests need are Ready"
        return _wait(at, seen, now, "CandidateScaling", because)
    if not _applied(seen.stable_ready, seen.stable_epoch, at.epoch):
        return _wait(at, seen, now, "RouteNotApplied", _behind("stable's", seen.stable_epoch, at.epoch))
    return _flip(at, seen, now, f"all {seen.stable_ready} Ready pods send {at.weight} % to the new version")


def _baking(at: Rollout, seen: Seen, now: datetime) -> Decision:
    seconds, verdict = seen.plan.bake_seconds, seen.verdict
    end = later(at.since, seconds)
    asked = seen.request in ("Promote", "PromoteFull")
    if now < end and not asked:
        return Hold(at, end, "Baking", f"the old version keeps {100 - at.weight} %: {verdict.because}")
    if verdict.outcome is Outcome.ERROR and now < later(at.since, 2 * seconds) and not asked:
        return Hold(at, later(now, 1), "AnalysisError", verdict.because)
    after = replace(at, phase=Phase.FINISHING, epoch=at.epoch + 1, since=now)
    return Advance(after, "BakeFinished", f"baked for {(now - at.since).total_seconds():.0f} s: {verdict.because}")


def _finishing(at: Rollout, seen: Seen, now: datetime) -> Decision:
    until = later(at.since, ROUTE_SECONDS)
    if now < until and not _applied(seen.candidate_ready, seen.candidate_epoch, at.epoch):
        return Hold(at, until, "RouteNotApplied", _behind("the new version's", seen.candidate_epoch, at.epoch))
    because = "the new version has all requests; the old one is scaled away"
    return Complete(_done(at, "Promoted", because), "Promoted", because)


def _returning(at: Rollout, seen: Seen, now: datetime) -> Decision:
    until = later(at.since, DRAIN_SECONDS if at.flipped else ROUTE_SECONDS)
    applied = not at.flipped and _applied(seen.stable_ready, seen.stable_epoch, at.epoch)
    if now < until and not applied:
        return Hold(at, until, "RollingBack", at.because)
    result: Result = at.result or "RolledBack"
    return Complete(_done(at, result, at.because), at.reason or result, at.because)


def _onward(at: Rollout, seen: Seen, now: datetime, because: str) -> Decision:
    if at.step + 1 >= len(seen.plan.steps):
        return _fill(at, seen, now, because)
    deadline = later(now, seen.plan.progress_seconds)
    after = replace(at, phase=Phase.SCALING, step=at.step + 1, since=now, deadline=deadline)
    return Advance(after, "StepPassed", because)


def _fill(at: Rollout, seen: Seen, now: datetime, because: str) -> Decision:
    after = replace(at, phase=Phase.FILLING, since=now, deadline=later(now, seen.plan.progress_seconds))
    return Advance(after, "Promoting", because)


def _flip(at: Rollout, seen: Seen, now: datetime, because: str) -> Decision:
    after = replace(
        at,
        phase=Phase.BAKING,
        weight=max(at.weight, 100 - seen.plan.holdback),
        epoch=at.epoch + 1,
        since=now,
        deadline=None,
        flipped=True,
        old_pods=seen.stable_ready,
        unready_since=None,
    )
    return Promote(after, "Promoted", because)


def _back(at: Rollout, now: datetime, why: tuple[str, str], result: Result) -> Decision:
    reason, because = why
    after = replace(
        at,
        phase=Phase.RETURNING,
        weight=0,
        epoch=at.epoch + 1,
        since=now,
        deadline=None,
        result=result,
        reason=reason,
        because=because,
    )
    return RollBack(after, reason, because, quarantine=result == "RolledBack")


def _wait(at: Rollout, seen: Seen, now: datetime, reason: str, because: str) -> Decision:
    if seen.stable_ready == 0:  # not the candidate's fault: its deadline waits too
        after = replace(at, deadline=later(now, seen.plan.progress_seconds))
        return Hold(after, later(now, 1), "StableNotReady", "no pod of the old version is Ready to forward requests")
    if at.deadline is not None and now >= at.deadline:
        late = f"{because} after {seen.plan.progress_seconds:.0f} s"
        return _back(at, now, ("ProgressDeadlineExceeded", late), "RolledBack")
    return Hold(at, at.deadline or later(now, 1), reason, because)


def _done(at: Rollout, result: Result, because: str) -> Rollout:
    return replace(at, phase=Phase.DONE, deadline=None, result=result, because=because)


def _with_readiness(at: Rollout, seen: Seen, now: datetime) -> Rollout:
    short = 2 * seen.candidate_ready < max(1, seen.candidate_pods)
    if short == (at.unready_since is not None):
        return at
    return replace(at, unready_since=now if short else None)


def _applied(ready: int, epoch: int | None, wanted: int) -> bool:
    return ready > 0 and epoch is not None and epoch >= wanted


def _behind(whose: str, epoch: int | None, wanted: int) -> str:
    return f"{whose} pods apply route {'none' if epoch is None else epoch} of {wanted}"


_BEFORE_FILLING: Final = (Phase.SCALING, Phase.ROUTING, Phase.HOLDING)
_PHASES: Final[dict[Phase, Callable[[Rollout, Seen, datetime], Decision]]] = {
    Phase.SCALING: _scaling,
    Phase.ROUTING: _routing,
    Phase.HOLDING: _holding,
    Phase.FILLING: _filling,
    Phase.MIRRORING: _mirroring,
    Phase.SHIFTING: _shifting,
    Phase.BAKING: _baking,
    Phase.FINISHING: _finishing,
}
