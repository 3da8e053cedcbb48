"""What a request did wrong, as an answer."""

from http import HTTPStatus
from typing import Final

LONGEST: Final = 1500  # characters of a message: it may quote what the client sent


class Problem(Exception):  # noqa: N818  a client's problem, not our error
    """An answer other than 200. retry_after: seconds, for 429 and 503. close: the connection cannot go on."""

    def __init__(self, status: int, message: str, *, retry_after: int = 0, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.message = status, message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        self.retry_after, self.close = retry_after, close


def phrase(status: int) -> str:
    """The status line's words."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
