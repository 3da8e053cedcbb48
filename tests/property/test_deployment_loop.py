"""A deployment whose operator dies before any of its writes, again and again: the same end, nothing twice, no request lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.reconcile.ticks import Ticks
from unit.reconcile.fleet import Fleet
from unit.reconcile.memory import CrashError

MOST_SECONDS = 400


def live(fleet: Fleet, crashes: list[int]) -> None:
    """One second; the operator may die in it, then a new one without memory starts."""
    if crashes and fleet.world.writer.crash_after < 0:
        fleet.world.writer.crash_after = crashes.pop(0)
    try:
        fleet.tick()
    except CrashError:
        fleet.world.ticks = Ticks()


def drive(fleet: Fleet, crashes: list[int], rollouts: int) -> None:
    """Until so many rollouts are over."""
    for _ in range(MOST_SECONDS):
        live(fleet, crashes)
        if fleet.status.rollout is None and len(fleet.status.history) == rollouts:
            break
    else:
        raise AssertionError(f"not settled: {fleet.status.to_json()}")
    fleet.world.writer.crash_after = -1
    for _ in range(3):
        live(fleet, [])


def end(fleet: Fleet) -> dict[str, Any]:
    world, status = fleet.world, fleet.status
    return {
        "stable": status.stable.child,
        "previous": status.previous and status.previous.child,
        "quarantined": [q.digest for q in status.quarantined],
        "history": [(h.version_name, h.result, h.reason) for h in status.history],
        "front": fleet.front,
        "workloads": {w.meta.name: w.replicas for w in world.workloads.all()},
        "services": {s.meta.name: s.selector for s in world.services.all()},
        "scaled": sorted(h.meta.name for h in world.hpas.all()),
        "forwards": {p.meta.name: r.weight for p in world.pods.all() if (r := fleet.applied.get(p.meta.uid))},
        "requests": {verb: e.id for verb, e in status.requests.items()},
    }


def story(kind: str, crashes: list[int]) -> dict[str, Any]:
    """A first version, and what comes after it."""
    fleet = Fleet()
    fleet.version(1)
    drive(fleet, crashes, 1)
    fleet.version(2)
    if kind == "bad":
        fleet.failing["v2"] = 0.5
    if kind == "bad in the bake":
        for _ in range(MOST_SECONDS):
            if fleet.status.rollout is not None and fleet.status.rollout.phase == "Baking":
                break
            live(fleet, crashes)
        fleet.failing["v2"] = 0.9
    drive(fleet, crashes, 2)
    if kind == "asked back":
        fleet.ask("rollback", "r1")
        drive(fleet, crashes, 3)
    assert fleet.lost_by == []
    return end(fleet)


KINDS = ("good", "bad", "bad in the bake", "asked back")
ENDS = {kind: story(kind, []) for kind in KINDS}


def test_the_stories_end_as_told() -> None:
    stable = {kind: (told["stable"], told["previous"], told["front"]) for kind, told in ENDS.items()}
    assert stable == {
        "good": ("v2", "v1", "v2"),
        "bad": ("v1", None, "v1"),
        "bad in the bake": ("v1", "v2", "v1"),
        "asked back": ("v1", "v2", "v1"),
    }


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 9), max_size=40))
def test_an_operator_that_dies_before_any_write_comes_to_the_same_end(kind: str, crashes: list[int]) -> None:
    assert story(kind, list(crashes)) == ENDS[kind]
