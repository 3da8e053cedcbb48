"""JSON logs: one line an event, with the object and the reconcile that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

CONTEXT: Final[ContextVar[dict[str, Any] | None]] = ContextVar("homeostat_log_context", default=None)


class JsonFormatter(logging.Formatter):
    """time, level, logger, message; then what `CONTEXT` and `extra={"fields": …}` say; then the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(CONTEXT.get() or {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send all logs to standard error as JSON. level: a name such as `INFO`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("kopf", "kopf.objects", "kopf.activities", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
