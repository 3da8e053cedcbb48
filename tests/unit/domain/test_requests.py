"""Request annotations: any text, or JSON with an id; consumed once."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.names import request_annotation
from homeostat.domain.requests import Request, echo, pending, read

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_any_text_is_a_request_with_that_id() -> None:
    assert pending({request_annotation("retrain"): "2026-03-01"}, {}) == (Request("retrain", "2026-03-01"),)


def test_json_with_an_id_says_who_and_why() -> None:
    text = '{"id": "u/1", "by": "DriftMonitor/flights", "reason": "month moved", "trigger": "Drift", "version": "v2"}'
    assert read("retrain", text) == Request("retrain", "u/1", "DriftMonitor/flights", "month moved", "Drift", "v2")


def test_a_consumed_request_is_not_pending_and_a_new_text_is() -> None:
    first = read("retrain", "one")
    echoes = {"retrain": echo(first, NOW, "run 1")}
    assert pending({request_annotation("retrain"): "one"}, echoes) == ()
    assert pending({request_annotation("retrain"): "two"}, echoes) == (Request("retrain", "two"),)


def test_an_empty_value_and_other_annotations_ask_for_nothing() -> None:
    assert pending({request_annotation("retrain"): "", "other": "x"}, {}) == ()


def test_several_verbs_come_in_a_fixed_order() -> None:
    marks = {request_annotation("pause"): "p", request_annotation("rollback"): "r"}
    assert [r.verb for r in pending(marks, {})] == ["rollback", "pause"]


@given(st.text(max_size=3000) | st.text(alphabet='{}[]":,ab1', max_size=60))
def test_every_text_is_read_and_bounded(text: str) -> None:
    request = read("retrain", text)
    assert len(request.id) <= 1024
    assert read("retrain", text) == request


@given(st.text(min_size=1, max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_what_we_write_we_read(name: str, by: str, reason: str) -> None:
    request = Request("retrain", name, by, reason, "Drift", "v2")
    assert read("retrain", request.to_text()) == request
