"""A training through its runs, on our ports in memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from homeostat.api.meta import Key
from homeostat.api.names import LABEL_RUN, LABEL_TRAINING, request_annotation
from homeostat.api.wire.run import DataUsed, GateOutcome, RunPlan, RunSummary
from homeostat.reconcile.training import reconcile
from homeostat.runtime.outcome import Done, Outcome
from unit.reconcile.memory import NOW, CrashError, World, container, job, meta_of, pod, resource

KEY = Key("ModelTraining", "ml", "flights")
SPEC = {
    "trainer": {"sklearn": {"estimator": "LogisticRegression", "target": "late", "parameters": {"C": 0.5}}},
    "data": {"train": {"uri": "flights:latest"}},
}
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def a_world(**more: Any) -> World:
    world = World()
    world.trainings.put(resource("ModelTraining", meta_of("ml", "flights"), {**SPEC, **more}))
    return world


def step(world: World) -> Outcome:
    return asyncio.run(reconcile(KEY, world))


def status(world: World) -> Any:
    return world.trainings.get("ml", "flights").status


def condition(world: World, kind: str) -> tuple[str, str, str]:
    found = next(c for c in status(world).conditions if c.type == kind)
    return found.status, found.reason, found.message


def change_spec(world: World, **more: Any) -> None:
    training = world.trainings.get("ml", "flights")
    meta = replace(training.meta, generation=training.meta.generation + 1)
    world.trainings.put(resource("ModelTraining", meta, {**SPEC, **more}, training.status.to_json()))


def ask(world: World, text: str) -> None:
    training = world.trainings.get("ml", "flights")
    marks = {request_annotation("retrain"): text}
    world.trainings.put(replace(training, meta=replace(training.meta, annotations=marks)))


def summary(digest: str = DIGEST, **more: Any) -> RunSummary:
    fields: dict[str, Any] = {
        "outcome": "Succeeded",
        "message": "auc 0.71 on 100 rows",
        "model_digest": digest,
        "model_size": 10,
        "bundle_uri": f"oci://registry:5000/ml/flights@{OTHER}",
        "baseline_digest": OTHER,
        "data": (DataUsed(name="train", uri="flights:latest", digest=OTHER, rows=100),),
        "metrics": {"auc": 0.71},
        **more,
    }
    return RunSummary(**fields)


def pod_of(world: World, number: int, phase: str, *containers: Any, name: str = "", **more: Any) -> None:
    label = {LABEL_TRAINING: "flights", LABEL_RUN: str(number)}
    owner = world.jobs.get("ml", f"flights-{number}").meta.uid
    world.pods.put(pod(meta_of("ml", name or f"flights-{number}-x", labels=label), owner, phase, *containers, **more))


def ends(world: World, number: int, said: RunSummary) -> None:
    found = world.jobs.get("ml", f"flights-{number}")
    world.jobs.put(replace(found, finished="Complete", active=0, succeeded=1, completed=world.clock.now()))
    parts = [container(n, exit_code=0) for n in ("fetch", "train")]
    last = container("publish", exit_code=0, message=said.model_dump_json(), terminated_reason="Completed")
    pod_of(world, number, "Succeeded", *parts, last)


def fails(world: World, number: int, at: str, said: RunSummary | None, **more: Any) -> None:
    found = world.jobs.get("ml", f"flights-{number}")
    world.jobs.put(replace(found, finished="Failed", reason="PodFailurePolicy", message="by policy"))
    text = said.model_dump_json() if said else ""
    pod_of(world, number, "Failed", container(at, exit_code=42, message=text, **more), container("publish"))


def run_to_version(world: World, digest: str = DIGEST) -> None:
    step(world)
    ends(world, status(world).current_run.number, summary(digest))
    step(world)


def test_a_new_training_starts_run_1_and_its_status_is_written_before_its_job() -> None:
    world = a_world()
    step(world)
    assert world.writer.log == [("status ModelTraining", "flights"), ("create Job", "flights-1")]
    assert status(world).current_run.trigger.type == "Spec"
    assert condition(world, "Ready")[:2] == ("False", "Starting")
    assert condition(world, "Reconciling")[0] == "True"


def test_the_job_carries_the_complete_plan_with_absolute_addresses() -> None:
    world = a_world()
    step(world)
    manifest = world.writer.manifests[0]
    containers = [*manifest["spec"]["template"]["spec"]["initContainers"]]
    plan = RunPlan.model_validate_json(containers[0]["env"][0]["value"])
    assert plan.data == {"train": "oci://registry:5000/ml/flights:latest"}
    assert plan.repository == "oci://registry:5000/ml/flights"
    assert plan.sklearn.parameters == {"C": 0.5}


def test_a_run_that_succeeds_ends_in_a_version_with_lineage_and_only_then_the_job_gets_its_ttl() -> None:
    world = a_world()
    run_to_version(world)
    order = [verb for verb, _ in world.writer.log]
    assert order[-3:] == ["create ModelVersion", "status ModelTraining", "apply Job"]
    version = world.versions.get("ml", "flights-1")
    lineage = version.spec.lineage
    assert (lineage.trigger.type, lineage.data[0].digest, lineage.estimator) == ("Spec", OTHER, "LogisticRegression")
    assert version.spec.artifact.digest == DIGEST
    assert condition(world, "Ready")[:2] == ("True", "VersionAvailable")
    assert condition(world, "GatesPassed")[:2] == ("True", "NoGates")
    assert status(world).latest_version.name == "flights-1"
    assert status(world).current_run is None


def test_a_settled_training_writes_nothing() -> None:
    world = a_world()
    run_to_version(world)
    step(world)
    before = list(world.writer.log)
    assert step(world) == Done()
    assert world.writer.log == before


def test_a_job_that_its_ttl_removed_is_not_made_again() -> None:
    world = a_world()
    run_to_version(world)
    world.jobs.rows.clear()
    world.pods.rows.clear()
    step(world)
    assert world.writer.count("create Job") == 1


def test_a_job_deleted_by_hand_while_it_runs_is_made_again_under_its_name() -> None:
    world = a_world()
    step(world)
    world.jobs.rows.clear()
    step(world)
    assert [what for verb, what in world.writer.log if verb == "create Job"] == ["flights-1", "flights-1"]


@pytest.mark.parametrize("crash", ["create Job", "create ModelVersion", "status ModelTraining", "apply Job"])
def test_a_crash_before_any_write_ends_in_one_version_and_one_run(crash: str) -> None:
    world = a_world()
    world.writer.crash_before = crash
    for _ in range(8):
        try:
            step(world)
        except CrashError:
            continue
        run = status(world).current_run
        found = world.jobs.get("ml", run.job_name) if run else None
        if found is not None and not found.finished:
            ends(world, run.number, summary())
    assert [v.meta.name for v in world.versions.all()] == ["flights-1"]
    assert [r.result for r in status(world).runs] == ["Succeeded"]
    assert world.jobs.get("ml", "flights-1").ttl_set


def test_a_version_written_before_a_crash_is_not_taken_for_an_unchanged_model() -> None:
    world = a_world()
    step(world)
    ends(world, 1, summary())
    world.writer.crash_before = "status ModelTraining"
    with pytest.raises(CrashError):
        step(world)
    step(world)
    assert status(world).runs[0].result == "Succeeded"


def test_a_changed_spec_starts_a_run_and_a_changed_schedule_does_not() -> None:
    world = a_world()
    run_to_version(world)
    change_spec(world, schedule="0 3 * * 1")
    step(world)
    assert status(world).current_run is None
    change_spec(world, seed=7)
    step(world)
    assert (status(world).current_run.number, status(world).current_run.trigger.reason) == (2, "the spec changed")


def test_the_same_model_again_ends_as_unchanged() -> None:
    world = a_world()
    run_to_version(world)
    change_spec(world, seed=7)
    run_to_version(world)
    assert (status(world).runs[0].result, status(world).runs[0].version_name) == ("Unchanged", "flights-1")
    assert len(list(world.versions.all())) == 1


def test_a_failed_gate_makes_no_version_and_keeps_ready_with_the_old_one() -> None:
    world = a_world()
    run_to_version(world)
    change_spec(world, gates=[{"metric": "auc", "min": 0.9}])
    step(world)
    gate = GateOutcome(metric="auc", passed=False, observed=0.71, required=">= 0.9")
    ends(world, 2, summary(OTHER, outcome="GateFailed", reason="GateFailed", message="auc 0.71", gates=(gate,)))
    step(world)
    assert condition(world, "GatesPassed") == ("False", "GateFailed", "auc 0.71 misses >= 0.9")
    assert condition(world, "Ready")[0] == "True"
    assert condition(world, "Stalled")[0] == "False"
    assert world.versions.get("ml", "flights-2") is None


def test_a_first_run_that_fails_says_its_own_reason_and_fix() -> None:
    world = a_world()
    step(world)
    said = RunSummary(outcome="Failed", reason="TargetMissing", message="no column late; set target", permanent=True)
    fails(world, 1, "train", said)
    step(world)
    assert condition(world, "Ready") == ("False", "TargetMissing", "no column late; set target")
    assert condition(world, "Stalled")[:2] == ("True", "TargetMissing")
    step(world)
    assert condition(world, "Ready")[1] == "TargetMissing"
    assert world.writer.count("create Job") == 1


def test_an_image_that_cannot_be_pulled_shows_while_the_run_is_under_way() -> None:
    world = a_world()
    step(world)
    stuck = container("fetch", waiting_reason="ImagePullBackOff", waiting_message="not found")
    pod_of(world, 1, "Pending", stuck, container("publish"))
    step(world)
    assert condition(world, "Ready")[:2] == ("False", "ImagePullBackOff")
    alternating = container("fetch", waiting_reason="ErrImagePull", waiting_message="another text")
    pod_of(world, 1, "Pending", alternating, container("publish"))
    writes = len(world.writer.log)
    step(world)
    assert len(world.writer.log) == writes


def test_a_pod_that_fits_nowhere_shows_as_unschedulable() -> None:
    world = a_world()
    step(world)
    pod_of(world, 1, "Pending", container("fetch"), container("publish"), unschedulable="0/1 nodes: too little memory")
    step(world)
    assert condition(world, "Ready")[1] == "Unschedulable"


def test_a_passing_failure_shows_while_the_job_tries_again() -> None:
    world = a_world()
    step(world)
    said = RunSummary(outcome="Failed", reason="RegistryUnreachable", message="no answer")
    failed = container("fetch", exit_code=1, message=said.model_dump_json())
    pod_of(world, 1, "Failed", failed, container("publish"))
    step(world)
    assert condition(world, "Ready") == ("False", "RegistryUnreachable", "try 1 of 3 failed: no answer")


def test_too_little_memory_names_the_field_to_raise() -> None:
    world = a_world()
    step(world)
    fails(world, 1, "train", None, terminated_reason="OOMKilled")
    step(world)
    assert condition(world, "Ready")[1] == "OutOfMemory"
    assert "spec.resources" in condition(world, "Ready")[2]


def test_more_memory_after_a_failed_run_starts_another() -> None:
    world = a_world()
    step(world)
    fails(world, 1, "train", None, terminated_reason="OOMKilled")
    step(world)
    change_spec(world, resources={"limits": {"memory": "2Gi"}})
    step(world)
    assert status(world).current_run.number == 2


def test_a_monitors_request_starts_one_run_whose_lineage_names_it() -> None:
    world = a_world()
    run_to_version(world)
    asked = {"id": "uid/12:00", "by": "DriftMonitor/flights", "reason": "DataDrift: month moved", "trigger": "Drift"}
    ask(world, json.dumps(asked))
    run_to_version(world, OTHER)
    trigger = world.versions.get("ml", "flights-2").spec.lineage.trigger
    assert (trigger.type, trigger.reason, trigger.source) == ("Drift", "DataDrift: month moved", "uid/12:00")
    assert world.versions.get("ml", "flights-2").spec.lineage.parent == "flights-1"
    assert status(world).requests["retrain"].result == "run 2"
    step(world)
    assert world.writer.count("create Job") == 2


def test_a_request_during_a_run_waits_for_its_end() -> None:
    world = a_world()
    step(world)
    ask(world, "please")
    step(world)
    assert status(world).current_run.number == 1
    ends(world, 1, summary())
    step(world)
    step(world)
    run = status(world).current_run
    assert (run.number, run.trigger.type, run.trigger.source) == (2, "Manual", "please")


def test_a_suspended_training_starts_nothing() -> None:
    world = a_world(suspend=True)
    assert step(world) == Done()
    assert world.writer.count("create Job") == 0
    assert condition(world, "Ready")[:2] == ("False", "Suspended")


def test_a_schedule_runs_when_it_is_due_and_once_for_many_missed_times() -> None:
    world = a_world(schedule="0 13 * * *")
    run_to_version(world)
    step(world)
    assert status(world).next_schedule_time == "2026-03-01T13:00:00Z"
    world.clock.pass_(3 * 86400)
    step(world)
    assert status(world).current_run.trigger.type == "Schedule"
    assert status(world).last_schedule_time == "2026-03-01T13:00:00Z"
    assert status(world).next_schedule_time == "2026-03-04T13:00:00Z"


def test_a_schedule_that_cannot_be_read_stalls_with_the_fix() -> None:
    world = a_world(schedule="61 3 * * 1")
    run_to_version(world)
    step(world)
    assert condition(world, "Stalled")[:2] == ("True", "ScheduleInvalid")
    assert "0 3 * * 1" in condition(world, "Stalled")[2]


def test_a_training_made_anew_goes_on_counting_and_leaves_the_old_ones_job_alone() -> None:
    world = a_world()
    label = {LABEL_TRAINING: "flights", LABEL_RUN: "7"}
    world.jobs.put(job(meta_of("ml", "flights-7", labels=label), "uid-of-the-one-before"))
    step(world)
    assert status(world).current_run.number == 8


def test_only_versions_that_nobody_uses_go() -> None:
    world = a_world(versions={"historyLimit": 1})
    for number, digit in enumerate("123456", start=1):
        change_spec(world, versions={"historyLimit": 1}, seed=number)
        run_to_version(world, "sha256:" + digit * 64)
        if number == 1:
            track = {"versionName": "flights-1", "child": "v1", "digest": "sha256:" + "1" * 64, "uri": "oci://r/x"}
            uses = {"stable": {**track, "image": "server:1"}}
            follows = {"model": {"trainingRef": {"name": "flights"}}}
            world.deployments.put(resource("ModelDeployment", meta_of("ml", "flights"), follows, uses))
    step(world)
    assert sorted(v.meta.name for v in world.versions.all()) == ["flights-1", "flights-5", "flights-6"]


def test_the_champion_is_stable_of_the_oldest_follower() -> None:
    world = a_world()
    run_to_version(world)
    track = {"versionName": "churn-3", "child": "v3", "digest": OTHER, "uri": f"oci://r/x@{OTHER}", "image": "server:1"}
    follows = {"model": {"trainingRef": {"name": "flights"}}}
    world.deployments.put(resource("ModelDeployment", meta_of("ml", "old"), follows, {"stable": track}))
    change_spec(world, seed=7)
    step(world)
    step(world)
    plan = RunPlan.model_validate_json(world.jobs.get("ml", "flights-2").meta.annotations["homeostat.dev/plan"])
    assert plan.champion is not None
    assert (plan.champion.name, plan.champion.digest) == ("churn-3", OTHER)


def test_a_summary_that_never_comes_ends_the_run_with_a_reason() -> None:
    world = a_world()
    step(world)
    found = world.jobs.get("ml", "flights-1")
    world.jobs.put(replace(found, finished="Complete", completed=NOW))
    step(world)
    assert status(world).current_run.reason == "Finishing"
    world.clock.pass_(60)
    step(world)
    assert status(world).runs[0].reason == "SummaryLost"


def test_a_strangers_job_of_the_wanted_name_is_never_taken_over_and_named() -> None:
    world = a_world()
    world.jobs.put(job(meta_of("ml", "flights-1"), "somebody-else"))
    step(world)
    step(world)
    assert condition(world, "Ready")[1] == "Starting"
    world.clock.pass_(31)
    step(world)
    assert condition(world, "Ready")[:2] == ("False", "NameTaken")


def test_a_job_that_the_api_server_refuses_shows_why() -> None:
    world = a_world()
    step(world)
    world.jobs.rows.clear()
    world.writer.refuse = "exceeded quota: pods"
    step(world)
    assert condition(world, "Ready")[:2] == ("False", "JobRefused")
    assert "exceeded quota" in condition(world, "Ready")[2]
