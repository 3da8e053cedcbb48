"""Sums of products and projections: exact, whatever is added first."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from homeostat.stats import gram, profile

TABLES = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _table(random: np.random.Generator, rows: int, features: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Scores, (features, rows), and the scores' table of each feature."""
    values = random.normal(size=(rows, features)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    edges = [profile.equal_frequency_edges(column) for column in values.T]
    tables = [gram.normal_scores(profile.number_counts(values[:, i], edges[i]).tolist()) for i in range(features)]
    cells = profile.EdgeTable(edges).cells(values.T)
    return np.stack([np.array(tables[i], float)[cells[i]] for i in range(features)]), tables


@settings(max_examples=50, deadline=None)
@given(TABLES, st.integers(1, 60), st.integers(0, 6))
def test_a_table_falls_in_the_cells_that_its_columns_fall_in(
    random: np.random.Generator, rows: int, width: int
) -> None:
    values = np.round(random.normal(size=(rows, width)), int(random.integers(0, 3))).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    values[random.random(values.shape) < 0.1] = np.inf
    edges = [profile.equal_frequency_edges(column, int(random.integers(2, 30))) for column in values.T]
    cells = profile.EdgeTable(edges).cells(values.T)
    assert cells.shape == (width, rows)
    for place, one in enumerate(edges):
        assert cells[place].tolist() == profile.bin_numbers(values[:, place], one).tolist()


def test_a_table_with_many_edges_does_not_run_over() -> None:
    edges = tuple(float(i) for i in range(600))
    values = np.arange(-1, 700, 0.5, dtype=np.float32).reshape(-1, 1)
    cells = profile.EdgeTable([edges, (0.0,)]).cells(np.repeat(values, 2, axis=1).T)
    assert cells[0].tolist() == profile.bin_numbers(values[:, 0], edges).tolist()


def test_normal_scores_are_the_means_of_a_normal_over_the_cells() -> None:
    scores = np.array(gram.normal_scores([1000] * 10 + [77, 5])) / gram.SCALE
    bounds = norm.ppf(np.linspace(0, 1, 11))
    expected = [norm.expect(lb=a, ub=b, conditional=True) for a, b in pairwise(bounds)]
    assert scores[:10] == pytest.approx(expected, abs=1.5 / gram.SCALE)
    assert scores[10:].tolist() == [0, 0]


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=60))
def test_normal_scores_rise_and_stay_within_the_clip(counts: list[int]) -> None:
    scores = gram.normal_scores(counts)[:-2]
    assert len(scores) == len(counts) - 2
    assert list(scores) == sorted(scores)
    assert max(map(abs, scores)) <= gram.CLIP * gram.SCALE + 1


@settings(max_examples=50, deadline=None)
@given(TABLES, st.integers(1, 200), st.integers(1, 9))
def test_gram_sums_are_those_of_a_plain_loop_in_any_order(random: np.random.Generator, rows: int, width: int) -> None:
    scores, _ = _table(random, rows, width)
    whole = [[int(a) for a in row] for row in scores.T]
    expected = [sum(row[i] for row in whole) for i in range(width)]
    expected += [sum(row[i] * row[j] for row in whole) for i in range(width) for j in range(i, width)]
    assert gram.gram_sums(scores.astype(gram.score_type(width))).tolist() == expected
    cut = int(random.integers(0, rows + 1))
    shuffled = random.permutation(scores, axis=1)
    assert (gram.gram_sums(shuffled[:, :cut]) + gram.gram_sums(shuffled[:, cut:])).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(TABLES, st.integers(1, 150), st.integers(1, 20))
def test_projections_are_those_of_a_plain_loop(random: np.random.Generator, rows: int, width: int) -> None:
    scores, _ = _table(random, rows, width)
    kind = gram.score_type(width)
    signs = gram.signs(3, [f"f{i}" for i in range(width)])
    projected = signs.astype(kind) @ scores.astype(kind)
    expected = [[sum(int(a) * int(s) for a, s in zip(row, one, strict=True)) for row in scores.T] for one in signs]
    assert projected.tolist() == expected
    edges = gram.projection_edges(projected)
    counts = gram.projection_counts(projected, np.array(edges, kind))
    cells = [[sum(t > edge for edge in edges[k]) for t in one] for k, one in enumerate(expected)]
    naive = [[one.count(cell) for cell in range(10)] for one in cells]
    assert counts.reshape(gram.PROJECTIONS, 10).tolist() == naive


def test_projections_cut_training_rows_into_cells_of_equal_count() -> None:
    scores, _ = _table(np.random.default_rng(5), 20_000, 20)
    projected = gram.signs(1, [f"f{i}" for i in range(20)]).astype(float) @ scores
    counts = gram.projection_counts(projected, np.array(gram.projection_edges(projected)))
    assert counts.min() > 1900
    assert counts.max() < 2100


def test_signs_are_frozen_and_belong_to_the_name() -> None:
    one, other = gram.signs(1, ["distance", "hour"]), gram.signs(1, ["hour", "x", "distance"])
    assert one[:, 0].tolist() == other[:, 2].tolist()
    assert one[:, 1].tolist() == other[:, 0].tolist()
    assert "".join("+" if sign > 0 else "-" for sign in one[:, 0]) == "---+-+---+-+---+"
    assert one[:, 0].tolist() != gram.signs(2, ["distance"])[:, 0].tolist()
    assert abs(gram.signs(1, [f"f{i}" for i in range(2000)]).mean()) < 0.02


def test_only_features_that_move_are_in_the_products_and_at_most_32() -> None:
    counts = [(0, 9, 0, 0, 0), *[(4, 5, 0, 0, 0)] * 40]
    assert gram.gram_features(counts) == tuple(range(1, 33))


def test_a_thousand_features_add_up_exactly_also_in_float32() -> None:
    assert gram.score_type(9000) is np.float32
    assert gram.score_type(10_000) is np.float64
    scores = np.full((9000, 2), round(gram.CLIP * gram.SCALE), np.float32)
    assert (np.ones((16, 9000), np.float32) @ scores == 9000 * round(gram.CLIP * gram.SCALE)).all()
