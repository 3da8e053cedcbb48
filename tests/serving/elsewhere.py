"""ONNX files that were made elsewhere: no signature, any inputs and outputs."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier


def _write(
    folder: Path, nodes: list[onnx.NodeProto], inputs: list[object], outputs: list[object], *weights: object
) -> Path:
    graph = h.make_graph(nodes, "g", inputs, outputs, list(weights))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def two_inputs(folder: Path) -> Path:
    """`a` (n, 3) float and `b` (n, 1) whole numbers: sum (n, 3), and b doubled."""
    return _write(
        folder,
        [
            h.make_node("Cast", ["b"], ["bf"], to=T.FLOAT),
            h.make_node("Add", ["a", "bf"], ["sum"]),
            h.make_node("Add", ["b", "b"], ["twice"]),
        ],
        [h.make_tensor_value_info("a", T.FLOAT, ["n", 3]), h.make_tensor_value_info("b", T.INT64, ["n", 1])],
        [h.make_tensor_value_info("sum", T.FLOAT, ["n", 3]), h.make_tensor_value_info("twice", T.INT64, ["n", 1])],
    )


def image(folder: Path) -> Path:
    """(n, 3, 8, 8) float to ten logits."""
    random = np.random.default_rng(2)
    conv = h.make_tensor("w", T.FLOAT, [4, 3, 3, 3], random.normal(size=108).astype(np.float32))
    dense = h.make_tensor("d", T.FLOAT, [4, 10], random.normal(size=40).astype(np.float32))
    return _write(
        folder,
        [
            h.make_node("Conv", ["x", "w"], ["c"]),
            h.make_node("GlobalAveragePool", ["c"], ["p"]),
            h.make_node("Flatten", ["p"], ["f"]),
            h.make_node("MatMul", ["f", "d"], ["logits"]),
        ],
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 3, 8, 8])],
        [h.make_tensor_value_info("logits", T.FLOAT, ["n", 10])],
        conv,
        dense,
    )


def sequence(folder: Path) -> Path:
    """(n, length) whole numbers of any length to their sum and to themselves squared."""
    axes = h.make_tensor("axes", T.INT64, [1], [1])
    return _write(
        folder,
        [
            h.make_node("ReduceSum", ["tokens", "axes"], ["total"]),
            h.make_node("Mul", ["tokens", "tokens"], ["squares"]),
        ],
        [h.make_tensor_value_info("tokens", T.INT64, ["n", "length"])],
        [
            h.make_tensor_value_info("total", T.INT64, ["n", 1]),
            h.make_tensor_value_info("squares", T.INT64, ["n", "length"]),
        ],
        axes,
    )


def texts(folder: Path) -> Path:
    """(n, 1) texts to themselves."""
    return _write(
        folder,
        [h.make_node("Identity", ["text"], ["same"])],
        [h.make_tensor_value_info("text", T.STRING, ["n", 1])],
        [h.make_tensor_value_info("same", T.STRING, ["n", 1])],
    )


def fixed_batch(folder: Path) -> Path:
    """Exactly (2, 3): no rows of others may join."""
    return _write(
        folder,
        [h.make_node("Neg", ["x"], ["y"])],
        [h.make_tensor_value_info("x", T.FLOAT, [2, 3])],
        [h.make_tensor_value_info("y", T.FLOAT, [2, 3])],
    )


def batch_mean(folder: Path) -> Path:
    """(n, 3) minus the mean of the batch: an answer depends on who asks at the same time."""
    return _write(
        folder,
        [h.make_node("ReduceMean", ["x"], ["m"], keepdims=1), h.make_node("Sub", ["x", "m"], ["y"])],
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 3])],
        [h.make_tensor_value_info("y", T.FLOAT, ["n", 3])],
    )


def many_types(folder: Path) -> Path:
    """One input of each type, given back as it came."""
    types = {
        "FP64": T.DOUBLE,
        "FP16": T.FLOAT16,
        "INT8": T.INT8,
        "INT16": T.INT16,
        "INT32": T.INT32,
        "UINT8": T.UINT8,
        "UINT16": T.UINT16,
        "UINT32": T.UINT32,
        "UINT64": T.UINT64,
        "BOOL": T.BOOL,
    }
    return _write(
        folder,
        [h.make_node("Identity", [name], [f"{name}_out"]) for name in types],
        [h.make_tensor_value_info(name, kind, ["n", 2]) for name, kind in types.items()],
        [h.make_tensor_value_info(f"{name}_out", kind, ["n", 2]) for name, kind in types.items()],
    )


def zipmap(folder: Path) -> Path:
    """A classifier as skl2onnx writes it by default: labels, and a list of maps from class to probability."""
    random = np.random.default_rng(5)
    x = random.normal(size=(300, 4)).astype(np.float32)
    y = np.where(x[:, 0] > 0.5, "high", np.where(x[:, 0] < -0.5, "low", "middle"))
    model = GradientBoostingClassifier(n_estimators=5).fit(x, y)
    graph = convert_sklearn(model, "z", [("x", FloatTensorType([None, 4]))], target_opset={"": 18, "ai.onnx.ml": 3})
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return folder


def loop(folder: Path) -> Path:
    """(n, 1) whole numbers: counts from 0 up to the largest of them, one by one, so that a request says how long it takes."""
    body = h.make_graph(
        [
            h.make_node("Identity", ["going"], ["goes_on"]),
            h.make_node("Add", ["count", "one"], ["counted"]),
        ],
        "body",
        [
            h.make_tensor_value_info("i", T.INT64, []),
            h.make_tensor_value_info("going", T.BOOL, []),
            h.make_tensor_value_info("count", T.INT64, ["n", 1]),
        ],
        [h.make_tensor_value_info("goes_on", T.BOOL, []), h.make_tensor_value_info("counted", T.INT64, ["n", 1])],
        [h.make_tensor("one", T.INT64, [], [1])],
    )
    return _write(
        folder,
        [
            h.make_node("ReduceMax", ["turns"], ["most"], keepdims=0),
            h.make_node("Mul", ["turns", "zero"], ["start"]),
            h.make_node("Loop", ["most", "", "start"], ["count"], body=body),
        ],
        [h.make_tensor_value_info("turns", T.INT64, ["n", 1])],
        [h.make_tensor_value_info("count", T.INT64, ["n", 1])],
        h.make_tensor("zero", T.INT64, [], [0]),
    )


def keeps(folder: Path) -> Path:
    """(n, 2) float: only the rows whose first number is above 0, and how many they are."""
    zero = h.make_tensor("zero", T.FLOAT, [], [0.0])
    first, axis = h.make_tensor("first", T.INT64, [], [0]), h.make_tensor("axis", T.INT64, [1], [0])
    return _write(
        folder,
        [
            h.make_node("Gather", ["x", "first"], ["column"], axis=1),
            h.make_node("Greater", ["column", "zero"], ["wanted"]),
            h.make_node("Compress", ["x", "wanted"], ["kept"], axis=0),
            h.make_node("Shape", ["kept"], ["shape"]),
            h.make_node("Slice", ["shape", "axis", "one"], ["count"]),
        ],
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 2])],
        [h.make_tensor_value_info("kept", T.FLOAT, ["m", 2]), h.make_tensor_value_info("count", T.INT64, [1])],
        zero,
        first,
        axis,
        h.make_tensor("one", T.INT64, [1], [1]),
    )
