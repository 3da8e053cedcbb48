"""What came of actions, and what stands in the way of another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from homeostat.api.drift import ActionStatus
from homeostat.api.kinds import Training
from homeostat.api.names import request_annotation
from homeostat.domain.actions import (
    Hindrance,
    blocked,
    in_progress,
    last_promotion,
    recorded,
    request_for,
    requested,
    resolved,
    retrain_hindrance,
    rollback_hindrance,
    undelivered,
)
from homeostat.domain.drift import Act
from homeostat.domain.requests import read
from unit.domain.test_champion import deployment, digest, quarantined, track
from unit.reconcile.memory import NOW, meta_of, resource

ACT = Act("Retrain", "u/1", "DataDrift", "month moved")
TAKEN = requested(ACT, NOW)
LATER = "2026-03-01T13:00:00Z"


def training(annotation: str = "", **status: Any) -> Training:
    spec = {"trainer": {"sklearn": {"estimator": "X", "target": "y"}}, "data": {"train": {"uri": "x"}}}
    marks = {request_annotation("retrain"): annotation} if annotation else {}
    return resource("ModelTraining", meta_of("ml", "flights", annotations=marks), spec, status)


def run(result: str, **more: Any) -> dict[str, Any]:
    trigger = {"type": "Drift", "source": "u/1"}
    return {"number": 2, "trigger": trigger, "jobName": "flights-2", "startTime": LATER, "result": result, **more}


def past(result: str, version: int = 2) -> dict[str, Any]:
    name = f"flights-{version}"
    return {"versionName": name, "digest": digest(version), "started": LATER, "ended": LATER, "result": result}


def came_of(trained: Training, **status: Any) -> str:
    return resolved((TAKEN,), trained, deployment(**status))[0].result


def test_an_action_stays_requested_until_its_run_and_its_rollout_have_ended() -> None:
    assert came_of(training()) == "Requested"
    made = training(runs=[run("Succeeded", versionName="flights-2")])
    assert came_of(made, stable=track(1)) == "Requested"
    baking = {"phase": "Baking", "started": LATER}
    assert came_of(made, stable=track(2), rollout=baking) == "Requested"
    assert came_of(made, stable=track(2)) == "Promoted"


def test_a_failed_or_unchanged_run_and_a_rolled_back_version_are_failed_attempts() -> None:
    for result in ("Failed", "GateFailed", "Unchanged"):
        assert came_of(training(runs=[run(result)])) == "Failed"
    made = training(runs=[run("Succeeded", versionName="flights-2")])
    assert came_of(made, stable=track(1), history=[past("RolledBack")]) == "Failed"


def test_a_rollback_is_over_when_a_later_version_was_promoted() -> None:
    taken = requested(Act("Rollback", "u/1", "Degradation", "wrong"), NOW)
    assert resolved((taken,), None, deployment())[0].result == "Requested"
    assert resolved((taken,), None, deployment(history=[past("Promoted", 3)]))[0].result == "Promoted"


def went_back(**status: Any) -> tuple[str, str]:
    taken = requested(Act("Rollback", "u/1", "Degradation", "wrong"), NOW, "v2")
    echo = {"rollback": {"id": "u/1", "time": LATER, "result": "there is no previous version to go back to"}}
    found = resolved((taken,), None, deployment(requests=echo, **status))[0]
    return found.result, found.reason


def test_a_rollback_that_was_answered_ends_as_done_or_failed() -> None:
    gone = {**past("RolledBack"), "reason": "RollbackRequested"}
    assert went_back(stable=track(1), history=[gone]) == ("Done", "RolledBack")
    assert went_back(stable=track(2), history=[gone]) == ("Failed", "NotPossible")
    assert went_back(stable=track(2)) == ("Failed", "NotPossible")
    before = {**gone, "ended": "2026-02-01T00:00:00Z"}
    assert went_back(stable=track(2), history=[before]) == ("Failed", "NotPossible")
    going = {"phase": "Filling", "started": LATER}
    assert went_back(stable=track(2), rollout=going)[0] == "Requested"


def test_a_rollbacks_request_names_the_version_that_was_judged() -> None:
    taken = requested(Act("Rollback", "u/1", "Degradation", "wrong"), NOW, "v2")
    assert read("rollback", request_for(taken, "flights").to_text()).version == "v2"
    assert request_for(requested(ACT, NOW, "v2"), "flights").version == ""


def test_going_back_is_hindered_without_a_previous_version_or_with_a_quarantined_one() -> None:
    reasons = [
        found.reason if found else ""
        for found in (
            rollback_hindrance(deployment(stable=track(2))),
            rollback_hindrance(deployment(stable=track(2), previous=track(1))),
            rollback_hindrance(deployment(stable=track(2), previous=track(1), quarantined=[quarantined(1)])),
        )
    ]
    assert reasons == ["NoPreviousVersion", "", "PreviousQuarantined"]


def test_the_newest_promotion_is_known_whoever_made_it() -> None:
    older = {**past("Promoted"), "ended": "2026-02-01T00:00:00Z"}
    found = last_promotion(deployment(history=[past("RolledBack", 4), past("Promoted", 3), older]))
    assert found == datetime(2026, 3, 1, 13, tzinfo=UTC)
    assert last_promotion(deployment(history=[past("RolledBack")])) is None


def hindered(trained: Training | None, **status: Any) -> str:
    found = retrain_hindrance("flights", trained, deployment(**status))
    return found.reason if found else ""


def test_a_run_that_is_asked_for_under_way_or_not_rolled_out_yet_hinders_another() -> None:
    assert hindered(training()) == ""
    assert hindered(training("by hand")) == "RunInProgress"
    assert hindered(training(currentRun=run("Running"))) == "RunInProgress"
    made = training(latestVersion={"name": "flights-2", "number": 2, "digest": digest(2)})
    assert hindered(made, stable=track(1)) == "RolloutAwaited"
    assert hindered(made, stable=track(2)) == ""
    assert hindered(made, stable=track(1), quarantined=[quarantined(2)]) == ""


def test_a_missing_training_lasts_until_a_person_looks() -> None:
    found = retrain_hindrance("flights", None, deployment())
    assert found is not None
    assert (found.reason, found.lasting) == ("TrainingNotFound", True)
    nothing = retrain_hindrance("", None, deployment())
    assert nothing is not None
    assert "trainingRef" in nothing.because


def test_a_request_is_delivered_once_and_never_over_anothers() -> None:
    assert undelivered(TAKEN, training())
    assert not undelivered(TAKEN, training('{"id": "u/1"}'))
    assert not undelivered(TAKEN, training("of a person"))
    assert not undelivered(TAKEN, training(requests={"retrain": {"id": "u/1", "time": LATER}}))
    assert not undelivered(TAKEN, training(requests={"retrain": {"id": "later one", "time": LATER}}))
    earlier = {"retrain": {"id": "before", "time": "2026-02-01T00:00:00Z"}}
    assert undelivered(TAKEN, training("before", requests=earlier))
    assert not undelivered(TAKEN.model_copy(update={"result": "Failed"}), training())


def test_ten_actions_of_each_type_are_kept_and_of_blocked_ones_the_newest() -> None:
    kept: tuple[ActionStatus, ...] = ()
    for number in range(30):
        for kind in ("Retrain", "Rollback")[: 1 if number > 15 else 2]:
            act = replace(ACT, id=f"u/{number}", type=kind)
            kept = recorded(kept, blocked(act, Hindrance("Cooldown", "too soon"), NOW))
            kept = recorded(kept, requested(act, NOW))
    taken = [a.type for a in kept if a.result == "Requested"]
    assert (taken.count("Retrain"), taken.count("Rollback"), len(kept)) == (10, 10, 20)
    for kind in ("Retrain", "Rollback"):
        kept = recorded(kept, blocked(replace(ACT, type=kind), Hindrance("Budget", "spent"), NOW))
    assert [a.result for a in kept].count("Requested") == 20
    assert len(kept) == 22


def test_a_bake_counts_as_a_replacement_and_a_finished_one_does_not() -> None:
    assert in_progress(deployment(rollout={"phase": "Baking", "started": LATER}))
    assert not in_progress(deployment(rollout={"phase": "Done", "started": LATER}))
    assert not in_progress(deployment())
