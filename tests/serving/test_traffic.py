"""The split between versions: exact shares, and users who see no error of a failing candidate."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from homeostat.api.wire.route import LANES, Rule, Sticky
from homeostat.server.traffic.circuit import FAILURES_IN_A_ROW
from serving import models
from serving.fronts import Front, User
from serving.pod import ROW, Pod, as_inputs, eventually
from serving.targets import Scripted, nothing_there


@pytest.fixture(scope="module")
def old_pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights, version="v7", workers=1) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def new_pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights, version="v8", workers=1) as running:
        yield running.ready()


@pytest.fixture
def stable(old_pod: Pod) -> Front:
    return Front(old_pod)


@pytest.fixture
def candidate(new_pod: Pod) -> Front:
    return Front(new_pod)


@pytest.fixture
def user(stable: Front) -> Iterator[User]:
    found = User(stable.pod)
    yield found
    found.close()


@pytest.fixture
def faulty() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.end()


@pytest.mark.parametrize("weight", [0, 1, 5, 50, 99, 100])
def test_each_block_of_200_holds_the_exact_share(stable: Front, candidate: Front, user: User, weight: int) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=weight)
    here, there = 200 - 2 * weight, 2 * weight
    versions = user.ask(200).versions
    assert (versions["v7"], versions["v8"]) == (here, there)
    assert (stable.outcomes("v7"), stable.outcomes("v8")) == ((here, 0, 0), (there, 0, 0))
    assert candidate.served("candidate") == there
    assert "v8" not in candidate.pod.stats().forwards


def test_keys_keep_their_side_while_the_share_grows_and_over_the_flip(stable: Front, candidate: Front) -> None:
    people, sticky = [f"user-{i}" for i in range(120)], Sticky(header="x-user-id", salt="sha256:8")

    def sides(front: Front) -> dict[str, str]:
        user = User(front.pod)
        found = {one: user.ask(x_user_id=one).last.json["model_version"] for one in people}
        user.close()
        return found

    stable.route(target=candidate.pod.url, version="v8", weight=30, sticky=sticky)
    first = sides(stable)
    assert sides(stable) == first
    stable.route(target=candidate.pod.url, version="v8", weight=60, sticky=sticky)
    second = sides(stable)
    assert {p for p in people if first[p] == "v8"} < {p for p in people if second[p] == "v8"}
    candidate.route(target=stable.pod.url, version="v7", track="holdback", weight=40, sticky=sticky)
    assert sides(candidate) == second
    for lanes in (stable.lanes("v7"), stable.lanes("v8")):
        assert len(lanes) == LANES
        assert all(lanes)
    assert sum(stable.lanes("v7") + stable.lanes("v8")) == 360
    candidate.route()


def test_a_request_that_was_forwarded_once_is_answered_where_it_arrives(
    stable: Front, candidate: Front, user: User, faulty: Scripted
) -> None:
    stable.route(target=faulty.url, version="v8", weight=100)
    user.ask()  # only another pod knows what its hop header says
    sent = {name: faulty.seen[0][name] for name in ("x-homeostat-hop", "x-homeostat-track")}
    assert sent["x-homeostat-track"] == "candidate"
    stable.route(target=candidate.pod.url, version="v8", weight=100)
    stable.begin()
    answer = stable.pod.infer(ROW, {**sent, "x-homeostat-track": "holdback"})
    assert answer.json["model_version"] == "v7"
    assert stable.served("holdback") == 1
    assert stable.outcomes("v7") == stable.outcomes("v8") == (0, 0, 0)


def test_pods_whose_routes_point_at_each_other_forward_once(stable: Front, candidate: Front, user: User) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=100)
    candidate.route(target=stable.pod.url, version="v7", track="holdback", weight=100)
    assert user.ask(50).versions == {"v8": 50}
    other = User(candidate.pod).ask(50)
    assert other.versions == {"v7": 50}
    assert stable.outcomes("v8") == candidate.outcomes("v7") == (50, 0, 0)
    assert stable.served("holdback") == candidate.served("candidate") == 50
    candidate.route()
    other.close()


def test_a_dead_candidate_is_counted_and_users_see_no_error(stable: Front, user: User) -> None:
    with nothing_there() as url:
        stable.route(target=url, version="v8", weight=50)
        rows = stable.pod.stats().features.rows
        assert user.ask(400).versions == {"v7": 400}
    assert (stable.outcomes("v7"), stable.outcomes("v8")) == ((200, 0, 0), (0, 200, 0))
    assert stable.served("fallback") == 200
    eventually(lambda: stable.pod.stats().features.rows == rows + 200, "fallback's rows are in no cell")


def test_a_hanging_candidate_costs_a_few_users_their_deadline_and_then_nobody(
    stable: Front, user: User, faulty: Scripted
) -> None:
    faulty.hang = True
    stable.route(target=faulty.url, version="v8", weight=100, deadline_ms=300)
    assert user.ask(200).versions == {"v7": 200}
    assert sum(seconds >= 0.3 for seconds in user.seconds) == FAILURES_IN_A_ROW
    probes = len(faulty.seen) - FAILURES_IN_A_ROW
    assert probes < 10
    eventually(lambda: stable.outcomes("v8") == (0, 200, 0), "the last probe has failed, too")


def test_a_candidate_that_is_killed_under_load_costs_users_nothing(stable: Front, flights: Path) -> None:
    ended, users = Event(), [User(stable.pod) for _ in range(6)]

    def go(user: User) -> None:
        while not ended.is_set():
            user.ask()

    with Pod(flights, version="v8", workers=1) as doomed, ThreadPoolExecutor(len(users)) as pool:
        stable.route(target=doomed.ready().url, version="v8", weight=50)
        running = [pool.submit(go, user) for user in users]
        eventually(lambda: stable.outcomes("v8")[0] > 100, "the candidate answers its share")
        doomed.process.kill()
        eventually(lambda: stable.outcomes("v8")[1] > 100, "its share is counted as failed")
        ended.set()
        for one in running:
            one.result()
    versions = sum((user.versions for user in users), Counter())
    ok, failed, busy = stable.outcomes("v8")
    asked = versions.total()
    assert versions["v8"] == ok
    assert busy == 0
    assert abs(ok + failed - asked / 2) <= 100  # a block that is not yet over
    assert stable.outcomes("v7")[0] + ok + failed == asked
    for user in users:
        user.close()


def test_a_candidate_that_comes_back_gets_its_share_again(stable: Front, user: User, faulty: Scripted) -> None:
    faulty.hang = True
    stable.route(target=faulty.url, version="v8", weight=100, deadline_ms=50)
    user.ask(20)
    faulty.hang, faulty.status, faulty.content = False, 200, b'{"model_version":"v8"}'
    eventually(lambda: user.ask().last.json["model_version"] == "v8", "a probe was answered", 5)
    assert user.ask(20).answers[-20].json == {"model_version": "v8"}


@pytest.mark.parametrize(("status", "outcome"), [(500, 1), (503, 2), (429, 2), (404, 1), (504, 1)])
def test_a_failing_candidate_is_answered_from_here(
    stable: Front, user: User, faulty: Scripted, status: int, outcome: int
) -> None:
    faulty.status = status
    stable.route(target=faulty.url, version="v8", weight=50)
    assert user.ask(200).versions == {"v7": 200}
    assert stable.outcomes("v8") == tuple(100 if i == outcome else 0 for i in range(3))


def test_a_bad_request_is_nobodys_fault(stable: Front, candidate: Front) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=100)
    assert stable.pod.infer({"distance": [1.0]}).status == 400
    assert stable.outcomes("v8") == (1, 0, 0)


def test_time_outs_of_a_young_candidate_enter_no_comparison(stable: Front, user: User, faulty: Scripted) -> None:
    faulty.hang = True
    route = {"target": faulty.url, "version": "v8", "weight": 100, "deadline_ms": 50}
    stable.route(**route, young_until=time.time() + 600)
    assert user.ask(20).versions == {"v7": 20}
    assert stable.outcomes("v8") == stable.outcomes("v7") == (0, 0, 0)
    stable.route(**route, young_until=time.time() - 1)
    assert user.ask(20).versions == {"v7": 40}
    eventually(lambda: stable.outcomes("v8")[1] or not user.ask(), "time-outs count again", 5)


def test_other_failures_of_a_young_candidate_do_count(stable: Front, user: User, faulty: Scripted) -> None:
    stable.route(target=faulty.url, version="v8", weight=100, young_until=time.time() + 600)
    assert user.ask(10).versions == {"v7": 10}
    assert stable.outcomes("v8") == (0, 10, 0)


def test_a_client_in_a_hurry_gets_stable_within_its_time_and_blames_nobody(
    stable: Front, user: User, faulty: Scripted
) -> None:
    faulty.hang = True
    stable.route(target=faulty.url, version="v8", weight=100, deadline_ms=5000)
    assert user.ask(8, x_homeostat_timeout_ms="400").versions == {"v7": 8}
    assert all(0.19 < seconds < 0.4 for seconds in user.seconds)  # half of its time is for the forward
    assert int(faulty.seen[0]["x-homeostat-timeout-ms"]) <= 200
    assert stable.outcomes("v8") == (0, 0, 0)


def test_without_fallback_the_failure_is_answered(stable: Front, user: User) -> None:
    with nothing_there() as dead:
        stable.route(target=dead, version="v8", weight=100, fallback=False)
        user.ask(FAILURES_IN_A_ROW + 3)
    assert {answer.status for answer in user.answers} == {502}
    assert stable.outcomes("v8") == (0, FAILURES_IN_A_ROW + 3, 0)


def test_a_rule_decides_whatever_the_weight_and_enters_no_comparison(
    stable: Front, candidate: Front, user: User
) -> None:
    rules = (Rule(header="x-beta", exact="yes"), Rule(header="x-beta", exact="never", track="stable"))
    stable.route(target=candidate.pod.url, version="v8", weight=0, rules=rules)
    assert user.ask(10, X_Beta="yes").versions == {"v8": 10}
    assert user.ask(10, X_Beta="perhaps").versions == {"v8": 10, "v7": 10}
    stable.route(target=candidate.pod.url, version="v8", weight=100, rules=rules)
    assert user.ask(10, X_Beta="never").versions == {"v8": 10, "v7": 20}
    assert (stable.outcomes("v7"), stable.outcomes("v8")) == ((10, 0, 0), (0, 0, 0))
    assert (candidate.served("chosen"), stable.served("chosen"), stable.served("stable")) == (10, 10, 10)


def test_clients_choose_a_track_only_where_the_route_lets_them(stable: Front, candidate: Front, user: User) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=0)
    assert user.ask(5, x_homeostat_track="candidate").versions == {"v7": 5}
    stable.route(target=candidate.pod.url, version="v8", weight=0, choices=("candidate",))
    assert user.ask(5, x_homeostat_track="candidate").versions == {"v7": 5, "v8": 5}
    assert (stable.outcomes("v7"), stable.outcomes("v8")) == ((5, 0, 0), (0, 0, 0))


def test_drain_asks_clients_to_leave(stable: Front, candidate: Front) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=50, drain=True)
    for _ in range(10):
        assert stable.pod.infer(ROW).headers["connection"] == "close"
    stable.route()
    assert "connection" not in stable.pod.infer(ROW).headers


def test_an_unreadable_route_forwards_nothing(stable: Front, candidate: Front, user: User) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=100)
    stable.pod.route_file.write_text("{nonsense")
    eventually(lambda: stable.pod.stats().route_epoch == 0, "the route is gone")
    assert user.ask(5).versions == {"v7": 5}


def test_a_request_pinned_to_a_version_stays(stable: Front, candidate: Front) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=100)
    body = json.dumps({"inputs": as_inputs(ROW)}).encode()
    answer = stable.pod.send("POST", "/v2/models/flights/versions/v7/infer", body)
    assert answer.json["model_version"] == "v7"
    assert stable.outcomes("v7") == stable.outcomes("v8") == (0, 0, 0)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = models.picky(tmp_path_factory.mktemp("picky") / "model")
    with Pod(folder, version="v8", workers=1) as running:
        yield running.ready()


@pytest.mark.parametrize(("track", "answered"), [("holdback", True), ("stable", True), ("candidate", False)])
def test_our_5xx_is_answered_by_the_old_version_while_it_is_there(
    fragile: Pod, faulty: Scripted, track: str, answered: bool
) -> None:
    faulty.status, faulty.content = 200, b'{"model_version":"v7"}'
    new = Front(fragile)
    new.route(target=faulty.url, version="v7", track=track, weight=0)
    inputs = [{"name": "place", "shape": [1, 1], "datatype": "INT64", "data": [99]}]
    answer = fragile.infer(inputs)
    assert answer.status == (200 if answered else 500), answer.content
    assert new.outcomes("v8") == (0, 1, 0)
    assert new.outcomes("v7") == (0, 0, 0)
    if answered:
        assert answer.json == {"model_version": "v7"}
        assert faulty.seen[0]["x-homeostat-track"] == "fallback"
    new.route()
    assert fragile.infer(inputs).status == 500
