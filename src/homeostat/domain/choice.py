"""Which version a deployment wants to serve, what its children are called, and what may not be served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from homeostat.api.base import TEXT_LENGTH
from homeostat.api.deployment import ModelDeploymentStatus, ModelSource, Quarantine, Track
from homeostat.api.kinds import Deployment, Training, Version
from homeostat.api.meta import format_instant
from homeostat.domain.champion import accepted, latest
from homeostat.domain.references import absolute
from homeostat.domain.rollout import Choice, Rollout, next_candidate

KEPT_QUARANTINES: Final = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Why no version can be chosen. lasting: a person must change something."""

    reason: str
    because: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec asks for now: a track without child and image, or why there is none. training: the one followed."""

    track: Track | None = None
    problem: Problem | None = None
    training: str = ""


def choose(
    deployment: Deployment,
    training: Training | None,
    versions: Iterable[Version],
    pinned: Version | None,
    artifacts_uri: str,
) -> Wanted:
    """The version that `spec.model` stands for. versions: of the training that it follows."""
    model = deployment.spec.model
    if model.training_ref is not None:
        return _followed(model.training_ref.name, training, versions)
    if model.version_ref is not None:
        return _pinned(deployment, model.version_ref.name, pinned)
    if model.source is not None:
        return Wanted(_brought(model.source, artifacts_uri, deployment.meta.namespace))
    return Wanted(
        problem=Problem("ModelMissing", "spec.model names no trainingRef, versionRef or source", lasting=True)
    )


def _followed(name: str, training: Training | None, versions: Iterable[Version]) -> Wanted:
    newest = latest(versions)
    if newest is not None:
        return Wanted(_track(newest), training=name)
    if training is None:
        fix = "create it, or correct spec.model.trainingRef.name"
        problem = Problem("TrainingNotFound", f"ModelTraining {name} is not in this namespace; {fix}", lasting=True)
        return Wanted(problem=problem, training=name)
    ready = next((c for c in training.status.conditions if c.type == "Ready"), None)
    why = f" ({ready.reason}: {ready.message})" if ready is not None else ""
    because = f"ModelTraining {name} has no accepted version yet{why}"
    return Wanted(problem=Problem("NoVersion", because[:TEXT_LENGTH], lasting=False), training=name)


def _pinned(deployment: Deployment, name: str, found: Version | None) -> Wanted:
    if found is None or found.meta.deleting:
        status = deployment.status
        known = next((t for t in (status.stable, status.candidate) if t is not None and t.version_name == name), None)
        if known is not None:  # it was deleted; what is served goes on
            return Wanted(known)
        fix = "create it, or correct spec.model.versionRef.name"
        return Wanted(
            problem=Problem("VersionNotFound", f"ModelVersion {name} is not in this namespace; {fix}", lasting=True)
        )
    if not accepted(found):
        why = found.invalid or "it is pending or rejected"
        return Wanted(
            problem=Problem("VersionNotAccepted", f"ModelVersion {name} may not be used: {why}", lasting=True)
        )
    return Wanted(_track(found))


def _track(version: Version) -> Track:
    spec = version.spec
    return Track(
        version_name=version.meta.name,
        child="",
        number=spec.number,
        digest=spec.artifact.digest,
        uri=spec.artifact.uri,
        image="",
        baseline_digest=spec.baseline_digest,
    )


def _brought(source: ModelSource, artifacts_uri: str, namespace: str) -> Track:
    return Track(child="", digest=source.digest, uri=absolute(source.uri, artifacts_uri, namespace), image="")


def child_of(track: Track, taken: Mapping[str, str]) -> str:
    """Suffix of a version's children: `v7`; the digest's first six digits follow when `v7` is another model's or nothing.

    taken: digest by child.
    """
    short = track.digest.removeprefix("sha256:")[:6]
    if track.number <= 0:
        return f"v{short}"
    plain = f"v{track.number}"
    return plain if taken.get(plain, track.digest) == track.digest else f"{plain}-{short}"


def candidate(wanted: Wanted, status: ModelDeploymentStatus) -> Track | None:
    """The version to roll out now, or None when what is served is right."""
    found = next_candidate(
        _choice(wanted.track), _choice(status.stable), frozenset(_bad(status)), follows=_follows(wanted, status.stable)
    )
    return wanted.track if found is not None else None


def rollout_target(wanted: Wanted, status: ModelDeploymentStatus, at: Rollout, number: int) -> str:
    """The digest that should be rolled out while `at` is under way: its own, unless something else is wanted by now.

    number: of the version that is being rolled out. What was deleted or got a problem supersedes nothing.
    """
    track = wanted.track
    if track is None or track.digest in _bad(status):
        return at.candidate
    stable = status.stable
    if stable is not None and track.digest == stable.digest:
        return at.candidate if wanted.training or at.flipped else track.digest
    if wanted.training and 0 < track.number < number and _follows(wanted, status.candidate):
        return at.candidate
    return track.digest if candidate(wanted, status) is not None else at.candidate


def quarantined(status: ModelDeploymentStatus, digest: str, reason: str, now: datetime) -> tuple[Quarantine, ...]:
    """With one more digest, the newest first; at most 20 are kept."""
    entry = Quarantine(digest=digest, reason=reason[:TEXT_LENGTH], time=format_instant(now))
    others = tuple(q for q in status.quarantined if q.digest != digest)
    return (entry, *others)[:KEPT_QUARANTINES]


def in_quarantine(status: ModelDeploymentStatus, track: Track | None) -> Quarantine | None:
    """The entry that keeps this version from being rolled out."""
    return next((q for q in status.quarantined if track is not None and q.digest == track.digest), None)


def _bad(status: ModelDeploymentStatus) -> set[str]:
    return {q.digest for q in status.quarantined}


def _choice(track: Track | None) -> Choice | None:
    return None if track is None else Choice(track.digest, track.number)


def _follows(wanted: Wanted, track: Track | None) -> bool:
    """Whether numbers compare: both versions are of the training that is followed."""
    return bool(wanted.training) and track is not None and track.version_name == f"{wanted.training}-{track.number}"
