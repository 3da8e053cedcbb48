"""What a worker answers on the serving port: Open Inference Protocol v2 REST and feedback."""

from collections.abc import Callable
from typing import Any, Final

import orjson

from homeostat import __version__
from homeostat.api.wire.bundle import Signature
from homeostat.server.answers import DATATYPES, Answers
from homeostat.server.feedback import accept
from homeostat.server.http import Exchange, Server
from homeostat.server.inference import Inference
from homeostat.server.problem import Problem
from homeostat.server.recorder import Recorder
from homeostat.server.settings import Settings

_INPUT_TYPES: Final = {"number": "FP32", "string": "BYTES"}
Handler = Callable[[Exchange], None]


class Service:
    """Routes of the serving port. `server` is set before the first request."""

    server: Server

    def __init__(
        self,
        settings: Settings,
        signature: Signature,
        answers: Answers,
        recorder: Recorder,
        inference: Inference,
    ) -> None:
        self._settings, self._signature, self._recorder = settings, signature, recorder
        self._inference = inference
        metadata = orjson.dumps(_metadata(settings, signature, answers))
        model = f"/v2/models/{settings.name}".encode()
        pinned = model + b"/versions/" + settings.version.encode()
        self.leaving = False
        self._model = model
        self._infer, self._infer_pinned = model + b"/infer", pinned + b"/infer"
        server = {"name": "homeostat", "version": __version__, "extensions": []}
        self._get: dict[bytes, Handler] = {
            b"/v2": lambda e: e.respond(200, orjson.dumps(server)),
            b"/v2/health/live": lambda e: e.respond(200, b'{"live":true}'),
            b"/v2/health/ready": self._ready,
        }
        for path in (model, pinned):
            self._get[path] = lambda e: e.respond(200, metadata)
            self._get[path + b"/ready"] = self._ready
        self._post: dict[bytes, Handler] = {
            self._infer: self._inference.begin,
            self._infer_pinned: self._inference.begin_pinned,
            b"/feedback": self._feedback,
        }

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, now or later. Raises Problem."""
        if exchange.method == b"POST" and exchange.url == self._infer:
            self._inference.begin(exchange)
            return
        path = exchange.url.partition(b"?")[0].rstrip(b"/") or b"/"
        reading = exchange.method in {b"GET", b"HEAD"}
        if reading and path in self._get:
            self._get[path](exchange)
        elif exchange.method == b"POST" and path in self._post:
            self._post[path](exchange)
        else:
            raise self._lost(exchange.method, path)

    def _lost(self, method: bytes, path: bytes) -> Problem:
        shown = path[:200].decode("utf-8", "replace")
        if path in self._get or path in self._post:
            wanted = "GET" if path in self._get else "POST"
            return Problem(405, f"{method.decode('ascii', 'replace')} is not allowed on {shown}: use {wanted}")
        if path.startswith(b"/v2/models/"):
            mine = f"{self._settings.name!r} in version {self._settings.version!r}"
            return Problem(404, f"{shown} does not exist: this server has the model {mine}")
        return Problem(404, f"{shown} does not exist: infer at POST {self._infer.decode()}")

    def _ready(self, exchange: Exchange) -> None:
        if self.leaving:
            raise Problem(503, "this pod is about to end", retry_after=1)
        exchange.respond(200, orjson.dumps({"name": self._settings.name, "ready": True}))

    def _feedback(self, exchange: Exchange) -> None:
        if exchange.known.get(b"content-encoding", b"identity") != b"identity":
            raise Problem(415, "compressed bodies are not supported: send plain JSON")
        exchange.respond(200, accept(exchange.body, self._signature, self._settings.deployment_uid, self._recorder))


def _metadata(settings: Settings, signature: Signature, answers: Answers) -> dict[str, Any]:
    """OIP v2 model metadata: one input per column."""
    outputs: list[dict[str, Any]] = []
    if "label" in answers.outputs:
        parameters = {"labels": list(signature.labels)} if signature.labels else {}
        label = {"name": "label", "datatype": DATATYPES[signature.label_type].decode(), "shape": [-1]}
        outputs.append({**label, "parameters": parameters} if parameters else label)
    width = len(signature.labels) or (1 if signature.task == "regression" else -1)
    outputs.append({"name": answers.score_name, "datatype": "FP32", "shape": [-1, width]})
    return {
        "name": settings.name,
        "versions": [settings.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": c.name, "datatype": _INPUT_TYPES[c.type], "shape": [-1, 1]} for c in signature.columns],
        "outputs": outputs,
    }
