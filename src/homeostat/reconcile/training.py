"""A ModelTraining: one Job per run, one ModelVersion per run that succeeded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from homeostat.api.kinds import Deployment, Training
from homeostat.api.meta import Key, parse_instant
from homeostat.api.names import API_VERSION, LABEL_RUN, LABEL_TRAINING
from homeostat.api.training import RunStatus
from homeostat.api.wire.run import RunSummary
from homeostat.cluster.observed import ContainerState, ObservedJob, ObservedPod
from homeostat.domain.champion import champion, followers, prunable
from homeostat.domain.desired.training import (
    ANNOTATION_IMAGE,
    TrainerPod,
    job_ttl,
    model_version,
    recorded_plan,
    run_plan,
    training_job,
)
from homeostat.domain.requests import pending
from homeostat.domain.training import (
    Decision,
    Finish,
    JobSeen,
    PodSeen,
    Running,
    Seen,
    Start,
    Wait,
    job_name,
    next_run,
)
from homeostat.errors import Forbidden, Invalid
from homeostat.reconcile.ports import World
from homeostat.reconcile.status import status_patch
from homeostat.reconcile.training_status import invalid_status, next_status
from homeostat.runtime.outcome import Done, Outcome, RequeueAfter

SOON: Final = 1.0
LOOK_AGAIN: Final = 20.0  # safety only: Jobs and pods wake us
LONGEST_WAIT: Final = 3600.0
NAME_TAKEN_AFTER: Final = timedelta(seconds=30)  # by then our own Job has been seen
HARMLESS: Final = frozenset({"", "PodInitializing", "ContainerCreating"})


async def reconcile(key: Key, world: World) -> Outcome:
    """Bring one ModelTraining forward by one decision."""
    training = world.trainings.get(key.namespace, key.name)
    if training is None or training.meta.deleting:
        return Done()
    now = world.clock.now()
    if training.invalid:
        await world.writer.patch_status(training, status_patch(training.status, invalid_status(training, now)))
        return Done()
    seen = gather(training, world)
    decision = await _apply(training, seen, next_run(training.spec, training.status, seen, now), world)
    after = next_status(training, decision, seen.versions, now)
    changed = await world.writer.patch_status(training, status_patch(training.status, after))
    if isinstance(decision, Start) and after.current_run is not None:
        await _make_job(training, seen, after.current_run.number, world)
    await _clean(training, seen, after.current_run, world)
    if changed:
        _record(training, decision, world)
    return _outcome(decision, now)


def gather(training: Training, world: World) -> Seen:
    """What the stores hold of this training."""
    meta = training.meta
    jobs = world.jobs.labelled(meta.namespace, LABEL_TRAINING, meta.name)
    run = training.status.current_run
    current = next((j for j in jobs if run and j.meta.name == run.job_name and j.owner_uid == meta.uid), None)
    versions = list(world.versions.labelled(meta.namespace, LABEL_TRAINING, meta.name))
    if run is not None and all(v.meta.name != run.job_name for v in versions):
        own = world.versions.get(meta.namespace, run.job_name)
        versions += [own] if own is not None else []
    return Seen(
        jobs=tuple(_job(j, meta.uid) for j in jobs),
        pods=() if current is None else _pods(training, current, world),
        versions=tuple(versions),
        requests=pending(meta.annotations, training.status.requests),
    )


def _job(job: ObservedJob, uid: str) -> JobSeen:
    label = job.meta.labels.get(LABEL_RUN, "")
    return JobSeen(
        name=job.meta.name,
        run=int(label) if label.isdecimal() else 0,
        finished="Complete" if job.finished == "Complete" else "Failed" if job.finished else "",
        reason=job.reason,
        message=job.message,
        completed=job.completed,
        ttl_set=job.ttl_set,
        ours=job.owner_uid == uid,
    )


def _pods(training: Training, job: ObservedJob, world: World) -> tuple[PodSeen, ...]:
    found = world.pods.labelled(training.meta.namespace, LABEL_TRAINING, training.meta.name)
    mine = (p for p in found if p.owner_uid == job.meta.uid)
    return tuple(_pod(p) for p in sorted(mine, key=lambda p: (p.meta.created, p.meta.name)))


def _pod(pod: ObservedPod) -> PodSeen:
    containers = (*pod.init_containers, *pod.containers)
    failed = next((c for c in containers if c.exit_code not in {None, 0}), None)
    active = failed or next((c for c in containers if c.exit_code is None), containers[-1] if containers else None)
    summary = _summary(active)
    return PodSeen(
        succeeded=pod.phase == "Succeeded",
        step=active.name if active else "",
        stuck=_stuck(pod, containers),
        failed=failed.exit_code if failed else None,
        ended_as=failed.terminated_reason if failed else "",
        summary=summary,
        text=active.message if active and summary is None else "",
    )


def _stuck(pod: ObservedPod, containers: tuple[ContainerState, ...]) -> tuple[str, str]:
    if pod.unschedulable:
        return "Unschedulable", pod.unschedulable
    waiting = next((c for c in containers if c.waiting_reason not in HARMLESS), None)
    return (waiting.waiting_reason, waiting.waiting_message) if waiting else ("", "")


def _summary(container: ContainerState | None) -> RunSummary | None:
    try:
        return RunSummary.model_validate_json(container.message) if container else None
    except ValidationError:
        return None


async def _apply(training: Training, seen: Seen, decision: Decision, world: World) -> Decision:
    """What must be there before status says so: the Job of a run under way, the version of a run that succeeded."""
    run = training.status.current_run
    if run is None:
        return decision
    match decision:
        case Running() if all(j.name != run.job_name or not j.ours for j in seen.jobs):
            return await _make_missing_job(training, seen, run, decision, world)
        case Finish(result="Succeeded", summary=RunSummary() as summary):
            return await _make_version(training, run, summary, decision, world)
        case _:
            pass
    return decision


async def _make_missing_job(training: Training, seen: Seen, run: RunStatus, decision: Running, world: World) -> Running:
    try:
        made = await _make_job(training, seen, run.number, world)
    except (Invalid, Forbidden) as error:
        return Running("JobRefused", f"the API server refused the Job: {error}", trouble=True)
    seen_by_now = parse_instant(run.start_time) + NAME_TAKEN_AFTER
    if made or world.clock.now() < seen_by_now:
        return decision
    return Running("NameTaken", f"a Job {run.job_name} that is not this training's is there: delete it", trouble=True)


def _trainer_pod(world: World) -> TrainerPod:
    config = world.config
    return TrainerPod(config.trainer_image, config.image_pull_policy, config.artifacts_uri, config.plain_http)


async def _make_job(training: Training, seen: Seen, number: int, world: World) -> bool:
    deployments = _deployments(training, world)
    best = champion(seen.versions, followers(training.meta.name, deployments))
    plan = run_plan(training, number, best, _trainer_pod(world))
    job = training_job(training, job_name(training.meta.name, number), plan, _trainer_pod(world))
    return await world.writer.create(job)


async def _make_version(
    training: Training, run: RunStatus, summary: RunSummary, decision: Finish, world: World
) -> Finish:
    job = world.jobs.get(training.meta.namespace, run.job_name)
    notes = {} if job is None else job.meta.annotations
    plan = recorded_plan(notes) or run_plan(training, run.number, None, _trainer_pod(world))
    image = notes.get(ANNOTATION_IMAGE, world.config.trainer_image)
    try:
        await world.writer.create(model_version(training, run, summary, plan, image))
    except Invalid as error:
        return Finish("Failed", "VersionRefused", f"the API server refused the ModelVersion: {error}", summary)
    return decision


async def _clean(training: Training, seen: Seen, current: RunStatus | None, world: World) -> None:
    """A TTL for Jobs whose outcome is recorded; versions that nobody needs go."""
    for job in seen.jobs:
        recorded = current is None or job.name != current.job_name
        if job.ours and job.finished and not job.ttl_set and recorded:
            await world.writer.apply(job_ttl(training, job.name), owner=training.meta, observed_digest=None)
    versions = tuple(v for v in seen.versions if v.meta.labels.get(LABEL_TRAINING) == training.meta.name)
    limit = training.spec.versions.history_limit
    if len(versions) <= limit:
        return
    for version in prunable(training.meta.name, versions, _deployments(training, world), limit):
        await world.writer.delete(API_VERSION, version.kind, version.meta)
        note = f"{version.meta.name} is used by nobody and beyond versions.historyLimit {limit}"
        world.writer.event(training, warning=False, reason="VersionPruned", note=note)


def _deployments(training: Training, world: World) -> tuple[Deployment, ...]:
    return tuple(d for d in world.deployments.all() if d.meta.namespace == training.meta.namespace)


def _record(training: Training, decision: Decision, world: World) -> None:
    event = world.writer.event
    match decision:
        case Start(number=number, trigger=trigger):
            note = f"run {number} ({trigger.type}): {trigger.reason}"
            event(training, warning=False, reason="RunStarted", note=note)
        case Running(trouble=True, reason=reason, because=because):
            event(training, warning=True, reason=reason, note=because)
        case Finish(result="Succeeded", version=version, because=because):
            event(training, warning=False, reason="VersionCreated", note=f"{version}: {because}")
        case Finish(result=result, reason=reason, because=because):
            event(training, warning=result != "Unchanged", reason=reason or result, note=because)
        case _:
            pass


def _outcome(decision: Decision, now: datetime) -> Outcome:
    match decision:
        case Start() | Finish():
            return RequeueAfter(SOON)
        case Running(until=until) | Wait(until=until) if until is not None:
            return RequeueAfter(min(LONGEST_WAIT, max(SOON, (until - now).total_seconds())))
        case Running():
            return RequeueAfter(LOOK_AGAIN)
        case _:
            return Done()
