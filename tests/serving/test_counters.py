"""Counters: exact, summed over workers, and monotone also when a worker is killed."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from homeostat.api.wire.bundle import Baseline
from homeostat.stats import profile
from serving import models
from serving.pod import Pod, as_inputs, eventually

ROWS = 3000


def _rows() -> dict[str, list[Any]]:
    random = np.random.default_rng(11)
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


def test_two_workers_count_every_row_once_also_over_a_kill(flights: Path) -> None:
    rows = _rows()
    with Pod(flights, workers=2) as pod:
        pod.ready()
        scores = _send(pod, rows, 60)
        eventually(lambda: pod.stats().features.rows == ROWS, "all rows are in their cells")
        before = pod.stats()
        assert [list(c) for c in before.features.cells] == _expected(flights, rows)
        predicted = np.bincount(profile.bin_scores(np.float32(scores)), minlength=20).tolist()
        assert list(before.served["stable"].predictions) == predicted
        assert before.served["stable"].requests == before.forwards["v7"].ok == 60

        victim = pod.workers()[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(pod.workers()) == 2 and victim not in pod.workers(), "the worker was replaced")
        eventually(lambda: pod.stats().state.reason == "Ready", "the pod is ready")
        after = pod.stats()
        assert after.features == before.features
        assert (after.start, after.served) == (before.start, before.served)

        _send(pod, rows, 60)
        eventually(lambda: pod.stats().features.rows == 2 * ROWS, "the new rows are in their cells")
        assert [[c // 2 for c in f] for f in pod.stats().features.cells] == _expected(flights, rows)


def test_rows_staged_by_a_killed_worker_are_counted_by_its_successor(flights: Path) -> None:
    with Pod(flights) as pod:
        pod.ready()
        worker = pod.workers()[0]
        _send(pod, {k: v[:500] for k, v in _rows().items()}, 10)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: pod.stats().features.rows == 500, "all rows are in their cells")


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
