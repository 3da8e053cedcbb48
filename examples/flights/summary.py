"""What came of it, computed from the cluster's objects and from what the client saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from examples.flights.replay import Seen
from examples.flights.state import State, Version
from examples.flights.story import LEAST_RETRAINED, Told, bad_version, good_since, retrained, since_revert
from examples.flights.year import NAMES
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

SUMMER: Final = range(5, 10)  # May to September
SAME: Final = 1e-4  # the served scores are float32


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to judge. rows: the client's answers with column `frozen`, the first model's score of the same row.

    writes: the operator's API writes during the demo, by verb. estimator: of the file that was applied at first.
    """

    state: State
    told: Told
    seen: Seen
    rows: pd.DataFrame
    writes: Mapping[str, float]
    seconds: float
    estimator: str


@dataclass(frozen=True, slots=True)
class Check:
    """A claim, whether it holds, and the numbers."""

    claim: str
    holds: bool
    numbers: str


@dataclass(frozen=True, slots=True)
class Monthly:
    """A month's AUC of what was answered, and of the first model on the same rows."""

    month: int
    rows: int
    live: float
    frozen: float


def auc(truth: NDArray[Any], scores: NDArray[Any]) -> float:
    """Area under the ROC curve; NaN when only one class is there."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else float("nan")


def by_month(rows: pd.DataFrame) -> list[Monthly]:
    """AUC by month. Columns month, late, score, frozen."""
    found = []
    for month, some in rows.groupby("month"):
        late = some["late"].to_numpy()
        live, frozen = auc(late, some["score"].to_numpy()), auc(late, some["frozen"].to_numpy())
        found.append(Monthly(int(str(month)), len(some), live, frozen))
    return found


def checks(facts: Facts) -> list[Check]:
    """The demo's claims."""
    return [_retrained(facts), *_rolled_back(facts), _failures(facts), _better(facts), _reverted(facts), _same(facts)]


def _retrained(facts: Facts) -> Check:
    names = [v.name for v in retrained(facts.state)]
    shown = ", ".join(names) or "none"
    return Check("drift was found, retrained and promoted, more than once", len(names) >= LEAST_RETRAINED, shown)


def _rolled_back(facts: Facts) -> tuple[Check, Check]:
    bad = bad_version(facts.state, facts.told)
    end = facts.state.end_of(bad.name) if bad else None
    went_back = end is not None and end.result == "RolledBack"
    numbers = f"{end.version}: {end.message}" if end else "the bad version was never rolled out"
    banned = facts.state.banned(bad.digest) if bad else None
    digest = f"{bad.digest[:19]} since {banned:%H:%M:%S}" if bad and banned else "it is not"
    return (
        Check("the canary rolled the bad version back from live labels", went_back, numbers),
        Check("its digest is in quarantine", banned is not None, digest),
    )


def _failures(facts: Facts) -> Check:
    seen = facts.seen
    told = f": {'; '.join(seen.failures)}" if seen.failures else ""
    refused = f", labels refused: {seen.refused}" if seen.refused else f", {seen.labels:,} labels counted"
    numbers = f"{seen.failed} of {seen.requests:,}{told}{refused}"
    return Check("no request failed, every label was counted", not seen.failed and not seen.refused, numbers)


def _better(facts: Facts) -> Check:
    summer = [m for m in by_month(facts.rows) if m.month in SUMMER]
    live, frozen = (float(np.mean([getattr(m, which) for m in summer] or [0.0])) for which in ("live", "frozen"))
    numbers = f"{live:.3f} against {frozen:.3f}, mean of {len(summer)} months"
    return Check(
        "May to September the loop beats the frozen model", len(summer) == len(SUMMER) and live > frozen, numbers
    )


def _reverted(facts: Facts) -> Check:
    since = since_revert(facts.state, facts.told)
    right = all(v.estimator == facts.estimator for v in since)
    numbers = ", ".join(f"{v.name} {v.estimator}" for v in since) or "no version was made"
    holds = right and bool(good_since(facts.state, facts.told))
    return Check("after the revert all runs use the original spec, and one was promoted", holds, numbers)


def _same(facts: Facts) -> Check:
    own = facts.rows[facts.rows["version"] == "v1"]
    worst = float((own["score"] - own["frozen"]).abs().max()) if len(own) else float("nan")
    claim = "the first model, pulled from the registry, gives the scores that it gave in the cluster"
    return Check(claim, worst < SAME, f"{len(own):,} rows, largest difference {worst:.1g}")


def time_to_rollback(facts: Facts) -> str:
    """From the bad version's first answer to its quarantine, as the client and the cluster saw it."""
    bad = bad_version(facts.state, facts.told)
    child = next((c for c in facts.seen.first if bad and c.split("-")[0] == f"v{bad.number}"), "")
    since = facts.state.banned(bad.digest) if bad else None
    if not child or since is None:
        return "there was none"
    first, last = facts.seen.first[child], facts.seen.last[child]
    share = (facts.rows["version"] == child).sum()
    seconds = (since - first).total_seconds()
    return f"{seconds:.0f} s; it answered {share:,} rows, the last one {(last - first).total_seconds():.0f} s after its first"


def report(facts: Facts, console: Console) -> list[Check]:
    """Print it all; returns the checks."""
    console.print()
    console.print(_months_table(facts))
    console.print(_versions_table(facts))
    recent = np.quantile(facts.rows["seconds"], [0.5, 0.99]) * 1000 if len(facts.rows) else (0.0, 0.0)
    lines = {
        "requests": f"{facts.seen.requests:,}, failed {facts.seen.failed}, p50 {recent[0]:.1f} ms, p99 {recent[1]:.1f} ms",
        "labels": f"{facts.seen.labels:,} counted, refused {sum(facts.seen.refused.values())}",
        "bad version": f"first request to quarantine {time_to_rollback(facts)}",
        "API writes": _writes(facts),
        "time": f"{facts.seconds / 60:.1f} min",
    }
    for name, text in lines.items():
        console.print(f"{name:>12}  {text}", highlight=False, soft_wrap=True)
    console.print()
    found = checks(facts)
    for check in found:
        mark = "[green]✓[/]" if check.holds else "[bold red]✗[/]"
        console.print(f"{mark} {check.claim}: ", end="", highlight=False, soft_wrap=True)
        console.print(check.numbers, markup=False, highlight=False, soft_wrap=True)
    return found


def _writes(facts: Facts) -> str:
    if not facts.writes:
        return "the operator's metrics were not readable"
    listed = ", ".join(f"{verb} {count:.0f}" for verb, count in sorted(facts.writes.items()))
    return f"{sum(facts.writes.values()):.0f} by the operator ({listed})"


def _months_table(facts: Facts) -> Table:
    table = Table(title="AUC by month, same rows", title_justify="left", box=None, padding=(0, 2), header_style="bold")
    for title in ("month", "rows", "live", "frozen", "gain", "answered by"):
        table.add_column(title, justify="left" if title in {"month", "answered by"} else "right")
    for m in by_month(facts.rows):
        who = facts.rows[facts.rows["month"] == m.month]["version"].value_counts(normalize=True)
        shown = ", ".join(f"{version} {100 * share:.0f} %" for version, share in who.items())
        gain = m.live - m.frozen
        table.add_row(
            NAMES[m.month - 1], f"{m.rows:,}", f"{m.live:.3f}", f"{m.frozen:.3f}",
            f"[{'green' if gain > 0 else 'dim'}]{gain:+.3f}[/]", shown,
        )  # fmt: skip
    return table


def _versions_table(facts: Facts) -> Table:
    table = Table(title="Versions", title_justify="left", box=None, padding=(0, 2), header_style="bold")
    for title in ("version", "trigger", "estimator", "parent", "data", "AUC", "role", "why"):
        table.add_column(title, no_wrap=title != "why", overflow="ellipsis")
    for v in facts.state.versions:
        table.add_row(*_cells(v), facts.state.role(v), v.reason.splitlines()[0][:70] if v.reason else "")
    return table


def _cells(v: Version) -> tuple[str, ...]:
    return v.name, v.trigger, v.estimator, v.parent, v.data[7:15], "" if v.auc is None else f"{v.auc:.3f}"
