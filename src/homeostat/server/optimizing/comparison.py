"""An optimised model beside its original: the same rows through both, and how long a batch takes each."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Baseline, FeatureBaseline, Signature
from homeostat.server.inference.model import Model, TableModel
from homeostat.server.inference.rows import Table
from homeostat.server.inference.work import Rows
from homeostat.stats.change import changed_rows, largest_change

ROWS: Final = 256
BATCH: Final = 32
SEED: Final = 20
_ROUNDS: Final = 200
_LEAST_ROUNDS: Final = 5
_SECONDS: Final = 2.0  # of timing, once there are enough rounds


def sample(model: Model, baseline: Baseline | None, count: int = ROWS) -> Rows:
    """Rows as training saw them, always the same: each feature by itself, by the counts of its cells.

    Columns without a baseline, and models without one, get made-up values.
    """
    made = model.example(count)
    if baseline is None or not isinstance(model, TableModel):
        return made
    return _drawn(model.signature, baseline, made)


def _drawn(signature: Signature, baseline: Baseline, made: Any) -> Table:
    random, count = np.random.default_rng(SEED), made.count
    features = {one.name: one for one in baseline.features}
    numbers, texts = made.matrix().copy(), np.array(made.strings, dtype=object).reshape(count, -1)
    places = {"number": 0, "string": 0}
    for column in signature.columns:
        place, feature = places[column.type], features.get(column.name)
        places[column.type] += 1
        if feature is None or not any(feature.counts):
            continue
        weights = np.array(feature.counts, dtype=np.float64)
        cells = random.choice(len(weights), size=count, p=weights / weights.sum())
        values = cell_values(feature)
        target = numbers if column.type == "number" else texts
        target[:, place] = [values[cell] for cell in cells]
    return Table(count, np.ascontiguousarray(numbers, np.float32).tobytes(), [tuple(row) for row in texts])


def cell_values(feature: FeatureBaseline) -> list[Any]:
    """One value of each cell: its middle, or for the open ones as far outside; a level; missing; an unknown level."""
    if feature.kind == "category":
        return [*feature.levels, "", "(a level that training never saw)"]
    edges = list(feature.edges)
    if not edges:
        return [0.0, float("nan"), float("nan")]
    inner = [(a + b) / 2 for a, b in pairwise(edges)]
    wide = (edges[1] - edges[0], edges[-1] - edges[-2]) if len(edges) > 1 else (1.0, 1.0)
    return [edges[0] - wide[0] / 2, *inner, edges[-1] + wide[1] / 2, float("nan"), float("nan")]


def differences(task: str, one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """The largest change of a score and the share of rows with another label, from `one` to `other`.

    task: of the signature. See `homeostat.stats.change`; infinite also where outputs differ in shape.
    """
    scores, labels = 0.0, 0.0
    for before, after in zip(one, other, strict=True):
        if before.shape != after.shape:
            return float("inf"), 1.0
        if before.dtype.kind == "f":
            scores = max(scores, largest_change(before, after, probabilities=task != "regression"))
        else:
            labels = max(labels, changed_rows(before, after))
    return scores, labels


def compared(original: Model, optimized: Model, baseline: Baseline | None) -> tuple[float, float, int]:
    """`differences` over the sampled rows, and how many they were."""
    rows, options = sample(original, baseline), ort.RunOptions()
    one, other = original.run(rows, options), optimized.run(rows, options)
    return *differences(original.signature.task, one, other), rows.count


def speedup(original: Model, optimized: Model, baseline: Baseline | None) -> float:
    """The original's time for a batch, divided by the optimised model's: the best of many turns, each in turn."""
    rows, options = sample(original, baseline, BATCH), ort.RunOptions()
    best = {0: float("inf"), 1: float("inf")}
    begun = time.perf_counter()
    for turn in range(_ROUNDS):
        if turn >= _LEAST_ROUNDS and time.perf_counter() - begun > _SECONDS:
            break
        for place, model in enumerate((original, optimized)):
            start = time.perf_counter()
            model.run(rows, options)
            best[place] = min(best[place], time.perf_counter() - start)
    return best[0] / best[1]
