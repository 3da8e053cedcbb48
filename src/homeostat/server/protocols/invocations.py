"""`POST /invocations` as MLflow's scoring server and SageMaker's container contract have it: JSON in four forms, and CSV."""

from functools import partial
from typing import Any, Final

import orjson

from homeostat.server.asked import Answer, Asked
from homeostat.server.inference.answers import Answers, Outcome
from homeostat.server.inference.given import show
from homeostat.server.inference.rows import TableReader
from homeostat.server.inference.work import Rows, Work
from homeostat.server.problem import Problem
from homeostat.server.protocols import frames
from homeostat.server.protocols.content import content, parsed, shrunk
from homeostat.server.protocols.frames import Reader
from homeostat.server.transport.exchange import JSON

CSV: Final = b"text/csv"
_MAX_HEADER: Final = 4 << 10
FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Invocations:
    """Reads `/invocations` and writes the answers; as CSV for clients that accept only that."""

    def __init__(self, reader: Reader, answers: Answers, most: int, most_rows: int) -> None:
        self._reader, self._answers = reader, answers
        self._most, self._objects = most, most_rows + 8

    def read(self, asked: Asked) -> Work:
        """The request's rows. Raises Problem."""
        body = content(asked, self._most)
        kind = asked.known.get(b"content-type", JSON).partition(b";")[0].strip().lower()
        if kind == CSV:
            rows = self._comma_separated(body)
        elif kind == JSON:
            rows = self._json(parsed(body, self._objects))
        else:
            shown = kind[:60].decode("ascii", "replace")
            raise Problem(415, f"content-type {shown!r} is not supported: send application/json or text/csv")
        as_csv = asked.known.get(b"accept", b"").strip().lower() == CSV
        return Work(rows, partial(self._csv if as_csv else self._write, asked))

    def _comma_separated(self, body: bytes) -> Rows:
        if not isinstance(self._reader, TableReader):
            raise Problem(415, "CSV has named columns, this model takes tensors: send JSON with `inputs`")
        return frames.comma_separated(self._reader, body)

    def _json(self, found: dict[str, Any]) -> Rows:
        given = [form for form in FORMS if form in found]
        if len(given) != 1:
            raise Problem(400, f"expected exactly one of {', '.join(FORMS)}; got {', '.join(given) or 'none'}")
        if found.get("params"):
            raise Problem(400, "this model takes no `params`: leave them out")
        unknown = next((name for name in found if name not in {given[0], "params", "signature_name"}), None)
        if unknown is not None:
            raise Problem(400, f"unknown field {unknown[:100]!r} beside `{given[0]}`")
        reader, rows = self._reader, found[given[0]]
        if given[0] == "dataframe_split":
            return frames.split(reader, rows)
        if given[0] == "dataframe_records":
            if type(rows) is not list:
                raise Problem(400, f"`dataframe_records` must be a list of objects, got {show(rows)}")
            return frames.records(reader, rows)
        return frames.named(reader, rows) if type(rows) is dict else frames.instances(reader, rows, given[0])

    def _write(self, asked: Asked, outcome: Outcome, start: int, count: int) -> Answer:
        found = frames.predictions(self._answers, outcome, start, count)
        ids = b'","'.join(outcome.ids[start : start + count])
        return shrunk(asked, (b'{"predictions":%b,"prediction_ids":["%b"]}' % (found, ids), JSON, b""))

    def _csv(self, asked: Asked, outcome: Outcome, start: int, count: int) -> Answer:
        """One line per row; the ids are in a header when they fit there."""
        found = orjson.loads(frames.predictions(self._answers, outcome, start, count))
        lines = [",".join(map(_cell, row if type(row) is list else [row])) for row in found]
        ids = b",".join(outcome.ids[start : start + count])
        extra = b"x-homeostat-prediction-ids: %b\r\n" % ids if len(ids) <= _MAX_HEADER else b""
        return shrunk(asked, ("".join(f"{line}\n" for line in lines).encode(), CSV, extra))


def _cell(value: Any) -> str:
    text = value if type(value) is str else orjson.dumps(value).decode()
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text
