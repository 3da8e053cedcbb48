"""How much an optimised model's answers differ, and the values that the compared rows are made of."""

import math
from typing import Any

import numpy as np
import pytest

from homeostat.api.wire.bundle import FeatureBaseline
from homeostat.server.optimizing.comparison import cell_values, differences
from homeostat.server.optimizing.optimized import machine


def changes(name: str, one: list[Any], other: list[Any]) -> tuple[float, float]:
    return differences(name, [np.array(one)], [np.array(other)])


def test_probabilities_count_as_they_are() -> None:
    assert changes("binary", [[0.9, 0.1]], [[0.88, 0.12]])[0] == pytest.approx(0.02)


def test_values_count_by_their_size_or_by_how_much_values_vary() -> None:
    assert changes("regression", [[1000.0], [1000.0]], [[1010.0], [1000.0]])[0] == pytest.approx(0.01)
    assert changes("regression", [[-10.0], [0.0], [10.0]], [[-10.0], [0.1], [10.0]])[0] == pytest.approx(
        0.1 / math.sqrt(200 / 3)
    )


def test_labels_count_by_rows() -> None:
    assert changes("binary", ["a", "b", "a", "a"], ["a", "a", "a", "a"]) == (0.0, 0.25)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ([math.nan, 0.5], [math.nan, 0.5], 0.0),
        ([math.inf, 0.5], [math.inf, 0.5], 0.0),
        ([math.nan, 0.5], [0.5, 0.5], math.inf),
        ([0.5, 0.5], [math.nan, 0.5], math.inf),
        ([0.5, 0.5], [math.inf, 0.5], math.inf),
        ([0.5, 0.5], [0.5], math.inf),
    ],
)
def test_what_is_no_number_on_one_side_only_is_an_infinite_change(
    one: list[float], other: list[float], wanted: float
) -> None:
    assert changes("binary", one, other)[0] == wanted


def test_a_cell_stands_for_its_middle_and_the_open_ones_for_as_far_outside() -> None:
    feature = FeatureBaseline(name="x", kind="number", edges=(0.0, 2.0, 8.0), counts=(1, 1, 1, 1, 0, 0))
    values = cell_values(feature)
    assert values[:4] == [-1.0, 1.0, 5.0, 11.0]
    assert all(math.isnan(value) for value in values[4:])


def test_levels_stand_for_themselves_missing_is_empty_and_one_is_unknown() -> None:
    feature = FeatureBaseline(name="x", kind="category", levels=("a", "b"), counts=(1, 1, 0, 0))
    values = cell_values(feature)
    assert values[:3] == ["a", "b", ""]
    assert values[3] not in {"a", "b", ""}


def test_the_machine_is_named_by_its_instruction_sets() -> None:
    words = machine().split()
    assert words[1:] == sorted(words[1:])
    assert machine() == machine()
