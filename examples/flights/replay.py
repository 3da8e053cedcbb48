"""The users: rows of the year sent to the front Service in time order, their labels some seconds later."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import aiohttp
import orjson
import pandas as pd
from examples.flights.cluster import Trouble
from examples.flights.dataset import TARGET
from examples.flights.year import Place, Year

RATE: Final = 300  # rows a second, one a request
CONNECTIONS: Final = 12
LABEL_SECONDS: Final = 3.0  # labels are that late: some days of the replayed year
TICK: Final = 0.05
LOOK: Final = "look at: .local/bin/kubectl --kubeconfig .local/kubeconfig -n flights describe md flights"
TIMEOUT: Final = 10.0
KEPT_FAILURES: Final = 5
JSON: Final = {"content-type": "application/json"}


@dataclass(slots=True)
class Seen:
    """What the client saw. A request fails when its answer is not 200 or does not come; nothing is tried again.

    Columns of equal length, an entry a row that was answered: month, row, version, score (P late), late, seconds.
    answers: rows by version. first, last: when a version answered first and last.
    """

    months: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    first: dict[str, datetime] = field(default_factory=dict)
    last: dict[str, datetime] = field(default_factory=dict)
    requests: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    labels: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def answered(self, place: Place, answer: Any, late: int, took: float) -> str:
        """Note one answer; returns the prediction's id."""
        version = str(answer["model_version"])
        score = next(o["data"][-1] for o in answer["outputs"] if o["name"] == "probabilities")
        now = datetime.now(UTC)
        self.first.setdefault(version, now)
        self.last[version] = now
        self.answers[version] += 1
        self.months.append(place.month)
        self.rows.append(place.row)
        self.versions.append(version)
        self.scores.append(float(score))
        self.late.append(late)
        self.seconds.append(took)
        return str(answer["parameters"]["prediction_ids"])

    def fail(self, what: str) -> None:
        """Note one request that failed."""
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(what[:300])

    def frame(self) -> pd.DataFrame:
        """The answered rows."""
        return pd.DataFrame({
            "month": self.months, "row": self.rows, "version": self.versions, "score": self.scores,
            "late": self.late, "seconds": self.seconds,
        })  # fmt: skip


class Replay:
    """Sends the year's rows at a steady rate until it is told to stop.

    url: of the front Service. months: the rows of each month in time order. The year's clock is driven by what is sent:
    when the servers fall behind it slows down instead of piling up requests.
    """

    def __init__(self, url: str, model: str, months: dict[int, pd.DataFrame], year: Year, rate: int = RATE) -> None:
        self._url, self._model, self._months, self._year, self._rate = url, model, months, year, rate
        self._queue: asyncio.Queue[tuple[Place, bytes, int]] = asyncio.Queue()
        self._due: deque[tuple[float, str, int]] = deque()
        self._stopping = False
        self.seen = Seen()

    def stop(self) -> None:
        """No further rows; `run` returns when all labels are delivered."""
        self._stopping = True

    async def run(self) -> None:
        """Send until `stop`. Raises Trouble when the model never answers."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS + 2)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(self._url, connector=connector, timeout=timeout) as session:
            columns = await self._columns(session)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._label(session))
                senders = [group.create_task(self._send(session)) for _ in range(CONNECTIONS)]
                await self._pace(columns)
                await self._queue.join()
                for sender in senders:
                    sender.cancel()

    async def _columns(self, session: aiohttp.ClientSession) -> dict[str, str]:
        """Datatype by column as the model's metadata names them; waits until the front Service answers."""
        end = time.monotonic() + 30
        while True:
            try:
                async with session.get(f"/v2/models/{self._model}") as answer:
                    answer.raise_for_status()
                    return {c["name"]: c["datatype"] for c in (await answer.json())["inputs"]}
            except (aiohttp.ClientError, TimeoutError) as error:
                if time.monotonic() > end:
                    raise Trouble(f"{self._url} gives no metadata of {self._model}: {error}", LOOK) from error
            await asyncio.sleep(0.3)

    async def _pace(self, columns: dict[str, str]) -> None:
        """Put rows into the queue at the wanted rate, until `stop`."""
        begun, put = time.monotonic(), 0
        while not self._stopping:
            wanted = int((time.monotonic() - begun) * self._rate) - put
            if self._queue.qsize() > self._rate:  # a second behind
                begun, put, wanted = time.monotonic(), 0, 0
            for request in bodies(self._months, columns, self._year.take(wanted)) if wanted else ():
                self._queue.put_nowait(request)
            put += wanted
            await asyncio.sleep(TICK)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        path = f"/v2/models/{self._model}/infer"
        while True:
            place, body, late = await self._queue.get()
            begun = time.perf_counter()
            answer = await self._post(session, path, body)
            if answer is not None:
                known = self.seen.answered(place, answer, late, time.perf_counter() - begun)
                self._due.append((time.monotonic() + LABEL_SECONDS, known, late))
            self._queue.task_done()

    async def _label(self, session: aiohttp.ClientSession) -> None:
        """Deliver labels as they become due, many at once; ends when there are none left after `stop`."""
        while not (self._stopping and self._queue.empty() and not self._due):
            await asyncio.sleep(0.25)
            now, ready = time.monotonic(), []
            while self._due and self._due[0][0] <= now:
                _, known, late = self._due.popleft()
                ready.append({"id": known, "label": late})
            answer = await self._post(session, "/feedback", orjson.dumps({"labels": ready})) if ready else None
            if answer is not None:
                self.seen.labels += int(answer["accepted"])
                for why, count in answer["refused"].items():
                    self.seen.refused[why] = self.seen.refused.get(why, 0) + int(count)

    async def _post(self, session: aiohttp.ClientSession, path: str, body: bytes) -> Any:
        """The answer as JSON; None when the request failed."""
        self.seen.requests += 1
        try:
            async with session.post(path, data=body, headers=JSON) as answer:
                content = await answer.read()
                if answer.status == 200:
                    return orjson.loads(content)
                self.seen.fail(f"{path}: {answer.status} {content[:200].decode(errors='replace')}")
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            self.seen.fail(f"{path}: {type(error).__name__} {error}")
        return None


def bodies(
    months: dict[int, pd.DataFrame], columns: dict[str, str], places: list[Place]
) -> list[tuple[Place, bytes, int]]:
    """Each place's request (Open Inference Protocol v2, one row, named columns) and its label."""
    if not places:
        return []
    by_month = groupby(places, key=lambda place: place.month)
    rows = pd.concat([months[month].iloc[[place.row for place in some]] for month, some in by_month])
    values = rows[list(columns)].astype(object).where(rows[list(columns)].notna(), None)
    inputs = [{"name": name, "shape": [1], "datatype": kind} for name, kind in columns.items()]
    found = []
    for place, row, late in zip(places, values.to_numpy().tolist(), rows[TARGET].tolist(), strict=True):
        body = {"inputs": [{**column, "data": [value]} for column, value in zip(inputs, row, strict=True)]}
        found.append((place, orjson.dumps(body), int(late)))
    return found
