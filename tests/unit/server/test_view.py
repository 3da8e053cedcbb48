"""`/stats`: the whole and the short view say the same."""

from itertools import pairwise

import numpy as np

from homeostat.api.wire.bundle import FeatureBaseline
from homeostat.api.wire.stats import PodStats, RolloutStats, State
from homeostat.server.counting.counters import BUCKETS, LATENCY_BOUNDS, OUTCOMES, TRACKS, NameTable, Slot
from homeostat.server.counting.recorder import TRACK
from homeostat.server.counting.view import Pod, View, pod_stats, read, rollout_stats
from homeostat.stats import gram
from unit.server import counted

POD = Pod("flights", "v7", "2026-11-25T08:25:02.123456Z", counted.BASELINE)
READY = State(reason="Ready")
BOUNDS = (0.01, 0.05)


def _short(view: View, versions: tuple[str, ...] = (), bounds: tuple[float, ...] = BOUNDS) -> bytes:
    found = rollout_stats(POD, view, READY, 123456, 1764059102.123, bounds=bounds, versions=versions)
    return found.model_dump_json(exclude_defaults=True).encode()


def _grow(slot: Slot, place: int, size: int, times: int) -> None:
    for word in range(place, place + size):
        slot.q[word] *= times


def _busy(times: int, tracks: tuple[str, ...], *, lanes: bool) -> View:
    """What two versions' traffic leaves, each counter at about `times`."""
    slots = counted.slots()
    slot, recorder = slots[0], counted.recorder(slots[0])
    counted.stage(recorder, *counted.table(30))
    recorder.flush()
    for name in ("v7", "v128-00ff00"):
        for lane in range(-1, 8 if lanes else 0):
            for outcome in OUTCOMES:
                recorder.outcome(name, outcome, lane)
        recorder.labelled(name, wrong=True, squared_error=0.5, cell=4)
        recorder.compared(name, 1, 1, 1)
    for track in tracks:
        for seconds in (0.001, 0.02, 0.06, 11.0):
            recorder.served(TRACK[track], 3, seconds)
    for name, size in (("rows", len(TRACKS)), ("latency", len(TRACKS) * BUCKETS)):
        _grow(slot, slot.at[name], size, times)
    for table in ("forwards", "feedback", "agreement"):
        names = NameTable(slot, table)
        for place in dict(names.items()).values():
            _grow(slot, place, 2 if table == "feedback" else names.words, times)
    return read(slots)


def test_the_view_for_rollouts_is_short() -> None:
    assert len(_short(_busy(10**8, ("stable", "candidate", "fallback"), lanes=False))) <= 512
    assert len(_short(_busy(10**6, TRACKS, lanes=False))) <= 512
    assert len(_short(_busy(10**9, TRACKS, lanes=True), bounds=LATENCY_BOUNDS[:4])) <= 2048


def test_the_view_for_rollouts_reads_back_into_the_same_numbers() -> None:
    view = _busy(1000, ("stable", "shadow"), lanes=True)
    whole = pod_stats(POD, view, READY, 5, 1764059102.123)
    back = RolloutStats.model_validate_json(_short(view)).stats("flights", BOUNDS)
    assert (back.start, back.version, back.state) == (whole.start, whole.version, whole.state)
    assert back.forwards == whole.forwards
    assert back.agreement == whole.agreement
    assert {n: (f.labels, f.wrong) for n, f in back.feedback.items()} == {
        n: (f.labels, f.wrong) for n, f in whole.feedback.items()
    }
    for track, served in whole.served.items():
        short = back.served[track]
        assert (short.requests, short.rows) == (served.requests, served.rows)
        cuts = [0, *(LATENCY_BOUNDS.index(bound) + 1 for bound in BOUNDS), len(served.latency)]
        assert list(short.latency) == [sum(served.latency[a:b]) for a, b in pairwise(cuts)]


def test_only_asked_versions_are_in_it_else_the_own_and_the_newest_other() -> None:
    slots = counted.slots()
    recorder = counted.recorder(slots[0])
    for name in ("v5", "v7", "v6"):
        recorder.outcome(name, "ok")
    assert RolloutStats.model_validate_json(_short(read(slots))).f.keys() == {"v7", "v6"}
    assert RolloutStats.model_validate_json(_short(read(slots), ("v5", "v9"))).f.keys() == {"v5"}


def test_a_read_without_rows_has_all_that_the_short_view_needs() -> None:
    slots = counted.slots()
    counted.recorder(slots[0]).outcome("v7", "ok")
    assert _short(read(slots, rows=False)) == _short(read(slots))


def test_products_and_projections_are_those_of_the_rows() -> None:
    numbers, strings = counted.table(700, seed=9)
    slots = counted.slots(3)
    for i, slot in enumerate(slots):
        recorder = counted.recorder(slot)
        counted.stage(recorder, numbers[i::3], strings[i::3])
        recorder.flush()
    stats = PodStats.model_validate_json(pod_stats(POD, read(slots), READY, 1, 1.0).model_dump_json())
    scores = [
        [scores_of(feature, row) for feature in counted.BASELINE.features] for row in zip(numbers, strings, strict=True)
    ]
    assert stats.gram is not None
    assert list(stats.gram.sums) == [sum(row[i] for row in scores) for i in range(3)]
    assert list(stats.gram.products) == [sum(r[i] * r[j] for r in scores) for i in range(3) for j in range(i, 3)]
    assert all(sum(cells) == 700 for cells in stats.projections)
    known = counted.BASELINE.projections
    assert known is not None
    signs = gram.signs(known.seed, [f.name for f in counted.BASELINE.features])
    for k, cells in enumerate(stats.projections):
        values = [sum(a * int(s) for a, s in zip(row, signs[k], strict=True)) for row in scores]
        found = [sum(v > edge for edge in known.edges[k]) for v in values]
        assert [found.count(cell) for cell in range(10)] == list(cells)


def scores_of(feature: FeatureBaseline, row: tuple[np.ndarray, np.ndarray]) -> int:
    numbers, strings = row
    table = gram.normal_scores(feature.counts)
    if feature.kind == "category":
        text = strings[0]
        if text == "":
            return table[len(feature.levels)]
        return table[feature.levels.index(text)] if text in feature.levels else 0
    value = numbers[["x", "y"].index(feature.name)]
    return 0 if np.isnan(value) else table[sum(value > edge for edge in feature.edges)]


def test_an_old_baseline_has_no_products() -> None:
    old = counted.BASELINE.model_copy(update={"gram": None, "projections": None})
    slots = counted.slots(known=old)
    recorder = counted.recorder(slots[0], old)
    counted.stage(recorder, *counted.table(20))
    recorder.flush()
    stats = pod_stats(Pod("m", "v1", "", old), read(slots), READY, 1, 1.0)
    assert (stats.gram, stats.projections) == (None, ())
    assert stats.features is not None
    assert stats.features.rows == 20
