"""Windows of counters: nothing is lost between scrapes, nothing is invented."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.meta import Key, format_instant
from homeostat.api.wire.stats import Features, Feedback, PodStats, Served, State
from homeostat.domain.drift import Window
from homeostat.reconcile.windows import Open, Subject, Windows
from unit.reconcile.memory import NOW

KEY = Key("DriftMonitor", "ml", "flights")
SUBJECT = Subject("u", "v1", "d", "b")
LENGTH = timedelta(seconds=60)
BEFORE = format_instant(NOW - timedelta(hours=1))


def stats(rows: int, *, version: str = "v1", start: str = BEFORE, labels: int = 0) -> PodStats:
    return PodStats(
        model="flights",
        version=version,
        start=start,
        now=0,
        state=State(reason="Ready"),
        served={"stable": Served(rows=rows, predictions=(rows,)), "shadow": Served(rows=9, predictions=(9,))},
        features=Features(edges_id="e", rows=rows, cells=((rows, 0),)),
        feedback={"v1": Feedback(labels=labels, wrong=0)},
    )


def at(windows: Windows, seconds: float, *pods: tuple[str, PodStats], subject: Subject = SUBJECT) -> Window | Open:
    return windows.collect(KEY, subject, pods, NOW + timedelta(seconds=seconds), LENGTH)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_a_window_is_the_difference_however_often_it_was_read(readings: list[int]) -> None:
    windows = Windows()
    rising = sorted(readings)
    for second, rows in enumerate(rising):
        at(windows, second, ("p", stats(rows)))
    window = at(windows, 60, ("p", stats(2000)))
    assert isinstance(window, Window)
    assert window.rows == 2000 - rising[0]
    assert window.features == ((2000 - rising[0], 0),)
    assert window.predictions == (2000 - rising[0],)


def test_a_window_stays_until_its_verdict_is_written_and_the_next_begins_where_it_ended() -> None:
    windows = Windows()
    at(windows, 0, ("p", stats(0)))
    first = at(windows, 61, ("p", stats(10)))
    again = at(windows, 62, ("p", stats(12)))
    assert isinstance(first, Window)
    assert isinstance(again, Window)
    assert (first.rows, again.rows, again.end) == (10, 12, NOW + LENGTH)
    windows.close(KEY, again)
    following = at(windows, 63, ("p", stats(15)))
    assert following == Open(NOW + LENGTH, NOW + 2 * LENGTH, 3)


def test_a_new_pod_counts_in_full_and_one_that_was_there_before_only_from_now_on() -> None:
    windows = Windows()
    at(windows, 0)
    at(windows, 10, ("old", stats(500)), ("new", stats(7, start=format_instant(NOW + timedelta(seconds=5)))))
    assert at(windows, 20, ("old", stats(501))) == Open(NOW, NOW + LENGTH, 8)


def test_a_restarted_pod_keeps_what_it_counted_before_and_never_makes_counts_negative() -> None:
    windows = Windows()
    at(windows, 0, ("p", stats(500)))
    at(windows, 5, ("p", stats(520)))
    at(windows, 10, ("p", stats(3, start=format_instant(NOW))))
    window = at(windows, 60, ("p", stats(5, start=format_instant(NOW))))
    assert isinstance(window, Window)
    assert (window.rows, window.features) == (25, ((25, 0),))
    windows.close(KEY, window)
    assert at(windows, 61, ("p", stats(1, start=format_instant(NOW)))) == Open(NOW + LENGTH, NOW + 2 * LENGTH, 0)


def test_labels_count_wherever_they_arrive_and_rows_only_at_the_version() -> None:
    windows = Windows()
    at(windows, 0, ("a", stats(0)), ("b", stats(0, version="v2")))
    window = at(windows, 60, ("a", stats(5, labels=2)), ("b", stats(50, version="v2", labels=3)))
    assert isinstance(window, Window)
    assert (window.rows, window.labels) == (5, 5)


def test_another_version_or_a_recreated_monitor_begins_another_window() -> None:
    windows = Windows()
    at(windows, 0, ("p", stats(0)))
    at(windows, 10, ("p", stats(100)))
    other = Subject("u2", "v1", "d", "b")
    assert at(windows, 20, ("p", stats(110)), subject=other) == Open(
        NOW + timedelta(seconds=20), NOW + timedelta(seconds=80), 0
    )


def test_a_long_pause_of_the_operator_makes_one_long_window() -> None:
    windows = Windows()
    at(windows, 0, ("p", stats(0)))
    window = at(windows, 600, ("p", stats(10)))
    assert isinstance(window, Window)
    assert window.end == NOW + timedelta(seconds=600)
