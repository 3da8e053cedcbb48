"""The environment of the operator's container as one frozen value."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from homeostat.reconcile.ports import Config


@dataclass(frozen=True, slots=True)
class Settings:
    """What the chart says. namespaces: those that are watched, empty for all."""

    config: Config
    identity: str
    namespaces: tuple[str, ...] = ()
    log_level: str = "INFO"
    port: int = 8082

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """From environment variables. Raises ValueError that names the missing ones and the fix."""
        needed = ("HOMEOSTAT_SERVER_IMAGE", "HOMEOSTAT_TRAINER_IMAGE", "HOMEOSTAT_ARTIFACTS_URI")
        missing = [name for name in needed if not environment.get(name)]
        if missing:
            raise ValueError(f"{', '.join(missing)} must be set: the Helm chart does, from images and artifacts.uri")
        config = Config(
            operator_namespace=environment.get("HOMEOSTAT_NAMESPACE", "homeostat-system"),
            server_image=environment["HOMEOSTAT_SERVER_IMAGE"],
            trainer_image=environment["HOMEOSTAT_TRAINER_IMAGE"],
            artifacts_uri=environment["HOMEOSTAT_ARTIFACTS_URI"],
            plain_http=_words(environment.get("HOMEOSTAT_PLAIN_HTTP", "")),
            image_pull_policy=environment.get("HOMEOSTAT_IMAGE_PULL_POLICY", "IfNotPresent"),
        )
        return cls(
            config=config,
            identity=environment.get("HOMEOSTAT_POD_NAME") or socket.gethostname(),
            namespaces=_words(environment.get("HOMEOSTAT_WATCH_NAMESPACES", "")),
            log_level=environment.get("HOMEOSTAT_LOG_LEVEL", "INFO"),
            port=int(environment.get("HOMEOSTAT_PORT", "8082")),
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (w.strip() for w in text.split(",")) if word)
