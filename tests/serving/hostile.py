"""ONNX files that want to hurt who loads them. Each function writes one into `folder` and returns the folder."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

INPUT = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])
OUTPUT = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])


def written(folder: Path, nodes: list[Any], initializers: list[Any] | None = None, **more: Any) -> Path:
    opsets = [helper.make_opsetid(domain, version) for domain, version in more.pop("opsets", {"": 18}).items()]
    graph = helper.make_graph(nodes, "g", [INPUT], [OUTPUT], initializers or [])
    return saved(folder, helper.make_model(graph, opset_imports=opsets, ir_version=9, **more).SerializeToString())


def saved(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    return folder


def honest(folder: Path, location: str = "") -> Path:
    """x times a matrix; location: where the matrix's bytes lie, empty: in the file."""
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    if location:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "64")):
            weights.external_data.add(key=key, value=value)
    return written(folder, [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], [weights])


def weights_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.eye(4, dtype=np.float32).tobytes())
    return path


def parent_folder(folder: Path) -> Path:
    weights_file(folder.parent / "secret.bin")
    return honest(folder, "../secret.bin")


def down_and_up(folder: Path) -> Path:
    weights_file(folder.parent / "secret.bin")
    (folder / "sub").mkdir(parents=True)
    return honest(folder, "sub/../../secret.bin")


def absolute(folder: Path) -> Path:
    return honest(folder, "/etc/passwd")


def symbolic_link(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.bin").symlink_to(weights_file(folder.parent / "secret.bin"))
    return honest(folder, "weights.bin")


def linked_folder(folder: Path) -> Path:
    weights_file(folder.parent / "elsewhere" / "weights.bin")
    folder.mkdir(parents=True)
    (folder / "sub").symlink_to(folder.parent / "elsewhere")
    return honest(folder, "sub/weights.bin")


def hard_link(folder: Path) -> Path:
    folder.mkdir(parents=True)
    os.link(weights_file(folder.parent / "secret.bin"), folder / "weights.bin")
    return honest(folder, "weights.bin")


def hidden_in_an_attribute(folder: Path) -> Path:
    """External weights not of an initializer, but of a Constant inside a branch."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["c"], value=weights)
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])])
    condition = numpy_helper.from_array(np.array(True), "t")
    node = helper.make_node("If", ["t"], ["z"], then_branch=branch, else_branch=branch)
    return written(folder, [node, helper.make_node("Add", ["x", "z"], ["y"])], [condition])


def zeros(folder: Path, megabytes: int) -> Path:
    """A hundred bytes that ask for an output of so many MiB."""
    shape = numpy_helper.from_array(np.array([megabytes, 1 << 18], np.int64), "s")
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Add", ["big", "m"], ["y"]),
    ]
    return written(folder, nodes, [shape])


def terabyte(folder: Path) -> Path:
    return zeros(folder, 1 << 20)


def declared_giant(folder: Path) -> Path:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 30, 1 << 30], raw_data=b"\0" * 64)
    return written(folder, [helper.make_node("Add", ["x", "w"], ["y"])], [weights])


def foreign_operator(folder: Path, domain: str = "evil.domain", name: str = "Exec") -> Path:
    node = helper.make_node(name, ["x"], ["y"], domain=domain, name="boom")
    return written(folder, [node], opsets={"": 18, domain: 1})


def runtime_operator(folder: Path) -> Path:
    """One of ONNX Runtime's own that runs on a CPU."""
    node = helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", transB=1)
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    return written(folder, [node], [weights], opsets={"": 18, "com.microsoft": 1})


def endless(folder: Path) -> Path:
    """A loop of 2**40 rounds."""
    names = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 4]),
    ]
    outs = [
        helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v2", TensorProto.FLOAT, [None, 4]),
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Sin", ["v"], ["v2"])], "body", names, outs
    )
    rounds = numpy_helper.from_array(np.array(1 << 40, np.int64), "n")
    condition = numpy_helper.from_array(np.array(True), "t")
    return written(folder, [helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)], [rounds, condition])


def chain(folder: Path, length: int = 200_000) -> Path:
    nodes = [
        helper.make_node("Identity", [f"n{i}" if i else "x"], [f"n{i + 1}" if i < length - 1 else "y"])
        for i in range(length)
    ]
    return written(folder, nodes)


def doubling(folder: Path, levels: int = 40) -> Path:
    """Functions of functions: 40 short ones that make 2**40 nodes."""
    made = []
    for level in range(levels):
        inner, domain = (f"f{level + 1}", "own") if level < levels - 1 else ("Identity", "")
        nodes = [
            helper.make_node(inner, ["a"], ["b"], domain=domain),
            helper.make_node(inner, ["b"], ["c"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        made.append(helper.make_function("own", f"f{level}", ["a"], ["c"], nodes, imports))
    node = helper.make_node("f0", ["x"], ["y"], domain="own")
    return written(folder, [node], opsets={"": 18, "own": 1}, functions=made)


def calls_itself(folder: Path) -> Path:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    body = [helper.make_node("f", ["a"], ["b"], domain="own")]
    made = helper.make_function("own", "f", ["a"], ["b"], body, imports)
    node = helper.make_node("f", ["x"], ["y"], domain="own")
    return written(folder, [node], opsets={"": 18, "own": 1}, functions=[made])


def nested(folder: Path, depth: int = 200) -> Path:
    """Branches in branches, deeper than any library would write them."""
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "deepest", [], [])
    content = graph.SerializeToString()
    for _ in range(depth):
        attribute = _field(1, b"then_branch") + _field(6, content) + b"\xa0\x01\x05"  # type: a graph
        content = _field(1, _field(1, b"t") + _field(2, b"o") + _field(4, b"If") + _field(5, attribute))
    model = helper.make_model(helper.make_graph([], "g", [INPUT], [OUTPUT]), ir_version=9)
    return saved(folder, model.SerializeToString() + _field(7, content))


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message, on the wire."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
