"""Counters: exact, summed over workers, and monotone also when a worker is killed."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from homeostat.api.wire.bundle import Baseline, PredictionBaseline
from homeostat.api.wire.stats import History, PodStats, RolloutStats
from homeostat.stats import profile
from homeostat.trainer import baseline
from homeostat.trainer.table import Columns
from serving import models
from serving.pod import ROW, Pod, as_inputs, eventually

ROWS = 5000
PARTS = 50


def _rows(seed: int = 11) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    hours = [None if random.random() < 0.1 else float(np.float32(v)) for v in random.normal(size=ROWS)]
    origins = random.choice([*models.LEVELS, "ABC"], size=ROWS).tolist()
    return {
        "distance": [float(np.float32(v)) for v in random.normal(size=ROWS) * 2],
        "hour": hours,
        "origin": [None if random.random() < 0.1 else o for o in origins],
    }


def _expected(folder: Path, rows: dict[str, list[Any]]) -> list[list[int]]:
    baseline = Baseline.model_validate_json((folder / "baseline.json").read_text())
    cells = []
    for feature in baseline.features:
        values = rows[feature.name]
        if feature.kind == "number":
            numbers = [np.nan if v is None else v for v in values]
            cells.append(profile.number_counts(numbers, feature.edges).tolist())
        else:
            cells.append(profile.level_counts([v or "" for v in values], feature.levels).tolist())
    return cells


@pytest.fixture(scope="module")
def trained(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a baseline as the trainer writes it: with products and projections."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    shutil.copytree(flights, folder)
    rows = _rows(seed=3)
    numbers = np.array([[np.nan if v is None else v for v in rows[name]] for name in ("distance", "hour")]).T
    strings = np.array([[v or "" for v in rows["origin"]]], dtype=object).T
    numbers = numbers.astype(np.float32)
    seen = baseline.features(Columns(numbers=("distance", "hour"), strings=("origin",)), numbers, strings)
    predicted = PredictionBaseline(kind="probability", counts=(20,) * 20)
    joint = baseline.together(seen, numbers, strings)
    whole = baseline.build(seen, predicted, rows=ROWS, test_rows=400, error_rate=0.1, joint=joint)
    (folder / "baseline.json").write_text(whole.model_dump_json())
    return folder


@dataclass(frozen=True)
class Sums:
    """Everything that is summed over rows."""

    rows: int
    cells: Any
    scores: Any
    gram: Any
    projections: Any

    @classmethod
    def of(cls, *stats: PodStats) -> "Sums":
        def added(*found: Any) -> Any:
            return tuple(map(added, *found)) if isinstance(found[0], tuple) else sum(found)

        return cls(
            rows=sum(one.features.rows for one in stats),
            cells=added(*(one.features.cells for one in stats)),
            scores=added(*(one.served["stable"].predictions for one in stats)),
            gram=added(*((one.gram.sums, one.gram.products) for one in stats)),
            projections=added(*(one.projections for one in stats)),
        )


def _counted(pod: Pod, rows: int) -> PodStats:
    eventually(lambda: pod.stats().features.rows >= rows, f"{rows} rows are in their cells")
    return pod.stats()


def _part(rows: dict[str, list[Any]], start: int, end: int) -> dict[str, list[Any]]:
    return {name: values[start:end] for name, values in rows.items()}


def _send(pod: Pod, rows: dict[str, list[Any]], parts: int) -> list[float]:
    size = len(rows["hour"]) // parts

    def part(i: int) -> list[float]:
        inputs = as_inputs({k: v[i * size : (i + 1) * size] for k, v in rows.items()})
        inputs[2]["datatype"] = "BYTES"
        answer = pod.infer(inputs)
        assert answer.status == 200, answer.content
        scores: list[float] = answer.output("probabilities")[1::2]
        return scores

    with ThreadPoolExecutor(8) as threads:
        return [score for scores in threads.map(part, range(parts)) for score in scores]


def test_the_same_rows_give_the_same_sums_however_they_are_spread(trained: Path) -> None:
    rows, half = _rows(), ROWS // 2
    with Pod(trained, workers=1) as pod:
        _send(pod.ready(), rows, PARTS)
        expected = Sums.of(_counted(pod, ROWS))
    assert expected.rows == ROWS
    assert [list(cells) for cells in expected.cells] == _expected(trained, rows)
    assert sum(expected.scores) == ROWS
    assert all(sum(cells) == ROWS for cells in expected.projections)

    with Pod(trained, workers=4) as pod:
        _send(pod.ready(), rows, PARTS)
        assert Sums.of(_counted(pod, ROWS)) == expected

    with Pod(trained, workers=2) as pod:
        _send(pod.ready(), _part(rows, 0, half), PARTS)
        before = pod.workers()
        for worker in before:  # with rows that are staged and in no cell yet
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(set(pod.workers()) - set(before)) == 2, "both workers were replaced")
        eventually(lambda: pod.stats().state.reason == "Ready", "the pod is ready")
        _counted(pod, half)
        _send(pod, _part(rows, half, ROWS), PARTS)
        assert Sums.of(_counted(pod, ROWS)) == expected

    with Pod(trained) as one, Pod(trained) as other:
        _send(one.ready(), _part(rows, 0, half), PARTS)
        _send(other.ready(), _part(rows, half, ROWS), PARTS)
        assert Sums.of(_counted(one, half), _counted(other, half)) == expected


def test_two_workers_count_every_row_once_also_over_a_kill(flights: Path) -> None:
    rows = _rows()
    with Pod(flights, workers=2) as pod:
        pod.ready()
        scores = _send(pod, rows, PARTS)
        eventually(lambda: pod.stats().features.rows == ROWS, "all rows are in their cells")
        before = pod.stats()
        assert [list(c) for c in before.features.cells] == _expected(flights, rows)
        predicted = np.bincount(profile.bin_scores(np.float32(scores)), minlength=20).tolist()
        assert list(before.served["stable"].predictions) == predicted
        assert before.served["stable"].requests == before.forwards["v7"].ok == PARTS

        victim = pod.workers()[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(pod.workers()) == 2 and victim not in pod.workers(), "the worker was replaced")
        eventually(lambda: pod.stats().state.reason == "Ready", "the pod is ready")
        after = pod.stats()
        assert after.features == before.features
        assert (after.start, after.served) == (before.start, before.served)

        _send(pod, rows, PARTS)
        eventually(lambda: pod.stats().features.rows == 2 * ROWS, "the new rows are in their cells")
        assert [[c // 2 for c in f] for f in pod.stats().features.cells] == _expected(flights, rows)


def test_rows_staged_by_a_killed_worker_are_counted_by_its_successor(flights: Path) -> None:
    with Pod(flights) as pod:
        pod.ready()
        worker = pod.workers()[0]
        _send(pod, {k: v[:500] for k, v in _rows().items()}, 10)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: pod.stats().features.rows == 500, "all rows are in their cells")


def test_sampled_statistics_count_a_share_of_the_rows_and_everything_else_in_full(trained: Path) -> None:
    rows, share, count = _rows(), 0.2, 1000
    with Pod(trained, workers=1, stats_sample=share) as pod:
        scores = _send(pod.ready(), _part(rows, 0, count), PARTS)
        assert len(scores) == count
        os.kill(pod.workers()[0], signal.SIGKILL)  # a successor begins with what was staged and in no cell yet
        eventually(lambda: pod.stats().state.reason == "WorkersDown", "the worker is missed")
        pod.ready()
        stats = pod.stats()
        served = stats.served["stable"]
        assert (served.rows, served.requests, stats.forwards["v7"].ok) == (count, PARTS, PARTS)
        assert abs(stats.features.rows - share * count) < 5 * sqrt(count * share * (1 - share))
        assert all(sum(cells) == stats.features.rows for cells in (*stats.features.cells, *stats.projections))
        assert sum(served.predictions) == stats.features.rows
        assert stats.sample == share


def test_metrics_say_the_same_as_stats(pod: Pod) -> None:
    pod.infer({"distance": [0.5], "hour": [1.0], "origin": ["JFK"]})
    text = pod.get("/metrics", port=pod.admin).content.decode()
    rows = pod.stats().served["stable"].rows
    assert f'homeostat_request_duration_seconds_count{{model="flights",version="v7",track="stable"}} {rows}' in text
    assert 'homeostat_forwards_total{model="flights",version="v7",outcome="ok"}' in text


def test_the_baseline_is_served_under_its_digest(pod: Pod, flights: Path) -> None:
    answer = pod.get("/stats/baseline", port=pod.admin)
    assert Baseline.model_validate_json(answer.content).rows == 400
    assert json.loads(answer.content)["signature"]["task"] == "binary"
    again = pod.get("/stats/baseline", port=pod.admin, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status, again.content) == (304, b"")


def test_who_asks_for_openmetrics_gets_it_and_everybody_else_the_text_format(trained: Path) -> None:
    with Pod(trained, workers=2) as pod:
        pod.ready().infer(ROW)
        _counted(pod, 1)
        accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        opened = pod.get("/metrics", port=pod.admin, headers=accept)
        text = pod.get("/metrics", port=pod.admin)
        assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(open_metrics(opened.content.decode()))
        assert {s.name for f in families for s in f.samples} == {
            s.name for f in plain(text.content.decode()) for s in f.samples
        }
        assert b"homeostat_feature_bin_total" not in text.content


def test_the_short_view_and_the_history_say_what_a_rollout_needs(pod: Pod) -> None:
    pod.infer(ROW)
    whole = pod.stats()
    answer = pod.get("/stats?view=rollout&bounds=0.01,0.05&versions=v7,v8", port=pod.admin)
    assert len(answer.content) <= 512
    short = RolloutStats.model_validate_json(answer.content).stats("flights", (0.01, 0.05))
    assert (short.start, short.version, short.state, short.route_epoch) == (
        whole.start,
        whole.version,
        whole.state,
        whole.route_epoch,
    )
    assert short.forwards == whole.forwards
    assert short.served["stable"].requests == whole.served["stable"].requests == sum(short.served["stable"].latency)
    history = History.model_validate_json(pod.get("/stats/history", port=pod.admin).content)
    assert (history.start, history.latency_bounds) == (whole.start, whole.latency_bounds)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("view=short", "view"),
        ("view=rollout&bounds=0.03", "0.03"),
        ("view=rollout&bounds=fast", "fast"),
        ("bounds=0.01", "view=rollout"),
        ("view=rollout&lanes=1", "versions"),
        ("view=rollout&versions=a,b,c,d,e", "at most 4"),
    ],
)
def test_a_view_that_does_not_exist_is_refused_with_what_there_is(pod: Pod, query: str, named: str) -> None:
    answer = pod.get(f"/stats?{query}", port=pod.admin)
    assert answer.status == 400
    assert named in answer.json["error"]
