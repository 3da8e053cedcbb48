"""Live evidence: nothing is counted twice, nothing is invented."""

from __future__ import annotations

from datetime import timedelta

from homeostat.api.meta import Key, format_instant
from homeostat.api.wire.stats import Feedback, Outcomes, PodStats, State
from homeostat.domain.verdict import Analysis, Metric, begin
from homeostat.reconcile.ticks import Reading, Subject, Ticks
from homeostat.stats.evidence import Counts, Hypothesis
from unit.reconcile.memory import NOW

KEY = Key("ModelDeployment", "ml", "flights")
SUBJECT = Subject("d", NOW, "v1", "v2")
BEFORE = format_instant(NOW - timedelta(hours=1))
METRICS = [Metric(name, Hypothesis(0.01, 0.0), required=True) for name in ("ErrorRate", "Quality")]


def watching() -> Ticks:
    ticks = Ticks()
    ticks.start(KEY, SUBJECT, begin(METRICS, 0.01, 600, NOW), NOW)
    return ticks


def reading(uid: str, new: tuple[int, int, int], old: tuple[int, int, int], start: str = BEFORE) -> Reading:
    forwards = {v: Outcomes(ok=n[0], failed=n[1], busy=n[2]) for v, n in (("v2", new), ("v1", old))}
    stats = PodStats(
        model="flights",
        version="v1",
        start=start,
        now=0,
        state=State(reason="Ready"),
        forwards=forwards,
        feedback={"v2": Feedback(labels=new[0], wrong=new[1])},
    )
    return Reading(uid, new=False, ready=True, at=0.0, stats=stats)


def look(ticks: Ticks, second: int, *readings: Reading) -> Analysis:
    return ticks.collect(KEY, readings, NOW + timedelta(seconds=second), float(second))


def seen(analysis: Analysis, metric: int = 0) -> tuple[Counts, Counts]:
    strand = analysis.evidence[metric].strands[0]
    return strand.candidate, strand.stable


def test_the_first_reading_of_a_pod_that_was_there_counts_for_nothing() -> None:
    ticks = watching()
    assert seen(look(ticks, 1, reading("p", (10, 5, 0), (100, 0, 0)))) == (Counts(), Counts())
    assert seen(look(ticks, 2, reading("p", (18, 7, 0), (150, 1, 0)))) == (Counts(2, 10), Counts(1, 51))


def test_a_pod_born_since_counts_from_zero() -> None:
    born = format_instant(NOW + timedelta(seconds=1))
    assert seen(look(watching(), 2, reading("p", (8, 2, 0), (90, 0, 0), born))) == (Counts(2, 10), Counts(0, 90))


def test_a_restarted_pod_counts_what_came_after_its_restart() -> None:
    ticks = watching()
    look(ticks, 1, reading("p", (500, 0, 0), (500, 0, 0)))
    again = format_instant(NOW - timedelta(seconds=5))
    assert seen(look(ticks, 2, reading("p", (4, 1, 0), (5, 0, 0), again))) == (Counts(1, 5), Counts(0, 5))


def test_the_same_scrape_is_not_counted_twice() -> None:
    ticks = watching()
    look(ticks, 1, reading("p", (0, 0, 0), (0, 0, 0)))
    once = reading("p", (5, 5, 0), (90, 0, 0))
    look(ticks, 2, once)
    assert seen(look(ticks, 2, once)) == (Counts(5, 10), Counts(0, 90))


def test_labels_are_compared_by_the_version_that_predicted() -> None:
    ticks = watching()
    look(ticks, 1, reading("p", (0, 0, 0), (0, 0, 0)))
    assert seen(look(ticks, 2, reading("p", (50, 10, 0), (0, 0, 0))), metric=1) == (Counts(10, 50), Counts())


def test_busy_answers_are_no_errors_but_hold_the_step() -> None:
    ticks = watching()
    look(ticks, 1, reading("p", (0, 0, 0), (0, 0, 0)))
    analysis = look(ticks, 2, reading("p", (98, 0, 2), (0, 0, 0)))
    assert seen(analysis)[0] == Counts(0, 98)
    assert ticks.is_busy(KEY, NOW + timedelta(seconds=3))
    assert not ticks.is_busy(KEY, NOW + timedelta(seconds=40))


def test_a_scrape_that_stays_away_leaves_its_side_unseen() -> None:
    ticks = watching()
    one = reading("p", (0, 0, 0), (0, 0, 0))
    other = Reading("q", new=True, ready=True)
    analysis = look(ticks, 1, one, other)
    assert analysis.stable_at == NOW + timedelta(seconds=1)
    assert analysis.candidate_at == NOW


def test_another_rollout_is_another_comparison() -> None:
    ticks = watching()
    assert ticks.known(KEY, SUBJECT)
    assert not ticks.known(KEY, Subject("e", NOW, "v1", "v3"))
    ticks.forget(KEY)
    assert not ticks.known(KEY, SUBJECT)


def test_it_is_written_when_what_it_says_changes_and_else_each_30_seconds() -> None:
    ticks = watching()
    assert ticks.due(KEY, "Holding", NOW)
    ticks.wrote(KEY, "Holding", NOW)
    assert not ticks.due(KEY, "Holding", NOW + timedelta(seconds=29))
    assert ticks.due(KEY, "Holding", NOW + timedelta(seconds=30))
    assert ticks.due(KEY, "Filling", NOW + timedelta(seconds=1))
