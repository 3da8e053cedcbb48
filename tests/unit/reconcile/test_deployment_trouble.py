"""A deployment in trouble: what is missing, refused, taken, lost or dead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homeostat.api.names import LABEL_VERSION
from homeostat.api.wire.stats import State
from homeostat.domain.desired.serving import CLOSED
from homeostat.domain.desired.serving_options import TEMPLATE
from homeostat.runtime.outcome import Done, RequeueAfter
from unit.reconcile.fleet import KEY, Fleet, sha, termination
from unit.reconcile.memory import CrashError, container, meta_of


def serving(**spec: Any) -> Fleet:
    fleet = Fleet(**spec)
    fleet.serve()
    return fleet


def test_deleted_trainings_and_versions_stop_no_serving() -> None:
    fleet = serving()
    fleet.world.trainings.rows.clear()
    fleet.world.versions.rows.clear()
    before = list(fleet.world.writer.log)
    fleet.tick(3)
    assert fleet.world.writer.log == before
    assert fleet.condition("Ready")[:2] == ("True", "Serving")
    fleet.world.workloads.rows.clear()
    fleet.tick(2)
    assert fleet.world.workloads.get("ml", "flights-v1") is not None


def test_a_wrong_reference_is_shown_while_the_old_version_serves_on() -> None:
    fleet = serving()
    fleet.change(model={"trainingRef": {"name": "fligths"}})
    fleet.tick()
    assert fleet.condition("Ready")[:2] == ("False", "TrainingNotFound")
    assert fleet.condition("Stalled")[0] == "True"
    assert fleet.condition("Available")[0] == "True"
    assert fleet.front == "v1"
    assert "TrainingNotFound" in fleet.told()


def test_a_lost_status_takes_nothing_from_users() -> None:
    fleet = serving()
    fleet.version(2)
    found = fleet.deployment
    fleet.broken["v2"] = {"state": State(reason="Loading")}
    fleet.world.deployments.put(replace(found, status=type(found.status)()))
    fleet.tick(5)
    assert fleet.front == "v1"
    assert fleet.lost_by == []
    fleet.broken.clear()
    fleet.tick(5)
    assert fleet.front == "v2"
    assert fleet.lost_by == []


@pytest.mark.parametrize(
    ("model", "reason", "stalled"),
    [
        ({"trainingRef": {"name": "absent"}}, "TrainingNotFound", "True"),
        ({"trainingRef": {"name": "flights"}}, "NoVersion", "False"),
        ({"versionRef": {"name": "absent"}}, "VersionNotFound", "True"),
    ],
)
def test_what_is_missing_is_named(model: dict[str, Any], reason: str, stalled: str) -> None:
    fleet = Fleet(model=model)
    fleet.step()
    assert fleet.condition("Ready")[:2] == ("False", reason)
    assert fleet.condition("Stalled")[0] == stalled
    assert fleet.front == CLOSED


BROKEN = {
    "ImageUnavailable": container("server", waiting_reason="ImagePullBackOff", waiting_message="server:9 not found"),
    "DigestMismatch": container("fetch", exit_code=42, message=termination("DigestMismatch", "found another")),
    "CrashLooping": container("server", waiting_reason="CrashLoopBackOff", restarts=4),
    "OutOfMemory": container("server", exit_code=137, terminated_reason="OOMKilled"),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_first_version_that_cannot_start_says_why(reason: str) -> None:
    fleet = Fleet()
    fleet.broken["v1"] = {"pod": {"containers": (BROKEN[reason],)}}
    fleet.version(1)
    fleet.step()
    fleet.tick(3)
    assert fleet.condition("Ready")[:2] == ("False", reason)
    assert fleet.condition("Stalled")[:2] == ("True", reason)
    before = list(fleet.world.writer.log)
    fleet.tick(3)
    assert fleet.world.writer.log == before


def test_a_model_that_is_not_onnx_says_so_and_a_newer_version_takes_its_place() -> None:
    fleet = Fleet()
    fleet.broken["v1"] = {"state": State(reason="NotOnnx", message="model.onnx is not a valid ONNX model")}
    fleet.version(1)
    fleet.step()
    fleet.tick(2)
    assert fleet.condition("Ready") == ("False", "NotOnnx", "model.onnx is not a valid ONNX model")
    fleet.tick(61)
    assert fleet.condition("Stalled")[:2] == ("True", "NotOnnx")
    fleet.version(2)
    fleet.tick(5)
    assert fleet.status.stable.child == "v2"
    assert fleet.status.quarantined == ()
    assert [w.meta.name for w in fleet.world.workloads.all()] == ["flights-v2"]


@pytest.mark.parametrize("reason", ["NotOnnx", "OperatorNotAllowed", "ModelTooLarge", "DigestMismatch", "LoadFailed"])
def test_a_candidate_whose_model_can_never_be_served_goes_back_at_once_and_says_why(reason: str) -> None:
    fleet = serving()
    fleet.broken["v2"] = {"state": State(reason=reason, message="bad file")}
    fleet.version(2)
    fleet.until("Returning", 5)
    fleet.until("", 60)
    assert (fleet.status.quarantined[0].reason, fleet.status.quarantined[0].digest) == (reason, sha(2))
    assert (fleet.status.history[0].result, fleet.status.history[0].message) == ("RolledBack", "bad file")
    assert fleet.condition("RolledBack")[:2] == ("True", "RolledBack")
    assert fleet.condition("Ready")[:2] == ("True", "Serving")
    assert fleet.lost_by == []


def test_a_candidate_with_one_pod_that_serves_is_not_given_up_for_another_that_does_not() -> None:
    fleet = serving(replicas=2)
    fleet.version(2)
    fleet.until("Holding")
    pod = fleet.pods("v2")[0]
    fleet.slow.add(pod.meta.name)
    for _ in range(3):
        fleet.world.clock.pass_(1)
        fleet.live()
        stats = fleet.world.signals.stats
        bad = State(reason="DigestMismatch", message="a bad disk")
        stats[pod.meta.uid] = stats[pod.meta.uid].model_copy(update={"state": bad})
        fleet.step()
    assert fleet.status.rollout is not None
    assert fleet.status.quarantined == ()


def test_what_pods_of_before_cannot_do_is_said_until_they_are_refreshed() -> None:
    fleet = serving()
    found = fleet.deployment
    old = found.status.stable.model_copy(update={"template": None, "image": "server:0"})
    fleet.world.deployments.put(replace(found, status=found.status.model_copy(update={"stable": old})))
    fleet.tick()
    assert fleet.condition("Ready")[:2] == ("True", "Serving")
    fleet.change(server={"cache": {"rows": 100}, "workers": 2})
    fleet.tick(2)
    status, reason, message = fleet.condition("Stalled")
    assert (status, reason) == ("True", "RefreshNeeded")
    assert "spec.server.cache" in message
    assert "refresh-requested" in message
    fleet.ask("refresh")
    fleet.tick(3)
    assert (fleet.status.stable.template, fleet.status.stable.image) == (TEMPLATE, fleet.world.config.server_image)
    assert fleet.condition("Stalled")[0] == "False"
    assert fleet.condition("Ready")[:2] == ("True", "Serving")


def test_settings_that_new_pods_cannot_serve_with_are_said_while_the_old_pods_serve_on() -> None:
    fleet = serving(replicas=1)
    assert fleet.world.signals.watched[KEY] == ()
    fleet.change(server={"limits": {"maxBody": "1Ki"}})
    fleet.step()
    workload = fleet.world.workloads.get("ml", "flights-v1")
    fleet.world.workloads.put(replace(workload, updated_replicas=1, total_replicas=2))
    fleet.slow.add("flights-v1-new")
    fleet._start("v1", "flights-v1-new")
    assert isinstance(fleet.step(), RequeueAfter)
    assert fleet.world.signals.watched[KEY] == ("flights-v1-new",)
    new = next(p for p in fleet.pods("v1") if p.meta.name == "flights-v1-new")
    stats = next(iter(fleet.world.signals.stats.values()))
    state = State(reason="PayloadSettings", message="the model has no such input")
    fleet.world.signals.stats[new.meta.uid] = stats.model_copy(update={"state": state})
    fleet.step()
    assert fleet.condition("Stalled") == ("True", "PayloadSettings", "the model has no such input")
    assert fleet.condition("Ready")[:2] == ("True", "Serving")
    fleet.slow.clear()
    fleet.tick(2)
    assert fleet.condition("Stalled")[0] == "False"
    assert fleet.condition("Reconciling")[:2] == ("False", "Settled")


def test_pods_that_wait_for_a_secret_say_which_ones_they_need() -> None:
    fleet = Fleet(server={"tls": {"secretRef": {"name": "flights-tls"}}})
    fleet.broken["v1"] = {"state": State(reason="Loading"), "pod": {"node": "n1", "ip": ""}}
    fleet.version(1)
    fleet.step()
    fleet.tick(20)
    status, reason, message = fleet.condition("Ready")
    assert (status, reason) == ("False", "VolumesMissing")
    assert "Secret flights-tls" in message
    fleet.tick(60)
    assert fleet.condition("Stalled")[:2] == ("True", "ProgressDeadlineExceeded")


@pytest.mark.parametrize("reason", ["LoadTimeout", "OutOfMemory", "PayloadSettings", "SomethingNew" + "x" * 500])
def test_a_candidate_that_never_gets_ready_goes_back_at_the_deadline_and_users_notice_nothing(reason: str) -> None:
    fleet = serving()
    fleet.broken["v2"] = {"state": State(reason=reason, message="bad file")}
    fleet.version(2)
    fleet.tick(3)
    assert fleet.condition("Ready")[:2] == ("True", "RollingOut")
    assert f"{reason[:128]}: bad file" in fleet.condition("Ready")[2]
    fleet.until("", 120)
    assert fleet.status.quarantined[0].reason == "ProgressDeadlineExceeded"
    assert fleet.lost_by == []


def test_a_service_of_somebody_else_is_never_taken_over() -> None:
    fleet = Fleet()
    fleet.world.foreign.add(("Service", "flights"))
    fleet.version(1)
    fleet.step()
    fleet.tick(2)
    assert fleet.condition("Stalled")[:2] == ("True", "NameTaken")
    assert fleet.condition("Ready")[:2] == ("False", "NameTaken")
    before = list(fleet.world.writer.log)
    fleet.tick(3)
    assert [w for w in fleet.world.writer.log[len(before) :] if w[0] != "status ModelDeployment"] == []
    fleet.world.foreign.clear()
    fleet.tick(3)
    assert fleet.condition("Ready")[:2] == ("True", "Serving")


def test_a_child_of_another_deployment_is_never_taken_over() -> None:
    fleet = serving()
    theirs = replace(fleet.world.services.get("ml", "flights"), meta=meta_of("ml", "flights-v2"), owner_uid="other")
    fleet.world.services.put(theirs)
    fleet.version(2)
    fleet.tick(2)
    assert fleet.condition("Stalled")[:2] == ("True", "NameTaken")
    assert fleet.world.services.get("ml", "flights-v2").owner_uid == "other"


def test_what_the_api_server_refuses_is_shown_and_the_rest_goes_on() -> None:
    fleet = Fleet()
    fleet.world.writer.invalid = "HorizontalPodAutoscaler"
    fleet.version(1)
    fleet.step()
    fleet.tick(2)
    assert fleet.condition("Stalled")[:2] == ("True", "ChildRefused")
    assert fleet.front == "v1"


def test_children_that_are_deleted_or_edited_by_hand_come_back() -> None:
    fleet = serving()
    del fleet.world.services.rows["ml", "flights"]
    del fleet.world.pdbs.rows["ml", "flights-v1"]
    edited = fleet.world.hpas.get("ml", "flights-v1")
    fleet.world.hpas.put(replace(edited, digest="", max_replicas=99))
    fleet.tick()
    assert fleet.front == "v1"
    assert fleet.world.pdbs.get("ml", "flights-v1") is not None
    assert fleet.world.hpas.get("ml", "flights-v1").max_replicas == 3


def test_a_pod_that_does_not_apply_its_route_is_named_and_holds_the_step() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Scaling")
    fleet.deaf.add("flights-v1-0")
    fleet.tick(15)
    assert fleet.status.rollout.phase == "Routing"
    status, reason, message = fleet.condition("RouteApplied")
    assert (status, reason) == ("False", "PodsBehind")
    assert "flights-v1-0" in message
    assert (fleet.status.candidate.weight, fleet.status.candidate.applied_weight) == (20, 0)


def test_the_status_is_written_at_phase_changes_and_else_at_most_every_30_seconds() -> None:
    fleet = serving(strategy={"canary": {"steps": [{"weight": 20, "duration": "10m"}]}})
    fleet.version(2)
    fleet.until("Holding")
    fleet.tick(2)
    before = fleet.world.writer.count("status ModelDeployment")
    fleet.tick(90)
    assert fleet.world.writer.count("status ModelDeployment") - before <= 3


def test_a_new_operator_goes_on_with_the_evidence_of_the_old_one() -> None:
    fleet = serving(strategy={"canary": {"steps": [{"weight": 20, "duration": "10m"}]}})
    fleet.version(2)
    fleet.until("Holding")
    fleet.tick(40)
    totals = fleet.status.rollout.state["analysis"]["metrics"][0]
    fleet.world.ticks.forget(KEY)
    fleet.tick(2)
    again = fleet.status.rollout.state["analysis"]["metrics"][0]
    assert again["hypotheses"][0]["candidate"][1] >= totals["hypotheses"][0]["candidate"][1]
    assert again["hypotheses"][0]["candidate"][1] <= totals["hypotheses"][0]["candidate"][1] + 200 * 42


def test_a_stable_pod_left_with_a_route_forwards_nothing_once_nothing_is_replaced() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Finishing")
    fleet.world.clock.pass_(120)
    fleet.step()
    fleet.tick(3)
    assert fleet.status.rollout is None
    assert fleet.route("v2").weight == 0


def test_a_number_that_another_model_holds_gets_the_digest_behind_it() -> None:
    fleet = serving()
    fleet.world.versions.rows.clear()
    fleet.change(model={"trainingRef": {"name": "other"}})
    fleet.version(1, digest=sha(77 << 200), training="other")
    fleet.tick(2)
    assert fleet.status.candidate.child.startswith("v1-")
    assert fleet.status.candidate.version_name == "other-1"


def test_an_invalid_or_deleted_deployment_is_left_alone() -> None:
    fleet = serving()
    found = fleet.deployment
    fleet.world.deployments.put(replace(found, invalid="spec.model: field required"))
    assert fleet.step() == Done()
    assert fleet.condition("Ready")[:2] == ("False", "SpecInvalid")
    assert fleet.front == "v1"
    fleet.world.deployments.put(replace(found, meta=replace(found.meta, deleting=True)))
    before = list(fleet.world.writer.log)
    assert fleet.step() == Done()
    assert fleet.world.writer.log == before


def test_a_crash_before_the_status_changes_nothing() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.world.writer.crash_before = "status ModelDeployment"
    with pytest.raises(CrashError):
        fleet.step()
    assert fleet.world.workloads.get("ml", "flights-v2") is None
    fleet.tick()
    assert fleet.world.workloads.get("ml", "flights-v2") is not None
    assert fleet.world.workloads.get("ml", "flights-v2").meta.labels[LABEL_VERSION] == "v2"
