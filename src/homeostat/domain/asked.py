"""What people and monitors ask of a deployment, and what is consumed at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from homeostat.api.deployment import ModelDeploymentStatus
from homeostat.api.meta import RequestEcho, parse_instant
from homeostat.domain.requests import Request, echo
from homeostat.domain.rollout import Request as FlightRequest

VERBS: Final = ("rollback", "promote", "promote-full", "abort", "pause", "resume", "lift", "refresh")
_FLIGHT: Final[tuple[tuple[str, FlightRequest], ...]] = (
    ("abort", "Abort"),
    ("rollback", "Rollback"),
    ("promote-full", "PromoteFull"),
    ("promote", "Promote"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Unconsumed requests by verb."""

    by_verb: Mapping[str, Request]

    def echoed(self, status: ModelDeploymentStatus, verb: str, now: datetime, result: str) -> ModelDeploymentStatus:
        """The status that says what came of the request `verb`; the same when there is none."""
        request = self.by_verb.get(verb)
        if request is None:
            return status
        return status.model_copy(update={"requests": {**status.requests, verb: echo(request, now, result)}})


def asked(requests: Iterable[Request]) -> Asked:
    """Those requests that concern a deployment."""
    return Asked({r.verb: r for r in requests if r.verb in VERBS})


def without_stale(
    status: ModelDeploymentStatus, wants: Asked, child: str, now: datetime
) -> tuple[ModelDeploymentStatus, Asked]:
    """A rollback that was meant for another version than `child`, the one in question, is answered and does nothing."""
    request = wants.by_verb.get("rollback")
    if request is None or request.version in ("", child):
        return status, wants
    because = f"asked about {request.version}, which is not in question any more"
    left = Asked({verb: r for verb, r in wants.by_verb.items() if verb != "rollback"})
    return wants.echoed(status, "rollback", now, because), left


def flight_request(wants: Asked | None, *, back: bool) -> FlightRequest:
    """What is asked of a replacement under way; the most careful of several. Going back needs no evidence and no old pod."""
    found: FlightRequest = next((name for verb, name in _FLIGHT if wants is not None and verb in wants.by_verb), "")
    if not back:
        return found
    return found if found == "Abort" else "PromoteFull"


def consume(
    status: ModelDeploymentStatus, wants: Asked, image: str, now: datetime
) -> tuple[ModelDeploymentStatus, tuple[tuple[str, str], ...]]:
    """The requests that need no replacement: pause, resume, lift, refresh. Returns what there is to tell, too."""
    told = []
    if "lift" in wants.by_verb:
        because = f"{len(status.quarantined)} digests may be rolled out again"
        status = wants.echoed(status.model_copy(update={"quarantined": ()}), "lift", now, because)
        told.append(("QuarantineLifted", because))
    if "refresh" in wants.by_verb:
        because = f"all versions run {image}"
        status = wants.echoed(status.model_copy(update=_with_image(status, image)), "refresh", now, because)
        told.append(("Refreshed", because))
    for verb, because in (("pause", "no rollout starts or advances"), ("resume", "rollouts go on")):
        if verb in wants.by_verb:
            status = wants.echoed(status, verb, now, because)
            told.append(("Paused" if verb == "pause" else "Resumed", because))
    return status, tuple(told)


def _with_image(status: ModelDeploymentStatus, image: str) -> dict[str, Any]:
    tracks = {"stable": status.stable, "candidate": status.candidate, "previous": status.previous}
    return {role: t.model_copy(update={"image": image}) for role, t in tracks.items() if t is not None}


def paused(requests: Mapping[str, RequestEcho]) -> bool:
    """Whether the last of `pause` and `resume` was `pause`."""
    pause, resume = requests.get("pause"), requests.get("resume")
    if pause is None:
        return False
    return resume is None or parse_instant(pause.time) > parse_instant(resume.time)
