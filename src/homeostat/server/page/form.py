"""The form of one model: what a person fills in, with values that make sense, and how the answer is to be read. Pure."""

from typing import Any, Final

import numpy as np

from homeostat.api.wire.bundle import Baseline, Column, FeatureBaseline
from homeostat.server.inference.answers import Answers
from homeostat.server.inference.examples import values_of
from homeostat.server.inference.model import Model
from homeostat.server.inference.tensors import Tensors

MOST_FIELDS: Final = 300  # columns; a wider row is written as JSON
MOST_VALUES: Final = 2000  # of an example tensor; a larger one is made in the browser
Json = dict[str, Any]


def form_of(model: Model, answers: Answers, baseline: Baseline | None) -> Json:
    """`way`: how inputs are made: `columns` (one input each), `matrix` (one row of one input), `tensors` (as they are).

    fields: name, kind and example values of each column; tensors: name, datatype, shape and example of each input.
    """
    signature = model.signature
    form: Json = {"task": signature.task, "result": _result(answers), "fields": [], "tensors": []}
    if not signature.columns:
        form["way"] = "tensors"
        form["tensors"] = _tensors(model)
        return form
    seen = {feature.name: feature for feature in baseline.features} if baseline else {}
    form["way"] = "columns" if answers.named else "matrix"
    form["input"] = "" if answers.named else model.graph.inputs[0].name
    form["as_text"] = len(signature.columns) > MOST_FIELDS
    form["fields"] = [_field(column, seen.get(column.name)) for column in signature.columns]
    return form


def _result(answers: Answers) -> Json:
    """Names of the outputs with label and scores, empty without; and what a label may be."""
    signature = answers.signature
    label, scores = signature.label_output, signature.score_output
    if answers.named:
        label = "label" if label else ""
        scores = "score" if signature.task == "regression" else "probabilities"
    return {
        "label": label,
        "scores": scores,
        "labels": signature.labels,
        "label_type": signature.label_type,
        "feedback": bool(scores),
    }


def _field(column: Column, seen: FeatureBaseline | None) -> Json:
    """values: the first is shown, the others are for another row."""
    values = values_of(column.type, seen)
    return {"name": column.name, "kind": column.type, "values": values, "seen": seen is not None}


def _tensors(model: Model) -> list[Json]:
    """Each input with an example: rows that the model was tried on. Large ones have none: `data` is then null."""
    example = model.example(1)
    assert isinstance(example, Tensors)  # a model without columns takes nothing else
    arrays = example.arrays
    found = []
    for port, array in zip(model.graph.inputs, arrays, strict=True):
        whole = array.astype(np.float64).round(3) if np.issubdtype(array.dtype, np.floating) else array
        data = whole.ravel().tolist() if array.size <= MOST_VALUES else None
        found.append(
            {
                "name": port.name,
                "datatype": port.datatype,
                "shape": list(array.shape),
                "takes": port.shown,
                "data": data,
            }
        )
    return found
