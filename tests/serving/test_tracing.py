"""Trace context without any extra: it is passed on as it came, and exemplars name the trace."""

from collections.abc import Iterator

import pytest

from homeostat.api.wire.route import Mirror
from serving.pod import ROW, Pod, eventually
from serving.targets import Scripted

TRACE = "0af7651916cd43dd8448eb211c80319c"
CONTEXT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "vendor=1,other=2"}


@pytest.fixture
def target() -> Iterator[Scripted]:
    running = Scripted(200)
    yield running
    running.end()


@pytest.fixture
def routed(pod: Pod) -> Iterator[Pod]:
    yield pod
    pod.route(epoch=9)


def test_a_forward_carries_the_context_as_it_came(routed: Pod, target: Scripted) -> None:
    routed.route(epoch=1, version="v8", target=target.url, track="candidate", weight=100, deadline_ms=5000)
    assert routed.infer(ROW, CONTEXT).status == 200
    assert {name: target.seen[0][name] for name in CONTEXT} == CONTEXT


def test_a_mirrored_copy_carries_it_too(routed: Pod, target: Scripted) -> None:
    routed.route(epoch=2, mirror=Mirror(target=target.url, version="v8", percent=100))
    assert routed.infer(ROW, CONTEXT).status == 200
    eventually(lambda: target.seen, "the copy arrives")
    assert {name: target.seen[0][name] for name in CONTEXT} == CONTEXT


def test_a_traced_request_is_the_exemplar_of_its_bucket(pod: Pod) -> None:
    assert pod.infer(ROW, CONTEXT).status == 200
    text = pod.get("/metrics", pod.admin, {"accept": "application/openmetrics-text"}).content.decode()
    lines = [line for line in text.splitlines() if f'# {{trace_id="{TRACE}"}}' in line]
    assert lines
    assert all(line.startswith("homeostat_request_duration_seconds_bucket{") for line in lines)
    assert TRACE not in pod.get("/metrics", pod.admin).content.decode()  # the older format has none
