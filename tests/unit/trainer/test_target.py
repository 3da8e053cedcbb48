from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from homeostat.api.wire.run import RunPlan
from homeostat.errors import ArtifactError
from homeostat.trainer.table import as_numbers, as_strings, choose_columns, kind_of, read_folder, require_finite
from homeostat.trainer.target import Target, hold_out, target_of


def a_plan(**changes: object) -> RunPlan:
    base = {
        "training": "t", "number": 1, "data": {}, "repository": "oci://h/t",
        "sklearn": {"estimator": "E", "target": "y"},
    }  # fmt: skip
    return RunPlan.model_validate(base | changes)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "number"), ([1.5, None], "number"), ([True, None], "number"), ([None, None], "number"),
        (["a", None], "string"), (pd.Categorical(["a", "b"]), "string"), (pd.Categorical([1, 2]), "number"),
        (pd.to_datetime(["2013-01-01", None]), "datetime64"), ([[1], [2]], "nested"),
        (pd.array([1, None], dtype="Int64"), "number"), (pd.array([True, None], dtype="boolean"), "number"),
    ],
)  # fmt: skip
def test_a_column_is_a_number_a_string_or_named(values: object, kind: str) -> None:
    assert kind_of(pd.Series(values)) == kind


def test_values_become_what_the_server_makes_of_them() -> None:
    frame = pd.DataFrame({"b": pd.array([True, None], dtype="boolean"), "i": [1, 2**25 + 1], "s": ["x", None]})
    columns = choose_columns(frame, [])
    assert (columns.numbers, columns.strings) == (("b", "i"), ("s",))
    numbers = as_numbers(frame, columns.numbers)
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, np.array([[1, 1], [np.nan, 2**25]], dtype=np.float32))
    assert as_strings(frame, columns.strings).tolist() == [["x"], [""]]


def test_every_class_gives_its_share_to_the_held_out_rows_and_no_row_is_in_both() -> None:
    frame = pd.DataFrame({"y": [0] * 900 + [1] * 100, "row": range(1000)})
    train, test = hold_out(frame, a_plan(), target_of(frame, "y", classifier=True))
    assert test["y"].value_counts().to_dict() == {0: 180, 1: 20}
    assert sorted([*train["row"], *test["row"]]) == list(range(1000))
    again = hold_out(frame, a_plan(), target_of(frame, "y", classifier=True))[1]
    other = hold_out(frame, a_plan(seed=1), target_of(frame, "y", classifier=True))[1]
    assert again["row"].tolist() == test["row"].tolist() != other["row"].tolist()


def test_labels_have_the_type_of_the_column() -> None:
    frame = pd.DataFrame({"b": [True, False], "i": [3, 1], "s": ["x", "w"], "f": [2.0, 1.0]})
    found = {name: target_of(frame, name, classifier=True) for name in frame.columns}
    assert {n: (t.label_type, t.labels) for n, t in found.items()} == {
        "b": ("boolean", ("false", "true")), "i": ("integer", ("1", "3")),
        "s": ("string", ("w", "x")), "f": ("integer", ("1", "2")),
    }  # fmt: skip
    assert target_of(frame, "i", classifier=False) == Target("regression", "number", ())


def test_one_class_only_is_refused() -> None:
    with pytest.raises(ArtifactError, match="one value only") as raised:
        target_of(pd.DataFrame({"y": [1, 1]}), "y", classifier=True)
    assert raised.value.reason == "OneClassOnly"


def test_words_for_missing_are_text_in_a_text_column_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("s,n,b,i\nNA,1.5,True,1\nNone,NA,NA,2\n,null,False,3\nx,,true,4\n")
    frame = read_folder(tmp_path, "train")
    columns = choose_columns(frame, [])
    assert (columns.numbers, columns.strings) == (("n", "b", "i"), ("s",))
    assert as_strings(frame, ["s"])[:, 0].tolist() == ["NA", "None", "", "x"]
    missing = float("nan")
    expected = [[1.5, missing, missing, missing], [1, missing, 0, 1], [1, 2, 3, 4]]
    np.testing.assert_array_equal(as_numbers(frame, columns.numbers).T, np.array(expected, dtype=np.float32))


def test_infinity_in_held_out_rows_is_refused() -> None:
    frame = pd.DataFrame({"x": [1.0, float("inf")]})
    with pytest.raises(ArtifactError, match="infinite") as raised:
        require_finite(frame, choose_columns(frame[:1], []))
    assert raised.value.reason == "ColumnUnsupported"
