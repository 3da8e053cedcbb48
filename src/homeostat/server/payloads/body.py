"""What a sink sends at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Body:
    """One file's or request's content, and how many rows are in it."""

    content: bytes
    rows: int
