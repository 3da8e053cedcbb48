"""Whatever happens to a deployment in whatever order, users are served and nothing quarantined comes back by itself."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.reconcile.ticks import Ticks
from unit.reconcile.fleet import Fleet
from unit.reconcile.memory import CrashError

VERBS = ("rollback", "promote", "promote-full", "abort", "pause", "resume", "lift", "refresh")
happenings = st.one_of(
    st.just(("version", "")),
    st.tuples(st.just("bad version"), st.sampled_from(["0.2", "1.0"])),
    st.tuples(st.just("ask"), st.sampled_from(VERBS)),
    st.tuples(st.just("crash"), st.sampled_from("0123456")),
    st.tuples(st.just("pass"), st.sampled_from(["1", "5", "20", "40"])),
    st.just(("pin", "")),
    st.just(("follow", "")),
    st.just(("forget versions", "")),
)


class Life:
    def __init__(self) -> None:
        self.fleet = Fleet()
        self.fleet.serve()
        self.newest, self.asked = 1, 0

    def happen(self, what: str, value: str) -> None:
        fleet = self.fleet
        match what:
            case "version" | "bad version":
                self.newest += 1
                fleet.version(self.newest)
                fleet.failing[f"v{self.newest}"] = float(value or 0)
            case "ask":
                self.asked += 1
                fleet.ask(value, f"request {self.asked}")
            case "crash":
                fleet.world.writer.crash_after = int(value)
            case "pin":
                fleet.change(model={"versionRef": {"name": f"flights-{self.newest}"}})
            case "follow":
                fleet.change(model={"trainingRef": {"name": "flights"}})
            case "forget versions":
                fleet.world.versions.rows.clear()
            case _:
                pass
        self.live(int(value) if what == "pass" else 1)

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            try:
                self.fleet.tick()
            except CrashError:
                self.fleet.world.ticks = Ticks()
            self.check()

    def check(self) -> None:
        fleet, status = self.fleet, self.fleet.status
        assert fleet.lost_by == []
        rollout, candidate = status.rollout, status.candidate
        bad = {q.digest for q in status.quarantined}
        if candidate is not None and rollout is not None and rollout.phase != "Returning":
            assert candidate.digest not in bad
        assert len({t.child for t in (status.stable, candidate) if t}) == (2 if candidate else 1)
        assert sum(1 for e in status.history if e.result == "Promoted") <= self.newest + self.asked


@settings(max_examples=15, deadline=None)
@given(st.lists(happenings, max_size=12))
def test_users_are_served_whatever_happens(plan: list[tuple[str, str]]) -> None:
    life = Life()
    for what, value in plan:
        life.happen(what, value)
    fleet = life.fleet
    fleet.world.writer.crash_after = -1
    fleet.ask("resume", "at last")
    life.live(300)
    roles = {t.child for t in (fleet.status.stable, fleet.status.previous) if t is not None}
    assert fleet.status.rollout is None
    assert {w.meta.name for w in fleet.world.workloads.all()} == {f"flights-{child}" for child in roles}
    assert fleet.front == fleet.status.stable.child
    before = list(fleet.world.writer.log)
    fleet.tick(5)
    assert fleet.world.writer.log == before
