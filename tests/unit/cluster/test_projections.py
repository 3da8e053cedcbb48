"""Projections: what is kept, and whether somebody changed what we applied."""

from __future__ import annotations

from typing import Any

import pytest

from homeostat.api.names import ANNOTATION_DIGEST
from homeostat.cluster import projections


def raw(kind: str, spec: dict[str, Any], *, generation: int = 1, note: str = "", **status: Any) -> dict[str, Any]:
    metadata = {
        "name": "a",
        "namespace": "ml",
        "uid": "u",
        "resourceVersion": "1",
        "generation": generation,
        "annotations": {ANNOTATION_DIGEST: note, "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status}


def test_the_digest_holds_while_the_generation_is_the_one_that_we_made() -> None:
    assert projections.deployment(raw("Deployment", {}, generation=3, note="sha256:x@3")).digest == "sha256:x"


def test_a_hand_edit_of_a_deployment_voids_the_digest() -> None:
    assert projections.deployment(raw("Deployment", {}, generation=4, note="sha256:x@3")).digest == ""


def service(**selector: str) -> dict[str, Any]:
    return {"selector": selector, "ports": [{"name": "http", "port": 8080}]}


def test_a_service_compares_the_fields_that_we_own() -> None:
    note = f"sha256:x@{projections.mark('Service', {'spec': service(v='v1')})}"
    stored = service(v="v1") | {"clusterIP": "10.0.0.1", "sessionAffinity": "None"}
    stored["ports"] = [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]
    assert projections.service(raw("Service", stored, note=note)).digest == "sha256:x"
    assert projections.service(raw("Service", stored | {"selector": {"v": "v2"}}, note=note)).digest == ""


def test_an_autoscaler_compares_bounds_target_and_behaviour() -> None:
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    spec = {
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [metric],
        "scaleTargetRef": {"kind": "Deployment", "name": "a"},
    }
    note = f"sha256:x@{projections.mark('HorizontalPodAutoscaler', {'spec': spec})}"
    assert projections.hpa(raw("HorizontalPodAutoscaler", spec, note=note)).digest == "sha256:x"
    assert projections.hpa(raw("HorizontalPodAutoscaler", {**spec, "minReplicas": 2}, note=note)).digest == ""


def test_only_our_annotations_are_kept() -> None:
    assert list(projections.deployment(raw("Deployment", {})).meta.annotations) == [ANNOTATION_DIGEST]


@pytest.mark.parametrize(
    ("state", "last", "exit_code", "message"),
    [
        ({"running": {}}, {"terminated": {"exitCode": 1, "message": "old"}}, None, "old"),
        ({"terminated": {"exitCode": 42, "message": "why"}}, {}, 42, "why"),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 1, "message": "why"}}, 1, "why"),
    ],
)
def test_a_container_that_waits_for_its_next_start_still_tells_how_it_ended(
    state: dict[str, Any], last: dict[str, Any], exit_code: int | None, message: str
) -> None:
    status = {"name": "fetch", "state": state, "lastState": last}
    found = projections.pod(raw("Pod", {}, initContainerStatuses=[status])).init_containers[0]
    assert (found.exit_code, found.message) == (exit_code, message)


@pytest.mark.parametrize(("scheme", "wanted"), [({}, False), ({"scheme": "HTTP"}, False), ({"scheme": "HTTPS"}, True)])
def test_a_pod_that_is_probed_over_tls_is_read_over_tls(scheme: dict[str, str], wanted: bool) -> None:
    probe = {"httpGet": {"path": "/readyz", "port": 8082, **scheme}}
    found = projections.pod(raw("Pod", {"containers": [{"name": "server", "readinessProbe": probe}]}))
    assert found.admin_tls is wanted


def test_a_hand_edit_of_what_a_port_speaks_voids_the_digest() -> None:
    ours = service(v="v1")
    ours["ports"][0]["appProtocol"] = "http"
    note = f"sha256:x@{projections.mark('Service', {'spec': ours})}"
    assert projections.service(raw("Service", ours, note=note)).digest == "sha256:x"
    assert projections.service(raw("Service", service(v="v1"), note=note)).digest == ""
