"""Runs of the trainer as the Job makes them: three processes, one after the other, on one workspace."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from homeostat.api.wire.bundle import DATA_ARTIFACT_TYPE
from homeostat.api.wire.run import RunSummary
from homeostat.artifacts.oci import Client
from homeostat.trainer import cli
from training.registry import Registry


@dataclass(frozen=True)
class Run:
    """How a run ended: exit code and step of the last process, and its termination message."""

    step: str
    code: int
    summary: RunSummary
    message: bytes
    work: Path
    err: str


def train(work: Path, plan: dict[str, Any], steps: tuple[str, ...] = ("fetch", "fit", "publish")) -> Run:
    work.mkdir(parents=True, exist_ok=True)
    log = work / "termination-log"
    env = os.environ | {"HOMEOSTAT_RUN": json.dumps(plan), "HOMEOSTAT_WORK": str(work), "TERMINATION_LOG": str(log)}
    for step in steps:
        log.write_bytes(b"")
        done = subprocess.run(
            [sys.executable, "-m", "homeostat", "train", step], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            break
    return _ended(step, done.returncode, log, work, done.stderr)


def train_here(work: Path, plan: dict[str, Any], steps: tuple[str, ...] = ("fetch", "fit", "publish")) -> Run:
    """The same steps in this process: no imports again for each, so that many cases stay quick."""
    work.mkdir(parents=True, exist_ok=True)
    log = work / "termination-log"
    env = {"HOMEOSTAT_RUN": json.dumps(plan), "HOMEOSTAT_WORK": str(work), "TERMINATION_LOG": str(log)}
    err = io.StringIO()
    with mock.patch.dict(os.environ, env), contextlib.redirect_stderr(err):
        for step in steps:
            log.write_bytes(b"")
            code = cli.run([step])
            if code:
                break
    return _ended(step, code, log, work, err.getvalue())


def _ended(step: str, code: int, log: Path, work: Path, err: str) -> Run:
    message = log.read_bytes()
    summary = (
        RunSummary.model_validate_json(message) if message else RunSummary(outcome="Failed", reason="(no message)")
    )
    return Run(step, code, summary, message, work, err)


def plan(registry: Registry, data: str, **changes: Any) -> dict[str, Any]:
    """A plan for a classifier on `data`; keywords replace top-level fields, `sklearn` is merged."""
    sklearn = {"estimator": "LogisticRegression", "target": "late", **changes.pop("sklearn", {})}
    return {
        "training": "flights", "number": 1, "sklearn": sklearn, "data": {"train": registry.uri(data)},
        "repository": registry.uri("ns/flights"), **changes,
    }  # fmt: skip


def push(registry: Registry, folder: Path, name: str, frame: pd.DataFrame, file: str = "rows.parquet") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    frame.to_parquet(path) if file.endswith(".parquet") else frame.to_csv(path, index=False)
    return Client().push({file: path}, registry.uri(name), DATA_ARTIFACT_TYPE)


def mixed(rows: int = 1500, seed: int = 0) -> pd.DataFrame:
    """Numbers, booleans, strings, missing of each; `late` depends on some."""
    random = np.random.default_rng(seed)
    delay = random.normal(size=rows)
    out = pd.DataFrame({
        "distance": random.lognormal(6, 1, rows),
        "hour": random.integers(0, 24, rows),
        "weekend": random.random(rows) < 0.3,
        "temp": np.where(random.random(rows) < 0.1, np.nan, random.normal(60, 20, rows)),
        "carrier": random.choice(["UA", "AA", "DL", None], rows, p=[0.4, 0.3, 0.2, 0.1]),
        "tail": [f"N{n}" for n in random.integers(0, 200, rows)],
    })  # fmt: skip
    out["late"] = (delay + out["hour"] / 8 + (out["carrier"] == "UA") > 2.2).astype(int)
    out["minutes"] = 10 * (delay + out["hour"] / 8)
    return out
