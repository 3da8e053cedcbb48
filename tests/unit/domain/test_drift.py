"""What a monitor finds, and what it may do about it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from homeostat.api.drift import Action
from homeostat.api.wire.bundle import Baseline, FeatureBaseline, PredictionBaseline
from homeostat.domain.drift import (
    Act,
    ActionPolicy,
    Blocked,
    Detector,
    DriftReport,
    DriftVerdict,
    History,
    Nothing,
    PastAction,
    Policy,
    Window,
    action_policy,
    assess,
    history_from_state,
    history_state,
    next_action,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVEN = (1000,) * 10 + (0, 0)
BASELINE = Baseline(
    edges_id="e1",
    rows=10_000,
    features=(
        FeatureBaseline(name="distance", kind="number", counts=EVEN),
        FeatureBaseline(name="carrier", kind="category", counts=(6000, 4000, 0, 0)),
    ),
    prediction=PredictionBaseline(kind="probability", counts=(500,) * 20),
    error_rate=0.2,
    test_rows=2000,
)
MILD = (66, 62, 58, 54, 50, 48, 44, 42, 40, 36, 0, 0)
MOVED = (80, 75, 70, 60, 50, 45, 40, 30, 30, 20, 0, 0)
CALM = Window(
    NOW, NOW + timedelta(hours=1), "v1", "e1", 500, ((50,) * 10 + (0, 0), (300, 200, 0, 0)), (25,) * 20, 400, 80
)


def shifted(cells: tuple[int, ...], hours: int = 1) -> Window:
    return replace(CALM, end=NOW + timedelta(hours=hours), features=(cells, CALM.features[1]))


def by_name(report: DriftReport, finding: str) -> Detector:
    return next(d for d in report.detectors if d.finding == finding)


def test_a_calm_window_is_ok_everywhere() -> None:
    report = assess(CALM, BASELINE, Policy(), History())
    assert [d.verdict for d in report.detectors] == [DriftVerdict.OK] * 3
    assert report.history.streaks == {}


def test_an_overwhelming_shift_is_drift_in_one_window_and_names_the_feature() -> None:
    found = by_name(assess(shifted(MOVED), BASELINE, Policy(), History()), "DataDrift")
    assert found.verdict is DriftVerdict.DRIFT
    assert [m.name for m in found.features] == ["distance"]
    assert found.because.startswith("distance 0.")


def test_a_moderate_shift_needs_two_windows_in_a_row_for_the_same_feature() -> None:
    wanted = Policy(alpha_inputs=0.5, drift=0.01, warning=0.005)
    first = assess(shifted(MILD, 1), BASELINE, wanted, History())
    assert by_name(first, "DataDrift").verdict is DriftVerdict.WARNING
    second = assess(shifted(MILD, 2), BASELINE, wanted, first.history)
    assert by_name(second, "DataDrift").verdict is DriftVerdict.DRIFT
    calm = assess(replace(CALM, end=NOW + timedelta(hours=2)), BASELINE, wanted, first.history)
    third = assess(shifted(MILD, 3), BASELINE, wanted, calm.history)
    assert by_name(third, "DataDrift").verdict is DriftVerdict.WARNING


def test_the_same_window_twice_is_one_window() -> None:
    wanted = Policy(alpha_inputs=0.5, drift=0.01, warning=0.005)
    first = assess(shifted(MILD), BASELINE, wanted, History())
    again = assess(shifted(MILD), BASELINE, wanted, first.history)
    assert by_name(again, "DataDrift").verdict is DriftVerdict.WARNING
    assert again.history == first.history


def test_a_tiny_shift_in_very_many_rows_is_no_drift() -> None:
    many = tuple(int(c * 20_000) for c in (51, 51, 50, 50, 50, 50, 50, 50, 49, 49, 0, 0))
    big = BASELINE.model_copy(
        update={
            "features": (
                FeatureBaseline(name="distance", kind="number", counts=tuple(c * 1000 for c in EVEN)),
                BASELINE.features[1],
            )
        }
    )
    found = by_name(assess(replace(shifted(many), rows=10_000_000), big, Policy(), History()), "DataDrift")
    assert found.verdict is DriftVerdict.OK


def test_too_few_rows_or_labels_or_other_cells_are_insufficient_and_keep_the_streaks() -> None:
    history = History("e1", NOW, {"distance": 1})
    few = assess(replace(shifted(MOVED), rows=199, labels=99), BASELINE, Policy(), history)
    assert {d.verdict for d in few.detectors} == {DriftVerdict.INSUFFICIENT_DATA}
    assert few.history.streaks == {"distance": 1}
    other = assess(replace(CALM, edges_id="e2"), BASELINE, Policy(), history)
    assert "other cells" in by_name(other, "DataDrift").because
    assert (
        by_name(
            assess(CALM, BASELINE.model_copy(update={"error_rate": None}), Policy(), history), "Degradation"
        ).verdict
        is DriftVerdict.INSUFFICIENT_DATA
    )


def test_another_baseline_starts_new_streaks() -> None:
    report = assess(CALM, BASELINE, Policy(), History("old", NOW, {"distance": 5}))
    assert report.history.edges_id == "e1"


def test_moved_scores_and_fallen_quality_are_found() -> None:
    scores = (60,) * 5 + (20,) * 10 + (0,) * 5
    report = assess(replace(CALM, predictions=scores, wrong=160), BASELINE, Policy(), History())
    assert by_name(report, "PredictionDrift").verdict is DriftVerdict.DRIFT
    assert by_name(report, "Degradation").verdict is DriftVerdict.DRIFT
    assert "error 40.00 % of 400 labels against 20.00 %" in by_name(report, "Degradation").because


def test_better_quality_is_no_degradation() -> None:
    report = assess(replace(CALM, wrong=10), BASELINE, Policy(), History())
    assert by_name(report, "Degradation").verdict is DriftVerdict.OK


def test_history_survives_json() -> None:
    history = assess(shifted(MOVED), BASELINE, Policy(), History()).history
    assert history_from_state(json.loads(json.dumps(history_state(history)))) == history
    assert history_from_state({}) == History()


REPORT = assess(shifted(MOVED), BASELINE, Policy(), History())
RETRAIN = ActionPolicy("Retrain", ("DataDrift",), 3600, 2, 86400, 3)
ID = "uid/2026-01-01T01:00:00Z"


def past(hours: float, result: str, name: str = "x") -> PastAction:
    return PastAction(name, "Retrain", NOW - timedelta(hours=hours), result)  # type: ignore[arg-type]


def decide(*done: PastAction, rolling: bool = False, wanted: ActionPolicy = RETRAIN) -> Act | Blocked | Nothing:
    return next_action(REPORT, wanted, done, NOW, monitor_uid="uid", rollout_in_progress=rolling)


def test_drift_asks_for_a_retraining_once_per_window() -> None:
    act = decide()
    assert isinstance(act, Act)
    assert (act.id, act.finding) == (ID, "DataDrift")
    assert decide(past(0, "Requested", ID)) == Nothing()
    assert decide(wanted=replace(RETRAIN, on=("Degradation",))) == Nothing()


@pytest.mark.parametrize(
    ("done", "rolling", "reason"),
    [
        ((), True, "RolloutInProgress"),
        ((past(0.5, "Promoted"),), False, "Cooldown"),
        ((past(5, "Promoted"), past(9, "Promoted")), False, "Budget"),
        ((past(50, "Failed"), past(60, "Failed"), past(70, "Requested")), False, "Attempts"),
    ],
)
def test_what_blocks_an_action(done: tuple[PastAction, ...], rolling: bool, reason: str) -> None:
    found = decide(*done, rolling=rolling)
    assert isinstance(found, Blocked)
    assert found.reason == reason
    assert found.because


def test_a_promotion_forgives_and_blocked_ones_cost_nothing() -> None:
    assert isinstance(decide(past(80, "Failed"), past(70, "Failed"), past(60, "Promoted"), past(50, "Failed")), Act)
    assert isinstance(decide(past(0.1, "Blocked"), past(0.2, "Blocked"), past(0.3, "Blocked")), Act)


def test_a_promotion_by_a_person_forgives_what_was_before_and_a_rollback_that_went_back_is_no_failure() -> None:
    failed = (past(50, "Failed"), past(60, "Failed"), past(70, "Failed"))
    since = [
        next_action(REPORT, RETRAIN, failed, NOW, monitor_uid="u", rollout_in_progress=False, promoted=at)
        for at in (NOW - timedelta(hours=80), NOW - timedelta(hours=55))
    ]
    assert [type(found) for found in since] == [Blocked, Act]
    assert isinstance(decide(past(50, "Done"), *failed[1:], past(80, "Failed")), Act)


def test_a_cooldown_or_period_beyond_the_calendar_is_ten_years() -> None:
    endless = decide(past(5, "Promoted"), wanted=replace(RETRAIN, cooldown_seconds=1e20, period_seconds=1e20))
    assert isinstance(endless, Blocked)
    assert endless.reason == "Cooldown"


def test_the_block_says_when_it_ends() -> None:
    cool, spent = decide(past(0.5, "Promoted")), decide(past(5, "Promoted"), past(9, "Promoted"))
    assert isinstance(cool, Blocked)
    assert isinstance(spent, Blocked)
    assert cool.until == NOW + timedelta(minutes=30)
    assert spent.until == NOW + timedelta(hours=15)


def test_the_specs_defaults() -> None:
    spec = Action.model_validate({"type": "Retrain", "on": ["DataDrift"]})
    assert action_policy(spec) == ActionPolicy("Retrain", ("DataDrift",), 86400, 4, 168 * 3600, 3)
