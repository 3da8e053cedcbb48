"""Labels that arrive late: joined to their prediction by what its id says."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import orjson

from homeostat.api.wire.bundle import Signature
from homeostat.api.wire.prediction_id import MAX_KEY, MIN_KEY, PredictionId, Reader, Refusal, mark
from homeostat.errors import ArtifactError
from homeostat.server.counting.recorder import Recorder
from homeostat.server.inference.answers import label_text
from homeostat.server.problem import Problem

HORIZON: Final = 35 * 86400.0
SLICE_SECONDS: Final = 0.002  # a body's labels are counted for so long before others have their turn
MAX_DOCUMENT: Final = 1 << 20  # bytes of one JSON document, or of one line: it is parsed in one go
AHEAD_SECONDS: Final = 300  # clocks of pods may differ by so much
_BOOLEANS: Final = {"true": "true", "1": "true", "1.0": "true", "false": "false", "0": "false", "0.0": "false"}
_FAR: Final = 1e100


@dataclass(frozen=True, slots=True)
class Judged:
    """How a label compares with its prediction. error: value minus label, of a regression; positive: see `Feedback` on the wire."""

    wrong: bool
    squared_error: float
    positive: bool
    error: float = 0.0


def read_key(path: str) -> bytes:
    """The key of prediction ids in that file; none without a path. Raises ArtifactError `FeedbackKeyUnusable`."""
    if not path:
        return b""
    try:
        key = Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(
            "FeedbackKeyUnusable", f"--feedback-key-file: {path} cannot be read: {error.strerror}"
        ) from error
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise ArtifactError(
            "FeedbackKeyUnusable",
            f"--feedback-key-file: {path} has {len(key)} bytes; {MIN_KEY} to {MAX_KEY} are needed",
        )
    return key


class Feedback:
    """Counts labels of one deployment's predictions. key: of their ids, see `prediction_id`; horizon: seconds a label may take."""

    def __init__(
        self, signature: Signature, uid: str, recorder: Recorder, key: bytes = b"", horizon: float = HORIZON
    ) -> None:
        self._signature, self._recorder, self._horizon = signature, recorder, horizon
        self._read = Reader(uid, key).read

    def accept_in_slices(self, body: bytes, done: Callable[[bytes | Problem], None]) -> None:
        """Count all labels of a body, a few thousand at a time; others are served in between.

        `done` hears once how many counted and why others did not, as JSON, or what is wrong with the body: nothing of it
        has then counted. The first slice runs at once, so a short body is answered before this returns.
        """
        try:
            counting = self._counted(entries(body))
        except Problem as problem:
            done(problem)
            return
        self._slice(asyncio.get_running_loop(), counting, {"accepted": 0}, done)

    def _slice(
        self,
        loop: asyncio.AbstractEventLoop,
        counting: Iterator[str],
        sums: dict[str, int],
        done: Callable[[bytes | Problem], None],
    ) -> None:
        end = time.monotonic() + SLICE_SECONDS
        for outcome in counting:
            sums[outcome] = sums.get(outcome, 0) + 1
            if time.monotonic() > end:
                loop.call_soon(self._slice, loop, counting, sums, done)
                return
        done(_said(sums))

    def accept(self, body: bytes) -> bytes:
        """The same in one go, for where nobody else waits. Raises Problem."""
        sums = {"accepted": 0}
        for outcome in self._counted(entries(body)):
            sums[outcome] = sums.get(outcome, 0) + 1
        return _said(sums)

    def _counted(self, found: Iterator[Any]) -> Iterator[str]:
        """What became of each label: `accepted`, or why it counts for nothing."""
        now = time.time()
        for entry in found:
            why = self._count(entry, now)
            if why:
                self._recorder.refused(why)
            yield why or "accepted"

    def _prediction(self, entry: Any, now: float) -> PredictionId | str:
        """The prediction that an entry is about, or why it counts for nothing. Total."""
        if type(entry) is not dict or type(entry.get("id")) is not str or entry.get("label") is None:
            return "malformed"
        found = self._read(entry["id"])
        if isinstance(found, Refusal):
            return found.value
        if found.time > now + AHEAD_SECONDS:
            return "damaged"
        return "late" if found.time < now - self._horizon else found

    def _count(self, entry: Any, now: float) -> str:
        """Count one `{"id", "label"}`; why it counts for nothing, else empty. Total."""
        found = self._prediction(entry, now)
        if isinstance(found, str):
            return found
        judged = compare(found, entry["label"], self._signature)
        if judged is None:
            return "label"
        if not self._recorder.seen.add(found.serial):
            return "duplicate"
        self._recorder.labelled(
            found.version,
            wrong=judged.wrong,
            squared_error=judged.squared_error,
            error=judged.error,
            cell=found.cell,
            positive=judged.positive,
        )
        return ""


def _said(sums: dict[str, int]) -> bytes:
    refused = {why: count for why, count in sums.items() if why != "accepted"}
    return orjson.dumps({"accepted": sums["accepted"], "refused": refused})


def compare(found: PredictionId, label: Any, signature: Signature) -> Judged | None:
    """A label against its prediction; None when it is none of this model's. Total."""
    if not isfinite(found.score):
        return None
    if signature.task == "regression":
        return None if isinstance(label, bool) or not isinstance(label, int | float) else _apart(found.score, label)
    if isinstance(label, list | dict):
        return None
    text = _text(label, signature)
    if signature.labels and text not in signature.labels:
        return None
    right = mark(text) == found.label_mark
    positive = text == signature.labels[-1] if signature.task == "binary" and signature.labels else right
    return Judged(wrong=not right, squared_error=(found.score - positive) ** 2, positive=positive)


def _apart(value: float, label: float) -> Judged | None:
    """None where it would spoil a sum: not finite, or too far apart to be an error of a model."""
    try:
        error = value - label
    except OverflowError:  # a whole number beyond any float
        return None
    if not isfinite(error) or abs(error) >= _FAR:
        return None
    return Judged(wrong=False, squared_error=error * error, positive=label > value, error=error)


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
    """The labels of a body: `{"labels": […]}`, or JSON lines with one object each. Raises Problem, before the first one."""
    lines = _lines(body)
    first = next(lines, None)
    if first is None:
        raise Problem(
            400, 'the body is empty; expected {"labels": [{"id": …, "label": …}]} or one such object per line'
        )
    whole, alone = _parsed(first), next(lines, None) is None
    if isinstance(whole, ValueError):
        if not alone and len(body) <= MAX_DOCUMENT:
            whole = _parsed(body)  # one document over several lines, or else lines of which the first is none
        elif alone or len(body) > MAX_DOCUMENT:
            raise Problem(413 if len(first) > MAX_DOCUMENT else 400, f"the body's first line is not JSON: {whole}")
    if isinstance(whole, dict) and "id" not in whole:
        labels = whole.get("labels")
        if not isinstance(labels, list):
            raise Problem(400, '`labels` must be a list of {"id": …, "label": …}')
        return iter(labels)
    return map(_parsed, _lines(body))


def _parsed(text: bytes) -> Any:
    """The value; a ValueError, which is no label, when it is no JSON or too long to be parsed in one go."""
    if len(text) > MAX_DOCUMENT:
        return ValueError(
            f"{len(text)} bytes, at most {MAX_DOCUMENT} are taken in one document: send one label per line"
        )
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return error


def _lines(body: bytes) -> Iterator[bytes]:
    """Lines that are not blank, one at a time: a long body is not split at once."""
    start, size = 0, len(body)
    while start < size:
        end = body.find(b"\n", start)
        end = size if end < 0 else end
        line = body[start:end]
        if line.strip():
            yield line
        start = end + 1
