"""The replayed year: which row comes next, and which months are over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SLOWER: Final = 3.0  # a month lasts that much longer while `slow`: the rows in between are sent as well


@dataclass(frozen=True, slots=True)
class Place:
    """A row: month (1 to 12), and its place among that month's rows in time order."""

    month: int
    row: int


class Year:
    """A clock that is driven by rows: an even sample of each month, in time order.

    sizes: rows by month, the months in order. rows_per_month: how many of them are sent. When the last month is over it
    goes on with that month's rows that were left out, until nobody takes any more.
    """

    def __init__(self, sizes: Mapping[int, int], rows_per_month: int) -> None:
        self._sizes = dict(sizes)
        self._months = sorted(sizes)
        self._stride = {month: max(1.0, size / rows_per_month) for month, size in sizes.items()}
        self._position = 0.0
        self._pass = 0
        self.month = self._months[0]
        self.known = self.month - 1
        self.slow = False

    @property
    def over(self) -> bool:
        """Whether the last month was sent once."""
        return self.known == self._months[-1]

    @property
    def progress(self) -> float:
        """Share of the year that was sent, 0 to 1."""
        if self.over:
            return 1.0
        done = self._months.index(self.month)
        return (done + min(1.0, self._position / self._sizes[self.month])) / len(self._months)

    def take(self, count: int) -> list[Place]:
        """The next rows. `known` becomes the newest month that is over."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Place:
        size, stride = self._sizes[self.month], self._stride[self.month]
        place = Place(self.month, min(int(self._position) + self._pass, size - 1))
        self._position += max(1.0, stride / SLOWER) if self.slow else stride
        if self._position >= size:
            self._turn()
        return place

    def _turn(self) -> None:
        self.known = self.month
        self._position = 0.0
        if self.month == self._months[-1]:
            self._pass += 1
        else:
            self.month = self._months[self._months.index(self.month) + 1]
