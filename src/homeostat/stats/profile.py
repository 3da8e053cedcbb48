"""Frozen cells: which cell a value falls in, decided once at training and the same for ever after.

Cells of a feature, in this order: its value cells, then `nan` (missing), then `other` (unseen level).
Number cells are (-inf, edges[0]], (edges[0], edges[1]], …, (edges[-1], inf). Numbers are compared as float32, as served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Cells = NDArray[np.intp] | NDArray[np.int32]
SCORE_CELLS: Final = 20
VALUE_CELLS: Final = 10
LEVELS: Final = 50


def equal_frequency_edges(values: ArrayLike, cells: int = VALUE_CELLS) -> tuple[float, ...]:
    """Edges that cut `values` into about `cells` cells of equal count, rising, each a float32.

    values: (n,); NaN and infinite ones do not count. A value that alone fills a cell (an atom) gets a cell of its own,
    so fewer or a few more cells may come out. A constant v gives (below v, v): moving up or down shows.
    Without any finite value there are no edges: one cell.
    """
    column = np.asarray(values, dtype=np.float32).ravel()
    column = column[np.isfinite(column)]
    if column.size == 0:
        return ()
    levels, counts = np.unique(column, return_counts=True)
    if levels.size == 1:
        return float(np.nextafter(levels[0], np.float32(-np.inf))), float(levels[0])
    wanted = np.arange(1, cells) / cells * column.size
    reached = np.searchsorted(np.cumsum(counts), wanted, side="left")
    atoms = np.flatnonzero(counts * cells >= column.size)
    cuts = np.unique(np.concatenate([reached, atoms, atoms - 1]))
    cuts = cuts[(cuts >= 0) & (cuts < levels.size - 1)]  # an edge at the largest value would leave an empty cell
    return tuple(float(levels[i]) for i in cuts)


def top_levels(values: Iterable[Any], most: int = LEVELS) -> tuple[str, ...]:
    """The most frequent levels, at most `most`, by falling count, then by name. Missing ones (`""`, None) are no level."""
    counts = Counter(str(v) for v in values if v is not None and v != "")
    return tuple(sorted(counts, key=lambda level: (-counts[level], level))[:most])


def bin_numbers(values: ArrayLike, edges: Sequence[float]) -> Cells:
    """Cell of each value, (n,) -> (n,): 0 … len(edges), and len(edges) + 1 for NaN."""
    column = np.asarray(values, dtype=np.float32)
    cells = np.searchsorted(np.asarray(edges, dtype=np.float32), column, side="left")
    return np.where(np.isnan(column), len(edges) + 1, cells)


def bin_levels(values: Iterable[str], levels: Sequence[str]) -> Cells:
    """Cell of each string, (n,) -> (n,): its level's place, len(levels) for missing (`""`), one more for unseen."""
    places = {level: i for i, level in enumerate(levels)}
    places.setdefault("", len(levels))
    other = len(levels) + 1
    return np.fromiter((places.get(v, other) for v in values), dtype=np.intp)


def bin_scores(probabilities: ArrayLike) -> Cells:
    """Cell of each probability among 20 equal cells of [0, 1]; what lies outside (or is NaN) goes to the nearest (the first)."""
    scores = np.nan_to_num(np.asarray(probabilities, dtype=np.float64), nan=0.0)
    return np.clip(np.floor(scores * SCORE_CELLS), 0, SCORE_CELLS - 1).astype(np.intp)


def cell_count(value_cells: int) -> int:
    """Cells of a feature with that many value cells, `nan` and `other` included."""
    return value_cells + 2


def count_cells(cells: Cells, size: int) -> NDArray[np.int64]:
    """How many fell in each of `size` cells, (n,) -> (size,). Raises ValueError when a cell lies outside."""
    counts = np.bincount(cells, minlength=size)
    if counts.size > size:
        raise ValueError(f"a cell lies outside of 0 … {size - 1}: the edges are another version's")
    return counts.astype(np.int64)


def number_counts(values: ArrayLike, edges: Sequence[float]) -> NDArray[np.int64]:
    """Counts of a numeric feature: value cells, `nan`, `other` (always 0)."""
    return count_cells(bin_numbers(values, edges), cell_count(len(edges) + 1))


def level_counts(values: Iterable[str], levels: Sequence[str]) -> NDArray[np.int64]:
    """Counts of a category: one per level, `nan`, `other`."""
    return count_cells(bin_levels(values, levels), cell_count(len(levels)))


class EdgeTable:
    """Edges of several numeric features, for binning them together: the same cells as `bin_numbers`, many times faster."""

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        most = max(map(len, edges), default=0)
        table = np.full((most, len(edges), 1), np.inf, np.float32)  # no value lies above infinity
        for place, one in enumerate(edges):
            table[: len(one), place, 0] = one
        self._edges = list(table)
        self._missing = np.array([[len(one) + 1] for one in edges], np.int32).reshape(-1, 1)
        self._kind = np.uint8 if most < 255 else np.int32

    def cells(self, columns: NDArray[np.float32]) -> NDArray[np.int32]:
        """Cell of each value, (features, n) -> (features, n); fast when a feature's values lie side by side."""
        cells = count_above(columns, self._edges, self._kind)
        missing = np.isnan(columns)
        return np.where(missing, self._missing, cells) if missing.any() else cells


def count_above(
    columns: NDArray[Any], edges: Iterable[NDArray[Any]], kind: type[np.integer[Any]] = np.uint8
) -> NDArray[np.int32]:
    """How many edges each value exceeds, (f, n) -> (f, n). edges: one (f, 1) after the other; kind must hold their number."""
    found = np.zeros(columns.shape, kind)
    for edge in edges:
        np.add(found, columns > edge, out=found, casting="unsafe")
    return found.astype(np.int32)
