"""With the extra `otel`, a real collector gets a span of each request in a sampled trace."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from homeostat.api.wire.route import Mirror
from homeostat.server.protos import inference_pb2
from serving.collector import Collector, Span
from serving.pod import ROW, Pod, eventually

pytest.importorskip("opentelemetry.proto", reason="the extra `otel` is not installed (make lock, make check)")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SERVER = 2  # the kind of a span
METHOD = "inference.GRPCInferenceService/ModelInfer"
_next = iter(range(1, 10_000))


def context(*, sampled: bool = True) -> tuple[str, dict[str, str]]:
    """A new trace's id, and the headers of a request in it."""
    trace = f"{next(_next):032x}"
    return trace, {"traceparent": f"00-{trace}-{PARENT}-0{int(sampled)}", "tracestate": "vendor=1"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("spans") / "collector") as running:
        yield running


@pytest.fixture(scope="module")
def environment(collector: Collector) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield patch


@pytest.fixture(scope="module")
def old(flights: Path, environment: pytest.MonkeyPatch) -> Iterator[Pod]:
    with Pod(flights, version="v7") as running:
        yield running.ready()


@pytest.fixture(scope="module")
def new(flights: Path, environment: pytest.MonkeyPatch) -> Iterator[Pod]:
    with Pod(flights, version="v8") as running:
        yield running.ready()


def spans(collector: Collector, trace: str, count: int = 1) -> list[Span]:
    found: list[Span] = eventually(
        lambda: (s := collector.of(trace)) and len(s) >= count and s, f"{count} spans of {trace}"
    )
    assert len(found) == count
    return found


def test_a_request_in_a_sampled_trace_is_a_span_that_says_what_it_cost(old: Pod, collector: Collector) -> None:
    trace, headers = context()
    assert old.infer(ROW, headers).status == 200
    (span,) = spans(collector, trace)
    assert (span.parent, span.kind, span.service) == (PARENT, SERVER, "flights")
    assert span.name == "POST /v2/models/flights/infer"
    assert not span.failed
    assert 0 < span.seconds < 5
    facts = span.attributes
    assert facts["http.request.method"] == "POST"
    assert facts["url.path"] == facts["http.route"] == "/v2/models/flights/infer"
    assert facts["url.scheme"] == "http"
    assert facts["http.response.status_code"] == 200
    assert (facts["homeostat.model"], facts["homeostat.version"], facts["homeostat.track"]) == (
        "flights",
        "v7",
        "stable",
    )
    assert facts["homeostat.rows"] == facts["homeostat.batch.rows"] == 1
    assert facts["homeostat.queue.seconds"] + facts["homeostat.run.seconds"] <= span.seconds
    assert span.events == ["homeostat.run"]


def test_a_refused_request_is_a_span_with_its_status(old: Pod, collector: Collector) -> None:
    trace, headers = context()
    assert old.infer({"hour": [1.0]}, headers).status == 400
    (span,) = spans(collector, trace)
    assert span.attributes["http.response.status_code"] == 400
    assert not span.failed  # the client's fault
    trace, headers = context()
    assert old.get("/some/invention", headers=headers).status == 404
    assert spans(collector, trace)[0].name == "GET"


def test_grpc_calls_have_the_names_of_rpc(old: Pod, collector: Collector) -> None:
    message = inference_pb2.ModelInferRequest(model_name="flights")
    for name, datatype in (("distance", "FP32"), ("hour", "FP32"), ("origin", "BYTES")):
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[1])
        if datatype == "BYTES":
            tensor.contents.bytes_contents.append(b"JFK")
        else:
            tensor.contents.fp32_contents.append(1.0)
    for asked, status in ((message.SerializeToString(), "OK"), (b"\xff", "INVALID_ARGUMENT")):
        trace, headers = context()
        with grpc.insecure_channel(f"127.0.0.1:{old.grpc}") as channel:
            call: Any = channel.unary_unary(f"/{METHOD}")
            future = call.future(asked, timeout=10, metadata=tuple(headers.items()))
            assert future.code().name == status
        (span,) = spans(collector, trace)
        assert span.name == span.attributes["rpc.method"] == METHOD
        assert span.attributes["rpc.system.name"] == "grpc"
        assert span.attributes["rpc.response.status_code"] == status


def test_requests_without_a_trace_or_in_one_that_is_not_sampled_make_no_span(old: Pod, collector: Collector) -> None:
    unsampled, headers = context(sampled=False)
    assert old.infer(ROW, headers).status == 200
    assert old.infer(ROW).status == 200
    for wrong in ("00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01"):
        assert old.infer(ROW, {"traceparent": wrong}).status == 200
    trace, headers = context()
    old.infer(ROW, headers)
    spans(collector, trace)
    known = {f"{n:032x}" for n in range(10_000)}
    assert {span.trace for span in collector.spans()} <= known - {unsampled}


def test_a_forward_is_a_child_of_the_span_that_forwarded(old: Pod, new: Pod, collector: Collector) -> None:
    old.route(epoch=1, version="v8", target=new.url, track="candidate", weight=100, deadline_ms=5000)
    trace, headers = context()
    assert old.infer(ROW, headers).json["model_version"] == "v8"
    first, second = sorted(spans(collector, trace, 2), key=lambda span: span.attributes["homeostat.version"])
    assert (first.parent, second.parent) == (PARENT, first.id)
    assert "homeostat.rows" not in first.attributes
    assert second.attributes["homeostat.track"] == "candidate"
    old.route(epoch=2)


def test_a_mirrored_copy_is_a_child_too(old: Pod, new: Pod, collector: Collector) -> None:
    mirror = Mirror(target=new.url, version="v8", percent=100)
    old.route(epoch=3, mirror=mirror)
    trace, headers = context()
    assert old.infer(ROW, headers).json["model_version"] == "v7"
    first, second = sorted(spans(collector, trace, 2), key=lambda span: span.attributes["homeostat.version"])
    assert second.parent == first.id
    assert second.attributes["homeostat.track"] == "shadow"
    old.route(epoch=4)


def test_spans_that_the_collector_refuses_are_counted_and_requests_do_not_notice(
    old: Pod, collector: Collector
) -> None:
    (collector.folder / "full").touch()
    try:
        for _ in range(5):
            assert old.infer(ROW, context()[1]).status == 200
        eventually(lambda: _dropped(old) == 5, "five are counted")
    finally:
        (collector.folder / "full").unlink()
    trace, headers = context()
    old.infer(ROW, headers)
    spans(collector, trace)


def test_what_the_queue_does_not_take_is_counted(
    flights: Path, environment: pytest.MonkeyPatch, collector: Collector
) -> None:
    with environment.context() as patch:
        for name, value in (("MAX_QUEUE_SIZE", "10"), ("MAX_EXPORT_BATCH_SIZE", "10000"), ("SCHEDULE_DELAY", "600000")):
            patch.setenv(f"OTEL_BSP_{name}", value)
        patch.setenv("OTEL_SERVICE_NAME", "mine")
        with Pod(flights, version="v9") as pod:
            pod.ready()
            traces = [context() for _ in range(30)]
            for _, headers in traces:
                assert pod.infer(ROW, headers).status == 200
            eventually(lambda: _dropped(pod) == 20, "the last twenty are counted")
            assert pod.stop() == 0
    for trace, _ in traces[:10]:  # sent at the end
        assert spans(collector, trace)[0].service == "mine"
    assert not any(collector.of(trace) for trace, _ in traces[10:])


def test_traces_begin_here_only_where_the_sampler_says_so(
    flights: Path, environment: pytest.MonkeyPatch, collector: Collector
) -> None:
    with environment.context() as patch:
        patch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        patch.setenv("OTEL_SERVICE_NAME", "beginner")
        with Pod(flights, version="v9") as pod:
            pod.ready()
            assert pod.infer(ROW).status == 200
            (span,) = eventually(lambda: [s for s in collector.spans() if s.service == "beginner"], "a span of its own")
            assert (span.parent, span.name, span.attributes["homeostat.rows"]) == (
                "",
                "POST /v2/models/flights/infer",
                1,
            )
            assert (
                span.trace
                in pod.get("/metrics", pod.admin, {"accept": "application/openmetrics-text"}).content.decode()
            )


def _dropped(pod: Pod) -> int:
    text = pod.get("/metrics", pod.admin).content.decode()
    line = next(
        line for line in text.splitlines() if line.startswith("homeostat_dropped_total") and 'what="span"' in line
    )
    return int(line.split()[-1])
