"""Gates, the comparison of ONNX with the original, and the termination message."""

import numpy as np
import pytest

from homeostat.api.wire.run import DataUsed, GateOutcome, GatePlan, RunSummary
from homeostat.errors import ArtifactError
from homeostat.trainer.export import Scores, require_same
from homeostat.trainer.metrics import evaluate, judge
from homeostat.trainer.target import Target
from homeostat.trainer.workspace import MAX_MESSAGE, message

BINARY = Target("binary", "integer", (0, 1))


def scores(*chances: float) -> Scores:
    p = np.array(chances)
    return Scores((p > 0.5).astype(int), np.column_stack([1 - p, p]))


def test_metrics_of_a_small_case_are_those_by_hand() -> None:
    found = evaluate(scores(0.9, 0.2, 0.6, 0.4), np.array([1, 0, 0, 1]), BINARY)
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.75
    assert found["f1"] == 0.5
    assert found["brier"] == pytest.approx((0.01 + 0.04 + 0.36 + 0.36) / 4)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.4]).mean(), abs=1e-6)


def test_a_metric_that_the_rows_do_not_define_is_left_out() -> None:
    assert "auc" not in evaluate(scores(0.9, 0.2), np.array([1, 1]), BINARY)


@pytest.mark.parametrize(
    ("gate", "champion", "passed"),
    [
        ({"metric": "auc", "min": 0.7}, None, True),
        ({"metric": "auc", "min": 0.9}, None, False),
        ({"metric": "log_loss", "max": 0.5}, None, True),
        ({"metric": "log_loss", "max": 0.3}, None, False),
        ({"metric": "auc", "max_regression": 0.02}, {"auc": 0.81}, True),
        ({"metric": "auc", "max_regression": 0.02}, {"auc": 0.83}, False),
        ({"metric": "log_loss", "max_regression": 0.0}, {"log_loss": 0.39}, False),
        ({"metric": "log_loss", "max_regression": 0.0}, {"log_loss": 0.41}, True),
        ({"metric": "auc", "max_regression": 0.0}, None, True),
        ({"metric": "auc", "max_regression": 0.0}, "its columns are gone", False),
        ({"metric": "f1", "min": 0.0}, None, False),
    ],
)
def test_a_gate_judges_in_the_metrics_own_direction(gate: dict, champion: dict | str | None, passed: bool) -> None:
    outcome = judge(GatePlan.model_validate(gate), {"auc": 0.8, "log_loss": 0.4}, champion)
    assert outcome.passed is passed
    assert outcome.required


def test_small_differences_pass_and_large_or_nan_ones_are_a_mismatch() -> None:
    original = scores(0.9, 0.2, 0.50001)
    assert require_same(original, scores(0.90001, 0.2, 0.49999)) < 1e-4, "a label at the border may turn"
    for graph in (scores(0.91, 0.2, 0.50001), scores(float("nan"), 0.2, 0.50001)):
        with pytest.raises(ArtifactError, match="1 of 3") as raised:
            require_same(original, graph)
        assert raised.value.reason == "OnnxMismatch"
    turned = Scores(np.array([0, 0, 1]), original.scores)
    with pytest.raises(ArtifactError, match="another label on 1 of 3"):
        require_same(original, turned)


@pytest.mark.parametrize("size", [0, 100, 3000, 100_000])
@pytest.mark.parametrize("letter", ["x", "é", '"'])
def test_the_message_is_always_json_of_at_most_two_kib(size: int, letter: str) -> None:
    full = RunSummary(
        outcome="GateFailed",
        reason="GateFailed",
        message=letter * size,
        metrics={f"metric{i}": 0.123456 for i in range(size // 100)},
        gates=tuple(GateOutcome(metric="auc", passed=False, observed=0.5, required=letter * size) for _ in range(20)),
        data=(DataUsed(name="train", uri="oci://h/" + "a" * min(size, 400), digest="sha256:" + "0" * 64, rows=5),),
    )
    packed = message(full)
    assert len(packed) <= MAX_MESSAGE
    assert RunSummary.model_validate_json(packed).outcome == "GateFailed"
