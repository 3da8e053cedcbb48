"""The reference of drift: frozen cells, how many training rows fell in each, and the scores of held-out rows."""

import hashlib
import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Baseline, FeatureBaseline, PredictionBaseline
from homeostat.stats import profile
from homeostat.trainer.export import Scores
from homeostat.trainer.table import Columns, Numbers, Strings
from homeostat.trainer.target import Target

VALUE_CELLS_OF_SCORES: Final = profile.SCORE_CELLS


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
) -> Baseline:
    """All of it, with the hash of what decides a row's cell."""
    decides = {
        "features": [{"name": f.name, "kind": f.kind, "edges": f.edges, "levels": f.levels} for f in seen],
        "prediction": {"kind": predicted.kind, "edges": predicted.edges, "cells": len(predicted.counts)},
    }
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return Baseline(
        edges_id=hashlib.sha256(text.encode()).hexdigest()[:16],
        rows=rows,
        features=seen,
        prediction=predicted,
        error_rate=error_rate,
        test_rows=test_rows,
    )


def _counts(cells: NDArray[Any], size: int) -> tuple[int, ...]:
    return tuple(np.bincount(cells, minlength=size).tolist())
