"""Did the world move, did quality fall, and may something be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from homeostat.api.drift import Action, DriftMonitorSpec, Finding
from homeostat.api.meta import format_instant, parse_instant
from homeostat.api.wire.bundle import Baseline
from homeostat.domain.rollout_state import later
from homeostat.stats.distance import g_test, psi_adjusted, worse_rate

OVERWHELMING: Final = 0.001  # adjusted p that needs no second window
IN_A_ROW: Final = 2
SHOWN_FEATURES: Final = 10
PREDICTIONS: Final = "prediction"
LABELS: Final = "labels"


class DriftVerdict(StrEnum):
    """What one detector says of a window."""

    OK = "OK"
    WARNING = "Warning"
    DRIFT = "Drift"
    INSUFFICIENT_DATA = "InsufficientData"


@dataclass(frozen=True, slots=True)
class Window:
    """What one version saw from `start` to `end`, all pods added up.

    edges_id: of the cells that were counted. features: per feature of the baseline, in its order, rows by cell.
    predictions: rows by score cell. wrong: of `labels` predictions with a label.
    """

    start: datetime
    end: datetime
    version: str
    edges_id: str
    rows: float
    features: tuple[tuple[float, ...], ...]
    predictions: tuple[float, ...]
    labels: float = 0
    wrong: float = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """When a window says something. alpha_*: per window. warning, drift: effect floors, PSI beyond chance.

    worse_warning, worse_drift: floors for the error rate's rise, in points of rate.
    """

    min_rows: int = 200
    min_labels: int = 100
    alpha_inputs: float = 0.006
    alpha_predictions: float = 0.002
    alpha_labels: float = 0.002
    warning: float = 0.01
    drift: float = 0.05
    worse_warning: float = 0.005
    worse_drift: float = 0.02


@dataclass(frozen=True, slots=True)
class History:
    """What the windows before leave: how many in a row moved, by feature name (or `prediction`, `labels`), for one baseline."""

    edges_id: str = ""
    end: datetime | None = None
    streaks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """One feature that moved. effect: PSI beyond chance; p: adjusted; streak: windows in a row."""

    name: str
    effect: float
    p: float
    streak: int


@dataclass(frozen=True, slots=True)
class Detector:
    """What one detector found. score: largest effect (rise of the error rate for labels), None without rows."""

    finding: Finding
    verdict: DriftVerdict
    score: float | None
    consecutive: int
    because: str
    features: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All detectors of one window, and what the next window continues with."""

    window: Window
    detectors: tuple[Detector, ...]
    history: History

    def found(self) -> tuple[Detector, ...]:
        """Those that found drift and so may act."""
        return tuple(d for d in self.detectors if d.verdict is DriftVerdict.DRIFT)


def policy(spec: DriftMonitorSpec) -> Policy:
    """The spec's bounds with the default levels."""
    return Policy(min_rows=spec.min_rows, min_labels=spec.min_labels)


def assess(window: Window, baseline: Baseline, wanted: Policy, history: History) -> DriftReport:
    """What the window says against the baseline of its version. Total; too few rows say nothing and keep the streaks.

    A window that was assessed before (its end is not after the history's) lengthens no streak.
    """
    if history.edges_id != baseline.edges_id:
        history = History(baseline.edges_id)
    again = history.end is not None and window.end <= history.end
    parts = (
        _inputs(window, baseline, wanted, history, again=again),
        _predictions(window, baseline, wanted, history, again=again),
        _labels(window, baseline, wanted, history, again=again),
    )
    streaks = {name: n for _, found in parts for name, n in found.items() if n > 0}
    end = history.end if again else window.end
    return DriftReport(window, tuple(d for d, _ in parts), History(baseline.edges_id, end, streaks))


Streaks = dict[str, int]


def _inputs(
    window: Window, baseline: Baseline, wanted: Policy, history: History, *, again: bool
) -> tuple[Detector, Streaks]:
    names = [f.name for f in baseline.features]
    short = _short(window, baseline, wanted.min_rows) or (
        "" if len(window.features) == len(names) else "the pods count other features than the baseline"
    )
    if short:
        return _silent("DataDrift", short, history, names)
    moved = tuple(
        _moved(f.name, (f.counts, seen), (wanted.alpha_inputs, len(names)), wanted, history.streaks, again=again)
        for f, seen in zip(baseline.features, window.features, strict=True)
    )
    return _verdict("DataDrift", moved, wanted.alpha_inputs, wanted, window), {m.name: m.streak for m in moved}


def _predictions(
    window: Window, baseline: Baseline, wanted: Policy, history: History, *, again: bool
) -> tuple[Detector, Streaks]:
    short = _short(window, baseline, wanted.min_rows)
    if short:
        return _silent("PredictionDrift", short, history, [PREDICTIONS])
    counts = (baseline.prediction.counts, window.predictions)
    found = _moved(PREDICTIONS, counts, (wanted.alpha_predictions, 1), wanted, history.streaks, again=again)
    detector = _verdict("PredictionDrift", (found,), wanted.alpha_predictions, wanted, window)
    return replace(detector, features=()), {PREDICTIONS: found.streak}


def _labels(
    window: Window, baseline: Baseline, wanted: Policy, history: History, *, again: bool
) -> tuple[Detector, Streaks]:
    if baseline.error_rate is None or baseline.test_rows <= 0:
        return _silent("Degradation", "the baseline has no error rate", history, [LABELS])
    if window.labels < wanted.min_labels:
        short = f"{window.labels:.0f} labels of {wanted.min_labels} that are needed"
        return _silent("Degradation", short, history, [LABELS])
    rate = window.wrong / window.labels
    rise = rate - baseline.error_rate
    p = worse_rate(window.wrong, window.labels, baseline.error_rate * baseline.test_rows, baseline.test_rows)
    moved = p < wanted.alpha_labels and rise >= wanted.worse_drift
    streak = _streak(history.streaks.get(LABELS, 0), moved=moved, again=again)
    verdict = DriftVerdict.OK
    if moved and (streak >= IN_A_ROW or p < OVERWHELMING):
        verdict = DriftVerdict.DRIFT
    elif p < wanted.alpha_labels and rise >= wanted.worse_warning:
        verdict = DriftVerdict.WARNING
    because = (
        f"error {100 * rate:.2f} % of {window.labels:.0f} labels against {100 * baseline.error_rate:.2f} % "
        f"at training, p {p:.2g}, {streak} windows in a row"
    )
    return Detector("Degradation", verdict, rise, streak, because), {LABELS: streak}


def _short(window: Window, baseline: Baseline, least: int) -> str:
    if window.edges_id != baseline.edges_id:
        return "the pods count other cells than the baseline"
    return "" if window.rows >= least else f"{window.rows:.0f} rows of {least} that are needed"


def _silent(finding: Finding, because: str, history: History, names: Sequence[str]) -> tuple[Detector, Streaks]:
    kept = {name: history.streaks.get(name, 0) for name in names}
    longest = max(kept.values(), default=0)
    return Detector(finding, DriftVerdict.INSUFFICIENT_DATA, None, longest, because), kept


def _moved(
    name: str,
    counts: tuple[Sequence[float], Sequence[float]],
    level: tuple[float, int],
    wanted: Policy,
    streaks: Mapping[str, int],
    *,
    again: bool,
) -> Moved:
    (reference, seen), (alpha, tests) = counts, level
    if len(reference) != len(seen):
        return Moved(name, 0.0, 1.0, 0)
    p = min(1.0, tests * g_test(reference, seen))
    effect = psi_adjusted(reference, seen)
    return Moved(
        name, effect, p, _streak(streaks.get(name, 0), moved=p < alpha and effect >= wanted.drift, again=again)
    )


def _streak(before: int, *, moved: bool, again: bool) -> int:
    if not moved:
        return 0
    return max(before, 1) if again else before + 1


def _verdict(finding: Finding, moved: tuple[Moved, ...], alpha: float, wanted: Policy, window: Window) -> Detector:
    ranked = sorted(moved, key=lambda m: -m.effect)
    sure = [m for m in ranked if m.streak >= IN_A_ROW or (m.streak >= 1 and m.p < OVERWHELMING)]
    warned = [m for m in ranked if m.p < alpha and m.effect >= wanted.warning]
    verdict = DriftVerdict.DRIFT if sure else DriftVerdict.WARNING if warned else DriftVerdict.OK
    shown = tuple((sure or warned)[:SHOWN_FEATURES])
    listed = ", ".join(f"{m.name} {m.effect:.3f} (p {m.p:.2g})" for m in shown) or "nothing"
    because = f"{listed} moved in {window.rows:.0f} rows; PSI beyond chance, {wanted.drift} is drift"
    score = ranked[0].effect if ranked else None
    return Detector(finding, verdict, score, max((m.streak for m in moved), default=0), because, shown)


BlockedReason = Literal["Cooldown", "Budget", "Attempts", "RolloutInProgress"]


@dataclass(frozen=True, slots=True)
class ActionPolicy:
    """What may be done about which findings, and how often."""

    type: Literal["Retrain", "Rollback"]
    on: tuple[Finding, ...]
    cooldown_seconds: float
    budget: int
    period_seconds: float
    max_attempts: int


@dataclass(frozen=True, slots=True)
class PastAction:
    """An action of this monitor. A retrained version that failed its gates or was rolled back is `Failed`.

    A rollback that went back is `Done`.
    """

    id: str
    type: Literal["Retrain", "Rollback"]
    time: datetime
    result: Literal["Requested", "Blocked", "Promoted", "Done", "Failed"]


@dataclass(frozen=True, slots=True)
class Act:
    """Do it, once per id."""

    type: Literal["Retrain", "Rollback"]
    id: str
    finding: Finding
    because: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """It would be done, were it not for `reason`. until: when that ends by itself, None when it does not."""

    type: Literal["Retrain", "Rollback"]
    id: str
    finding: Finding
    reason: BlockedReason
    because: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to do."""


NextAction = Act | Blocked | Nothing


def action_policy(spec: Action) -> ActionPolicy:
    """The spec's words as numbers."""
    budget = spec.budget
    return ActionPolicy(
        spec.type, spec.findings, spec.cooldown.seconds, budget.max, budget.period.seconds, spec.max_attempts
    )


def next_action(
    report: DriftReport,
    wanted: ActionPolicy,
    past: Sequence[PastAction],
    now: datetime,
    *,
    monitor_uid: str,
    rollout_in_progress: bool,
    promoted: datetime | None = None,
) -> NextAction:
    """Whether this action is due. past: in any order; blocked ones cost nothing. Total; the same window acts once.

    promoted: when a version was promoted last, by whomever.
    """
    finding = next((d for d in report.found() if d.finding in wanted.on), None)
    name = f"{monitor_uid}/{format_instant(report.window.end)}"
    done = sorted((a for a in past if a.type == wanted.type and a.result != "Blocked"), key=lambda a: a.time)
    if finding is None or any(a.id == name for a in done):
        return Nothing()
    found = _blocked(wanted, done, now, rollout_in_progress=rollout_in_progress, promoted=promoted)
    if found is None:
        return Act(wanted.type, name, finding.finding, finding.because)
    reason, because, until = found
    return Blocked(wanted.type, name, finding.finding, reason, because, until)


def _blocked(
    wanted: ActionPolicy,
    done: Sequence[PastAction],
    now: datetime,
    *,
    rollout_in_progress: bool,
    promoted: datetime | None,
) -> tuple[BlockedReason, str, datetime | None] | None:
    if rollout_in_progress:
        return "RolloutInProgress", "a version is being replaced; its own analysis judges it", None
    attempts = _attempts(done, promoted)
    if attempts >= wanted.max_attempts:
        because = f"{attempts} {wanted.type} in a row brought no promoted version; maxAttempts is {wanted.max_attempts}"
        return "Attempts", because, None
    cool = later(done[-1].time, wanted.cooldown_seconds) if done else now
    if now < cool:
        return "Cooldown", f"the last {wanted.type} was {format_instant(done[-1].time)}", cool
    recent = [a.time for a in done if later(a.time, wanted.period_seconds) > now]
    if len(recent) >= wanted.budget:
        because = f"{len(recent)} {wanted.type} in the budget's period; {wanted.budget} are allowed"
        return "Budget", because, later(recent[-wanted.budget], wanted.period_seconds)
    return None


def _attempts(done: Sequence[PastAction], promoted: datetime | None) -> int:
    last = max((i for i, a in enumerate(done) if a.result in ("Promoted", "Done")), default=-1)
    return sum(promoted is None or a.time >= promoted for a in done[last + 1 :])


def history_state(history: History) -> dict[str, Any]:
    """Small JSON for the CR's status."""
    end = None if history.end is None else format_instant(history.end)
    return {"edgesId": history.edges_id, "end": end, "streaks": dict(history.streaks)}


def history_from_state(state: Mapping[str, Any]) -> History:
    """The history written by `history_state`; an empty one when it is not readable: a streak is lost, none invented."""
    try:
        end = None if state.get("end") is None else parse_instant(state["end"])
        streaks = {str(name): int(n) for name, n in state["streaks"].items()}
        return History(str(state["edgesId"]), end, streaks)
    except (KeyError, TypeError, ValueError, AttributeError):
        return History()
