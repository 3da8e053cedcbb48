"""The reference of drift: frozen cells, how many training rows fell in each, and the scores of held-out rows."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Baseline, FeatureBaseline, GramBaseline, PredictionBaseline, ProjectionBaseline
from homeostat.stats import gram, profile
from homeostat.trainer.export import Scores
from homeostat.trainer.table import Columns, Numbers, Strings
from homeostat.trainer.target import Target

VALUE_CELLS_OF_SCORES: Final = profile.SCORE_CELLS
SEED: Final = 1  # the same directions for every version, so that they can be compared
PIECE_ROWS: Final = 1 << 16


def features(columns: Columns, numbers: Numbers, strings: Strings) -> tuple[FeatureBaseline, ...]:
    """Cells and counts of each column; numbers (n, f) and strings (n, g) are the training rows as served."""
    found = []
    for place, name in enumerate(columns.numbers):
        edges = profile.equal_frequency_edges(numbers[:, place])
        counts = profile.number_counts(numbers[:, place], edges)
        found.append(FeatureBaseline(name=name, kind="number", edges=edges, counts=tuple(counts.tolist())))
    for place, name in enumerate(columns.strings):
        column = strings[:, place].tolist()
        levels = profile.top_levels(column)
        counts = profile.level_counts(column, levels)
        found.append(FeatureBaseline(name=name, kind="category", levels=levels, counts=tuple(counts.tolist())))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Together:
    """What the cells of several features say together."""

    gram: GramBaseline
    projections: ProjectionBaseline


def together(seen: tuple[FeatureBaseline, ...], numbers: Numbers, strings: Strings) -> Together | None:
    """Gram sums and projections of the training rows, counted as a server counts them; None without features or rows.

    seen: from `features`, of the same numbers (n, f) and strings (n, g).
    """
    rows = max(len(numbers), len(strings))
    if not seen or not rows:
        return None
    chosen = gram.gram_features([f.counts for f in seen])
    columns = np.array(chosen, np.intp)
    signs = gram.signs(SEED, [f.name for f in seen])
    projected = np.empty((gram.PROJECTIONS, rows), gram.score_type(len(seen)))
    sums = np.zeros(len(chosen) * (len(chosen) + 3) // 2, np.int64)
    for start in range(0, rows, PIECE_ROWS):
        piece = slice(start, start + PIECE_ROWS)
        scores = _scores(seen, numbers[piece], strings[piece])
        sums += gram.gram_sums(scores[columns])
        projected[:, piece] = signs.astype(scores.dtype) @ scores
    edges = gram.projection_edges(projected)
    counts = gram.projection_counts(projected, np.array(edges, projected.dtype)).reshape(gram.PROJECTIONS, -1)
    found = sums.tolist()
    return Together(
        GramBaseline(features=chosen, sums=tuple(found[: len(chosen)]), products=tuple(found[len(chosen) :])),
        ProjectionBaseline(seed=SEED, edges=edges, counts=tuple(map(tuple, counts.tolist()))),
    )


def _scores(seen: tuple[FeatureBaseline, ...], numbers: Numbers, strings: Strings) -> NDArray[Any]:
    """Normal scores of rows, (features, n), whole numbers."""
    numeric = [f for f in seen if f.kind == "number"]
    cells = [*profile.EdgeTable([f.edges for f in numeric]).cells(np.ascontiguousarray(numbers.T))]
    others = [f for f in seen if f.kind == "category"]
    cells += [profile.bin_levels(strings[:, i].tolist(), f.levels) for i, f in enumerate(others)]
    kind = gram.score_type(len(seen))
    tables = [np.array(gram.normal_scores(f.counts), kind) for f in (*numeric, *others)]
    return np.stack([table[column] for table, column in zip(tables, cells, strict=True)])


def prediction(scores: Scores, target: Target, champion: Baseline | None) -> PredictionBaseline:
    """Cells and counts of the held-out rows' predictions.

    Values of a regression take the champion's edges when there is one, so that versions can be compared.
    """
    if target.task == "binary":
        cells = profile.bin_scores(scores.scores[:, 1])
        return PredictionBaseline(kind="probability", counts=_counts(cells, profile.SCORE_CELLS))
    if target.task == "multiclass":
        cells = scores.scores.argmax(axis=1)
        return PredictionBaseline(kind="classes", counts=_counts(cells, len(target.classes)))
    edges = profile.equal_frequency_edges(scores.scores[:, 0], VALUE_CELLS_OF_SCORES)
    if champion is not None and champion.prediction.kind == "number":
        edges = champion.prediction.edges
    values = np.nan_to_num(scores.scores[:, 0])
    return PredictionBaseline(
        kind="number", edges=edges, counts=_counts(profile.bin_numbers(values, edges), len(edges) + 1)
    )


def build(
    seen: tuple[FeatureBaseline, ...],
    predicted: PredictionBaseline,
    *,
    rows: int,
    test_rows: int,
    error_rate: float | None,
    joint: Together | None = None,
) -> Baseline:
    """All of it, with the hash of what decides a row's cell."""
    decides: dict[str, Any] = {
        "features": [{"name": f.name, "kind": f.kind, "edges": f.edges, "levels": f.levels} for f in seen],
        "prediction": {"kind": predicted.kind, "edges": predicted.edges, "cells": len(predicted.counts)},
    }
    if joint is not None:
        decides["gram"] = {"features": joint.gram.features, "scores": [gram.normal_scores(f.counts) for f in seen]}
        decides["projections"] = {"seed": joint.projections.seed, "edges": joint.projections.edges}
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return Baseline(
        edges_id=hashlib.sha256(text.encode()).hexdigest()[:16],
        rows=rows,
        features=seen,
        prediction=predicted,
        error_rate=error_rate,
        test_rows=test_rows,
        gram=joint.gram if joint else None,
        projections=joint.projections if joint else None,
    )


def _counts(cells: NDArray[Any], size: int) -> tuple[int, ...]:
    return tuple(np.bincount(cells, minlength=size).tolist())
