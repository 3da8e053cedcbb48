"""Small real models for the tests of the server: trained with scikit-learn, converted by skl2onnx."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from homeostat.api.wire.bundle import Baseline, Column, FeatureBaseline, PredictionBaseline, Signature
from homeostat.stats import profile

LEVELS = ("JFK", "LGA", "EWR")
OPSET = {"": 18, "ai.onnx.ml": 3}


def flights(folder: Path, edges_id: str = "e1") -> Path:
    """Two classes from numbers `distance`, `hour` and the string `origin`; missing values are welcome."""
    random = np.random.default_rng(7)
    numbers = random.normal(size=(400, 2)).astype(np.float32)
    numbers[::17, 1] = np.nan
    strings = random.choice([*LEVELS, ""], size=(400, 1)).astype(object)
    late = (np.nan_to_num(numbers[:, 0]) + (strings[:, 0] == "EWR") > 0.3).astype(np.int64)
    prepare = ColumnTransformer([("n", SimpleImputer(), [0, 1]), ("s", OneHotEncoder(handle_unknown="ignore"), [2])])
    model = make_pipeline(prepare, LogisticRegression())
    table = np.concatenate([numbers.astype(object), strings], axis=1)
    model.fit(table, late)
    inputs = [("numbers", FloatTensorType([None, 2])), ("strings", StringTensorType([None, 1]))]
    graph = convert_sklearn(model, "t", inputs, options={id(model): {"zipmap": False}}, target_opset=OPSET)
    outputs = [o.name for o in graph.graph.output]
    signature = Signature(
        task="binary",
        columns=(
            Column(name="distance", type="number", tensor="numbers", index=0),
            Column(name="origin", type="string", tensor="strings", index=0),
            Column(name="hour", type="number", tensor="numbers", index=1),
        ),
        label_output=outputs[0],
        score_output=outputs[1],
        labels=("false", "true"),
        label_type="boolean",
    )
    features = []
    for i, name in enumerate(("distance", "hour")):
        edges = profile.equal_frequency_edges(numbers[:, i])
        counts = tuple(profile.number_counts(numbers[:, i], edges).tolist())
        features.append(FeatureBaseline(name=name, kind="number", edges=edges, counts=counts))
    levels = profile.top_levels(strings[:, 0])
    counts = tuple(profile.level_counts(strings[:, 0], levels).tolist())
    features.insert(1, FeatureBaseline(name="origin", kind="category", levels=levels, counts=counts))
    prediction = PredictionBaseline(kind="probability", counts=(20,) * 20)
    baseline = Baseline(edges_id=edges_id, rows=400, features=tuple(features), prediction=prediction)
    return _write(folder, graph.SerializeToString(), signature, baseline)


def numbers_only(folder: Path, columns: int = 20, *, plain: bool = False) -> Path:
    """Logistic regression on `columns` numbers `f0`…; plain: the ONNX file alone, without a signature."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(500, columns)).astype(np.float32)
    model = LogisticRegression().fit(rows, (rows.sum(axis=1) > 0).astype(int))
    inputs = [("input", FloatTensorType([None, columns]))]
    graph = convert_sklearn(model, "t", inputs, options={id(model): {"zipmap": False}}, target_opset=OPSET)
    if plain:
        return _write(folder, graph.SerializeToString())
    names = [f"f{i}" for i in range(columns)]
    features = []
    for i, name in enumerate(names):
        edges = profile.equal_frequency_edges(rows[:, i])
        counts = tuple(profile.number_counts(rows[:, i], edges).tolist())
        features.append(FeatureBaseline(name=name, kind="number", edges=edges, counts=counts))
    signature = Signature(
        task="binary",
        columns=tuple(Column(name=n, type="number", tensor="input", index=i) for i, n in enumerate(names)),
        label_output=graph.graph.output[0].name,
        score_output=graph.graph.output[1].name,
        labels=("0", "1"),
    )
    prediction = PredictionBaseline(kind="probability", counts=(1,) * 20)
    baseline = Baseline(edges_id="n1", rows=500, features=tuple(features), prediction=prediction)
    return _write(folder, graph.SerializeToString(), signature, baseline)


def regression(folder: Path) -> Path:
    """One number in, twice that number out."""
    rows = np.arange(50, dtype=np.float32).reshape(-1, 1)
    model = LinearRegression().fit(rows, 2 * rows[:, 0])
    graph = convert_sklearn(model, "t", [("input", FloatTensorType([None, 1]))], target_opset=OPSET)
    signature = Signature(
        task="regression",
        columns=(Column(name="x", type="number", tensor="input", index=0),),
        score_output=graph.graph.output[0].name,
        label_type="number",
    )
    edges = profile.equal_frequency_edges(rows[:, 0])
    counts = tuple(profile.number_counts(rows[:, 0], edges).tolist())
    feature = FeatureBaseline(name="x", kind="number", edges=edges, counts=counts)
    prediction = PredictionBaseline(kind="number", edges=(10.0, 50.0), counts=(1, 1, 1))
    baseline = Baseline(edges_id="r1", rows=50, features=(feature,), prediction=prediction)
    return _write(folder, graph.SerializeToString(), signature, baseline)


def picky(folder: Path) -> Path:
    """Looks up one whole number `place` in a table of 64; the runtime fails on any other."""
    table = numpy_helper.from_array(np.arange(64, dtype=np.float32), "table")
    node = helper.make_node("Gather", ["table", "place"], ["value"])
    place = helper.make_tensor_value_info("place", TensorProto.INT64, [None, 1])
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([node], "t", [place], [value], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return _write(folder, model.SerializeToString())


def _write(folder: Path, model: bytes, signature: Signature | None = None, baseline: Baseline | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    if signature:
        (folder / "signature.json").write_text(signature.model_dump_json())
    if baseline:
        (folder / "baseline.json").write_text(json.dumps(baseline.model_dump(mode="json")))
    return folder
