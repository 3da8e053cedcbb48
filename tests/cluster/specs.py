"""A small world to learn, and specs whose rollouts take seconds."""

from __future__ import annotations

import random
from typing import Any

CANARY = {"canary": {"steps": [{"weight": 30, "duration": "4s"}]}}
METRICS = [  # wide tolerances: good versions pass after hundreds of requests instead of thousands
    {"type": "ErrorRate", "tolerance": {"absolute": 0.05}},
    {"type": "Quality", "tolerance": {"absolute": 0.05}},
]


def rows(count: int) -> list[tuple[dict[str, float], int]]:
    """`late` follows from `a` and `b`, but for one row in ten."""
    source = random.Random(1)
    made = [
        ({"a": float(source.randrange(10)), "b": float(source.randrange(10))}, source.random() < 0.1)
        for _ in range(count)
    ]
    return [(row, int((row["a"] + row["b"] > 9) != flipped)) for row, flipped in made]


def training(*, estimator: str = "LogisticRegression", seed: int = 0, **parameters: Any) -> dict[str, Any]:
    sklearn = {"estimator": estimator, "target": "late", "parameters": parameters}
    return {"trainer": {"sklearn": sklearn}, "data": {"train": {"uri": "rows:latest"}}, "seed": seed}


def serving(name: str, **more: Any) -> dict[str, Any]:
    model = {"trainingRef": {"name": name}}
    analysis = {"metrics": METRICS}
    return {"model": model, "strategy": CANARY, "analysis": analysis, "bake": {"duration": "5s"}, "replicas": 1, **more}
