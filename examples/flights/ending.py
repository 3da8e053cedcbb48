"""The end: the first model is scored here on the same rows, the summary is printed, the plot drawn; or what is stuck."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from examples.flights import plot
from examples.flights.cluster import NAMESPACE, Cluster, Trouble, pods_in_trouble
from examples.flights.operator_writes import Writes
from examples.flights.state import State
from examples.flights.story import Told, bad_version
from examples.flights.summary import Check, Facts, by_month, report
from examples.flights.view import Scene
from numpy.typing import NDArray
from rich.console import Console

ROOT: Final = Path(__file__).resolve().parents[2]
WORK: Final = ROOT / ".local/demo"
LOOK_AT: Final = f"""
The cluster is up. Look at
  export KUBECONFIG=.local/kubeconfig; alias kubectl=.local/bin/kubectl
  kubectl -n {NAMESPACE} get mt,mv,md,dm
  kubectl -n {NAMESPACE} describe md flights       # why the bad version went back
  kubectl -n {NAMESPACE} get mv -o wide            # what asked for each version
  kubectl -n {NAMESPACE} get events --sort-by .lastTimestamp
Take it down with: make down
"""


async def end(cluster: Cluster, scene: Scene, told: Told, months: Mapping[int, pd.DataFrame], writes: Writes) -> int:
    """Summary, plot and last words. Returns 0 when every claim holds, else 1. Raises Trouble."""
    rows = scene.seen.frame()
    first = next((v for v in scene.state.versions if v.number == 1), None)
    if first is None:
        raise Trouble("version 1 is gone from the cluster", "run the demo again")
    await cluster.pull(first.uri, WORK / "first")
    rows["frozen"] = frozen_scores(WORK / "first", rows, months)
    facts = Facts(scene.state, told, scene.seen, rows, await writes.since(), scene.elapsed, first.estimator)
    console = Console(width=None if Console().is_terminal else 140)
    found = report(facts, console)
    bad = bad_version(scene.state, told)
    plot.draw(rows, by_month(rows), f"v{bad.number}" if bad else "", WORK / "auc.png")
    _keep(facts, found, WORK / "summary.json")
    print(f"\nplot: {(WORK / 'auc.png').relative_to(ROOT)}")
    print(LOOK_AT, end="")
    return 0 if all(check.holds for check in found) else 1


def frozen_scores(bundle: Path, rows: pd.DataFrame, months: Mapping[int, pd.DataFrame]) -> NDArray[np.float64]:
    """P(late) that the model in `bundle` gives the replayed rows, in their order."""
    from homeostat.api.wire.bundle import MODEL_FILE, SIGNATURE_FILE, Signature
    from homeostat.trainer.export import score, session

    signature = Signature.model_validate_json((bundle / SIGNATURE_FILE).read_text())
    running = session(bundle / MODEL_FILE)
    scores = np.empty(len(rows))
    for month, places in rows.groupby("month").indices.items():
        sent = months[int(str(month))].iloc[rows["row"].to_numpy()[places]].reset_index(drop=True)
        scores[places] = score(running, signature, sent).scores[:, -1]
    return scores


def _keep(facts: Facts, found: list[Check], file: Path) -> None:
    """The numbers for those who want to compute with them."""
    content: dict[str, Any] = {
        "requests": facts.seen.requests,
        "failed": facts.seen.failed,
        "seconds": round(facts.seconds, 1),
        "months": [asdict(m) for m in by_month(facts.rows)],
        "checks": [asdict(check) for check in found],
        "writes": dict(facts.writes),
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


async def stuck(what: str, seconds: float, state: State) -> Trouble:
    """What the cluster says when a phase takes too long."""
    lines = [f"not within {seconds:.0f} s: {what}. The cluster says:"]
    lines += [
        f"  {name} {kind}={status} {reason}: {message[:300]}"
        for name, kind, status, reason, message in state.conditions
    ]
    lines += [f"  {line}" for line in await pods_in_trouble()]
    fix = (
        f"look at: .local/bin/kubectl --kubeconfig .local/kubeconfig -n {NAMESPACE} get events; then run the demo again"
    )
    return Trouble("\n".join(lines), fix)
