"""The page at `/`: try a prediction and watch the rates. For a person at the machine; a pod does not have it unless asked to."""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from homeostat import __version__
from homeostat.api.wire.bundle import Baseline
from homeostat.server.asked import Asked
from homeostat.server.counting.counters import Slot
from homeostat.server.inference.answers import Answers
from homeostat.server.inference.model import Model
from homeostat.server.page.form import form_of
from homeostat.server.page.live import Live
from homeostat.server.problem import Problem
from homeostat.server.settings import Settings

PATHS: Final = (b"/", b"/live")
OFF: Final = "the page is off here: start the server with --page, or with the model as an argument"
_HTML: Final = b"text/html; charset=utf-8"
_JSON: Final = b"application/json"
_INLINE: Final = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)
_PLACE: Final = b"@MODEL@"
_ALWAYS: Final = (
    b"x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\ncache-control: no-store\r\n"
    b"cross-origin-resource-policy: same-origin\r\ncross-origin-opener-policy: same-origin\r\n"
)
_IN_SCRIPT: Final = {b"<": b"\\u003c", b">": b"\\u003e", b"&": b"\\u0026"}  # nothing in the JSON can end its element


class Page:
    """The document, which holds the model's form as JSON, and the figures that it polls. Made when it is first asked for."""

    def __init__(self, settings: Settings, model: Model, answers: Answers, baseline: Baseline | None) -> None:
        self._settings, self._model, self._answers, self._baseline = settings, model, answers, baseline
        self._live: Live | None = None
        self._metadata: dict[str, Any] = {}
        self._made: tuple[bytes, bytes] | None = None

    def paths(self, metadata: dict[str, Any]) -> dict[bytes, Callable[[Asked], None]]:
        """What is answered where. metadata: of the model, as the Open Inference Protocol has them."""
        self._metadata = metadata
        return dict(zip(PATHS, (self._document, self._figures), strict=True))

    def watch(self, slots: Sequence[Slot]) -> None:
        """Remember the pod's figures from now on."""
        self._live = Live(slots)

    def look(self) -> None:
        """Remember how things are; call it about every second."""
        if self._live is not None:
            self._live.look()

    def _document(self, asked: Asked) -> None:
        if self._made is None:
            self._made = self._make()
        body, policy = self._made
        asked.respond(200, body, _HTML, _ALWAYS + policy)

    def _make(self) -> tuple[bytes, bytes]:
        """The document and the header line with its policy: only its own two inline parts run, by their hashes."""
        settings, found = self._settings, self._metadata
        said = {
            **form_of(self._model, self._answers, self._baseline),
            "name": settings.name,
            "version": settings.version,
            "server": __version__,
            "metadata": found,
            "admin": {"port": settings.admin_port, "scheme": "https" if settings.tls_admin else "http"},
            "grpc_port": settings.grpc_port,
        }
        data = orjson.dumps(said)
        for character, escape in _IN_SCRIPT.items():
            data = data.replace(character, escape)
        html = Path(__file__).with_name("page.html").read_bytes()
        return html.replace(_PLACE, data, 1), _policy(html)

    def _figures(self, asked: Asked) -> None:
        if self._live is None:
            raise Problem(503, "the figures are not there yet: try again", retry_after=1)
        query = parse_qs(asked.url.partition(b"?")[2].decode("utf-8", "replace"))
        text = query.pop("since", ["0"])[0]
        try:
            since = float(text)
        except ValueError:
            since = float("nan")
        if query or since != since:  # noqa: PLR0124  no number
            raise Problem(400, "the query may have `since`, in seconds of the last point that you have")
        asked.respond(200, self._live.to_json(since), _JSON, _ALWAYS)


def _policy(html: bytes) -> bytes:
    """`Content-Security-Policy` for a document whose inline parts are these. Nothing is loaded, and the page is in no frame."""
    hashes: dict[bytes, bytes] = {}
    for kind, text in _INLINE.findall(html):
        hashes[kind] = b"'sha256-%b'" % b64encode(sha256(text).digest())
    return (
        b"content-security-policy: default-src 'none'; script-src %b; style-src %b; img-src data:; connect-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'\r\n"
        % (hashes[b"script"], hashes[b"style"])
    )
