"""What a run costs over the same fit in a bare script: `python bench/training/overhead.py [repeats]`.

Both read the same parquet file of real flights from disk, hold out a fifth and fit the same pipeline, each in its own
process. The trainer's `fit` also converts, compares, evaluates and writes the baseline; `fetch` and `publish` talk to a
real registry on loopback. Writes bench/results/training.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples/flights")]

# found at run time: tests and examples are no packages of the installation
frame = import_module("dataset").frame
Registry = import_module("training.registry").Registry
runs = import_module("training.runs")

BARE = """
import sys, numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
rows = pd.read_parquet(sys.argv[1]).drop(columns="month")
y = rows.pop("late")
names = [n for n in rows if rows[n].dtype.kind not in "bif"]
rows[names] = rows[names].fillna("")
encode = OneHotEncoder(max_categories=50, handle_unknown="ignore", sparse_output=False, dtype=np.float32)
model = Pipeline([
    ("columns", ColumnTransformer([("strings", encode, names)], remainder="passthrough", sparse_threshold=0)),
    ("model", HistGradientBoostingClassifier(random_state=0, max_iter=int(sys.argv[2]), early_stopping=False)),
])
X, held, y, truth = train_test_split(rows, y, test_size=0.2, random_state=0, stratify=y)
model.fit(X, y)
print(roc_auc_score(truth, model.predict_proba(held)[:, 1]))
"""


def seconds(command: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(repeats: int, iterations: int = 300) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        registry = Registry(folder / "registry")
        registry.start()
        try:
            rows = frame()
            runs.push(registry, folder / "rows", "bench/flights:latest", rows)
            sklearn = {"estimator": "HistGradientBoostingClassifier", "exclude": ["month"]}
            parameters = {"max_iter": iterations, "early_stopping": False}
            body = runs.plan(registry, "bench/flights:latest", sklearn={**sklearn, "parameters": parameters})
            env = os.environ | {
                "HOMEOSTAT_RUN": json.dumps(body),
                "HOMEOSTAT_WORK": str(folder),
                "TERMINATION_LOG": str(folder / "log"),
            }
            taken: dict[str, list[float]] = {"bare": [], "fetch": [], "fit": [], "publish": []}
            for _ in range(repeats):
                bare = [sys.executable, "-c", BARE, str(folder / "rows/rows.parquet"), str(iterations)]
                taken["bare"].append(seconds(bare, env))
                for step in ("fetch", "fit", "publish"):
                    taken[step].append(seconds([sys.executable, "-m", "homeostat", "train", step], env))
        finally:
            registry.stop()
    median = {step: statistics.median(values) for step, values in taken.items()}
    bound = median["bare"] * 1.1 + 3
    whole = median["fetch"] + median["fit"] + median["publish"]
    results: list[dict[str, Any]] = [
        {"what": f"bare script, {len(rows)} rows, {iterations} trees", "value": round(median["bare"], 2), "unit": "s",
         "reach": None, "holds": None},
        *({"what": f"homeostat train {step}", "value": round(median[step], 2), "unit": "s", "reach": None, "holds": None}
          for step in ("fetch", "fit", "publish")),
        {"what": "whole run (fetch, fit, publish)", "value": round(whole, 2), "unit": "s", "reach": round(bound, 2),
         "holds": whole <= bound},
    ]  # fmt: skip
    out = ROOT / "bench/results/training.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    for one in results:
        reach = f"  reach {one['reach']} {'holds' if one['holds'] else 'MISSED'}" if one["reach"] else ""
        print(f"{one['what']:<48} {one['value']:>8} {one['unit']}{reach}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
