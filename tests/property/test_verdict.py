"""The sequential test under any counts."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.stats.dispersion import Dispersion
from homeostat.stats.evidence import Counts, Evidence, Hypothesis, Outcome, from_state, outcome, start, tick, to_state

numbers = st.floats(min_value=0, max_value=1e9) | st.sampled_from([0.0, 1.0, 1e9])
counts = st.builds(Counts, numbers, numbers)
hypotheses = st.builds(Hypothesis, st.sampled_from([0.0, 0.005, 0.05, 1.0]), st.sampled_from([0.0, 0.1, 1.0]))
pod_counts = st.dictionaries(st.sampled_from("abcd"), counts, max_size=4)
ticks = st.lists(st.tuples(counts, pod_counts), max_size=40)


def run(hypothesis: Hypothesis, seen: list[tuple[Counts, dict[str, Counts]]]) -> Evidence:
    evidence = start((hypothesis,), 0.002, 600.0)
    for at, (mine, pods) in enumerate(seen):
        evidence = tick(evidence, 10.0 * at, (mine,), (pods,))
    return evidence


@given(hypotheses, ticks)
def test_any_counts_give_finite_evidence_and_an_outcome(
    hypothesis: Hypothesis, seen: list[tuple[Counts, dict[str, Counts]]]
) -> None:
    after = run(hypothesis, seen)
    assert math.isfinite(after.ln_e)
    assert 1 <= after.phi <= 1000
    assert outcome(after) in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)


@given(hypotheses, ticks)
def test_a_restart_keeps_the_evidence(hypothesis: Hypothesis, seen: list[tuple[Counts, dict[str, Counts]]]) -> None:
    before = run(hypothesis, seen)
    after = from_state(to_state(before))
    assert after is not None
    assert after.ln_e == pytest.approx(before.ln_e, abs=1e-5)
    assert outcome(after) is outcome(before)


whole = st.tuples(st.integers(0, 50), st.integers(0, 500)).map(lambda p: Counts(min(p), max(p)))


@given(hypotheses, whole, whole, st.integers(1, 9))
def test_how_stable_is_split_over_pods_changes_nothing_while_phi_is_one(
    hypothesis: Hypothesis, mine: Counts, theirs: Counts, pods: int
) -> None:
    part = Counts(theirs.bad / pods, theirs.total / pods)
    one, many = start((hypothesis,), 0.002, 600.0), start((hypothesis,), 0.002, 600.0)
    for at in range(8):
        one = tick(one, float(at), (mine,), ({"a": theirs},))
        many = tick(many, float(at), (mine,), ({f"p{i}": part for i in range(pods)},))
    assert one.phi == many.phi == 1.0
    assert one.ln_e == pytest.approx(many.ln_e, abs=1e-6)


@given(hypotheses, ticks.filter(bool), st.floats(1, 1000))
def test_more_dispersion_never_makes_a_single_look_more_extreme(
    hypothesis: Hypothesis, seen: list[tuple[Counts, dict[str, Counts]]], phi: float
) -> None:
    mine, pods = seen[0]
    calm = start((hypothesis,), 0.002, 600.0)
    rough = replace(calm, strands=(replace(calm.strands[0], dispersion=Dispersion(floor=phi)),))
    first, damped = tick(calm, 1.0, (mine,), (pods,)), tick(rough, 1.0, (mine,), (pods,))
    for a, b, before in zip(first.strands[0].worse, damped.strands[0].worse, calm.strands[0].worse, strict=True):
        assert abs(b - before) <= abs(a - before) + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.floats(0, 1))
def test_a_candidate_with_exactly_stables_share_of_events_never_fails(totals: list[int], rate: float) -> None:
    seen = [(Counts(rate * n, n), {"a": Counts(2 * rate * n, 2 * n)}) for n in totals]
    assert outcome(run(Hypothesis(0.005, 0.1), seen)) is not Outcome.FAIL
