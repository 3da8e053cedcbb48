"""Which batch sizes a model is warmed up with."""

import time

import pytest

from homeostat.server.inference.warm import SECONDS, warm_up


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (2, [1, 2]), (32, [1, 2, 8, 32]), (1024, [1, 2, 8, 32, 1024])])
def test_a_quick_model_runs_with_every_size_that_requests_bring(most: int, sizes: list[int]) -> None:
    ran: list[int] = []
    assert warm_up(ran.append, most) == tuple(ran)
    assert ran == sizes


def test_a_slow_model_is_not_tried_with_batches_that_would_hold_up_the_start() -> None:
    assert warm_up(lambda rows: time.sleep(SECONDS / 40 * rows), 1024) == (1, 2, 8, 32)


def test_what_fails_is_said() -> None:
    with pytest.raises(MemoryError):
        warm_up(lambda rows: bytearray(1 << 62), 8)
