"""What the pods' optimising containers left as last words, as the status shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import ValidationError

from homeostat.api.deployment import OptimizationStatus
from homeostat.api.kinds import Deployment
from homeostat.api.wire.optimization import Optimization
from homeostat.cluster.observed import ObservedPod
from homeostat.domain.desired.serving import OPTIMIZE
from homeostat.reconcile.deployment_pods import Pods

TEXT: Final = 500
REASON: Final = 128


def optimized(deployment: Deployment, pods: Pods) -> dict[str, OptimizationStatus | None]:
    """By child, what came of `spec.optimization`. None: nothing is asked for. Children that have said nothing are left out.

    Of several pods the newest Ready one speaks: after a change of the spec the old ones say what was.
    """
    tracks = (deployment.status.stable, deployment.status.candidate, deployment.status.previous)
    if deployment.spec.optimization is None:
        return {track.child: None for track in tracks if track is not None}
    told = {child: _told(found) for child, found in pods.by_child.items()}
    return {child: said for child, said in told.items() if said is not None}


def _told(pods: Iterable[ObservedPod]) -> OptimizationStatus | None:
    newest_last = sorted(pods, key=lambda pod: (pod.ready, pod.meta.created, pod.meta.name))
    said = [found for found in map(_of_pod, newest_last) if found is not None]
    return said[-1] if said else None


def _of_pod(pod: ObservedPod) -> OptimizationStatus | None:
    ended = next((c for c in pod.init_containers if c.name == OPTIMIZE and c.exit_code == 0), None)
    if ended is None:
        return None
    try:
        found = Optimization.model_validate_json(ended.message)
    except ValidationError:
        return None
    made = bool(found.digest)
    return OptimizationStatus(
        type=found.type,
        used=found.used,
        speedup=found.speedup,
        max_difference=found.difference,
        changed_labels=found.labels if made else None,
        size_bytes=found.size if made else None,
        reason=found.reason[:REASON],
        message=found.message[:TEXT],
    )
