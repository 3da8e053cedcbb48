"""When a schedule is due."""

from datetime import UTC, datetime

from homeostat.domain.schedule import due, next_time

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)


def test_times_are_in_the_zone_of_the_spec_also_over_the_change_to_summer_time() -> None:
    assert next_time("0 3 * * *", "Europe/Berlin", NOW).at == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert next_time("0 3 * * *", "UTC", NOW).at == datetime(2026, 3, 29, 3, 0, tzinfo=UTC)


def test_a_missed_time_stays_due() -> None:
    assert due("0 3 * * *", "UTC", "2026-03-20T03:00:00Z", NOW).at == datetime(2026, 3, 20, 3, 0, tzinfo=UTC)


def test_a_changed_schedule_forgets_the_time_of_the_old_one() -> None:
    assert due("30 4 * * *", "UTC", "2026-03-20T03:00:00Z", NOW).at == datetime(2026, 3, 29, 4, 30, tzinfo=UTC)


def test_without_a_schedule_nothing_is_due() -> None:
    assert due(None, "UTC", None, NOW).at is None


def test_what_cannot_be_read_is_a_problem_with_the_fix() -> None:
    assert "0 3 * * 1" in next_time("no schedule", "UTC", NOW).problem
    assert "Europe/Berlin" in next_time("0 3 * * 1", "Mars/Base", NOW).problem
    assert "IANA" in next_time("0 3 * * 1", "../../etc/passwd", NOW).problem


def test_a_date_that_never_comes_is_a_problem_and_no_endless_search() -> None:
    assert next_time("0 0 30 2 *", "UTC", NOW).problem
