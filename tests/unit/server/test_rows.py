"""Rows in any order and form become the same tensors."""

import struct
from math import isnan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.bundle import Column, Signature
from homeostat.server.inference.rows import TableReader as Reader
from homeostat.server.problem import Problem

SIGNATURE = Signature(
    task="binary",
    columns=(
        Column(name="a", type="number", tensor="numbers", index=0),
        Column(name="s", type="string", tensor="strings", index=0),
        Column(name="b", type="number", tensor="numbers", index=1),
    ),
    score_output="p",
)
READER = Reader(SIGNATURE)
numbers = st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.floats(-1e6, 1e6, width=32))
texts = st.one_of(st.none(), st.text(max_size=5))


def _column(name: str, values: list[Any], *, nested: bool) -> dict[str, Any]:
    shape = [len(values), 1] if nested else [len(values)]
    return {"name": name, "shape": shape, "datatype": "BYTES" if name == "s" else "FP64", "data": values}


@given(st.lists(st.tuples(numbers, texts, numbers), min_size=1, max_size=5), st.permutations("asb"), st.booleans())
def test_order_and_shape_of_columns_do_not_matter(rows: list[tuple[Any, ...]], order: list[str], nested: bool) -> None:
    columns = dict(zip("asb", zip(*rows, strict=True), strict=True))
    read = READER.inputs([_column(name, list(columns[name]), nested=nested) for name in order])
    assert read.count == len(rows)
    assert read.strings == [(s or "",) for _, s, _ in rows]
    got = struct.unpack(f"{2 * len(rows)}f", read.numbers)
    for value, sent in zip(got, [v for a, _, b in rows for v in (a, b)], strict=True):
        assert isnan(value) if sent is None else value == sent


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["name", "shape", "data", "datatype", "x"]), x),
        max_leaves=12,
    )
)
def test_anything_is_read_or_refused(inputs: Any) -> None:
    with pytest.raises(Problem) as refused:
        READER.inputs(inputs)
    assert refused.value.status == 400


def test_one_row_and_many_rows_are_read_alike() -> None:
    one = READER.inputs([_column(n, v, nested=False) for n, v in (("a", [1.5]), ("s", ["x"]), ("b", [None]))])
    two = READER.inputs([_column(n, v * 2, nested=False) for n, v in (("a", [1.5]), ("s", ["x"]), ("b", [None]))])
    assert one.numbers * 2 == two.numbers
    assert one.strings * 2 == two.strings


@pytest.mark.parametrize("values", [["5"], [[1, 2]], [{}]])
def test_a_wrong_value_in_a_lone_row_is_named(values: list[Any]) -> None:
    inputs = [_column(n, v, nested=False) for n, v in (("a", values), ("s", ["x"]), ("b", [1]))]
    with pytest.raises(Problem, match="column 'a'"):
        READER.inputs(inputs)
