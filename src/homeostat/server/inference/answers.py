"""What a batch gave: outputs by row, with the score cell and the prediction id of each; as JSON written only once."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Signature
from homeostat.api.wire.prediction_id import Mint, mark
from homeostat.server.counting.recorder import Recorder
from homeostat.server.inference.given import show
from homeostat.server.inference.graph import NUMPY, Graph
from homeostat.server.inference.model import Model
from homeostat.server.life.bundle import PROBABILITY_CELLS
from homeostat.server.problem import Problem

LABEL_TYPES: Final = {"integer": "INT64", "boolean": "BOOL", "string": "BYTES", "number": "FP64"}
_LAST_CELL: Final = 0x7FFF  # what the staging ring holds


@dataclass(frozen=True, slots=True)
class Output:
    """One output as clients see it. place: which of the model's outputs; label: shown as the signature writes labels."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    place: int
    label: bool = False


class Outcome:
    """One batch's predictions. values: per output an array whose first axis are the rows; labels are lists of Python values.

    ids: ASCII texts by row. cells: score cells by row. whole: of a model that runs one request at a time, whose outputs may
    have another number of rows than its inputs: a request's answer is all of it.
    """

    __slots__ = ("_answers", "_lines", "_texts", "cells", "count", "ids", "labels", "values", "whole")

    def __init__(self, answers: "Answers", values: list[NDArray[Any]], count: int) -> None:
        self._answers, self.values, self.count = answers, values, count
        self.whole = not answers.batched
        self.labels: list[tuple[bytes, int]] = []
        self.ids: list[bytes] = []
        self.cells: list[int] = []
        self._texts: list[list[bytes] | None] = [None] * len(answers.outputs)
        self._lines: list[tuple[bytes, ...]] | None = None

    @property
    def lines(self) -> list[tuple[bytes, ...]]:
        """By row: its id, and the JSON of each output."""
        if self._lines is None:
            self._lines = list(zip(self.ids, *[self.texts(place) for place in self._answers.all], strict=True))
        return self._lines

    def texts(self, place: int) -> list[bytes]:
        """JSON of one output by row: the row's values, flat, without brackets."""
        found = self._texts[place]
        if found is None:
            found = self._texts[place] = self._written(self._answers.outputs[place])
        return found

    def _written(self, output: Output) -> list[bytes]:
        if output.label:
            return [label[0] for label in self.labels]
        values = self.values[output.place]
        count = self.count
        if self.whole:
            count = len(values) if values.ndim else 1
        if not values.size:
            return [b""] * count
        if values.dtype == object:
            rows = values.reshape(count, -1).tolist()
            return [orjson.dumps([_text(v) for v in row])[1:-1] for row in rows]
        flat = np.ascontiguousarray(values.reshape(count, -1))
        return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")

    def shape(self, place: int, count: int) -> list[int]:
        """Shape of `count` rows of one output."""
        output = self._answers.outputs[place]
        values = self.values[output.place]
        return list(values.shape) if self.whole else [count, *values.shape[1:]]

    def part(self, place: int, start: int, count: int) -> NDArray[Any]:
        """The values of `count` rows of one output, in its datatype."""
        output = self._answers.outputs[place]
        values = self.values[output.place]
        if output.label:
            labels = self.labels if self.whole else self.labels[start : start + count]
            return np.array([orjson.loads(label[0]) for label in labels], dtype=NUMPY[output.datatype])
        return values if self.whole else values[start : start + count]

    def data(self, place: int, start: int, count: int) -> bytes:
        """JSON of `count` rows of one output, flat, without brackets."""
        if not self.values[self._answers.outputs[place].place].size:
            return b""
        texts = self.texts(place)
        return b",".join(texts if self.whole else texts[start : start + count])


def label_text(value: Any, label_type: str) -> str:
    """The label that the graph gives, as the signature writes it."""
    if label_type == "boolean":
        return "true" if str(value).lower() in {"true", "1", "1.0"} else "false"
    return str(value)


class Answers:
    """Judges the outputs of one model version. named: the bundle had a signature, so outputs have our names, not the graph's."""

    def __init__(
        self,
        name: str,
        version: str,
        mint: Mint,
        model: Model,
        recorder: Recorder,
        *,
        named: bool,
    ) -> None:
        signature, graph = model.signature, model.graph
        self.signature, self.named, self.batched, self._recorder = signature, named, model.batched, recorder
        self._mint = mint.mint
        self.name, self.version = name, version
        self._known: dict[Any, tuple[bytes, int]] = {}
        wanted = [n for n in (signature.label_output, signature.score_output) if n]
        self._label_place = 0 if signature.label_output else -1
        self._score_place = len(wanted) - 1 if signature.score_output else -1
        self.outputs = _named(signature) if named else _as_graph(graph, wanted if signature.columns else [])
        if not named and not signature.columns:  # the model's outputs are the graph's, in its order
            names = [port.name for port in graph.outputs]
            self._label_place = names.index(signature.label_output) if signature.label_output else -1
            self._score_place = names.index(signature.score_output) if signature.score_output else -1
        self.all = tuple(range(len(self.outputs)))

    def outcome(self, values: list[NDArray[Any]], count: int) -> Outcome:
        """All that the requests of this batch need."""
        outcome = Outcome(self, values, count)
        if outcome.whole and any(len(values[at]) != count for at in (self._label_place, self._score_place) if at >= 0):
            outcome.ids = [self._mint(int(time.time()), nan, 0, 0) for _ in range(count)]
            outcome.cells = [0] * count
            return outcome
        scores, cells = self._judged(values, count)
        marks = [0] * count
        if self._label_place >= 0:
            known = self._known
            outcome.labels = [known.get(v) or self._learn(v) for v in values[self._label_place].ravel().tolist()]
            marks = [label[1] for label in outcome.labels]
        now, mint = int(time.time()), self._mint
        outcome.ids = [mint(now, v, m, min(c, 255)) for v, m, c in zip(scores, marks, cells, strict=False)]
        outcome.cells = cells
        return outcome

    def _judged(self, outputs: list[NDArray[Any]], count: int) -> tuple[list[float], list[int]]:
        """Per row the number that feedback is compared with, and its cell."""
        if self._score_place < 0:
            return [nan] * count, [0] * count
        scores = outputs[self._score_place]
        if scores.ndim != 2:
            scores = scores.reshape(len(scores), -1)
        task = self.signature.task
        if task == "multiclass":
            return scores.max(axis=1).tolist(), np.minimum(scores.argmax(axis=1), _LAST_CELL).tolist()
        if task == "regression":
            values: list[float] = scores[:, 0].tolist()
            cell = self._recorder.score_cell
            return values, [min(cell(v), _LAST_CELL) if isfinite(v) else 0 for v in values]
        values = scores[:, -1].tolist()
        last = PROBABILITY_CELLS - 1
        return values, [min(max(int(v * PROBABILITY_CELLS), 0), last) if isfinite(v) else 0 for v in values]

    def _learn(self, label: Any) -> tuple[bytes, int]:
        text = label_text(label, self.signature.label_type)
        shown = text.encode() if self.signature.label_type == "boolean" else orjson.dumps(label)
        found = shown, mark(text)
        if len(self._known) < 4096:
            self._known[label] = found
        return found

    def place(self, name: Any) -> int:
        """Which output has this name. Raises Problem."""
        found = next((i for i, output in enumerate(self.outputs) if output.name == name), None)
        if found is None:
            names = ", ".join(output.name for output in self.outputs)
            raise Problem(
                400, f"unknown output {repr(name[:100]) if type(name) is str else show(name)}; this model gives {names}"
            )
        return found


def minter(uid: str, version: str, key: bytes = b"") -> Mint:
    """Ids of this process; signed when there is a key."""
    return Mint(uid, version, int.from_bytes(os.urandom(8), "big"), key)


def _named(signature: Signature) -> tuple[Output, ...]:
    """`label`, and `probabilities` or `score`."""
    width = len(signature.labels) or (1 if signature.task == "regression" else -1)
    score = "score" if signature.task == "regression" else "probabilities"
    outputs = []
    if signature.label_output:
        outputs.append(Output("label", LABEL_TYPES[signature.label_type], (-1,), 0, label=True))
    outputs.append(Output(score, "FP32", (-1, width), len(outputs)))
    return tuple(outputs)


def _as_graph(graph: Graph, order: Sequence[str]) -> tuple[Output, ...]:
    """The graph's own. order: in which the model gives them, when that is not the graph's."""
    places = {name: i for i, name in enumerate(order or [port.name for port in graph.outputs])}
    ports = [port for port in graph.outputs if port.name in places]
    return tuple(Output(p.name, p.datatype, tuple(p.shown), places[p.name]) for p in ports)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
