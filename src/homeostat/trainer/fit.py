"""Step 2: read, split, fit, convert, compare, evaluate, judge; leaves the bundle's files and a summary."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from homeostat.api.wire import bundle
from homeostat.api.wire.run import DataUsed, RunPlan, RunSummary
from homeostat.errors import ArtifactError
from homeostat.trainer import baseline, cheaper, estimator, export, metrics
from homeostat.trainer.table import Columns, as_numbers, as_strings, choose_columns, read_folder, require_finite
from homeostat.trainer.target import Target, hold_out, label_values, require_rows, target_of, with_target
from homeostat.trainer.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Task:
    """A run's data, ready to fit: rows to learn from and rows to judge by, with all of their columns."""

    plan: RunPlan
    target: Target
    columns: Columns
    train: pd.DataFrame
    test: pd.DataFrame


def run(plan: RunPlan, workspace: Workspace) -> None:
    """Fit the plan's model. A failed gate is no error: `publish` reports it. Raises ArtifactError, a reason per cause."""
    model = estimator.build(plan.sklearn, plan.seed)
    task, used = _prepare(plan, workspace, classifier=estimator.is_classifier(model))
    content, fitted = _fit(task, model)
    running = export.session(content)
    signature = export.describe(running, task.columns, task.target)
    scores = export.score(running, signature, task.test)
    worst = export.require_same(_original(fitted, task), scores)
    chosen = cheaper.choose(plan.optimization, content, scores, signature, task.test)
    content, scores = chosen.content, chosen.scores
    truth = label_values(task.test, plan.sklearn.target, task.target.label_type)
    measured = metrics.evaluate(scores, truth, task.target)
    champion = _champion(task, workspace, truth)
    gates = tuple(metrics.judge(gate, measured, champion) for gate in plan.gates)
    champion_metrics = champion if isinstance(champion, dict) else {}
    _write(workspace, content, signature, _profile(task, workspace, scores, measured))
    _json(
        workspace,
        bundle.METRICS_FILE,
        {
            "metrics": measured,
            "champion": champion_metrics,
            "gates": [gate.model_dump() for gate in gates],
            "rows": {"train": len(task.train), "test": len(task.test)},
            "onnx_difference": float(f"{worst:.3g}"),
            **({"optimization": chosen.report} if chosen.report else {}),
        },
    )
    failed = [gate for gate in gates if not gate.passed]
    told = "; ".join(f"{g.metric} is {g.observed:g}, required: {g.required}" for g in failed)
    fitted_on = f"fitted on {len(task.train)} rows, judged on {len(task.test)}"
    workspace.keep_summary(
        RunSummary(
            outcome="GateFailed" if failed else "Succeeded",
            reason="GateFailed" if failed else "Succeeded",
            message=told or "; ".join(filter(None, (fitted_on, chosen.told))),
            permanent=bool(failed),
            data=used,
            metrics=measured | chosen.metrics,
            champion_metrics=champion_metrics,
            gates=gates,
        )
    )
    sys.stdout.write(f"{plan.sklearn.estimator}: {measured}, ONNX differs by {worst:.2g}; {told or 'all gates hold'}\n")
    sys.stdout.write(f"{chosen.told}\n" if chosen.told else "")


def _prepare(plan: RunPlan, workspace: Workspace, *, classifier: bool) -> tuple[Task, tuple[DataUsed, ...]]:
    name = plan.sklearn.target
    frames = {one.name: read_folder(workspace.input(one.name), one.name) for one in workspace.data()}
    used = tuple(one.model_copy(update={"rows": len(frames[one.name])}) for one in workspace.data())
    train = with_target(frames["train"], name, "train")
    target = target_of(train, name, classifier=classifier)
    metrics.require_apt(plan.gates, target.task)
    if "test" in frames:
        test = with_target(frames["test"], name, "test")
    else:
        train, test = hold_out(train, plan, target)
    require_rows(train, test, name, target)
    if target.classes:
        unseen = set(label_values(test, name, target.label_type).tolist()) - set(target.classes)
        if unseen:
            raise ArtifactError("TargetUnsuitable", f"data.test has a label that data.train lacks: {unseen.pop()!r}")
    split = [plan.split_column] if plan.split_column else []
    columns = choose_columns(train, list(dict.fromkeys([name, *split, *plan.sklearn.exclude])))
    require_finite(test, columns)
    return Task(plan, target, columns, train, test), used


def _rows(task: Task, frame: pd.DataFrame) -> pd.DataFrame:
    """The model's columns as served, numbers first; what scikit-learn sees and the graph will see are the same values."""
    columns = task.columns
    numbers = pd.DataFrame(as_numbers(frame, columns.numbers), columns=[f"n{i}" for i in range(len(columns.numbers))])
    strings = pd.DataFrame(
        as_strings(frame, columns.strings), columns=[f"s{i}" for i in range(len(columns.strings))], dtype=object
    )
    return pd.concat([numbers, strings], axis=1)


def _fit(task: Task, model: Any) -> tuple[bytes, Any]:
    strings = as_strings(task.train, task.columns.strings)
    fitted = estimator.pipeline(model, task.columns, strings)
    name = task.plan.sklearn.target
    estimator.fit(
        fitted,
        _rows(task, task.train),
        label_values(task.train, name, task.target.label_type),
        task.plan.sklearn.estimator,
    )
    return export.convert(fitted, task.columns), fitted


def _original(fitted: Any, task: Task) -> export.Scores:
    rows = _rows(task, task.test)
    if not task.target.classes:
        return export.Scores(np.empty(0), np.asarray(fitted.predict(rows), dtype=np.float64).reshape(-1, 1))
    return export.Scores(fitted.predict(rows), np.asarray(fitted.predict_proba(rows), dtype=np.float64))


def _champion(task: Task, workspace: Workspace, truth: Any) -> dict[str, float] | str | None:
    """The champion's metrics on the same rows, or why it has none; None when there is no champion."""
    if task.plan.champion is None:
        return None
    try:
        signature = bundle.Signature.model_validate_json((workspace.champion / bundle.SIGNATURE_FILE).read_text())
        if (signature.task, signature.labels) != (task.target.task, task.target.labels):
            return f"it is a {signature.task} model of {', '.join(signature.labels) or 'values'}"
        running = export.session(workspace.champion / bundle.MODEL_FILE)
        return metrics.evaluate(export.score(running, signature, task.test), truth, task.target)
    except (ArtifactError, OSError, ValueError) as error:
        return str(error)


def _profile(task: Task, workspace: Workspace, scores: export.Scores, measured: dict[str, float]) -> bundle.Baseline:
    path = workspace.champion / bundle.BASELINE_FILE
    before = None
    if task.plan.champion is not None and path.exists():
        before = bundle.Baseline.model_validate_json(path.read_text())
    columns = task.columns
    numbers, strings = as_numbers(task.train, columns.numbers), as_strings(task.train, columns.strings)
    seen = baseline.features(columns, numbers, strings)
    accuracy = measured.get("accuracy")
    return baseline.build(
        seen,
        baseline.prediction(scores, task.target, before),
        rows=len(task.train),
        test_rows=len(task.test),
        error_rate=None if accuracy is None else round(1 - accuracy, 6),
        joint=baseline.together(seen, numbers, strings),
    )


def _write(workspace: Workspace, content: bytes, signature: bundle.Signature, profile: bundle.Baseline) -> None:
    workspace.output.mkdir(parents=True, exist_ok=True)
    (workspace.output / bundle.MODEL_FILE).write_bytes(content)
    (workspace.output / bundle.SIGNATURE_FILE).write_text(signature.model_dump_json())
    (workspace.output / bundle.BASELINE_FILE).write_text(profile.model_dump_json())


def _json(workspace: Workspace, name: str, content: dict[str, Any]) -> None:
    (workspace.output / name).write_text(json.dumps(content, sort_keys=True))
