"""What a client asked, whatever protocol it came by. HTTP's `Exchange` and gRPC's `Call` are such."""

from collections.abc import Callable
from typing import Protocol

from homeostat.server.problem import Problem

Answer = tuple[bytes, bytes, bytes]  # body, content type, further header lines, each with its CRLF
Done = Callable[[Answer | Problem], None]


class Asked(Protocol):
    """One request that waits for its answer. A gRPC message is `POST <method's path>` with the raw message as body.

    known: headers that decide something, by lower-case name. arrived: monotonic seconds.
    timeout: seconds that the client still waits; None when it did not say.
    """

    method: bytes
    url: bytes
    headers: list[tuple[bytes, bytes]]
    known: dict[bytes, bytes]
    body: bytes
    arrived: float
    timeout: float | None

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    def respond(self, status: int, body: bytes, kind: bytes = ..., extra: bytes = ...) -> None:
        """Answer, once."""
        ...

    def fail(self, problem: Problem) -> None:
        """Answer with what was wrong, once."""
        ...
