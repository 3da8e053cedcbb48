"""Values that make sense for a column, from what training saw of it. Pure, and small enough for the supervisor."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from homeostat.api.wire.bundle import FeatureBaseline

MOST_LEVELS: Final = 50
_SHARES: Final = (0.5, 0.05, 0.15, 0.25, 0.35, 0.65, 0.75, 0.85, 0.95)  # the middle first: it is what the form shows


def values_of(kind: str, seen: FeatureBaseline | None) -> list[Any]:
    """The usual value first, then others. kind: `number` or `string`. Without a baseline there is little to go by."""
    if seen is None:
        return [0.0, 1.0, -1.0, 0.5] if kind == "number" else ["a", "b"]
    if seen.kind == "number":
        return _middles(seen.edges, seen.counts)
    order = sorted(range(len(seen.levels)), key=lambda i: -seen.counts[i])
    return [seen.levels[i] for i in order[:MOST_LEVELS]] or [""]


def _middles(edges: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Middles of the cells in which these shares of the training rows lie; at both ends the edge itself."""
    sums = list(accumulate(counts[: len(edges) + 1]))
    if not edges or not sums[-1]:
        return [0.0]
    found = []
    for share in _SHARES:
        cell = bisect_left(sums, share * sums[-1])
        low, high = edges[max(cell - 1, 0)], edges[min(cell, len(edges) - 1)]
        found.append(_short((low + high) / 2, low, high))
    return found


def _short(value: float, low: float, high: float) -> float:
    """With as few digits as keep it within the cell."""
    for digits in range(1, 7):
        short = float(f"{value:.{digits}g}")
        if low <= short <= high:
            return short
    return value
