"""Results: rows of bench/results/serving.json, a table by scenario on the terminal, and the plot of the docs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.serving.servers import OWN

RATES: Final = ("requests/s", "rows/s")
Value = float | None


@dataclass(frozen=True)
class Row:
    """One figure. value None: it could not be measured. reach: the bound as text; holds: whether it is kept."""

    scenario: str
    what: str
    value: Value
    unit: str = ""
    reach: str | None = None
    holds: bool | None = None

    def json(self) -> dict[str, Any]:
        """As it is kept."""
        what = f"{self.scenario}: {self.what}"
        return {"what": what, "value": self.value, "unit": self.unit, "reach": self.reach, "holds": self.holds}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Row:
        """The reverse of `json`."""
        scenario, _, what = kept["what"].partition(": ")
        return cls(scenario, what, kept["value"], kept["unit"], kept["reach"], kept["holds"])


def row(scenario: str, what: str, value: Value, unit: str = "", *, sign: str = "", bound: float = 0.0) -> Row:
    """A row, rounded; sign `<=` or `>=` with the bound that is to be reached."""
    value = None if value is None else float(f"{value:.4g}")
    if not sign:
        return Row(scenario, what, value, unit)
    holds = value is not None and (value <= bound if sign == "<=" else value >= bound)
    return Row(scenario, what, value, unit, f"{sign} {bound:g}", holds)


def ratio(top: Value, bottom: Value) -> Value:
    """top / bottom where both are known."""
    return None if top is None or bottom is None or not bottom else top / bottom


def show(rows: Iterable[Row]) -> None:
    """The table on the terminal."""
    scenario = ""
    for one in rows:
        if one.scenario != scenario:
            scenario = one.scenario
            print(f"\n{scenario}")
        value = "—" if one.value is None else f"{one.value:,.0f}" if one.value >= 1000 else f"{one.value:g}"
        holds = {None: "", True: "holds", False: "does not hold"}[one.holds]
        print(f"  {one.what:<58} {value:>9} {one.unit:<10} {one.reach or '':<9} {holds}".rstrip())


def keep(rows: Iterable[Row], path: Path, *, add: bool) -> list[Row]:
    """Write the rows; add: those of scenarios that did not run this time stay. Returns all."""
    new = list(rows)
    ran = {r.scenario for r in new}
    old = [Row.of(r) for r in json.loads(path.read_text())] if add and path.exists() else []
    everything = [r for r in old if r.scenario not in ran] + new
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([r.json() for r in everything], indent=1, ensure_ascii=False) + "\n")
    return everything


def plot(rows: Iterable[Row], path: Path) -> None:
    """Bars of all rates, one panel a scenario, on one logarithmic axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "homeostat"  # the same rows give the same file
    from matplotlib import pyplot as plt

    panels: dict[str, list[Row]] = {}
    for one in rows:
        if one.unit in RATES and one.value:
            panels.setdefault(one.scenario, []).append(one)
    if not panels:
        return
    values = [bar.value or 1.0 for bars in panels.values() for bar in bars]
    heights = [len(p) + 1.2 for p in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(9, 0.32 * sum(heights) + 0.5),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for axis, (scenario, bars) in zip(axes[:, 0], panels.items(), strict=True):
        axis.set_xscale("log")
        axis.set_xlim(10 ** math.floor(math.log10(min(values))), 8 * max(values))
        _panel(axis, scenario, sorted(bars, key=lambda r: r.value or 0))
    axes[-1, 0].set_xlabel("per second, logarithmic; more is better")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    plt.close(figure)


def _panel(axis: Any, scenario: str, bars: list[Row]) -> None:
    colors = ["#0b6e99" if b.what.startswith(OWN) else "#d5d9dd" if "echo" in b.what else "#8b949e" for b in bars]
    drawn = axis.barh([b.what for b in bars], [b.value for b in bars], color=colors, height=0.72)
    axis.bar_label(drawn, [f"{b.value:,.0f}" for b in bars], padding=4, fontsize=8)
    axis.set_title(f"{scenario} ({bars[0].unit})", loc="left", fontsize=9)
    axis.tick_params(axis="y", length=0, labelsize=8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
