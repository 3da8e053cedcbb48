"""A pod that receives users' requests, and what was counted since a moment."""

import http.client
import json
import time
from collections import Counter
from typing import Any, Self

from serving.pod import ROW, Answer, Pod, as_inputs

PATH = "/v2/models/flights/infer"
BODY = json.dumps({"inputs": as_inputs(ROW)}).encode()


class Front:
    """One pod under routes of rising epochs; counts are those since `begin`."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.epoch = pod.stats().route_epoch
        self.begin()

    def begin(self) -> Self:
        self.before = self.pod.stats()
        return self

    def route(self, **fields: Any) -> None:
        self.epoch += 1
        self.pod.route(epoch=self.epoch, **fields)

    def outcomes(self, version: str) -> tuple[int, int, int]:
        """ok, failed, busy of one side."""
        now, then = (s.forwards.get(version) for s in (self.pod.stats(), self.before))
        if now is None:
            return 0, 0, 0
        return (
            now.ok - (then.ok if then else 0),
            now.failed - (then.failed if then else 0),
            now.busy - (then.busy if then else 0),
        )

    def lanes(self, version: str) -> list[int]:
        """Requests of one side by lane of their key."""
        found = self.pod.stats().forwards[version].lanes
        return [sum(lane) for lane in found]

    def served(self, track: str) -> int:
        now, then = (s.served.get(track) for s in (self.pod.stats(), self.before))
        return (now.requests if now else 0) - (then.requests if then else 0)

    def agreement(self, version: str) -> tuple[int, int, int]:
        """agreed, differed, failed of the shadow."""
        now, then = (s.agreement.get(version) for s in (self.pod.stats(), self.before))
        if now is None:
            return 0, 0, 0
        return (
            now.agreed - (then.agreed if then else 0),
            now.differed - (then.differed if then else 0),
            now.failed - (then.failed if then else 0),
        )

    def dropped(self) -> int:
        """Copies for the shadow that did not fit."""
        text = self.pod.get("/metrics", port=self.pod.admin).content.decode()
        lines = [line for line in text.splitlines() if line.startswith("homeostat_dropped_total") and "mirror" in line]
        return sum(int(float(line.split()[-1])) for line in lines)


class User:
    """One client on one connection. answers: all that it got; seconds: how long each took."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._line = http.client.HTTPConnection("127.0.0.1", pod.port, timeout=30)
        self.answers: list[Answer] = []
        self.seconds: list[float] = []

    def ask(self, times: int = 1, body: bytes = BODY, **headers: str) -> "User":
        """Ask so many times. headers: names with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for _ in range(times):
            begun = time.monotonic()
            self._line.request("POST", PATH, body, named)
            response = self._line.getresponse()
            found = {k.lower(): v for k, v in response.getheaders()}
            self.answers.append(Answer(response.status, found, response.read()))
            self.seconds.append(time.monotonic() - begun)
        return self

    @property
    def versions(self) -> Counter[str]:
        """Who answered; every answer must be a 200."""
        assert {answer.status for answer in self.answers} <= {200}, self.answers[-1]
        return Counter(answer.json["model_version"] for answer in self.answers)

    @property
    def last(self) -> Answer:
        return self.answers[-1]

    def close(self) -> None:
        self._line.close()
