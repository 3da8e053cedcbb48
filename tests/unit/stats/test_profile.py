"""Frozen cells."""

import numpy as np
import pytest

from homeostat.stats.profile import (
    bin_levels,
    bin_numbers,
    bin_scores,
    count_cells,
    equal_frequency_edges,
    level_counts,
    number_counts,
    top_levels,
)


def test_continuous_values_fall_into_ten_even_cells() -> None:
    values = np.random.default_rng(1).normal(size=10_000)
    counts = number_counts(values, equal_frequency_edges(values))
    assert counts.shape == (12,)
    assert counts[:10].min() > 990
    assert counts[:10].max() < 1010
    assert counts[10:].sum() == 0


def test_an_atom_gets_a_cell_of_its_own() -> None:
    values = np.concatenate([np.zeros(600), np.linspace(-1, 1, 400)])
    edges = equal_frequency_edges(values)
    cells = bin_numbers(values, edges)
    assert set(cells[:600]) == {bin_numbers([0.0], edges)[0]}
    assert (cells[600:] != cells[0]).all()


def test_a_constant_has_cells_below_and_above() -> None:
    edges = equal_frequency_edges([3.0] * 5)
    assert list(bin_numbers([2.9, 3.0, 3.1], edges)) == [0, 1, 2]


def test_edges_are_strictly_rising_and_belong_to_the_cell_below() -> None:
    edges = equal_frequency_edges([1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144])
    assert list(edges) == sorted(set(edges))
    assert list(bin_numbers(edges, edges)) == list(range(len(edges)))


def test_missing_numbers_are_counted_apart() -> None:
    edges = equal_frequency_edges([1.0, 2.0, 3.0, np.nan, np.inf])
    counts = number_counts([np.nan, -np.inf, np.inf], edges)
    assert counts[-2] == 1
    assert counts[0] == 1
    assert counts[-3] == 1


def test_no_finite_value_gives_one_cell() -> None:
    assert equal_frequency_edges([np.nan]) == ()
    assert list(number_counts([1.0, np.nan], ())) == [1, 1, 0]


def test_levels_are_the_most_frequent_and_the_rest_is_other() -> None:
    levels = top_levels(["b", "a", "b", "c", "", None, "a", "b"], 2)
    assert levels == ("b", "a")
    assert list(bin_levels(["a", "", "zzz"], levels)) == [1, 2, 3]
    assert list(level_counts(["a", "", "zzz", "b", "b"], levels)) == [2, 1, 1, 1]


def test_scores_have_twenty_cells_and_one_is_in_the_last() -> None:
    assert list(bin_scores([0.0, 0.049, 0.05, 0.999, 1.0, 1.2, -0.1, np.nan])) == [0, 0, 1, 19, 19, 19, 0, 0]


def test_cells_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="edges"):
        count_cells(np.array([5]), 3)
