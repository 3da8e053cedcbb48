"""The pod's last hour: differences of what the counters said every 10 s, kept by the supervisor."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from homeostat.api.wire.stats import Block, Outcomes, Served
from homeostat.server.counting.counters import TRACKS
from homeostat.server.counting.view import View

FINE_SECONDS: Final = 10
COARSE_SECONDS: Final = 60
FINE_BLOCKS: Final = 60
COARSE_BLOCKS: Final = 60


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    forwards: dict[str, Outcomes]
    rows: list[int]
    latency: list[list[int]]


class History:
    """Blocks as JSON, oldest first, bounded. They lie end to end: a late reading makes a longer block, none is lost."""

    def __init__(self) -> None:
        self.fine: deque[bytes] = deque(maxlen=FINE_BLOCKS)
        self.coarse: deque[bytes] = deque(maxlen=COARSE_BLOCKS)
        self._fine: _Reading | None = None
        self._coarse: _Reading | None = None

    def read(self, view: View, now: float) -> None:
        """Take what the counters say; call it every `FINE_SECONDS`. now: Unix seconds."""
        reading = _Reading(now, view.forwards, view.rows, [view.latency_of(track) for track in TRACKS])
        if self._fine is None or self._coarse is None:
            self._fine = self._coarse = reading
            return
        self.fine.append(_block(self._fine, reading))
        self._fine = reading
        if now - self._coarse.at >= COARSE_SECONDS - FINE_SECONDS / 2:
            self.coarse.append(_block(self._coarse, reading))
            self._coarse = reading

    def to_json(self, head: bytes) -> bytes:
        """`History` of the wire. head: its other fields, as a JSON object."""
        return b'%b,"fine":[%b],"coarse":[%b]}' % (head.rstrip(b"}"), b",".join(self.fine), b",".join(self.coarse))


def _block(before: _Reading, after: _Reading) -> bytes:
    forwards = {}
    for name, side in after.forwards.items():
        found = _since(side, before.forwards.get(name, Outcomes()))
        if found.ok or found.failed or found.busy:
            forwards[name] = found
    served = {}
    for i, track in enumerate(TRACKS):
        rows = after.rows[i] - before.rows[i]
        if rows:
            latency = tuple(a - b for a, b in zip(after.latency[i], before.latency[i], strict=True))
            served[track] = Served(requests=sum(latency), rows=rows, latency=latency)
    block = Block(at=round(before.at, 3), seconds=round(after.at - before.at, 3), forwards=forwards, served=served)
    return block.model_dump_json(exclude_defaults=True).encode()


def _since(after: Outcomes, before: Outcomes) -> Outcomes:
    earlier = before.lanes or ((0, 0, 0),) * len(after.lanes)
    lanes = tuple((a - x, b - y, c - z) for (a, b, c), (x, y, z) in zip(after.lanes, earlier, strict=True))
    return Outcomes(
        ok=after.ok - before.ok, failed=after.failed - before.failed, busy=after.busy - before.busy, lanes=lanes
    )
