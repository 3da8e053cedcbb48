"""Shared memory: sums are exact, and a writer that dies leaves no half number."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.api.wire.bundle import Baseline, Column, FeatureBaseline, PredictionBaseline, Signature
from homeostat.server.counting.counters import NAMES, Layout, NameTable, Shape, Slot, map_slots, shared_memory
from homeostat.server.counting.recorder import TRACK, Recorder
from homeostat.server.counting.view import read

SIGNATURE = Signature(task="binary", columns=(Column(name="x", type="number", tensor="t", index=0),), score_output="p")
BASELINE = Baseline(
    edges_id="e",
    rows=1,
    features=(FeatureBaseline(name="x", kind="number", edges=(0.0,), counts=(1, 0, 0, 0)),),
    prediction=PredictionBaseline(kind="probability", counts=(0,) * 20),
)
SHAPE = Shape(numbers=1, features=(4,), predictions=20)


def _slots(workers: int = 1) -> list[Slot]:
    layout = Layout.of(SHAPE)
    return map_slots(shared_memory(layout, workers), layout, workers)


def _stage(recorder: Recorder, values: list[float], track: str = "stable") -> None:
    rows = np.array(values, np.float32).reshape(-1, 1)
    recorder.stage(rows, [()] * len(rows), [3] * len(rows), TRACK[track])


@settings(deadline=None)
@given(st.lists(st.integers(1, 900), max_size=12))
def test_every_staged_row_is_counted_once_around_the_ring(batches: list[int]) -> None:
    slots = _slots(2)
    recorders = [Recorder(slot, SIGNATURE, BASELINE) for slot in slots]
    for i, rows in enumerate(batches):
        _stage(recorders[i % 2], [-1.0, 1.0, float("nan")][i % 3 : i % 3 + 1] * rows)
    for recorder in recorders:
        recorder.flush()
    view = read(slots)
    expected = [sum(b for i, b in enumerate(batches) if i % 3 == cell) for cell in range(3)]
    assert list(view.cells[0]) == [*expected, 0]
    assert view.predictions["stable"][3] == view.feature_rows == sum(batches)


def test_a_successor_counts_what_was_staged() -> None:
    slots = _slots()
    _stage(Recorder(slots[0], SIGNATURE, BASELINE), [1.0] * 7)
    assert read(slots).feature_rows == 0
    Recorder(slots[0], SIGNATURE, BASELINE).flush()
    assert read(slots).feature_rows == 7


def test_rows_of_fallback_are_in_no_feature_cell() -> None:
    slots = _slots()
    recorder = Recorder(slots[0], SIGNATURE, BASELINE)
    _stage(recorder, [1.0] * 3, "fallback")
    _stage(recorder, [1.0] * 2, "candidate")
    recorder.flush()
    view = read(slots)
    assert (view.feature_rows, view.predictions["fallback"][3], view.predictions["candidate"][3]) == (2, 3, 2)


def test_a_name_table_survives_its_writer_and_bounds_its_names() -> None:
    slot = _slots()[0]
    for i in range(NAMES + 5):
        slot.q[NameTable(slot, "forwards").place(f"v{i}")] += 1
    counted = {name: slot.q[place] for name, place in NameTable(slot, "forwards").items()}
    assert len(counted) == NAMES
    assert counted["v0"] == 1
    assert counted["other"] == 6


def test_a_reason_is_cut_not_garbled() -> None:
    slot = _slots()[0]
    slot.say("LoadFailed", "ä" * 1000)
    reason, message = slot.said()
    assert reason == "LoadFailed"
    assert set(message) == {"ä"}
