"""Simulated rollouts through the real decision code: how often a good version goes back, how fast a bad one does.

    python bench/rollout/simulate.py [--seed 1] [--rollouts 60] [--tick 2] [--history 60] [--json bench/results/rollout.json]

Canary 5 → 25 → 50 %, 10 min each, four stable pods, errors at level 0.2 %. Prints a table; nothing is asserted.
--history: minutes of stable's dispersion that are known before; 0 is what the operator knows today.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from homeostat.domain.verdict import Metric, Sides, Tick, begin, judge, observe
from homeostat.stats.dispersion import Dispersion
from homeostat.stats.evidence import Counts, Hypothesis, Outcome

STEP_SECONDS, SHARES, PODS = 600.0, (0.05, 0.25, 0.50), 4
START = datetime(2026, 1, 1, tzinfo=UTC)
ERRORS = Metric("ErrorRate", Hypothesis(0.005, 0.10), required=True)
LEVEL = 0.002


@dataclass(frozen=True, slots=True)
class Scene:
    """Traffic of one kind. rate, candidate: error rates at a second; load: requests a second at a second.

    group: errors come in groups of this mean size. share: fixed share, None for the three steps. since: when the fault starts.
    burst: share of errors of a pod's burst, 30 s long, every 20 min per pod.
    """

    name: str
    rate: Callable[[float], float]
    candidate: Callable[[float], float]
    load: Callable[[float], float] = lambda _: 200.0
    group: float = 1.0
    share: float | None = None
    burst: float = 0.0
    good: bool = True
    since: float = 0.0  # when the fault starts
    reach: float = 1.0  # good: most percent rolled back; bad: most seconds for 95 %


def always(x: float) -> Callable[[float], float]:
    """The same at any second."""
    return lambda _: x


def season(x: float) -> Callable[[float], float]:
    """x 0.5 … 2 over half an hour."""
    return lambda t: x * 2 ** math.sin(2 * math.pi * t / 1800)


def incident(t: float) -> float:
    """60 % errors for a minute, on both sides."""
    return 0.6 if 700 <= t < 760 else 0.01


SCENES = (
    Scene("good: iid", always(0.01), always(0.01)),
    Scene("good: season", season(0.01), season(0.01), load=season(180.0)),
    Scene("good: common incident", incident, incident),
    Scene("good: errors in groups of 8", always(0.01), always(0.01), group=8),
    Scene("good: pods burst 20 %, 30 s", always(0.01), always(0.01), burst=0.2, reach=2.0),
    Scene("good: at the tolerance", always(0.01), always(0.016)),
    Scene("good: 2 requests a second", always(0.01), always(0.01), load=always(2.0)),
    Scene("bad: all fail, 5 % of 200", always(0.01), always(1.0), share=0.05, good=False, reach=4),
    Scene("bad: all fail, 5 % of 20", always(0.01), always(1.0), load=always(20.0), share=0.05, good=False, reach=14),
    Scene("bad: all fail, 5 % of 2", always(0.01), always(1.0), load=always(2.0), share=0.05, good=False, reach=220),
    Scene("bad: +2 points on 0.1 %, 25 %", always(0.001), always(0.021), share=0.25, good=False, reach=60),
    Scene("bad: +2 points on 1 %, 25 %", always(0.01), always(0.03), share=0.25, good=False, reach=140),
    Scene(
        "bad: +2 points on 1 %, from minute 22",
        always(0.01),
        lambda t: 0.03 if t >= 1320 else 0.01,
        good=False,
        since=1320,
        reach=300,
    ),
)


def events(rng: np.random.Generator, n: float, rate: float, group: float) -> float:
    """Failed requests out of n."""
    if group <= 1:
        return float(rng.binomial(int(n), min(rate, 1.0)))
    groups = rng.poisson(n * rate / group)
    return float(min(n, rng.geometric(1 / group, size=groups).sum()))


def known(scene: Scene, rng: np.random.Generator, tick_seconds: float, minutes: float) -> Dispersion:
    """Dispersion of stable's pods in the minutes before the rollout."""
    found, ends, t = Dispersion(), np.full(PODS, -1.0), 0.0
    while t < 60 * minutes:
        t += tick_seconds
        total = rng.poisson(scene.load(t) * tick_seconds / PODS, size=PODS)
        ends = np.where((rng.random(PODS) < tick_seconds / 1200) & (scene.burst > 0), t + 30, ends)
        rates = [scene.rate(t) + (scene.burst if ends[i] > t else 0.0) for i in range(PODS)]
        pods = {
            f"p{i}": Counts(events(rng, float(total[i]), rates[i], scene.group), float(total[i])) for i in range(PODS)
        }
        found = found.add(t, pods)
    blocks = tuple(replace(b, opened=None, open={}, waiting=None) for b in found.blocks)
    return Dispersion(whole={}, blocks=(blocks[0], blocks[1]))


def rollout(scene: Scene, rng: np.random.Generator, tick_seconds: float, minutes: float) -> tuple[Outcome, float]:
    """How one rollout ends, and at which second."""
    span = STEP_SECONDS * len(SHARES)
    analysis = begin((ERRORS,), LEVEL, 2 * span, START)
    if minutes:
        (evidence,) = analysis.evidence
        strand = replace(evidence.strands[0], dispersion=known(scene, rng, tick_seconds, minutes))
        analysis = replace(analysis, evidence=(replace(evidence, strands=(strand,)),))
    bursts = rng.poisson(tick_seconds / 1200, size=(int(span / tick_seconds) + 1, PODS + 1)).astype(bool)
    ends, t = np.full(PODS + 1, -1.0), 0.0
    result = Outcome.INCONCLUSIVE
    while t < span:
        t += tick_seconds
        share = scene.share if scene.share is not None else SHARES[min(int(t / STEP_SECONDS), len(SHARES) - 1)]
        n = rng.poisson(scene.load(t) * tick_seconds)
        mine = int(rng.binomial(n, share))
        theirs = rng.multinomial(n - mine, [1 / PODS] * PODS)
        ends = np.where(bursts[int(t / tick_seconds) - 1] & (scene.burst > 0), t + 30, ends)
        rates = [scene.rate(t) + (scene.burst if ends[i] > t else 0.0) for i in range(PODS)]
        bad = scene.candidate(t) + (scene.burst if ends[PODS] > t else 0.0)
        stable = {
            f"p{i}": Counts(events(rng, float(theirs[i]), rates[i], scene.group), float(theirs[i])) for i in range(PODS)
        }
        sides = Sides(Counts(events(rng, mine, bad, scene.group), mine), stable)
        now = START + timedelta(seconds=t)
        analysis = observe(analysis, Tick(now, {"ErrorRate": sides}, 1, 1, PODS, PODS))
        result = judge(analysis, now).outcome
        if result is Outcome.FAIL:
            return result, t
    return result, t


Row = dict[str, str | float | None]


def measure(scene: Scene, ends: list[tuple[Outcome, float]]) -> tuple[float, float, Row]:
    """Share rolled back, median seconds, and the result as the benchmarks write it."""
    failed = [at - scene.since if end is Outcome.FAIL else math.inf for end, at in ends]
    found = sum(map(math.isfinite, failed)) / len(failed)
    median, late = np.quantile(failed, [0.5, 0.95], method="higher")
    value, unit = (100 * found, "% rolled back") if scene.good else (float(late), "s for 95 %")
    shown = value if math.isfinite(value) else None
    row: Row = {"what": scene.name, "value": shown, "unit": unit, "reach": scene.reach, "holds": value <= scene.reach}
    return found, float(median), row


def main() -> None:
    """Print one line per scene."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rollouts", type=int, default=20)
    options.add_argument(
        "--tick", type=float, default=2.0, help="seconds between scrapes of the good ones; bad ones: 1"
    )
    options.add_argument("--history", type=float, default=0.0)
    options.add_argument("--only", default="", help="scenes whose name contains this")
    options.add_argument("--json", type=Path, help="write the results there")
    args = options.parse_args()
    rows = []
    print(f"{'scene':40} {'rolled back':>12} {'passed':>8} {'median s':>9} {'result':>22} {'reach':>6} {'wall s':>7}")
    for number, scene in enumerate(SCENES):
        if args.only not in scene.name:
            continue
        began = time.perf_counter()
        rng = np.random.default_rng((args.seed, number))
        tick_seconds = args.tick if scene.good else 1.0
        ends = [rollout(scene, rng, tick_seconds, args.history) for _ in range(args.rollouts)]
        found, median, row = measure(scene, ends)
        rows.append(row)
        passed = sum(end is Outcome.PASS for end, _ in ends) / len(ends)
        result = "not found" if row["value"] is None else f"{row['value']:.1f} {row['unit']}"
        tail = f"{result:>22} {scene.reach:6.0f} {time.perf_counter() - began:7.1f}"
        print(f"{scene.name:40} {100 * found:10.1f} % {100 * passed:6.0f} % {median:9.0f} {tail}", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
