"""Rows from files, and which columns are numbers, which strings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Signature
from homeostat.errors import ArtifactError

Numbers = NDArray[np.float32]
Strings = NDArray[np.object_]
_NUMBERS: Final = {"boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty"}
_STRINGS: Final = {"string", "categorical", "mixed", "mixed-integer"}

_MISSING: Final = (  # what pandas takes for missing by default
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_TRUTH: Final = {word: word.lower() == "true" for word in ("True", "TRUE", "true", "False", "FALSE", "false")}


@dataclass(frozen=True, slots=True)
class Columns:
    """A model's columns by type, each in the data's order."""

    numbers: tuple[str, ...]
    strings: tuple[str, ...]


def read_folder(folder: Path, role: str) -> pd.DataFrame:
    """All rows of the CSV and parquet files in `folder`, files in the order of their names.

    Raises ArtifactError `DataUnreadable` with the file's name.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise ArtifactError("DataUnreadable", f"data.{role} has no file: push a .csv or .parquet")
    frame = pd.concat([_read(path, role) for path in paths], ignore_index=True)
    frame.columns = frame.columns.map(str)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ArtifactError("DataUnreadable", f"data.{role} has two columns named {twice!r}: rename one")
    if not all(map(_is_parquet, paths)):
        for name in frame.columns:
            frame[name] = _without_words(frame[name])
    return frame


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".parquet" or file.read(4) == b"PAR1"


def _without_words(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A CSV column that is numbers or booleans but for words such as `NA`: those are missing. In text they are text."""
    if pd.api.types.infer_dtype(column, skipna=True) not in _STRINGS:
        return column
    words = column.isin(_MISSING)
    if not words.any():
        return column
    rest = column.astype(object).mask(words)
    if rest.dropna().isin(list(_TRUTH)).all():
        return rest.map(lambda value: _TRUTH.get(value, np.nan))
    try:
        return pd.to_numeric(rest)
    except (ValueError, TypeError):
        return column


def _read(path: Path, role: str) -> pd.DataFrame:
    parquet = _is_parquet(path)
    try:
        return pd.read_parquet(path) if parquet else pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, OSError, KeyError, NotImplementedError) as error:  # pyarrow's errors are ValueError or OSError
        kind = "parquet" if parquet else "CSV"
        raise ArtifactError(
            "DataUnreadable", f"data.{role}: {path.name} is no {kind} file that can be read: {_first_line(error)}"
        ) from error


def choose_columns(frame: pd.DataFrame, not_features: Sequence[str]) -> Columns:
    """Every column but `not_features`, by type: numbers (booleans too) or strings.

    Raises ArtifactError: `ColumnMissing` (an excluded one that is not there), `ColumnUnsupported` (times, lists,
    infinite numbers), `NoFeatures`.
    """
    if unknown := [name for name in not_features if name not in frame.columns]:
        raise ArtifactError("ColumnMissing", f"column {unknown[0]!r} is not in the data: {names_of(frame)}")
    numbers, strings = [], []
    for name in frame.columns:
        if name in not_features:
            continue
        kind = kind_of(frame[name])
        if kind == "number":
            _refuse_infinite(frame[name], name)
            numbers.append(name)
        elif kind == "string":
            strings.append(name)
        else:
            raise ArtifactError(
                "ColumnUnsupported",
                f"column {name!r} holds {kind} values: turn it into numbers or strings, or add it to exclude",
            )
    if not numbers and not strings:
        raise ArtifactError("NoFeatures", "no column is left to learn from: exclude fewer")
    return Columns(tuple(numbers), tuple(strings))


def require_finite(frame: pd.DataFrame, columns: Columns) -> None:
    """Raise ArtifactError `ColumnUnsupported` when a number is infinite, in rows that `choose_columns` did not see."""
    for name in columns.numbers:
        if name in frame.columns:
            _refuse_infinite(frame[name], name)


def kind_of(column: "pd.Series[Any]") -> str:
    """`number`, `string`, or the name of a type that is neither."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return kind_of(column.astype(column.cat.categories.dtype))
    found = pd.api.types.infer_dtype(column, skipna=True)
    if found in _NUMBERS:
        return "number"
    if found in {"mixed", "mixed-integer"} and any(isinstance(v, (list, dict, bytes, np.ndarray)) for v in column):
        return "nested"
    return "string" if found in _STRINGS else found


def as_numbers(frame: pd.DataFrame, names: Sequence[str]) -> Numbers:
    """Columns as the server makes them: (n, len(names)) float32, missing NaN."""
    out = np.empty((len(frame), len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        out[:, place] = _float64(frame[name])
    return out


def as_strings(frame: pd.DataFrame, names: Sequence[str]) -> Strings:
    """Columns as the server makes them: (n, len(names)) of str, missing `""`."""
    out = np.empty((len(frame), len(names)), dtype=object)
    for place, name in enumerate(names):
        column = frame[name].astype(object)
        out[:, place] = np.where(column.isna(), "", column.map(str, na_action="ignore").to_numpy(dtype=object))
    return out


def as_feeds(frame: pd.DataFrame, signature: Signature) -> dict[str, Numbers | Strings]:
    """The rows as graph inputs by tensor name. Raises ArtifactError `ColumnMissing`."""
    feeds: dict[str, Numbers | Strings] = {}
    for tensor in dict.fromkeys(column.tensor for column in signature.columns):
        columns = sorted((c for c in signature.columns if c.tensor == tensor), key=lambda c: c.index)
        names = [column.name for column in columns]
        if gone := [name for name in names if name not in frame.columns]:
            raise ArtifactError("ColumnMissing", f"column {gone[0]!r} is not in the data: {names_of(frame)}")
        feeds[tensor] = as_numbers(frame, names) if columns[0].type == "number" else as_strings(frame, names)
    return feeds


def names_of(frame: pd.DataFrame) -> str:
    """The columns for an error's text."""
    shown = ", ".join(frame.columns[:30])
    return f"it has {shown}" + (f" and {len(frame.columns) - 30} more" if len(frame.columns) > 30 else "")


def _float64(column: "pd.Series[Any]") -> NDArray[np.float64]:
    if column.dtype.kind in "bif":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        return pd.to_numeric(column.astype(object)).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise ArtifactError("ColumnUnsupported", f"column {column.name!r} is no number throughout: {error}") from error


def _refuse_infinite(column: "pd.Series[Any]", name: str) -> None:
    with np.errstate(over="ignore"):
        values = _float64(column).astype(np.float32)
    if count := int(np.isinf(values).sum()):
        raise ArtifactError(
            "ColumnUnsupported",
            f"column {name!r} has {count} values that are infinite or beyond 3.4e38: make them missing, or exclude it",
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
