"""The models that are served: really trained, with signature and baseline, made once and kept below .local/bench/models."""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from bench.serving.places import KEPT, ROOT
from deploy.local.progress import step
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR

from homeostat.api.wire.bundle import Baseline, Column, FeatureBaseline, PredictionBaseline, Signature
from homeostat.stats import profile

OPSET: Final = {"": 18, "ai.onnx.ml": 3}
STRINGS: Final = {
    "carrier": ("AA", "B6", "DL", "EV", "UA", "WN", "US", "MQ"),
    "origin": ("EWR", "JFK", "LGA"),
    "weather": ("clear", "rain", "snow", "fog", ""),
}
NUMBERS: Final = ("distance", "hour", "day", "temperature", "wind", "visibility")
MACHINES, SUPPORT = 40, 2_500  # of the slow ensemble: about 100,000 kernels a row, a millisecond or more


@dataclass(frozen=True)
class Rows:
    """numbers: (n, k) float32, strings: (n, m) of str, each in the order of the columns' names."""

    numbers: NDArray[np.float32]
    strings: NDArray[Any]


@dataclass(frozen=True)
class Model:
    """A bundle's folder and what its rows are called."""

    name: str
    folder: Path
    numbers: tuple[str, ...]
    strings: tuple[str, ...] = ()

    def rows(self, count: int, seed: int = 5) -> Rows:
        """Rows like those of the training; numbers have four decimals, so that JSON and binary carry the same."""
        return _rows(self.numbers, self.strings, count, seed)

    @cached_property
    def session(self) -> Any:
        """ONNX Runtime on one thread, in this process: the reference for answers and for time."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return ort.InferenceSession(self.folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def feeds(self, rows: Rows) -> dict[str, Any]:
        return {i.name: rows.strings if i.type == "tensor(string)" else rows.numbers for i in self.session.get_inputs()}

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        """What every server must answer, (n, k)."""
        found: NDArray[np.float32] = self.session.run(None, self.feeds(rows))[-1]
        return found.reshape(len(rows.numbers), -1)

    def seconds_per_row(self, batch: int = 32, tries: int = 60) -> float:
        """ONNX Runtime's own time of a row in batches of that size, median of the tries."""
        feeds, took = self.feeds(self.rows(batch)), []
        for _ in range(tries):
            begun = time.perf_counter()
            self.session.run(None, feeds)
            took.append(time.perf_counter() - begun)
        return float(np.median(took)) / batch


def logistic() -> Model:
    """20 numbers, two classes, logistic regression."""
    model = Model("logistic", KEPT / "models" / "logistic", tuple(f"f{i}" for i in range(20)))
    return _made(model, lambda x, y: (m := LogisticRegression().fit(x, y), m))


def boosting() -> Model:
    """Six numbers and three strings by name, gradient boosting of 100 trees."""
    return _mixed("boosting", HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0))


def network() -> Model:
    """The same columns, a neural network of 256 × 256."""
    return _mixed("network", MLPClassifier((256, 256), max_iter=15, random_state=0))


def megabyte() -> Model:
    """20 numbers, a neural network whose file has 1 MB."""
    model = Model("megabyte", KEPT / "models" / "megabyte", tuple(f"f{i}" for i in range(20)))
    return _made(model, lambda x, y: (m := MLPClassifier((490, 490), max_iter=3, random_state=0).fit(x, y), m))


def slow() -> Model:
    """20 numbers, 40 support vector machines: a millisecond or more of ONNX Runtime a row, whatever the batch."""
    model = Model("slow", KEPT / "models" / "slow", tuple(f"f{i}" for i in range(20)))

    def fit(x: Any, y: Any) -> tuple[Any, Any]:
        machines = [(f"m{i}", SVR(gamma=0.02 + 0.001 * i, epsilon=1e-4)) for i in range(MACHINES)]
        both = VotingRegressor(machines).fit(x[:SUPPORT], y[:SUPPORT] + 0.1 * x[:SUPPORT, 0])
        return both, None

    return _made(model, fit)


def _mixed(name: str, last: Any) -> Model:
    model = Model(name, KEPT / "models" / name, NUMBERS, tuple(STRINGS))
    numbers, strings = list(range(len(NUMBERS))), list(range(len(NUMBERS), len(NUMBERS) + len(STRINGS)))
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("n", StandardScaler(), numbers), ("s", encode, strings)], sparse_threshold=0)
    return _made(model, lambda x, y: (m := make_pipeline(columns, last).fit(x, y), m))


def _made(model: Model, fit: Callable[[Any, Any], tuple[Any, Any]]) -> Model:
    """Train and write the bundle unless this very code did so before."""
    wire = ROOT / "src/homeostat/api/wire/bundle.py"
    made_by = hashlib.sha256(Path(__file__).read_bytes() + wire.read_bytes()).hexdigest()
    stamp = model.folder / "made-by"
    if stamp.exists() and stamp.read_text() == made_by:
        return model
    with step(f"train the model {model.name} (the first time: up to a minute)"):
        _train(model, fit)
    stamp.write_text(made_by)
    return model


def _train(model: Model, fit: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    shutil.rmtree(model.folder, ignore_errors=True)
    model.folder.mkdir(parents=True)
    rows = model.rows(6_000, seed=1)
    noise = np.random.default_rng(2).normal(size=len(rows.numbers))
    truth = rows.numbers.sum(axis=1) / 2 + noise > 0
    if model.strings:
        truth ^= rows.strings[:, 1] == "EWR"
    table = np.concatenate([rows.numbers.astype(object), rows.strings], axis=1) if model.strings else rows.numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of training that ends before it converged
        fitted, classifier = fit(table, truth.astype(np.int64))
        inputs = [("numbers" if model.strings else "input", FloatTensorType([None, len(model.numbers)]))]
        if model.strings:
            inputs.append(("strings", StringTensorType([None, len(model.strings)])))
        options = {id(classifier): {"zipmap": False}} if classifier is not None else None
        graph = convert_sklearn(fitted, model.name, inputs, options=options, target_opset=OPSET)
    (model.folder / "model.onnx").write_bytes(graph.SerializeToString())
    _describe(model, [o.name for o in graph.graph.output], rows)


def _describe(model: Model, outputs: list[str], rows: Rows) -> None:
    """signature.json and baseline.json: with them the server counts every feature."""
    tensor = "numbers" if model.strings else "input"
    columns = [Column(name=n, type="number", tensor=tensor, index=i) for i, n in enumerate(model.numbers)]
    columns += [Column(name=n, type="string", tensor="strings", index=i) for i, n in enumerate(model.strings)]
    features = []
    for i, name in enumerate(model.numbers):
        edges = profile.equal_frequency_edges(rows.numbers[:, i])
        counts = tuple(profile.number_counts(rows.numbers[:, i], edges).tolist())
        features.append(FeatureBaseline(name=name, kind="number", edges=edges, counts=counts))
    for i, name in enumerate(model.strings):
        levels = profile.top_levels(rows.strings[:, i])
        counts = tuple(profile.level_counts(rows.strings[:, i], levels).tolist())
        features.append(FeatureBaseline(name=name, kind="category", levels=levels, counts=counts))
    if len(outputs) == 2:
        signature = Signature(
            task="binary",
            columns=tuple(columns),
            label_output=outputs[0],
            score_output=outputs[1],
            labels=("0", "1"),
        )
        prediction = PredictionBaseline(kind="probability", counts=(1,) * 20)
    else:
        signature = Signature(task="regression", columns=tuple(columns), score_output=outputs[0], label_type="number")
        prediction = PredictionBaseline(kind="number", edges=(0.0, 0.5), counts=(1, 1, 1))
    baseline = Baseline(edges_id="bench", rows=len(rows.numbers), features=tuple(features), prediction=prediction)
    (model.folder / "signature.json").write_text(signature.model_dump_json())
    (model.folder / "baseline.json").write_text(baseline.model_dump_json())


def _rows(numbers: tuple[str, ...], strings: tuple[str, ...], count: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, len(numbers))).round(4).astype(np.float32)
    texts = np.empty((count, len(strings)), dtype=object)
    for i, name in enumerate(strings):
        texts[:, i] = random.choice(STRINGS[name], size=count)
    return Rows(values, texts)
