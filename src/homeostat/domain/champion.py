"""Which versions count: the newest accepted one, the champion to beat, those that nobody needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from homeostat.api.deployment import Track
from homeostat.api.kinds import Deployment, Version
from homeostat.api.wire.run import ChampionPlan

NOT_ACCEPTED: Final = frozenset({"Pending", "Rejected"})


def accepted(version: Version) -> bool:
    """Whether a version may be used: it exists, and is neither pending nor rejected."""
    if version.invalid or version.meta.deleting:
        return False
    ready = next((c for c in version.status.conditions if c.type == "Ready"), None)
    return ready is None or ready.reason not in NOT_ACCEPTED


def latest(versions: Iterable[Version]) -> Version | None:
    """The accepted version with the highest number."""
    return max(filter(accepted, versions), key=lambda v: v.spec.number, default=None)


def followers(training: str, deployments: Iterable[Deployment]) -> tuple[Deployment, ...]:
    """The deployments that follow this training, oldest first."""
    following = (
        d
        for d in deployments
        if not d.invalid and d.spec.model.training_ref is not None and d.spec.model.training_ref.name == training
    )
    return tuple(sorted(following, key=lambda d: (d.meta.created, d.meta.name)))


def champion(versions: Sequence[Version], following: Sequence[Deployment]) -> ChampionPlan | None:
    """What a new version must beat: stable of the oldest follower, else the newest accepted that no follower quarantined."""
    stable = next((d.status.stable for d in following if d.status.stable is not None), None)
    if stable is not None:
        return ChampionPlan(name=stable.version_name or stable.child, uri=stable.uri, digest=stable.digest)
    bad = {q.digest for d in following for q in d.status.quarantined}
    best = latest(v for v in versions if not v.invalid and v.spec.artifact.digest not in bad)
    if best is None:
        return None
    return ChampionPlan(name=best.meta.name, uri=best.spec.artifact.uri, digest=best.spec.artifact.digest)


def tracks(deployment: Deployment) -> tuple[tuple[str, Track], ...]:
    """What a deployment uses, by role."""
    status = deployment.status
    roles = (("stable", status.stable), ("candidate", status.candidate), ("previous", status.previous))
    return tuple((role, track) for role, track in roles if track is not None)


def uses(deployment: Deployment, version: Version) -> tuple[str, ...]:
    """The roles that `version` has in `deployment`; `pinned` when its spec names it."""
    if version.invalid:
        return ()
    name, digest = version.meta.name, version.spec.artifact.digest
    found = tuple(
        role for role, track in tracks(deployment) if track.version_name in ("", name) and track.digest == digest
    )
    pinned = None if deployment.invalid else deployment.spec.model.version_ref
    return found or (("pinned",) if pinned is not None and pinned.name == name else ())


def prunable(
    training: str, versions: Sequence[Version], deployments: Sequence[Deployment], limit: int
) -> tuple[Version, ...]:
    """Versions made by the training that can go, oldest first: all but the newest `limit` of those that nobody uses.

    The newest accepted version and the champion's are kept whatever happens.
    """
    kept = {v.meta.name for v in (latest(versions),) if v is not None}
    best = champion(versions, followers(training, deployments))
    unused = [
        v
        for v in versions
        if not v.invalid
        and v.spec.lineage is not None
        and v.spec.lineage.training_ref == training
        and v.meta.name not in kept
        and (best is None or v.meta.name != best.name)
        and not v.meta.deleting
        and not any(uses(d, v) for d in deployments)
    ]
    unused.sort(key=lambda v: v.spec.number)
    return tuple(unused[: max(0, len(unused) - limit)])
