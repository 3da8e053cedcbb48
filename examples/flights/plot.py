"""The year as a picture: AUC by month, live against frozen, and which version answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from examples.flights.summary import Monthly
from examples.flights.year import NAMES

INK: Final = "#1f2933"
QUIET: Final = "#7b8794"
LIVE: Final = "#0b69a3"
BAD: Final = "#c81e1e"
SHADES: Final = ("#cbd2d9", "#7bc4c4", "#4a90c2", "#8e7cc3", "#e0a458", "#6aa84f", "#c27ba0", "#a2845e", "#5b8c85")


def draw(rows: pd.DataFrame, months: Sequence[Monthly], bad: str, file: Path) -> None:
    """Write the PNG. rows: columns month, version. bad: the version that was rolled back, "" for none."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.edgecolor": QUIET, "text.color": INK, "axes.labelcolor": INK})
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9.5, 6.2), height_ratios=(3, 1.25), sharex=True, constrained_layout=True
    )
    _curves(top, months)
    _shares(bottom, rows, [m.month for m in months], bad)
    figure.suptitle("Flights from New York, 2013: will it arrive late?", x=0.01, ha="left", fontsize=13, weight="bold")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _curves(axes: Any, months: Sequence[Monthly]) -> None:
    places = [m.month for m in months]
    live, frozen = [m.live for m in months], [m.frozen for m in months]
    better = [a >= b for a, b in zip(live, frozen, strict=True)]
    axes.fill_between(places, live, frozen, where=better, interpolate=True, color=LIVE, alpha=0.12, linewidth=0)
    axes.plot(places, live, color=LIVE, linewidth=2.5, marker="o", markersize=5, label="kept by Homeostat")
    axes.plot(
        places, frozen, color=QUIET, linewidth=2, linestyle=(0, (4, 2)), marker="o", markersize=4,
        label="first model, frozen", zorder=1.5,
    )  # fmt: skip
    axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), frameon=False, labelcolor="linecolor")
    axes.set_ylabel("AUC by month, same rows")
    axes.margins(x=0.02, y=0.14)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    _plain(axes)


def _shares(axes: Any, rows: pd.DataFrame, places: Sequence[int], bad: str) -> None:
    shares = pd.crosstab(rows["month"], rows["version"], normalize="index")
    order = sorted(shares.columns, key=lambda name: int("".join(c for c in name.split("-")[0] if c.isdigit()) or 0))
    base = pd.Series(0.0, index=shares.index)
    for place, version in enumerate(order):
        colour = BAD if version == bad else SHADES[place % len(SHADES)]
        label = f"{version}, rolled back" if version == bad else version
        axes.bar(shares.index, shares[version], bottom=base, width=0.86, color=colour, label=label, linewidth=0)
        base += shares[version]
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_ylabel("rows answered by")
    axes.set_xticks(list(places), [NAMES[p - 1] for p in places])
    axes.legend(
        ncols=len(order), loc="upper left", bbox_to_anchor=(0, -0.16), frameon=False, fontsize=9, handlelength=1
    )
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, labelcolor=INK, length=0)
