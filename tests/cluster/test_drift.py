"""DriftMonitors on the local cluster: what stands in their way is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.loop import a_namespace, apply, kubectl, wait_condition

pytestmark = pytest.mark.cluster
RETRAIN = {"type": "Retrain", "on": ["DataDrift"]}


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with a_namespace() as name:
        yield name


def test_a_monitor_of_a_missing_deployment_stalls_with_the_fix(namespace: str) -> None:
    apply(namespace, "DriftMonitor", "alone", {"deploymentRef": {"name": "nowhere"}, "actions": [RETRAIN]})
    message = wait_condition((namespace, "dm", "alone"), "Stalled", ("True", "TargetNotFound"), 30)
    assert "spec.deploymentRef.name" in message


def test_a_monitor_waits_for_a_deployment_that_serves_nothing_yet(namespace: str) -> None:
    apply(namespace, "ModelDeployment", "empty", {"model": {"trainingRef": {"name": "nowhere"}}})
    apply(namespace, "DriftMonitor", "waits", {"deploymentRef": {"name": "empty"}, "actions": [RETRAIN]})
    wait_condition((namespace, "dm", "waits"), "Ready", ("False", "NoStableVersion"), 30)
    kubectl("-n", namespace, "delete", "md", "empty")
    wait_condition((namespace, "dm", "waits"), "Stalled", ("True", "TargetNotFound"), 30)


def test_a_suspended_monitor_says_so(namespace: str) -> None:
    apply(namespace, "DriftMonitor", "still", {"deploymentRef": {"name": "nowhere"}, "suspend": True})
    wait_condition((namespace, "dm", "still"), "Ready", ("True", "Suspended"), 30)
