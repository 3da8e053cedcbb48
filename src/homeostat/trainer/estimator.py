"""A scikit-learn estimator by its class's name, and the preprocessing that goes into the graph with it."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import numpy as np

from homeostat.api.wire.run import SklearnPlan
from homeostat.errors import ArtifactError
from homeostat.stats.profile import top_levels
from homeostat.trainer.table import Columns, Strings

# where nearly all estimators live: walking all of scikit-learn takes 1 s and is done only for a name that is not here
_MODULES: Final = (
    "ensemble", "linear_model", "tree", "neural_network", "svm", "neighbors", "naive_bayes", "discriminant_analysis",
    "dummy", "gaussian_process", "calibration", "kernel_ridge",
)  # fmt: skip
_SCALE_FREE: Final = ("sklearn.ensemble.", "sklearn.tree.", "sklearn.naive_bayes", "sklearn.dummy")
_TAKES_MISSING: Final = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def build(plan: SklearnPlan, seed: int) -> Any:
    """The unfitted estimator with the plan's parameters, and `seed` as random_state when it has one.

    Raises ArtifactError: `EstimatorUnknown`, `EstimatorUnsuitable`, `ParameterInvalid`.
    """
    kind = _find(plan.estimator)
    try:
        known = kind().get_params(deep=False)
    except TypeError as error:
        raise ArtifactError(
            "EstimatorUnsuitable", f"{plan.estimator} is built from other estimators: choose one that stands alone"
        ) from error
    if unknown := sorted(set(plan.parameters) - set(known)):
        raise ArtifactError(
            "ParameterInvalid", f"{plan.estimator} has no parameter {unknown[0]!r}{_near(unknown[0], known)}"
        )
    seeded = {"random_state": seed} if "random_state" in known else {}
    estimator = kind(**(seeded | plan.parameters))
    if is_classifier(estimator) and not hasattr(estimator, "predict_proba"):
        raise ArtifactError(
            "EstimatorUnsuitable",
            f"{plan.estimator} gives no probabilities with these parameters, and they are what is watched: "
            "choose one with predict_proba, such as LogisticRegression",
        )
    return estimator


def is_classifier(estimator: Any) -> bool:
    """Whether it predicts classes (else values)."""
    from sklearn.base import is_classifier as classifies

    return bool(classifies(estimator))


def pipeline(estimator: Any, columns: Columns, strings: Strings) -> Any:
    """Preprocessing by column type, then the estimator. Columns come numbers first, then strings.

    strings: (n, len(columns.strings)), the training rows: each column's 50 most frequent levels get a cell of their
    own, so does missing when it occurs; all others are zeros. Numbers are imputed by the median and, for estimators
    that mind, scaled.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    steps: list[tuple[str, Any]] = []
    if type(estimator).__name__ not in _TAKES_MISSING:
        steps.append(("impute", SimpleImputer(strategy="median", keep_empty_features=True)))
    if not type(estimator).__module__.startswith(_SCALE_FREE):
        steps.append(("scale", StandardScaler()))
    parts: list[tuple[str, Any, list[int]]] = []
    count = len(columns.numbers)
    if columns.numbers:
        parts.append(("numbers", Pipeline(steps) if steps else "passthrough", list(range(count))))
    if columns.strings:
        levels = [np.array(_levels(strings[:, i]), dtype=object) for i in range(len(columns.strings))]
        encoder = OneHotEncoder(categories=levels, handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        parts.append(("strings", encoder, list(range(count, count + len(columns.strings)))))
    return Pipeline([("columns", ColumnTransformer(parts, sparse_threshold=0)), ("estimator", estimator)])


def fit(model: Any, rows: Any, target: Any, name: str) -> None:
    """Fit in place. Raises ArtifactError `ParameterInvalid` (a value) or `FitFailed`."""
    from sklearn.utils._param_validation import InvalidParameterError

    try:
        model.fit(rows, target)
    except InvalidParameterError as error:
        raise ArtifactError("ParameterInvalid", str(error)[:600]) from error
    except (ValueError, TypeError, FloatingPointError) as error:
        raise ArtifactError("FitFailed", f"{name} could not be fitted: {str(error)[:600]}") from error


def _levels(column: Strings) -> list[str]:
    missing = [""] if (column == "").any() else []
    return sorted([*missing, *top_levels(column.tolist())])


def _find(name: str) -> Any:
    for module in _MODULES:
        found = getattr(import_module(f"sklearn.{module}"), name, None)
        if isinstance(found, type) and hasattr(found, "fit") and hasattr(found, "predict"):
            return found
    from sklearn.utils import all_estimators

    known = dict(all_estimators(type_filter=["classifier", "regressor"]))
    if name not in known:
        raise ArtifactError(
            "EstimatorUnknown", f"scikit-learn has no classifier or regressor {name!r}{_near(name, known)}"
        )
    return known[name]


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; it has {', '.join(sorted(known)[:40])}" if len(known) <= 40 else ""
