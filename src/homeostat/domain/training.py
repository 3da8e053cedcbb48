"""What a training does next: one total function over (spec, status, what is seen, now)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from homeostat.api.kinds import Version
from homeostat.api.meta import Trigger, format_instant, parse_instant
from homeostat.api.training import ModelTrainingSpec, ModelTrainingStatus, RunStatus
from homeostat.api.wire.run import PERMANENT_EXIT, RunSummary
from homeostat.domain.requests import Request
from homeostat.domain.revision import digest
from homeostat.domain.schedule import Due, due

PATIENCE: Final = timedelta(seconds=25)  # a Job's first pod is there within a second or two
Result = Literal["Succeeded", "Unchanged", "GateFailed", "Failed"]

SETTLE: Final = timedelta(seconds=20)  # a Job's end may be seen before the message of its pod
FIXES: Final = {
    "DeadlineExceeded": "raise spec.deadline, or make the run smaller",
    "OutOfMemory": "raise spec.resources.requests.memory and limits.memory",
    "SummaryLost": "ask for a new run with the annotation homeostat.dev/retrain-requested",
}


@dataclass(frozen=True, slots=True)
class PodSeen:
    """One pod of a run, oldest try first.

    step: the container that works or failed (`fetch`, `train`, `publish`). stuck: why it cannot start (reason, text).
    failed: exit code of the container that failed, None when none did. ended_as: the kubelet's reason, such as `OOMKilled`.
    summary: what a step reported; text: its termination message when that is no summary.
    """

    succeeded: bool = False
    step: str = ""
    stuck: tuple[str, str] = ("", "")
    failed: int | None = None
    ended_as: str = ""
    summary: RunSummary | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A Job of this training. finished, reason, message, completed: of its last condition. ours: not of a namesake before it."""

    name: str
    run: int
    finished: Literal["", "Complete", "Failed"] = ""
    reason: str = ""
    message: str = ""
    completed: datetime | None = None
    ttl_set: bool = False
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there. jobs, versions: all of this training. pods: of the current run, oldest first. requests: not consumed yet."""

    jobs: tuple[JobSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    versions: tuple[Version, ...] = ()
    requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Begin run `number`. request: consumed by it. due: the time of the schedule that it answers."""

    number: int
    trigger: Trigger
    request: Request | None = None
    due: datetime | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A run is under way and its Job must exist. trouble: it does not get on by itself, or a try failed."""

    reason: str
    because: str
    trouble: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The current run is over. summary: of a run that reported one. version: name of an equal version for `Unchanged`."""

    result: Result
    reason: str
    because: str
    summary: RunSummary | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until` (None: before something changes)."""

    until: datetime | None
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """No run is started although one may be wanted."""

    because: str


Decision = Start | Running | Finish | Wait | Suspended


def next_run(spec: ModelTrainingSpec, status: ModelTrainingStatus, seen: Seen, now: datetime) -> Decision:
    """What to do now. Total; identity of runs is in status, so a Job that vanished after its run is not made again."""
    if status.current_run is not None:
        return _progress(spec, status.current_run, seen, now)
    planned = due(spec.schedule, spec.time_zone, status.next_schedule_time, now)
    wanted = _wanted(spec, status, seen.requests, planned, now)
    if spec.suspend:
        waiting = f"; {wanted.trigger.reason} waits" if wanted else ""
        return Suspended(f"spec.suspend is true{waiting}")
    if wanted is not None:
        number = next_number(status, seen.jobs, seen.versions)
        return Start(number, wanted.trigger, wanted.request, wanted.due)
    if planned.problem:
        return Wait(None, "ScheduleInvalid", planned.problem)
    if planned.at is not None:
        return Wait(planned.at, "Scheduled", f"the next run is due at {format_instant(planned.at)}")
    return Wait(None, "Idle", "waits for a changed spec or a request")


def spec_digest(spec: ModelTrainingSpec) -> str:
    """Identity of what a run does, and after the dash of the effort it may take: a failed run is tried again with more."""
    fields = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    what = {name: fields.get(name) for name in ("trainer", "data", "split", "gates", "seed")}
    effort = {name: fields.get(name) for name in ("deadline", "resources", "retryLimit")}
    return f"{digest(what)[7:39]}-{digest(effort)[7:23]}"


def next_number(status: ModelTrainingStatus, jobs: Iterable[JobSeen], versions: Iterable[Version]) -> int:
    """One more than the highest run in status, Jobs and versions."""
    numbers = [status.last_run, *(j.run for j in jobs), *(v.spec.number for v in versions if not v.invalid)]
    return 1 + max(numbers)


def job_name(training: str, number: int) -> str:
    """Name of the Job of a run, and of the version that it makes."""
    return f"{training}-{number}"


def _wanted(
    spec: ModelTrainingSpec, status: ModelTrainingStatus, requests: Iterable[Request], planned: Due, now: datetime
) -> Start | None:
    asked = format_instant(now)
    why = _spec_change(spec, status)
    if why:
        return Start(0, Trigger(type="Spec", reason=why, time=asked))
    request = next((r for r in requests if r.verb == "retrain"), None)
    if request is not None:
        return Start(0, _trigger(request, asked), request)
    if planned.at is not None and planned.at <= now:
        reason = f"schedule {spec.schedule} was due at {format_instant(planned.at)}"
        return Start(0, Trigger(type="Schedule", reason=reason, time=asked), due=planned.at)
    return None


def _spec_change(spec: ModelTrainingSpec, status: ModelTrainingStatus) -> str:
    (what, _, effort), (before, _, effort_before) = (
        spec_digest(spec).partition("-"),
        status.spec_digest.partition("-"),
    )
    if not before:
        return "the first run of this spec"
    if what != before:
        return "the spec changed"
    failed = bool(status.runs) and status.runs[0].result == "Failed"
    return "deadline, resources or retryLimit changed after a failed run" if failed and effort != effort_before else ""


def _trigger(request: Request, asked: str) -> Trigger:
    kind: Literal["Drift", "Degradation", "Manual"] = "Manual"
    if request.trigger == "Drift":
        kind = "Drift"
    elif request.trigger == "Degradation":
        kind = "Degradation"
    reason = request.reason or (f"asked for by {request.by}" if request.by else "asked for by annotation")
    return Trigger(type=kind, reason=reason, source=request.id, time=asked)


def _progress(spec: ModelTrainingSpec, run: RunStatus, seen: Seen, now: datetime) -> Running | Finish:
    job = next((j for j in seen.jobs if j.ours and j.name == run.job_name), None)
    if job is None:
        return Running("Starting", f"run {run.number} starts")
    if job.finished == "Complete":
        return _completed(run, job, seen, now)
    if job.finished == "Failed":
        return _failed(spec, job, seen.pods, now)
    return _under_way(spec, run, seen.pods, now)


def _completed(run: RunStatus, job: JobSeen, seen: Seen, now: datetime) -> Running | Finish:
    summary = next((p.summary for p in reversed(seen.pods) if p.succeeded and p.summary is not None), None)
    if summary is None:
        until = (job.completed or _started(run, now)) + SETTLE
        if now < until:
            return Running("Finishing", f"run {run.number} waits for its summary", until=until)
        return Finish("Failed", "SummaryLost", f"the summary of run {run.number} is lost; {FIXES['SummaryLost']}")
    if summary.outcome == "GateFailed":
        return Finish("GateFailed", summary.reason or "GateFailed", summary.message, summary)
    if summary.outcome == "Failed" or not summary.model_digest:
        return Finish("Failed", summary.reason or "RunFailed", summary.message, summary)
    return _made(run, summary, seen.versions)


def _made(run: RunStatus, summary: RunSummary, versions: Sequence[Version]) -> Finish:
    own = run.job_name
    readable = [v for v in versions if not v.invalid]
    same = [v for v in readable if v.spec.artifact.digest == summary.model_digest and v.meta.name != own]
    if any(v.meta.name == own and v.spec.artifact.digest != summary.model_digest for v in readable):
        because = (
            f"a ModelVersion {own} with another model is there already: delete or rename it, then ask for a new run"
        )
        return Finish("Failed", "NameTaken", because, summary)
    if same:
        equal = max(same, key=lambda v: v.spec.number).meta.name
        because = f"run {run.number} gave the same model as {equal} ({summary.model_digest[:19]}): no new version"
        return Finish("Unchanged", "Unchanged", because, summary, equal)
    return Finish("Succeeded", "Succeeded", summary.message or f"run {run.number} made {own}", summary, own)


def _failed(spec: ModelTrainingSpec, job: JobSeen, pods: Sequence[PodSeen], now: datetime) -> Running | Finish:
    if job.reason == "DeadlineExceeded":
        where = f" in step {pods[-1].step}" if pods and pods[-1].step else ""
        stuck = f" ({': '.join(filter(None, pods[-1].stuck))})" if pods and pods[-1].stuck[0] else ""
        because = f"the run took longer than spec.deadline {spec.deadline}{where}{stuck}; {FIXES['DeadlineExceeded']}"
        return Finish("Failed", "DeadlineExceeded", because)
    last = next((p for p in reversed(pods) if p.failed is not None), None)
    if last is None:
        if job.completed is not None and now < job.completed + SETTLE:
            return Running("Finishing", "the run failed; waits for its summary", until=job.completed + SETTLE)
        return Finish("Failed", job.reason or "RunFailed", f"{job.message}; no pod is left that could say why".strip())
    reason, because = _cause(last)
    tries = f" after {len(pods)} tries" if len(pods) > 1 else ""
    return Finish("Failed", reason, f"{because}{tries}", last.summary)


def _under_way(spec: ModelTrainingSpec, run: RunStatus, pods: Sequence[PodSeen], now: datetime) -> Running:
    now_at = pods[-1] if pods else None
    if now_at is None and now > _started(run, now) + PATIENCE:
        look = f"quota, limits or admission may refuse it: kubectl describe job {run.job_name}"
        return Running("PodMissing", f"the Job of run {run.number} has no pod yet; {look}", trouble=True)
    if now_at is None:
        return Running("Starting", f"run {run.number} waits for its pod")
    if now_at.stuck[0]:
        reason, text = now_at.stuck
        return Running(reason, f"run {run.number} cannot start step {now_at.step}: {text or reason}", trouble=True)
    failed = [p for p in pods if p.failed is not None]
    if failed:
        reason, because = _cause(failed[-1])
        tries = f"try {len(failed)} of {spec.retry_limit + 1} failed: {because}"
        return Running(reason, tries, trouble=True)
    return Running("Training", f"run {run.number} is at step {now_at.step or 'fetch'}")


def _cause(pod: PodSeen) -> tuple[str, str]:
    if pod.summary is not None and pod.summary.reason:
        return pod.summary.reason, pod.summary.message
    if pod.ended_as == "OOMKilled":
        return "OutOfMemory", f"step {pod.step} needed more memory than its limit; {FIXES['OutOfMemory']}"
    said = pod.text.strip().splitlines()
    last = f": {said[-1][:300]}" if said else ""
    kind = "permanent" if pod.failed == PERMANENT_EXIT else "passing"
    return "StepFailed", f"step {pod.step} ended with code {pod.failed} ({kind}){last}"


def _started(run: RunStatus, now: datetime) -> datetime:
    try:
        return parse_instant(run.start_time)
    except ValueError:
        return now
