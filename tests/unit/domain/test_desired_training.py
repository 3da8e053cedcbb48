"""The Job of a run and the ModelVersion that it ends in."""

from __future__ import annotations

from typing import Any

from homeostat.api.kinds import MODEL_TRAINING, Resource, Training
from homeostat.api.meta import Meta, Trigger
from homeostat.api.training import RunStatus
from homeostat.api.version import ModelVersionSpec
from homeostat.api.wire.run import ChampionPlan, DataUsed, GateOutcome, RunPlan, RunSummary
from homeostat.domain.desired.training import TrainerPod, job_ttl, model_version, recorded_plan, run_plan, training_job

POD = TrainerPod("homeostat/trainer:1", "IfNotPresent", "oci://registry:5000", ("registry:5000",))
DIGEST = "sha256:" + "a" * 64


def training(**more: Any) -> Training:
    meta = Meta.read({"namespace": "ml", "name": "flights", "uid": "u1"})
    spec = {
        "trainer": {"sklearn": {"estimator": "LogisticRegression", "target": "late", "parameters": {"C": 0.5}}},
        "data": {"train": {"uri": "flights:latest"}, "test": {"uri": "oci://elsewhere/test:1"}},
        **more,
    }
    return Resource("ModelTraining", meta, MODEL_TRAINING.spec.model_validate(spec), MODEL_TRAINING.status())


def job(**more: Any) -> dict[str, Any]:
    wanted = training(**more)
    return training_job(wanted, "flights-3", run_plan(wanted, 3, None, POD), POD)


def test_fetch_and_train_are_init_containers_and_publish_the_only_main_one() -> None:
    pod = job()["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["fetch", "train"]
    assert [c["args"] for c in pod["initContainers"]] == [["train", "fetch"], ["train", "fit"]]
    assert [c["args"] for c in pod["containers"]] == [["train", "publish"]]


def test_a_permanent_failure_ends_the_job_and_others_are_tried_again() -> None:
    spec = job(retryLimit=4, deadline="90s")["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (4, 90)
    assert spec["podFailurePolicy"]["rules"][0] == {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [42]},
    }


def test_an_optimisation_is_in_the_plan_only_where_it_is_asked_for() -> None:
    assert "optimization" not in job()["metadata"]["annotations"]["homeostat.dev/plan"]
    asked = run_plan(training(optimization={"type": "Float16", "required": True}), 3, None, POD).optimization
    assert asked is not None
    assert (asked.type, asked.tolerance, asked.required) == ("Float16", 0.01, True)


def test_no_ttl_before_the_outcome_is_recorded() -> None:
    assert "ttlSecondsAfterFinished" not in job()["spec"]
    assert job_ttl(training(), "flights-3")["spec"] == {"ttlSecondsAfterFinished": 3600}


def test_the_pod_keeps_the_restricted_standard_and_has_no_token() -> None:
    pod = job()["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        secured = container["securityContext"]
        assert secured["readOnlyRootFilesystem"] is True
        assert secured["capabilities"] == {"drop": ["ALL"]}
        assert {m["mountPath"] for m in container["volumeMounts"]} == {"/work", "/tmp"}


def test_memory_is_limited_to_what_is_requested_unless_the_spec_says_more() -> None:
    first = job()["spec"]["template"]["spec"]["initContainers"][0]["resources"]
    assert first == {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}
    more = job(resources={"limits": {"memory": "2Gi", "cpu": "1"}})["spec"]["template"]["spec"]["containers"][0]
    assert more["resources"] == {
        "requests": {"cpu": "1", "memory": "2Gi"},
        "limits": {"memory": "2Gi", "cpu": "1"},
    }


def test_the_plan_is_on_the_job_so_that_lineage_is_of_the_run_and_not_of_a_later_spec() -> None:
    best = ChampionPlan(name="flights-2", uri="oci://r/x", digest=DIGEST)
    wanted = training(gates=[{"metric": "auc", "maxRegression": 0.01}], split=None)
    plan = run_plan(wanted, 3, best, POD)
    assert recorded_plan(training_job(wanted, "flights-3", plan, POD)["metadata"]["annotations"]) == plan
    assert plan.data == {"train": "oci://registry:5000/ml/flights:latest", "test": "oci://elsewhere/test:1"}
    assert recorded_plan({}) is None


def test_the_same_input_gives_the_same_manifest() -> None:
    assert job() == job()


def version(summary: RunSummary) -> dict[str, Any]:
    trigger = Trigger(type="Drift", reason="DataDrift: month moved", source="u/1")
    run = RunStatus(number=3, trigger=trigger, job_name="flights-3", start_time="2026-03-01T00:00:00Z")
    best = ChampionPlan(name="flights-2", uri="oci://r/x", digest=DIGEST)
    plan: RunPlan = run_plan(training(), 3, best, POD)
    return model_version(training(), run, summary, plan, POD.image)


def test_a_version_is_valid_and_names_where_it_comes_from() -> None:
    summary = RunSummary(
        outcome="Succeeded",
        model_digest=DIGEST,
        bundle_uri="oci://r/ml/flights@" + DIGEST,
        data=(DataUsed(name="train", uri="flights:latest", digest=DIGEST, rows=9),),
        metrics={"auc": 0.7, "broken": float("nan")},
        gates=(GateOutcome(metric="auc", passed=True, observed=0.7, required=">= 0.6"),),
    )
    manifest = version(summary)
    spec = ModelVersionSpec.model_validate(manifest["spec"])
    assert "ownerReferences" not in manifest["metadata"]
    assert manifest["metadata"]["name"] == "flights-3"
    assert spec.lineage is not None
    assert (spec.lineage.parent, spec.lineage.trigger.type, spec.lineage.image) == ("flights-2", "Drift", POD.image)
    assert [m.name for m in spec.metrics] == ["auc"]
    assert spec.gates[0].result == "Passed"
