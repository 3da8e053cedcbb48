"""Each field of `spec.server` reaches the server as a flag that it takes, or as a file that it is told of."""

from __future__ import annotations

from typing import Any

import pytest

from homeostat.api.deployment import Track
from homeostat.api.kinds import MODEL_DEPLOYMENT, Deployment, Resource
from homeostat.api.meta import Meta
from homeostat.domain.desired.serving import GRACE_SECONDS, Scale, ServerPod, service_url, workload
from homeostat.domain.desired.serving_options import TEMPLATE, secrets
from homeostat.server.cli import _parser, chosen
from homeostat.server.life.room import POD_BYTES, WORKER_BYTES, Room
from homeostat.server.payloads.words import FINISH_SECONDS
from homeostat.server.settings import Settings

POD = ServerPod("IfNotPresent", ("registry:5000",))
DIGEST = "sha256:" + "a" * 64
TRACK = Track(child="v7", digest=DIGEST, uri="oci://registry:5000/ml/flights", image="server:1", template=TEMPLATE)
TLS = {"secretRef": {"name": "flights-tls"}}
SINK = {"http": {"url": "http://broker/ml"}}
PAYLOADS: dict[str, Any] = {"sample": 0.25, "sink": SINK}
CPU = {"resources": {"limits": {"cpu": "2500m"}}}
WANTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"threads": 4}, {"threads": 4}),
    ({"batching": {"maxLatency": "2ms", "maxRows": 64}}, {"max_latency": 0.002, "max_batch_rows": 64}),
    ({"limits": {"maxQueueRows": 100, "maxWait": "1m30s"}}, {"max_queue_rows": 100, "max_wait": 90.0}),
    ({"limits": {"deadline": "250ms", "runTime": "5s"}}, {"deadline": 0.25, "run_seconds": 5.0}),
    ({"limits": {"loadTime": "5m", "maxModel": "3Gi"}}, {"load_seconds": 300.0, "max_model_bytes": 3 << 30}),
    ({"limits": {"maxBody": "32Mi", "maxConnections": 9}}, {"max_body": 32 << 20, "max_connections": 9}),
    ({"cache": {"rows": 500, "ttl": "1h"}}, {"cache_rows": 500, "cache_seconds": 3600.0}),
    ({"feedback": {"horizon": "48h"}}, {"feedback_horizon": 172800.0}),
    ({"metrics": {"featureBins": True}}, {"feature_bins": True}),
    ({"statistics": {"enabled": False}}, {"stats": False}),
    ({"statistics": {"enabled": True}}, {"stats": True, "stats_sample": 1.0}),
    ({"statistics": {"sample": 0.125}}, {"stats": True, "stats_sample": 0.125}),
    ({"statistics": {"enabled": True, "sample": 1}}, {"stats_sample": 1.0}),
    ({"payloadLogging": PAYLOADS}, {"payload_to": "http://broker/ml", "payload_sample": 0.25}),
    ({"payloadLogging": {**PAYLOADS, "drop": ["a b", "c"]}}, {"payload_drop": ("a b", "c")}),
    ({"workers": 3}, {"workers": 3}),
    (CPU, {"workers": 0}),
    ({}, {"workers": 1, "digest": DIGEST, "grpc_port": 8081, "tls_cert": "", "payload_to": ""}),
]


def deployment(**server: Any) -> Deployment:
    meta = Meta.read({"namespace": "ml", "name": "flights", "uid": "u1"})
    spec = {"model": {"trainingRef": {"name": "flights"}}, "server": server}
    return Resource("ModelDeployment", meta, MODEL_DEPLOYMENT.spec.model_validate(spec), MODEL_DEPLOYMENT.status())


def pod(**server: Any) -> dict[str, Any]:
    made = workload(deployment(**server), TRACK, "stable", Scale(), POD)
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


def container(**server: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod(**server)["containers"][0]
    return found


def told(**server: Any) -> Settings:
    """What the server makes of its arguments. They go through its own checks."""
    return chosen(container(**server)["args"][1:], {})[0]


def files(**server: Any) -> dict[str, tuple[str, str]]:
    """Secret and key by the path where the server finds it."""
    made = pod(**server)
    where = {m["name"]: m["mountPath"] for m in made["containers"][0]["volumeMounts"] if m.get("readOnly")}
    return {
        f"{where[v['name']]}/{item['path']}": (v["secret"]["secretName"], item["key"])
        for v in made["volumes"]
        if "secret" in v
        for item in v["secret"]["items"]
    }


@pytest.mark.parametrize(("server", "wanted"), WANTED, ids=lambda given: ",".join(given) or "nothing")
def test_the_server_is_told_what_the_spec_says(server: dict[str, Any], wanted: dict[str, Any]) -> None:
    settings = told(**server)
    found = {name: getattr(settings, name) for name in wanted}
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()} == wanted


def test_what_the_spec_does_not_say_is_left_to_the_server() -> None:
    given, plain = _parser().parse_args(container()["args"][1:]), _parser().parse_args([])
    own = {"model_dir", "name", "version", "deployment_uid", "route_file", "workers", "digest"}
    assert {n: v for n, v in vars(given).items() if n not in own} == {
        n: v for n, v in vars(plain).items() if n not in own
    }


def test_certificates_keys_and_salts_are_files_that_the_pod_mounts_and_nobody_else_reads() -> None:
    ca, key, salt = ({"name": name, "key": "k"} for name in ("clients", "ids", "salts"))
    wanted: dict[str, Any] = {
        "tls": {**TLS, "clientCaSecretRef": ca},
        "feedback": {"keySecretRef": key},
        "payloadLogging": {**PAYLOADS, "hash": ["c"], "saltSecretRef": salt},
    }
    settings, found = told(**wanted), files(**wanted)
    assert found == {
        settings.tls_cert: ("flights-tls", "tls.crt"),
        settings.tls_key: ("flights-tls", "tls.key"),
        settings.tls_client_ca: ("clients", "k"),
        settings.feedback_key_file: ("ids", "k"),
        settings.payload_salt_file: ("salts", "k"),
    }
    assert {v["secret"]["defaultMode"] for v in pod(**wanted)["volumes"] if "secret" in v} == {0o440}
    assert pod(**wanted)["securityContext"]["fsGroup"] == pod()["securityContext"]["runAsGroup"]
    assert secrets(deployment(**wanted).spec.server) == tuple(
        f"Secret {name}" for name in ("flights-tls", "clients", "ids", "salts")
    )
    assert files() == {}


def test_probes_speak_what_the_admin_port_speaks() -> None:
    def schemes(**server: Any) -> set[str]:
        made = container(**server)
        return {made[f"{p}Probe"]["httpGet"].get("scheme", "HTTP") for p in ("startup", "readiness", "liveness")}

    assert schemes(tls=TLS) == {"HTTP"}
    assert schemes(tls={**TLS, "admin": True}) == {"HTTPS"}
    assert told(tls={**TLS, "admin": True}).tls_admin


def test_forwards_and_clients_are_sent_to_https_with_tls() -> None:
    assert service_url(deployment(tls=TLS), TRACK) == "https://flights-v7.ml.svc:8080"
    assert service_url(deployment(tls=TLS)) == "https://flights.ml.svc:8080"
    old = TRACK.model_copy(update={"template": None})
    assert service_url(deployment(tls=TLS), old) == "http://flights-v7.ml.svc:8080"


@pytest.mark.parametrize(
    ("server", "memory"),
    [
        ({}, "192Mi"),
        ({"workers": 4}, "384Mi"),
        (CPU, "256Mi"),
        ({"resources": {"limits": {"cpu": "4"}}}, "384Mi"),
        ({"cache": {"rows": 9}}, "256Mi"),
        ({"payloadLogging": PAYLOADS}, "240Mi"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "1Gi"),
    ],
)
def test_memory_follows_the_workers_and_what_is_on(server: dict[str, Any], memory: str) -> None:
    assert container(**server)["resources"]["limits"]["memory"] == memory


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_the_server_finds_room_for_as_many_workers_as_the_limit_has_cores(cores: int) -> None:
    memory = container(resources={"limits": {"cpu": str(cores)}})["resources"]["limits"]["memory"]
    assert Room(cores, int(memory[:-2]) << 20).workers(64) == cores
    assert POD_BYTES + (cores - 1) * WORKER_BYTES <= int(memory[:-2]) << 20


def test_a_resized_pod_is_not_restarted() -> None:
    policy = {p["resourceName"]: p["restartPolicy"] for p in container()["resizePolicy"]}
    assert policy == {"cpu": "NotRequired", "memory": "NotRequired"}


def test_a_pod_gets_the_time_that_leaving_takes() -> None:
    settings = Settings("", "", "")
    least = settings.lame_duck + settings.drain + 3
    assert pod()["terminationGracePeriodSeconds"] == GRACE_SECONDS > least
    assert pod(payloadLogging=PAYLOADS)["terminationGracePeriodSeconds"] > least + FINISH_SECONDS + 1
