"""The baseline's sums over several features: counted by the trainer as the server counts them."""

import numpy as np
import pytest

from homeostat.api.wire.bundle import Baseline, GramBaseline, PredictionBaseline
from homeostat.server.counting.view import read
from homeostat.trainer import baseline
from homeostat.trainer.table import Columns
from unit.server import counted

COLUMNS = Columns(numbers=("x", "y"), strings=("c",))
PREDICTED = PredictionBaseline(kind="probability", counts=(5,) * 20)


def _baseline(numbers: np.ndarray, strings: np.ndarray, *, joint: bool = True) -> Baseline:
    seen = baseline.features(COLUMNS, numbers, strings)
    together = baseline.together(seen, numbers, strings) if joint else None
    return baseline.build(seen, PREDICTED, rows=len(numbers), test_rows=9, error_rate=None, joint=together)


def test_a_server_that_gets_the_training_rows_counts_what_the_baseline_says() -> None:
    numbers, strings = counted.table(1500)
    known = _baseline(numbers, strings)
    slots = counted.slots(known=known)
    recorder = counted.recorder(slots[0], known)
    counted.stage(recorder, numbers, strings)
    recorder.flush()
    view = read(slots)
    assert known.gram is not None
    assert known.projections is not None
    assert view.cells == tuple(feature.counts for feature in known.features)
    assert tuple(view.binned["gram"]) == known.gram.sums
    assert tuple(view.binned["products"]) == known.gram.products
    assert view.projections == known.projections.counts
    assert known.gram.features == (0, 1, 2)


def test_training_rows_are_counted_in_pieces_with_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = counted.table(500)
    whole = _baseline(*rows)
    monkeypatch.setattr(baseline, "PIECE_ROWS", 64)
    assert _baseline(*rows) == whole


def test_edges_id_covers_what_decides_a_projection() -> None:
    numbers, strings = counted.table(400)
    known = _baseline(numbers, strings)
    assert _baseline(numbers, strings).edges_id == known.edges_id
    assert _baseline(numbers, strings, joint=False).edges_id != known.edges_id
    twice = np.concatenate([numbers, numbers[numbers[:, 0] > 0]]), np.concatenate([strings, strings[numbers[:, 0] > 0]])
    assert _baseline(*twice).edges_id != known.edges_id


def test_a_baseline_of_an_older_trainer_still_loads() -> None:
    whole = _baseline(*counted.table(50)).model_dump(mode="json")
    del whole["gram"], whole["projections"]
    old = Baseline.model_validate(whole)
    assert (old.gram, old.projections) == (None, None)


def test_a_model_without_features_has_no_products() -> None:
    assert baseline.together((), np.empty((5, 0), np.float32), np.empty((5, 0), object)) is None


def test_a_scale_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="scale"):
        GramBaseline.model_validate({"features": [0], "scale": 4096, "sums": [1], "products": [1]})
