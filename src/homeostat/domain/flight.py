"""A replacement under way with what belongs to it: the facts that are seen, and what is decided of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homeostat.api.deployment import (
    ModelDeploymentStatus,
    OptimizationStatus,
    Track,
)
from homeostat.domain.choice import Wanted
from homeostat.domain.desired.serving_options import TEMPLATE
from homeostat.domain.requests import Request
from homeostat.domain.rollout import (
    Decision,
    Phase,
    Rollout,
    rollout_from_state,
)
from homeostat.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Side:
    """One version's pods. ready: Ready ones; pods: how many it should have; epoch: see `Seen.stable_epoch`."""

    ready: int = 0
    pods: int = 0
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is there. old, new: of the replacement under way; without one `old` is stable.

    image: the operator's server image. pull_policy, plain_http: pinned with it. taken: model digest by child that exists. ready: Ready pods by child.
    optimized: what came of the optimisation, by child; a child that is not in it is as it was.
    deadline_ms: what a forward may take, from stable's latency. doomed: why the new version can never serve, see `Seen`.
    """

    wanted: Wanted
    requests: tuple[Request, ...]
    image: str
    verdict: Verdict
    taken: Mapping[str, str] = field(default_factory=dict)
    ready: Mapping[str, int] = field(default_factory=dict)
    optimized: Mapping[str, OptimizationStatus | None] = field(default_factory=dict)
    old: Side = Side()
    new: Side = Side()
    busy: bool = False
    deadline_ms: int = 1000
    pull_policy: str | None = None
    plain_http: tuple[str, ...] | None = None
    doomed: tuple[str, str] | None = None

    @property
    def pod(self) -> dict[str, Any]:
        """What a track takes from the operator's configuration and keeps: an upgrade restarts no pod."""
        installed = {"image": self.image, "pull_policy": self.pull_policy, "plain_http": self.plain_http}
        return {**installed, "template": TEMPLATE}


@dataclass(frozen=True, slots=True)
class Flight:
    """A replacement with what belongs to it. back: to the previous version, by request. deadline_ms: 0 until routed."""

    at: Rollout
    back: bool = False
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth an Event. rolled_back: what the condition RolledBack says from now; None: as before."""

    reason: str
    because: str
    warning: bool = False
    rolled_back: bool | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """The status that follows (without conditions) and why. flight: what is under way now. decision: None without one."""

    status: ModelDeploymentStatus
    flight: Flight | None = None
    decision: Decision | None = None
    notes: tuple[Note, ...] = ()


def flight_of(status: ModelDeploymentStatus) -> Flight | None:
    """The replacement that a status tells of; None when there is none (or none that makes sense)."""
    if status.rollout is None:
        return None
    state = status.rollout.state
    at = rollout_from_state(state)
    if at is None or at.phase is Phase.DONE or sides(status, at)[1] is None:
        return None
    deadline = state.get("deadlineMs", 0)
    return Flight(at, bool(state.get("back", False)), deadline if isinstance(deadline, int) else 0)


def sides(status: ModelDeploymentStatus, at: Rollout) -> tuple[Track | None, Track | None]:
    """The old and the new version of a replacement, by digest: at the flip the new one becomes stable."""
    if status.stable is not None and status.stable.digest == at.candidate:
        return status.previous, status.stable
    new = status.candidate
    return status.stable, new if new is not None and new.digest == at.candidate else None
