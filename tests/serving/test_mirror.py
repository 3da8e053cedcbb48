"""The shadow gets copies and is compared; whatever it does, users do not notice."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeostat.api.wire.route import Mirror
from homeostat.server.traffic.circuit import FAILURES_IN_A_ROW
from homeostat.server.traffic.mirror import MOST_COPY, MOST_IN_FLIGHT
from serving.fronts import BODY, Front, User
from serving.pod import ROW, Pod, as_inputs, eventually
from serving.targets import Scripted, nothing_there


@pytest.fixture(scope="module")
def pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights, version="v7", workers=1) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def shadow_pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights, version="v9", workers=1) as running:
        yield running.ready()


@pytest.fixture
def front(pod: Pod) -> Iterator[Front]:
    found = Front(pod)
    yield found
    found.route()


@pytest.fixture
def shadow(shadow_pod: Pod) -> Front:
    return Front(shadow_pod)


@pytest.fixture
def user(pod: Pod) -> Iterator[User]:
    found = User(pod)
    yield found
    found.close()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted(200)
    yield server
    server.end()


def test_a_share_is_copied_and_agrees(front: Front, shadow: Front, user: User) -> None:
    front.route(mirror=Mirror(target=shadow.pod.url, version="v9", percent=25))
    assert user.ask(200).versions == {"v7": 200}
    eventually(lambda: front.agreement("v9") == (50, 0, 0), "all copies are compared")
    assert shadow.served("shadow") == 50
    assert shadow.served("stable") == 0
    assert front.outcomes("v7") == (200, 0, 0)
    assert front.outcomes("v9") == shadow.outcomes("v9") == (0, 0, 0)


def test_rows_are_compared_one_by_one(front: Front, user: User, scripted: Scripted) -> None:
    rows = {name: values * 4 for name, values in ROW.items()}
    body = json.dumps({"inputs": as_inputs(rows)}).encode()
    found = user.ask(body=body).last.json
    label = next(output for output in found["outputs"] if output["name"] == "label")
    label["data"][2] = not label["data"][2]
    scripted.content = json.dumps(found).encode()
    front.route(mirror=Mirror(target=scripted.url, version="v9"))
    user.ask(body=body)
    eventually(lambda: front.agreement("v9") == (3, 1, 0), "three rows agree")


def test_copies_leave_only_for_what_this_version_answered_itself(front: Front, shadow: Front, user: User) -> None:
    dead_mirror = Mirror(target=shadow.pod.url, version="v9")
    with nothing_there() as url:
        front.route(target=url, version="v8", weight=50, mirror=dead_mirror)
        user.ask(200)
    bad = user.ask(5, body=b'{"inputs":[]}').answers[-5:]
    assert all(answer.status == 400 for answer in bad)
    eventually(lambda: front.agreement("v9") == (100, 0, 0), "the own share was copied")
    assert shadow.served("shadow") == 100


@pytest.mark.parametrize("content", [b"garbage", b"", b'{"outputs":[{"name":"label"}]}'])
def test_garbage_is_counted_and_users_see_nothing(front: Front, user: User, scripted: Scripted, content: bytes) -> None:
    scripted.content = content
    front.route(mirror=Mirror(target=scripted.url, version="v9"))
    assert user.ask(50).versions == {"v7": 50}
    eventually(lambda: front.agreement("v9") == (0, 0, 50), "all copies have failed")


def test_a_dead_shadow_is_counted_and_users_see_nothing(front: Front, user: User) -> None:
    with nothing_there() as url:
        front.route(mirror=Mirror(target=url, version="v9"))
        assert user.ask(100).versions == {"v7": 100}
        eventually(lambda: front.agreement("v9") == (0, 0, 100), "all copies have failed")
    assert front.outcomes("v7") == (100, 0, 0)


def test_a_busy_shadow_is_not_at_fault(front: Front, user: User, scripted: Scripted) -> None:
    scripted.status, dropped = 503, front.dropped()
    front.route(mirror=Mirror(target=scripted.url, version="v9"))
    user.ask(20)
    eventually(lambda: front.dropped() - dropped == 20, "all copies were dropped")
    assert front.agreement("v9") == (0, 0, 0)


def test_a_hanging_shadow_holds_a_bounded_number_of_copies(front: Front, user: User, scripted: Scripted) -> None:
    scripted.hang, dropped = True, front.dropped()
    front.route(mirror=Mirror(target=scripted.url, version="v9", deadline_ms=60_000))
    many = MOST_IN_FLIGHT + 40
    assert user.ask(many).versions == {"v7": many}
    eventually(lambda: front.dropped() - dropped == 40, "what did not fit was dropped")
    eventually(lambda: len(scripted.seen) == MOST_IN_FLIGHT, "the others are on their way")
    quick = sorted(user.seconds)[many // 2]
    assert sorted(user.seconds)[-3] < 20 * quick + 0.1


def test_a_shadow_that_is_too_slow_is_left_alone_by_the_circuit(front: Front, user: User, scripted: Scripted) -> None:
    scripted.hang = True
    front.route(mirror=Mirror(target=scripted.url, version="v9", deadline_ms=20))
    eventually(lambda: user.ask() and front.agreement("v9")[2] >= 50, "copies fail without being sent")
    assert len(scripted.seen) < FAILURES_IN_A_ROW + 25


def test_copies_are_as_the_client_sent_them_but_uncompressed(front: Front, user: User, scripted: Scripted) -> None:
    front.route(mirror=Mirror(target=scripted.url, version="v9"))
    user.ask(accept_encoding="gzip", x_mine="1", x_homeostat_track="candidate")
    seen = eventually(lambda: scripted.seen, "the copy has come")[0]
    assert "accept-encoding" not in seen
    assert (seen["x-mine"], seen["x-homeostat-track"], seen["x-homeostat-timeout-ms"]) == ("1", "shadow", "5000")
    assert scripted.bodies == [BODY]


def test_large_copies_are_dropped(front: Front, user: User, scripted: Scripted) -> None:
    dropped, rows = front.dropped(), {name: values * 6000 for name, values in ROW.items()}
    front.route(mirror=Mirror(target=scripted.url, version="v9"))
    answer = user.ask(body=json.dumps({"inputs": as_inputs(rows)}).encode()).last
    assert answer.status == 200
    assert len(answer.content) > MOST_COPY
    eventually(lambda: front.dropped() - dropped == 1, "the copy was dropped")
    assert scripted.seen == []


def test_mirroring_ends_with_the_route(front: Front, shadow: Front, user: User) -> None:
    front.route(mirror=Mirror(target=shadow.pod.url, version="v9"))
    user.ask(10)
    eventually(lambda: front.agreement("v9") == (10, 0, 0), "all copies are compared")
    front.route()
    user.ask(10)
    assert shadow.served("shadow") == 10
