"""Tests on counts."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from homeostat.stats.distance import g_test, psi_adjusted, worse_rate


def test_g_agrees_with_the_textbook() -> None:
    a, b = [50, 60, 70, 20], [30, 80, 60, 40]
    expected = chi2_contingency([a, b], correction=False, lambda_="log-likelihood").pvalue
    assert g_test(a, b) == pytest.approx(expected)


def test_equal_windows_are_even_under_the_null() -> None:
    rng = np.random.default_rng(3)
    p = [g_test(rng.multinomial(20_000, [0.1] * 10), rng.multinomial(500, [0.1] * 10)) for _ in range(800)]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_psi_is_nothing_on_average_under_the_null_and_grows_with_a_shift() -> None:
    rng = np.random.default_rng(4)
    null = [psi_adjusted(rng.multinomial(20_000, [0.1] * 10), rng.multinomial(500, [0.1] * 10)) for _ in range(400)]
    assert abs(np.mean(null)) < 0.002
    assert psi_adjusted([1000] * 10, [150, 130, 110, 100, 100, 100, 100, 90, 70, 50]) > 0.05


@pytest.mark.parametrize(("a", "b"), [([], []), ([0, 0], [0, 0]), ([5, 5], [0, 0]), ([10], [10]), ([0, 9], [0, 9])])
def test_empty_sides_say_nothing(a: list[float], b: list[float]) -> None:
    assert g_test(a, b) == 1.0
    assert psi_adjusted(a, b) == 0.0


def test_rare_cells_are_lumped() -> None:
    assert g_test([1000, 1000, 1, 1, 1], [100, 100, 1, 0, 1]) > 0.001


def test_a_higher_error_rate_is_told_and_a_lower_is_not() -> None:
    assert worse_rate(60, 200, 200, 1000) < 0.001
    assert worse_rate(20, 200, 200, 1000) > 0.99
    assert worse_rate(0, 0, 1, 2) == 1.0
    assert worse_rate(5, 5, 5, 5) == 1.0
