"""Metrics of held-out rows, and the gates on them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.run import GateOutcome, GatePlan
from homeostat.errors import ArtifactError
from homeostat.trainer.export import Scores
from homeostat.trainer.target import Target, Task

METRICS: Final[dict[Task, tuple[str, ...]]] = {
    "binary": ("auc", "accuracy", "f1", "log_loss", "brier"),
    "multiclass": ("auc", "accuracy", "f1", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
}
HIGHER_IS_BETTER: Final = frozenset({"auc", "accuracy", "f1", "r2"})


def require_apt(gates: tuple[GatePlan, ...], task: Task) -> None:
    """Raise ArtifactError `MetricUnsuitable` for a gate on a metric that this task does not have."""
    for gate in gates:
        if gate.metric not in METRICS[task]:
            raise ArtifactError(
                "MetricUnsuitable",
                f"a {task} model has no metric {gate.metric!r}: use one of {', '.join(METRICS[task])}",
            )


def evaluate(scores: Scores, truth: NDArray[Any], target: Target) -> dict[str, float]:
    """All metrics of the task, rounded to 6 digits; one that these rows do not define is left out.

    truth: (n,), as the graph gives labels. The order of scores' columns is that of `target.classes`.
    """
    measured = _regression(scores, truth) if target.task == "regression" else _classes(scores, truth, target)
    return {name: round(float(value), 6) for name, value in measured.items() if np.isfinite(value)}


def judge(gate: GatePlan, observed: dict[str, float], champion: dict[str, float] | str | None) -> GateOutcome:
    """Whether the gate holds. champion: its metrics on the same rows, why it has none, or None without a champion."""
    if gate.metric not in observed:
        return GateOutcome(
            metric=gate.metric, passed=False, observed=0.0, required="the held-out rows do not define it"
        )
    value = observed[gate.metric]
    bounds: list[tuple[bool, str]] = []
    if gate.min is not None:
        bounds.append((value >= gate.min, f"at least {gate.min:g}"))
    if gate.max is not None:
        bounds.append((value <= gate.max, f"at most {gate.max:g}"))
    if gate.max_regression is not None and champion is not None:
        bounds.append(_against(champion, gate, value))
    failed = [text for passed, text in bounds if not passed]
    required = " and ".join(failed or [text for _, text in bounds]) or "no worse than the champion (there is none)"
    return GateOutcome(metric=gate.metric, passed=not failed, observed=value, required=required)


def _against(champion: dict[str, float] | str, gate: GatePlan, value: float) -> tuple[bool, str]:
    if isinstance(champion, str):
        return False, f"no worse than the champion, which cannot be scored: {champion}"
    if gate.metric not in champion:
        return False, "no worse than the champion, for which these rows do not define it"
    allowed, best = gate.max_regression or 0.0, champion[gate.metric]
    if gate.metric in HIGHER_IS_BETTER:
        return value >= best - allowed, f"at least {best - allowed:g} (champion {best:g} - {allowed:g})"
    return value <= best + allowed, f"at most {best + allowed:g} (champion {best:g} + {allowed:g})"


def _classes(scores: Scores, truth: NDArray[Any], target: Target) -> dict[str, float]:
    from sklearn.metrics import f1_score, roc_auc_score

    places = {label: i for i, label in enumerate(target.classes)}
    true = np.array([places[label] for label in truth.tolist()])
    said = np.array([places.get(label, -1) for label in scores.labels.tolist()])
    chances = scores.scores / scores.scores.sum(axis=1, keepdims=True)
    of_truth = np.clip(chances[np.arange(len(true)), true], 1e-15, 1.0)
    measured = {"accuracy": float((true == said).mean()), "log_loss": float(-np.log(of_truth).mean())}
    if target.task == "binary":
        measured["auc"] = roc_auc_score(true, chances[:, 1]) if len(np.unique(true)) == 2 else np.nan
        measured["f1"] = f1_score(true, said, zero_division=0.0)
        measured["brier"] = float(((chances[:, 1] - true) ** 2).mean())
    else:
        everyone = len(np.unique(true)) == len(places)
        measured["auc"] = roc_auc_score(true, chances, multi_class="ovr") if everyone else np.nan
        measured["f1"] = f1_score(true, said, average="macro", zero_division=0.0)
    return measured


def _regression(scores: Scores, truth: NDArray[Any]) -> dict[str, float]:
    apart = scores.scores[:, 0] - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "rmse": float(np.sqrt((apart**2).mean())),
        "mae": float(np.abs(apart).mean()),
        "r2": 1 - float((apart**2).sum()) / spread if spread else np.nan,
    }
