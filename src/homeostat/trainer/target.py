"""The column to predict: its task, its labels, and the rows that are held out."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from homeostat.api.wire.run import RunPlan
from homeostat.errors import ArtifactError
from homeostat.trainer.table import kind_of, names_of

Task = Literal["binary", "multiclass", "regression"]
LabelType = Literal["integer", "number", "string", "boolean"]
MIN_TRAIN: Final = 20
MIN_TEST: Final = 5
MAX_CLASSES: Final = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """What is predicted. `classes` are the label values as the graph gives them, sorted; none for a regression."""

    task: Task
    label_type: LabelType
    classes: tuple[int | str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes as text; booleans as JSON writes them."""
        if self.label_type == "boolean":
            return tuple("true" if c else "false" for c in self.classes)
        return tuple(str(c) for c in self.classes)


def with_target(frame: pd.DataFrame, name: str, role: str) -> pd.DataFrame:
    """The rows whose target is known. Raises ArtifactError `TargetMissing`."""
    if name not in frame.columns:
        raise ArtifactError("TargetMissing", f"target {name!r} is not in data.{role}: {names_of(frame)}")
    known = frame[frame[name].notna()]
    return known.reset_index(drop=True)


def target_of(frame: pd.DataFrame, name: str, *, classifier: bool) -> Target:
    """What kind of prediction the column asks for, given a classifier or a regressor.

    Raises ArtifactError: `TargetUnsuitable`, `OneClassOnly`.
    """
    column = frame[name]
    kind = kind_of(column)
    if not classifier:
        if kind != "number":
            raise ArtifactError(
                "TargetUnsuitable", f"target {name!r} is no number: a regressor needs one; use a classifier"
            )
        return Target("regression", "number", ())
    label_type = _label_type(column, kind, name)
    classes = tuple(np.unique(label_values(frame, name, label_type)).tolist())
    if len(classes) < 2:
        raise ArtifactError(
            "OneClassOnly",
            f"target {name!r} has one value only in {len(frame)} rows ({', '.join(map(str, classes)) or 'none'}): "
            "a classifier needs two or more; check the column, or take more data",
        )
    if len(classes) > MAX_CLASSES:
        raise ArtifactError("TargetUnsuitable", f"target {name!r} has {len(classes)} classes: use a regressor")
    return Target("binary" if len(classes) == 2 else "multiclass", label_type, classes)


def label_values(frame: pd.DataFrame, name: str, label_type: LabelType) -> NDArray[Any]:
    """The target as the graph gives it: int64 for integers and booleans, str objects, float64 for a regression."""
    column = frame[name]
    if label_type == "string":
        return column.astype(object).map(str).to_numpy(dtype=object)
    values = pd.to_numeric(column.astype(object)).to_numpy(dtype=np.float64)
    return values if label_type == "number" else values.astype(np.int64)


def hold_out(frame: pd.DataFrame, plan: RunPlan, target: Target) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to learn from and rows to judge by: the last ones by `split_column`, else random by seed, by class.

    Raises ArtifactError: `TooFewRows`, `ColumnMissing`.
    """
    if plan.split_column:
        if plan.split_column not in frame.columns:
            raise ArtifactError(
                "ColumnMissing", f"split.column {plan.split_column!r} is not in the data: {names_of(frame)}"
            )
        frame = frame.sort_values(plan.split_column, kind="stable", ignore_index=True)
        cut = len(frame) - max(1, round(len(frame) * plan.split_fraction))
        return frame.iloc[:cut], frame.iloc[cut:]
    random = np.random.default_rng(plan.seed)
    held = np.zeros(len(frame), dtype=bool)
    groups = [np.arange(len(frame))]
    if target.task != "regression":
        values = label_values(frame, plan.sklearn.target, target.label_type)
        groups = [np.flatnonzero(values == one) for one in target.classes]
    for group in groups:
        held[random.permutation(group)[: round(len(group) * plan.split_fraction)]] = True
    return frame[~held], frame[held]


def require_rows(train: pd.DataFrame, test: pd.DataFrame, name: str, target: Target) -> None:
    """Raise ArtifactError `TooFewRows` or `OneClassOnly` when a fit or a judgement would mean nothing."""
    if len(train) < MIN_TRAIN or len(test) < MIN_TEST:
        raise ArtifactError(
            "TooFewRows",
            f"{len(train)} rows to learn from and {len(test)} to judge by with a known {name!r}; "
            f"at least {MIN_TRAIN} and {MIN_TEST} are needed",
        )
    if target.task == "regression":
        return
    for rows, what in ((train, "learn from"), (test, "judge by")):
        if rows[name].nunique() < 2:
            raise ArtifactError(
                "OneClassOnly",
                f"all {len(rows)} rows to {what} have the same {name!r}: take more data, or another split.column",
            )


def _label_type(column: "pd.Series[Any]", kind: str, name: str) -> LabelType:
    if kind == "string":
        return "string"
    if kind != "number":
        raise ArtifactError(
            "TargetUnsuitable", f"target {name!r} holds {kind} values: labels are booleans, integers or strings"
        )
    if pd.api.types.infer_dtype(column, skipna=True) == "boolean":
        return "boolean"
    values = pd.to_numeric(column.astype(object)).to_numpy(dtype=np.float64)
    if not np.array_equal(values, np.round(values)):
        raise ArtifactError(
            "TargetUnsuitable",
            f"target {name!r} has fractions: a classifier needs labels; use a regressor, or round it",
        )
    return "integer"
