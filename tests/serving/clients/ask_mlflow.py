"""What a user of MLflow's scoring client does: run by mlflow's own Python, answers as JSON on standard output."""

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

COLUMNS = ["distance", "hour", "origin"]


def error(call: Any) -> Any:
    try:
        call()
    except Exception as wrong:  # noqa: BLE001  the client raises no other
        return str(wrong)
    return None


def main() -> None:
    given = json.loads(sys.argv[1])
    rows = given["rows"]
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    indexed = frame.set_index(pd.Index([f"r{i}" for i in range(len(rows))]))[["origin", "distance", "hour"]]
    client = ScoringServerClient("127.0.0.1", given["rest"])
    client.wait_server_ready(timeout=30)
    answer = client.invoke(frame)
    numbers = ScoringServerClient("127.0.0.1", given["numbers"])
    matrix = np.array(given["matrix"], dtype=np.float32)
    found = {
        "version": client.get_version(),
        "frame": answer.get_predictions().to_numpy().tolist(),
        "array": answer.get_predictions("ndarray").tolist(),
        "ids": answer["prediction_ids"],
        "gaps": client.invoke(frame.assign(origin=[None, "EWR", "NaN"]))["predictions"],
        "indexed": client.invoke(indexed)["predictions"],
        "records": client.invoke(json.dumps({"dataframe_records": records}))["predictions"],
        "list": client.invoke(records)["predictions"],
        "matrix": numbers.invoke(matrix)["predictions"],
        "integers": numbers.invoke(pd.DataFrame(np.ones((2, 4), int), columns=["f0", "f1", "f2", "f3"]))["predictions"],
        "missing": error(lambda: client.invoke(frame[["distance"]])),
        "wrong": error(lambda: client.invoke(frame.assign(hour="ten"))),
        "params": error(lambda: client.invoke(frame, params={"a": 1})),
    }
    json.dump(found, sys.stdout)


main()
