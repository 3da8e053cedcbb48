"""What a run makes: its Job, and the ModelVersion that it ends in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from homeostat.api.kinds import Training
from homeostat.api.names import (
    API_VERSION,
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_RUN,
    LABEL_TRAINING,
)
from homeostat.api.training import ModelTrainingSpec, RunStatus
from homeostat.api.wire.run import (
    PERMANENT_EXIT,
    ChampionPlan,
    GatePlan,
    OptimizationPlan,
    RunPlan,
    RunSummary,
    SklearnPlan,
)
from homeostat.domain.desired.common import (
    MANAGED_BY,
    Manifest,
    container_security,
    labels,
    owner_reference,
    pod_security,
    resources,
)
from homeostat.domain.references import absolute, repository

ANNOTATION_PLAN: Final = f"{GROUP}/plan"
ANNOTATION_IMAGE: Final = f"{GROUP}/image"
JOB_TTL_SECONDS: Final = 3600  # long enough to read the logs of a run
STEPS: Final = ("fetch", "train", "publish")
COMMANDS: Final = {"fetch": "fetch", "train": "fit", "publish": "publish"}
WORK: Final = "/work"


@dataclass(frozen=True, slots=True)
class TrainerPod:
    """What the installation says of training pods."""

    image: str
    pull_policy: str
    artifacts_uri: str
    plain_http: tuple[str, ...] = ()


def run_plan(training: Training, number: int, champion: ChampionPlan | None, pod: TrainerPod) -> RunPlan:
    """The complete plan of run `number`, with absolute addresses."""
    spec, namespace = training.spec, training.meta.namespace
    sets = {"train": spec.data.train, "test": spec.data.test}
    return RunPlan(
        training=training.meta.name,
        number=number,
        sklearn=_sklearn(spec),
        data={role: absolute(s.uri, pod.artifacts_uri, namespace) for role, s in sets.items() if s is not None},
        split_column=(spec.split.column if spec.split else None) or "",
        split_fraction=spec.split.fraction if spec.split else 0.2,
        seed=spec.seed,
        gates=tuple(
            GatePlan(metric=g.metric, min=g.min, max=g.max, max_regression=g.max_regression) for g in spec.gates
        ),
        champion=champion,
        optimization=_optimization(spec),
        repository=repository(pod.artifacts_uri, namespace, training.meta.name),
        plain_http=pod.plain_http,
    )


def _optimization(spec: ModelTrainingSpec) -> OptimizationPlan | None:
    wanted = spec.optimization
    if wanted is None:
        return None
    return OptimizationPlan(type=wanted.type, tolerance=wanted.tolerance, required=wanted.required)


def _sklearn(spec: ModelTrainingSpec) -> SklearnPlan:
    wanted = spec.trainer.sklearn
    if wanted is None:  # the CRD's rule demands one way to train, and this is the only one yet
        return SklearnPlan(estimator="", target="")
    return SklearnPlan(
        estimator=wanted.estimator, target=wanted.target, parameters=dict(wanted.parameters), exclude=wanted.exclude
    )


def training_job(training: Training, name: str, plan: RunPlan, pod: TrainerPod) -> Manifest:
    """The Job of one run: fetch and train are init containers, publish the only main one."""
    meta, spec = training.meta, training.spec
    marks = labels(meta.name, "training", {LABEL_TRAINING: meta.name, LABEL_RUN: str(plan.number)})
    text = plan.model_dump_json(exclude_none=True)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": marks,
            "annotations": {ANNOTATION_PLAN: text, ANNOTATION_IMAGE: pod.image},
            "ownerReferences": [owner_reference(training.kind, meta)],
        },
        "spec": {
            "backoffLimit": spec.retry_limit,
            "activeDeadlineSeconds": max(1, int(spec.deadline.seconds)),
            "podFailurePolicy": _failure_policy(),
            "template": {"metadata": {"labels": marks}, "spec": _pod(spec, text, pod)},
        },
    }


def job_ttl(training: Training, name: str) -> Manifest:
    """The one field that a Job gets after its outcome is recorded."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": training.meta.namespace},
        "spec": {"ttlSecondsAfterFinished": JOB_TTL_SECONDS},
    }


def _failure_policy() -> Manifest:
    return {
        "rules": [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [PERMANENT_EXIT]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
    }


def _pod(spec: ModelTrainingSpec, plan: str, pod: TrainerPod) -> Manifest:
    containers = [_container(step, spec, plan, pod) for step in STEPS]
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod_security(),
        "initContainers": containers[:-1],
        "containers": containers[-1:],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }


def _container(step: str, spec: ModelTrainingSpec, plan: str, pod: TrainerPod) -> Manifest:
    return {
        "name": step,
        "image": pod.image,
        "imagePullPolicy": pod.pull_policy,
        "args": ["train", COMMANDS[step]],
        "env": [
            {"name": "HOMEOSTAT_RUN", "value": plan},
            {"name": "HOMEOSTAT_WORK", "value": WORK},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 the pod's own emptyDir
        ],
        "resources": resources(spec.resources, cpu="250m", memory="512Mi"),
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "work", "mountPath": WORK}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def recorded_plan(annotations: Mapping[str, str]) -> RunPlan | None:
    """The plan that a Job was made with; None when it cannot be read."""
    try:
        return RunPlan.model_validate_json(annotations.get(ANNOTATION_PLAN, ""))
    except ValidationError:
        return None


def model_version(training: Training, run: RunStatus, summary: RunSummary, plan: RunPlan, image: str) -> Manifest:
    """The ModelVersion of a run that succeeded. No ownerReference: it outlives its training."""
    artifact: dict[str, Any] = {"uri": summary.bundle_uri, "digest": summary.model_digest, "format": "ONNX"}
    if summary.model_size:
        artifact["sizeBytes"] = summary.model_size
    spec: Manifest = {
        "number": run.number,
        "artifact": artifact,
        "lineage": _lineage(run, summary, plan, image),
        "metrics": [{"name": name, "value": value} for name, value in _finite(summary.metrics)][:32],
        "gates": [
            {
                "metric": g.metric,
                "result": "Passed" if g.passed else "Failed",
                "observed": g.observed,
                "required": g.required,
            }
            for g in summary.gates
            if math.isfinite(g.observed)
        ],
    }
    if summary.baseline_digest:
        spec["baselineDigest"] = summary.baseline_digest
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": {
            "name": run.job_name,
            "namespace": training.meta.namespace,
            "labels": {
                LABEL_MANAGED_BY: MANAGED_BY,
                LABEL_TRAINING: training.meta.name,
                LABEL_RUN: str(run.number),
            },
        },
        "spec": spec,
    }


def _finite(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted((name, value) for name, value in metrics.items() if math.isfinite(value))


def _lineage(run: RunStatus, summary: RunSummary, plan: RunPlan, image: str) -> Manifest:
    lineage: Manifest = {
        "trainingRef": plan.training,
        "run": run.number,
        "trigger": run.trigger.to_json(),
        "data": [{"name": d.name, "uri": d.uri, "digest": d.digest, "rows": d.rows} for d in summary.data],
        "estimator": plan.sklearn.estimator,
        "parameters": json.loads(json.dumps(plan.sklearn.parameters)),
        "image": image,
        "seed": plan.seed,
    }
    if plan.champion is not None:
        lineage["parent"] = plan.champion.name
    return lineage
