"""Long runs and full queues: others are answered meanwhile, what is too late is not run, what nobody wants is stopped."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from serving import elsewhere
from serving.pod import Answer, Pod, eventually

FOREVER = 1 << 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return elsewhere.loop(tmp_path_factory.mktemp("loop") / "m")


@pytest.fixture(scope="module")
def pod(folder: Path) -> Iterator[Pod]:
    with Pod(folder, name="m", workers=1, run_seconds=3) as running:
        yield running.ready()


def turns(count: int) -> list[dict[str, object]]:
    return [{"name": "turns", "shape": [1, 1], "datatype": "INT64", "data": [count]}]


def wait(pod: Pod, count: int, milliseconds: int) -> Answer:
    return pod.infer(turns(count), {"x-homeostat-timeout-ms": str(milliseconds)})


def metric(pod: Pod, name: str) -> float:
    lines = pod.get("/metrics", port=pod.admin).content.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


def test_a_run_of_seconds_lets_others_be_answered_meanwhile(pod: Pod) -> None:
    with ThreadPoolExecutor(1) as thread:
        long: Future[Answer] = thread.submit(pod.infer, turns(300_000))
        eventually(lambda: metric(pod, "homeostat_connections") >= 1, "the long request has arrived")
        assert pod.get("/v2/models/m").status == 200
        assert not long.done()
        assert long.result().output("count") == [300_000]


def test_a_run_past_its_deadline_is_stopped_and_the_worker_goes_on(pod: Pod) -> None:
    workers, before = pod.workers(), metric(pod, "homeostat_inference_terminated_total")
    answer = wait(pod, FOREVER, 300)
    assert answer.status == 504
    assert "was stopped" in answer.json["error"]
    assert metric(pod, "homeostat_inference_terminated_total") == before + 1
    assert pod.infer(turns(5)).output("count") == [5]
    assert pod.workers() == workers


def test_a_run_past_the_servers_own_bound_is_stopped(pod: Pod) -> None:
    answer = pod.infer(turns(FOREVER))
    assert answer.status == 504
    assert "3.0 s" in answer.json["error"] or "3.1 s" in answer.json["error"]


def test_a_run_whose_client_left_is_stopped(pod: Pod) -> None:
    before = metric(pod, "homeostat_inference_terminated_total")
    body = json.dumps({"inputs": turns(FOREVER)}).encode()
    with socket.create_connection(("127.0.0.1", pod.port), 10) as client:
        client.sendall(
            b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        eventually(lambda: metric(pod, "homeostat_connections") >= 1, "the request has arrived")
    assert wait(pod, 5, 2000).output("count") == [5]
    assert metric(pod, "homeostat_inference_terminated_total") == before + 1


def test_a_client_that_leaves_is_no_failure_of_the_version(folder: Path) -> None:
    with Pod(folder, name="m", workers=1) as pod:
        pod.ready()
        body = json.dumps({"inputs": turns(FOREVER)}).encode()
        with socket.create_connection(("127.0.0.1", pod.port), 10) as client:
            client.sendall(
                b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            eventually(lambda: metric(pod, "homeostat_connections") >= 1, "the request has arrived")
        eventually(lambda: metric(pod, "homeostat_inference_terminated_total") == 1, "its run is stopped")
        assert pod.infer(turns(5)).output("count") == [5]
        assert pod.stats().forwards["v7"].failed == 0


def test_the_shorter_of_two_timeouts_counts(pod: Pod) -> None:
    answer = pod.infer(turns(FOREVER), {"x-homeostat-timeout-ms": "200"}, parameters={"timeout": 20_000_000})
    assert answer.status == 504
    assert "0.2 s" in answer.json["error"]


def test_a_deadline_ends_a_wait_for_other_rows(folder: Path) -> None:
    with Pod(folder, name="m", workers=1, max_latency=30) as pod:
        answer = pod.ready().infer(turns(5), {"x-homeostat-timeout-ms": "300"})
        assert answer.status in {200, 504}


def test_what_expires_in_the_queue_is_not_run(folder: Path) -> None:
    with Pod(folder, name="m", workers=1, max_wait=60) as pod, ThreadPoolExecutor(2) as threads:
        pod.ready()
        long = threads.submit(pod.infer, turns(200_000))
        eventually(lambda: metric(pod, "homeostat_connections") >= 1, "the long request has arrived")
        late = threads.submit(wait, pod, 7, 100)
        assert late.result().status == 504
        assert "deadline" in late.result().json["error"]
        assert long.result().status == 200
        assert metric(pod, "homeostat_batch_rows_count") == 1


def test_a_wait_that_would_be_too_long_is_refused_at_once(folder: Path) -> None:
    with Pod(folder, name="m", workers=1, max_wait=0.05) as pod, ThreadPoolExecutor(8) as threads:
        pod.ready()
        answers = list(threads.map(lambda _: pod.infer(turns(60_000)), range(24)))
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {200, 429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert metric(pod, "homeostat_requests_refused_total") == len(refused)


@pytest.mark.parametrize("text", ["soon", "0", "-5", "1.5"])
def test_a_timeout_that_is_no_number_is_named(pod: Pod, text: str) -> None:
    answer = pod.infer(turns(1), {"x-homeostat-timeout-ms": text})
    assert answer.status == 400
    assert "x-homeostat-timeout-ms" in answer.json["error"]


def test_a_timeout_may_also_be_a_parameter(pod: Pod) -> None:
    assert pod.infer(turns(FOREVER), parameters={"timeout": 200_000}).status == 504
    assert "microseconds" in pod.infer(turns(1), parameters={"timeout": "long"}).json["error"]
