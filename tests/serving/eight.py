"""Eight real models of different kinds, each with what ONNX Runtime itself says about 1,000 rows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving import elsewhere, models

WIDTH = 12
ROWS = 1000
OPSET = {"": 18, "ai.onnx.ml": 3}
Feeds = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """One model. feeds: its inputs as the graph takes them; columns: the same as clients send them, when they are named."""

    folder: Path
    feeds: Feeds
    columns: dict[str, np.ndarray[Any, Any]] | None

    def expected(self, start: int, count: int) -> list[np.ndarray[Any, Any]]:
        """What ONNX Runtime gives for these rows in one call."""
        session = ort.InferenceSession(self.folder / "model.onnx", providers=["CPUExecutionProvider"])
        found: list[np.ndarray[Any, Any]] = session.run(
            None, {n: v[start : start + count] for n, v in self.feeds.items()}
        )
        return found

    def padded(self, count: int) -> list[np.ndarray[Any, Any]]:
        """The same for rows one by one, each as two."""
        session = ort.InferenceSession(self.folder / "model.onnx", providers=["CPUExecutionProvider"])
        runs = [session.run(None, {n: v[[i, i]] for n, v in self.feeds.items()}) for i in range(count)]
        return [np.concatenate([run[place][:1] for run in runs]) for place in range(len(runs[0]))]

    def alone(self, count: int) -> list[np.ndarray[Any, Any]]:
        """The same for rows one by one, without padding."""
        session = ort.InferenceSession(self.folder / "model.onnx", providers=["CPUExecutionProvider"])
        runs = [session.run(None, {n: v[i : i + 1] for n, v in self.feeds.items()}) for i in range(count)]
        return [np.concatenate([run[place] for run in runs]) for place in range(len(runs[0]))]


def _rows(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _sklearn(make: Callable[[], Any], classes: int) -> Callable[[Path], Case]:
    def made(folder: Path) -> Case:
        x = _rows(11, 600, WIDTH)
        target = x[:, 0] + x[:, 1] * x[:, 2]
        y = np.digitize(target, np.quantile(target, np.arange(1, classes) / classes)) if classes else target
        model = make().fit(x, y)
        options = {id(model): {"zipmap": False}} if classes else None
        graph = convert_sklearn(
            model, "t", [("x", FloatTensorType([None, WIDTH]))], options=options, target_opset=OPSET
        )
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
        return Case(folder, {"x": _rows(12, ROWS, WIDTH)}, None)

    return made


def _flights(folder: Path) -> Case:
    models.flights(folder)
    numbers = _rows(13, ROWS, 2)
    strings = np.random.default_rng(14).choice([*models.LEVELS, "", "XXX"], size=(ROWS, 1)).astype(object)
    numbers[::9, 1] = np.nan
    columns = {"distance": numbers[:, 0], "hour": numbers[:, 1], "origin": strings[:, 0]}
    return Case(folder, {"numbers": numbers, "strings": strings}, columns)


def _image(folder: Path) -> Case:
    return Case(elsewhere.image(folder), {"x": _rows(15, ROWS, 3, 8, 8)}, None)


EIGHT: dict[str, Callable[[Path], Case]] = {
    "logistic": _sklearn(LogisticRegression, 2),
    "linear": _sklearn(LinearRegression, 0),
    "gradient-boosting": _sklearn(lambda: GradientBoostingClassifier(n_estimators=40, random_state=1), 2),
    "histogram-boosting": _sklearn(lambda: HistGradientBoostingRegressor(max_iter=30, random_state=1), 0),
    "forest": _sklearn(lambda: RandomForestClassifier(30, random_state=1), 3),
    "mlp": _sklearn(lambda: make_pipeline(StandardScaler(), MLPClassifier((64, 64), max_iter=60, random_state=1)), 4),
    "mixed-columns": _flights,
    "image": _image,
}
