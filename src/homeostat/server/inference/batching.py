"""Micro-batching: requests of one loop turn, or within `max_latency`, share one call of the runtime.

Short calls run in the loop. Where a call is expected to take longer than `INLINE_SECONDS` it runs in a thread, and what
arrives meanwhile is the next batch. A call that nobody waits for any more is terminated.
"""

import asyncio
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from math import ceil, inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.server.asked import Answer
from homeostat.server.counting.recorder import FLUSH_ROWS, Recorder
from homeostat.server.inference.answers import Answers
from homeostat.server.inference.model import Model
from homeostat.server.inference.rows import Table
from homeostat.server.inference.watch import WATCH_SECONDS, Watch
from homeostat.server.inference.work import Work
from homeostat.server.payloads.sampling import Payloads
from homeostat.server.problem import Problem
from homeostat.server.settings import Settings
from homeostat.server.tracing.context import trace_id
from homeostat.server.tracing.spans import Spans

INLINE_SECONDS: Final = 0.002
BATCH_SECONDS: Final = 0.05  # a longer batch gains nothing, and all its rows wait for the last one
INLINE_MOST: Final = 0.1  # a call in the loop that takes longer is stopped and begun anew in the thread
SHORT_WAIT: Final = 0.0005  # no deadline is shorter: rows that wait less need no closer look
_RISE: Final = 0.05  # weight of the newest call in the estimate of a row's time, when it took longer:
_FALL: Final = 0.3  # and when it was quicker; slow calls are often others' work on the same core


class _Longer(Exception):  # noqa: N818  no error: the call is only begun again
    """The call takes longer than the loop can wait."""


class Batcher:
    """Collects work and runs it. Its queue is bounded by rows and by the time that a row would wait."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        model: Model,
        answers: Answers,
        recorder: Recorder,
        settings: Settings,
        *,
        payloads: Payloads | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._loop, self._model, self._answers, self._recorder = loop, model, answers, recorder
        self._settings, self._payloads, self._spans = settings, payloads, spans
        self._waiting: list[Work] = []
        self._due_at = inf  # when the next turn is; 0: in the next turn of the loop
        self._watch = Watch()
        self._thread: ThreadPoolExecutor | None = None
        self._running: list[Work] = []  # in the thread now
        self._running_rows, self._running_since = 0, 0.0
        self._row_seconds = model.row_seconds
        self.queued = 0

    def submit(self, work: Work) -> None:
        """Queue the rows. Raises Problem: 413 when they are more than the queue takes, 429 when they would wait too long."""
        count, settings, asked = work.rows.count, self._settings, work.asked
        limit = settings.deadline
        for timeout in (work.timeout, asked.timeout):
            if timeout is not None and timeout < limit:
                limit = timeout
        queued = self.queued + count
        if self._running or queued > settings.max_queue_rows or queued * self._row_seconds > SHORT_WAIT:
            self._admit(count, limit)
        work.expires = asked.arrived + limit
        self.queued = queued
        self._waiting.append(work)
        if settings.max_latency > 0 and queued < settings.max_batch_rows:
            wait = min(settings.max_latency, limit)
            if asked.arrived + wait < self._due_at:
                self._due_at = asked.arrived + wait
                self._loop.call_later(wait, self._turn)
        elif self._due_at:
            self._soon()

    def _soon(self) -> None:
        self._due_at = 0.0
        self._loop.call_soon(self._turn)

    def check_room(self) -> None:
        """Raise Problem 429 when any row would be refused now: before a request is even read."""
        if self._running:
            self._admit(1, self._settings.deadline)

    def _admit(self, count: int, limit: float) -> None:
        """Raise Problem when the queue has no room for these rows, or they could not be answered within `limit` seconds."""
        queued, most = self.queued, self._settings.max_queue_rows
        if count > most:
            raise Problem(413, _too_many(count, most))
        wait = queued * self._row_seconds + self._left()
        if not wait:
            return
        if queued + count > most:
            why, said = "queue", f"{queued} rows are waiting, at most {most} may"
        elif wait > self._settings.max_wait:
            why, said = "wait", f"{queued} rows are waiting, which takes {wait:.1f} s"
        elif wait + count * self._row_seconds > limit:
            why, said = "deadline", f"it could not be answered within {limit:g} s"
        else:
            return
        self._recorder.refused_request(why)
        raise Problem(429, f"{said}: try again later", retry_after=max(1, ceil(wait)))

    def _left(self) -> float:
        """Seconds that the call in the thread still takes."""
        if not self._running:
            return 0.0
        whole = self._running_rows * self._row_seconds
        return max(0.0, whole - (time.monotonic() - self._running_since))

    def _turn(self) -> None:
        """Run what waits, batch by batch; the first long one goes to the thread, whose end is the next turn."""
        self._due_at = inf
        try:
            while self._waiting and not self._running:
                batch = self._living(self._next())
                if batch:
                    self._start(batch)
        finally:
            if self._waiting and not self._running and self._due_at:  # only after a fault of ours
                self._soon()

    def _next(self) -> list[Work]:
        """The oldest work, and what follows and fits into its batch."""
        waiting, limit = self._waiting, self._settings.max_batch_rows
        if self._row_seconds * limit > BATCH_SECONDS:
            limit = max(1, int(BATCH_SECONDS / self._row_seconds))
        rows, key = waiting[0].rows.count, waiting[0].rows.key
        end = 1
        if self._model.batched and not waiting[0].alone:
            for work in waiting[1:]:
                rows += work.rows.count
                if rows > limit or work.alone or work.rows.key != key:
                    break
                end += 1
        batch = waiting[:end]
        del waiting[:end]
        self.queued -= sum([work.rows.count for work in batch])
        return batch

    def _living(self, batch: list[Work]) -> list[Work]:
        """The work that somebody still waits for; what is too late is told so."""
        now = time.monotonic()
        if all(work.expires >= now and not work.asked.gone for work in batch):
            return batch
        living = []
        for work in batch:
            if work.asked.gone:
                _tell(work, Problem(499, "the client is gone"))
            elif work.expires < now:
                self._recorder.refused_request("deadline")
                _tell(work, Problem(504, "its deadline passed before it was begun", retry_after=1))
            else:
                living.append(work)
        return living

    def _start(self, batch: list[Work]) -> None:
        try:
            joined = self._model.join([work.rows for work in batch])
        except Exception as error:  # noqa: BLE001  rows that do not fit together
            self._failed(batch, error)
            return
        if self._row_seconds * joined.count < INLINE_SECONDS:
            found, took = self._call(batch, joined, INLINE_MOST)
            if not isinstance(found, _Longer):
                self._finish(batch, joined, found, took)
                return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "inference")
        self._running, self._running_rows, self._running_since = batch, joined.count, time.monotonic()
        future = self._loop.run_in_executor(self._thread, self._call, batch, joined, self._settings.run_seconds)
        future.add_done_callback(lambda done: self._came_back(batch, joined, done))
        self._loop.call_later(WATCH_SECONDS, self._look_around, batch)

    def _came_back(self, batch: list[Work], joined: Any, done: "asyncio.Future[tuple[Any, float]]") -> None:
        self._running = []
        error = done.exception()
        try:
            if error is None:
                self._finish(batch, joined, *done.result())
            else:
                self._failed(batch, RuntimeError(repr(error)))
        finally:
            self._turn()

    def _look_around(self, batch: list[Work]) -> None:
        """While a call runs in the thread: end it when no client waits for it; tell those in the queue who wait too long."""
        if self._running is not batch:
            return
        if all(work.asked.gone for work in batch):
            self._watch.stop()
        living = self._living(self._waiting)
        if len(living) < len(self._waiting):
            self._waiting[:] = living
            self.queued = sum([work.rows.count for work in living])
        self._loop.call_later(WATCH_SECONDS, self._look_around, batch)

    def _call(self, batch: list[Work], joined: Any, most: float) -> tuple[list[NDArray[Any]] | Exception, float]:
        """The outputs, or what went wrong; and the seconds that it took. In the loop or in the thread. most: seconds."""
        begun = time.monotonic()
        expires = max([work.expires for work in batch])
        options = self._watch.begin(min(begun + most, expires))
        found: list[NDArray[Any]] | Exception
        try:
            found = self._run(joined, options)
        except Exception as error:  # noqa: BLE001  the runtime raises many kinds; the process goes on
            found = error
        took = time.monotonic() - begun
        stopped = self._watch.end()
        if not stopped:  # how long a stopped one would have taken nobody knows
            more = took / joined.count - self._row_seconds
            self._row_seconds += (_RISE if more > 0 and most == INLINE_MOST else _FALL) * more
        if stopped and isinstance(found, Exception):
            if most < self._settings.run_seconds and begun + took < expires:
                return _Longer(), took
            self._recorder.terminated(1)
            found = Problem(504, f"the model did not answer within {took:.1f} s and was stopped")
        return found, took

    def _run(self, joined: Any, options: Any) -> list[NDArray[Any]]:
        limit = self._settings.max_batch_rows
        if joined.count <= limit or not self._model.batched:
            return self._model.run(joined, options)
        places = range(0, joined.count, limit)
        parts = [self._model.run(joined.part(at, min(at + limit, joined.count)), options) for at in places]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _finish(self, batch: list[Work], joined: Any, found: list[NDArray[Any]] | Exception, took: float) -> None:
        count, recorder = joined.count, self._recorder
        if isinstance(found, Exception):
            self._failed(batch, found)
            return
        try:
            outcome = self._answers.outcome(found, count)
            if isinstance(joined, Table):
                recorder.stage(joined.matrix(), joined.strings, outcome.cells, _tracks(batch))
        except Exception as error:  # noqa: BLE001  an output that is not what the file says
            self._failed(batch, error)
            return
        recorder.ran(count, took)
        if recorder.waiting() >= FLUSH_ROWS:
            self._loop.call_soon(recorder.flush_some)
        self._served(batch, count, took)
        start = 0
        for work in batch:
            rows = work.rows.count
            try:
                answer = work.write(outcome, start, rows)
            except Exception as error:  # noqa: BLE001  the others of the batch still get theirs
                _tell(work, _fault(error))
            else:
                _tell(work, answer)
            start += rows
        if self._payloads is not None:
            self._payloads.take(batch, joined, outcome)

    def _served(self, batch: list[Work], rows: int, took: float) -> None:
        """Count the requests that ran."""
        now, track, recorder = time.monotonic(), batch[0].track, self._recorder
        alike = True
        for work in batch:
            if work.track != track or b"traceparent" in work.asked.known:
                alike = False
                break
        if alike:
            recorder.served_together(track, rows, [now - work.asked.arrived for work in batch])
            return
        for work in batch:
            trace = trace_id(work.asked.known.get(b"traceparent", b""))
            recorder.served(work.track, work.rows.count, now - work.asked.arrived, trace)
            if trace and self._spans is not None:
                self._spans.ran(work.asked, work.track, work.rows.count, rows, took)

    def _failed(self, batch: list[Work], error: Exception) -> None:
        """One bad row must not fail the others: each request runs again alone."""
        if isinstance(error, Problem):
            for work in batch:
                _tell(work, Problem(499, "the client is gone") if work.asked.gone else error)
            return
        if len(batch) > 1:
            self._waiting[:0] = batch
            self.queued += sum(work.rows.count for work in batch)
            for work in batch:
                work.alone = True
            self._soon()
            return
        _tell(batch[0], _fault(error))


def _fault(error: Exception) -> Problem:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    sys.stderr.write(f"the model failed on a request: {first}\n")
    return Problem(500, f"the model failed on this request: {first}")


def _tell(work: Work, answer: Answer | Problem) -> None:
    """One request's end; a fault in telling it must not become that of others."""
    try:
        work.done(answer)
    except Exception as error:  # noqa: BLE001
        traceback.print_exception(error)


def _too_many(count: int, most: int) -> str:
    return f"{count} rows in one request; at most {most} are taken: send them in parts"


def _tracks(batch: list[Work]) -> Any:
    """The track of all rows: one number when they agree, else one per row."""
    first = batch[0].track
    if all(work.track == first for work in batch):
        return first
    return np.repeat([work.track for work in batch], [work.rows.count for work in batch]).astype(np.uint8)
