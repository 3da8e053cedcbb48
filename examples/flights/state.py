"""What the cluster says of the demo's four objects, as few fields as people and the story need. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A ModelVersion. trigger: why its run was started; data: digest of its training rows."""

    name: str
    number: int
    trigger: str
    reason: str
    asked: datetime | None
    estimator: str
    auc: float | None
    parent: str
    data: str
    uri: str
    digest: str
    made: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A rollout that is over. result: `Promoted`, `RolledBack` or `Superseded`."""

    version: str
    digest: str
    ended: datetime
    result: str
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """A training run. result: `Running`, or how it ended."""

    number: int
    trigger: str
    reason: str
    result: str
    message: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One detector's word on the newest window; `moved`: the features that moved most, with their effect."""

    name: str
    verdict: str
    score: float | None
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """Something that the monitor did or was kept from doing."""

    id: str
    type: str
    finding: str
    result: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """All of it at one moment. conditions: (object, type, status, reason, message), for when something is stuck."""

    versions: tuple[Version, ...] = ()
    serving: bool = False
    stable: str = ""
    candidate: str = ""
    weight: int = 0
    phase: str = ""
    ended: tuple[Ended, ...] = ()
    quarantined: tuple[tuple[str, datetime], ...] = ()
    run: Run | None = None
    runs: tuple[Run, ...] = ()
    findings: tuple[Finding, ...] = ()
    actions: tuple[Action, ...] = ()
    conditions: tuple[tuple[str, str, str, str, str], ...] = ()

    @property
    def idle(self) -> bool:
        """Nothing is trained or replaced, and no version waits for its rollout."""
        tried = {e.version for e in self.ended}
        waits = any(v.number > self.number_of(self.stable) and v.name not in tried for v in self.versions)
        return self.run is None and not self.candidate and self.phase in ("", "Done") and not waits

    def number_of(self, name: str) -> int:
        """The version's number; 0 when there is no such version."""
        return next((v.number for v in self.versions if v.name == name), 0)

    def end_of(self, name: str) -> Ended | None:
        """How the version's rollout ended."""
        return next((e for e in self.ended if e.version == name), None)

    def banned(self, digest: str) -> datetime | None:
        """Since when the digest is in quarantine."""
        return next((at for d, at in self.quarantined if d == digest), None)

    def role(self, version: Version) -> str:
        """What the version is now, in a few words."""
        if version.name == self.candidate:
            return f"candidate {self.weight} %"
        if version.name == self.stable:
            return "stable"
        if self.banned(version.digest):
            return "quarantined"
        end = self.end_of(version.name)
        return "retired" if end and end.result == "Promoted" else end.result.lower() if end else "waits"


def read(items: Iterable[Json]) -> State:
    """From `kubectl get mt,mv,md,dm -o json`."""
    by_kind: dict[str, list[Json]] = {}
    for item in items:
        by_kind.setdefault(str(item.get("kind", "")), []).append(item)
    training = _status(by_kind.get("ModelTraining", []))
    deployment = _status(by_kind.get("ModelDeployment", []))
    monitor = _status(by_kind.get("DriftMonitor", []))
    rollout, candidate = deployment.get("rollout") or {}, deployment.get("candidate") or {}
    stable = _name(deployment.get("stable"))
    run = training.get("currentRun")
    flying = _name(candidate) if _name(candidate) != stable else ""
    return State(
        versions=tuple(sorted(map(_version, by_kind.get("ModelVersion", [])), key=lambda v: v.number)),
        serving=bool(stable) and _true(deployment, "Ready"),
        stable=stable,
        candidate=flying,
        weight=int(candidate.get("weight", 0)) if flying else 0,
        phase=str(rollout.get("phase", "")),
        ended=tuple(map(_ended, deployment.get("history", []))),
        quarantined=tuple((str(q["digest"]), instant(q["time"])) for q in deployment.get("quarantined", [])),
        run=_run(run) if run else None,
        runs=tuple(map(_run, training.get("runs", []))),
        findings=tuple(map(_finding, monitor.get("detectors", []))),
        actions=tuple(map(_action, monitor.get("actions", []))),
        conditions=tuple(c for kind in by_kind.values() for item in kind for c in _conditions(item)),
    )


def instant(text: str) -> datetime:
    """An RFC 3339 instant."""
    return datetime.fromisoformat(text)


def _status(items: list[Json]) -> Json:
    status: Json = (items[0].get("status") or {}) if items else {}
    return status


def _name(track: Any) -> str:
    return str((track or {}).get("versionName") or (track or {}).get("child") or "")


def _true(status: Json, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions", []))


def _version(item: Json) -> Version:
    spec, lineage = item["spec"], item["spec"].get("lineage") or {}
    trigger = lineage.get("trigger") or {}
    metrics = {m["name"]: float(m["value"]) for m in spec.get("metrics", [])}
    data: Json = next((d for d in lineage.get("data", []) if d.get("name") == "train"), {})
    return Version(
        name=item["metadata"]["name"],
        number=int(spec["number"]),
        trigger=str(trigger.get("type", "")),
        reason=str(trigger.get("reason", "")),
        asked=instant(trigger["time"]) if trigger.get("time") else None,
        estimator=str(lineage.get("estimator", "")),
        auc=metrics.get("auc"),
        parent=str(lineage.get("parent", "")),
        data=str(data.get("digest", "")),
        uri=str(spec["artifact"]["uri"]),
        digest=str(spec["artifact"]["digest"]),
        made=instant(item["metadata"]["creationTimestamp"]),
    )


def _ended(entry: Json) -> Ended:
    return Ended(
        str(entry.get("versionName", "")),
        str(entry.get("digest", "")),
        instant(entry["ended"]),
        str(entry.get("result", "")),
        str(entry.get("message", "")),
    )


def _run(entry: Json) -> Run:
    trigger = entry.get("trigger") or {}
    return Run(
        int(entry.get("number", 0)),
        str(trigger.get("type", "")),
        str(trigger.get("reason", "")),
        str(entry.get("result", "Running")),
        str(entry.get("message", "")),
    )


def _finding(entry: Json) -> Finding:
    moved = tuple(f"{f['name']} {float(f['effect']):.2f}" for f in entry.get("features", [])[:3])
    return Finding(str(entry.get("name", "")), str(entry.get("verdict", "")), entry.get("score"), moved)


def _action(entry: Json) -> Action:
    return Action(*(str(entry.get(field, "")) for field in ("id", "type", "finding", "result", "reason")))


def _conditions(item: Json) -> Iterable[tuple[str, str, str, str, str]]:
    name = f"{item.get('kind', '')}/{item['metadata']['name']}"
    for c in (item.get("status") or {}).get("conditions", []):
        yield name, str(c["type"]), str(c["status"]), str(c.get("reason", "")), str(c.get("message", ""))


def moments(before: State, after: State) -> list[str]:
    """What happened between two looks, a sentence each."""
    return [*_training_moments(before, after), *_rollout_moments(before, after), *_monitor_moments(before, after)]


def _training_moments(before: State, after: State) -> Iterable[str]:
    if after.run and (before.run is None or before.run.number != after.run.number):
        yield f"run {after.run.number} trains ({after.run.trigger}: {_short(after.run.reason)})"
    known = {r.number for r in before.runs}
    for run in reversed(after.runs):
        if run.number in known:
            continue
        made = next((v for v in after.versions if v.number == run.number), None)
        what = f"{made.name}, {made.estimator}, held-out AUC {made.auc or 0:.3f}" if made else _short(run.message)
        yield f"run {run.number} {'made' if made else run.result + ':'} {what}"


def _rollout_moments(before: State, after: State) -> Iterable[str]:
    if after.candidate and (after.candidate, after.weight) != (before.candidate, before.weight):
        yield (
            f"{after.candidate} gets {after.weight} % of the requests" if after.weight else f"{after.candidate} starts"
        )
    if after.stable and after.stable != before.stable:
        yield f"{after.stable} is stable" + (f", {before.stable} was" if before.stable else "")
    known = {(e.version, e.ended) for e in before.ended}
    for end in reversed(after.ended):
        if (end.version, end.ended) not in known and end.result != "Promoted":
            yield f"{end.version} {end.result}: {_short(end.message, 200)}"
    for digest, _ in after.quarantined:
        if before.banned(digest) is None:
            yield f"{digest[:19]} is in quarantine"


def _monitor_moments(before: State, after: State) -> Iterable[str]:
    known = {(a.id, a.result) for a in before.actions}
    for action in reversed(after.actions):
        if (action.id, action.result) in known:
            continue
        if action.result == "Requested":
            moved = next((f.moved for f in after.findings if f.name == action.finding), ())
            yield f"the monitor found {action.finding} ({', '.join(moved) or 'labels'}) and asks for: {action.type}"
        elif action.result in {"Blocked", "Failed"}:
            yield f"the monitor's {action.type} is {action.result.lower()}: {action.reason}"


def _short(text: str, most: int = 110) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
