"""Networks with known weights for the tests of optimisation: two hidden layers, two classes."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from homeostat.api.wire.bundle import Baseline, Column, FeatureBaseline, PredictionBaseline, Signature
from homeostat.stats import profile

INPUTS = 20


def network(folder: Path, width: int, *, outlier: float = 1.0, gemm: bool = False) -> Path:
    """A bundle. outlier: how much bigger the first hidden unit is; what it feeds takes as much less, so the answers are the same."""
    random = np.random.default_rng(3)
    rows = random.normal(size=(500, INPUTS)).astype(np.float32)
    signature = Signature(
        task="binary",
        columns=tuple(Column(name=f"f{i}", type="number", tensor="x", index=i) for i in range(INPUTS)),
        label_output="label",
        score_output="probabilities",
        labels=("0", "1"),
    )
    features = []
    for i in range(INPUTS):
        edges = profile.equal_frequency_edges(rows[:, i])
        counts = tuple(profile.number_counts(rows[:, i], edges).tolist())
        features.append(FeatureBaseline(name=f"f{i}", kind="number", edges=edges, counts=counts))
    prediction = PredictionBaseline(kind="probability", counts=(1,) * 20)
    baseline = Baseline(edges_id="n1", rows=500, features=tuple(features), prediction=prediction)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_graph(random, width, outlier, gemm=gemm).SerializeToString())
    (folder / "signature.json").write_text(signature.model_dump_json())
    (folder / "baseline.json").write_text(json.dumps(baseline.model_dump(mode="json")))
    return folder


def _graph(random: np.random.Generator, width: int, outlier: float, *, gemm: bool) -> ModelProto:
    sizes, constants, nodes, last = [INPUTS, width, width, 2], [], [], "x"
    for i, (a, b) in enumerate(pairwise(sizes)):
        weights = random.normal(size=(a, b)) * (2 / a) ** 0.5
        bias = random.normal(size=b) / 10
        if i == 0:
            weights[:, 0] *= outlier
            bias[0] *= outlier
        if i == 1:
            weights[0] /= outlier
        matrix = weights.T.copy() if gemm else weights
        constants.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{i}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"b{i}"))
        if gemm:
            nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"a{i}"], transB=1))
        else:
            nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]))
            nodes.append(helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]))
        last = f"a{i}"
        if i < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"r{i}"]))
            last = f"r{i}"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=-1))
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, INPUTS])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [None])
    scores = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "t", [x], [label, scores], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
