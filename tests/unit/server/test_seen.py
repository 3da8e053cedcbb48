"""The filter of duplicate labels: exact, bounded, shared."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.server.counting.counters import SEEN_SETS, SEEN_WAYS
from homeostat.server.counting.seen import _SPREAD, Seen
from unit.server import counted


def _table() -> memoryview:
    return memoryview(bytearray(SEEN_SETS * SEEN_WAYS * 8)).cast("Q")


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**64 - 1), max_size=200))
def test_each_serial_is_new_once(serials: list[int]) -> None:
    seen = Seen(_table())
    taken = [serial for serial in serials if seen.add(serial)]
    assert sorted(taken) == sorted(set(serials))
    assert not any(seen.add(serial) for serial in taken)


def test_serials_that_follow_each_other_fill_the_whole_table_before_one_is_forgotten() -> None:
    seen = Seen(_table())
    start = random.Random(3).getrandbits(32) << 32
    room = SEEN_SETS * SEEN_WAYS
    assert all(seen.add(start + i) for i in range(room * 9 // 10))
    assert not any(seen.add(start + i) for i in range(room // 2, room * 9 // 10, 7))


def test_the_oldest_of_a_full_set_is_forgotten_first() -> None:
    seen, back = Seen(_table()), pow(_SPREAD, -1, 2**64)
    alike = [back * k % 2**64 for k in range(1, SEEN_WAYS + 2)]  # they all fall in the first set
    assert all(seen.add(serial) for serial in alike)
    assert not any(seen.add(serial) for serial in alike[1:])
    assert seen.add(alike[0])


def test_workers_share_the_table() -> None:
    one, other = (counted.recorder(slot) for slot in counted.slots(2))
    assert one.seen.add(77)
    assert not other.seen.add(77)
