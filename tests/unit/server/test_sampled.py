"""Sampled statistics: each row is drawn by itself, with the share that was asked for; what is exact stays exact."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.api.wire.stats import PodStats, State
from homeostat.server.counting.counters import Slot
from homeostat.server.counting.recorder import TRACK, Recorder, SampledRecorder, recorder
from homeostat.server.counting.view import Pod, View, pod_stats, read
from unit.server import counted

STABLE, SHADOW = TRACK["stable"], TRACK["shadow"]


def _sampled(slot: Slot, share: float, seed: int = 7) -> SampledRecorder:
    random = np.random.default_rng(seed)
    return SampledRecorder(slot, counted.SIGNATURE, counted.BASELINE, share=share, random=random)


def _text(pod: Pod, view: View) -> str:
    return pod_stats(pod, view, State(reason="Ready"), 1, 1.0).model_dump_json()


def _drawn(share: float, batches: list[int], seed: int = 7) -> list[int]:
    """Which of the rows, numbered through, are staged; read back from the ring, which a batch must fit in."""
    slot = counted.slots()[0]
    to = _sampled(slot, share, seed)
    found, first = list[int](), 0
    for rows in batches:
        before = slot.get("staged")
        numbers = np.arange(first, first + rows, dtype=np.float32).repeat(2).reshape(rows, 2)
        to.stage(numbers, [("red",)] * rows, [3] * rows, STABLE)
        ring = to._view("stage_numbers", np.float32, (2048, 2))
        found += [int(ring[place % 2048, 0]) for place in range(before, slot.get("staged"))]
        first += rows
    return found


@pytest.mark.parametrize("share", [0.9, 0.2, 0.01])
@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_rows_are_drawn_with_their_share_whatever_the_batch(share: float, batch: int) -> None:
    rows = 20_000 if batch > 1 else 5_000
    drawn = _drawn(share, [batch] * (rows // batch))
    rows = rows // batch * batch
    assert abs(len(drawn) - share * rows) < 5 * sqrt(rows * share * (1 - share))
    assert drawn == sorted(set(drawn))


def test_one_row_says_nothing_of_the_next() -> None:
    """Of independent draws the neighbours agree as often as chance has it, and each place in a batch is drawn alike."""
    share, rows = 0.3, 40_000
    drawn = np.zeros(rows, bool)
    drawn[_drawn(share, [8] * (rows // 8))] = True
    both = int((drawn[1:] & drawn[:-1]).sum())
    spread = share**2 * (1 - share**2) + 2 * share**3 * (1 - share)  # neighbouring pairs share a row
    assert abs(both - rows * share**2) < 5 * sqrt(rows * spread)
    by_place = drawn.reshape(-1, 8).sum(axis=0)
    expected = rows / 8 * share
    assert float(((by_place - expected) ** 2 / (expected * (1 - share))).sum()) < 31.8  # chi-square of 8, p = 1e-4


@settings(deadline=None)
@given(st.lists(st.integers(1, 250), min_size=1, max_size=8), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_same_rows_are_drawn_however_they_are_cut_into_batches(cut: list[int], share: float, seed: int) -> None:
    assert _drawn(share, cut, seed) == _drawn(share, [sum(cut)], seed)


def test_sums_are_those_of_the_drawn_rows_and_no_others() -> None:
    numbers, strings = counted.table(3000, seed=4)
    drawn, slots = _drawn(0.25, [3000]), counted.slots(2)
    sampled, full = _sampled(slots[0], 0.25), counted.recorder(slots[1])
    sampled.stage(numbers, [tuple(row) for row in strings], list(range(20)) * 150, STABLE)
    full.stage(numbers[drawn], [tuple(row) for row in strings[drawn]], [i % 20 for i in drawn], STABLE)
    sampled.flush()
    full.flush()
    assert read(slots[:1]).binned == read(slots[1:]).binned
    assert read(slots[:1]).feature_rows == len(drawn) > 600


def test_a_drawn_row_keeps_its_track() -> None:
    slot = counted.slots()[0]
    to, (numbers, strings) = _sampled(slot, 0.5), counted.table(2000)
    tracks = np.array([STABLE, SHADOW] * 1000, np.uint8)
    to.stage(numbers, [tuple(row) for row in strings], [3, 4] * 1000, tracks)
    to.flush()
    view = read([slot])
    assert view.predictions["stable"][4] == view.predictions["shadow"][3] == 0
    assert view.predictions["stable"][3] == view.feature_rows
    assert slot.get("staged") == view.feature_rows + view.predictions["shadow"][4]


def test_what_is_counted_by_request_is_never_sampled() -> None:
    slot = counted.slots()[0]
    to, (numbers, strings) = _sampled(slot, 0.1), counted.table(10)
    for _ in range(50):
        counted.stage(to, numbers, strings)
        to.answered(STABLE, 200)
        to.served_together(STABLE, 10, [0.001])
        to.ran(10, 0.001)
        to.outcome("v7", "ok")
        to.labelled("v7", wrong=False, squared_error=0.0)
    to.flush()
    stats = PodStats.model_validate_json(_text(Pod("m", "v7", "", counted.BASELINE, sample=0.1), read([slot])))
    served = stats.served["stable"]
    assert (served.requests, served.rows, stats.forwards["v7"].ok, stats.feedback["v7"].labels) == (50, 500, 50, 50)
    assert read([slot]).counts["batch_rows"] == [500]
    assert stats.features is not None
    assert 0 < stats.features.rows == sum(served.predictions) < 150


def test_only_a_share_below_one_is_said_and_costs_anything() -> None:
    view = read(counted.slots())
    whole, part = (Pod("m", "v7", "", counted.BASELINE, sample=share) for share in (1.0, 0.2))
    assert PodStats.model_validate_json(_text(whole, view)).sample is None
    assert PodStats.model_validate_json(_text(part, view)).sample == 0.2
    slot = counted.slots()[0]
    assert type(recorder(slot, counted.SIGNATURE, counted.BASELINE)) is Recorder
    assert type(recorder(slot, counted.SIGNATURE, counted.BASELINE, sample=0.2)) is SampledRecorder


def test_no_statistics_stay_none_when_sampled() -> None:
    slot = counted.slots()[0]
    to = recorder(slot, counted.SIGNATURE, counted.BASELINE, rows=False, sample=0.99)
    counted.stage(to, *counted.table(500))
    assert (slot.get("staged"), to.waiting()) == (0, 0)


def test_no_two_recorders_draw_alike() -> None:
    def drawn() -> int:
        slot = counted.slots()[0]
        to, (numbers, strings) = recorder(slot, counted.SIGNATURE, counted.BASELINE, sample=0.5), counted.table(64)
        counted.stage(to, numbers, strings)
        return hash(to._view("stage_numbers", np.float32, (2048, 2)).tobytes())

    assert len({drawn() for _ in range(4)}) == 4
