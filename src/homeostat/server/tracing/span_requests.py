"""A span of kind SERVER for each request in a sampled trace. Needs the extra `otel`.

Such a request is wrapped (`Traced`): to the rest of the server its context is our span's, so a pod that it is forwarded or
mirrored to makes its own span a child of ours, and exemplars name the trace.
"""

import os
import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from homeostat.server.asked import Asked
from homeostat.server.counting.counters import TRACKS
from homeostat.server.problem import Problem
from homeostat.server.settings import Settings
from homeostat.server.tracing.context import is_sampled
from homeostat.server.tracing.span_export import tracer
from homeostat.server.tracing.spans import Handle
from homeostat.server.transport.grpc_wire import status_of

_CONTEXT: Final = (b"traceparent", b"tracestate")
_FAULT: Final = 500
_UNNAMED: Final = (404, 405)  # the path is the client's invention: it names no span
_GRPC: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class RequestSpans:
    """See `spans.Spans`. A trace is begun here only where `OTEL_TRACES_SAMPLER` is set, by what that says."""

    def __init__(self, settings: Settings, dropped: Callable[[int], None]) -> None:
        self._tracer, self._finish = tracer(settings, dropped)
        self._propagator = TraceContextTextMapPropagator()
        self._mine = {"homeostat.model": settings.name, "homeostat.version": settings.version}
        self._scheme = "https" if settings.tls_cert else "http"
        self._begins = bool(os.environ.get("OTEL_TRACES_SAMPLER"))

    def over_http(self, handle: Handle) -> Handle:
        """See Spans."""
        return lambda asked: self._handle(handle, asked, rpc=False)

    def over_grpc(self, handle: Handle) -> Handle:
        """See Spans."""
        return lambda asked: self._handle(handle, asked, rpc=True)

    def ran(self, asked: Asked, track: int, rows: int, batch: int, took: float) -> None:
        """See Spans."""
        if isinstance(asked, Traced):
            asked.ran(TRACKS[track], rows, batch, took)

    def finish(self) -> None:
        """See Spans."""
        self._finish()

    def _handle(self, handle: Handle, asked: Asked, *, rpc: bool) -> None:
        traced = self._begin(asked, rpc=rpc)
        if traced is None:
            handle(asked)
            return
        try:
            handle(traced)
        except Problem as problem:
            traced.ended(problem.status, problem.message)
            raise
        except Exception as error:
            traced.ended(_FAULT, type(error).__name__)
            raise

    def _begin(self, asked: Asked, *, rpc: bool) -> "Traced | None":
        """The request with a span; None when it is not to have one."""
        begins = self._begins and asked.method == b"POST"  # not what polls us
        if not (begins or is_sampled(asked.known.get(b"traceparent", b""))):
            return None
        given = {n.lower().decode(): v.decode("ascii", "replace") for n, v in asked.headers if n.lower() in _CONTEXT}
        context = self._propagator.extract(given)
        if not (begins or get_current_span(context).get_span_context().is_valid):
            return None
        method, path = asked.method.decode("ascii", "replace"), _path(asked)
        if rpc:
            name, facts = path.lstrip("/"), {"rpc.system.name": "grpc", "rpc.method": path.lstrip("/")}
        else:
            name = method
            facts = {"http.request.method": method, "url.path": path, "url.scheme": self._scheme}
        span = self._tracer.start_span(
            name, context, SpanKind.SERVER, facts | self._mine, start_time=_unix(asked.arrived)
        )
        return Traced(asked, span, rpc=rpc) if span.is_recording() else None


class Traced:
    """A request with its span; everything else is the request's own (`Asked`)."""

    __slots__ = ("_asked", "_open", "_rpc", "_span", "arrived", "body", "headers", "known", "method", "url")

    def __init__(self, asked: Asked, span: Any, *, rpc: bool) -> None:
        self._asked, self._span, self._rpc, self._open = asked, span, rpc, True
        self.method, self.url, self.body, self.arrived = asked.method, asked.url, asked.body, asked.arrived
        context = span.get_span_context()
        parent = b"00-%032x-%016x-01" % (context.trace_id, context.span_id)
        self.headers = [*(one for one in asked.headers if one[0].lower() != b"traceparent"), (b"traceparent", parent)]
        self.known = {**asked.known, b"traceparent": parent}

    @property
    def timeout(self) -> float | None:
        """See Asked."""
        return self._asked.timeout

    @property
    def gone(self) -> bool:
        """See Asked."""
        return self._asked.gone

    def respond(self, status: int, body: bytes, *more: bytes, **named: bytes) -> None:
        """See Asked."""
        self._asked.respond(status, body, *more, **named)
        self.ended(status)

    def fail(self, problem: Problem) -> None:
        """See Asked."""
        self._asked.fail(problem)
        self.ended(problem.status, problem.message)

    def ran(self, track: str, rows: int, batch: int, took: float) -> None:
        """See Spans."""
        begun = time.monotonic() - took
        facts = {"homeostat.track": track, "homeostat.rows": rows, "homeostat.batch.rows": batch}
        seconds = {"homeostat.queue.seconds": max(0.0, begun - self.arrived), "homeostat.run.seconds": took}
        self._span.set_attributes(facts | seconds)
        self._span.add_event("homeostat.run", {"homeostat.batch.rows": batch}, _unix(begun))

    def ended(self, status: int, message: str = "") -> None:
        """The request was answered with this status of HTTP; only the first time counts."""
        if not self._open:
            return
        self._open, span = False, self._span
        if self._rpc:
            span.set_attribute("rpc.response.status_code", _GRPC[0 if status < 300 else status_of(status)])
        else:
            span.set_attribute("http.response.status_code", status)
            if status not in _UNNAMED:
                span.update_name(f"{self.method.decode('ascii', 'replace')} {_path(self)}")
                span.set_attribute("http.route", _path(self))
        if status >= _FAULT:
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR, message))
        span.end()


def _path(asked: "Asked | Traced") -> str:
    return asked.url.partition(b"?")[0].decode("utf-8", "replace")


def _unix(monotonic: float) -> int:
    """Unix nanoseconds of an instant of the monotonic clock, in seconds."""
    return time.time_ns() - int((time.monotonic() - monotonic) * 1e9)
