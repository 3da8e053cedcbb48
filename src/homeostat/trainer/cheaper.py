"""The fitted model in a cheaper form, compared on held-out rows. No timing: the same run gives the same model."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from homeostat.api.wire.bundle import MODEL_FILE, Signature
from homeostat.api.wire.optimization import OPTIMIZED_FILE
from homeostat.api.wire.run import OptimizationPlan
from homeostat.artifacts.optimizers import optimize
from homeostat.errors import ArtifactError
from homeostat.stats.change import changed_rows, largest_change
from homeostat.trainer import export


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model that becomes the version: its bytes, its scores on the held-out rows, and what is said of the choice.

    report: for `metrics.json`, empty when nothing was asked for. told: one sentence, empty likewise.
    """

    content: bytes
    scores: export.Scores
    report: dict[str, Any]
    told: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """What is shown beside the model's metrics."""
        return {"optimization_difference": self.report["difference"]} if self.report.get("used") else {}


def choose(
    plan: OptimizationPlan | None, content: bytes, scores: export.Scores, signature: Signature, frame: pd.DataFrame
) -> Chosen:
    """The optimised model within the tolerance, else the model as it is. scores: its own on `frame`.

    Raises ArtifactError `OptimizationRefused` when it is required and not to be had.
    """
    if plan is None:
        return Chosen(content, scores, {})
    try:
        made = _made(plan, content)
        found = export.score(export.session(made), signature, frame)
    except ArtifactError as error:
        return _refused(plan, content, scores, {"reason": error.reason}, error.because)
    difference = largest_change(scores.scores, found.scores, probabilities=bool(len(scores.labels)))
    labels = changed_rows(scores.labels, found.labels)
    figures = {"difference": float(f"{difference:.6g}"), "labels": labels, "rows": len(frame)}
    sizes = {"size": len(made), "original_size": len(content)}
    if not (difference <= plan.tolerance and labels <= plan.tolerance):
        because = f"scores change by up to {difference:.4g}, {labels:.2%} of labels change; the tolerance is {plan.tolerance:g}"
        return _refused(plan, content, scores, {"reason": "AboveTolerance", **_finite(figures)}, because)
    told = f"{plan.type}: {len(made)} bytes instead of {len(content)}, scores change by up to {difference:.2g}"
    return Chosen(made, found, {"type": plan.type, "used": True, **figures, **sizes}, told)


def _made(plan: OptimizationPlan, content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        original, made = Path(folder) / MODEL_FILE, Path(folder) / OPTIMIZED_FILE
        original.write_bytes(content)
        optimize(plan.type, original, made)
        return made.read_bytes()


def _refused(
    plan: OptimizationPlan, content: bytes, scores: export.Scores, report: dict[str, Any], because: str
) -> Chosen:
    if plan.required:
        raise ArtifactError("OptimizationRefused", f"{plan.type}: {because} (spec.optimization)")
    told = f"{plan.type} is not used: {because}"
    return Chosen(content, scores, {"type": plan.type, "used": False, "message": because, **report}, told)


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {name: value for name, value in figures.items() if value != float("inf")}
