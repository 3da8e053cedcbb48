"""Runs whose model is made cheaper before it is judged."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from training.registry import Registry
from training.runs import Run, mixed, plan, push, train_here

NETWORK = {
    "estimator": "MLPClassifier",
    "exclude": ["minutes", "tail"],
    "parameters": {"hidden_layer_sizes": [160, 160], "max_iter": 12},
}


@pytest.fixture(scope="module")
def data(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    push(registry, tmp_path_factory.mktemp("optimized"), "ns/optimized:latest", mixed())
    return "ns/optimized:latest"


def run(registry: Registry, data: str, work: Path, optimization: dict[str, Any] | None, **sklearn: Any) -> Run:
    asked = {"optimization": optimization} if optimization else {}
    return train_here(work, plan(registry, data, sklearn=sklearn or NETWORK, **asked))


def report(ended: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ended.work / "output/metrics.json").read_text())
    return found


def test_the_optimised_model_is_the_version_and_is_what_the_gates_judge(
    registry: Registry, data: str, tmp_path: Path
) -> None:
    plain = run(registry, data, tmp_path / "plain", None)
    asked = {"type": "Int8Dynamic", "tolerance": 0.1}
    one, again = (run(registry, data, tmp_path / name, asked) for name in ("one", "again"))
    assert (one.code, one.summary.outcome) == (0, "Succeeded"), one.err
    assert one.summary.model_digest == again.summary.model_digest != plain.summary.model_digest
    assert one.summary.bundle_uri == again.summary.bundle_uri
    assert one.summary.model_size < 0.5 * plain.summary.model_size
    operators = {node.op_type for node in onnx.load(str(one.work / "output/model.onnx")).graph.node}
    assert "MatMulInteger" in operators
    said = report(one)["optimization"]
    assert said["used"]
    assert 0 < said["difference"] <= 0.1
    assert one.summary.metrics["optimization_difference"] == said["difference"]
    assert one.summary.metrics["log_loss"] != plain.summary.metrics["log_loss"]
    assert "Int8Dynamic: " in one.summary.message
    assert "optimization" not in report(plain)


def test_above_the_tolerance_the_fitted_model_is_the_version(registry: Registry, data: str, tmp_path: Path) -> None:
    plain = run(registry, data, tmp_path / "plain", None)
    refused = run(registry, data, tmp_path / "refused", {"type": "Int8Dynamic", "tolerance": 0.0})
    assert refused.code == 0, refused.err
    assert refused.summary.model_digest == plain.summary.model_digest
    assert report(refused)["optimization"]["reason"] == "AboveTolerance"
    assert "Int8Dynamic is not used" in refused.summary.message


def test_above_the_tolerance_a_run_that_requires_it_fails(registry: Registry, data: str, tmp_path: Path) -> None:
    asked = {"type": "Int8Dynamic", "tolerance": 0.0, "required": True}
    ended = run(registry, data, tmp_path / "required", asked)
    assert (ended.step, ended.code, ended.summary.reason) == ("fit", 42, "OptimizationRefused")
    assert "the tolerance is 0" in ended.summary.message


@pytest.mark.parametrize("kind", ["Int8Dynamic", "Float16"])
def test_trees_have_nothing_to_gain(registry: Registry, data: str, tmp_path: Path, kind: str) -> None:
    trees = {"estimator": "HistGradientBoostingClassifier", "exclude": ["minutes"], "parameters": {"max_iter": 5}}
    ended = run(registry, data, tmp_path / "trees", {"type": kind}, **trees)
    assert ended.code == 0, ended.err
    assert report(ended)["optimization"]["reason"] == "NothingToOptimize"
