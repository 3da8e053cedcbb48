"""A ModelVersion: accepted as it is, and who uses it."""

from __future__ import annotations

from typing import Final

from homeostat.api.kinds import Version
from homeostat.api.meta import Key
from homeostat.domain.champion import uses
from homeostat.domain.conditions import Condition, with_condition
from homeostat.reconcile.ports import World
from homeostat.reconcile.status import read_conditions, status_patch, written_conditions
from homeostat.runtime.outcome import Done, Outcome

MOST_SHOWN: Final = 32


async def reconcile(key: Key, world: World) -> Outcome:
    """Accept the version and show which deployments use it."""
    version = world.versions.get(key.namespace, key.name)
    if version is None or version.meta.deleting:
        return Done()
    used = _users(version, world)
    ready = _ready(version, used)
    conditions = read_conditions(version.status.conditions)
    now, generation = world.clock.now(), version.meta.generation
    for kind, (status, reason, message) in ready.items():
        new = Condition(kind, "True" if status else "False", reason, message, now, generation)
        conditions = with_condition(conditions, new)
    after = version.status.model_copy(
        update={"observed_generation": generation, "deployments": used, "conditions": written_conditions(conditions)}
    )
    await world.writer.patch_status(version, status_patch(version.status, after))
    return Done()


def _users(version: Version, world: World) -> tuple[str, ...]:
    namespace = version.meta.namespace
    found = (
        f"{d.meta.name} ({role})"
        for d in world.deployments.all()
        if d.meta.namespace == namespace and not d.meta.deleting
        for role in uses(d, version)
    )
    return tuple(sorted(found))[:MOST_SHOWN]


def _ready(version: Version, used: tuple[str, ...]) -> dict[str, tuple[bool, str, str]]:
    if version.invalid:
        fix = f"{version.invalid}; a ModelVersion is immutable: delete it and create a valid one"
        return {
            "Ready": (False, "SpecInvalid", fix),
            "Reconciling": (False, "SpecInvalid", ""),
            "Stalled": (True, "SpecInvalid", fix),
        }
    message = f"used by {', '.join(used)}" if used else "accepted; nobody uses it"
    return {
        "Ready": (True, "Accepted", message),
        "Reconciling": (False, "Settled", ""),
        "Stalled": (False, "NotStalled", ""),
    }
