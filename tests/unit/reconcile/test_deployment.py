"""A deployment through its versions, on our ports in memory."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from math import ceil
from typing import Any

from homeostat.api.names import ANNOTATION_ROLE, LABEL_MODEL, LABEL_VERSION
from homeostat.domain.desired.serving import CLOSED
from homeostat.reconcile.deployment_pods import living_pods
from homeostat.runtime.outcome import RequeueAfter
from unit.reconcile.fleet import KEY, Fleet, sha
from unit.reconcile.memory import NOW, CrashError, container, meta_of, pod


def serving(**spec: Any) -> Fleet:
    fleet = Fleet(**spec)
    fleet.serve()
    return fleet


def test_the_first_version_serves_once_it_is_ready_and_the_front_is_closed_until_then() -> None:
    fleet = Fleet()
    fleet.version(1)
    fleet.step()
    assert fleet.world.writer.log[0] == ("status ModelDeployment", "flights")
    assert fleet.front == CLOSED
    assert fleet.condition("Ready")[:2] == ("False", "Starting")
    assert fleet.condition("Reconciling")[0] == "True"
    fleet.until("")
    fleet.tick()
    assert fleet.front == "v1"
    assert fleet.condition("Ready") == ("True", "Serving", "flights-1 serves with 1 Ready pods")
    assert fleet.condition("Available")[0] == "True"
    assert fleet.condition("Reconciling")[0] == "False"
    stable = fleet.status.stable
    assert (stable.child, stable.weight, stable.applied_weight, stable.ready_replicas) == ("v1", 100, 100, 1)
    assert (stable.image, stable.baseline_digest) == ("server:1", sha(901))
    assert fleet.status.url == "http://flights.ml.svc:8080"
    assert fleet.status.history[0].result == "Promoted"


def test_a_settled_deployment_writes_nothing_and_is_not_scraped() -> None:
    fleet = serving()
    before = list(fleet.world.writer.log)
    fleet.tick(5)
    assert fleet.world.writer.log == before
    assert fleet.world.signals.watched[KEY] == ()
    outcome = fleet.step()
    assert isinstance(outcome, RequeueAfter)
    assert outcome.seconds >= 60


def test_a_good_version_is_promoted_step_by_step_and_no_request_is_lost() -> None:
    fleet = serving()
    fleet.version(2)
    weights = []
    for _ in range(120):
        fleet.tick()
        route = fleet.route("v1") if fleet.pods("v1") else None
        weights.append(route.weight if route else 0)
        if fleet.status.rollout is None and fleet.status.stable.child == "v2":
            break
    fleet.tick(3)
    assert [w for i, w in enumerate(weights) if w and w not in weights[:i]] == [20, 50, 95]
    assert fleet.lost_by == []
    assert (fleet.status.stable.child, fleet.status.previous.child, fleet.front) == ("v2", "v1", "v2")
    assert fleet.status.candidate is None
    assert fleet.route("v2").weight == 0
    assert fleet.condition("RolledBack")[0] == "False"
    assert {"RolloutStarted", "StepApplied", "Promoted", "RolloutCompleted"} <= set(fleet.told())


def test_after_the_bake_the_old_version_is_kept_idle_and_anything_older_is_gone() -> None:
    fleet = serving()
    for number in (2, 3):
        fleet.version(number)
        fleet.tick()
        fleet.until("")
        fleet.tick(3)
    names = {w.meta.name: w.replicas for w in fleet.world.workloads.all()}
    assert names == {"flights-v2": 0, "flights-v3": 1}
    assert {h.meta.name for h in fleet.world.hpas.all()} == {"flights-v3"}
    assert {p.meta.name for p in fleet.world.pdbs.all()} == {"flights-v3"}
    assert not fleet.is_open("v2")
    roles = {w.meta.name: w.meta.annotations[ANNOTATION_ROLE] for w in fleet.world.workloads.all()}
    assert roles == {"flights-v2": "previous", "flights-v3": "stable"}


def test_the_epoch_is_in_status_before_any_pod_gets_the_route() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Scaling")
    while fleet.status.epoch == 0:
        start = len(fleet.world.writer.log)
        fleet.tick()
    verbs = [verb for verb, _ in fleet.world.writer.log[start:]]
    assert verbs.index("status ModelDeployment") < verbs.index("annotate Pod")


def test_both_autoscalers_take_no_pod_away_until_the_bake_ends() -> None:
    fleet = serving(autoscaling={"minReplicas": 2, "maxReplicas": 6})
    fleet.version(2)
    fleet.until("Baking")
    latest = {m["metadata"]["name"]: m for m in fleet.world.writer.manifests if m["kind"] == "HorizontalPodAutoscaler"}
    for name in ("flights-v1", "flights-v2"):
        assert latest[name]["spec"]["behavior"] == {"scaleDown": {"selectPolicy": "Disabled"}}
    assert fleet.world.hpas.get("ml", "flights-v1").min_replicas == 2
    fleet.until("")
    fleet.tick(2)
    latest = {m["metadata"]["name"]: m for m in fleet.world.writer.manifests if m["kind"] == "HorizontalPodAutoscaler"}
    assert "behavior" not in latest["flights-v2"]["spec"]


def test_a_failing_version_is_rolled_back_and_its_digest_is_quarantined() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.failing["v2"] = 0.3
    fleet.until("Returning")
    assert fleet.route("v1").weight == 0
    assert not fleet.is_open("v2")
    fleet.until("")
    fleet.tick(2)
    assert fleet.status.quarantined[0].digest == sha(2)
    assert fleet.status.stable.child == "v1"
    assert [w.meta.name for w in fleet.world.workloads.all()] == ["flights-v1"]
    assert fleet.condition("Ready")[:2] == ("True", "Serving")
    status, reason, message = fleet.condition("RolledBack")
    assert (status, reason) == ("True", "RolledBack")
    assert "ErrorRate of the candidate is worse than tolerated" in message
    assert fleet.status.history[0].result == "RolledBack"
    fleet.tick(20)
    assert fleet.status.rollout is None


def test_a_version_that_predicts_worse_is_rolled_back_by_its_labels() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.wrong["v2"] = 0.4
    fleet.until("Returning")
    assert "Quality of the candidate" in fleet.status.rollout.message


def test_a_version_that_fails_in_the_bake_goes_back_in_one_reconcile() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Baking")
    assert (fleet.front, fleet.status.stable.child, fleet.status.previous.child) == ("v2", "v2", "v1")
    fleet.failing["v2"] = 0.5
    for _ in range(10):
        start = len(fleet.world.writer.log)
        fleet.tick()
        if fleet.status.rollout.phase == "Returning":
            break
    done = [entry for entry in fleet.world.writer.log[start:] if entry[0] != "apply Deployment"]
    assert done[:5] == [
        ("status ModelDeployment", "flights"),
        ("annotate Pod", "flights-v1-0"),
        ("annotate Pod", "flights-v2-0"),
        ("apply Service", "flights"),
        ("apply Service", "flights-v2"),
    ]
    assert fleet.front == "v1"
    assert (fleet.route("v1").weight, fleet.route("v1").target) == (0, "")
    back = fleet.route("v2")
    assert (back.weight, back.drain, back.target, back.track) == (100, True, "http://flights-v1.ml.svc:8080", "stable")
    assert (fleet.status.stable.child, fleet.status.candidate.child) == ("v1", "v2")
    fleet.until("", 100)
    fleet.tick(3)
    assert (fleet.status.stable.child, fleet.status.previous.child) == ("v1", "v2")
    assert fleet.lost_by == []
    assert fleet.world.workloads.get("ml", "flights-v2").replicas == 0


def test_pods_that_an_autoscaler_adds_in_the_bake_are_no_fault_but_lost_ones_are() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Baking")
    fleet.slow = {"flights-v2-1", "flights-v2-2"}
    grown = fleet.world.workloads.get("ml", "flights-v2")
    fleet.world.workloads.put(replace(grown, replicas=3))
    fleet.change(bake={"duration": "10m", "holdback": 5})
    fleet.tick(40)
    assert fleet.status.rollout.phase == "Baking"
    fleet.slow.add("flights-v2-0")
    fleet.tick(12)
    assert fleet.status.rollout.phase == "Returning"
    assert fleet.status.quarantined[0].reason == "CandidateNotReady"


def test_a_rollback_after_the_bake_starts_the_previous_pods_first() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.tick()
    fleet.until("")
    fleet.tick(5)
    assert fleet.pods("v1") == []
    fleet.ask("rollback", '{"id": "7", "by": "ada", "reason": "angry users"}')
    fleet.tick()
    assert fleet.front == "v2"
    assert fleet.condition("RolledBack")[0] == "True"
    fleet.until("")
    fleet.tick(3)
    assert (fleet.front, fleet.status.stable.child, fleet.status.previous.child) == ("v1", "v1", "v2")
    assert fleet.lost_by == []
    assert fleet.status.requests["rollback"].by == "ada"
    assert fleet.status.history[0].version_name == "flights-2"
    assert (fleet.status.history[0].result, fleet.status.history[0].reason) == ("RolledBack", "RollbackRequested")
    assert fleet.status.quarantined[0].digest == sha(2)
    fleet.ask("rollback", "again")
    fleet.tick(3)
    assert fleet.front == "v1"
    assert "quarantined" in fleet.status.requests["rollback"].result


def test_a_request_is_consumed_once() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Holding")
    fleet.ask("abort", "x1")
    fleet.tick()
    assert fleet.status.rollout.phase == "Returning"
    assert fleet.status.requests["abort"].id == "x1"
    fleet.until("")
    fleet.ask("lift", "l1")
    fleet.tick()
    assert fleet.status.quarantined == ()
    fleet.until("Holding")
    fleet.tick(2)
    assert fleet.status.rollout.phase == "Holding"


def test_a_person_can_end_a_step_and_promote_in_full() -> None:
    fleet = serving()
    fleet.rate = 0
    fleet.version(2)
    fleet.until("Holding")
    fleet.ask("promote", "p1")
    fleet.tick()
    assert fleet.status.rollout.step == 1
    fleet.until("Holding")
    fleet.ask("promote-full", "p2")
    fleet.until("Baking", 10)
    assert fleet.status.requests["promote-full"].id == "p2"
    fleet.tick(2)
    assert fleet.status.rollout.phase == "Baking"


def test_pause_holds_and_resume_goes_on() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Holding")
    fleet.ask("pause", "1")
    fleet.tick(60)
    assert (fleet.status.rollout.phase, fleet.status.rollout.step) == ("Holding", 0)
    assert fleet.condition("Progressing")[1] == "Paused"
    fleet.ask("resume", "1")
    fleet.until("")
    assert fleet.status.stable.child == "v2"


def test_an_upgraded_operator_restarts_no_pod_and_refresh_takes_its_image() -> None:
    fleet = serving()
    fleet.world.config = replace(fleet.world.config, server_image="server:2")
    before = list(fleet.world.writer.log)
    fleet.tick(3)
    assert fleet.world.writer.log == before
    fleet.ask("refresh", "now")
    fleet.tick()
    assert fleet.status.stable.image == "server:2"
    last = [m for m in fleet.world.writer.manifests if m["kind"] == "Deployment"][-1]
    assert last["spec"]["template"]["spec"]["containers"][0]["image"] == "server:2"


def test_a_changed_installation_restarts_no_pod_and_refresh_takes_its_settings() -> None:
    fleet = serving()
    fleet.world.config = replace(fleet.world.config, plain_http=("other:5000",), image_pull_policy="Always")
    before = list(fleet.world.writer.log)
    fleet.tick(3)
    assert fleet.world.writer.log == before
    fleet.ask("refresh", "now")
    fleet.tick()
    assert (fleet.status.stable.plain_http, fleet.status.stable.pull_policy) == (("other:5000",), "Always")
    last = [m for m in fleet.world.writer.manifests if m["kind"] == "Deployment"][-1]
    assert last["spec"]["template"]["spec"]["initContainers"][0]["args"][-1] == "other:5000"


def test_a_changed_setting_of_pods_is_never_told_as_settled_before_it_is_applied() -> None:
    fleet = serving()
    fleet.change(server={"workers": 2})
    fleet.world.writer.crash_before = "apply Deployment"
    for _ in range(2):  # also by an operator that begins between status and cluster
        with contextlib.suppress(CrashError):
            fleet.step()
        assert fleet.status.observed_generation == 2
        assert fleet.condition("Reconciling")[:2] == ("True", "PodsUpdating")
    fleet.tick(2)
    assert fleet.condition("Reconciling")[:2] == ("False", "Settled")
    before = len(fleet.world.writer.log)
    fleet.change(bake={"duration": "11s"})
    fleet.tick(2)
    assert fleet.world.writer.log[before:] == [("status ModelDeployment", "flights")]


def test_pods_are_updating_until_their_controller_has_seen_the_change() -> None:
    fleet = serving()
    seen = fleet.world.workloads.get("ml", "flights-v1")
    fleet.world.workloads.put(replace(seen, meta=replace(seen.meta, generation=2)))
    fleet.step()
    assert fleet.condition("Reconciling")[:2] == ("True", "PodsUpdating")


def test_pods_of_a_deployment_that_had_the_same_name_do_not_count() -> None:
    fleet = Fleet()
    dying = meta_of(
        "ml", "old", labels={LABEL_MODEL: "flights", LABEL_VERSION: "v1"}, created=NOW - timedelta(minutes=1)
    )
    fleet.world.pods.put(pod(dying, "rs", "Running", container("server")))
    assert living_pods(fleet.deployment, fleet.world).of("v1") == ()


def test_a_fixed_number_of_pods_is_kept_until_the_autoscaler_has_written_another() -> None:
    fleet = serving(replicas=10)
    fleet.tick(3)
    fleet.change(replicas=None, autoscaling={"minReplicas": 2, "maxReplicas": 12}, server={"workers": 2})
    fleet.tick(3)
    made = [m for m in fleet.world.writer.manifests if m["kind"] == "Deployment"]
    assert made[-1]["spec"]["replicas"] == 10
    seen = fleet.world.workloads.get("ml", "flights-v1")
    fleet.world.workloads.put(replace(seen, replicas=7, digest=""))
    fleet.tick(3)
    made = [m for m in fleet.world.writer.manifests if m["kind"] == "Deployment"]
    assert "replicas" not in made[-1]["spec"]
    assert fleet.world.workloads.get("ml", "flights-v1").replicas == 7


def test_a_pause_longer_than_a_short_deadline_is_not_held_against_the_candidate() -> None:
    fleet = serving(progressDeadline="10s")
    fleet.version(2)
    fleet.slow.add("flights-v2-0")
    fleet.until("Scaling")
    fleet.ask("pause", "1")
    before = fleet.world.writer.count("status ModelDeployment")
    fleet.tick(25)
    assert fleet.world.writer.count("status ModelDeployment") - before <= 7
    fleet.ask("resume", "1")
    fleet.tick()
    fleet.slow.clear()
    fleet.until("")
    assert (fleet.status.stable.child, fleet.status.quarantined) == ("v2", ())


def test_a_candidate_gets_requests_only_once_every_node_knows_its_pod() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.tick(2)
    assert fleet.pods("v2")[0].ready
    assert fleet.status.rollout.phase == "Scaling"
    fleet.tick(3)
    assert fleet.status.rollout.phase != "Scaling"


def test_the_route_says_until_when_a_pod_of_the_candidate_is_new() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Holding")
    candidate = fleet.pods("v2")[0]
    assert candidate.ready_since is not None
    assert fleet.route("v1").young_until == ceil(candidate.ready_since.timestamp()) + 30

    restarted = tuple(replace(found, restarts=1) for found in candidate.containers)
    fleet.world.pods.put(replace(candidate, containers=restarted))
    fleet.tick()
    assert fleet.route("v1").young_until == 0


def test_a_deleted_candidate_version_does_not_end_its_rollout() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Holding")
    del fleet.world.versions.rows["ml", "flights-2"]
    fleet.until("")
    assert fleet.status.stable.child == "v2"


def test_a_newer_version_supersedes_the_candidate_without_quarantine() -> None:
    fleet = serving()
    fleet.version(2)
    fleet.until("Holding")
    fleet.version(3)
    fleet.tick()
    assert fleet.status.rollout.phase == "Returning"
    fleet.until("Holding")
    assert fleet.status.candidate.child == "v3"
    assert fleet.status.quarantined == ()
    assert fleet.condition("RolledBack")[0] == "False"


def test_a_pinned_version_that_is_rolled_back_is_not_ready_until_the_spec_changes() -> None:
    fleet = Fleet(model={"versionRef": {"name": "flights-1"}})
    fleet.version(1)
    fleet.version(2)
    fleet.step()
    fleet.until("")
    fleet.change(model={"versionRef": {"name": "flights-2"}})
    fleet.failing["v2"] = 0.5
    fleet.tick()
    fleet.until("")
    fleet.tick(2)
    assert fleet.condition("Ready")[:2] == ("False", "RolledBack")
    assert fleet.condition("Stalled")[0] == "True"
    assert fleet.condition("RolledBack")[0] == "True"
    fleet.change(model={"versionRef": {"name": "flights-1"}})
    fleet.tick()
    assert fleet.condition("Ready")[:2] == ("True", "Serving")
    assert fleet.status.quarantined == ()


def test_a_source_is_served_under_its_digest() -> None:
    fleet = Fleet(model={"source": {"uri": "churn:prod", "digest": sha(0xABCDEF << 232)}})
    fleet.step()
    fleet.until("")
    fleet.tick()
    assert fleet.front == "vabcdef"
    args = fleet.world.writer.manifests[0]["spec"]["template"]["spec"]["initContainers"][0]["args"]
    assert args[:3] == ["fetch", "--uri", "oci://registry:5000/ml/churn:prod"]
