"""Two versions of one deployment with TLS: a forward goes to whoever shows the pod's own certificate, and to nobody else."""

import http.client
import json
from collections import Counter
from pathlib import Path

import pytest

from serving.certificates import Authority, Pair
from serving.pod import Pod, eventually
from serving.test_tls import BODY, Mounted, trusting


def versions(pod: Pod, authority: Authority, pair: Pair, count: int) -> Counter[str]:
    """Who answered `count` requests."""
    connection = http.client.HTTPSConnection("127.0.0.1", pod.port, timeout=10, context=trusting(authority, pair))
    found: Counter[str] = Counter()
    for _ in range(count):
        connection.request("POST", "/v2/models/flights/infer", BODY)
        answer = connection.getresponse()
        assert answer.status == 200
        found[json.loads(answer.read())["model_version"]] += 1
    connection.close()
    return found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("forwards") / "ca")


@pytest.mark.parametrize("mutual", [False, True])
def test_the_other_version_is_trusted_by_the_certificate_that_both_mount(
    flights: Path, tmp_path: Path, authority: Authority, mutual: bool
) -> None:
    clients = Authority.new(tmp_path / "clients")
    pair, client = authority.sign("server"), clients.sign("client")
    mounted = Mounted(tmp_path / "secret", pair, clients.cert)
    flags = {**mounted.flags, **({"tls_client_ca": mounted.ca} if mutual else {})}
    with Pod(flights, version="v7", workers=1, **flags) as old, Pod(flights, version="v8", workers=1, **flags) as new:
        old.ready()
        new.ready()
        target = f"https://127.0.0.1:{new.port}"
        old.route(epoch=1, target=target, version="v8", weight=50)
        assert versions(old, authority, client, 200) == {"v7": 100, "v8": 100}
        renewed = authority.sign("renewed", "renewed")
        mounted.mount(renewed, clients.cert)
        old.route(epoch=2, target=target, version="v8", weight=100)
        eventually(lambda: versions(old, authority, client, 20) == {"v8": 20}, "forwards go on with a new certificate")


def test_a_certificate_of_the_same_authority_is_not_enough(flights: Path, tmp_path: Path, authority: Authority) -> None:
    mine = Mounted(tmp_path / "mine", authority.sign("mine"))
    theirs = Mounted(tmp_path / "theirs", authority.sign("theirs"))
    with (
        Pod(flights, version="v7", workers=1, **mine.flags) as old,
        Pod(flights, version="v8", workers=1, **theirs.flags) as new,
    ):
        old.ready()
        new.ready()
        old.route(epoch=1, target=f"https://127.0.0.1:{new.port}", version="v8", weight=100)
        assert versions(old, authority, authority.sign("client"), 20) == {"v7": 20}
        counted = old.stats().forwards["v8"]
        assert counted.ok == 0
        assert counted.failed > 0
