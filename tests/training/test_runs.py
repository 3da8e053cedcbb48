"""Whole runs: data in a real registry, the bundle used as the server would; the main ones as three processes."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from homeostat.api.wire.bundle import Baseline, Manifest, Signature
from homeostat.artifacts.oci import Client
from homeostat.artifacts.transport import Transport
from homeostat.trainer.table import as_feeds
from training.registry import Registry, free_port
from training.runs import Run, mixed, plan, push, train, train_here

HGB = {"estimator": "HistGradientBoostingClassifier", "exclude": ["minutes"]}


@pytest.fixture(scope="module")
def data(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    push(registry, tmp_path_factory.mktemp("mixed"), "ns/mixed:latest", mixed())
    return "ns/mixed:latest"


@pytest.fixture(scope="module")
def first(registry: Registry, data: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("first"), plan(registry, data, sklearn=HGB, number=7))


def test_a_run_ends_in_a_bundle_that_serves_named_rows(registry: Registry, first: Run, tmp_path: Path) -> None:
    assert (first.step, first.code, first.summary.outcome) == ("publish", 0, "Succeeded")
    assert len(first.message) <= 2048
    client = Client()
    assert first.summary.bundle_uri.endswith(client.resolve(registry.uri("ns/flights:v7")))
    pulled = client.pull(first.summary.bundle_uri, tmp_path)
    manifest = Manifest.model_validate_json(pulled.files["bundle.json"].read_text())
    assert {f.name for f in manifest.files} | {"bundle.json"} == set(pulled.files)
    assert {f.name: f.digest for f in manifest.files}["model.onnx"] == first.summary.model_digest
    signature = Signature.model_validate_json(pulled.files["signature.json"].read_text())
    running = onnxruntime.InferenceSession(str(pulled.files["model.onnx"]))
    row = pd.DataFrame({
        "distance": [None, 500.0], "hour": [23, 1], "weekend": [True, False], "temp": [None, 60.0],
        "carrier": ["UA", "never seen"], "tail": [None, "N1"],
    })  # fmt: skip
    labels, chances = running.run([signature.label_output, signature.score_output], as_feeds(row, signature))
    assert labels.tolist() == [1, 0]
    assert signature.labels == ("0", "1")
    assert np.allclose(chances.sum(axis=1), 1)


def test_the_baseline_counts_every_training_row_once_per_feature(first: Run) -> None:
    baseline = Baseline.model_validate_json((first.work / "output/baseline.json").read_text())
    assert baseline.rows == 1200
    assert {sum(f.counts) for f in baseline.features} == {1200}
    assert (sum(baseline.prediction.counts), len(baseline.prediction.counts)) == (300, 20)
    by_name = {f.name: f for f in baseline.features}
    assert by_name["carrier"].levels == ("UA", "AA", "DL")
    assert by_name["carrier"].counts[3] > 0, "missing is counted apart"
    assert by_name["tail"].counts[-1] > 0, "levels beyond the 50 most frequent are `other`"
    assert baseline.error_rate == pytest.approx(1 - first.summary.metrics["accuracy"])


def test_same_data_parameters_and_seed_give_the_same_bytes(
    registry: Registry, data: str, first: Run, tmp_path: Path
) -> None:
    again = train(tmp_path / "again", plan(registry, data, sklearn=HGB, number=8))
    other = train(tmp_path / "other", plan(registry, data, sklearn=HGB, number=9, seed=1))
    assert again.summary.bundle_uri == first.summary.bundle_uri
    assert again.summary.model_digest == first.summary.model_digest
    assert other.summary.model_digest != first.summary.model_digest


def test_a_failed_gate_pushes_nothing_and_says_by_how_much(registry: Registry, data: str, tmp_path: Path) -> None:
    run = train_here(tmp_path, plan(registry, data, sklearn=HGB, number=70, gates=[{"metric": "auc", "min": 0.99}]))
    assert (run.step, run.code, run.summary.outcome) == ("publish", 0, "GateFailed")
    assert "at least 0.99" in run.summary.message
    assert not run.summary.bundle_uri
    assert _missing(registry, "ns/flights:v70")


def test_a_worse_model_than_the_champion_on_the_same_rows_fails(
    registry: Registry, data: str, first: Run, tmp_path: Path
) -> None:
    champion = {"name": "flights-7", "uri": first.summary.bundle_uri, "digest": first.summary.model_digest}
    gates = [{"metric": "auc", "max_regression": 0.01}]
    worse = {**HGB, "exclude": ["minutes", "hour", "carrier"]}
    same = train_here(tmp_path / "same", plan(registry, data, sklearn=HGB, number=71, gates=gates, champion=champion))
    run = train_here(tmp_path / "worse", plan(registry, data, sklearn=worse, number=72, gates=gates, champion=champion))
    assert same.summary.outcome == "Succeeded"
    assert same.summary.champion_metrics == same.summary.metrics
    assert run.summary.outcome == "GateFailed"
    assert run.summary.champion_metrics["auc"] == same.summary.metrics["auc"]


def test_a_champion_that_cannot_read_the_rows_holds_the_run_back(
    registry: Registry, data: str, first: Run, tmp_path: Path
) -> None:
    champion = {"name": "flights-7", "uri": first.summary.bundle_uri, "digest": first.summary.model_digest}
    push(registry, tmp_path / "in", "ns/narrow:latest", mixed().drop(columns="carrier"))
    gates = [{"metric": "auc", "max_regression": 0.01}]
    run = train_here(
        tmp_path / "w", plan(registry, "ns/narrow:latest", sklearn=HGB, number=73, gates=gates, champion=champion)
    )
    assert run.summary.outcome == "GateFailed"
    assert "carrier" in run.summary.message


@pytest.mark.parametrize(
    ("target", "expected"),
    [("weekend", (("false", "true"), "boolean")), ("carrier", (("AA", "DL", "UA"), "string"))],
)
def test_labels_may_be_booleans_or_strings(
    registry: Registry, data: str, tmp_path: Path, target: str, expected: tuple[tuple[str, ...], str]
) -> None:
    run = train_here(tmp_path, plan(registry, data, sklearn={"target": target, "exclude": ["tail"]}), ("fetch", "fit"))
    assert run.code == 0, run.err
    signature = Signature.model_validate_json((tmp_path / "output/signature.json").read_text())
    assert (signature.labels, signature.label_type) == expected


def test_a_regression_keeps_the_champions_cells(registry: Registry, data: str, tmp_path: Path) -> None:
    value = {"estimator": "HistGradientBoostingRegressor", "target": "minutes", "exclude": ["late"]}
    before = train_here(tmp_path / "before", plan(registry, data, sklearn=value, repository=registry.uri("ns/value")))
    champion = {"name": "value-1", "uri": before.summary.bundle_uri, "digest": before.summary.model_digest}
    after = train_here(
        tmp_path / "after", plan(registry, data, sklearn=value, seed=5, champion=champion), ("fetch", "fit")
    )
    assert after.code == 0, after.err
    cells = [
        Baseline.model_validate_json((run.work / "output/baseline.json").read_text()).prediction
        for run in (before, after)
    ]
    assert cells[0].edges == cells[1].edges
    assert cells[0].counts != cells[1].counts
    assert set(before.summary.metrics) == {"rmse", "mae", "r2"}


def test_the_last_rows_by_the_split_column_are_held_out(registry: Registry, data: str, tmp_path: Path) -> None:
    frame = mixed(400)
    frame["when"] = np.random.default_rng(1).permutation(400)
    push(registry, tmp_path / "in", "ns/when:latest", frame, "rows.csv")
    run = train_here(
        tmp_path / "w", plan(registry, "ns/when:latest", split_column="when", sklearn=HGB), ("fetch", "fit")
    )
    assert run.code == 0, run.err
    metrics = json.loads((tmp_path / "w/output/metrics.json").read_text())
    assert metrics["rows"] == {"train": 320, "test": 80}
    signature = Signature.model_validate_json((tmp_path / "w/output/signature.json").read_text())
    assert "when" not in {c.name for c in signature.columns}


def test_flights_train_and_the_demos_harmful_change_still_converts(registry: Registry, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples/flights"))
    from dataset import frame

    rows = frame()
    push(registry, tmp_path / "in", "ns/jan:latest", rows[rows["month"] == 1])
    good = {"estimator": "HistGradientBoostingClassifier", "exclude": ["month"]}
    bad = {**good, "parameters": {"learning_rate": 10.0}}
    fine = train_here(tmp_path / "good", plan(registry, "ns/jan:latest", sklearn=good, number=80))
    harmful = train_here(tmp_path / "bad", plan(registry, "ns/jan:latest", sklearn=bad, number=81))
    assert fine.summary.metrics["auc"] > 0.7
    assert harmful.summary.outcome == "Succeeded", harmful.err
    assert harmful.summary.metrics["accuracy"] < fine.summary.metrics["accuracy"] - 0.05


FAILURES: list[tuple[str, dict[str, Any], str, str]] = [
    ("fetch", {"data": "ns/none:latest"}, "DataNotFound", "homeostat push"),
    ("fit", {"sklearn": {"target": "nope"}}, "TargetMissing", "nope"),
    ("fit", {"sklearn": {"estimator": "LogisticRegresion"}}, "EstimatorUnknown", "LogisticRegression"),
    ("fit", {"sklearn": {"estimator": "StandardScaler"}}, "EstimatorUnknown", "StandardScaler"),
    ("fit", {"sklearn": {"estimator": "StackingClassifier"}}, "EstimatorUnsuitable", "stands alone"),
    ("fit", {"sklearn": {"estimator": "LinearSVC"}}, "EstimatorUnsuitable", "predict_proba"),
    ("fit", {"sklearn": {"parameters": {"max_itr": 5}}}, "ParameterInvalid", "max_iter"),
    ("fit", {"sklearn": {"parameters": {"max_iter": -5}}}, "ParameterInvalid", "max_iter"),
    ("fit", {"sklearn": {"exclude": ["gone"]}}, "ColumnMissing", "gone"),
    ("fit", {"sklearn": {"target": "minutes"}}, "TargetUnsuitable", "fractions"),
    ("fit", {"sklearn": {"estimator": "Ridge", "target": "carrier"}}, "TargetUnsuitable", "classifier"),
    ("fit", {"gates": [{"metric": "rmse", "max": 1}]}, "MetricUnsuitable", "auc"),
    ("fit", {"data": "ns/text:latest"}, "DataUnreadable", "rows.parquet"),
    ("fit", {"data": "ns/one:latest"}, "OneClassOnly", "one value only"),
    ("fit", {"data": "ns/few:latest"}, "TooFewRows", "at least 20"),
    ("fit", {"data": "ns/times:latest"}, "ColumnUnsupported", "when"),
    ("fit", {"data": "ns/infinite:latest"}, "ColumnUnsupported", "infinite"),
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(registry: Registry, data: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("odd")
    frame = mixed(200)
    push(registry, folder / "1", "ns/one:latest", frame.assign(late=1))
    push(registry, folder / "2", "ns/few:latest", mixed(12))
    push(registry, folder / "3", "ns/times:latest", frame.assign(when=pd.Timestamp("2013-01-01")))
    push(registry, folder / "4", "ns/infinite:latest", frame.assign(distance=np.inf))
    (folder / "rows.parquet").write_text("this is no parquet file")
    Client().push({"rows.parquet": folder / "rows.parquet"}, registry.uri("ns/text:latest"), "t/t")


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure[2]}: {failure[3]}")
def test_each_failure_has_its_own_reason(
    registry: Registry, tmp_path: Path, failure: tuple[str, dict[str, Any], str, str]
) -> None:
    step, changes, reason, says = failure
    changes = dict(changes)
    run = train_here(tmp_path, plan(registry, changes.pop("data", "ns/mixed:latest"), **changes))
    assert (run.step, run.code, run.summary.reason) == (step, 42, reason), run.err
    assert says in run.summary.message
    assert run.summary.permanent
    assert "Traceback" not in run.err


def test_a_registry_that_is_down_is_tried_again(registry: Registry, tmp_path: Path) -> None:
    away = plan(registry, "ns/mixed:latest") | {"data": {"train": f"oci://127.0.0.1:{free_port()}/ns/x:latest"}}
    run = train(tmp_path, away)
    assert (run.step, run.code, run.summary.reason) == ("fetch", 1, "RegistryUnreachable")
    assert not run.summary.permanent


def test_a_plan_that_is_none_names_the_field(registry: Registry, tmp_path: Path) -> None:
    run = train(tmp_path, {"training": "flights"})
    assert (run.code, run.summary.reason) == (42, "PlanInvalid")
    assert "number" in run.summary.message


def _missing(registry: Registry, name: str) -> bool:
    from homeostat.artifacts.address import parse

    address, http = parse(registry.uri(name)), Transport()
    return http.send("HEAD", f"{http.base(address)}/manifests/{address.reference}", address).status == 404
