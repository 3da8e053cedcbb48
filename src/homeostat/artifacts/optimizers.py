"""Three ways to make a model cheaper. The same file in gives the same bytes out.

`Int8Dynamic` quantises by row, not by batch as ONNX Runtime's `quantize_dynamic` does: there a row's answer changes with the rows
that share its batch (measured: by 0.03 to 0.3 of a probability), which a server that batches cannot have.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.optimization import Kind
from homeostat.errors import ArtifactError

LEAST_WEIGHTS: Final = 16384  # of a product: below, preparing the rows costs more than whole numbers save
_WEIGHT_STEPS: Final = 63  # 7 bits: on CPUs without VNNI two products of 8 bits overflow their sum
_ROW_STEPS: Final = 127
_ZERO: Final = 128  # of a row's uint8 cells
_TINY: Final = 1e-30


def optimize(kind: Kind, model: Path, to: Path) -> None:
    """Write the optimised model. Raises ArtifactError `NothingToOptimize`, `OptimizationFailed`."""
    import onnx

    try:
        made: Any = _WAYS[kind](onnx.load_model(str(model)), to)
        content = made.SerializeToString(deterministic=True)
    except ArtifactError:
        raise
    except Exception as error:  # exporters and libraries raise many kinds, also for what is too big for one file
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactError(
            "OptimizationFailed", f"{kind}: {model.name} cannot be converted: {words[0][:300]}"
        ) from error
    to.write_bytes(content)


def _graph(model: Any, to: Path) -> Any:
    """The runtime's own graph optimisations that hold on any CPU, and scores as a table instead of a list of maps."""
    import onnx
    import onnxruntime as ort

    _without_maps(model.graph)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(to)
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load_model(str(to))


def _without_maps(graph: Any) -> None:
    """Take out each ZipMap at the graph's end: its input gets the name, and the type, of its output."""
    import onnx

    outputs = {one.name: one for one in graph.output}
    for node in [n for n in graph.node if n.op_type == "ZipMap" and n.output[0] in outputs]:
        classes = next(len(a.ints) or len(a.strings) for a in node.attribute if a.name.startswith("classlabels"))
        port, name = outputs[node.output[0]], node.output[0]
        table = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, classes])
        port.CopyFrom(table)
        node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], [name]))


def _float16(model: Any, _: Path) -> Any:
    """Half-precision weights and products; inputs and outputs stay as they are."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(model, keep_io_types=True)
    if not any(one.data_type == onnx.TensorProto.FLOAT16 for one in made.graph.initializer):
        raise ArtifactError(
            "NothingToOptimize", "the model has no float32 weights outside of its trees and linear models"
        )
    _sort(made.graph)
    return made


def _sort(graph: Any) -> None:
    """Each node after those that it takes from, else in the order that is there: the converter appends its casts."""
    made = {name for node in graph.node for name in node.output}
    waiting, ordered = [type(node).FromString(node.SerializeToString()) for node in graph.node], []
    while waiting:
        later = []
        for node in waiting:
            if _taken(node) & made:
                later.append(node)
            else:
                ordered.append(node)
                made.difference_update(node.output)
        if len(later) == len(waiting):
            raise ValueError("its nodes form a circle")
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)


def _taken(node: Any) -> set[str]:
    """What a node takes, inside of its own graphs too."""
    inner = [graph for a in node.attribute for graph in (a.g, *a.graphs)]
    return {*node.input, *(name for graph in inner for one in graph.node for name in _taken(one))}


def _int8(model: Any, _: Path) -> Any:
    """Products with constant matrices in whole numbers: weights by column, what comes in by row."""
    opset = max(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"})
    weights = {one.name: one for one in model.graph.initializer}
    products = _Products(opset)
    for node in model.graph.node:
        matrix = _matrix(node, weights)
        if matrix is None:
            products.nodes.append(node)
        else:
            products.add(node, matrix)
    if not products.done:
        raise ArtifactError(
            "NothingToOptimize",
            f"the model has no product with a constant float32 matrix of {LEAST_WEIGHTS} weights or more",
        )
    del model.graph.node[:]
    model.graph.node.extend(products.nodes)
    model.graph.initializer.extend(products.constants)
    _forget_unused(model.graph)
    return model


_WAYS: Final[dict[Kind, Callable[[Any, Path], Any]]] = {"Graph": _graph, "Int8Dynamic": _int8, "Float16": _float16}


def _matrix(node: Any, weights: dict[str, Any]) -> NDArray[np.float32] | None:
    """The constant matrix (in, out) of a product that can be quantised; None for any other node."""
    import onnx

    if node.domain not in {"", "ai.onnx"} or node.op_type not in {"MatMul", "Gemm"}:
        return None
    found = weights.get(node.input[1])
    if found is None or found.data_type != onnx.TensorProto.FLOAT or len(found.dims) != 2:
        return None
    matrix: NDArray[np.float32] = onnx.numpy_helper.to_array(found)
    if matrix.size < LEAST_WEIGHTS or not np.isfinite(matrix).all():
        return None
    if node.op_type == "MatMul":
        return matrix
    said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    plain = said.get("alpha", 1.0) == 1.0 and said.get("beta", 1.0) == 1.0 and not said.get("transA", 0)
    return (matrix.T if said.get("transB", 0) else matrix) if plain else None


def _forget_unused(graph: Any) -> None:
    """Drop constants that no node takes any more, also not inside of a node's own graphs."""
    taken = {name for node in graph.node for name in _taken(node)} | {one.name for one in graph.output}
    kept = [one for one in graph.initializer if one.name in taken]
    gone = {one.name for one in graph.initializer} - {one.name for one in kept}
    inputs = [one for one in graph.input if one.name not in gone]
    for field, left in ((graph.initializer, kept), (graph.input, inputs)):
        copies = [type(one).FromString(one.SerializeToString()) for one in left]
        del field[:]
        field.extend(copies)


class _Products:
    """The nodes of the new graph, in order, and its new constants. opset: of ai.onnx."""

    def __init__(self, opset: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.done = 0
        self._opset = opset
        if opset < 10:
            raise ArtifactError(
                "NothingToOptimize", f"opset {opset} has no products of whole numbers: export with 13 or later"
            )

    def add(self, node: Any, matrix: NDArray[np.float32]) -> None:
        """Write x W (+ b) as q(x) q(W), times the scales of x's rows and W's columns (+ b)."""
        self._prefix = f"int8/{self.done}/"
        self.done += 1
        given, biased = node.input[0], node.op_type == "Gemm" and len(node.input) > 2 and bool(node.input[2])
        column = np.abs(matrix).max(axis=0)
        column[column == 0] = 1.0
        whole = np.rint(matrix * (_WEIGHT_STEPS / column)).astype(np.int8)
        largest = self._node("Max", [self._row_maximum(given), self._constant("tiny", np.array([_TINY], np.float32))])
        steps = self._constant("steps", np.array([_ROW_STEPS], np.float32))
        scaled = self._node("Mul", [given, self._node("Div", [steps, largest], "inverse")], "scaled")
        zero = self._constant("zero", np.array(_ZERO, np.uint8))
        cells = self._node("QuantizeLinear", [scaled, self._constant("one", np.array(1, np.float32)), zero])
        product = self._node("MatMulInteger", [cells, self._constant("weights", whole), zero])
        scales = self._constant("scales", (column / (_WEIGHT_STEPS * _ROW_STEPS)).astype(np.float32))
        by_column = self._node("Mul", [self._node("Cast", [product], to=1), scales], "by_column")
        end = self._prefix + "product" if biased else node.output[0]
        self._node("Mul", [by_column, largest], "by_row", end)
        if biased:
            self._node("Add", [end, node.input[2]], "biased", node.output[0])

    def _row_maximum(self, given: str) -> str:
        absolute = self._node("Abs", [given])
        if self._opset < 18:  # since then the axes are an input
            return self._node("ReduceMax", [absolute], axes=[-1], keepdims=1)
        return self._node("ReduceMax", [absolute, self._constant("axes", np.array([-1], np.int64))], keepdims=1)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        import onnx

        self.constants.append(onnx.numpy_helper.from_array(value, self._prefix + name))
        return self._prefix + name

    def _node(self, operator: str, inputs: list[str], name: str = "", output: str = "", **attributes: Any) -> str:
        import onnx

        name = self._prefix + (name or operator)
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name
