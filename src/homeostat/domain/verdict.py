"""Is the candidate worse than stable? Counts of both sides per tick in, a verdict with its sentence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from homeostat.api.deployment import AnalysisMetric
from homeostat.api.meta import format_instant, parse_instant
from homeostat.stats.evidence import Counts, Evidence, Hypothesis, Outcome, from_state, outcome, start, tick, to_state

UNSEEN_SECONDS: Final = 30.0  # without a scrape of a side for so long, nothing is known
DEFAULTS: Final = {"ErrorRate": (Hypothesis(0.005, 0.10), True), "Quality": (Hypothesis(0.01, 0.0), False)}


@dataclass(frozen=True, slots=True)
class Metric:
    """One comparison. `tolerated`: how much worse the candidate may be. `required`: a step waits for its Pass."""

    type: str
    tolerated: Hypothesis
    required: bool


@dataclass(frozen=True, slots=True)
class Sides:
    """One metric's counts of one tick: the candidate's side in all, stable's side by the pod that counted it."""

    candidate: Counts = field(default_factory=Counts)
    stable: Mapping[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """What was scraped since the tick before: `increase` of counters, both sides of the same seconds.

    sides: by metric type; a metric that is missing got nothing. *_pods: how many there are; *_scraped: how many answered.
    """

    at: datetime
    sides: Mapping[str, Sides]
    candidate_pods: int
    candidate_scraped: int
    stable_pods: int
    stable_scraped: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """The evidence of one rollout, from its start to the end of the bake. candidate_at, stable_at: last good scrape."""

    metrics: tuple[Metric, ...]
    evidence: tuple[Evidence, ...]
    started: datetime
    candidate_at: datetime
    stable_at: datetime


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric's outcome, with a sentence that explains it."""

    type: str
    outcome: Outcome
    required: bool
    within_tolerance: bool
    because: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The analysis' outcome; `metrics` in the spec's order.

    candidate_requests: what the candidate got since the start, by the metric that saw most.
    within_tolerance: the plain rates of all metrics are.
    """

    outcome: Outcome
    reason: str
    because: str
    candidate_requests: float = 0.0
    within_tolerance: bool = True
    metrics: tuple[MetricVerdict, ...] = ()


NO_ANALYSIS: Final = Verdict(Outcome.PASS, "NoMetrics", "no metric is compared")


def metric(spec: AnalysisMetric) -> Metric:
    """The spec's metric with the defaults of its type filled in."""
    tolerated, required = DEFAULTS[spec.type]
    wanted = spec.tolerance
    absolute = tolerated.absolute if wanted is None or wanted.absolute is None else wanted.absolute
    relative = tolerated.relative if wanted is None or wanted.relative is None else wanted.relative
    return Metric(spec.type, Hypothesis(absolute, relative), required if spec.required is None else spec.required)


def begin(metrics: Sequence[Metric], false_rollback_rate: float, planned_seconds: float, now: datetime) -> Analysis:
    """No evidence yet. The false-rollback rate is shared evenly by the metrics, fixed here (union bound).

    planned_seconds: the longest that steps and bake may take (`rollout.planned_seconds`).
    """
    level = false_rollback_rate / max(1, len(metrics))
    evidence = tuple(start((m.tolerated,), level, planned_seconds) for m in metrics)
    return Analysis(tuple(metrics), evidence, now, now, now)


def observe(analysis: Analysis, seen: Tick) -> Analysis:
    """With one more tick. Counts always count: a candidate that no scrape reaches is judged by those who called it."""
    seconds = (seen.at - analysis.started).total_seconds()
    candidate_ok = 0 < seen.candidate_pods <= seen.candidate_scraped
    stable_ok = seen.stable_scraped > 0 and 2 * seen.stable_scraped >= seen.stable_pods
    evidence = tuple(
        _observe(e, seconds, seen.sides.get(m.type)) for m, e in zip(analysis.metrics, analysis.evidence, strict=True)
    )
    return replace(
        analysis,
        evidence=evidence,
        candidate_at=max(seen.at, analysis.candidate_at) if candidate_ok else analysis.candidate_at,
        stable_at=max(seen.at, analysis.stable_at) if stable_ok else analysis.stable_at,
    )


def _observe(evidence: Evidence, seconds: float, sides: Sides | None) -> Evidence:
    found = sides or Sides()
    return tick(evidence, seconds, (found.candidate,), (found.stable,))


def judge(analysis: Analysis, now: datetime) -> Verdict:
    """What is known now. Fail before Error before Inconclusive before Pass; total."""
    if not analysis.metrics:
        return NO_ANALYSIS
    metrics = tuple(_judge(m, e) for m, e in zip(analysis.metrics, analysis.evidence, strict=True))
    result, reason, because = _overall(metrics, _unseen(analysis, now))
    return Verdict(
        outcome=result,
        reason=reason,
        because=because,
        candidate_requests=max(e.strands[0].candidate.total for e in analysis.evidence),
        within_tolerance=all(m.within_tolerance for m in metrics),
        metrics=metrics,
    )


def _overall(metrics: tuple[MetricVerdict, ...], unseen: str) -> tuple[Outcome, str, str]:
    failed = next((m for m in metrics if m.outcome is Outcome.FAIL), None)
    if failed is not None:
        return Outcome.FAIL, f"{failed.type}Worse", failed.because
    if unseen:
        return Outcome.ERROR, "NotScraped", unseen
    waiting = next((m for m in metrics if m.required and m.outcome is not Outcome.PASS), None)
    if waiting is not None:
        return Outcome.INCONCLUSIVE, f"{waiting.type}Undecided", waiting.because
    return Outcome.PASS, "NotWorse", "; ".join(m.because for m in metrics if m.required) or "no metric is required"


def _unseen(analysis: Analysis, now: datetime) -> str:
    sides = (("candidate's pods were", analysis.candidate_at), ("half of stable's pods were", analysis.stable_at))
    for side, at in sides:
        seconds = (now - at).total_seconds()
        if seconds > UNSEEN_SECONDS:
            return f"{side} not scraped for {seconds:.0f} s"
    return ""


def _judge(wanted: Metric, evidence: Evidence) -> MetricVerdict:
    strand = evidence.strands[0]
    found = outcome(evidence)
    words = {Outcome.FAIL: "is worse than tolerated", Outcome.PASS: "is not worse than tolerated"}
    because = (
        f"{wanted.type} of the candidate {words.get(found, 'is undecided')}: {_rate(strand.candidate)} "
        f"against stable's {_rate(strand.stable)}, ln E {evidence.ln_e:.1f} of {evidence.ln_limit:.1f}, "
        f"phi {evidence.phi:.1f}"
    )
    fits = wanted.tolerated.tolerates(strand.candidate, strand.stable)
    return MetricVerdict(wanted.type, found, wanted.required, fits, because)


def _rate(counts: Counts) -> str:
    return f"{100 * counts.rate:.2f} % ({counts.bad:.0f} of {counts.total:.0f})"


def analysis_state(analysis: Analysis) -> dict[str, Any]:
    """Small JSON for the CR's status."""
    return {
        "started": format_instant(analysis.started),
        "metrics": [
            {"type": m.type, "required": m.required, **to_state(e)}
            for m, e in zip(analysis.metrics, analysis.evidence, strict=True)
        ],
    }


def analysis_from_state(state: Mapping[str, Any], now: datetime) -> Analysis | None:
    """The analysis written by `analysis_state`; both sides get a fresh 30 s to be scraped. None when unreadable."""
    try:
        started = parse_instant(state["started"])
        rows = tuple((str(r["type"]), bool(r["required"]), from_state(r)) for r in state["metrics"])
    except (KeyError, TypeError, ValueError):
        return None
    read = tuple((name, required, e) for name, required, e in rows if e is not None)
    if len(read) < len(rows) or started.tzinfo is None:
        return None
    metrics = tuple(Metric(name, e.hypotheses[0], required) for name, required, e in read)
    return Analysis(metrics, tuple(e for _, _, e in read), started, now, now)
