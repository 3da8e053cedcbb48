"""Requests of people and monitors: annotations that stay on the object; what was consumed is echoed in status."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from homeostat.api.meta import RequestEcho, format_instant
from homeostat.api.names import REQUESTS, request_annotation

LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request. id: a new one is a new request. trigger: what a monitor found (`Drift`, `Degradation`), else empty.

    version: which version it is about (`v7`); empty: whichever is in question when it arrives.
    """

    verb: str
    id: str
    by: str = ""
    reason: str = ""
    trigger: str = ""
    version: str = ""

    def to_text(self) -> str:
        """The annotation's value."""
        fields = {
            "id": self.id,
            "by": self.by,
            "reason": self.reason,
            "trigger": self.trigger,
            "version": self.version,
        }
        return json.dumps({name: text for name, text in fields.items() if text})


def read(verb: str, text: str) -> Request:
    """The request that an annotation's value stands for: any text, or JSON `{id, by, reason, trigger, version}`. Total."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or not parsed.get("id"):
        return Request(verb, _bounded(text))
    return Request(
        verb,
        _bounded(str(parsed["id"])),
        _text(parsed, "by"),
        _text(parsed, "reason"),
        _text(parsed, "trigger"),
        _text(parsed, "version"),
    )


def pending(annotations: Mapping[str, str], echoes: Mapping[str, RequestEcho]) -> tuple[Request, ...]:
    """What is asked for and was not consumed yet, in the order of `names.REQUESTS`. An empty value asks for nothing."""
    found = (read(verb, annotations.get(request_annotation(verb), "")) for verb in REQUESTS)
    return tuple(r for r in found if r.id and (r.verb not in echoes or echoes[r.verb].id != r.id))


def echo(request: Request, now: datetime, result: str) -> RequestEcho:
    """What status says of a consumed request."""
    return RequestEcho(
        id=request.id, by=request.by, reason=request.reason, time=format_instant(now), result=result[:LONGEST]
    )


def _text(parsed: Mapping[str, Any], name: str) -> str:
    value = parsed.get(name)
    return "" if value is None else str(value)[:LONGEST]


def _bounded(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"
