"""How much the answers of one model differ from those of another that should answer the same."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SMALLEST: Final = 1e-3  # score that a change is measured against


def largest_change(before: NDArray[Any], after: NDArray[Any], *, probabilities: bool) -> float:
    """The largest change of a score, arrays of the same shape.

    Probabilities count as they are, when all of `before` are in [0, 1]; other scores as share of the larger of their size
    and the standard deviation of `before`. Infinite where only one side is a finite number; NaN equals NaN.
    """
    a, b = before.astype(np.float64), after.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not (np.isfinite(a) & np.isfinite(b))[~same].all():
        return float("inf")
    known = a[np.isfinite(a)]
    if probabilities and known.min() >= 0 and known.max() <= 1:
        return float(np.abs(a - b)[~same].max())
    size = np.maximum(np.abs(a), max(_SMALLEST, float(known.std())))
    return float((np.abs(a - b) / size)[~same].max())


def changed_rows(before: NDArray[Any], after: NDArray[Any]) -> float:
    """The share of rows with another label, arrays of the same shape (n, …); 0 without rows."""
    if not len(before):
        return 0.0
    return float(np.mean(np.any((before != after).reshape(len(before), -1), axis=1)))
