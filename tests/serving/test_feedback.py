"""Late labels, joined by the prediction id alone."""

import json
from pathlib import Path

import pytest

from homeostat.api.wire.prediction_id import Mint, mark
from serving import models
from serving.pod import ROW, Pod


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
    older = Mint("uid-1", "v6", 1).mint(1, 0.9, mark("true"), 18).decode()
    foreign = Mint("uid-2", "v6", 1).mint(1, 0.9, mark("true"), 18).decode()
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


def test_a_regression_counts_the_squared_error(tmp_path: Path) -> None:
    with Pod(models.regression(tmp_path / "m"), name="r", version="v1") as pod:
        answer = pod.ready().infer({"x": [10.0]})
        assert pod.feedback({"labels": [{"id": answer.ids[0], "label": 23}]}).json["accepted"] == 1
        assert pod.stats().feedback["v1"].squared_error == pytest.approx(9.0, rel=1e-3)


def test_a_body_that_is_no_feedback_is_refused(pod: Pod) -> None:
    for body in (b"", b"{", b'{"labels": 5}'):
        assert pod.feedback(body).status == 400


def test_a_label_that_would_spoil_the_sum_is_refused(tmp_path: Path) -> None:
    with Pod(models.regression(tmp_path / "m"), name="r", version="v1") as pod:
        id_ = pod.ready().infer({"x": [10.0]}).ids[0]
        nan = Mint("uid-1", "v1", 1).mint(1, float("nan"), 0, 0).decode()
        labels = [{"id": id_, "label": label} for label in (20, 1.2e154, 1e200, -1e308)] + [{"id": nan, "label": 1}]
        assert pod.feedback({"labels": labels}).json == {"accepted": 1, "refused": {"label": 4}}
        assert pod.stats().feedback["v1"].squared_error == pytest.approx(0.0, abs=1e-3)
