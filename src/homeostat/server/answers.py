"""Predictions of a batch as pieces of JSON, cut per request without encoding anything twice."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Signature
from homeostat.api.wire.prediction_id import Mint, mark
from homeostat.server.bundle import PROBABILITY_CELLS
from homeostat.server.model import Predicted
from homeostat.server.problem import Problem
from homeostat.server.recorder import Recorder

DATATYPES: Final = {"integer": b"INT64", "boolean": b"BOOL", "string": b"BYTES", "number": b"FP64"}


@dataclass(frozen=True, slots=True)
class Pieces:
    """A batch's rows as JSON: label, scores and id of each; and the score cell of each."""

    labels: list[bytes]
    scores: list[bytes]
    ids: list[bytes]
    cells: list[int]


def label_text(value: Any, label_type: str) -> str:
    """The label that the graph gives, as the signature writes it."""
    if label_type == "boolean":
        return "true" if str(value).lower() in {"true", "1", "1.0"} else "false"
    return str(value)


class Answers:
    """Writes answers of one model version."""

    def __init__(self, name: str, version: str, uid: str, signature: Signature, recorder: Recorder) -> None:
        self._signature, self._recorder = signature, recorder
        self._mint = Mint(uid, version, int.from_bytes(os.urandom(4), "big") << 32).mint
        self._head = b'{"model_name":%b,"model_version":%b' % (orjson.dumps(name), orjson.dumps(version))
        self._known: dict[Any, tuple[bytes, int]] = {}
        self._datatype = DATATYPES[signature.label_type]
        self.outputs = (["label"] if signature.label_output else []) + [self.score_name]

    @property
    def score_name(self) -> str:
        """Name of the output with the scores."""
        return "score" if self._signature.task == "regression" else "probabilities"

    def pieces(self, predicted: Predicted) -> Pieces:
        """All that the requests of this batch need."""
        scores = predicted.scores.astype(np.float32, copy=False)
        texts = orjson.dumps(np.ascontiguousarray(scores), option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
        values, cells = self._judged(scores)
        now = int(time.time())
        known = self._known
        labels, marks = [], []
        for label in predicted.labels:
            found = known.get(label) or self._learn(label)
            labels.append(found[0])
            marks.append(found[1])
        marks = marks or [0] * len(values)
        mint = self._mint
        ids = [mint(now, v, m, min(c, 255)) for v, m, c in zip(values, marks, cells, strict=True)]
        return Pieces(labels, texts, ids, [min(c, 0x7FFF) for c in cells])

    def _judged(self, scores: NDArray[np.float32]) -> tuple[list[float], list[int]]:
        """Per row the number that feedback is compared with, and its cell."""
        task = self._signature.task
        if task == "multiclass":
            return scores.max(axis=1).tolist(), scores.argmax(axis=1).tolist()
        if task == "regression":
            values: list[float] = scores[:, 0].tolist()
            cell = self._recorder.score_cell
            return values, [cell(v) if isfinite(v) else 0 for v in values]
        values = scores[:, -1].tolist()
        last = PROBABILITY_CELLS - 1
        return values, [min(max(int(v * PROBABILITY_CELLS), 0), last) if isfinite(v) else 0 for v in values]

    def _learn(self, label: Any) -> tuple[bytes, int]:
        text = label_text(label, self._signature.label_type)
        shown = text.encode() if self._signature.label_type == "boolean" else orjson.dumps(label)
        found = shown, mark(text)
        if len(self._known) < 4096:
            self._known[label] = found
        return found

    def body(self, pieces: Pieces, start: int, count: int, id_: bytes, wanted: Sequence[str]) -> bytes:
        """The answer for rows start … start + count. id_: the request's as JSON, or empty. wanted: names of outputs."""
        end = start + count
        ids = b'","'.join(pieces.ids[start:end])
        outputs = []
        if pieces.labels and "label" in wanted:
            labels = b",".join(pieces.labels[start:end])
            outputs.append(
                b'{"name":"label","datatype":"%b","shape":[%d],"data":[%b]}' % (self._datatype, count, labels)
            )
        if self.score_name in wanted:
            scores = b",".join(pieces.scores[start:end])
            width = pieces.scores[start].count(b",") + 1
            name = self.score_name.encode()
            outputs.append(
                b'{"name":"%b","datatype":"FP32","shape":[%d,%d],"data":[%b]}' % (name, count, width, scores)
            )
        id_ = b',"id":' + id_ if id_ else b""
        return b'%b%b,"parameters":{"prediction_ids":["%b"]},"outputs":[%b]}' % (
            self._head,
            id_,
            ids,
            b",".join(outputs),
        )

    def wanted(self, outputs: Any) -> Sequence[str]:
        """Names of requested outputs; all when none are named. Raises Problem."""
        if not outputs:
            return self.outputs
        if type(outputs) is not list:
            raise Problem(400, "`outputs` must be a list of objects with `name`")
        names: list[str] = []
        for output in outputs:
            name = output.get("name") if type(output) is dict else None
            if name not in self.outputs:
                raise Problem(400, f"unknown output {str(name)[:100]!r}; this model gives {', '.join(self.outputs)}")
            names.append(name)
        return names
