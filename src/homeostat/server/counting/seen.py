"""Which predictions have their label already: bounded, of the whole pod."""

from typing import Final

from homeostat.server.counting.counters import SEEN_SETS, SEEN_WAYS

_SPREAD: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: serials that follow each other fall in different sets
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_SHIFT: Final = 64 - (SEEN_SETS.bit_length() - 1)


class Seen:
    """The newest 131,072 serials, in sets of 8 of which the oldest is replaced.

    Serials are kept whole, so a label is never taken for another's. Workers share the table without a lock: of two that
    write to one set in the same instant one may be lost, which lets a later duplicate of it through.
    """

    def __init__(self, table: memoryview) -> None:
        self._table = table

    def add(self, serial: int) -> bool:
        """Remember it; False when it is there already. serial: 64 bits."""
        serial = serial or 1  # 0 is an empty place
        start = ((serial * _SPREAD & _MASK) >> _SHIFT) * SEEN_WAYS
        known = self._table[start : start + SEEN_WAYS].tolist()
        if serial in known:
            return False
        table = self._table
        for place in range(start + SEEN_WAYS - 1, start, -1):  # the oldest falls out at the end
            older = known[place - start - 1]
            if older:
                table[place] = older
        table[start] = serial
        return True
