"""Sequential evidence that a candidate is worse than tolerated: an e-process that may be looked at after every tick.

The rule is a conditional binomial likelihood ratio with virtual events for what is tolerated, averaged over eight
tilts, damped by the dispersion among stable's own pods (`dispersion`). `Evidence` is a value: `tick` returns a new one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from homeostat.stats.dispersion import Dispersion

GRID: Final = (1.06, 1.15, 1.35, 1.8, 3.0, 6.0, 15.0, 60.0)
PASS_GRID: Final = (1 / 1.06, 1 / 1.15, 1 / 1.35, 1 / 1.8, 1 / 3)
LN_GRID: Final = tuple(math.log(t) for t in GRID)
LN_PASS_GRID: Final = tuple(math.log(t) for t in PASS_GRID)
STAKE_SECONDS: Final = 120.0
OPENING: Final = 0.8  # share of the stakes that is in from the start; the rest enters every STAKE_SECONDS
VOTES: Final = 3  # so many ticks at least are needed for a verdict
PASS_LEVEL: Final = 0.05
MOST: Final = 1e15  # events of one tick: sums stay finite

Row = tuple[float, ...]


class Outcome(StrEnum):
    """What the evidence says now."""

    PASS = "Pass"  # noqa: S105 a verdict
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Counts:
    """`bad` events out of `total`; fractions are allowed. What cannot be (negative, bad > total, not finite) counts as none."""

    bad: float = 0.0
    total: float = 0.0

    def clean(self) -> Counts:
        """The nearest possible counts: total >= 0, 0 <= bad <= total, finite."""
        total = self.total if self.total > 0 else 0.0  # NaN compares as false
        bad = self.bad if self.bad > 0 else 0.0
        return Counts(min(bad, total, MOST), min(total, MOST))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.bad + other.bad, self.total + other.total)

    @property
    def rate(self) -> float:
        """Share of bad events; 0 without any event."""
        return self.bad / self.total if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Tolerated: candidate's rate <= (1 + relative) x stable's rate + absolute. Both >= 0."""

    absolute: float
    relative: float

    def tolerates(self, candidate: Counts, stable: Counts) -> bool:
        """Whether the plain rates are within the tolerance."""
        return candidate.rate <= (1 + self.relative) * stable.rate + self.absolute


@dataclass(frozen=True, slots=True)
class Strand:
    """Evidence on one hypothesis: log e-values per tilt against it (`worse`) and for it (`fine`), and the counts seen."""

    worse: Row
    fine: Row
    passed: bool = False
    dispersion: Dispersion = field(default_factory=Dispersion)
    candidate: Counts = Counts()
    stable: Counts = Counts()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the test knows.

    level: Fail when E >= 1/level, 0 < level < 1. planned_seconds: the longest the rollout may take.
    next_stake: seconds since the start at which the next stake enters. failed: E has reached 1/level once.
    """

    hypotheses: tuple[Hypothesis, ...]
    level: float
    planned_seconds: float
    strands: tuple[Strand, ...]
    next_stake: float = STAKE_SECONDS
    failed: bool = False

    @property
    def ln_e(self) -> float:
        """Log of E over all hypotheses and tilts; Fail at `ln_limit`."""
        return log_sum_exp([x for s in self.strands for x in s.worse]) - math.log(len(self.strands))

    @property
    def ln_limit(self) -> float:
        """Log of 1/level."""
        return -math.log(self.level)

    @property
    def phi(self) -> float:
        """Largest dispersion among the hypotheses; 1 when stable's pods scatter no more than chance."""
        return max(s.dispersion.value() for s in self.strands)


def log_sum_exp(terms: Sequence[float]) -> float:
    """Log of the sum of exponentials, without overflow. `terms` is not empty."""
    top = max(terms)
    return top + math.log(sum(math.exp(x - top) for x in terms))


def start(hypotheses: Sequence[Hypothesis], level: float, planned_seconds: float) -> Evidence:
    """No evidence yet. At least one hypothesis; `level` is this metric's share of the false-rollback rate."""
    opening = Strand((math.log(OPENING / len(GRID)),) * len(GRID), (-math.log(len(PASS_GRID)),) * len(PASS_GRID))
    return Evidence(tuple(hypotheses), level, planned_seconds, (opening,) * len(hypotheses))


def tick(
    evidence: Evidence, at_seconds: float, candidate: Sequence[Counts], stable: Sequence[Mapping[str, Counts]]
) -> Evidence:
    """Evidence after the counts of one more tick.

    at_seconds: since the start, not decreasing. candidate: one count per hypothesis.
    stable: per hypothesis the counts of stable's side by the pod that counted them; both sides of the same seconds.
    """
    due = evidence.planned_seconds > at_seconds >= evidence.next_stake
    stake = (1 - OPENING) / (len(GRID) * max(1.0, evidence.planned_seconds / STAKE_SECONDS)) if due else 0.0
    clip = math.log(len(GRID) * len(evidence.hypotheses) / (OPENING * evidence.level)) / VOTES
    strands = tuple(
        _advance(strand, hypothesis, at_seconds, (mine.clean(), pods), (clip, stake))
        for strand, hypothesis, mine, pods in zip(evidence.strands, evidence.hypotheses, candidate, stable, strict=True)
    )
    after = replace(evidence, strands=strands, next_stake=evidence.next_stake + (STAKE_SECONDS if due else 0.0))
    return replace(after, failed=evidence.failed or after.ln_e > after.ln_limit)


def outcome(evidence: Evidence) -> Outcome:
    """Fail once E reached 1/level; Pass when every hypothesis was shown not to be worse; else Inconclusive."""
    if evidence.failed:
        return Outcome.FAIL
    return Outcome.PASS if all(s.passed for s in evidence.strands) else Outcome.INCONCLUSIVE


def _advance(
    strand: Strand,
    hypothesis: Hypothesis,
    at_seconds: float,
    counts: tuple[Counts, Mapping[str, Counts]],
    limits: tuple[float, float],
) -> Strand:
    (mine, pods), (clip, stake) = counts, limits
    theirs = {pod: c.clean() for pod, c in pods.items()}
    both = sum(theirs.values(), Counts())
    phi = strand.dispersion.value()
    worse = strand.worse
    if stake:
        entered = math.log(stake)
        worse = tuple(log_sum_exp((x, entered)) for x in worse)
    worse = _bet(worse, GRID, LN_GRID, clip, (hypothesis, mine, both, phi))
    pass_clip = math.log(len(PASS_GRID) / PASS_LEVEL) / VOTES
    fine = _bet(strand.fine, PASS_GRID, LN_PASS_GRID, pass_clip, (hypothesis, mine, both, phi))
    return Strand(
        worse,
        fine,
        passed=strand.passed or log_sum_exp(fine) > -math.log(PASS_LEVEL),
        dispersion=strand.dispersion.add(at_seconds, theirs),  # after use: phi never judges its own tick
        candidate=strand.candidate + mine,
        stable=strand.stable + both,
    )


def _bet(row: Row, tilts: Row, logs: Row, clip: float, seen: tuple[Hypothesis, Counts, Counts, float]) -> Row:
    hypothesis, mine, theirs, phi = seen
    exposure = mine.total * (1 + hypothesis.relative)
    share = exposure / (exposure + theirs.total) if exposure + theirs.total > 0 else 0.0
    virtual = theirs.total * hypothesis.absolute / (1 + hypothesis.relative)
    events = mine.bad + theirs.bad + virtual
    if events <= 0:
        return row
    return tuple(
        x + min((mine.bad * log - events * math.log1p(share * (t - 1))) / phi, clip)
        for x, t, log in zip(row, tilts, logs, strict=True)
    )


def to_state(evidence: Evidence) -> dict[str, Any]:
    """Small JSON for a CR's status: what `from_state` needs to go on after a restart."""
    return {
        "level": evidence.level,
        "planned": evidence.planned_seconds,
        "nextStake": evidence.next_stake,
        "failed": evidence.failed,
        "hypotheses": [
            {
                "absolute": h.absolute,
                "relative": h.relative,
                "lnE": round(log_sum_exp(s.worse), 6),
                "lnEPass": round(log_sum_exp(s.fine), 6),
                "passed": s.passed,
                "phi": round(s.dispersion.value(), 4),
                "candidate": [s.candidate.bad, s.candidate.total],
                "stable": [s.stable.bad, s.stable.total],
            }
            for h, s in zip(evidence.hypotheses, evidence.strands, strict=True)
        ],
    }


def from_state(state: Mapping[str, Any]) -> Evidence | None:
    """The evidence written by `to_state`, spread evenly over the tilts (a product of e-values is one), phi as floor.

    None when `state` is not readable: the caller starts anew, which loses evidence and invents none.
    """
    try:
        rows = state["hypotheses"]
        evidence = Evidence(
            hypotheses=tuple(Hypothesis(float(r["absolute"]), float(r["relative"])) for r in rows),
            level=float(state["level"]),
            planned_seconds=float(state["planned"]),
            strands=tuple(_resumed(r) for r in rows),
            next_stake=float(state["nextStake"]),
            failed=bool(state["failed"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return evidence if evidence.strands and 0 < evidence.level < 1 else None


def _resumed(row: Mapping[str, Any]) -> Strand:
    return Strand(
        worse=(float(row["lnE"]) - math.log(len(GRID)),) * len(GRID),
        fine=(float(row["lnEPass"]) - math.log(len(PASS_GRID)),) * len(PASS_GRID),
        passed=bool(row["passed"]),
        dispersion=Dispersion(floor=max(1.0, float(row["phi"]))),
        candidate=Counts(*(float(x) for x in row["candidate"])),
        stable=Counts(*(float(x) for x in row["stable"])),
    )
