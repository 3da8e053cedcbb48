"""Whatever happens in whatever order, a replacement keeps its promises."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.domain.rollout import (
    Choice,
    Complete,
    Phase,
    Plan,
    Promote,
    RollBack,
    Rollout,
    Seen,
    Step,
    begin,
    next_candidate,
    next_step,
    rollout_from_state,
    rollout_state,
)
from homeostat.domain.traffic import traffic
from homeostat.domain.verdict import Verdict
from homeostat.stats.evidence import Outcome

START = datetime(2026, 1, 1, tzinfo=UTC)
pods = st.integers(0, 6)
instants = st.integers(0, 10_000).map(lambda s: START + timedelta(seconds=s))
verdicts = st.builds(
    Verdict,
    st.sampled_from(Outcome),
    st.just("R"),
    st.just("b"),
    st.sampled_from([0.0, 99.0, 100.0, 1e9]),
    st.booleans(),
)
plans = st.builds(
    Plan,
    st.lists(st.integers(1, 99), unique=True, max_size=4).map(lambda ws: tuple(Step(w, 30.0) for w in sorted(ws))),
    st.sampled_from([0.0, 60.0, 1e30]),
    st.integers(0, 50),
    st.sampled_from([0.0, 60.0, 600.0]),
    st.sampled_from(["Pause", "Promote", "Rollback"]),
    st.booleans(),
)
epochs = st.none() | st.integers(0, 30)
seens = st.builds(
    Seen,
    plans,
    st.sampled_from(["new", "new", "newer"]),
    verdicts,
    pods,
    pods,
    pods,
    st.integers(1, 8),
    epochs,
    epochs,
    st.booleans(),
    st.sampled_from(["", "", "", "Promote", "PromoteFull", "Abort", "Rollback"]),
    st.sampled_from([None, None, None, ("NotOnnx", "bad file")]),
)
rollouts = st.builds(
    Rollout,
    st.just("new"),
    st.sampled_from(Phase),
    instants,
    instants,
    st.integers(0, 30),
    st.integers(0, 5),
    st.integers(0, 100),
    st.none() | instants,
    st.none() | instants,
    pods,
    st.booleans(),
    st.booleans(),
)


@given(rollouts, seens, instants)
def test_every_state_gives_a_decision_and_traffic_with_a_sentence(at: Rollout, seen: Seen, now: datetime) -> None:
    decision = next_step(at, seen, now)
    wanted = traffic(decision.after, seen.plan, seen)
    assert 0 <= wanted.old_route.weight <= 100
    assert 0 <= wanted.new_route.weight <= 100
    assert decision.reason
    assert decision.after.epoch >= at.epoch


@given(rollouts, seens, instants)
def test_a_failed_analysis_always_rolls_back(at: Rollout, seen: Seen, now: datetime) -> None:
    if at.first or at.phase in (Phase.RETURNING, Phase.DONE) or (at.flipped and seen.stable_ready == 0):
        return
    decision = next_step(at, replace(seen, verdict=Verdict(Outcome.FAIL, "R", "b")), now)
    assert isinstance(decision, RollBack)
    assert decision.quarantine
    after = traffic(decision.after, seen.plan, seen)
    assert (after.front, after.old_route.weight, after.new_open) == ("old", 0, False)


@given(rollouts, seens, instants)
def test_a_model_that_can_never_be_served_always_goes_back_before_the_flip(
    at: Rollout, seen: Seen, now: datetime
) -> None:
    if at.first or at.flipped or at.phase in (Phase.RETURNING, Phase.DONE):
        return
    decision = next_step(at, replace(seen, doomed=("NotOnnx", "bad file"), candidate_ready=0), now)
    assert isinstance(decision, RollBack)
    assert decision.quarantine


@given(rollouts, seens, instants)
def test_weight_rises_only_onto_ready_pods_and_falls_only_by_going_back(at: Rollout, seen: Seen, now: datetime) -> None:
    decision = next_step(at, seen, now)
    if decision.after.weight > at.weight:
        assert seen.candidate_ready >= 1
    if decision.after.weight < at.weight:
        assert isinstance(decision, RollBack)


@given(rollouts, seens, instants)
def test_the_flip_needs_every_old_pod_on_the_route_or_no_old_pod_at_all(at: Rollout, seen: Seen, now: datetime) -> None:
    decision = next_step(at, seen, now)
    if not isinstance(decision, Promote):
        return
    assert seen.candidate_ready >= 1
    if seen.stable_ready > 0:
        assert at.phase is Phase.SHIFTING
        assert seen.stable_epoch is not None
        assert seen.stable_epoch >= at.epoch
    else:
        assert seen.request == "PromoteFull"


@given(rollouts, seens, instants)
def test_the_state_survives_a_restart(at: Rollout, seen: Seen, now: datetime) -> None:
    after = next_step(at, seen, now).after
    assert rollout_from_state(rollout_state(after)) == after


@settings(max_examples=200)
@given(plans.filter(lambda p: not p.paused), st.lists(seens, min_size=1, max_size=60), st.data())
def test_a_whole_life_keeps_the_order_of_things(plan: Plan, lives: list[Seen], data: st.DataObject) -> None:
    at, now = begin("new", plan, START, epoch=0, first=False), START
    flips, quarantined = 0, False
    for life in lives:
        helpful = data.draw(st.booleans())
        seen = replace(life, plan=plan)
        if helpful:  # else hardly a life would come far
            seen = replace(seen, candidate_ready=6, stable_ready=4, stable_epoch=at.epoch, candidate_epoch=at.epoch)
            seen = replace(seen, wanted="new", request="", verdict=Verdict(Outcome.PASS, "R", "b"))
        decision = next_step(at, seen, now)
        if isinstance(decision, Promote):
            flips += 1
        if isinstance(decision, RollBack):
            quarantined = decision.quarantine
        at, now = decision.after, now + timedelta(seconds=20)
        if isinstance(decision, Complete):
            break
    assert flips <= 1
    if at.phase is Phase.DONE:
        assert (at.result == "Promoted") is (flips == 1 and not quarantined)


choices = st.builds(Choice, st.sampled_from("abc"), st.integers(0, 3))


@given(st.none() | choices, st.none() | choices, st.frozensets(st.sampled_from("abc")), st.booleans())
def test_a_quarantined_digest_is_never_the_candidate(
    wanted: Choice | None, stable: Choice | None, quarantined: frozenset[str], follows: bool
) -> None:
    found = next_candidate(wanted, stable, quarantined, follows=follows)
    assert found is None or found.digest not in quarantined
