"""The last hour, in blocks that lie end to end."""

import orjson

from homeostat.api.wire.stats import History as Wire
from homeostat.server.counting.history import COARSE_BLOCKS, FINE_BLOCKS, History
from homeostat.server.counting.recorder import TRACK
from homeostat.server.counting.view import read
from unit.server import counted

HEAD = {"v": 1, "model": "m", "version": "v7", "start": "s", "now": 1.0}


def _wire(history: History) -> Wire:
    return Wire.model_validate_json(history.to_json(orjson.dumps(HEAD)))


def test_blocks_add_up_to_what_was_counted_and_are_bounded() -> None:
    slots = counted.slots()
    recorder, history = counted.recorder(slots[0]), History()
    ticks = 6 * 60 + 25
    for tick in range(ticks + 1):
        history.read(read(slots, rows=False), 1000.0 + 10 * tick)
        recorder.served(TRACK["stable"], 2, 0.004)
        recorder.outcome("v7", "ok", tick % 8)
        if tick % 50 == 0:
            recorder.outcome("v8", "failed")
    found = _wire(history)
    assert (len(found.fine), len(found.coarse)) == (FINE_BLOCKS, COARSE_BLOCKS)
    assert [b.served["stable"].rows for b in found.fine] == [2] * FINE_BLOCKS
    assert [b.served["stable"].requests for b in found.coarse] == [6] * COARSE_BLOCKS
    assert all(sum(b.served["stable"].latency) == 6 for b in found.coarse)
    assert sum(b.forwards["v8"].failed for b in found.coarse if "v8" in b.forwards) == 7
    assert all(sum(lane[0] for lane in b.forwards["v7"].lanes) == b.forwards["v7"].ok for b in found.coarse)
    for blocks in (found.fine, found.coarse):
        assert [b.at for b in blocks[1:]] == [b.at + b.seconds for b in blocks[:-1]]


def test_a_late_reading_makes_a_longer_block_and_loses_nothing() -> None:
    slots = counted.slots()
    recorder, history = counted.recorder(slots[0]), History()
    for at in (0.0, 10.0, 95.0):
        history.read(read(slots, rows=False), at)
        recorder.served(TRACK["stable"], 1, 0.004)
    found = _wire(history)
    assert [(b.at, b.seconds) for b in found.fine] == [(0, 10), (10, 85)]
    assert [(b.at, b.seconds, b.served["stable"].rows) for b in found.coarse] == [(0, 95, 2)]


def test_a_pod_that_just_started_has_no_blocks() -> None:
    history = History()
    assert _wire(history).fine == ()
    history.read(read(counted.slots(), rows=False), 5.0)
    assert _wire(history).fine == _wire(history).coarse == ()
