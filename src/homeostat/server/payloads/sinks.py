"""Where payloads go. A sink sends what it is given once; trying again is the logger's business."""

import os
import secrets
import socket
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import urllib3
from urllib3.exceptions import HTTPError

from homeostat import __version__
from homeostat.artifacts.oci import Client
from homeostat.errors import ArtifactError
from homeostat.server.payloads.body import Body
from homeostat.server.payloads.events import Events
from homeostat.server.payloads.frames import Records
from homeostat.server.payloads.options import Options
from homeostat.server.payloads.schema import Schema

ARTIFACT_TYPE: Final = "application/vnd.homeostat.payload.v1"
_TIMEOUT: Final = urllib3.Timeout(connect=3, read=10)
_LONGEST_WAIT: Final = 30.0


class SendError(Exception):
    """It was not sent. again: another try may help, after `wait` seconds when the other side named them."""

    def __init__(self, because: str, *, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(because)
        self.again, self.wait = again, wait


class Sink(Protocol):
    """Encodes rows into bodies and sends one body at a time."""

    def encode(self, records: Sequence[Records]) -> list[Body]:
        """Files or requests. Raises ValueError for rows that do not fit the schema."""
        ...

    def send(self, body: bytes) -> None:
        """Send one of them. Raises SendError."""
        ...


def sink(options: Options, schema: Schema, plain_http: tuple[str, ...]) -> Sink:
    """The sink that the options name."""
    pod = socket.gethostname()
    if options.kind == "http":
        return Receiver(options, schema, pod)
    return Files(options, schema, pod, plain_http)


class Receiver:
    """Posts CloudEvents to a URL. Redirects are not followed: they would take rows elsewhere."""

    def __init__(self, options: Options, schema: Schema, pod: str) -> None:
        self._events = Events(schema, options, pod)
        self.encode = self._events.encode
        self._url = options.place
        self._headers = {"Content-Type": self._events.kind, "User-Agent": f"homeostat/{__version__}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def send(self, body: bytes) -> None:
        """See Sink. 429 and 5xx may be tried again, other answers than 2xx mean no."""
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=self._headers, redirect=False)
        except HTTPError as error:
            raise SendError(f"{self._url} does not answer ({type(error).__name__}: {error})"[:300]) from error
        if 200 <= answer.status < 300:
            return
        after = answer.headers.get("Retry-After", "")
        wait = min(float(after), _LONGEST_WAIT) if after.isdigit() else 0.0
        busy = answer.status in {408, 429} or answer.status >= 500
        raise SendError(f"{self._url} answered {answer.status}", again=busy, wait=wait)


class Files:
    """Writes parquet files to a folder, or pushes each to an OCI registry under a tag of its own."""

    def __init__(self, options: Options, schema: Schema, pod: str, plain_http: tuple[str, ...]) -> None:
        from homeostat.server.payloads import parquet

        self._named, self._pod = parquet.file_name, pod
        self.encode = parquet.Parquet(schema, options, pod).encode
        self._place, self._to_folder = options.place, options.kind == "file"
        self._client = Client(plain_http)
        self._token, self._number = secrets.token_hex(2), 0
        self._about = {"dev.homeostat.model": schema.model, "dev.homeostat.version": schema.version}

    def send(self, body: bytes) -> None:
        """See Sink. A file appears under its name only when it is whole."""
        name = self._named(self._pod, self._token, self._number, datetime.now(UTC))
        try:
            if self._to_folder:
                self._write(f"{name}.parquet", body)
            else:
                self._push(name, body)
        except OSError as error:
            raise SendError(f"{self._place}: {error.strerror or error}") from error
        except ArtifactError as error:
            raise SendError(error.because, again=not error.permanent) from error
        self._number += 1

    def _write(self, name: str, body: bytes) -> None:
        folder = Path(self._place)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.part"
        try:
            with part.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.replace(folder / name)
        finally:
            part.unlink(missing_ok=True)

    def _push(self, name: str, body: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="homeostat-payloads-") as folder:
            file = Path(folder) / f"{name}.parquet"
            file.write_bytes(body)
            self._client.push({file.name: file}, f"{self._place}:{name}", ARTIFACT_TYPE, self._about)
