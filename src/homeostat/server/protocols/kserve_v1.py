"""KServe's protocol of version 1: `POST /v1/models/<name>:predict` with `instances`."""

from functools import partial

from homeostat.server.asked import Answer, Asked
from homeostat.server.inference.answers import Answers, Outcome
from homeostat.server.inference.work import Work
from homeostat.server.problem import Problem
from homeostat.server.protocols import frames
from homeostat.server.protocols.content import content, parsed, shrunk
from homeostat.server.protocols.frames import Reader
from homeostat.server.transport.exchange import JSON


class KServeV1:
    """Reads `:predict` requests and writes their answers."""

    def __init__(self, reader: Reader, answers: Answers, most: int, most_rows: int) -> None:
        self._reader, self._answers = reader, answers
        self._most, self._objects = most, most_rows + 8

    def read(self, asked: Asked) -> Work:
        """The request's rows. Raises Problem."""
        found = parsed(content(asked, self._most), self._objects)
        unknown = next((name for name in found if name not in {"instances", "inputs"}), None)
        if unknown is not None:
            raise Problem(400, f"unknown field {unknown[:100]!r}; expected `instances`: a list of rows")
        if len(found) != 1:
            raise Problem(400, "expected one of `instances` (a list of rows) and `inputs`")
        name, rows = next(iter(found.items()))
        taken = frames.named(self._reader, rows) if type(rows) is dict else frames.instances(self._reader, rows, name)
        return Work(taken, partial(self._write, asked))

    def _write(self, asked: Asked, outcome: Outcome, start: int, count: int) -> Answer:
        found = frames.predictions(self._answers, outcome, start, count)
        ids = b'","'.join(outcome.ids[start : start + count])
        return shrunk(asked, (b'{"predictions":%b,"prediction_ids":["%b"]}' % (found, ids), JSON, b""))
