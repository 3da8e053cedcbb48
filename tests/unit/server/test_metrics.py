"""`/metrics`: what Prometheus' own parsers read is what was counted."""

from collections.abc import Callable
from typing import Any

import numpy as np
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from homeostat.server.counting.counters import DROPPED, PROTOCOLS, TURNED_AWAY, Slot
from homeostat.server.counting.metrics import Exposition, Now
from homeostat.server.counting.recorder import TRACK
from homeostat.server.counting.view import Pod, exemplars, read
from unit.server import counted

POD = Pod('a "model"\\', "v7", "2026-11-25T08:25:02Z", counted.BASELINE)
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"


def _busy() -> list[Slot]:
    """Two workers that counted something of everything."""
    slots = counted.slots(2)
    for slot in slots:
        recorder = counted.recorder(slot)
        counted.stage(recorder, *counted.table(50))
        recorder.flush()
        for place in range(len(PROTOCOLS)):
            recorder.answered(TRACK["stable"], 200, place)
        recorder.answered(TRACK["candidate"], 599, 1)
        recorder.served(TRACK["stable"], 50, 0.003)
        recorder.served(TRACK["stable"], 1, 20.0, TRACE)
        recorder.ran(50, 0.002)
        for lane in (-1, -1, 3):
            recorder.outcome("v8", "failed", lane)
        recorder.compared("v8", 5, 2, 1)
        recorder.cached(7, 2)
        recorder.terminated()
        for what in DROPPED:
            recorder.dropped(what, 4)
        for why in TURNED_AWAY:
            recorder.refused_request(why)
        recorder.labelled("v7", wrong=True, squared_error=0.25, cell=19, positive=True)
        recorder.refused("late")
    return slots


def _samples(text: str, parser: Callable[[str], Any]) -> dict[tuple[str, frozenset], float]:
    return {(s.name, frozenset(s.labels.items())): s.value for family in parser(text) for s in family.samples}


def _text(slots: list[Slot], *, bins: bool, open_: bool) -> str:
    now = Now(read(slots), ready=True, restarts=3, exemplars=exemplars(slots) if open_ else {})
    return Exposition(POD, feature_bins=bins).write(now, open_metrics=open_).decode()


def _value(samples: dict, name: str, **labels: str) -> float:
    mine = {"model": POD.model, "version": "v7", **labels}
    return samples[name, frozenset(mine.items())]


def test_both_formats_say_the_same_and_are_read_by_their_parsers() -> None:
    slots = _busy()
    texts = _text(slots, bins=True, open_=False), _text(slots, bins=True, open_=True)
    found, opened = _samples(texts[0], plain), _samples(texts[1], open_metrics)
    assert texts[1].endswith("# EOF\n")
    assert found == opened
    assert len(found) > 150


def test_metrics_say_what_was_counted() -> None:
    found = _samples(_text(_busy(), bins=False, open_=True), open_metrics)
    for protocol in PROTOCOLS:
        labels = {"track": "stable", "protocol": protocol, "code": "200"}
        assert _value(found, "homeostat_requests_total", **labels) == 2
    labels = {"track": "candidate", "protocol": "grpc", "code": "other"}
    assert _value(found, "homeostat_requests_total", **labels) == 2
    assert _value(found, "homeostat_request_duration_seconds_bucket", track="stable", le="0.005") == 2
    assert _value(found, "homeostat_request_duration_seconds_count", track="stable") == 4
    assert _value(found, "homeostat_batch_rows_bucket", le="64.0") == 2
    assert _value(found, "homeostat_cache_hits_total") == 14
    assert _value(found, "homeostat_cache_misses_total") == 4
    assert _value(found, "homeostat_inference_terminated_total") == 2
    assert _value(found, "homeostat_worker_restarts_total") == 3
    assert [_value(found, "homeostat_dropped_total", what=what) for what in DROPPED] == [8] * 3
    assert [_value(found, "homeostat_requests_refused_total", reason=why) for why in TURNED_AWAY] == [2] * len(
        TURNED_AWAY
    )
    assert _value(found, "homeostat_feedback_bin_total", bin="19", label="positive") == 2
    assert _value(found, "homeostat_feedback_squared_error_total") == 0.5
    assert _value(found, "homeostat_feedback_refused_total", reason="late") == 2
    assert _value(found, "homeostat_prediction_bin_total", track="stable", bin="3") == 100


def test_requests_with_a_sticky_key_have_a_lane_and_no_sum_counts_them_twice() -> None:
    found = _samples(_text(_busy(), bins=False, open_=False), plain)
    assert _value(found, "homeostat_forwards_total", version="v8", outcome="failed") == 4
    assert _value(found, "homeostat_forwards_total", version="v8", outcome="failed", lane="3") == 2
    sums = sum(
        v
        for (name, labels), v in found.items()
        if name == "homeostat_forwards_total" and ("outcome", "failed") in labels
    )
    assert sums == 6
    assert _value(found, "homeostat_agreement_total", version="v8", outcome="differed") == 4


def test_features_are_in_the_metrics_only_on_demand() -> None:
    slots = _busy()
    assert "homeostat_feature_bin_total" not in _text(slots, bins=False, open_=False)
    found = _samples(_text(slots, bins=True, open_=False), plain)
    cells = read(slots).cells
    place = [feature.name for feature in counted.BASELINE.features].index("c")
    names = [*map(str, range(len(cells[place]) - 2)), "nan", "other"]
    got = [_value(found, "homeostat_feature_bin_total", feature="c", bin=name) for name in names]
    assert got == list(cells[place])
    assert got[-1] > 0
    assert sum(got) == 100


def test_a_traced_request_is_the_exemplar_of_its_bucket() -> None:
    text = _text(_busy(), bins=False, open_=True)
    (family,) = [f for f in open_metrics(text) if f.name == "homeostat_request_duration_seconds"]
    marked = [s for s in family.samples if s.exemplar]
    assert [(s.labels["le"], s.exemplar.labels, s.exemplar.value) for s in marked] == [
        ("+Inf", {"trace_id": TRACE.decode()}, 20.0)
    ]


def test_a_trace_that_is_none_is_no_exemplar() -> None:
    slots = counted.slots()
    recorder = counted.recorder(slots[0])
    for trace in (b'"} 1\n' * 7, b"Z" * 32, b"abc", np.random.default_rng(1).bytes(40)):
        recorder.served(TRACK["stable"], 1, 0.1, trace)
        assert exemplars(slots) == {}
