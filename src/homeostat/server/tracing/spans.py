"""OpenTelemetry spans: whether this worker makes any, decided once when it starts.

Off unless the standard environment says where spans go (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`
or `OTEL_TRACES_EXPORTER=otlp`) and the extra `otel` is installed. Off, requests pass nothing of this and nothing of
OpenTelemetry is imported. On, `server.span_requests` makes them and `server.span_export` sends them.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from homeostat.server.asked import Asked
from homeostat.server.settings import Settings

Handle = Callable[[Any], None]  # of an Asked; raises Problem
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Spans(Protocol):
    """What the request path knows of spans."""

    def over_http(self, handle: Handle) -> Handle:
        """The same handler, which makes a span of each request over HTTP that is to have one."""
        ...

    def over_grpc(self, handle: Handle) -> Handle:
        """The same for messages of gRPC."""
        ...

    def ran(self, asked: Asked, track: int, rows: int, batch: int, took: float) -> None:
        """The model ran a request's rows, in a batch of so many, in `took` seconds, just now. track: place in `TRACKS`."""
        ...

    def finish(self) -> None:
        """Send what waits. Blocks, for at most some seconds."""
        ...


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for spans. Raises ValueError for what it asks for that we do not have."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none" or not (exporter or any(environment.get(name) for name in _ENDPOINTS)):
        return False
    if exporter not in {"", "otlp"}:
        raise ValueError(f"OTEL_TRACES_EXPORTER is {exporter!r}: there is otlp")
    name = next((name for name in _PROTOCOLS if environment.get(name)), "")
    if name and environment[name] != "http/protobuf":
        raise ValueError(f"{name} is {environment[name]!r}: there is http/protobuf, which collectors take on port 4318")
    return True


def spans(settings: Settings, dropped: Callable[[int], None]) -> Spans | None:
    """Those of this worker; None when none are wanted, or when they cannot be made: standard error then says why.

    dropped: hears, in any thread, how many spans were lost.
    """
    try:
        if not is_wanted(os.environ):
            return None
        from homeostat.server.tracing.span_requests import RequestSpans
    except ValueError as error:
        sys.stderr.write(f"no spans are sent: {error}, or set OTEL_TRACES_EXPORTER=none\n")
        return None
    except ImportError as error:
        fix = "pip install 'homeostat[otel]', or set OTEL_TRACES_EXPORTER=none"
        sys.stderr.write(f"no spans are sent, though the environment asks for them: {error}: {fix}\n")
        return None
    return RequestSpans(settings, dropped)
