"""What one serving pod was told, and every bound that it keeps."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of `homeostat serve`; times in seconds, sizes in bytes.

    max_latency: how long a row may wait for others to share its batch; 0: only those of the same loop turn.
    lame_duck: after SIGTERM the pod serves on for this long, until no endpoint list names it any more.
    """

    model_dir: str
    name: str
    version: str
    deployment_uid: str = ""
    route_file: str = ""
    host: str = "0.0.0.0"  # noqa: S104  a pod serves on its own address
    port: int = 8080
    admin_port: int = 8082
    workers: int = 1
    threads: int = 1
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
    deadline: float = 30.0
    load_seconds: float = 120.0
    wedged_seconds: float = 60.0
    lame_duck: float = 5.0
    drain: float = 20.0
    stats: bool = True

    def to_text(self) -> str:
        """JSON, for the worker's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The reverse of `to_text`."""
        return cls(**json.loads(text))
