"""A monitor under any counts and any past."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.bundle import Baseline, FeatureBaseline, PredictionBaseline
from homeostat.domain.drift import (
    Act,
    ActionPolicy,
    DriftVerdict,
    History,
    PastAction,
    Policy,
    Window,
    assess,
    next_action,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
cells = st.lists(st.integers(0, 10**9), max_size=6).map(tuple)
names = ("a", "b")
baselines = st.builds(
    lambda a, b, p, e, n: Baseline(
        edges_id="e",
        rows=1,
        features=(
            FeatureBaseline(name="a", kind="number", counts=a),
            FeatureBaseline(name="b", kind="category", counts=b),
        ),
        prediction=PredictionBaseline(kind="probability", counts=p),
        error_rate=e,
        test_rows=n,
    ),
    cells,
    cells,
    cells,
    st.none() | st.floats(0, 1),
    st.integers(0, 10**6),
)
windows = st.builds(
    lambda features, predictions, rows, labels, wrong, edges: Window(
        NOW, NOW + timedelta(hours=1), "v1", edges, rows, features, predictions, labels, min(wrong, labels)
    ),
    st.lists(cells, max_size=3).map(tuple),
    cells,
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.sampled_from(["e", "e", "f"]),
)
histories = st.builds(
    History,
    st.sampled_from(["e", "old"]),
    st.none() | st.just(NOW),
    st.dictionaries(st.sampled_from(["a", "b", "prediction", "labels"]), st.integers(0, 9)),
)


@given(windows, baselines, histories)
def test_every_window_gives_three_findings(window: Window, baseline: Baseline, history: History) -> None:
    report = assess(window, baseline, Policy(), history)
    assert [d.finding for d in report.detectors] == ["DataDrift", "PredictionDrift", "Degradation"]
    assert all(d.because for d in report.detectors)
    assert all(n >= 1 for n in report.history.streaks.values())


@given(windows, baselines, histories)
def test_too_few_rows_never_find_drift(window: Window, baseline: Baseline, history: History) -> None:
    wanted = Policy(min_rows=int(window.rows) + 1, min_labels=int(window.labels) + 1)
    report = assess(window, baseline, wanted, history)
    assert {d.verdict for d in report.detectors} == {DriftVerdict.INSUFFICIENT_DATA}


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=10), st.integers(1, 5))
def test_the_baselines_own_shares_never_drift(counts: list[int], times: int) -> None:
    seen = tuple(c * times for c in counts)
    baseline = Baseline(
        edges_id="e",
        rows=sum(counts),
        features=(FeatureBaseline(name="a", kind="number", counts=tuple(counts)),),
        prediction=PredictionBaseline(kind="probability", counts=tuple(counts)),
    )
    window = Window(NOW, NOW, "v1", "e", 10_000, (seen,), seen)
    report = assess(window, baseline, Policy(), History())
    assert [d.verdict for d in report.detectors[:2]] == [DriftVerdict.OK] * 2


results: st.SearchStrategy[Literal["Requested", "Blocked", "Promoted", "Done", "Failed"]] = st.sampled_from(
    ["Requested", "Blocked", "Promoted", "Done", "Failed"]
)
steps = st.lists(st.tuples(st.integers(1, 5000), results), min_size=1, max_size=60)


@given(steps, st.integers(1, 4), st.integers(1, 4))
def test_over_any_life_budget_cooldown_and_attempts_hold(
    life: list[tuple[int, Literal["Requested", "Blocked", "Promoted", "Done", "Failed"]]], budget: int, attempts: int
) -> None:
    counts = (1000, 0)
    baseline = Baseline(
        edges_id="e",
        rows=1000,
        features=(FeatureBaseline(name="a", kind="number", counts=counts),),
        prediction=PredictionBaseline(kind="probability", counts=counts),
    )
    wanted = ActionPolicy("Retrain", ("DataDrift",), 1000, budget, 20_000, attempts)
    now, past = NOW, list[PastAction]()
    for seconds, result in life:
        now += timedelta(seconds=seconds)
        window = Window(now, now, "v1", "e", 1000, ((0, 1000),), counts)
        report = assess(window, baseline, Policy(), History())
        act = next_action(report, wanted, past, now, monitor_uid="u", rollout_in_progress=False)
        if isinstance(act, Act):
            assert all(a.id != act.id for a in past)
            past.append(PastAction(act.id, "Retrain", now, "Promoted" if result == "Blocked" else result))
    times = [a.time for a in past]
    assert all((b - a).total_seconds() >= 1000 for a, b in pairwise(times))
    assert all(sum(t <= u < t + timedelta(seconds=20_000) for u in times) <= budget for t in times)
    run = 0
    for a in past:
        run = 0 if a.result in ("Promoted", "Done") else run + 1
        assert run <= attempts
