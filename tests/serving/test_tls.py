"""TLS on the serving and admin ports, with certificates that change while the pod runs."""

import http.client
import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.certificates import Authority, Pair
from serving.pod import ROW, Pod, as_inputs, eventually

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
BODY = json.dumps({"inputs": as_inputs(ROW)})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls") / "ca")


class Mounted:
    """A Secret's files as the kubelet mounts them: links to a folder that is swapped at once."""

    def __init__(self, folder: Path, pair: Pair, ca: Path | None = None) -> None:
        folder.mkdir()
        self._folder, self._count = folder, 0
        self.mount(pair, ca)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")

    def mount(self, pair: Pair, ca: Path | None = None) -> None:
        self._count += 1
        new = self._folder / f"..{self._count}"
        new.mkdir()
        (new / "tls.crt").write_bytes(pair.cert.read_bytes())
        (new / "tls.key").write_bytes(pair.key.read_bytes())
        if ca:
            (new / "ca.crt").write_bytes(ca.read_bytes())
        link = self._folder / "..data.new"
        link.symlink_to(new.name)
        link.replace(self._folder / "..data")

    @property
    def flags(self) -> dict[str, Path]:
        return {"tls_cert": self._folder / "tls.crt", "tls_key": self._folder / "tls.key"}

    @property
    def ca(self) -> Path:
        return self._folder / "ca.crt"


def trusting(authority: Authority, pair: Pair | None = None, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def subject(port: int, context: ssl.SSLContext) -> str:
    """The name in the certificate that this port shows."""
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as s,
    ):
        names = dict(pairs[0] for pairs in s.getpeercert()["subject"])  # type: ignore[index]
        return str(names["commonName"])


def infer(pod: Pod, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", pod.port, timeout=10, context=context)
    try:
        connection.request("POST", "/v2/models/flights/infer", BODY)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def mounted(tmp_path: Path, authority: Authority) -> Mounted:
    return Mounted(tmp_path / "secret", authority.sign("first", "first"))


@pytest.fixture
def secure(flights: Path, mounted: Mounted) -> Iterator[Pod]:
    with Pod(flights, workers=1, **mounted.flags) as running:
        yield running.ready()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_the_serving_port_speaks_tls_1_2_and_later_and_the_admin_port_as_it_did(
    secure: Pod, authority: Authority
) -> None:
    assert infer(secure, trusting(authority)) == 200
    old = trusting(authority)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        subject(secure.port, old)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert subject(secure.port, old) == "first"
    with pytest.raises((OSError, http.client.HTTPException)):
        secure.get("/v2/health/live")
    assert secure.get("/livez", port=secure.admin).status == 200


def test_each_port_agrees_on_its_protocol_in_the_handshake(secure: Pod, authority: Authority) -> None:
    context = trusting(authority, protocols=("h2", "http/1.1"))
    for port, protocol in ((secure.port, "http/1.1"), (secure.grpc, "h2")):
        raw = socket.create_connection(("127.0.0.1", port))
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
            assert connection.selected_alpn_protocol() == protocol


def test_a_new_certificate_is_used_within_seconds_and_disturbs_no_connection(
    secure: Pod, mounted: Mounted, authority: Authority
) -> None:
    context = trusting(authority)
    assert subject(secure.port, context) == "first"
    kept = http.client.HTTPSConnection("127.0.0.1", secure.port, timeout=10, context=context)
    kept.request("POST", "/v2/models/flights/infer", BODY)
    assert kept.getresponse().read()
    mounted.mount(authority.sign("second", "second"))
    eventually(lambda: subject(secure.port, context) == "second", "the new certificate is shown")
    kept.request("POST", "/v2/models/flights/infer", BODY)
    assert kept.getresponse().status == 200
    kept.close()


def test_a_broken_pair_keeps_the_old_one_and_is_said(secure: Pod, mounted: Mounted, authority: Authority) -> None:
    good, other = authority.sign("good", "good"), authority.sign("other", "other")
    mounted.mount(Pair(good.cert, other.key))
    eventually(lambda: "still used" in secure.stats().state.message, "the state says it")
    assert secure.stats().state.reason == "Ready"
    assert subject(secure.port, trusting(authority)) == "first"
    mounted.mount(good)
    eventually(lambda: subject(secure.port, trusting(authority)) == "good", "the repaired pair is shown")
    eventually(lambda: secure.stats().state.message == "", "the state says nothing more")


def test_clients_need_a_certificate_of_the_authority_that_is_mounted_now(
    flights: Path, tmp_path: Path, authority: Authority
) -> None:
    clients, others = Authority.new(tmp_path / "clients"), Authority.new(tmp_path / "others")
    pair = authority.sign("server")
    mounted = Mounted(tmp_path / "secret", pair, clients.cert)
    known, stranger = trusting(authority, clients.sign("c")), trusting(authority, others.sign("o"))
    with Pod(flights, workers=1, tls_client_ca=mounted.ca, **mounted.flags) as pod:
        pod.ready()
        assert infer(pod, known) == 200
        for context in (stranger, trusting(authority)):
            with pytest.raises((OSError, http.client.HTTPException)):
                infer(pod, context)
        mounted.mount(pair, others.cert)

        def changed() -> bool:
            try:
                return infer(pod, stranger) == 200
            except (OSError, http.client.HTTPException):
                return False

        eventually(changed, "the new authority's clients are let in")
        with pytest.raises((OSError, http.client.HTTPException)):
            infer(pod, known)


def test_the_admin_port_speaks_tls_when_asked_without_a_clients_certificate(
    flights: Path, tmp_path: Path, authority: Authority
) -> None:
    mounted = Mounted(tmp_path / "secret", authority.sign("admin", "admin"), authority.cert)
    flags = f"--tls-cert={mounted.flags['tls_cert']}", f"--tls-key={mounted.flags['tls_key']}"
    with Pod(flights, more=(*flags, f"--tls-client-ca={mounted.ca}", "--tls-admin")) as pod:
        context = trusting(authority)

        def up() -> bool:
            try:
                return subject(pod.admin, context) == "admin"
            except OSError:
                return False

        eventually(up, "the admin port answers")
        mounted.mount(authority.sign("again", "again"), authority.cert)
        eventually(lambda: subject(pod.admin, context) == "again", "the new certificate is shown")


def test_files_that_do_not_fit_leave_the_pod_alive_and_named(
    flights: Path, tmp_path: Path, authority: Authority
) -> None:
    one, two = authority.sign("one"), authority.sign("two")
    with Pod(flights, tls_cert=one.cert, tls_key=two.key) as pod:
        eventually(lambda: pod.state() == "TlsInvalid", "state TlsInvalid")
        assert "--tls-key" in pod.stats().state.message
        assert pod.get("/livez", port=pod.admin).status == 200
