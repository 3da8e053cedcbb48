"""What one serving pod was told, and every bound that it keeps."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Final, Self

MAX_WORKERS: Final = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of `homeostat serve`; times in seconds, sizes in bytes.

    max_latency: how long a row may wait for others to share its batch; 0: only those of the same loop turn.
    lame_duck: after SIGTERM the pod serves on for this long, until no endpoint list names it any more.
    model_dir: a bundle's folder, or an ONNX file. digest: of the model file (`sha256:…`); nothing is loaded before it held.
    workers: 0: from the pod's CPU limit (`room.Room`), also when that changes while the pod runs. threads: 0: one.
    plain_http: registries that speak HTTP without TLS.
    payload_to: where payloads go, empty: nowhere; `payload_rows` and `payload_seconds` 0: what suits the sink
    (`server.payloads.options`).
    announce: say what happens on standard error and, when ready, the addresses on standard output.
    stats_sample: share of the rows that enter features, scores and their products, above 0 to 1.
    page: `/` of the serving port is a page to try the model (`server.page`).
    """

    model_dir: str
    name: str
    version: str
    deployment_uid: str = ""
    route_file: str = ""
    host: str = "0.0.0.0"  # noqa: S104  a pod serves on its own address
    port: int = 8080
    grpc_port: int = 8081
    admin_port: int = 8082
    digest: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_admin: bool = False
    announce: bool = False
    page: bool = False
    workers: int = 0
    threads: int = 0
    max_latency: float = 0.0
    max_batch_rows: int = 1024
    max_queue_rows: int = 8192
    max_model_bytes: int = 2 << 30
    max_header: int = 16 << 10
    max_body: int = 16 << 20
    max_connections: int = 4096
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 620.0
    max_wait: float = 1.0
    deadline: float = 30.0
    run_seconds: float = 30.0
    load_seconds: float = 60.0
    wedged_seconds: float = 20.0
    lame_duck: float = 5.0
    drain: float = 20.0
    stats: bool = True
    stats_sample: float = 1.0
    feature_bins: bool = False
    feedback_horizon: float = 35 * 86400.0
    feedback_key_file: str = ""
    plain_http: tuple[str, ...] = ()
    cache_rows: int = 0
    cache_seconds: float = 300.0
    cache_bytes: int = 64 << 20
    payload_to: str = ""
    payload_sample: float = 1.0
    payload_rows: int = 0
    payload_seconds: float = 0.0
    payload_buffer: int = 8 << 20
    payload_drop: tuple[str, ...] = ()
    payload_hash: tuple[str, ...] = ()
    payload_salt_file: str = ""

    @property
    def slots(self) -> int:
        """Slots of counters: as many workers as there may ever be. The same number in all processes of the pod."""
        return self.workers or min(MAX_WORKERS, os.cpu_count() or 1)

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports that the workers listen on; their sockets come to a worker in this order."""
        return (self.port, self.grpc_port) if self.grpc_port else (self.port,)

    def to_text(self) -> str:
        """JSON, for the worker's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The reverse of `to_text`."""
        return cls(**json.loads(text))
