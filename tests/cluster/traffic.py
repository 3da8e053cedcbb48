"""A client of a served model that sends rows all the time, labels included, and remembers what it saw."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from cluster.loop import eventually, kubectl

PAUSE = 0.008
FEEDBACK_EVERY = 20


def address(namespace: str, name: str) -> str:
    """The front Service's cluster address: the host reaches it as pods do."""
    return kubectl("-n", namespace, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def body(row: dict[str, float]) -> bytes:
    inputs = [{"name": n, "datatype": "FP64", "shape": [1], "data": [v]} for n, v in row.items()]
    return json.dumps({"inputs": inputs}).encode()


@dataclass
class Traffic:
    """Sends `rows` (features, label) in turn over several connections until it is left."""

    host: str
    model: str
    rows: Sequence[tuple[dict[str, float], Any]]
    threads: int = 4
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        eventually(self._reachable, 30, f"{self.host} answers")
        self._stop = threading.Event()
        self._running = [threading.Thread(target=self._send, args=(i,), daemon=True) for i in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def _reachable(self) -> bool:
        """Ready pods are one thing, the node's rules for a new Service another."""
        connection = http.client.HTTPConnection(self.host, 8080, timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (ConnectionError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(10)

    def assert_nobody_saw_an_error(self) -> None:
        assert self.errors == []
        assert set(self.statuses) == {200}, self.statuses

    def _send(self, first: int) -> None:
        connection = http.client.HTTPConnection(self.host, 8080, timeout=10)
        labels: list[dict[str, Any]] = []
        for number in itertools.count(first, self.threads):
            if self._stop.wait(PAUSE):
                break
            row, label = self.rows[number % len(self.rows)]
            answer = self._post(connection, f"/v2/models/{self.model}/infer", body(row))
            if answer is not None:
                self.versions[answer["model_version"]] += 1
                labels.append({"id": answer["parameters"]["prediction_ids"], "label": label})
            if len(labels) >= FEEDBACK_EVERY:
                self._post(connection, "/feedback", json.dumps({"labels": labels}).encode())
                labels = []
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, url: str, content: bytes) -> dict[str, Any] | None:
        for last in (False, True):
            try:
                connection.request("POST", url, content, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
            except (ConnectionError, http.client.HTTPException) as error:
                connection.close()
                if last:  # as clients do: once more, for an idle connection that the server closed meanwhile
                    self.errors.append(f"{_now()} {error!r}")
                continue
            self.statuses[answer.status] += 1
            if answer.status != 200:
                self.errors.append(f"{_now()} {text.decode()[:300]}")
                return None
            found: dict[str, Any] = json.loads(text)
            return found
        return None
