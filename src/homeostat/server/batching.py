"""Micro-batching: requests of one loop turn, or within `max_latency`, share one call of the runtime."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from homeostat.server.answers import Answers
from homeostat.server.model import Model
from homeostat.server.problem import Problem
from homeostat.server.recorder import Recorder
from homeostat.server.rows import Rows
from homeostat.server.settings import Settings

Done = Callable[[bytes | Problem], None]


@dataclass(frozen=True, slots=True)
class Work:
    """One request's rows. arrived: monotonic seconds. id_: JSON. done: called once with the answer's body or a problem."""

    rows: Rows
    track: int
    arrived: float
    id_: bytes
    wanted: Sequence[str]
    done: Done


class Batcher:
    """Collects work and runs it. Its queue is bounded by rows."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, model: Model, answers: Answers, recorder: Recorder, settings: Settings
    ) -> None:
        self._loop, self._model, self._answers, self._recorder = loop, model, answers, recorder
        self._settings = settings
        self._width = sum(c.type == "number" for c in model.signature.columns)
        self._waiting: list[Work] = []
        self._due = False
        self.queued = 0

    def submit(self, work: Work) -> None:
        """Queue the rows. Raises Problem 429 when the queue is full, 413 when they alone are more than it takes."""
        count, most = work.rows.count, self._settings.max_queue_rows
        if self.queued + count > most:
            if count > most:
                raise Problem(413, f"{count} rows in one request; at most {most} are taken: send them in parts")
            raise Problem(429, f"{self.queued} rows are waiting, at most {most} may: try again later", retry_after=1)
        self.queued += count
        self._waiting.append(work)
        if self._due:
            return
        self._due = True
        if self._settings.max_latency > 0:
            self._loop.call_later(self._settings.max_latency, self._run_all)
        else:
            self._loop.call_soon(self._run_all)

    def _run_all(self) -> None:
        waiting, self._waiting, self._due = self._waiting, [], False
        batch: list[Work] = []
        rows, limit = 0, self._settings.max_batch_rows
        for work in waiting:
            if batch and rows + work.rows.count > limit:
                self._run(batch)
                batch, rows = [], 0
            batch.append(work)
            rows += work.rows.count
        self._run(batch)

    def _run(self, batch: list[Work]) -> None:
        oldest = time.monotonic() - self._settings.deadline
        self.queued -= sum(work.rows.count for work in batch)
        if batch[0].arrived < oldest:
            late = Problem(504, f"not begun within the deadline of {self._settings.deadline:g} s", retry_after=1)
            for work in batch:
                if work.arrived < oldest:
                    work.done(late)
            batch = [work for work in batch if work.arrived >= oldest]
        if batch:
            self._predict(batch)

    def _predict(self, batch: list[Work]) -> None:
        rows = [work.rows for work in batch]
        if len(rows) == 1:
            packed, strings = rows[0].numbers, rows[0].strings
        else:
            packed, strings = b"".join([r.numbers for r in rows]), [s for r in rows for s in r.strings]
        numbers = np.frombuffer(packed, np.float32).reshape(len(strings), self._width)
        begun = time.monotonic()
        try:
            predicted = self._model.predict(numbers, strings)
            took = time.monotonic() - begun
            pieces = self._answers.pieces(predicted)
        except Exception as error:  # noqa: BLE001  the runtime raises many kinds; the process goes on
            self._failed(batch, error)
            return
        recorder = self._recorder
        recorder.ran(len(strings), took)
        recorder.stage(numbers, strings, pieces.cells, _tracks(batch))
        now, start = time.monotonic(), 0
        for work in batch:
            count = work.rows.count
            recorder.served(work.track, count, now - work.arrived)
            body = self._answers.body(pieces, start, count, work.id_, work.wanted)
            start += count
            work.done(body)

    def _failed(self, batch: list[Work], error: Exception) -> None:
        """One bad row must not fail the others: each request runs again alone."""
        if len(batch) > 1:
            for work in batch:
                self._predict([work])
            return
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        sys.stderr.write(f"the model failed on a request: {first}\n")
        batch[0].done(Problem(500, f"the model failed on this request: {first}"))


def _tracks(batch: list[Work]) -> Any:
    """The track of all rows: one number when they agree, else one per row."""
    first = batch[0].track
    if all(work.track == first for work in batch):
        return first
    return np.repeat([work.track for work in batch], [work.rows.count for work in batch]).astype(np.uint8)
