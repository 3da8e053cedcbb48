"""When a worker asks connections to go elsewhere, and where new ones go."""

from collections import Counter

import pytest

from homeostat.server.life.spread import shed, targets


@pytest.mark.parametrize(
    ("rates", "connections", "own", "count"),
    [
        ([50.0, 50.0], [4, 4], 0, 0),
        ([750.0, 250.0], [6, 2], 0, 2),
        ([750.0, 250.0], [6, 2], 1, 0),
        ([625.0, 375.0], [5, 3], 0, 1),
        ([1000.0, 0.0], [8, 0], 0, 4),
        ([1000.0, 0.0], [1, 0], 0, 0),
        ([1000.0, 500.0], [2, 1], 0, 0),
        ([570.0, 430.0], [8, 0], 0, 0),
        ([9.0, 1.0], [6, 2], 0, 0),
        ([100.0], [8], 0, 0),
        ([800.0, 100.0, 50.0, 50.0], [8, 1, 1, 0], 0, 5),
    ],
)
def test_a_worker_sheds_what_is_above_its_share(
    rates: list[float], connections: list[int], own: int, count: int
) -> None:
    assert shed(rates, connections, own) == count


@pytest.mark.parametrize("start", [(8, 0), (7, 1), (6, 2), (5, 3), (30, 2), (0, 8)])
def test_any_start_gets_even_and_stays_so(start: tuple[int, int]) -> None:
    one, two = start
    for _ in range(4):
        rates = [one * 100.0, two * 100.0]
        from_one, from_two = shed(rates, [one, two], 0), shed(rates, [one, two], 1)
        one, two = one - from_one + from_two, two - from_two + from_one
    assert 0.4 <= one / (one + two) <= 0.6
    assert shed([one * 100.0, two * 100.0], [one, two], 0) == 0


def test_new_connections_go_rather_to_workers_with_few() -> None:
    assert Counter(targets({0: 6, 1: 2})) == {0: 1, 1: 4}
    assert Counter(targets({0: 4, 1: 4, 2: 4})) == {0: 1, 1: 1, 2: 1}
    assert Counter(targets({3: 0})) == {3: 1}
    assert targets({}) == []
