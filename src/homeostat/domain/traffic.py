"""What a replacement's state means for routes, capacity and the front Service: what should be true, not what to call."""

from dataclasses import dataclass
from typing import Literal

from homeostat.domain.rollout_state import Phase, Plan, Rollout, Seen, floor_for


@dataclass(frozen=True, slots=True)
class Share:
    """The route of one version's pods: `weight` percent of what they receive goes to the other version as `track`."""

    weight: int = 0
    track: Literal["candidate", "holdback", "stable"] = "candidate"
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """All routes carry `epoch`. front: the version that the front Service selects.

    old_route, new_route: of the old and the new version's pods. new_open: the new version's own Service selects its
    pods. *_floor: least `minReplicas` (0: the spec's own is enough).
    """

    epoch: int
    front: Literal["old", "new"]
    old_route: Share = Share()
    new_route: Share = Share()
    new_open: bool = True
    old_floor: int = 0
    new_floor: int = 1


def traffic(at: Rollout, plan: Plan, seen: Seen) -> Traffic:  # noqa: PLR0911 one exit per phase
    """What should be true in this state. Weight goes to the new version only in phases that its ready pods opened."""
    epoch = at.epoch
    if at.first:
        front: Literal["old", "new"] = "new"  # nothing else is there; its Service has no endpoint until a pod is Ready
        return Traffic(epoch, front, new_open=at.result != "Superseded")
    match at.phase:
        case Phase.SCALING:
            weight = plan.steps[at.step].weight if at.step < len(plan.steps) else 100
            return Traffic(epoch, "old", Share(at.weight), new_floor=floor_for(max(weight, at.weight), seen))
        case Phase.ROUTING | Phase.HOLDING:
            return Traffic(epoch, "old", Share(at.weight), new_floor=floor_for(at.weight, seen))
        case Phase.FILLING:
            return Traffic(epoch, "old", Share(at.weight), new_floor=floor_for(100, seen))
        case Phase.MIRRORING | Phase.SHIFTING:
            kept = 100 - max(at.weight, 100 - plan.holdback)
            return Traffic(epoch, "old", Share(at.weight), Share(kept, "holdback"), new_floor=floor_for(100, seen))
        case Phase.BAKING:
            back = Share(100 - at.weight, "holdback")
            return Traffic(epoch, "new", Share(at.weight, drain=True), back, True, at.old_pods, max(1, at.old_pods))
        case Phase.FINISHING:
            old = Share(at.weight, drain=True)
            return Traffic(epoch, "new", old, Share(), True, at.old_pods, max(1, at.old_pods))
        case Phase.RETURNING:
            leaving = Share(100, "stable", drain=True) if at.flipped else Share()
            return Traffic(epoch, "old", Share(), leaving, new_open=False, old_floor=at.old_pods)
        case Phase.DONE:
            promoted = at.result == "Promoted"
            return Traffic(epoch, "new" if promoted else "old", new_open=promoted, new_floor=0)
