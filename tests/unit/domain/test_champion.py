"""Which versions count."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from homeostat.api.kinds import Deployment, Version
from homeostat.domain.champion import accepted, champion, followers, latest, prunable, uses
from unit.reconcile.memory import meta_of, resource


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def version(number: int, ready: str = "", training: str = "flights") -> Version:
    spec = {
        "number": number,
        "artifact": {"uri": f"oci://r/x@{digest(number)}", "digest": digest(number)},
        "lineage": {"trainingRef": training, "run": number, "trigger": {"type": "Spec"}},
    }
    stamp = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T00:00:00Z", "reason": ready}
    status = {"conditions": [stamp] if ready else []}
    return resource("ModelVersion", meta_of("ml", f"{training}-{number}"), spec, status)


def track(number: int) -> dict[str, Any]:
    name = f"flights-{number}"
    return {"versionName": name, "child": f"v{number}", "digest": digest(number), "uri": "oci://r/x", "image": "s"}


def deployment(name: str = "flights", year: int = 2026, **status: Any) -> Deployment:
    meta = meta_of("ml", name, created=datetime(year, 1, 1, tzinfo=UTC))
    return resource("ModelDeployment", meta, {"model": {"trainingRef": {"name": "flights"}}}, status)


def quarantined(number: int) -> dict[str, Any]:
    return {"digest": digest(number), "reason": "AnalysisFailed", "time": "2026-03-01T00:00:00Z"}


def test_a_version_is_accepted_unless_it_is_pending_or_rejected() -> None:
    assert accepted(version(1))
    assert accepted(version(1, ready="Accepted"))
    assert not accepted(version(1, ready="Pending"))
    assert not accepted(version(1, ready="Rejected"))


def test_the_latest_is_the_highest_number_and_not_the_last_name() -> None:
    newest = latest([version(9), version(10), version(11, ready="Rejected")])
    assert newest is not None
    assert newest.meta.name == "flights-10"


def test_the_champion_is_stable_of_the_older_follower_of_two() -> None:
    following = followers("flights", [deployment("b", 2026, stable=track(2)), deployment("a", 2025, stable=track(1))])
    best = champion([version(1), version(2), version(3)], following)
    assert best is not None
    assert best.name == "flights-1"


def test_without_a_follower_the_champion_is_the_newest_accepted_that_nobody_quarantined() -> None:
    best = champion([version(1), version(2), version(3)], (deployment(quarantined=[quarantined(3)]),))
    assert best is not None
    assert best.name == "flights-2"
    assert champion([], ()) is None


def test_a_deployment_that_follows_another_training_is_no_follower() -> None:
    assert followers("churn", [deployment()]) == ()


def test_uses_name_the_role() -> None:
    assert uses(deployment(stable=track(1), previous=track(2)), version(2)) == ("previous",)
    pinned = resource("ModelDeployment", meta_of("ml", "pinned"), {"model": {"versionRef": {"name": "flights-3"}}})
    assert uses(pinned, version(3)) == ("pinned",)
    assert uses(pinned, version(4)) == ()


def test_pruning_keeps_what_is_used_the_newest_and_what_others_made() -> None:
    made = [version(n) for n in range(1, 7)]
    used = (deployment(stable=track(1), candidate=track(4)),)
    assert [v.meta.name for v in prunable("flights", made, used, 1)] == ["flights-2", "flights-3"]
    foreign = [replace(version(1, training="other")), version(2)]
    assert prunable("flights", foreign, (), 1) == ()
