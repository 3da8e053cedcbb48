"""`spec.server` on the local cluster: what the pods are told, TLS, gRPC, pods that are resized while users are on the line."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from cluster.loop import a_namespace, apply, eventually, get, kubectl, push, wait_condition
from cluster.specs import rows, serving, training
from cluster.traffic import Traffic, address, body
from homeostat.server.protos import inference_pb2 as wire
from serving.certificates import Authority, Pair

pytestmark = pytest.mark.cluster
ROWS = rows(2000)
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with a_namespace() as name:
        file: Path = tmp_path_factory.mktemp("rows") / "rows.csv"
        file.write_text("\n".join(["a,b,late", *(f"{r['a']},{r['b']},{label}" for r, label in ROWS)]))
        push(name, file, "rows:latest")
        yield name


@pytest.fixture(scope="module")
def trained(namespace: str) -> str:
    """A training with one version, for deployments of any name."""
    apply(namespace, "ModelTraining", "small", training())
    wait_condition((namespace, "mt", "small"), "Ready", ("True", "VersionAvailable"), 180)
    return "small"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls") / "ca")


def serve(namespace: str, name: str, followed: str, **server: Any) -> None:
    apply(namespace, "ModelDeployment", name, {**serving(followed), "server": server})


def ready(namespace: str, name: str) -> None:
    wait_condition((namespace, "md", name), "Ready", ("True", "Serving"), 180)


def secret(namespace: str, name: str, kind: str, **data: bytes) -> None:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": encoded}
    kubectl("-n", namespace, "apply", "-f", "-", given=manifest)


def tls_secret(namespace: str, name: str, pair: Pair) -> None:
    secret(namespace, name, "kubernetes.io/tls", tls_crt=pair.cert.read_bytes(), tls_key=pair.key.read_bytes())


def pods(namespace: str, name: str, child: str = "v1") -> list[dict[str, Any]]:
    chosen = f"homeostat.dev/model={name},homeostat.dev/version={child}"
    found = json.loads(kubectl("-n", namespace, "get", "pods", "-l", chosen, "-o", "json"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def arguments(pod: dict[str, Any]) -> dict[str, str]:
    words = pod["spec"]["containers"][0]["args"]
    return {flag: value for flag, value in zip(words, [*words[1:], ""], strict=True) if flag.startswith("--")}


def asked(where: str, method: str, path: str, content: bytes = b"", trust: ssl.SSLContext | None = None) -> Any:
    """Status and text. where: host:port."""
    host, _, port = where.partition(":")
    kind: Callable[..., http.client.HTTPConnection] = http.client.HTTPConnection
    more: dict[str, Any] = {}
    if trust is not None:
        kind, more = Named, {"context": trust}
    connection = kind(host, int(port), timeout=10, **more)
    try:
        connection.request(method, path, content or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def reached(where: str) -> bool:
    """Whether the node's rules for a new Service are there, and its pods answer."""
    try:
        return bool(asked(where, "GET", "/v2/health/ready")[0] == 200)
    except OSError:
        return False


class Named(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate is for another name, as behind a resolver of one's own."""

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._context.wrap_socket(raw, server_hostname="localhost")  # type: ignore[attr-defined]


def of_grpc(channel: grpc.Channel, model: str) -> str:
    """The version that answered."""
    request = wire.ModelInferRequest(model_name=model)
    for name, value in ROWS[0][0].items():
        tensor = request.inputs.add(name=name, datatype="FP64", shape=[1, 1])
        tensor.contents.fp64_contents.append(value)
    call = channel.unary_unary(INFER, wire.ModelInferRequest.SerializeToString, wire.ModelInferResponse.FromString)
    return str(call(request, timeout=10).model_version)


@dataclass
class SecureUsers:
    """Sends requests over TLS all the time, in both protocols, and remembers who answered and what went wrong."""

    host: str
    model: str
    authority: Path
    versions: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._running = [threading.Thread(target=t, daemon=True) for t in (self._rest, self._rest, self._grpc)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(15)

    def _rest(self) -> None:
        trust = ssl.create_default_context(cafile=str(self.authority))
        connection = Named(self.host, 8080, timeout=10, context=trust)
        path, last = f"/v2/models/{self.model}/infer", False
        while not self._stop.wait(0.005):
            try:
                connection.request("POST", path, body(ROWS[0][0]))
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if last:
                    self.errors.append(repr(error))
                last = True  # once more, as clients do when an idle connection was closed meanwhile
                continue
            last = False
            if answer.status != 200:
                self.errors.append(text.decode()[:300])
            else:
                self.versions[f"rest {json.loads(text)['model_version']}"] += 1

    def _grpc(self) -> None:
        with secure_channel(self.host, self.authority) as channel:
            while not self._stop.wait(0.01):
                try:
                    self.versions[f"grpc {of_grpc(channel, self.model)}"] += 1
                except grpc.RpcError as error:
                    self.errors.append(repr(error))


def secure_channel(host: str, authority: Path) -> grpc.Channel:
    trusted = grpc.ssl_channel_credentials(authority.read_bytes())
    return grpc.secure_channel(f"{host}:8081", trusted, (("grpc.ssl_target_name_override", "localhost"),))


@pytest.mark.parametrize(
    ("server", "fix"),
    [
        ({"batching": {"maxLatency": "2s"}}, "maxLatency must be between 0s and 1s"),
        ({"limits": {"deadline": "0s"}}, "deadline must be between 1ms and 1h"),
        ({"limits": {"maxBody": "16 MB"}}, "spec.server.limits.maxBody"),
        ({"cache": {"rows": 0}}, "spec.server.cache.rows"),
        ({"workers": 65}, "spec.server.workers"),
        ({"tls": {}}, "spec.server.tls.secretRef"),
        ({"statistics": {"enabled": False, "sample": 0.1}}, "sample needs enabled: true"),
        ({"statistics": {"sample": 0}}, "spec.server.statistics.sample"),
        ({"payloadLogging": {"sample": 1, "sink": {}}}, "name exactly one sink"),
        (
            {"payloadLogging": {"sample": 1, "sink": {"http": {"url": "http://x/"}}, "hash": ["a"]}},
            "hash needs saltSecretRef",
        ),
        (
            {
                "payloadLogging": {
                    "sample": 1,
                    "sink": {"http": {"url": "http://x/"}},
                    "hash": ["a"],
                    "drop": ["a"],
                    "saltSecretRef": {"name": "s", "key": "k"},
                }
            },
            "dropped or hashed, not both",
        ),
    ],
)
def test_options_that_cannot_hold_are_refused_with_the_fix(namespace: str, server: dict[str, Any], fix: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(fix)):
        serve(namespace, "refused", "small", **server)


def test_options_reach_the_pod_and_hold_there(namespace: str, trained: str) -> None:
    secret(namespace, "ids", "Opaque", key=b"0123456789abcdef" * 2)
    serve(
        namespace,
        "options",
        trained,
        workers=2,
        batching={"maxLatency": "1ms", "maxRows": 256},
        limits={"maxBody": "4Ki", "deadline": "5s", "maxConnections": 500},
        cache={"rows": 1000, "ttl": "1m"},
        metrics={"featureBins": True},
        feedback={"keySecretRef": {"name": "ids", "key": "key"}, "horizon": "48h"},
    )
    ready(namespace, "options")
    (pod,) = pods(namespace, "options")
    wanted = {"--workers": "2", "--max-latency": "0.001", "--max-batch-rows": "256", "--max-body": "4096"}
    wanted |= {"--deadline": "5", "--max-connections": "500", "--cache-rows": "1000", "--cache-seconds": "60"}
    assert wanted.items() <= arguments(pod).items()
    assert arguments(pod)["--digest"] == (get(namespace, "md", "options") or {})["status"]["stable"]["digest"]
    front = f"{address(namespace, 'options')}:8080"
    url = "/v2/models/options/infer"
    eventually(lambda: reached(front), 30, "the front Service answers")
    assert asked(front, "POST", url, body(ROWS[0][0]))[0] == 200
    status, text = asked(front, "POST", url, b'{"inputs":[' + b" " * 5000 + b"]}")
    assert status == 413, text
    admin = f"{pod['status']['podIP']}:8082"

    def counted() -> bool:
        asked(front, "POST", url, body(ROWS[0][0]))
        text = asked(admin, "GET", "/metrics")[1]
        hits = re.search(r"homeostat_cache_hits_total\{[^}]*\} [1-9]", text)
        return "homeostat_feature_bin_total{" in text and hits is not None

    eventually(counted, 20, "features by cell, and hits of the cache")
    assert "homeostat_workers{" in asked(admin, "GET", "/metrics")[1]


def test_grpc_is_behind_the_front_service_and_a_port_that_pods_lack_hurts_no_other(
    namespace: str, trained: str
) -> None:
    serve(namespace, "grpc", trained)
    ready(namespace, "grpc")
    host = address(namespace, "grpc")
    ports = {p["name"]: p for p in (get(namespace, "service", "grpc") or {})["spec"]["ports"]}
    assert (ports["grpc"]["port"], ports["grpc"]["appProtocol"]) == (8081, "kubernetes.io/h2c")
    with grpc.insecure_channel(f"{host}:8081") as channel:
        grpc.channel_ready_future(channel).result(30)
        assert of_grpc(channel, "grpc") == "v1"
    selector = {"homeostat.dev/model": "grpc", "homeostat.dev/version": "v1"}
    named = [{"name": n, "port": p, "targetPort": n} for n, p in (("http", 8080), ("missing", 8081))]
    spec = {"selector": selector, "ports": named}
    odd = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd"}, "spec": spec}
    kubectl("-n", namespace, "apply", "-f", "-", given=odd)
    host = address(namespace, "odd")

    def reachable() -> bool:
        try:
            return bool(asked(f"{host}:8080", "GET", "/v2/health/ready")[0] == 200)
        except OSError:
            return False

    eventually(reachable, 30, "the port that the pods have")
    with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
        asked(f"{host}:8081", "GET", "/")


def test_a_missing_secret_is_named_and_once_it_is_there_a_whole_rollout_runs_over_tls(
    namespace: str, authority: Authority
) -> None:
    apply(namespace, "ModelTraining", "secure", training())
    tls = {"secretRef": {"name": "secure-tls"}, "admin": True}
    serve(namespace, "secure", "secure", tls=tls)
    message = wait_condition((namespace, "md", "secure"), "Ready", ("False", "VolumesMissing"), 180)
    assert "Secret secure-tls" in message
    tls_secret(namespace, "secure-tls", authority.sign("secure"))
    ready(namespace, "secure")
    assert (get(namespace, "md", "secure") or {})["status"]["url"].startswith("https://secure.")
    host, trust = address(namespace, "secure"), ssl.create_default_context(cafile=str(authority.cert))

    def reachable() -> bool:
        try:
            return bool(asked(f"{host}:8080", "GET", "/v2/health/ready", trust=trust)[0] == 200)
        except OSError:
            return False

    eventually(reachable, 30, "the front Service answers over TLS")
    with pytest.raises((OSError, http.client.HTTPException)):
        asked(f"{host}:8080", "GET", "/v2/health/ready")
    with SecureUsers(host, "secure", authority.cert) as users:
        apply(namespace, "ModelTraining", "secure", training(estimator="HistGradientBoostingClassifier"))

        def promoted() -> bool:
            status = (get(namespace, "md", "secure") or {})["status"]
            return bool(status.get("stable", {}).get("versionName") == "secure-2")

        eventually(promoted, 180, "secure-2 is promoted")
        ready(namespace, "secure")
    assert users.errors == []
    assert set(users.versions) == {f"{protocol} {version}" for protocol in ("rest", "grpc") for version in ("v1", "v2")}


def test_a_pod_is_resized_in_place_and_its_workers_follow_while_nobody_notices(namespace: str, trained: str) -> None:
    limits = {"cpu": "1", "memory": "512Mi"}
    serve(namespace, "resized", trained, resources={"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": limits})
    ready(namespace, "resized")
    (pod,) = pods(namespace, "resized")
    name, admin = pod["metadata"]["name"], f"{pod['status']['podIP']}:8082"

    def workers() -> int:
        found = re.search(r"^homeostat_workers\{[^}]*\} (\d+)", asked(admin, "GET", "/metrics")[1], re.MULTILINE)
        return int(found[1]) if found else 0

    def resize(cpu: str) -> None:
        change = {"spec": {"containers": [{"name": "server", "resources": {"limits": {"cpu": cpu}}}]}}
        kubectl("-n", namespace, "patch", "pod", name, "--subresource", "resize", "-p", json.dumps(change))

    assert workers() == 1
    with Traffic(address(namespace, "resized"), "resized", ROWS) as users:
        for cpu, count in (("2", 2), ("1", 1)):
            resize(cpu)
            eventually(lambda wanted=count: workers() == wanted, 60, f"{count} workers with {cpu} cores")
            sent = sum(users.statuses.values())
            eventually(lambda before=sent: sum(users.statuses.values()) > before + 200, 30, "requests go on")
    users.assert_nobody_saw_an_error()
    (after,) = pods(namespace, "resized")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert [c["restartCount"] for c in after["status"]["containerStatuses"]] == [0]


def test_a_candidate_whose_model_can_never_be_served_goes_back_at_once(
    namespace: str, trained: str, tmp_path: Path
) -> None:
    serve(namespace, "doomed", trained)
    ready(namespace, "doomed")
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model at all")
    push(namespace, file, "doomed:latest")
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    source = {"source": {"uri": "doomed:latest", "digest": digest}}
    apply(namespace, "ModelDeployment", "doomed", {**serving(trained), "model": source})
    wait_condition((namespace, "md", "doomed"), "RolledBack", ("True", "RolledBack"), 60)
    status = (get(namespace, "md", "doomed") or {})["status"]
    assert [(q["digest"], q["reason"]) for q in status["quarantined"]] == [(digest, "NotOnnx")]
    assert status["stable"]["versionName"] == "small-1"


def test_settings_that_new_pods_cannot_serve_with_are_said_while_the_old_pod_serves_on(
    namespace: str, trained: str
) -> None:
    serve(namespace, "wrong", trained)
    ready(namespace, "wrong")
    with Traffic(address(namespace, "wrong"), "wrong", ROWS) as users:
        sink = {"http": {"url": "http://nowhere.invalid/"}}
        serve(namespace, "wrong", trained, payloadLogging={"sample": 1, "sink": sink, "drop": ["nothing"]})
        message = wait_condition((namespace, "md", "wrong"), "Stalled", ("True", "PayloadSettings"), 60)
        assert "nothing" in message
        wait_condition((namespace, "md", "wrong"), "Ready", ("True", "Serving"), 5)
        serve(namespace, "wrong", trained)
        wait_condition((namespace, "md", "wrong"), "Reconciling", ("False", "Settled"), 90)
    users.assert_nobody_saw_an_error()


def test_pods_of_before_an_upgrade_are_left_alone_until_they_are_refreshed(namespace: str, trained: str) -> None:
    serve(namespace, "older", trained)
    ready(namespace, "older")
    kept = pods(namespace, "older")[0]["metadata"]["uid"]
    gone = json.dumps([{"op": "remove", "path": "/status/stable/template"}])  # as an operator of before left it
    kubectl("-n", namespace, "patch", "md", "older", "--subresource", "status", "--type", "json", "-p", gone)

    def only(*, new: bool) -> bool:
        found = pods(namespace, "older")
        return len(found) == 1 and ("--digest" in arguments(found[0])) is new and bool(found[0]["status"].get("podIP"))

    with Traffic(address(namespace, "older"), "older", ROWS) as users:
        serve(namespace, "older", trained, cache={"rows": 100})
        message = wait_condition((namespace, "md", "older"), "Stalled", ("True", "RefreshNeeded"), 30)
        assert "spec.server.cache" in message
        eventually(lambda: only(new=False) and pods(namespace, "older")[0]["metadata"]["uid"] != kept, 90, "old pods")
        kubectl("-n", namespace, "annotate", "md", "older", "homeostat.dev/refresh-requested=now")
        eventually(lambda: only(new=True), 90, "a pod of the newest template")
        ready(namespace, "older")
    users.assert_nobody_saw_an_error()
    assert arguments(pods(namespace, "older")[0])["--cache-rows"] == "100"
