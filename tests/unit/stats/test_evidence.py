"""The sequential test: what it says of plain cases, of extremes, and after a restart."""

import json
import math

import pytest

from homeostat.stats.dispersion import Dispersion, pearson
from homeostat.stats.evidence import Counts, Evidence, Hypothesis, Outcome, from_state, outcome, start, tick, to_state

ERRORS = Hypothesis(0.005, 0.10)


def run(evidence: Evidence, ticks: int, candidate: Counts, pod: Counts, *, pods: int = 2, first: int = 1) -> Evidence:
    for at in range(first, first + ticks):
        evidence = tick(evidence, float(at), (candidate,), ({f"p{i}": pod for i in range(pods)},))
    return evidence


def fresh() -> Evidence:
    return start((ERRORS,), 0.005, 5400.0)


def test_nothing_seen_decides_nothing() -> None:
    assert outcome(fresh()) is Outcome.INCONCLUSIVE
    assert fresh().ln_e == pytest.approx(math.log(0.8))


def test_a_candidate_that_always_fails_is_found_in_three_ticks_and_not_before() -> None:
    bad, fine = Counts(10, 10), Counts(1, 95)
    assert outcome(run(fresh(), 2, bad, fine)) is Outcome.INCONCLUSIVE
    assert outcome(run(fresh(), 4, bad, fine)) is Outcome.FAIL


def test_an_equal_candidate_passes_and_does_not_fail() -> None:
    assert outcome(run(fresh(), 400, Counts(0.5, 50), Counts(0.75, 75))) is Outcome.PASS


def test_a_fail_stays_even_when_the_evidence_sinks_again() -> None:
    failed = run(fresh(), 5, Counts(10, 10), Counts(1, 95))
    assert outcome(run(failed, 500, Counts(0, 100), Counts(1, 95), first=6)) is Outcome.FAIL


def test_fresh_stakes_find_a_late_fault_soon() -> None:
    late = run(fresh(), 1320, Counts(0.5, 50), Counts(0.75, 75))
    found = run(late, 200, Counts(2, 50), Counts(0.75, 75), first=1321)
    assert outcome(found) is Outcome.FAIL


@pytest.mark.parametrize(
    ("candidate", "pod"),
    [
        (Counts(0, 0), Counts(0, 0)),
        (Counts(0, 1e9), Counts(0, 1e9)),
        (Counts(1e9, 1e9), Counts(1e9, 1e9)),
        (Counts(1e9, 1e9), Counts(0, 0)),
        (Counts(0, 0), Counts(1e9, 1e9)),
        (Counts(math.nan, math.nan), Counts(-1, -1)),
        (Counts(math.inf, math.inf), Counts(5, 1)),
        (Counts(0.25, 0.5), Counts(1e-9, 1e-9)),
    ],
)
def test_extremes_stay_finite(candidate: Counts, pod: Counts) -> None:
    after = run(fresh(), 130, candidate, pod)
    assert math.isfinite(after.ln_e)
    assert all(math.isfinite(x) for s in after.strands for x in (*s.worse, *s.fine))
    assert 1 <= after.phi <= 1000
    json.dumps(to_state(after), allow_nan=False)


def test_only_one_side_with_requests_gives_no_verdict() -> None:
    for candidate, pod in ((Counts(50, 100), Counts(0, 0)), (Counts(0, 0), Counts(50, 100))):
        assert outcome(run(fresh(), 300, candidate, pod)) is Outcome.INCONCLUSIVE


def test_a_restart_keeps_evidence_counts_and_dispersion() -> None:
    before = run(fresh(), 130, Counts(0.6, 20), Counts(0.9, 90))
    after = from_state(json.loads(json.dumps(to_state(before))))
    assert after is not None
    assert after.ln_e == pytest.approx(before.ln_e, abs=1e-5)
    assert after.next_stake == before.next_stake
    assert after.strands[0].candidate == before.strands[0].candidate
    assert after.phi == pytest.approx(before.phi, abs=1e-4)


@pytest.mark.parametrize("state", [{}, {"hypotheses": []}, {"hypotheses": [{}], "level": "x"}, {"hypotheses": 3}])
def test_an_unreadable_state_is_none(state: dict[str, object]) -> None:
    assert from_state(state) is None


def test_pearson_of_one_pod_or_no_event_tells_nothing() -> None:
    assert pearson([(3, 10)]) == (0.0, 0.0)
    assert pearson([(0, 10), (0, 20)]) == (0.0, 0.0)
    x, df = pearson([(10, 100), (30, 100)])
    assert (x, df) == (pytest.approx(10.0), 1.0)


def test_bursts_of_single_pods_raise_phi_and_even_pods_do_not() -> None:
    even, bursting = Dispersion(), Dispersion()
    for at in range(1, 301):
        even = even.add(float(at), {f"p{i}": Counts(1, 50) for i in range(4)})
        hit = (at // 10) % 4
        bursting = bursting.add(float(at), {f"p{i}": Counts(10 if i == hit else 0, 50) for i in range(4)})
    assert even.value() == 1.0
    assert bursting.value() > 5


def test_neighbouring_blocks_of_a_single_pod_play_the_pods() -> None:
    waving = Dispersion()
    for at in range(1, 601):
        waving = waving.add(float(at), {"p0": Counts(10 if (at // 10) % 2 else 0, 50)})
    assert waving.value() > 5
