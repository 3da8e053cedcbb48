"""The worker's part of payload logging: draws requests, and hands their rows with their answers over."""

import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p
from random import random
from typing import Any, Final

from homeostat.server.counting.recorder import Recorder
from homeostat.server.inference.answers import Answers, Outcome
from homeostat.server.inference.model import Model
from homeostat.server.inference.work import Work
from homeostat.server.payloads.channel import Outlet
from homeostat.server.payloads.frames import frame
from homeostat.server.payloads.options import check_columns, options
from homeostat.server.payloads.schema import Schema, write
from homeostat.server.settings import Settings

FINISH_SECONDS: Final = 1.0


class Payloads:
    """Takes each request with probability `share`, all of its rows or none. What finds no room is dropped and counted."""

    def __init__(self, schema: Schema, share: float, outlet: Outlet, recorder: Recorder) -> None:
        self._schema, self._outlet, self._recorder = schema, outlet, recorder
        self._scale = 0.0 if share >= 1 else 1 / log1p(-share)
        self._gap = self._draw()  # requests to let pass before the next one that is taken
        self._said = False

    def _draw(self) -> int:
        """Geometric: as if a coin were thrown for each request, with one throw for each that is taken."""
        return int(log(1.0 - random()) * self._scale)  # noqa: S311  a sample, not a secret

    def take(self, batch: Sequence[Work], joined: Any, outcome: Outcome) -> None:
        """Look at a batch that was answered. Raises nothing."""
        size = len(batch)
        if self._gap >= size:
            self._gap -= size
            return
        slices, tracks = self._drawn(batch)
        rows = sum([n for _, n in slices])
        try:
            one = frame(self._schema, joined, outcome, slices, tracks=tracks, time=time.time())
        except Exception as error:  # noqa: BLE001  what a strange model gives is no reason to fail
            self._recorder.dropped("payload", rows)
            if not self._said:
                self._said = True
                sys.stderr.write(f"payloads: rows of this model cannot be logged: {error}\n")
            return
        if not self._outlet.offer(one):
            self._recorder.dropped("payload", rows)

    def _drawn(self, batch: Sequence[Work]) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """Rows of the requests that are taken, neighbours in one piece; and their tracks, with how many rows each."""
        gap, slices, tracks = self._gap, list[tuple[int, int]](), list[list[int]]()
        start, end = 0, -1
        for work in batch:
            rows = work.rows.count
            if gap:
                gap -= 1
            else:
                gap = self._draw()
                if start == end:
                    slices[-1] = slices[-1][0], slices[-1][1] + rows
                else:
                    slices.append((start, rows))
                if tracks and tracks[-1][0] == work.track:
                    tracks[-1][1] += rows
                else:
                    tracks.append([work.track, rows])
                end = start + rows
            start += rows
        self._gap = gap
        return slices, tracks

    def finish(self) -> None:
        """Hand over the rest before the worker ends, at most `FINISH_SECONDS`."""
        self._outlet.finish(FINISH_SECONDS)


@dataclass(frozen=True, slots=True)
class Way:
    """What worker `number` inherited: descriptors of the socket to the logger and of the memory for the schema."""

    number: int
    socket: int
    schema: int

    def payloads(
        self, loop: asyncio.AbstractEventLoop, settings: Settings, model: Model, answers: Answers, recorder: Recorder
    ) -> Payloads:
        """Tell the logger what the rows are. Raises ArtifactError `PayloadSettings` for a column that is not there."""
        seen = Schema.of(model, answers)
        check_columns(options(settings), [field.name for field in seen.inputs])
        write(self.schema, seen)
        end = socket.socket(fileno=self.socket)
        outlet = Outlet(loop, end, self.number, settings.payload_buffer, lambda n: recorder.dropped("payload", n))
        return Payloads(seen, settings.payload_sample, outlet, recorder)
