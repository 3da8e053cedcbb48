"""Micro-batching: requests of one loop turn, or within `max_latency`, share one call of the runtime.

Short calls run in the loop. Where a call is expected to take longer than `INLINE_SECONDS` it runs in a thread, and what
arrives meanwhile is the next batch. A call that nobody waits for any more is terminated.
"""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from homeostat.server.counting.recorder import FLUSH_ROWS, Recorder
from homeostat.server.inference.answers import Answers
from homeostat.server.inference.model import Model
from homeostat.server.inference.rows import Table
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
WATCH_SECONDS: Final = 0.05
_RISE: Final = 0.05  # weight of the newest call in the estimate of a row's time, when it took longer:
_FALL: Final = 0.3  # and when it was quicker; slow calls are often others' work on the same core


class _Longer(Exception):  # noqa: N818  no error: the call is only begun again
    """The call takes longer than the loop can wait."""


class Watch:
    """Terminates calls of the runtime that are past their limit, from a thread of its own: the loop may be inside one."""

    def __init__(self) -> None:
        self._limit = float("inf")
        self._options = _options()
        thread = threading.Thread(target=self._look, name="watch", daemon=True)
        thread.start()

    def begin(self, limit: float) -> Any:
        """A call begins; `limit` in monotonic seconds. Returns its `RunOptions`."""
        if self._options.terminate:
            self._options = _options()
        self._limit = limit
        return self._options

    def end(self) -> bool:
        """The call ended. Whether it was terminated."""
        self._limit = float("inf")
        return bool(self._options.terminate)

    def stop(self) -> None:
        """End the running call."""
        self._options.terminate = True

    def _look(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            if time.monotonic() > self._limit:
                self._options.terminate = True


def _options() -> Any:
    made = ort.RunOptions()
    made.log_severity_level = 4  # what a request did wrong is in its answer
    return made


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
        self._due = False
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
        timeout = work.timeout if work.timeout is not None else asked.timeout
        if timeout is not None and timeout < limit:
            limit = timeout
        queued = self.queued + count
        if self._running or queued > settings.max_queue_rows or queued * self._row_seconds > SHORT_WAIT:
            self._admit(count, limit)
        work.expires = asked.arrived + limit
        self.queued = queued
        self._waiting.append(work)
        if self._due:
            return
        self._due = True
        if settings.max_latency > 0:
            self._loop.call_later(settings.max_latency, self._turn)
        else:
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
        self._due = False
        while self._waiting and not self._running:
            batch = self._living(self._next())
            if batch:
                self._start(batch)

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
                work.done(Problem(499, "the client is gone"))
            elif work.expires < now:
                self._recorder.refused_request("deadline")
                work.done(Problem(504, "its deadline passed before it was begun", retry_after=1))
            else:
                living.append(work)
        return living

    def _start(self, batch: list[Work]) -> None:
        joined = self._model.join([work.rows for work in batch])
        if self._row_seconds * joined.count < INLINE_SECONDS:
            found, took = self._call(batch, joined, INLINE_MOST)
            if not isinstance(found, _Longer):
                self._finish(batch, joined, found, took)
                return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "inference")
        self._running, self._running_rows, self._running_since = batch, joined.count, time.monotonic()
        future = self._loop.run_in_executor(self._thread, self._call, batch, joined, self._settings.run_seconds)
        future.add_done_callback(lambda done: self._came_back(batch, joined, done.result()))
        self._loop.call_later(WATCH_SECONDS, self._check_gone, batch)

    def _came_back(self, batch: list[Work], joined: Any, result: tuple[Any, float]) -> None:
        self._running = []
        self._finish(batch, joined, *result)
        self._turn()

    def _check_gone(self, batch: list[Work]) -> None:
        """A call that no client waits for any more is ended."""
        if self._running is not batch:
            return
        if all(work.asked.gone for work in batch):
            self._watch.stop()
        else:
            self._loop.call_later(WATCH_SECONDS, self._check_gone, batch)

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
        if joined.count <= limit:
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
        except Exception as error:  # noqa: BLE001  an output that is not what the file says
            self._failed(batch, error)
            return
        recorder.ran(count, took)
        if isinstance(joined, Table):
            recorder.stage(joined.matrix(), joined.strings, outcome.cells, _tracks(batch))
            if recorder.waiting() >= FLUSH_ROWS:
                self._loop.call_soon(recorder.flush_some)
        self._served(batch, count, took)
        start = 0
        for work in batch:
            rows = work.rows.count
            work.done(work.write(outcome, start, rows))
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
                work.done(error)
            return
        if len(batch) > 1:
            self._waiting[:0] = batch
            self.queued += sum(work.rows.count for work in batch)
            for work in batch:
                work.alone = True
            self._loop.call_soon(self._turn)
            return
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        sys.stderr.write(f"the model failed on a request: {first}\n")
        batch[0].done(Problem(500, f"the model failed on this request: {first}"))


def _too_many(count: int, most: int) -> str:
    return f"{count} rows in one request; at most {most} are taken: send them in parts"


def _tracks(batch: list[Work]) -> Any:
    """The track of all rows: one number when they agree, else one per row."""
    first = batch[0].track
    if all(work.track == first for work in batch):
        return first
    return np.repeat([work.track for work in batch], [work.rows.count for work in batch]).astype(np.uint8)
