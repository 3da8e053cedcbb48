"""How spans leave: in batches over OTLP/HTTP, from a thread of its own, out of a bounded queue. Needs the extra `otel`."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from homeostat import __version__
from homeostat.server.settings import Settings

QUEUE: Final = ("OTEL_BSP_MAX_QUEUE_SIZE", 2048)  # spans that wait; more are dropped
BATCH: Final = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
DELAY: Final = ("OTEL_BSP_SCHEDULE_DELAY", 5000)  # milliseconds after which fewer are sent
FINISH_SECONDS: Final = 3.0


def tracer(settings: Settings, dropped: Callable[[int], None]) -> tuple[Any, Callable[[], None]]:
    """A tracer by the standard environment, and how it ends. dropped: hears in any thread how many spans were lost."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what is lost is counted, not told line by line
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": settings.name, "service.version": settings.version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    queue = Queue(OTLPSpanExporter(), dropped)
    provider.add_span_processor(queue)
    return provider.get_tracer("homeostat", __version__), queue.shutdown


class Queue(SpanProcessor):  # type: ignore[misc]  # the extra need not be there when types are checked
    """Ended spans on their way to the exporter. What does not fit, and what could not be sent, is told to `dropped`."""

    def __init__(self, exporter: SpanExporter, dropped: Callable[[int], None]) -> None:
        self._exporter, self._dropped = exporter, dropped
        self._most, self._batch, self._delay = _number(*QUEUE), _number(*BATCH), _number(*DELAY) / 1000
        self._spans: deque[ReadableSpan] = deque()
        self._wake, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._send_always, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue it; never waits."""
        if len(self._spans) >= self._most:
            self._dropped(1)
            return
        self._spans.append(span)
        if len(self._spans) >= self._batch:
            self._wake.set()

    def shutdown(self) -> None:
        """Send what waits, for at most `FINISH_SECONDS`; what is left then is lost."""
        self._ended = True
        self._wake.set()
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._dropped(len(self._spans))

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002  the interface's
        """Wake the sender."""
        self._wake.set()
        return True

    def _send_always(self) -> None:
        while not (self._ended and not self._spans):
            self._wake.wait(self._delay)
            self._wake.clear()
            while self._spans:
                self._send([self._spans.popleft() for _ in range(min(self._batch, len(self._spans)))])
        self._exporter.shutdown()

    def _send(self, batch: list[ReadableSpan]) -> None:
        try:
            sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001  whatever it is, the spans are lost and the next ones are not
            sent = False
        if not sent:
            self._dropped(len(batch))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return max(1, int(text)) if text.isdigit() else default
