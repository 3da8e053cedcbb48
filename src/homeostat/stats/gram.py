"""What cells of several features say together: sums of products of their normal scores, and random projections of them.

All of it is whole numbers: a cell's normal score is a multiple of 1 / `SCALE`, a product one of 1 / `SCALE`², a projection
a sum of scores with signs. Sums are therefore exact, and the same in whatever order rows, workers and pods are added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.stats.profile import count_above, count_cells

Scores = NDArray[np.floating[Any]]
SCALE: Final = 1024
CLIP: Final = 1.8  # a heavy tail or a rare level must not dominate a sum
MOST_FEATURES: Final = 32
PROJECTIONS: Final = 16
PROJECTION_CELLS: Final = 10
_EXACT_IN_FLOAT32: Final = (1 << 24) // round(CLIP * SCALE)  # features whose scores add up exactly
_NORMAL: Final = NormalDist()


def normal_scores(counts: Sequence[int]) -> tuple[int, ...]:
    """Score of each cell of a feature, times `SCALE`: the mean of a standard normal over the cell's share; 0 for `nan` and `other`.

    counts: how many reference rows fell in each cell, the last two being `nan` and `other`. Each value cell has half a count
    more, so that an empty one has a score too. Levels of a category are taken in their order.
    """
    cells = [count + 0.5 for count in counts[:-2]]
    total, below, density, scores = sum(cells), 0.0, 0.0, []
    for cell in cells:
        below += cell
        share = below / total
        upper = _NORMAL.pdf(_NORMAL.inv_cdf(share)) if 0.0 < share < 1.0 else 0.0
        mean = (density - upper) / (cell / total)
        scores.append(round(max(-CLIP, min(CLIP, mean)) * SCALE))
        density = upper
    return (*scores, 0, 0)


def score_type(features: int) -> type[np.floating[Any]]:
    """The float in which that many scores add up exactly."""
    return np.float32 if features <= _EXACT_IN_FLOAT32 else np.float64


def gram_features(counts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Places of the features whose products are summed: the first `MOST_FEATURES` that are not alike in all reference rows."""
    moving = [i for i, cells in enumerate(counts) if sum(count > 0 for count in cells[:-2]) > 1]
    return tuple(moving[:MOST_FEATURES])


def gram_sums(scores: Scores) -> NDArray[np.int64]:
    """(g, n) scores -> sums of a_i, (g,), then of a_i a_j for i <= j, row by row of the upper triangle. n <= 2^31."""
    exact = scores.astype(np.float64, copy=False)  # every partial sum is a whole number below 2^53
    products = exact @ exact.T
    upper = products[_triangle(len(scores))]
    return np.concatenate([exact.sum(axis=1), upper]).astype(np.int64)


_TRIANGLES: Final[dict[int, tuple[NDArray[np.intp], NDArray[np.intp]]]] = {}


def _triangle(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    found = _TRIANGLES.get(size)
    if found is None:
        found = _TRIANGLES[size] = np.triu_indices(size)
    return found


def signs(seed: int, names: Sequence[str]) -> NDArray[np.int8]:
    """Weights of the projections, (`PROJECTIONS`, features), each 1 or -1: bits of a hash of seed and the feature's name.

    So they are the same in every release, whatever other features there are and in whatever order.
    """
    key = seed.to_bytes(8, "big", signed=True)
    found = [hashlib.blake2b(name.encode(), digest_size=2, key=key).digest() for name in names]
    bits = np.unpackbits(np.frombuffer(b"".join(found), np.uint8)).reshape(len(names), PROJECTIONS)
    return np.ascontiguousarray(2 * bits.T.astype(np.int8) - 1)


def projection_edges(projected: Scores) -> tuple[tuple[float, ...], ...]:
    """Edges that cut each row of (`PROJECTIONS`, n) into `PROJECTION_CELLS` cells of about equal count. n >= 1.

    Edges may be equal where values are; the cell between them is then empty.
    """
    rows = projected.shape[1]
    places = np.ceil(np.arange(1, PROJECTION_CELLS) / PROJECTION_CELLS * rows).astype(np.intp) - 1
    return tuple(tuple(np.partition(one, places)[places].tolist()) for one in projected)


def projection_counts(projected: Scores, edges: NDArray[Any]) -> NDArray[np.int64]:
    """How many of (p, n) fell in each cell, -> (p * c,), projection by projection. edges: (p, c - 1); cells as in `profile`."""
    count, cells = edges.shape[0], edges.shape[1] + 1
    found = count_above(projected, edges.T[:, :, None])
    return count_cells((found + np.arange(0, count * cells, cells)[:, None]).ravel(), count * cells)
