"""Payload logging through the real server: parquet files read back with pyarrow, CloudEvents at a real receiver."""

import json
import os
import signal
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homeostat.artifacts.oci import Client
from serving import models
from serving.pod import ROW, Pod, eventually, free_port
from serving.receiver import Receiver
from training.registry import Registry

ROWS: dict[str, list[Any]] = {
    "distance": [0.5, None, -1.25],
    "hour": [1.0, 2.0, None],
    "origin": ["JFK", "", "Zürich"],
}
SALT = b"sixteen secret b"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def table(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in files(folder)])


def dropped(pod: Pod) -> int:
    text = pod.get("/metrics", port=pod.admin).content.decode()
    line = next(
        one for one in text.splitlines() if one.startswith("homeostat_dropped_total{") and 'what="payload"' in one
    )
    return int(line.rsplit(" ", 1)[1])


def loggers(pod: Pod) -> list[int]:
    return [
        int(child)
        for child in Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text().split()
        if b"payloads.logger" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_parquet_file_holds_the_rows_that_were_asked_and_the_ids_that_were_answered(
    flights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "payloads"
    with Pod(flights, payload_to=f"file://{folder}", payload_rows=4) as pod:
        pod.ready().route(epoch=1, choices=("candidate",))
        first = pod.infer(ROWS)
        second = pod.infer(ROW, headers={"x-homeostat-hop": "1", "x-homeostat-track": "candidate"})
        eventually(lambda: files(folder), "a file of four rows")
        found = table(folder)
        assert found.num_rows == 4
        assert found["prediction_id"].to_pylist() == first.ids + second.ids
        assert found["input_distance"].to_pylist() == [0.5, None, -1.25, 0.5]
        assert found["input_hour"].to_pylist() == [1.0, 2.0, None, 1.0]
        assert found["input_origin"].to_pylist() == ["JFK", "", "Zürich", "JFK"]
        assert found["output_label"].to_pylist() == first.output("label") + second.output("label")
        answered = first.output("probabilities") + second.output("probabilities")
        assert np.array_equal(
            np.array(found["output_probabilities"].to_pylist(), np.float32).ravel(),
            np.array(answered, np.float32).ravel(),
        )
        same = {name: set(found[name].to_pylist()) for name in ("model", "version")}
        assert same == {"model": {"flights"}, "version": {"v7"}}
        assert found["track"].to_pylist() == ["stable"] * 3 + ["candidate"]
        now = datetime.now(UTC)
        assert all(now - timedelta(minutes=1) < time <= now for time in found["time"].to_pylist())
        assert dropped(pod) == 0


def test_a_model_of_tensors_is_logged_in_its_own_shapes(tmp_path: Path) -> None:
    folder = tmp_path / "payloads"
    with Pod(models.picky(tmp_path / "picky"), payload_to=f"file://{folder}", payload_rows=3) as pod:
        pod.ready()
        pod.infer([{"name": "place", "shape": [3, 1], "datatype": "INT64", "data": [3, 1, 2]}])
        eventually(lambda: files(folder), "a file")
        found = table(folder)
        assert found["input_place"].to_pylist() == [3, 1, 2]
        assert found["output_value"].to_pylist() == [3.0, 1.0, 2.0]


def test_rows_that_wait_are_written_when_the_pod_ends(flights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "payloads"
    with Pod(flights, payload_to=f"file://{folder}", workers=2) as pod:
        pod.ready()
        ids = [one for _ in range(20) for one in pod.infer(ROW).ids]
        assert not files(folder)
        assert pod.stop() == 0
    assert sorted(table(folder)["prediction_id"].to_pylist()) == sorted(ids)
    assert not list(folder.glob(".*"))


def test_columns_are_dropped_and_hashed_in_files(flights: Path, tmp_path: Path) -> None:
    folder, salt = tmp_path / "payloads", tmp_path / "salt"
    salt.write_bytes(SALT + b"\n")
    more = ("--payload-drop", "hour", "--payload-hash", "origin", "--payload-hash", "distance")
    with Pod(flights, payload_to=f"file://{folder}", payload_rows=3, payload_salt_file=salt, more=more) as pod:
        pod.ready().infer(ROWS)
        eventually(lambda: files(folder), "a file")
    found = table(folder)
    assert "input_hour" not in found.column_names

    def hashed(value: bytes) -> str:
        return blake2b(value, key=SALT, digest_size=16).hexdigest()

    assert found["input_origin"].to_pylist() == [hashed(text.encode()) for text in ROWS["origin"]]
    numbers = [hashed(np.float32(0.5).tobytes()), None, hashed(np.float32(-1.25).tobytes())]
    assert found["input_distance"].to_pylist() == numbers
    raw = b"".join(file.read_bytes() for file in files(folder))
    assert b"JFK" not in raw


def test_events_carry_rows_ids_and_what_a_broker_routes_by(flights: Path, tmp_path: Path) -> None:
    more = ("--payload-drop", "hour")
    with (
        Receiver(tmp_path / "events") as receiver,
        Pod(flights, payload_to=receiver.url, payload_rows=2, payload_seconds=0.2, more=more) as pod,
    ):
        answer = pod.ready().infer(ROWS)
        events = eventually(lambda: len(receiver.events()) == 3 and receiver.events(), "three events")
        assert {kind for kind, _ in receiver.requests()} == {"application/cloudevents-batch+json; charset=utf-8"}
        assert [len(body) for _, body in receiver.requests()] == [2, 1]
        assert [event["id"] for event in events] == answer.ids
        first = events[0]
        assert first["data"]["inputs"] == {"distance": 0.5, "origin": "JFK"}
        assert events[1]["data"]["inputs"] == {"distance": None, "origin": ""}
        assert first["data"]["outputs"]["label"] == answer.output("label")[0]
        assert (
            np.float32(first["data"]["outputs"]["probabilities"]).tolist()
            == np.float32(answer.output("probabilities")[:2]).tolist()
        )
        datetime.fromisoformat(first["time"])
        named = ("specversion", "type", "source", "datacontenttype", "modelname", "modelversion", "track")
        assert [first[name] for name in named] == [
            "1.0",
            "dev.homeostat.prediction.v1",
            "/models/flights/versions/v7",
            "application/json",
            "flights",
            "v7",
            "stable",
        ]


def test_one_row_a_request_is_a_single_structured_event(flights: Path, tmp_path: Path) -> None:
    with Receiver(tmp_path / "events") as receiver, Pod(flights, payload_to=receiver.url, payload_rows=1) as pod:
        answer = pod.ready().infer(ROWS)
        eventually(lambda: len(receiver.events()) == 3, "three events")
        assert {kind for kind, _ in receiver.requests()} == {"application/cloudevents+json; charset=utf-8"}
        assert [body["id"] for _, body in receiver.requests()] == answer.ids


def test_a_share_of_the_requests_is_logged_with_all_their_rows(flights: Path, tmp_path: Path) -> None:
    with (
        Receiver(tmp_path / "events") as receiver,
        Pod(flights, payload_to=receiver.url, payload_sample=0.3, payload_seconds=0.2) as pod,
    ):
        pod.ready()
        asked = [pod.infer(ROWS).ids for _ in range(200)]
        assert pod.stop() == 0
        logged = {event["id"] for event in receiver.events()}
        whole = [ids for ids in asked if logged.issuperset(ids)]
        assert logged == {one for ids in whole for one in ids}
        assert 30 <= len(whole) <= 92  # 60 expected; 5 standard deviations


def test_a_receiver_that_is_busy_gets_the_rows_later_and_one_that_says_no_does_not(
    flights: Path, tmp_path: Path
) -> None:
    with (
        Receiver(tmp_path / "events") as receiver,
        Pod(flights, payload_to=receiver.url, payload_seconds=0.1) as pod,
    ):
        pod.ready()
        receiver.answers(503)
        answer = pod.infer(ROWS)
        eventually((receiver.folder / "refused").exists, "a first try")
        receiver.answers(200)
        eventually(lambda: [event["id"] for event in receiver.events()] == answer.ids, "the rows came")
        assert dropped(pod) == 0
        receiver.answers(400)
        pod.infer(ROWS)
        eventually(lambda: dropped(pod) == 3, "three rows were dropped")


def test_requests_do_not_feel_a_sink_that_is_down_and_every_row_is_sent_or_counted(
    flights: Path, tmp_path: Path
) -> None:
    rows = {**ROWS, "origin": ["J" * 5000] * 3}
    with (
        Receiver(tmp_path / "events") as receiver,
        Pod(flights, payload_to=receiver.url, payload_seconds=0.1, payload_buffer=100_000) as pod,
    ):
        pod.ready()
        receiver.answers(503)
        answers = [pod.infer(rows) for _ in range(300)]  # 4.5 MB
        assert {answer.status for answer in answers} == {200}
        assert pod.stats().served["stable"].rows == 900
        eventually(lambda: dropped(pod) > 400, "rows find no room")
        receiver.answers(200)
        eventually(lambda: len(receiver.events()) + dropped(pod) == 900, "the others are sent")
        assert {event["id"] for event in receiver.events()} < {one for answer in answers for one in answer.ids}


def test_a_pod_whose_sink_is_down_ends_in_time(flights: Path) -> None:
    with Pod(flights, payload_to=f"http://127.0.0.1:{free_port()}/events", payload_rows=10) as pod:
        pod.ready()
        for _ in range(100):
            pod.infer(ROWS)
        assert pod.stop() == 0


def test_a_slow_sink_costs_rows_not_memory(flights: Path, tmp_path: Path) -> None:
    rows = {"distance": [0.5] * 1000, "hour": [1.0] * 1000, "origin": ["J" * 200] * 1000}
    with (
        Receiver(tmp_path / "events") as receiver,
        Pod(flights, payload_to=receiver.url, payload_buffer=1 << 20) as pod,
    ):
        pod.ready().infer(rows)
        eventually(lambda: len(receiver.events()) == 1000, "all is at work")
        receiver.answers(200, delay=3.0)
        processes = [*pod.workers(), *loggers(pod)]
        assert len(processes) == 2
        before = [resident(pid) for pid in processes]
        for _ in range(60):  # 17 MB
            assert pod.infer(rows).status == 200
        after = [resident(pid) for pid in processes]
        assert dropped(pod) > 40_000
        assert max(b - a for a, b in zip(before, after, strict=True)) < 24 << 20
        receiver.answers(200)


def _serves(pod: Pod) -> bool:
    try:
        return pod.get("/v2/health/ready").status == 200
    except OSError:
        return False


def test_a_logger_and_a_worker_that_die_are_started_again_and_go_on(flights: Path, tmp_path: Path) -> None:
    with (
        Receiver(tmp_path / "events") as receiver,
        Pod(flights, payload_to=receiver.url, payload_seconds=0.1) as pod,
    ):
        pod.ready()

        def arrives() -> None:
            answer = pod.infer(ROW)
            eventually(lambda: answer.ids[0] in {event["id"] for event in receiver.events()}, "the row is sent")

        (logger,) = eventually(lambda: loggers(pod), "a logger")
        arrives()
        os.kill(logger, signal.SIGKILL)
        arrives()
        assert loggers(pod) != [logger]
        (worker,) = pod.workers()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: pod.workers() not in ([], [worker]) and _serves(pod), "another worker serves")
        arrives()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--payload-drop", "origine"), "--payload-drop origine: the model has no such input; it has distance, origin"),
        (("--payload-hash", "origin"), "--payload-hash needs --payload-salt-file"),
        (("--payload-drop", "hour", "--payload-hash", "hour"), "name it once"),
    ],
)
def test_settings_that_would_log_what_must_not_be_logged_keep_the_pod_from_being_ready(
    flights: Path, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    with Pod(flights, payload_to=f"file://{tmp_path}", more=flags) as pod:
        eventually(lambda: pod.state() == "PayloadSettings", "state PayloadSettings")
        assert says in pod.stats().state.message
        assert pod.get("/readyz", port=pod.admin).status == 503


def test_a_pod_without_payloads_has_no_logger(pod: Pod) -> None:
    assert loggers(pod) == []
    assert json.loads(pod.get("/v2/health/ready").content)["ready"]


def test_files_are_pushed_to_a_registry_each_under_its_own_tag(flights: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.start()
    try:
        with Pod(flights, payload_to=registry.uri("payloads/flights"), payload_rows=3) as pod:
            pod.ready()
            first = pod.infer(ROWS)
            tags = eventually(lambda: _tags(registry), "a first tag")
            second = pod.infer(ROWS)
            assert pod.stop() == 0
        assert len(_tags(registry)) == 2
        ids = []
        for tag in sorted(_tags(registry)):
            pulled = Client().pull(f"{registry.uri('payloads/flights')}:{tag}", tmp_path / tag)
            assert pulled.artifact_type == "application/vnd.homeostat.payload.v1"
            assert set(pulled.files) == {f"{tag}.parquet"}
            ids += pq.read_table(pulled.files[f"{tag}.parquet"])["prediction_id"].to_pylist()
        assert tags < _tags(registry)
        assert ids == first.ids + second.ids
    finally:
        registry.stop()


def _tags(registry: Registry) -> set[str]:
    try:
        with urllib.request.urlopen(f"http://{registry.host}/v2/payloads/flights/tags/list", timeout=5) as answer:
            return set(json.load(answer)["tags"] or ())
    except urllib.error.HTTPError:
        return set()
