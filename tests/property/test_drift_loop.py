"""A monitor and a training under crashes in any order: each request is made once and none is lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.api.meta import Key
from homeostat.reconcile import training as training_loop
from homeostat.reconcile.windows import Windows
from unit.reconcile.memory import CrashError
from unit.reconcile.test_drift import LIKE_TRAINING, MOVED, RETRAIN, Live, track
from unit.reconcile.test_training import ends, summary

TRAINING = Key("ModelTraining", "ml", "flights")
WRITES = ["status DriftMonitor", "annotate ModelTraining", "status ModelTraining", "create Job", "create ModelVersion"]
steps = st.one_of(
    st.tuples(st.just("window"), st.sampled_from([LIKE_TRAINING, MOVED])),
    st.just(("train", "")),
    st.just(("end", "")),
    st.tuples(st.just("crash"), st.sampled_from(WRITES)),
    st.just(("restart", "")),
    st.just(("rollout", "")),
)


def do(live: Live, what: str, value: Any) -> None:
    world = live.world
    match what:
        case "window":
            live.window(value)
        case "train":
            asyncio.run(training_loop.reconcile(TRAINING, world))
        case "end":
            run = world.trainings.get("ml", "flights").status.current_run
            job = world.jobs.get("ml", run.job_name) if run else None
            if job is not None and not job.finished:
                ends(world, run.number, summary(f"sha256:{run.number:064x}"))
        case "crash":
            world.writer.crash_before = value
        case "rollout":
            newest = world.trainings.get("ml", "flights").status.latest_version
            if newest is not None:
                live.deploy({"stable": track(newest.number, newest.digest)})
        case _:
            world.windows = Windows()


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_each_action_is_requested_once_and_each_request_runs_once(plan: list[tuple[str, Any]]) -> None:
    live = Live({**RETRAIN, "budget": {"max": 10}, "maxAttempts": 10})
    for what, value in plan:
        with contextlib.suppress(CrashError):
            do(live, what, value)
    for _ in range(4):  # what was written down is carried out in the end
        with contextlib.suppress(CrashError):
            live.step()
            do(live, "train", "")
            do(live, "end", "")
            do(live, "train", "")
    taken = [a.id for a in live.status.actions if a.result != "Blocked"]
    assert len(taken) == len(set(taken))
    runs = live.world.trainings.get("ml", "flights").status.runs
    sources = [r.trigger.source for r in runs if r.trigger.type == "Drift"]
    assert len(sources) == len(set(sources))
    if len(taken) < 10:  # status keeps the last ten runs
        assert set(taken) == set(sources)
    assert live.world.writer.count("annotate ModelTraining") == len(taken)
