"""A monitor through its windows, on our ports in memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from homeostat.api.meta import Key
from homeostat.api.names import LABEL_MODEL, LABEL_VERSION, request_annotation
from homeostat.api.wire.bundle import Baseline, FeatureBaseline, PredictionBaseline
from homeostat.api.wire.stats import Features, Feedback, PodStats, Served, State
from homeostat.reconcile.drift import reconcile
from homeostat.runtime.outcome import Done
from unit.reconcile.memory import CrashError, World, meta_of, pod, resource

KEY = Key("DriftMonitor", "ml", "flights")
DIGEST = "sha256:" + "a" * 64
BASE = "sha256:" + "b" * 64
WINDOW = 60
RETRAIN = {"type": "Retrain", "on": ["DataDrift"], "cooldown": "1s"}
LIKE_TRAINING = (500, 500)
MOVED = (900, 100)


def baseline(edges_id: str = "e1") -> Baseline:
    return Baseline(
        edges_id=edges_id,
        rows=2000,
        features=(FeatureBaseline(name="month", kind="number", edges=(5.0,), counts=(1000, 1000, 0, 0)),),
        prediction=PredictionBaseline(kind="probability", counts=(1000, 1000)),
        error_rate=0.1,
        test_rows=2000,
    )


def track(version: int, digest: str = DIGEST) -> dict[str, Any]:
    name = f"flights-{version}"
    return {
        "versionName": name,
        "child": f"v{version}",
        "number": version,
        "digest": digest,
        "uri": "oci://r/x",
        "image": "server:1",
        "baselineDigest": BASE,
    }


class Live:
    """A deployment with one pod whose counters grow."""

    def __init__(self, *actions: dict[str, Any], **spec: Any) -> None:
        self.world = World()
        self.cells = [0.0, 0.0]
        self.labels = [0, 0]
        self.start = "2026-03-01T11:00:00Z"
        self.version = "v1"
        wanted = {"deploymentRef": {"name": "flights"}, "window": f"{WINDOW}s", "interval": "5s"}
        monitor = {**wanted, "actions": list(actions), **spec}
        self.world.monitors.put(resource("DriftMonitor", meta_of("ml", "flights"), monitor))
        training = {"trainer": {"sklearn": {"estimator": "X", "target": "y"}}, "data": {"train": {"uri": "x"}}}
        self.world.trainings.put(resource("ModelTraining", meta_of("ml", "flights"), training))
        self.deploy({"stable": track(1)})
        self.world.signals.baselines[BASE] = baseline()

    def deploy(self, status: dict[str, Any]) -> None:
        follows = {"model": {"trainingRef": {"name": "flights"}}}
        self.world.deployments.put(resource("ModelDeployment", meta_of("ml", "flights"), follows, status))
        child = status["stable"]["child"] if "stable" in status else "v1"
        self.version = child
        labels = {LABEL_MODEL: "flights", LABEL_VERSION: child}
        self.world.pods.rows.clear()
        self.world.pods.put(pod(meta_of("ml", f"flights-{child}-x", labels=labels), "rs", "Running"))

    def step(self) -> Any:
        stats = PodStats(
            model="flights",
            version=self.version,
            start=self.start,
            now=0.0,
            state=State(reason="Ready"),
            served={"stable": Served(rows=int(sum(self.cells)), predictions=tuple(map(int, self.cells)))},
            features=Features(
                edges_id="e1", rows=int(sum(self.cells)), cells=((int(self.cells[0]), int(self.cells[1]), 0, 0),)
            ),
            feedback={self.version: Feedback(labels=self.labels[0], wrong=self.labels[1])},
        )
        self.world.signals.stats[f"uid-flights-{self.version}-x"] = stats
        return asyncio.run(reconcile(KEY, self.world))

    def window(self, cells: tuple[int, int], labels: tuple[int, int] = (0, 0)) -> None:
        """One window's traffic, then its end."""
        self.step()
        self.cells = [a + b for a, b in zip(self.cells, cells, strict=True)]
        self.labels = [a + b for a, b in zip(self.labels, labels, strict=True)]
        self.step()
        self.world.clock.pass_(WINDOW)
        self.step()

    @property
    def status(self) -> Any:
        return self.world.monitors.get("ml", "flights").status

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next(c for c in self.status.conditions if c.type == kind)
        return found.status, found.reason, found.message

    def asked(self) -> dict[str, Any] | None:
        text = self.world.trainings.get("ml", "flights").meta.annotations.get(request_annotation("retrain"))
        return None if text is None else json.loads(text)

    def train(self, **status: Any) -> None:
        training = self.world.trainings.get("ml", "flights")
        merged = {**training.status.to_json(), **status}
        meta = replace(training.meta, annotations={})
        self.world.trainings.put(resource("ModelTraining", meta, training.spec.to_json(), merged))


def test_traffic_like_training_says_nothing_and_asks_nothing() -> None:
    live = Live(RETRAIN)
    live.window(LIKE_TRAINING)
    assert live.condition("DataDrift")[:2] == ("False", "WithinBounds")
    assert live.condition("DataAvailable")[0] == "True"
    assert live.condition("Ready")[:2] == ("True", "Watching")
    assert live.status.window.rows == 1000
    assert live.asked() is None


def test_a_moved_feature_asks_for_a_run_with_the_feature_named_after_the_verdict_is_written() -> None:
    live = Live(RETRAIN)
    live.window(LIKE_TRAINING)
    live.window(MOVED)
    live.window(MOVED)
    asked = live.asked()
    assert asked is not None
    assert asked["id"] == f"uid-flights/{live.status.actions[0].id.partition('/')[2]}"
    assert (asked["by"], asked["trigger"]) == ("DriftMonitor/flights", "Drift")
    assert "month" in asked["reason"]
    order = [verb for verb, _ in live.world.writer.log]
    at = order.index("annotate ModelTraining")
    assert order[at - 1] == "status DriftMonitor"
    assert live.condition("DataDrift")[:2] == ("True", "DataDriftFound")
    assert live.status.drift == "DataDrift,PredictionDrift"


def test_a_crash_between_verdict_and_request_asks_once() -> None:
    live = Live(RETRAIN)
    live.world.writer.crash_before = "annotate ModelTraining"
    with pytest.raises(CrashError):
        live.window(MOVED)
    taken = live.status.actions[0]
    assert live.asked() is None
    live.world.windows.__init__()  # type: ignore[misc]  # the next operator knows no windows
    live.step()
    live.step()
    assert (live.asked() or {})["id"] == taken.id
    assert live.world.writer.count("annotate ModelTraining") == 1


def test_a_request_that_was_consumed_is_not_repeated() -> None:
    live = Live(RETRAIN)
    for _ in range(2):
        live.window(MOVED)
    taken = live.status.actions[0]
    later = "2026-03-01T13:00:00Z"
    live.train(requests={"retrain": {"id": "of a person", "time": later}})
    live.step()
    assert taken.result == "Requested"
    assert live.asked() is None


def test_no_second_request_while_the_first_is_worked_on() -> None:
    live = Live(RETRAIN)
    for _ in range(2):
        live.window(MOVED)
    taken = live.status.actions[0].id
    run = {
        "number": 2,
        "trigger": {"type": "Drift", "source": taken},
        "jobName": "flights-2",
        "startTime": "2026-03-01T12:03:00Z",
    }
    live.train(currentRun=run, requests={"retrain": {"id": taken, "time": "2026-03-01T12:30:00Z"}})
    live.window(MOVED)
    assert live.condition("ActionBlocked")[:2] == ("True", "RunInProgress")
    assert live.asked() is None


def test_a_failed_gate_ends_the_action_as_failed_and_attempts_run_out() -> None:
    live = Live({**RETRAIN, "maxAttempts": 1})
    live.window(MOVED)
    run = {
        "number": 2,
        "trigger": {"type": "Drift", "source": live.status.actions[0].id},
        "jobName": "flights-2",
        "startTime": "2026-03-01T12:03:00Z",
        "result": "GateFailed",
        "reason": "GateFailed",
        "message": "auc 0.5 misses 0.7",
    }
    live.train(runs=[run], requests={"retrain": {"id": live.status.actions[0].id, "time": "2026-03-01T12:30:00Z"}})
    live.window(MOVED)
    assert [a.result for a in live.status.actions] == ["Blocked", "Failed"]
    assert live.condition("ActionBlocked")[:2] == ("True", "Attempts")


def test_a_promoted_version_ends_the_action_and_the_next_baseline_starts_without_streaks() -> None:
    live = Live(RETRAIN)
    for _ in range(2):
        live.window(MOVED)
    run = {
        "number": 2,
        "trigger": {"type": "Drift", "source": live.status.actions[0].id},
        "jobName": "flights-2",
        "startTime": "2026-03-01T12:03:00Z",
        "result": "Succeeded",
        "versionName": "flights-2",
    }
    live.train(runs=[run], requests={"retrain": {"id": live.status.actions[0].id, "time": "2026-03-01T12:30:00Z"}})
    live.deploy({"stable": track(2, "sha256:" + "c" * 64), "previous": track(1)})
    live.cells = [0, 0]
    live.window(LIKE_TRAINING)
    assert live.status.actions[0].result == "Promoted"
    assert live.status.window.version == "v2"
    assert live.status.detectors[0].consecutive == 0


def test_while_a_version_is_replaced_nothing_is_asked() -> None:
    live = Live(RETRAIN)
    rollout = {"phase": "Baking", "started": "2026-03-01T12:00:00Z"}
    live.deploy({"stable": track(1), "rollout": rollout})
    for _ in range(3):
        live.window(MOVED)
    assert live.asked() is None
    assert live.condition("ActionBlocked")[:2] == ("True", "RolloutInProgress")
    assert live.status.actions == ()


def test_a_fresh_version_that_waits_for_its_rollout_is_not_followed_by_another() -> None:
    live = Live(RETRAIN)
    live.train(latestVersion={"name": "flights-2", "number": 2, "digest": "sha256:" + "c" * 64})
    for _ in range(3):
        live.window(MOVED)
    assert live.asked() is None
    assert live.condition("ActionBlocked")[1] == "RolloutAwaited"


def test_wrong_labels_roll_back_when_the_spec_says_so() -> None:
    live = Live({"type": "Rollback", "on": ["Degradation"]})
    live.deploy({"stable": track(1), "previous": track(2)})
    for _ in range(2):
        live.window(LIKE_TRAINING, (500, 200))
    marks = live.world.deployments.get("ml", "flights").meta.annotations
    asked = json.loads(marks[request_annotation("rollback")])
    assert (asked["by"], asked["trigger"]) == ("DriftMonitor/flights", "Degradation")
    assert asked["version"] == "v1"
    assert live.condition("Degradation")[0] == "True"


def test_without_a_previous_version_a_rollback_is_blocked() -> None:
    live = Live({"type": "Rollback", "on": ["Degradation"]})
    for _ in range(2):
        live.window(LIKE_TRAINING, (500, 200))
    assert live.condition("ActionBlocked")[:2] == ("True", "NoPreviousVersion")


def test_with_a_quarantined_previous_version_a_rollback_is_blocked() -> None:
    live = Live({"type": "Rollback", "on": ["Degradation"]})
    bad = {"digest": BASE, "reason": "AnalysisFailed", "time": "2026-03-01T11:00:00Z"}
    live.deploy({"stable": track(1), "previous": track(2, BASE), "quarantined": [bad]})
    for _ in range(2):
        live.window(LIKE_TRAINING, (500, 200))
    assert live.condition("ActionBlocked")[:2] == ("True", "PreviousQuarantined")


def test_a_promotion_by_a_person_lets_the_monitor_act_again() -> None:
    live = Live({**RETRAIN, "maxAttempts": 1})
    live.window(MOVED)
    first = live.status.actions[0].id
    run = {
        "number": 2,
        "trigger": {"type": "Drift", "source": first},
        "jobName": "flights-2",
        "startTime": "2026-03-01T12:03:00Z",
        "result": "GateFailed",
    }
    live.train(runs=[run], requests={"retrain": {"id": first, "time": "2026-03-01T12:01:30Z"}})
    when = "2026-03-01T12:01:40Z"
    by_hand = {"versionName": "mine", "digest": DIGEST, "started": when, "ended": when, "result": "Promoted"}
    live.deploy({"stable": track(1), "history": [by_hand]})
    live.window(MOVED)
    assert [a.result for a in live.status.actions] == ["Requested", "Failed"]


def test_no_traffic_is_insufficient_data_with_the_rows_seen_from_the_first_look_on() -> None:
    live = Live(RETRAIN)
    live.step()
    assert live.condition("DataAvailable")[:2] == ("False", "InsufficientData")
    assert "0 of 200 rows" in live.condition("DataAvailable")[2]
    live.window((0, 0))
    assert live.condition("DataAvailable")[2].startswith("0 rows of 200")
    assert live.status.drift == "InsufficientData"


def test_a_missing_deployment_stalls_the_monitor_with_the_fix() -> None:
    live = Live(RETRAIN)
    live.world.deployments.rows.clear()
    assert live.step() == Done()
    assert live.condition("Stalled")[:2] == ("True", "TargetNotFound")
    assert "spec.deploymentRef.name" in live.condition("Ready")[2]


def test_a_suspended_monitor_reads_and_writes_nothing_more() -> None:
    live = Live(RETRAIN, suspend=True)
    live.step()
    writes = len(live.world.writer.log)
    live.step()
    assert len(live.world.writer.log) == writes
    assert live.world.signals.watched[KEY] == ()


def test_between_window_ends_nothing_is_written() -> None:
    live = Live(RETRAIN)
    live.window(LIKE_TRAINING)
    live.step()
    writes = len(live.world.writer.log)
    live.cells[0] += 10
    live.step()
    assert len(live.world.writer.log) == writes


def test_a_pod_that_began_anew_counts_from_zero_and_an_unknown_pod_from_its_first_look() -> None:
    live = Live()
    live.cells = [5000, 5000]
    live.step()
    live.start = "2026-03-01T12:00:30Z"
    live.cells = [300, 300]
    live.step()
    live.world.clock.pass_(WINDOW)
    live.step()
    assert live.status.window.rows == 600


def test_a_window_beyond_the_calendar_ends_nowhere_near_and_breaks_nothing() -> None:
    live = Live(RETRAIN, window="99999999999999999h")
    live.window(MOVED)
    assert live.condition("Ready")[:2] == ("True", "Watching")
    assert live.status.window is None


def test_a_model_without_baseline_stalls_with_the_fix() -> None:
    live = Live(RETRAIN)
    bare = track(1)
    del bare["baselineDigest"]
    live.deploy({"stable": bare})
    live.step()
    assert live.condition("Stalled")[:2] == ("True", "NoBaseline")
