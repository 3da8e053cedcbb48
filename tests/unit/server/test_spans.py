"""Whether spans are made is the standard environment's to say."""

import pytest

from homeostat.server.tracing.context import is_sampled, trace_id
from homeostat.server.tracing.spans import is_wanted

TRACE = b"0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "a"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_standard_environment_decides(said: dict[str, str], wanted: bool) -> None:
    assert is_wanted(said) is wanted


@pytest.mark.parametrize(
    "said",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_it_asks_for_that_we_do_not_have_is_named(said: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(reversed(said))):
        is_wanted(said)


@pytest.mark.parametrize(("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"03", True)])
def test_a_context_says_whether_its_trace_is_recorded(flags: bytes, sampled: bool) -> None:
    parent = b"00-%b-b7ad6b7169203331-%b" % (TRACE, flags)
    assert trace_id(parent) == TRACE
    assert is_sampled(parent) is sampled


@pytest.mark.parametrize("parent", [b"", b"01", b"00-" + TRACE, b"00-%b-b7ad6b7169203331-0g" % TRACE])
def test_what_is_no_context_is_in_no_trace(parent: bytes) -> None:
    assert trace_id(parent) == b""
    assert not is_sampled(parent)
