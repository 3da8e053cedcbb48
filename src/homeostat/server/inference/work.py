"""One request's rows on their way through the batcher."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from homeostat.server.asked import Answer, Asked, Done

if TYPE_CHECKING:
    from homeostat.server.inference.answers import Outcome


class Rows(Protocol):
    """Some rows as the model takes them; what has the same `key` may share a call of the runtime."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    @property
    def key(self) -> object:
        """Equal for rows that fit into one batch."""
        ...

    def part(self, start: int, end: int) -> "Rows":
        """Rows start … end."""
        ...


Write = Callable[["Outcome", int, int], Answer]  # outcome of a batch, first row, how many: this request's answer


class Work:
    """Rows, and how their answer is written. asked, track, done and expires are set before it is run.

    done: called once, with the answer or what was wrong. expires: monotonic seconds; not begun by then, it is not run.
    alone: it shares no batch, since one that it was in failed.
    """

    __slots__ = ("alone", "asked", "done", "expires", "rows", "timeout", "track", "write")

    asked: Asked
    track: int
    done: Done
    expires: float

    def __init__(self, rows: Rows, write: Write, timeout: float | None = None) -> None:
        self.rows, self.write, self.timeout = rows, write, timeout
        self.alone = False
