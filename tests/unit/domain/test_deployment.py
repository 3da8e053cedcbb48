"""What a deployment wants to serve, and what it does next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeostat.api.deployment import ModelDeploymentStatus, Track
from homeostat.api.kinds import Deployment, Version
from homeostat.api.meta import RequestEcho
from homeostat.domain.asked import asked, flight_request, paused
from homeostat.domain.choice import Wanted, candidate, child_of, choose, quarantined
from homeostat.domain.deployment import decide, flight_plan
from homeostat.domain.flight import Decided, Facts, Flight, Side, flight_of
from homeostat.domain.requests import Request
from homeostat.domain.rollout import Phase, rollout_state
from homeostat.domain.verdict import NO_ANALYSIS, Verdict
from homeostat.stats.evidence import Outcome
from unit.reconcile.memory import meta_of, resource

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FAIL = Verdict(Outcome.FAIL, "ErrorRateWorse", "30 of 100 failed")


def sha(number: int) -> str:
    return f"sha256:{number:064x}"


def version(number: int, training: str = "flights") -> Version:
    spec = {"number": number, "artifact": {"uri": f"oci://r/x@{sha(number)}", "digest": sha(number)}}
    return resource("ModelVersion", meta_of("ml", f"{training}-{number}"), spec)


def track(number: int, child: str = "", training: str = "flights") -> Track:
    return Track(
        version_name=f"{training}-{number}",
        child=child or f"v{number}",
        number=number,
        digest=sha(number),
        uri="oci://r/x",
        image="server:1",
    )


def deployment(model: dict[str, Any] | None = None, **status: Any) -> Deployment:
    spec = {"model": model or {"trainingRef": {"name": "flights"}}, "bake": {"duration": "10s"}}
    made = resource("ModelDeployment", meta_of("ml", "flights"), spec)
    return replace(made, status=ModelDeploymentStatus(**status))


def facts(wanted: Track | None = None, *verbs: str, **more: Any) -> Facts:
    requests = tuple(Request(verb, "1") for verb in verbs)
    given: dict[str, Any] = {"image": "server:1", "verdict": NO_ANALYSIS, **more}
    return Facts(Wanted(wanted, training="flights"), requests, **given)


def after(given: Deployment, decided: Decided) -> Deployment:
    return replace(given, status=decided.status)


def rolling(stable: int = 1, new: int = 2, **at: Any) -> Deployment:
    """A deployment in the middle of a replacement."""
    given = deployment(stable=track(stable))
    given = after(given, decide(given, facts(track(new, child="x")), NOW))
    flight = flight_of(given.status)
    assert flight is not None
    state = rollout_state(replace(flight.at, **at))
    rollout = given.status.rollout.model_copy(update={"state": state})
    return replace(given, status=given.status.model_copy(update={"rollout": rollout}))


def test_a_training_is_followed_to_its_newest_accepted_version() -> None:
    given = deployment()
    training = resource("ModelTraining", meta_of("ml", "flights"), {
        "trainer": {"sklearn": {"estimator": "X", "target": "y"}}, "data": {"train": {"uri": "x"}},
    })  # fmt: skip
    found = choose(given, training, [version(2), version(10), version(9)], None, "oci://r")
    assert found.track is not None
    assert (found.track.version_name, found.track.number, found.training) == ("flights-10", 10, "flights")
    assert choose(given, None, [version(2)], None, "oci://r").track is not None
    empty = choose(given, training, [], None, "oci://r").problem
    gone = choose(given, None, [], None, "oci://r").problem
    assert empty is not None
    assert gone is not None
    assert (empty.reason, empty.lasting, gone.reason, gone.lasting) == ("NoVersion", False, "TrainingNotFound", True)


def test_a_pinned_version_that_was_deleted_is_known_from_the_status() -> None:
    given = deployment({"versionRef": {"name": "flights-1"}}, stable=track(1))
    assert choose(given, None, [], None, "oci://r").track == track(1)
    other = deployment({"versionRef": {"name": "flights-2"}}, stable=track(1))
    problem = choose(other, None, [], None, "oci://r").problem
    assert problem is not None
    assert problem.reason == "VersionNotFound"


def test_a_source_has_no_number_and_an_absolute_address() -> None:
    given = deployment({"source": {"uri": "churn:prod", "digest": sha(5)}})
    found = choose(given, None, [], None, "oci://r").track
    assert found is not None
    assert (found.uri, found.number, found.version_name) == ("oci://r/ml/churn:prod", 0, "")


@pytest.mark.parametrize(
    ("number", "taken", "child"),
    [
        (7, {}, "v7"),
        (7, {"v7": sha(7)}, "v7"),
        (7, {"v7": sha(8)}, "v7-000000"),
        (0, {}, "v000000"),
    ],
)
def test_the_digest_follows_where_the_number_is_missing_or_taken(
    number: int, taken: dict[str, str], child: str
) -> None:
    assert child_of(track(7).model_copy(update={"number": number}), taken) == child


def test_a_followed_version_must_be_newer_and_another_trainings_numbers_do_not_count() -> None:
    status = ModelDeploymentStatus(stable=track(7))
    assert candidate(Wanted(track(6), training="flights"), status) is None
    assert candidate(Wanted(track(8), training="flights"), status) == track(8)
    assert candidate(Wanted(track(1, training="other"), training="other"), status) is not None
    assert candidate(Wanted(track(6)), status) == track(6)  # pinned


def test_a_changed_model_lifts_the_quarantine_and_another_change_does_not() -> None:
    given = deployment(stable=track(1), quarantined=quarantined(ModelDeploymentStatus(), sha(2), "Bad", NOW))
    given = after(given, decide(given, facts(track(2)), NOW))
    assert given.status.quarantined
    assert given.status.rollout is None
    other = replace(given, spec=given.spec.model_copy(update={"paused": True}))
    assert decide(other, facts(track(2)), NOW).status.quarantined
    pinned = deployment({"versionRef": {"name": "flights-2"}})
    changed = decide(replace(given, spec=pinned.spec), facts(track(2)), NOW)
    assert changed.status.quarantined == ()
    assert changed.status.candidate is not None


def test_a_lift_makes_the_version_a_candidate_again() -> None:
    given = deployment(stable=track(1), quarantined=quarantined(ModelDeploymentStatus(), sha(2), "Bad", NOW))
    decided = decide(given, facts(track(2), "lift"), NOW)
    assert decided.status.quarantined == ()
    assert decided.status.candidate is not None
    assert decided.status.requests["lift"].result == "1 digests may be rolled out again"


def test_a_replacement_begins_with_the_operators_image_and_the_deployments_epoch() -> None:
    given = deployment(stable=track(1), epoch=40)
    decided = decide(given, facts(track(2, child="?"), image="server:9"), NOW)
    assert decided.flight is not None
    assert decided.status.candidate is not None
    assert (decided.status.candidate.child, decided.status.candidate.image) == ("v2", "server:9")
    assert (decided.flight.at.epoch, decided.flight.at.first) == (40, False)
    assert flight_of(decided.status) == decided.flight


def test_nothing_begins_while_paused() -> None:
    given = deployment(stable=track(1))
    spec = given.spec.model_copy(update={"paused": True})
    assert decide(replace(given, spec=spec), facts(track(2)), NOW).flight is None
    assert decide(given, facts(track(2), "pause"), NOW).flight is None


def test_pause_counts_until_a_later_resume() -> None:
    early, late = (RequestEcho(id="1", time=f"2026-03-01T12:00:0{s}Z") for s in (1, 2))
    assert not paused({})
    assert paused({"pause": early})
    assert not paused({"pause": early, "resume": late})
    assert paused({"pause": late, "resume": early})


def test_a_failed_candidate_is_quarantined_with_the_decision() -> None:
    given = rolling(phase=Phase.HOLDING, weight=5)
    side = Side(1, 1, 99)
    decided = decide(given, facts(track(2), verdict=FAIL, old=side, new=side), NOW)
    assert decided.status.quarantined[0].digest == sha(2)
    assert decided.status.rollout is not None
    assert decided.status.rollout.phase == "Returning"
    assert [n.rolled_back for n in decided.notes] == [True]
    assert decided.status.stable is not None
    assert (decided.status.stable.child, decided.status.stable.weight) == ("v1", 100)


def test_the_roles_change_at_the_flip_and_back() -> None:
    given = rolling(phase=Phase.SHIFTING, weight=95, epoch=3)
    side = Side(1, 1, 99)
    flipped = decide(given, facts(track(2), old=side, new=side), NOW)
    roles = [t.child if t else "" for t in (flipped.status.stable, flipped.status.candidate, flipped.status.previous)]
    assert roles == ["v2", "", "v1"]
    assert flipped.flight is not None
    assert flipped.flight.at.flipped
    back = decide(after(given, flipped), facts(track(2), verdict=FAIL, old=side, new=side), NOW)
    roles = [t.child if t else "" for t in (back.status.stable, back.status.candidate, back.status.previous)]
    assert roles == ["v1", "v2", ""]
    done = decide(after(given, back), facts(track(2), old=side, new=side), NOW + timedelta(seconds=99))
    roles = [t.child if t else "" for t in (done.status.stable, done.status.candidate, done.status.previous)]
    assert roles == ["v1", "", "v2"]
    assert (done.flight, done.status.history[0].result) == (None, "RolledBack")


def test_the_forwards_deadline_is_fixed_with_the_first_route() -> None:
    given = rolling()
    side = Side(1, 1, 0)
    routed = decide(given, facts(track(2), old=side, new=side, deadline_ms=300), NOW)
    assert routed.flight is not None
    assert (routed.flight.at.phase, routed.flight.deadline_ms) == (Phase.ROUTING, 300)
    again = decide(after(given, routed), facts(track(2), old=Side(1, 1, 99), new=side, deadline_ms=900), NOW)
    assert again.flight is not None
    assert again.flight.deadline_ms == 300


def test_a_rollback_needs_a_previous_version_that_is_not_quarantined() -> None:
    alone = decide(deployment(stable=track(2)), facts(track(2), "rollback"), NOW)
    assert alone.flight is None
    assert "no previous version" in alone.status.requests["rollback"].result
    bad = quarantined(ModelDeploymentStatus(), sha(1), "AnalysisFailed", NOW)
    given = deployment(stable=track(2), previous=track(1), quarantined=bad)
    refused = decide(given, facts(track(2), "rollback"), NOW)
    assert refused.flight is None
    assert "quarantined (AnalysisFailed)" in refused.status.requests["rollback"].result


def test_going_back_by_request_is_straight_and_waits_for_no_evidence() -> None:
    given = deployment(stable=track(2), previous=track(1))
    decided = decide(given, facts(track(2), "rollback"), NOW)
    assert decided.flight is not None
    assert decided.flight.back
    assert decided.flight.at.phase is Phase.FILLING
    assert decided.status.quarantined[0].digest == sha(2)
    wanted = flight_plan(given.spec, decided.status, decided.flight)
    assert (wanted.steps, wanted.bake_seconds, wanted.holdback, wanted.paused) == ((), 0.0, 0, False)
    dead = facts(track(2), old=Side(0, 1, None), new=Side(1, 1, None))
    flipped = decide(after(given, decided), dead, NOW)
    assert flipped.status.stable is not None
    assert flipped.status.stable.child == "v1"


def test_a_rollback_that_is_about_another_version_is_answered_and_does_nothing() -> None:
    late = {"requests": (Request("rollback", "1", version="v2"),)}
    quiet = replace(facts(track(3)), **late)
    side = Side(1, 1, 99)
    flying = rolling(2, 3, phase=Phase.HOLDING, weight=5)
    decided = decide(flying, replace(quiet, old=side, new=side), NOW)
    assert decided.status.requests["rollback"].result == "asked about v2, which is not in question any more"
    assert decided.status.quarantined == ()
    assert decided.flight is not None
    assert decided.flight.at.phase is Phase.HOLDING
    promoted = decide(deployment(stable=track(3), previous=track(2)), quiet, NOW)
    assert promoted.flight is None
    assert "v2" in promoted.status.requests["rollback"].result
    meant = decide(deployment(stable=track(2), previous=track(1)), replace(facts(track(2)), **late), NOW)
    assert meant.flight is not None
    assert meant.flight.back


def test_requests_without_anything_to_do_are_consumed_and_say_so() -> None:
    decided = decide(deployment(stable=track(1)), facts(track(1), "promote", "promote-full", "abort"), NOW)
    assert {e.result for e in decided.status.requests.values()} == {"no rollout is under way"}
    assert set(decided.status.requests) == {"promote", "promote-full", "abort"}


def test_the_most_careful_of_several_requests_counts() -> None:
    several = asked([Request(verb, "1") for verb in ("promote", "promote-full", "rollback", "retrain")])
    assert flight_request(several, back=False) == "Rollback"
    assert "retrain" not in several.by_verb
    assert flight_request(None, back=False) == ""
    assert flight_request(None, back=True) == "PromoteFull"


def test_a_status_that_makes_no_sense_counts_as_no_replacement() -> None:
    given = rolling()
    rollout = given.status.rollout
    assert rollout is not None
    torn = given.status.model_copy(update={"rollout": rollout.model_copy(update={"state": {"phase": "?"}})})
    assert flight_of(torn) is None
    alone = given.status.model_copy(update={"candidate": None})
    assert flight_of(alone) is None
    assert decide(replace(given, status=torn), facts(track(1)), NOW).flight is None


def test_a_decision_is_the_same_when_it_is_taken_again() -> None:
    given = rolling(phase=Phase.HOLDING, weight=5)
    side = Side(1, 1, 99)
    seen = facts(track(2), verdict=FAIL, old=side, new=side)
    assert decide(given, seen, NOW) == decide(given, seen, NOW)
    assert isinstance(decide(given, seen, NOW).flight, Flight)
