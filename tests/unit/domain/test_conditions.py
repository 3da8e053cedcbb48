"""Conditions change purely."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from homeostat.domain.conditions import Condition, with_condition

THEN = datetime(2026, 1, 1, tzinfo=UTC)
READY = Condition("Ready", "True", "Serving", "2 of 2 pods", THEN, 1)


def test_an_equal_condition_gives_the_very_same_tuple() -> None:
    old = with_condition((), READY)
    assert with_condition(old, replace(READY, last_transition_time=THEN + timedelta(hours=1))) is old


def test_the_transition_time_stays_while_the_status_stays() -> None:
    old = with_condition((), READY)
    (new,) = with_condition(old, replace(READY, message="1 of 2", last_transition_time=THEN + timedelta(hours=1)))
    assert (new.message, new.last_transition_time) == ("1 of 2", THEN)


def test_the_transition_time_moves_with_the_status() -> None:
    later = THEN + timedelta(hours=1)
    (new,) = with_condition((READY,), replace(READY, status="False", last_transition_time=later))
    assert new.last_transition_time == later


def test_conditions_are_sorted_by_type() -> None:
    both = with_condition((READY,), replace(READY, type="Baking"))
    assert [c.type for c in both] == ["Baking", "Ready"]


def test_long_messages_are_cut() -> None:
    (new,) = with_condition((), replace(READY, message="x" * 5000))
    assert len(new.message) == 4096
