"""Verdicts on a rollout."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from homeostat.api.deployment import AnalysisMetric, Tolerance
from homeostat.domain.verdict import (
    Analysis,
    Sides,
    Tick,
    analysis_from_state,
    analysis_state,
    begin,
    judge,
    metric,
    observe,
)
from homeostat.stats.evidence import Counts, Hypothesis, Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METRICS = (metric(AnalysisMetric(type="ErrorRate")), metric(AnalysisMetric(type="Quality")))
FINE = Sides(Counts(0, 40), {"a": Counts(0, 80), "b": Counts(0, 80)})


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def fresh() -> Analysis:
    return begin(METRICS, 0.01, 5400, NOW)


def run(analysis: Analysis, seconds: int, sides: dict[str, Sides], *, scraped: int = 2, candidate: int = 1) -> Analysis:
    first = int((max(analysis.candidate_at, analysis.stable_at) - NOW).total_seconds()) + 1
    for at in range(first, first + seconds):
        analysis = observe(analysis, Tick(later(at), sides, 1, candidate, 4, scraped))
    return analysis


def test_the_false_rollback_rate_is_shared_by_the_metrics() -> None:
    assert [e.level for e in fresh().evidence] == [0.005, 0.005]


def test_defaults_and_tolerances_of_the_spec() -> None:
    assert METRICS[0].tolerated == Hypothesis(0.005, 0.10)
    assert METRICS[1].tolerated == Hypothesis(0.01, 0.0)
    assert [m.required for m in METRICS] == [True, False]
    own = metric(AnalysisMetric(type="Quality", tolerance=Tolerance(absolute=0.2), required=True))
    assert (own.tolerated, own.required) == (Hypothesis(0.2, 0.0), True)


def test_good_errors_pass_although_no_label_came() -> None:
    found = judge(run(fresh(), 300, {"ErrorRate": FINE}), later(300))
    assert found.outcome is Outcome.PASS
    assert found.within_tolerance
    assert found.candidate_requests == 300 * 40


def test_a_failing_candidate_fails_with_rates_counts_and_evidence_in_its_sentence() -> None:
    found = judge(run(fresh(), 5, {"ErrorRate": Sides(Counts(10, 10), {"a": Counts(1, 95)})}), later(5))
    assert (found.outcome, found.reason) == (Outcome.FAIL, "ErrorRateWorse")
    assert "100.00 % (50 of 50) against stable's 1.05 % (5 of 475), ln E" in found.because
    assert found.because.endswith("phi 1.0")
    assert not found.within_tolerance


def test_wrong_labels_alone_fail_a_candidate() -> None:
    worse = Sides(Counts(8, 20), {"a": Counts(2, 10), "b": Counts(2, 10)})
    found = judge(run(fresh(), 120, {"ErrorRate": FINE, "Quality": worse}), later(120))
    assert (found.outcome, found.reason) == (Outcome.FAIL, "QualityWorse")


@pytest.mark.parametrize(("scraped", "candidate", "side"), [(2, 0, "candidate's"), (1, 1, "half of stable's")])
def test_a_side_that_is_not_scraped_for_thirty_seconds_is_an_error(scraped: int, candidate: int, side: str) -> None:
    analysis = run(fresh(), 300, {"ErrorRate": FINE})
    for at in range(301, 340):
        analysis = observe(analysis, Tick(later(at), {}, 1, candidate, 4, scraped))
    assert judge(analysis, later(330)).outcome is Outcome.PASS
    found = judge(analysis, later(339))
    assert found.outcome is Outcome.ERROR
    assert side in found.because


def test_a_dead_candidate_that_nobody_scrapes_still_fails_by_its_callers() -> None:
    dead = {"ErrorRate": Sides(Counts(10, 10), {"a": Counts(1, 95)})}
    assert judge(run(fresh(), 60, dead, candidate=0), later(60)).outcome is Outcome.FAIL


def test_no_metric_passes_and_no_traffic_is_undecided() -> None:
    assert judge(begin((), 0.01, 10, NOW), NOW).outcome is Outcome.PASS
    assert judge(run(fresh(), 10, {}), later(10)).reason == "ErrorRateUndecided"


def test_the_state_survives_json_and_garbage_is_none() -> None:
    analysis = run(fresh(), 100, {"ErrorRate": FINE, "Quality": FINE})
    after = analysis_from_state(json.loads(json.dumps(analysis_state(analysis))), later(101))
    assert after is not None
    assert after.metrics == METRICS
    assert judge(after, later(101)).because == judge(analysis, later(101)).because
    assert analysis_from_state({}, NOW) is None
    assert analysis_from_state({"started": "2026-01-01T00:00:00Z", "metrics": [{"type": "x"}]}, NOW) is None
