"""What a training does next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.training import ModelTrainingSpec, ModelTrainingStatus
from homeostat.api.wire.run import RunSummary
from homeostat.domain.requests import Request
from homeostat.domain.training import (
    Finish,
    JobSeen,
    PodSeen,
    Running,
    Seen,
    Start,
    Suspended,
    Wait,
    next_run,
    spec_digest,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BASE: dict[str, Any] = {
    "trainer": {"sklearn": {"estimator": "LogisticRegression", "target": "late"}},
    "data": {"train": {"uri": "flights:latest"}},
}


def spec(**more: Any) -> ModelTrainingSpec:
    return ModelTrainingSpec.model_validate({**BASE, **more})


def settled(wanted: ModelTrainingSpec, **more: Any) -> ModelTrainingStatus:
    return ModelTrainingStatus.model_validate({"specDigest": spec_digest(wanted), "lastRun": 1, **more})


def running(number: int = 1) -> ModelTrainingStatus:
    run = {
        "number": number,
        "trigger": {"type": "Spec"},
        "jobName": f"flights-{number}",
        "startTime": "2026-03-01T11:59:00Z",
    }
    return ModelTrainingStatus.model_validate({"lastRun": number, "currentRun": run})


def test_a_training_never_seen_before_starts_its_first_run() -> None:
    decision = next_run(spec(), ModelTrainingStatus(), Seen(), NOW)
    assert isinstance(decision, Start)
    assert (decision.number, decision.trigger.type) == (1, "Spec")


def test_nothing_to_do_waits_for_the_schedule_or_for_a_change() -> None:
    assert next_run(spec(), settled(spec()), Seen(), NOW) == Wait(None, "Idle", "waits for a changed spec or a request")
    planned = spec(schedule="0 13 * * *")
    decision = next_run(planned, settled(planned), Seen(), NOW)
    assert isinstance(decision, Wait)
    assert decision.until == datetime(2026, 3, 1, 13, 0, tzinfo=UTC)


def test_the_digest_of_a_spec_ignores_when_and_how_many_and_spelled_out_defaults() -> None:
    assert spec_digest(spec(schedule="0 3 * * *", suspend=True, versions={"historyLimit": 3})) == spec_digest(spec())
    assert spec_digest(spec(seed=0)) == spec_digest(spec())


def test_more_effort_changes_only_the_second_half_of_the_digest() -> None:
    one, other = spec_digest(spec()).split("-"), spec_digest(spec(deadline="8h")).split("-")
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_a_longer_deadline_starts_no_run_when_the_last_one_was_fine() -> None:
    status = settled(spec(), runs=[{**running().current_run.to_json(), "result": "Succeeded"}])  # type: ignore[union-attr]
    assert isinstance(next_run(spec(deadline="8h"), status, Seen(), NOW), Wait)


def test_a_changed_spec_comes_before_a_request_which_stays_for_later() -> None:
    seen = Seen(requests=(Request("retrain", "x"),))
    decision = next_run(spec(seed=3), settled(spec()), seen, NOW)
    assert isinstance(decision, Start)
    assert decision.request is None


def test_other_verbs_start_no_run() -> None:
    seen = Seen(requests=(Request("refresh", "x"),))
    assert isinstance(next_run(spec(), settled(spec()), seen, NOW), Wait)


def test_an_unknown_trigger_word_counts_as_manual() -> None:
    seen = Seen(requests=(Request("retrain", "x", trigger="Spec"),))
    decision = next_run(spec(), settled(spec()), seen, NOW)
    assert isinstance(decision, Start)
    assert decision.trigger.type == "Manual"


def test_a_suspended_training_says_what_waits() -> None:
    decision = next_run(spec(suspend=True), ModelTrainingStatus(), Seen(), NOW)
    assert isinstance(decision, Suspended)
    assert "the first run" in decision.because


def test_a_run_under_way_goes_on_while_suspended() -> None:
    assert isinstance(next_run(spec(suspend=True), running(), Seen(), NOW), Running)


def test_the_number_is_above_all_that_is_in_jobs_and_status() -> None:
    decision = next_run(spec(seed=9), settled(spec()), Seen(jobs=(JobSeen("flights-6", 6),)), NOW)
    assert isinstance(decision, Start)
    assert decision.number == 7


def test_a_namesakes_job_is_not_taken_for_the_run() -> None:
    stranger = JobSeen("flights-1", 1, finished="Failed", ours=False)
    assert next_run(spec(), running(), Seen(jobs=(stranger,)), NOW) == Running("Starting", "run 1 starts")


def test_a_run_past_its_deadline_names_the_step_and_the_field() -> None:
    job = JobSeen("flights-1", 1, finished="Failed", reason="DeadlineExceeded")
    decision = next_run(spec(), running(), Seen(jobs=(job,), pods=(PodSeen(step="train"),)), NOW)
    assert isinstance(decision, Finish)
    assert decision.reason == "DeadlineExceeded"
    assert "in step train" in decision.because
    assert "spec.deadline" in decision.because


def test_a_step_that_dies_without_a_summary_shows_its_last_line() -> None:
    job = JobSeen("flights-1", 1, finished="Failed", reason="BackoffLimitExceeded")
    pod = PodSeen(step="train", failed=1, text="Traceback\nMemoryError: no room\n")
    decision = next_run(spec(), running(), Seen(jobs=(job,), pods=(pod, pod)), NOW)
    assert isinstance(decision, Finish)
    assert decision.because == "step train ended with code 1 (passing): MemoryError: no room after 2 tries"


def test_a_job_without_a_pod_says_where_to_look() -> None:
    seen = Seen(jobs=(JobSeen("flights-1", 1),))
    decision = next_run(spec(), running(), seen, NOW)
    assert isinstance(decision, Running)
    assert (decision.reason, decision.trouble) == ("PodMissing", True)
    assert "kubectl describe job flights-1" in decision.because


summaries = st.none() | st.builds(
    RunSummary,
    outcome=st.sampled_from(["Succeeded", "GateFailed", "Failed"]),
    reason=st.sampled_from(["", "TargetMissing"]),
    model_digest=st.sampled_from(["", "sha256:" + "a" * 64]),
)
pods = st.builds(
    PodSeen,
    succeeded=st.booleans(),
    step=st.sampled_from(["", "fetch", "train"]),
    stuck=st.sampled_from([("", ""), ("ImagePullBackOff", "no")]),
    failed=st.none() | st.integers(1, 255),
    summary=summaries,
    text=st.text(max_size=20),
)
jobs = st.builds(
    JobSeen,
    name=st.sampled_from(["flights-1", "flights-2"]),
    run=st.integers(0, 5),
    finished=st.sampled_from(["", "Complete", "Failed"]),
    reason=st.sampled_from(["", "DeadlineExceeded", "BackoffLimitExceeded"]),
    completed=st.none() | st.just(NOW),
    ours=st.booleans(),
)
seens = st.builds(
    Seen,
    jobs=st.tuples() | st.tuples(jobs) | st.tuples(jobs, jobs),
    pods=st.lists(pods, max_size=3).map(tuple),
    requests=st.sampled_from([(), (Request("retrain", "x"),)]),
)
statuses = st.sampled_from([ModelTrainingStatus(), running(), running(2), settled(spec())])
specs = st.sampled_from(
    [spec(), spec(suspend=True), spec(seed=2), spec(schedule="0 3 * * 1"), spec(schedule="x y z a b")]
)


@given(specs, statuses, seens)
def test_every_situation_has_a_decision_and_no_run_starts_during_a_run_or_a_suspension(
    wanted: ModelTrainingSpec, status: ModelTrainingStatus, seen: Seen
) -> None:
    decision = next_run(wanted, status, seen, NOW)
    if isinstance(decision, Start):
        assert status.current_run is None
        assert not wanted.suspend
        assert decision.number > max([status.last_run, *(j.run for j in seen.jobs)])
    if isinstance(decision, Finish):
        assert status.current_run is not None
        assert any(j.ours and j.finished and j.name == status.current_run.job_name for j in seen.jobs)
