"""Staged rows into cells: everything that is summed over rows, for a whole piece of the ring at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Baseline, Signature
from homeostat.server.counting.counters import NOT_COUNTED_TRACKS, TRACKS, Shape
from homeostat.stats import gram
from homeostat.stats.profile import EdgeTable, count_cells

_JUDGED: Final = np.array([track not in NOT_COUNTED_TRACKS for track in TRACKS])


@dataclass(frozen=True, slots=True)
class Piece:
    """n staged rows. numbers: (n, f) float32; levels: (n, g) cells of the string columns; cells: score cells; tracks: places."""

    numbers: NDArray[np.float32]
    levels: NDArray[np.int16]
    cells: NDArray[np.int16]
    tracks: NDArray[np.uint8]


class Binning:
    """Adds pieces to sums as `Shape.sums` orders them. Frozen by the baseline: what a row adds never changes."""

    def __init__(self, shape: Shape, signature: Signature | None, baseline: Baseline | None) -> None:
        self._shape = shape
        names: dict[str, list[str]] = {"number": [], "string": []}
        for column in signature.columns if signature else ():
            names[column.type].append(column.name)
        features = baseline.features if baseline else ()
        starts = np.concatenate([[0], np.cumsum(shape.features)]).astype(np.int32)[:-1, None]
        numeric = [i for i, f in enumerate(features) if f.kind == "number"]
        others = [i for i, f in enumerate(features) if f.kind == "category"]
        self._numeric, self._other = np.array(numeric, np.intp), np.array(others, np.intp)
        self._number_columns = _columns([names["number"].index(features[i].name) for i in numeric], shape.numbers)
        self._level_columns = _columns([names["string"].index(features[i].name) for i in others], shape.strings)
        self._edges = EdgeTable([features[i].edges for i in numeric])
        self._starts = starts
        self._only_numbers = not others
        self._scores: NDArray[Any] | None = None
        self._gram = _columns(baseline.gram.features, len(features)) if baseline and baseline.gram else None
        self._signs: NDArray[Any] | None = None
        if baseline and baseline.projections:
            self._signs = gram.signs(baseline.projections.seed, [f.name for f in features])
            self._projection_edges = np.array(baseline.projections.edges, np.float64)
        if self._gram is not None or self._signs is not None:
            kind = gram.score_type(len(features))
            self._scores = np.array([a for f in features for a in gram.normal_scores(f.counts)], kind)
            if self._signs is not None:
                self._signs = self._signs.astype(kind)
                self._projection_edges = self._projection_edges.astype(kind)

    def add(self, sums: NDArray[np.int64], piece: Piece) -> None:
        """Add a piece's rows. Those of tracks that are counted elsewhere enter no feature."""
        shape, place = self._shape, 2
        if shape.features:
            judged = _JUDGED[piece.tracks]
            every = bool(judged.all())
            numbers = piece.numbers if every else piece.numbers[judged]
            levels = piece.levels if every else piece.levels[judged]
            sums[1] += len(piece.tracks) if every else int(judged.sum())
            place = self._features(sums, place, numbers, levels)
        if shape.predictions:
            cells = piece.tracks.astype(np.int64) * shape.predictions + np.clip(piece.cells, 0, shape.predictions - 1)
            sums[place:] += np.bincount(cells, minlength=len(TRACKS) * shape.predictions)

    def _features(self, sums: NDArray[np.int64], place: int, numbers: NDArray[Any], levels: NDArray[Any]) -> int:
        shape = self._shape
        cells = self._cells(numbers, levels)
        size = sum(shape.features)
        sums[place : place + size] += count_cells(cells.ravel(), size)
        place += size
        if self._scores is None:
            return place
        scores = np.take(self._scores, cells)
        if self._gram is not None:
            found = gram.gram_sums(scores[self._gram])
            sums[place : place + found.size] += found
            place += found.size
        if self._signs is not None:
            counts = gram.projection_counts(self._signs @ scores, self._projection_edges)
            sums[place : place + counts.size] += counts
            place += counts.size
        return place

    def _cells(self, numbers: NDArray[Any], levels: NDArray[Any]) -> NDArray[np.int32]:
        """Cell of each feature and row, (features, n), counted through over all features."""
        binned = self._edges.cells(np.ascontiguousarray(numbers[:, self._number_columns].T))
        if self._only_numbers:
            return binned + self._starts
        whole = np.empty((len(self._starts), len(numbers)), np.int32)
        whole[self._numeric] = binned
        whole[self._other] = levels[:, self._level_columns].T
        return whole + self._starts


def _columns(places: Sequence[int], width: int) -> Any:
    """An index of these columns; a slice, which copies nothing, when they are all in order."""
    return slice(None) if list(places) == list(range(width)) else np.array(places, np.intp)
