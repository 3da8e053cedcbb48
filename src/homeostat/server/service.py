"""What a worker answers on its serving ports: every protocol's paths, health, metadata and feedback."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from homeostat import __version__
from homeostat.server.asked import Asked
from homeostat.server.counting.feedback import Feedback, read_key
from homeostat.server.counting.recorder import Recorder
from homeostat.server.inference.answers import Answers
from homeostat.server.inference.model import Model
from homeostat.server.page import OFF, PATHS, Page
from homeostat.server.problem import Problem
from homeostat.server.protocols import triton
from homeostat.server.protocols.content import content
from homeostat.server.protocols.grpc_service import INFER
from homeostat.server.protocols.invocations import Invocations
from homeostat.server.protocols.kserve_v1 import KServeV1
from homeostat.server.protocols.open_inference import OpenInference
from homeostat.server.protocols.open_inference_grpc import OpenInferenceGrpc
from homeostat.server.settings import Settings
from homeostat.server.traffic.sides import Door, Inference
from homeostat.server.transport.exchange import TEXT

REST, GRPC, V1, INVOCATIONS = range(4)  # places in the counters' PROTOCOLS
EXTENSIONS: Final = ("binary_tensor_data", "model_versions", triton.EXTENSION)
_INPUT_TYPES: Final = {"number": "FP32", "string": "BYTES"}
Handler = Callable[[Asked], None]


@dataclass(frozen=True, slots=True)
class Doors:
    """How each protocol's requests are read."""

    rest: Door
    v1: Door
    invocations: Door
    grpc: OpenInferenceGrpc


def doors(model: Model, answers: Answers, settings: Settings) -> Doors:
    """The doors to one model."""
    reader, most, rows = model.reader(), settings.max_body, settings.max_queue_rows
    return Doors(
        Door(REST, OpenInference(reader, answers, most).read),
        Door(V1, KServeV1(reader, answers, most, rows).read),
        Door(INVOCATIONS, Invocations(reader, answers, most, rows).read),
        OpenInferenceGrpc(reader, answers),
    )


class Service:
    """Paths of the serving ports."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        answers: Answers,
        recorder: Recorder,
        inference: Inference,
        *,
        page: Page | None = None,
    ) -> None:
        self._settings = settings
        key = read_key(settings.feedback_key_file)
        self._labels = Feedback(model.signature, settings.deployment_uid, recorder, key, settings.feedback_horizon)
        self._signature, self._inference = model.signature, inference
        self.metadata = metadata(settings, model, answers)
        self.leaving = False
        ways = doors(model, answers, settings)
        named, old = f"/v2/models/{settings.name}", f"/v1/models/{settings.name}"
        pinned = f"{named}/versions/{settings.version}"
        self._rest, self._grpc, self._infer = ways.rest, ways.grpc, f"{named}/infer".encode()
        self._get: dict[bytes, Handler] = self._reads(named, pinned, old)
        self._post: dict[bytes, Handler] = {
            self._infer: lambda a: inference.begin(a, ways.rest),
            f"{pinned}/infer".encode(): lambda a: inference.begin_pinned(a, ways.rest),
            f"{old}:predict".encode(): lambda a: inference.begin(a, ways.v1),
            b"/invocations": lambda a: inference.begin(a, ways.invocations),
            INFER: self.infer_grpc,  # of gRPC, forwarded by another version
            b"/feedback": self._feedback,
            b"/v2/repository/index": self._index,
        }
        self._document = b""
        self._page = page.paths(self.metadata) if page else {}

    def _reads(self, named: str, pinned: str, old: str) -> dict[bytes, Handler]:
        name = self._settings.name
        says = orjson.dumps(self.metadata)
        config = orjson.dumps(triton.config(self.metadata, self._settings.max_batch_rows))
        server = orjson.dumps(
            {"name": "homeostat", "version": __version__, "extensions": EXTENSIONS, "openapi": "/openapi.json"}
        )
        found: dict[bytes, Handler] = {
            b"/openapi.json": self._openapi,
            b"/v2": lambda a: a.respond(200, server),
            b"/v2/health/live": lambda a: a.respond(200, b'{"live":true}'),
            b"/v2/health/ready": self._ready,
            b"/v1/models": lambda a: a.respond(200, orjson.dumps({"models": [name]})),
            old.encode(): self._ready,
            b"/ping": self._ready,
            b"/": lambda a: a.respond(200, b'{"status":"alive"}'),  # KServe's v1 clients look here whether we live
            b"/health": self._ready,
            b"/version": lambda a: a.respond(200, f"homeostat {__version__}".encode(), TEXT),
        }
        for path in (named, pinned):
            found[path.encode()] = lambda a: a.respond(200, says)
            found[f"{path}/ready".encode()] = self._ready
            found[f"{path}/config".encode()] = lambda a: a.respond(200, config)
        return found

    def handle(self, asked: Asked) -> None:
        """Answer one request, now or later. Raises Problem."""
        if asked.url == self._infer and asked.method == b"POST":
            self._inference.begin(asked, self._rest)
            return
        path = asked.url.partition(b"?")[0].rstrip(b"/") or b"/"
        reading = asked.method in {b"GET", b"HEAD"}
        as_client = path in self._get and asked.known.get(b"accept") == b"*/*"  # and no browser
        if reading and path in self._page and not as_client:
            self._page[path](asked)
        elif reading and path in self._get:
            self._get[path](asked)
        elif asked.method == b"POST" and path in self._post:
            self._post[path](asked)
        else:
            raise self._lost(asked.method, path)

    def infer_grpc(self, asked: Asked) -> None:
        """A ModelInferRequest, as a call or forwarded over HTTP. Raises Problem."""
        message = self._grpc.message(asked.body)
        door = Door(GRPC, lambda _: self._grpc.read(message))
        if message.model_version:
            self._inference.begin_pinned(asked, door)
        else:
            self._inference.begin(asked, door)

    def _lost(self, method: bytes, path: bytes) -> Problem:
        shown = path[:200].decode("utf-8", "replace")
        if path in self._get or path in self._page or path in self._post:
            wanted = "POST" if path in self._post else "GET"
            return Problem(405, f"{method.decode('ascii', 'replace')} is not allowed on {shown}: use {wanted}")
        if path.startswith(b"/v2") and (why := triton.absent_path(shown, self._settings)):
            return Problem(404, why)
        if path.startswith((b"/v2/models/", b"/v1/models/")):
            mine = f"{self._settings.name!r} in version {self._settings.version!r}"
            return Problem(404, f"{shown} does not exist: this server has the model {mine}")
        why = f" ({OFF})" if path in PATHS and not self._page else ""
        return Problem(404, f"{shown} does not exist{why}: infer at POST {self._infer.decode()}")

    @property
    def ready(self) -> bool:
        """Whether new requests should come here."""
        return not self.leaving

    def _ready(self, asked: Asked) -> None:
        if self.leaving:
            raise Problem(503, "this pod is about to end", retry_after=1)
        asked.respond(200, orjson.dumps({"name": self._settings.name, "ready": True}))

    def _openapi(self, asked: Asked) -> None:
        """The document, made for the first one who asks: a start has better to do."""
        if not self._document:
            from homeostat.server.protocols.openapi import document

            paths = [
                (method, path.decode())
                for method, table in (("GET", self._get), ("POST", self._post))
                for path in table
            ]
            name, version = self._settings.name, self._settings.version
            self._document = document(name, version, self.metadata, self._signature.columns, paths)
        asked.respond(200, self._document)

    def _index(self, asked: Asked) -> None:
        asked.respond(200, orjson.dumps([triton.index(self._settings, ready=self.ready)]))

    def _feedback(self, asked: Asked) -> None:
        body = content(asked, self._settings.max_body)

        def done(said: bytes | Problem) -> None:
            if isinstance(said, Problem):
                asked.fail(said)
            else:
                asked.respond(200, said)

        self._labels.accept_in_slices(body, done)


def metadata(settings: Settings, model: Model, answers: Answers) -> dict[str, Any]:
    """OIP v2 model metadata: one input per column, or the graph's own; `batching` says whether requests share a run."""
    inputs: list[dict[str, Any]]
    if model.signature.columns and answers.named:
        columns = model.signature.columns
        inputs = [{"name": c.name, "datatype": _INPUT_TYPES[c.type], "shape": [-1, 1]} for c in columns]
    else:
        inputs = [{"name": p.name, "datatype": p.datatype, "shape": p.shown} for p in model.graph.inputs]
    outputs: list[dict[str, Any]] = []
    for output in answers.outputs:
        one: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if output.label and model.signature.labels:
            one["parameters"] = {"labels": list(model.signature.labels)}
        outputs.append(one)
    return {
        "name": settings.name,
        "versions": [settings.version],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"batching": model.batched},
    }
