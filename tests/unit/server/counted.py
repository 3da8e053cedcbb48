"""Recorders over shared memory for tests: one model of two features and its baseline."""

import numpy as np

from homeostat.api.wire.bundle import Baseline, Column, PredictionBaseline, Signature
from homeostat.server.counting.counters import Layout, Slot, map_slots, shared_memory
from homeostat.server.counting.recorder import TRACK, Recorder
from homeostat.server.life.bundle import Bundle
from homeostat.trainer import baseline
from homeostat.trainer.table import Columns

SIGNATURE = Signature(
    task="binary",
    columns=(
        Column(name="x", type="number", tensor="n", index=0),
        Column(name="c", type="string", tensor="s", index=0),
        Column(name="y", type="number", tensor="n", index=1),
    ),
    score_output="p",
    labels=("no", "yes"),
    label_type="string",
)
LEVELS = ("red", "green", "blue", "", "unseen")


def table(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n, 2), some missing, and strings (n, 1)."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, 2)).astype(np.float32)
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    return numbers, random.choice(LEVELS, size=(rows, 1)).astype(object)


def trained(rows: int = 400) -> Baseline:
    numbers, strings = table(rows)
    strings[strings == "unseen"] = "red"
    seen = baseline.features(Columns(numbers=("x", "y"), strings=("c",)), numbers, strings)
    return baseline.build(
        seen,
        PredictionBaseline(kind="probability", counts=(5,) * 20),
        rows=rows,
        test_rows=100,
        error_rate=0.1,
        joint=baseline.together(seen, numbers, strings),
    )


BASELINE = trained()


def slots(workers: int = 1, known: Baseline = BASELINE) -> list[Slot]:
    layout = Layout.of(Bundle(None, SIGNATURE, known, "").shape)  # type: ignore[arg-type]
    return map_slots(shared_memory(layout, workers), layout, workers)


def recorder(slot: Slot, known: Baseline = BASELINE) -> Recorder:
    return Recorder(slot, SIGNATURE, known)


def stage(to: Recorder, numbers: np.ndarray, strings: np.ndarray, track: str = "stable") -> None:
    to.stage(numbers, [tuple(row) for row in strings], [3] * len(numbers), TRACK[track])
