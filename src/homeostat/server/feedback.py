"""Labels that arrive late: joined to their prediction by what its id says."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import orjson

from homeostat.api.wire.bundle import Signature
from homeostat.api.wire.prediction_id import PredictionId, Refusal, mark, read
from homeostat.server.answers import label_text
from homeostat.server.problem import Problem
from homeostat.server.recorder import Recorder

_BOOLEANS: Final = {"true": "true", "1": "true", "1.0": "true", "false": "false", "0": "false", "0.0": "false"}

_FAR: Final = 1e100


@dataclass(frozen=True, slots=True)
class Judged:
    """How a label compares with its prediction."""

    version: str
    wrong: bool
    squared_error: float


def judge(entry: Any, signature: Signature, uid: str) -> Judged | str:
    """One `{"id", "label"}` against its prediction, or why it counts for nothing. Total."""
    if type(entry) is not dict or type(entry.get("id")) is not str or entry.get("label") is None:
        return "malformed"
    found = read(entry["id"], uid)
    if isinstance(found, Refusal):
        return found.value
    return _compare(found, entry["label"], signature)


def _compare(found: PredictionId, label: Any, signature: Signature) -> Judged | str:
    if not isfinite(found.score):
        return "label"
    if signature.task == "regression":
        error = None if isinstance(label, bool) or not isinstance(label, int | float) else _square(found.score, label)
        return "label" if error is None else Judged(found.version, wrong=False, squared_error=error)
    text = _text(label, signature)
    if signature.labels and text not in signature.labels:
        return "label"
    right = mark(text) == found.label_mark
    if signature.task == "binary" and signature.labels:
        return Judged(found.version, wrong=not right, squared_error=(found.score - (text == signature.labels[-1])) ** 2)
    return Judged(found.version, wrong=not right, squared_error=(found.score - right) ** 2)


def _square(a: float, b: float) -> float | None:
    """(a - b)²; None where it would spoil a sum: not finite, or too far apart to be an error of a model."""
    apart = a - b
    return apart * apart if isfinite(apart) and abs(apart) < _FAR else None


def _text(label: Any, signature: Signature) -> str:
    if (
        signature.label_type == "integer"
        and isinstance(label, bool | float)
        and isfinite(label)
        and label == int(label)
    ):
        return str(int(label))
    if signature.label_type == "boolean":
        return _BOOLEANS.get(str(label).lower(), "")
    return label_text(label, signature.label_type)


def entries(body: bytes) -> Iterator[Any]:
    """The labels of a body: `{"labels": […]}`, or JSON lines with one object each. Raises Problem."""
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        whole = None
    if isinstance(whole, dict) and "id" not in whole:
        labels = whole.get("labels")
        if not isinstance(labels, list):
            raise Problem(400, '`labels` must be a list of {"id": …, "label": …}')
        yield from labels
        return
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines:
        raise Problem(
            400, 'the body is empty; expected {"labels": [{"id": …, "label": …}]} or one such object per line'
        )
    for number, line in enumerate(lines, 1):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if len(lines) == 1:
                raise Problem(400, f"the body is not JSON: {error}") from None
            yield f"line {number} is not JSON"  # counted as malformed


def accept(body: bytes, signature: Signature, uid: str, recorder: Recorder) -> bytes:
    """Count all labels of a body; the answer says how many counted and why others did not. Raises Problem."""
    accepted, refused = 0, dict[str, int]()
    for judged in [judge(entry, signature, uid) for entry in entries(body)]:  # all before the first one counts
        if isinstance(judged, str):
            refused[judged] = refused.get(judged, 0) + 1
            recorder.refused(judged)
        else:
            accepted += 1
            recorder.labelled(judged.version, wrong=judged.wrong, squared_error=judged.squared_error)
    return orjson.dumps({"accepted": accepted, "refused": refused})
