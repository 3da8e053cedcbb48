"""The rows by month, and the files that are pushed as they become known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from examples.flights.dataset import frame

MONTHS_KNOWN = 2  # the training sees the newest two months


def months_of() -> dict[int, pd.DataFrame]:
    """All rows by month, 1 to 12, in time order."""
    rows = frame()
    return {int(str(month)): some.reset_index(drop=True) for month, some in rows.groupby("month")}


def write_windows(months: dict[int, pd.DataFrame], folder: Path) -> dict[int, Path]:
    """A parquet file of two months by the second one; the same rows give the same bytes."""
    files = {}
    for month in range(MONTHS_KNOWN, 13):
        path = folder / f"{month:02d}" / "flights.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        newest = [months[m] for m in range(month - MONTHS_KNOWN + 1, month + 1)]
        pd.concat(newest, ignore_index=True).to_parquet(path, index=False)
        files[month] = path
    return files
