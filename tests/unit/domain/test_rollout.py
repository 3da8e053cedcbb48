"""A replacement, step by step."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from homeostat.api.deployment import ModelDeploymentSpec
from homeostat.domain.rollout import (
    Advance,
    Choice,
    Complete,
    Decision,
    Hold,
    Phase,
    Plan,
    Promote,
    RollBack,
    Rollout,
    Seen,
    Stall,
    Step,
    begin,
    next_candidate,
    next_step,
    plan,
    planned_seconds,
    rollout_from_state,
    rollout_state,
)
from homeostat.domain.traffic import traffic
from homeostat.domain.verdict import Verdict
from homeostat.stats.evidence import Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = Plan((Step(5, 60), Step(50, 60)), bake_seconds=120, holdback=5, progress_seconds=300)
PASS, FAIL, OPEN, ERROR = (
    Verdict(o, o.value, "3 of 100") for o in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.ERROR)
)
SEEN = Seen(PLAN, "new", PASS, stable_ready=4, candidate_ready=4, candidate_pods=4, stable_epoch=99, candidate_epoch=99)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def fresh(first: bool = False, wanted: Plan = PLAN) -> Rollout:
    return begin("new", wanted, NOW, epoch=7, first=first)


def drive(at: Rollout, seen: Seen, until: Callable[[Decision], bool], now: datetime = NOW) -> tuple[Decision, datetime]:
    """Decide each second until `until`, at most an hour."""
    for _ in range(3600):
        decision = next_step(at, seen, now)
        if until(decision):
            return decision, now
        at, now = decision.after, now + timedelta(seconds=1)
    raise AssertionError(f"nothing came of {decision}")


def in_phase(phase: Phase) -> Callable[[Decision], bool]:
    return lambda d: d.after.phase is phase


def test_a_good_version_goes_through_all_phases_and_is_promoted() -> None:
    at, now, phases, weights = fresh(), NOW, [], []
    for _ in range(600):
        decision = next_step(at, SEEN, now)
        if decision.after.phase is not at.phase:
            phases.append(decision.after.phase.value)
        at, now = decision.after, now + timedelta(seconds=1)
        weights.append(traffic(at, PLAN, SEEN).old_route.weight)
        if isinstance(decision, Complete):
            break
    step = ["Routing", "Holding"]
    assert phases == [*step, "Scaling", *step, "Filling", "Mirroring", "Shifting", "Baking", "Finishing", "Done"]
    assert sorted(set(weights)) == [0, 5, 50, 95]
    assert weights[:-1] == sorted(weights[:-1])
    assert at.result == "Promoted"


def test_the_candidate_waits_for_the_pods_that_its_weight_needs() -> None:
    at = replace(fresh(), step=1)
    decision = next_step(at, replace(SEEN, candidate_ready=1), NOW)
    assert isinstance(decision, Hold)
    assert decision.because == "1 of 2 pods that 50 % need are Ready"
    assert traffic(at, PLAN, SEEN).new_floor == 2


def test_the_step_clock_starts_when_all_pods_apply_the_route() -> None:
    routed = next_step(fresh(), SEEN, NOW).after
    waiting = next_step(routed, replace(SEEN, stable_epoch=routed.epoch - 1), later(100))
    assert isinstance(waiting, Hold)
    assert waiting.reason == "RouteNotApplied"
    applied = next_step(routed, SEEN, later(200))
    assert (applied.after.phase, applied.after.since) == (Phase.HOLDING, later(200))


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (Phase.RETURNING, Phase.DONE)])
def test_a_failed_analysis_rolls_back_from_every_phase(phase: Phase) -> None:
    at = replace(fresh(), phase=phase, weight=5, flipped=phase in (Phase.BAKING, Phase.FINISHING))
    decision = next_step(at, replace(SEEN, verdict=FAIL), NOW)
    assert isinstance(decision, RollBack)
    assert decision.quarantine
    assert decision.because == "3 of 100"


def test_going_back_before_the_flip_closes_the_candidate() -> None:
    decision = next_step(replace(fresh(), phase=Phase.HOLDING, weight=5), replace(SEEN, verdict=FAIL), NOW)
    wanted = traffic(decision.after, PLAN, SEEN)
    assert (wanted.front, wanted.old_route.weight, wanted.new_route.weight, wanted.new_open) == ("old", 0, 0, False)
    assert isinstance(next_step(decision.after, SEEN, later(1)), Complete)


def test_going_back_after_the_flip_drains_the_new_pods() -> None:
    at = replace(fresh(), phase=Phase.BAKING, weight=95, flipped=True, old_pods=4)
    back = next_step(at, replace(SEEN, verdict=FAIL), NOW).after
    wanted = traffic(back, PLAN, SEEN)
    assert (wanted.front, wanted.old_route.weight, wanted.new_open, wanted.old_floor) == ("old", 0, False, 4)
    assert (wanted.new_route.weight, wanted.new_route.drain) == (100, True)
    assert isinstance(next_step(back, SEEN, later(59)), Hold)
    done = next_step(back, SEEN, later(60))
    assert isinstance(done, Complete)
    assert (done.after.result, done.reason) == ("RolledBack", "AnalysisFailed")


def test_nobody_goes_back_to_a_version_without_ready_pods() -> None:
    at = replace(fresh(), phase=Phase.BAKING, weight=95, flipped=True)
    decision = next_step(at, replace(SEEN, verdict=FAIL, stable_ready=0), NOW)
    assert isinstance(decision, Hold)
    assert decision.reason == "RollbackWaits"


def test_under_half_of_the_new_pods_ready_for_ten_seconds_ends_the_bake() -> None:
    at = replace(fresh(), phase=Phase.BAKING, weight=95, flipped=True)
    decision, when = drive(at, replace(SEEN, candidate_ready=1), lambda d: isinstance(d, RollBack))
    assert (decision.after.reason, when) == ("CandidateNotReady", later(10))


def test_a_candidate_that_is_never_ready_ends_at_the_deadline() -> None:
    decision, when = drive(fresh(), replace(SEEN, candidate_ready=0), lambda d: not isinstance(d, Hold))
    assert isinstance(decision, RollBack)
    assert (decision.reason, when) == ("ProgressDeadlineExceeded", later(300))


def test_a_candidate_that_loses_its_pods_during_a_step_ends_at_the_deadline_without_any_traffic() -> None:
    idle = replace(SEEN, verdict=OPEN, candidate_ready=0)
    decision, when = drive(holding(1), idle, lambda d: isinstance(d, RollBack))
    assert (decision.after.reason, when) == ("ProgressDeadlineExceeded", later(300))


def test_stable_without_ready_pods_is_not_the_candidates_fault() -> None:
    at, now = fresh(), NOW
    for _ in range(1000):
        decision = next_step(at, replace(SEEN, stable_ready=0, stable_epoch=None), now)
        assert isinstance(decision, Hold)
        at, now = decision.after, now + timedelta(seconds=1)
    assert decision.reason == "StableNotReady"


def holding(step: int = 0) -> Rollout:
    return replace(fresh(), phase=Phase.HOLDING, step=step, weight=PLAN.steps[step].weight, deadline=None)


def test_an_undecided_step_waits_twice_its_duration_and_for_a_hundred_requests() -> None:
    few = replace(SEEN, verdict=replace(OPEN, candidate_requests=60))
    many = replace(SEEN, verdict=replace(OPEN, candidate_requests=100))
    worse = replace(SEEN, verdict=replace(OPEN, candidate_requests=100, within_tolerance=False))
    assert isinstance(next_step(holding(), many, later(119)), Hold)
    assert "40 requests" in next_step(holding(), few, later(120)).because
    assert isinstance(next_step(holding(), worse, later(120)), Hold)
    assert isinstance(next_step(holding(), many, later(120)), Advance)


@pytest.mark.parametrize(("word", "kind"), [("Pause", Hold), ("Promote", Advance), ("Rollback", RollBack)])
def test_the_last_step_does_what_on_inconclusive_says(word: str, kind: type) -> None:
    seen = replace(SEEN, verdict=OPEN, plan=replace(PLAN, on_inconclusive=word))
    assert isinstance(next_step(holding(1), seen, later(120)), kind)


def test_no_step_advances_while_the_candidate_is_busy_or_unscraped_or_the_spec_is_paused() -> None:
    for seen in (
        replace(SEEN, busy=True),
        replace(SEEN, verdict=ERROR),
        replace(SEEN, plan=replace(PLAN, paused=True)),
    ):
        assert isinstance(next_step(holding(), seen, later(500)), Hold)


def test_a_person_ends_a_step_or_all_steps() -> None:
    assert next_step(holding(), replace(SEEN, request="Promote"), NOW).after.step == 1
    assert next_step(holding(), replace(SEEN, request="PromoteFull"), NOW).after.phase is Phase.FILLING
    assert isinstance(next_step(holding(), replace(SEEN, request="Abort"), NOW), RollBack)


def test_a_newer_version_supersedes_before_the_flip_and_waits_after_it() -> None:
    newer = replace(SEEN, wanted="newer")
    decision = next_step(holding(), newer, NOW)
    assert isinstance(decision, RollBack)
    assert (decision.quarantine, decision.after.result) == (False, "Superseded")
    baking = replace(fresh(), phase=Phase.BAKING, weight=95, flipped=True)
    assert isinstance(next_step(baking, newer, NOW), Hold)


def test_without_steps_the_promotion_comes_at_once() -> None:
    wanted = replace(PLAN, steps=())
    decision, when = drive(fresh(wanted=wanted), replace(SEEN, plan=wanted), lambda d: isinstance(d, Promote))
    assert decision.after.flipped
    assert when <= later(5)


def test_the_first_version_needs_one_ready_pod_only_and_stalls_without_quarantine() -> None:
    seen = replace(SEEN, stable_ready=0, candidate_ready=0)
    assert isinstance(next_step(fresh(first=True), seen, NOW), Hold)
    assert isinstance(next_step(fresh(first=True), seen, later(300)), Stall)
    ready = next_step(fresh(first=True), replace(seen, candidate_ready=1), later(400))
    assert isinstance(ready, Complete)
    assert ready.after.result == "Promoted"
    replaced = next_step(fresh(first=True), replace(seen, wanted="newer"), later(400))
    assert replaced.after.result == "Superseded"


def test_the_weight_never_falls_when_the_last_step_is_above_the_holdback() -> None:
    wanted = replace(PLAN, steps=(Step(80, 1),), holdback=50)
    at = replace(fresh(), phase=Phase.MIRRORING, weight=80)
    assert next_step(at, replace(SEEN, plan=wanted), NOW).after.weight == 80


def test_planned_is_twice_the_steps_and_the_bake_and_the_plan_is_the_specs() -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"trainingRef": {"name": "flights"}}})
    assert plan(spec).steps == (Step(5, 600), Step(25, 600), Step(50, 600))
    assert planned_seconds(plan(spec)) == 2 * 1800 + 1800


@pytest.mark.parametrize("at", [fresh(), fresh(first=True), replace(holding(1), unready_since=NOW, old_pods=3)])
def test_the_state_survives_json(at: Rollout) -> None:
    assert rollout_from_state(json.loads(json.dumps(rollout_state(at)))) == at
    assert rollout_from_state({"phase": "Nonsense"}) is None


@pytest.mark.parametrize(
    ("wanted", "stable", "quarantined", "follows", "chosen"),
    [
        (None, None, (), True, False),
        (Choice("a", 1), None, (), True, True),
        (Choice("a", 1), None, ("a",), True, False),
        (Choice("b", 2), Choice("a", 1), (), True, True),
        (Choice("b", 2), Choice("a", 1), ("b",), False, False),
        (Choice("a", 1), Choice("b", 2), (), True, False),
        (Choice("a", 1), Choice("b", 2), (), False, True),
        (Choice("a", 2), Choice("a", 1), (), True, False),
    ],
)
def test_the_candidate_is_newer_other_and_not_quarantined(
    wanted: Choice | None, stable: Choice | None, quarantined: tuple[str, ...], follows: bool, chosen: bool
) -> None:
    found = next_candidate(wanted, stable, frozenset(quarantined), follows=follows)
    assert (found == wanted and found is not None) is chosen
