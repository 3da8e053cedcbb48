"""Tests on counts: is the window's distribution the reference's, and by how much does it differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

LEAST_EXPECTED: Final = 5.0


def _table(reference: Sequence[float], window: Sequence[float]) -> NDArray[np.float64]:
    """(2, cells) counts without the cells that are empty on both sides."""
    table = np.array([reference, window], dtype=np.float64)
    table = np.where(np.isfinite(table) & (table > 0), table, 0.0)
    kept: NDArray[np.float64] = table[:, table.sum(axis=0) > 0]
    return kept


def _lumped(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cells whose smaller expected count is under 5 become one; if that is still short it joins the next smallest."""
    pooled = table.sum(axis=0)
    expected = pooled * table.sum(axis=1).min() / pooled.sum()
    order = np.argsort(expected, kind="stable")
    short = int((expected < LEAST_EXPECTED).sum())
    while 0 < short < len(order) and expected[order[:short]].sum() < LEAST_EXPECTED:
        short += 1
    if short < 2:
        return table
    rest = table[:, order[short:]]
    lump = table[:, order[:short]].sum(axis=1, keepdims=True)
    return np.concatenate([rest, lump], axis=1)


def g_test(reference: Sequence[float], window: Sequence[float]) -> float:
    """p-value of the likelihood-ratio (G) test that both rows of counts come from one distribution.

    Same cells in the same order. G = 2 sum O ln(O/E) on K - 1 degrees (Sokal & Rohlf, Biometry, ch. 17); cells with
    an expected count under 5 are lumped. 1.0 when one side is empty or one cell is left.
    """
    table = _table(reference, window)
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return 1.0
    table = _lumped(table)
    if table.shape[1] < 2:
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    logs = np.log(table / expected, out=np.zeros_like(table), where=table > 0)
    g = 2.0 * float((table * logs).sum())
    return float(chdtrc(table.shape[1] - 1, max(g, 0.0)))


def psi_adjusted(reference: Sequence[float], window: Sequence[float]) -> float:
    """Population stability index beyond what chance explains, in nats; around 0 for equal distributions.

    sum (p - q) ln(p/q) with half a count added per cell (Jeffreys), minus its expectation under no change,
    (K - 1)(1/n + 1/m) (Yurdakul 2018); cells empty on both sides do not count. 0 when one side is empty.
    """
    table = _table(reference, window)
    totals = table.sum(axis=1)
    if table.shape[1] < 2 or (totals == 0).any():
        return 0.0
    cells = int(table.shape[1])
    p, q = (table + 0.5) / (totals[:, None] + 0.5 * cells)
    psi = float(((p - q) * np.log(p / q)).sum())
    chance = (cells - 1) * float((1 / totals).sum())
    return psi - chance


def worse_rate(bad: float, total: float, reference_bad: float, reference_total: float) -> float:
    """One-sided p-value that the first sample's rate is higher than the second's.

    Two-sample z with pooled variance (Fleiss, Statistical Methods for Rates and Proportions, ch. 3).
    1.0 when one sample is empty or nothing can be told.
    """
    if total <= 0 or reference_total <= 0:
        return 1.0
    pooled = min(max((bad + reference_bad) / (total + reference_total), 0.0), 1.0)
    variance = pooled * (1 - pooled) * (1 / total + 1 / reference_total)
    if not math.isfinite(variance) or variance <= 0:
        return 1.0
    return float(ndtr(-(bad / total - reference_bad / reference_total) / math.sqrt(variance)))
