"""Trace context (W3C): accepted from clients and passed on."""

import re
from typing import Final

_PARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_NONE: Final = b"0" * 32


def trace_id(parent: bytes) -> bytes:
    """The 32 hex digits of a `traceparent`; empty when it is none."""
    found = _PARENT.fullmatch(parent)
    return found[1] if found and found[1] != _NONE else b""


def is_sampled(parent: bytes) -> bool:
    """Whether a `traceparent` says that its trace is recorded."""
    found = _PARENT.fullmatch(parent)
    return found is not None and bool(int(found[2], 16) & 1)
