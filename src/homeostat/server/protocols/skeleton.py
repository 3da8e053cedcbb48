"""Requests of named columns that differ from an earlier one in their values only, read without building their JSON. Pure.

The text between the values is looked up as it stands; what lies in a `"data":[…]` is read as JSON. Where the whole text
is a known skeleton and each value is exactly one JSON value, it says what the earlier request said, with other values.
"""

import re
from array import array
from collections.abc import Callable
from math import nan
from operator import itemgetter
from typing import Any, Final

import orjson

from homeostat.server.inference.rows import Table

_VALUE: Final = re.compile(rb'"data": ?\[([^\]]*)\]')
_MOST: Final = 64  # skeletons that are kept
_LONGEST: Final = 16 << 10  # bytes of a skeleton
_TRIES: Final = 1024  # after so many skeletons the requests are of a kind that does not come again
_Pick = Callable[[list[Any]], tuple[Any, ...]]


class Skeletons:
    """Of requests with one row. numbers, strings: the columns of the model, in its order."""

    def __init__(self, numbers: list[str], strings: list[str]) -> None:
        self._numbers, self._strings = numbers, strings
        self._commas = len(numbers) + len(strings) - 1
        self._tries = 0
        self._known: dict[bytes, tuple[_Pick, _Pick]] = {}

    def read(self, body: bytes) -> Table | None:
        """The row, or None when the request is not known or not ordinary."""
        if not self._known or not body.endswith(b"]}"):
            return None  # without a last bracket the pattern would look for each one in all that follows
        parts = _VALUE.split(body)
        picks = self._known.get(b"]".join(parts[::2]))
        if picks is None:
            return None
        text = b",".join(parts[1::2])
        try:
            row = orjson.loads(b"[%b]" % text)
            if len(row) != self._commas + 1 or text.count(b",") != self._commas:
                return None
            return _table(picks[0](row), picks[1](row))
        except (orjson.JSONDecodeError, TypeError, OverflowError):
            return None

    def learn(self, body: bytes, inputs: list[dict[str, Any]], row: Table) -> None:
        """Remember the skeleton of a request that was read the long way as `row`."""
        if len(inputs) < 2 or self._tries == _TRIES:
            return
        self._tries += 1
        names = [one["name"] for one in inputs]
        skeleton = b"]".join(_VALUE.split(body)[::2])
        if set(names) != {*self._numbers, *self._strings} or len(skeleton) > _LONGEST:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[skeleton] = _pick(names, self._numbers), _pick(names, self._strings)
        read = self.read(body)
        if read is None or (read.numbers, read.strings) != (row.numbers, row.strings):
            del self._known[skeleton]


def _pick(given: list[str], wanted: list[str]) -> _Pick:
    places = [given.index(name) for name in wanted]
    if places == list(range(len(given))):
        return tuple
    if len(places) < 2:  # an itemgetter of one place gives no tuple
        return lambda row: tuple([row[place] for place in places])
    return itemgetter(*places)


def _table(numbers: tuple[Any, ...], strings: tuple[Any, ...]) -> Table | None:
    try:
        packed = array("f", numbers).tobytes()
    except TypeError:
        packed = array("f", [nan if number is None else number for number in numbers]).tobytes()
    for string in strings:
        if type(string) is not str:
            return None
    return Table(1, packed, [strings])
