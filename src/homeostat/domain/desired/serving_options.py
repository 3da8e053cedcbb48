"""`spec.server` as what a serving container gets: flags of `homeostat serve`, files from Secrets, memory for what is on.

Only what the spec says becomes a flag: a default of the server may change with the image, and no template with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeostat.api.base import Duration
from homeostat.api.deployment import ModelDeploymentSpec, Track
from homeostat.api.serving import (
    Batching,
    FeedbackOptions,
    Limits,
    PayloadLogging,
    SecretKeyRef,
    Server,
    Statistics,
    byte_size,
)
from homeostat.domain.desired.common import Manifest

TEMPLATE: Final = 2  # of new tracks; 1: before gRPC, options and automatic workers
_SINCE_2: Final = (
    "threads",
    "batching",
    "limits",
    "cache",
    "tls",
    "feedback",
    "metrics",
    "statistics",
    "payload_logging",
)

FILES: Final = "/etc/homeostat"
PAYLOADS: Final = "/payloads"
READABLE: Final = 0o440  # by the pod's group, nobody else
BASE_MIB: Final = 128  # supervisor, and what requests hold
WORKER_MIB: Final = 64
LEAST_MIB: Final = 192
CACHE_MIB: Final = 64  # the server's bound for each worker
EVENTS_MIB: Final = 48  # the payload logger's process
PARQUET_MIB: Final = 128


@dataclass(frozen=True, slots=True)
class Mounted:
    """One volume of the server's container."""

    name: str
    path: str
    source: Manifest
    writable: bool = False


def template_of(track: Track) -> int:
    """Revision of the pod template that a track's pods have."""
    return track.template or 1


def options(spec: ModelDeploymentSpec, track: Track) -> Server:
    """`spec.server` as far as the track's template can carry it."""
    server = spec.server
    if template_of(track) >= TEMPLATE:
        return server
    return Server(resources=server.resources, workers=server.workers or 1)


def not_carried(spec: ModelDeploymentSpec, track: Track) -> tuple[str, ...]:
    """Fields of the spec that the track's template, and maybe its image, do not know: a refresh brings both."""
    if template_of(track) >= TEMPLATE:
        return ()
    found = [f"spec.server.{_camel(name)}" for name in _SINCE_2 if getattr(spec.server, name) is not None]
    return (*found, *(("spec.optimization",) if spec.optimization is not None else ()))


def is_secure(spec: ModelDeploymentSpec, track: Track | None) -> bool:
    """Whether the serving ports of that version speak TLS."""
    return spec.server.tls is not None and (track is None or template_of(track) >= TEMPLATE)


def workers(server: Server) -> int:
    """Of the flag; 0: the server follows its CPU limit. Without a limit a node's size would decide, so it is 1."""
    if server.workers is not None:
        return server.workers
    return 0 if _cpu_limit(server) is not None else 1


def memory(server: Server) -> str:
    """Request and limit when the spec names none: for as many workers as the CPU limit gives, and for what is on."""
    count = server.workers or max(1, min(64, int((_cpu_limit(server) or 1.0) + 0.01)))
    each = WORKER_MIB + (CACHE_MIB if server.cache is not None else 0)
    wanted = max(LEAST_MIB, BASE_MIB + each * count)
    if server.payload_logging is not None:
        wanted += EVENTS_MIB if server.payload_logging.sink.http is not None else PARQUET_MIB
    return f"{wanted}Mi"


def arguments(server: Server) -> list[str]:
    """Flags for what the spec says."""
    batching, cache, feedback = server.batching or Batching(), server.cache, server.feedback or FeedbackOptions()
    statistics = server.statistics or Statistics()
    flags: list[tuple[str, str | None]] = [
        ("--threads", _number(server.threads)),
        ("--max-latency", _seconds(batching.max_latency)),
        ("--max-batch-rows", _number(batching.max_rows)),
        *_limits(server.limits or Limits()),
        ("--cache-rows", _number(cache.rows if cache is not None else None)),
        ("--cache-seconds", _seconds(cache.ttl if cache is not None else None)),
        ("--feedback-horizon", _seconds(feedback.horizon)),
        ("--stats-sample", _number(statistics.sample) if statistics.enabled else None),
    ]
    found = [word for flag, value in flags if value is not None for word in (flag, value)]
    if server.metrics is not None and server.metrics.feature_bins:
        found.append("--feature-bins")
    if not statistics.enabled:
        found.append("--no-stats")
    return [*found, *_tls(server), *_key(server), *_payloads(server.payload_logging)]


def mounted(server: Server) -> tuple[Mounted, ...]:
    """Volumes that these options need. The operator only names the Secrets; the kubelet reads them."""
    found: list[Mounted] = []
    if server.tls is not None:
        items = [{"key": key, "path": key} for key in ("tls.crt", "tls.key")]
        found.append(_secret("tls", server.tls.secret_ref.name, items))
        if server.tls.client_ca_secret_ref is not None:
            found.append(_one_key("client-ca", server.tls.client_ca_secret_ref, "ca.crt"))
    if server.feedback is not None and server.feedback.key_secret_ref is not None:
        found.append(_one_key("feedback", server.feedback.key_secret_ref, "key"))
    payloads = server.payload_logging
    if payloads is not None and payloads.salt_secret_ref is not None:
        found.append(_one_key("salt", payloads.salt_secret_ref, "salt"))
    if payloads is not None and payloads.sink.volume is not None:
        claim = {"persistentVolumeClaim": {"claimName": payloads.sink.volume.claim_name}}
        found.append(Mounted("payloads", PAYLOADS, claim, writable=True))
    return tuple(found)


def secrets(server: Server) -> tuple[str, ...]:
    """Names of the Secrets and claims that pods wait for."""
    sources = [one.source for one in mounted(server)]
    named = [f"Secret {source['secret']['secretName']}" for source in sources if "secret" in source]
    claims = [source["persistentVolumeClaim"] for source in sources if "persistentVolumeClaim" in source]
    return (*dict.fromkeys(named), *(f"PersistentVolumeClaim {claim['claimName']}" for claim in claims))


def volumes(found: tuple[Mounted, ...]) -> list[Manifest]:
    """The pod's volumes."""
    return [{"name": one.name, **one.source} for one in found]


def mounts(found: tuple[Mounted, ...]) -> list[Manifest]:
    """The server container's mounts."""
    return [{"name": one.name, "mountPath": one.path, **({} if one.writable else {"readOnly": True})} for one in found]


def _limits(limits: Limits) -> list[tuple[str, str | None]]:
    return [
        ("--max-queue-rows", _number(limits.max_queue_rows)),
        ("--max-wait", _seconds(limits.max_wait)),
        ("--deadline", _seconds(limits.deadline)),
        ("--run-seconds", _seconds(limits.run_time)),
        ("--load-seconds", _seconds(limits.load_time)),
        ("--max-body", _bytes(limits.max_body)),
        ("--max-model-bytes", _bytes(limits.max_model)),
        ("--max-connections", _number(limits.max_connections)),
    ]


def _tls(server: Server) -> list[str]:
    if server.tls is None:
        return []
    found = ["--tls-cert", f"{FILES}/tls/tls.crt", "--tls-key", f"{FILES}/tls/tls.key"]
    if server.tls.client_ca_secret_ref is not None:
        found += ["--tls-client-ca", f"{FILES}/client-ca/ca.crt"]
    return [*found, "--tls-admin"] if server.tls.admin else found


def _key(server: Server) -> list[str]:
    named = server.feedback is not None and server.feedback.key_secret_ref is not None
    return ["--feedback-key-file", f"{FILES}/feedback/key"] if named else []


def _payloads(wanted: PayloadLogging | None) -> list[str]:
    if wanted is None:
        return []
    sink = wanted.sink
    place = f"file://{PAYLOADS}"
    if sink.http is not None:
        place = sink.http.url
    elif sink.artifact is not None:
        place = sink.artifact.uri
    found = ["--payload-to", place, "--payload-sample", f"{wanted.sample:g}"]
    found += [word for column in wanted.drop for word in ("--payload-drop", column)]
    found += [word for column in wanted.hash for word in ("--payload-hash", column)]
    return [*found, "--payload-salt-file", f"{FILES}/salt/salt"] if wanted.salt_secret_ref is not None else found


def _secret(name: str, secret: str, items: list[dict[str, str]]) -> Mounted:
    source = {"secret": {"secretName": secret, "defaultMode": READABLE, "items": items}}
    return Mounted(name, f"{FILES}/{name}", source)


def _one_key(name: str, ref: SecretKeyRef, path: str) -> Mounted:
    return _secret(name, ref.name, [{"key": ref.key, "path": path}])


def _cpu_limit(server: Server) -> float | None:
    """In cores; None without one."""
    limits = server.resources.limits if server.resources is not None else None
    if limits is None or limits.cpu is None:
        return None
    text = limits.cpu
    if text.endswith("m"):
        return float(text[:-1]) / 1000
    return float(text) if text[-1].isdigit() else 64.0  # 1k cores and the like


def _number(value: float | None) -> str | None:
    return None if value is None else str(value)


def _seconds(value: Duration | None) -> str | None:
    return None if value is None else f"{value.seconds:g}"


def _bytes(value: str | None) -> str | None:
    return None if value is None else str(byte_size(value))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
