"""Where the benchmark finds and keeps things."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = ROOT / "bench" / "serving"
RIVALS: Final = HERE / "rivals"
KEPT: Final = ROOT / ".local" / "bench"  # environments of the rivals, models, logs
RESULTS: Final = ROOT / "bench" / "results" / "serving.json"
PLOT: Final = ROOT / "docs" / "img" / "serving.svg"
