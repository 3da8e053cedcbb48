"""The prediction cache around a real model: the same bits, fewer calls, bounds that hold."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from homeostat.api.wire.bundle import Signature
from homeostat.server.inference.cache import ENTRY_BYTES, Cached
from homeostat.server.inference.model import Model, load
from homeostat.server.inference.rows import Table
from homeostat.server.inference.tensors import Tensors
from serving import models


class Counted:
    """A cache around `model`, with the calls that reached it and a clock that is set by hand."""

    def __init__(self, model: Model, *, rows: int = 1000, seconds: float = 60.0, size: int = 1 << 20) -> None:
        self.model, self.calls, self.hits, self.misses, self.now = model, list[int](), 0, 0, 100.0
        self._run = model.run
        model.run = self._counted  # type: ignore[method-assign]
        self.cache = Cached(model, self._count, rows=rows, seconds=seconds, size=size, clock=lambda: self.now)

    def _counted(self, joined: Any, options: Any) -> Any:
        self.calls.append(joined.count)
        return self._run(joined, options)

    def _count(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def ask(self, rows: Any) -> list[np.ndarray]:
        return self.cache.run(rows, ort.RunOptions())

    def fresh(self, rows: Any) -> list[np.ndarray]:
        return self._run(rows, ort.RunOptions())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.flights(tmp_path_factory.mktemp("cache") / "flights")


def flights(folder: Path) -> Model:
    signature = Signature.model_validate_json((folder / "signature.json").read_text())
    return load(folder / "model.onnx", signature, 1)


def table(count: int, seed: int = 1) -> Table:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 2)).astype(np.float32)
    numbers[::5, 1] = np.nan
    strings = [(str(random.choice(["JFK", "LGA", "EWR", ""])),) for _ in range(count)]
    return Table(count, numbers.tobytes(), strings)


def same_bits(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and (a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes())
        for a, b in zip(one, other, strict=True)
    )


def test_an_answer_from_memory_has_the_bits_of_the_first(folder: Path) -> None:
    counted = Counted(flights(folder))
    rows = table(50)
    first = counted.ask(rows)
    assert same_bits(first, counted.fresh(rows))
    assert same_bits(first, counted.ask(rows))
    assert counted.calls == [50]
    assert (counted.hits, counted.misses) == (50, 50)


def test_known_and_unknown_rows_come_back_in_their_order_and_the_unknown_run_together(folder: Path) -> None:
    counted = Counted(flights(folder))
    rows = table(40)
    counted.ask(rows.part(5, 12))
    counted.ask(rows.part(30, 31))
    assert same_bits(counted.ask(rows), counted.fresh(rows))
    assert counted.calls == [7, 1, 32]
    assert (counted.hits, counted.misses) == (8, 40)


def test_equal_rows_of_one_batch_run_once(folder: Path) -> None:
    counted = Counted(flights(folder))
    one = table(1)
    rows = Table(6, one.numbers * 6, one.strings * 6)
    assert same_bits(counted.ask(rows), counted.fresh(rows))
    assert counted.calls == [1]
    assert (counted.hits, counted.misses) == (5, 1)


def test_rows_that_differ_in_one_bit_or_text_are_different_rows(folder: Path) -> None:
    counted = Counted(flights(folder))
    zero, other = np.float32([0.0, 1.0]), np.float32([-0.0, 1.0])
    for numbers, text in ((zero, "JFK"), (other, "JFK"), (zero, "LGA")):
        counted.ask(Table(1, numbers.tobytes(), [(text,)]))
    assert counted.calls == [1, 1, 1]


def test_an_entry_is_not_given_after_its_time(folder: Path) -> None:
    counted = Counted(flights(folder), seconds=10.0)
    rows = table(3)
    counted.ask(rows)
    counted.now += 9.9
    counted.ask(rows)
    counted.now += 0.2
    counted.ask(rows)
    assert counted.calls == [3, 3]


def test_the_rows_asked_least_recently_are_forgotten_first(folder: Path) -> None:
    counted = Counted(flights(folder), rows=3)
    a, b, c, d = (table(1, seed) for seed in (1, 2, 3, 4))
    for rows in (a, b, c, a, d):
        counted.ask(rows)
    assert len(counted.cache) == 3
    for rows in (a, c, d):
        counted.ask(rows)
    assert len(counted.calls) == 4
    counted.ask(b)
    assert len(counted.calls) == 5


def test_a_batch_of_more_rows_than_are_remembered_is_answered_whole(folder: Path) -> None:
    counted = Counted(flights(folder), rows=10)
    rows = table(100)
    counted.ask(rows.part(80, 100))
    assert same_bits(counted.ask(rows), counted.fresh(rows))
    assert len(counted.cache) == 10


def test_memory_is_bounded_by_bytes_too(folder: Path) -> None:
    counted = Counted(flights(folder), size=20 * (ENTRY_BYTES + 1000))
    long = [("x" * 1000 + str(i),) for i in range(100)]
    counted.ask(Table(100, table(100).numbers, long))
    assert 10 <= len(counted.cache) <= 20
    assert counted.cache.size <= 20 * (ENTRY_BYTES + 1000)
    counted.ask(Table(1, table(1).numbers, [("y" * 100_000,)]))
    assert len(counted.cache) >= 10, "what can never fit pushes nothing out"


def test_a_run_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    counted = Counted(load(models.picky(tmp_path / "m") / "model.onnx", None, 1))
    bad = Tensors(2, (np.array([[1], [99]]),))
    with pytest.raises(Exception, match="out of"):
        counted.ask(bad)
    assert len(counted.cache) == counted.hits == counted.misses == 0
    assert counted.ask(Tensors(2, (np.array([[7], [1]]),)))[0].tolist() == [[7.0], [1.0]]


def test_tensors_of_other_shapes_with_the_same_bytes_are_different_rows(tmp_path: Path) -> None:
    counted = Counted(load(_sums(tmp_path, ["n", "a", "b"]), None, 1))
    values = np.arange(12, dtype=np.float32)
    wide, high = Tensors(2, (values.reshape(2, 2, 3),)), Tensors(2, (values.reshape(2, 3, 2),))
    for rows in (wide, high, wide, high):
        assert same_bits(counted.ask(rows), counted.fresh(rows))
    assert counted.calls == [2, 2]


def test_long_rows_are_remembered_by_their_digest(tmp_path: Path) -> None:
    counted = Counted(load(_sums(tmp_path, ["n", "a", "b"]), None, 1), size=4 << 20)
    images = np.random.default_rng(1).normal(size=(64, 100, 100)).astype(np.float32)  # 2.5 MB
    rows = Tensors(64, (images,))
    first = counted.ask(rows)
    assert same_bits(first, counted.ask(rows))
    assert counted.calls == [64]
    outputs = sum(one.nbytes for one in first)
    assert outputs < counted.cache.size < outputs + 64 * (ENTRY_BYTES + 500)


def test_a_model_that_runs_unbatched_is_known_by_its_whole_request(tmp_path: Path) -> None:
    counted = Counted(load(_sums(tmp_path, [2, 3, "b"]), None, 1))
    assert not counted.cache.batched
    random = np.random.default_rng(2)
    one, other = (Tensors(1, (random.normal(size=(2, 3, 4)).astype(np.float32),)) for _ in range(2))
    for rows in (one, other, one, other):
        assert same_bits(counted.ask(rows), counted.fresh(rows))
    assert counted.calls == [1, 1]
    assert (counted.hits, counted.misses) == (2, 2)


def _sums(folder: Path, shape: list[str | int]) -> Path:
    """Twice the input, and the sum over its last axis."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [-1])
    outputs = [
        helper.make_tensor_value_info("twice", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, shape[:-1]),
    ]
    graph = helper.make_graph(
        nodes, "t", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], outputs, [axes]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file
