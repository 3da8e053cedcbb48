"""Late labels, joined by the prediction id alone."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from homeostat.api.wire.prediction_id import Mint, PredictionId, mark, read
from serving import models
from serving.pod import ROW, Pod, eventually

MANY = 30_000


def test_labels_are_counted_for_the_version_that_predicted(flights: Path) -> None:
    with Pod(flights) as pod:
        answer = pod.ready().infer({k: v * 2 for k, v in ROW.items()})
        said, (_, late) = answer.output("label")[0], answer.output("probabilities")[:2]
        right, wrong = answer.ids
        body = {"labels": [{"id": right, "label": said}, {"id": wrong, "label": not said}]}
        assert pod.feedback(body).json == {"accepted": 2, "refused": {}}
        counted = pod.stats().feedback["v7"]
        assert (counted.labels, counted.wrong) == (2, 1)
        assert counted.squared_error == pytest.approx((late - 1) ** 2 + late**2, rel=1e-5)


def test_an_id_of_an_older_version_counts_there_and_a_foreign_one_nowhere(flights: Path) -> None:
    week_ago = int(time.time()) - 7 * 86400
    older = Mint("uid-1", "v6", 1).mint(week_ago, 0.9, mark("true"), 18).decode()
    foreign = Mint("uid-2", "v6", 1).mint(week_ago, 0.9, mark("true"), 18).decode()
    damaged = older[:-3] + ("AAA" if older[-3:] != "AAA" else "BBB")
    with Pod(flights) as pod:
        lines = [{"id": i, "label": True} for i in (older, foreign, damaged, "?")]
        lines += [{"id": older, "label": "maybe"}, {"label": True}]
        body = "\n".join(map(json.dumps, lines)).encode()
        refused = {"damaged": 2, "foreign": 1, "label": 1, "malformed": 1}
        assert pod.ready().feedback(body).json == {"accepted": 1, "refused": refused}
        stats = pod.stats()
        assert stats.feedback["v6"].labels == 1
        assert stats.feedback["v6"].wrong == 0
        assert stats.feedback_refused == refused


def test_a_label_counts_once_whichever_worker_gets_it(flights: Path) -> None:
    with Pod(flights, workers=2) as pod:
        ids = pod.ready().infer({k: v * 3 for k, v in ROW.items()}).ids
        body = {"labels": [{"id": i, "label": True} for i in ids]}
        answers = [pod.feedback(body).json for _ in range(8)]
        assert answers[0] == {"accepted": 3, "refused": {}}
        assert answers[1:] == [{"accepted": 0, "refused": {"duplicate": 3}}] * 7
        stats = pod.stats()
        assert stats.feedback["v7"].labels == sum(stats.feedback["v7"].labels_by_cell) == 3
        assert sum(stats.feedback["v7"].positives_by_cell) == 3
        assert stats.feedback_refused == {"duplicate": 21}


def test_labels_that_come_after_the_horizon_are_late(flights: Path) -> None:
    mint, now = Mint("uid-1", "v6", 1), int(time.time())
    ids = [mint.mint(now - days * 86400, 0.9, mark("true"), 18).decode() for days in (34, 36)]
    with Pod(flights) as pod:
        found = pod.ready().feedback({"labels": [{"id": i, "label": True} for i in ids]}).json
        assert found == {"accepted": 1, "refused": {"late": 1}}


def test_many_labels_come_in_one_body_while_others_are_served(flights: Path) -> None:
    mint, now = Mint("uid-1", "v6", 1 << 32), int(time.time())
    lines = (b'{"id":"%b","label":true}' % mint.mint(now, 0.9, mark("true"), 18) for _ in range(MANY))
    with Pod(flights) as pod, ThreadPoolExecutor(1) as threads:
        bulk = threads.submit(pod.ready().feedback, b"\n".join(lines))
        during = 0
        while not bulk.done():
            assert pod.infer(ROW).status == 200
            during += not bulk.done()
        assert bulk.result().json == {"accepted": MANY, "refused": {}}
        assert during > 5
        assert pod.stats().feedback["v6"].labels == MANY


def test_with_a_key_only_ids_of_who_has_it_count(flights: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    forged = Mint("uid-1", "v7", 1).mint(int(time.time()), 0.9, mark("true"), 18).decode()
    with Pod(flights, feedback_key_file=key) as pod:
        id_ = pod.ready().infer(ROW).ids[0]
        assert isinstance(read(id_, "uid-1", key.read_bytes()), PredictionId)
        found = pod.feedback({"labels": [{"id": i, "label": True} for i in (id_, forged)]}).json
        assert found == {"accepted": 1, "refused": {"damaged": 1}}


def test_a_key_that_cannot_be_used_is_said(flights: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"short")
    with Pod(flights, feedback_key_file=key) as pod:
        eventually(lambda: pod.state() == "FeedbackKeyUnusable", "the pod says what is wrong with the key")


def test_a_regression_counts_the_squared_error(tmp_path: Path) -> None:
    with Pod(models.regression(tmp_path / "m"), name="r", version="v1") as pod:
        answer = pod.ready().infer({"x": [10.0]})
        assert pod.feedback({"labels": [{"id": answer.ids[0], "label": 23}]}).json["accepted"] == 1
        counted = pod.stats().feedback["v1"]
        assert counted.squared_error == pytest.approx(9.0, rel=1e-3)
        assert (counted.error, counted.absolute_error) == (pytest.approx(-3, rel=1e-3), pytest.approx(3, rel=1e-3))


def test_a_body_that_is_no_feedback_is_refused(pod: Pod) -> None:
    for body in (b"", b"{", b'{"labels": 5}'):
        assert pod.feedback(body).status == 400


def test_a_label_that_would_spoil_the_sum_is_refused(tmp_path: Path) -> None:
    with Pod(models.regression(tmp_path / "m"), name="r", version="v1") as pod:
        id_ = pod.ready().infer({"x": [10.0]}).ids[0]
        nan = Mint("uid-1", "v1", 1).mint(int(time.time()), float("nan"), 0, 0).decode()
        labels = [{"id": id_, "label": label} for label in (1.2e154, 1e200, -1e308, 20)] + [{"id": nan, "label": 1}]
        assert pod.feedback({"labels": labels}).json == {"accepted": 1, "refused": {"label": 4}}
        assert pod.stats().feedback["v1"].squared_error == pytest.approx(0.0, abs=1e-3)
