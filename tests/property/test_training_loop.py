"""A training under crashes, deletions and changes in any order: one Job per run, one version per model."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.api.names import request_annotation
from homeostat.reconcile.training import reconcile
from unit.reconcile.memory import CrashError, World
from unit.reconcile.test_training import KEY, a_world, change_spec, ends, fails, status, summary

WRITES = ["create Job", "create ModelVersion", "status ModelTraining", "apply Job"]
steps = st.one_of(
    st.just(("reconcile", "")),
    st.tuples(st.just("crash"), st.sampled_from(WRITES)),
    st.tuples(st.just("end"), st.sampled_from("abc")),
    st.just(("fail", "")),
    st.tuples(st.just("ask"), st.sampled_from("xyz")),
    st.tuples(st.just("spec"), st.sampled_from("123")),
    st.just(("ttl", "")),
)


def do(world: World, what: str, value: str) -> None:
    run = status(world).current_run
    job = world.jobs.get("ml", run.job_name) if run else None
    match what:
        case "crash":
            world.writer.crash_before = value
        case "end" if job is not None and not job.finished:
            ends(world, run.number, summary("sha256:" + value * 64))
        case "fail" if job is not None and not job.finished:
            fails(world, run.number, "train", None)
        case "ask":
            training = world.trainings.get("ml", "flights")
            marks = {request_annotation("retrain"): value}
            world.trainings.put(replace(training, meta=replace(training.meta, annotations=marks)))
        case "spec":
            change_spec(world, seed=int(value))
        case "ttl":
            gone = [key for key, j in world.jobs.rows.items() if j.ttl_set]
            for key in gone:
                del world.jobs.rows[key]
        case _:
            pass
    with contextlib.suppress(CrashError):
        asyncio.run(reconcile(KEY, world))


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_each_run_has_one_job_and_each_model_one_version(plan: list[tuple[str, str]]) -> None:
    world = a_world()
    for what, value in plan:
        do(world, what, value)
    made = [m["metadata"]["name"] for m in world.writer.manifests if m["kind"] == "Job"]
    assert len(made) == len(set(made))
    done: list[Any] = [r.number for r in status(world).runs]
    assert done == sorted(set(done), reverse=True)
    models = [v.spec.artifact.digest for v in world.versions.all()]
    assert len(models) == len(set(models))
    ttl = {j.meta.name for j in world.jobs.all() if j.ttl_set}
    assert ttl <= {f"flights-{number}" for number in done}
