"""Resources that the API server must refuse, with what it must say, and such that it must accept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32

TRAINING: Spec = {
    "trainer": {"sklearn": {"estimator": "HistGradientBoostingClassifier", "target": "late"}},
    "data": {"train": {"uri": "flights:latest"}},
}
DEPLOYMENT: Spec = {"model": {"trainingRef": {"name": "flights"}}}
MONITOR: Spec = {"deploymentRef": {"name": "flights"}, "actions": [{"type": "Retrain", "on": ["DataDrift"]}]}
VERSION: Spec = {"number": 1, "artifact": {"uri": f"oci://registry/ml/flights@{DIGEST}", "digest": DIGEST}}
SMALLEST = {"ModelTraining": TRAINING, "ModelDeployment": DEPLOYMENT, "DriftMonitor": MONITOR, "ModelVersion": VERSION}


@dataclass(frozen=True, slots=True)
class Refused:
    """One invalid resource. field: the path that the answer names; fix: words of our rule's message, if one speaks."""

    title: str
    kind: str
    spec: Spec
    field: str
    fix: str = ""
    name: str = "sample"


def manifest(kind: str, spec: Spec, name: str = "sample") -> Spec:
    """A resource of the namespace `default`."""
    return {
        "apiVersion": "homeostat.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def changed(kind: str, path: str, value: Any) -> Spec:
    """The smallest spec of a kind with one field, `a.b.0.c`, set to `value`; None removes it."""
    spec: Spec = json.loads(json.dumps(SMALLEST[kind]))
    *parents, last = path.split(".")
    place: Any = spec
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return spec


def _training(title: str, path: str, value: Any, field: str, fix: str = "") -> Refused:
    return Refused(title, "ModelTraining", changed("ModelTraining", path, value), field, fix)


def _deployment(title: str, path: str, value: Any, field: str, fix: str = "") -> Refused:
    return Refused(title, "ModelDeployment", changed("ModelDeployment", path, value), field, fix)


def _monitor(title: str, path: str, value: Any, field: str, fix: str = "") -> Refused:
    return Refused(title, "DriftMonitor", changed("DriftMonitor", path, value), field, fix)


def _version(title: str, path: str, value: Any, field: str, fix: str = "") -> Refused:
    return Refused(title, "ModelVersion", changed("ModelVersion", path, value), field, fix)


ROLLBACK = {"type": "Rollback", "on": ["Degradation"], "trainingRef": {"name": "flights"}}
STEPS = "strategy.canary.steps"

REFUSED = (
    _training("no way to train", "trainer", {}, "spec.trainer", "set spec.trainer.sklearn"),
    _training("no data", "data", None, "spec.data"),
    _training(
        "an estimator with its module",
        "trainer.sklearn.estimator",
        "sklearn.svm.SVC",
        "spec.trainer.sklearn.estimator",
    ),
    _training("an unknown field", "trainer.sklearn.epochs", 3, "spec.trainer.sklearn.epochs"),
    _training("a gate without a bound", "gates", [{"metric": "auc"}], "spec.gates[0]", "give the gate a bound"),
    _training(
        "a gate that nothing passes",
        "gates",
        [{"metric": "auc", "min": 0.9, "max": 0.1}],
        "spec.gates[0].min",
        "min must not exceed max",
    ),
    Refused(
        "two ways to hold rows out",
        "ModelTraining",
        TRAINING | {"data": {"train": {"uri": "a"}, "test": {"uri": "b"}}, "split": {"fraction": 0.1}},
        "spec.split",
        "remove spec.split",
    ),
    _training("an unknown optimisation", "optimization", {"type": "int8"}, "spec.optimization.type"),
    _training("all rows held out", "split", {"fraction": 1.5}, "spec.split.fraction"),
    _training("a time zone without a schedule", "timeZone", "Europe/Berlin", "spec.timeZone", "set spec.schedule"),
    _training("a duration in words", "deadline", "4 hours", "spec.deadline"),
    _training("too many retries", "retryLimit", 11, "spec.retryLimit"),
    Refused("a dotted name", "ModelTraining", TRAINING, "metadata.name", "must start with a letter", "flights.eu"),
    Refused("a long name", "ModelTraining", TRAINING, "metadata.name", "at most 50 characters", "a" * 51),
    _version("a digest that is none", "artifact.digest", "latest", "spec.artifact.digest"),
    _version("version zero", "number", 0, "spec.number"),
    _version("a format that is not ONNX", "artifact.format", "pickle", "spec.artifact.format"),
    _deployment("no model", "model", {}, "spec.model", "name exactly one model"),
    _deployment("two models", "model.versionRef", {"name": "flights-1"}, "spec.model", "name exactly one model"),
    _deployment(
        "a step that is the promotion",
        STEPS,
        [{"weight": 100, "duration": "1m"}],
        "spec.strategy.canary.steps[0].weight",
    ),
    _deployment(
        "shrinking steps",
        STEPS,
        [{"weight": 50, "duration": "1m"}, {"weight": 25, "duration": "1m"}],
        "spec.strategy.canary.steps",
        "weights must grow",
    ),
    Refused(
        "replicas beside an autoscaler",
        "ModelDeployment",
        DEPLOYMENT | {"replicas": 2, "autoscaling": {}},
        "spec.replicas",
        "choose one",
    ),
    _deployment(
        "more pods at least than at most",
        "autoscaling",
        {"minReplicas": 5},
        "spec.autoscaling.minReplicas",
        "must not exceed maxReplicas",
    ),
    _deployment(
        "a metric twice",
        "analysis",
        {"metrics": [{"type": "Quality"}, {"type": "Quality"}]},
        "spec.analysis.metrics[1]",
    ),
    _deployment("an unknown optimisation", "optimization", {"type": "Int4"}, "spec.optimization.type"),
    _deployment("an optimisation without a way", "optimization", {"tolerance": 0.1}, "spec.optimization.type"),
    _deployment(
        "a tolerance of everything",
        "optimization",
        {"type": "Graph", "tolerance": 2},
        "spec.optimization.tolerance",
    ),
    _deployment("half of the requests held back", "bake", {"holdback": 60}, "spec.bake.holdback"),
    Refused("a long name", "ModelDeployment", DEPLOYMENT, "metadata.name", "at most 45 characters", "a" * 46),
    _monitor("nothing to watch", "deploymentRef", None, "spec.deploymentRef"),
    _monitor("an unknown finding", "actions.0.on", ["Weather"], "spec.actions[0].on[0]"),
    _monitor("an action without a finding", "actions.0.on", [], "spec.actions[0].on"),
    _monitor(
        "a rollback that names a training",
        "actions",
        [ROLLBACK],
        "spec.actions[0].trainingRef",
        "remove trainingRef",
    ),
    _monitor("reads more seldom than it judges", "interval", "2h", "spec.interval", "must not exceed window"),
    _monitor("a long interval before the default window's end", "window", "10s", "spec.interval", "a longer window"),
    _monitor("windows without length", "window", "1s", "spec.window", "between 5s and 720h"),
    _monitor("windows of years", "window", "9000h", "spec.window", "between 5s and 720h"),
    _monitor("reads without a pause", "interval", "0s", "spec.interval", "1s or more"),
    _monitor("more actions than are remembered", "actions.0.budget", {"max": 11}, "spec.actions[0].budget.max"),
    _monitor("more attempts than are remembered", "actions.0.maxAttempts", 11, "spec.actions[0].maxAttempts"),
    _monitor("windows of a handful of rows", "minRows", 10, "spec.minRows"),
)

ACCEPTED: tuple[tuple[str, str, Spec], ...] = (
    ("the smallest training", "ModelTraining", TRAINING),
    ("the smallest deployment", "ModelDeployment", DEPLOYMENT),
    ("the smallest monitor", "DriftMonitor", MONITOR),
    ("the smallest version", "ModelVersion", VERSION),
    (
        "a training with all that it can have",
        "ModelTraining",
        {
            "trainer": {
                "sklearn": {
                    "estimator": "LogisticRegression",
                    "target": "late",
                    "parameters": {"C": 0.1, "max_iter": 200, "fit_intercept": True, "solver": "lbfgs"},
                    "exclude": ["row_id"],
                }
            },
            "data": {"train": {"uri": f"oci://registry.example.com:5000/ml/flights@{DIGEST}"}},
            "split": {"column": "month", "fraction": 0.25},
            "gates": [{"metric": "auc", "min": 0.7, "maxRegression": 0.01}, {"metric": "brier", "max": 0.2}],
            "schedule": "0 3 * * 1",
            "timeZone": "Europe/Berlin",
            "suspend": True,
            "retryLimit": 0,
            "deadline": "1h30m",
            "seed": 7,
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            "versions": {"historyLimit": 5},
        },
    ),
    (
        "a training judged by rows of its own",
        "ModelTraining",
        TRAINING | {"data": {"train": {"uri": "a:latest"}, "test": {"uri": "b:latest"}}},
    ),
    ("a pinned deployment", "ModelDeployment", {"model": {"versionRef": {"name": "flights-7"}}, "replicas": 2}),
    (
        "a model from elsewhere",
        "ModelDeployment",
        {"model": {"source": {"uri": "oci://registry/ml/churn:v1", "digest": DIGEST}}, "paused": True},
    ),
    (
        "a deployment with all that it can have",
        "ModelDeployment",
        DEPLOYMENT
        | {
            "autoscaling": {"minReplicas": 2, "maxReplicas": 10, "cpuPercent": 50},
            "server": {"workers": 2, "resources": {"requests": {"cpu": "1"}}},
            "strategy": {"canary": {"steps": [{"weight": 10, "duration": "90s"}, {"weight": 50, "duration": "5m"}]}},
            "analysis": {
                "metrics": [
                    {"type": "ErrorRate", "tolerance": {"absolute": 0.01, "relative": 0.2}},
                    {"type": "Quality", "required": True},
                ],
                "falseRollbackRate": 0.05,
                "onInconclusive": "Rollback",
            },
            "bake": {"duration": "1h", "holdback": 0},
            "progressDeadline": "20m",
        },
    ),
    ("a deployment that replaces at once", "ModelDeployment", DEPLOYMENT | {"strategy": {"canary": {"steps": []}}}),
    ("a monitor that only looks", "DriftMonitor", {"deploymentRef": {"name": "flights"}}),
    (
        "a monitor with the shortest windows",
        "DriftMonitor",
        {"deploymentRef": {"name": "flights"}, "window": "5s", "interval": "1s"},
    ),
    ("a monitor with the longest windows", "DriftMonitor", {"deploymentRef": {"name": "flights"}, "window": "720h"}),
    (
        "a monitor with all that it can have",
        "DriftMonitor",
        {
            "deploymentRef": {"name": "flights"},
            "window": "15m",
            "interval": "10s",
            "minRows": 500,
            "minLabels": 200,
            "actions": [
                {
                    "type": "Retrain",
                    "on": ["DataDrift", "Degradation"],
                    "cooldown": "1h",
                    "budget": {"max": 2, "period": "24h"},
                    "maxAttempts": 2,
                    "trainingRef": {"name": "flights"},
                },
                {"type": "Rollback", "on": ["PredictionDrift"]},
            ],
            "suspend": True,
        },
    ),
)
