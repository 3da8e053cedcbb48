"""How a version was optimised, in the status of its deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homeostat.api.wire.optimization import Optimization
from homeostat.cluster.observed import ContainerState
from unit.reconcile.fleet import Fleet, termination
from unit.reconcile.memory import container

WANTED = {"type": "Int8Dynamic", "tolerance": 0.05}
FOUND = Optimization(
    type="Int8Dynamic",
    original="sha256:" + "0" * 64,
    digest="sha256:" + "1" * 64,
    size=250,
    original_size=1000,
    rows=256,
    difference=0.02,
    labels=0.004,
    speedup=1.4,
    used=True,
)


def said(found: Optimization | str, *, exit_code: int = 0) -> ContainerState:
    text = found if isinstance(found, str) else found.model_dump_json()
    return container("optimize", exit_code=exit_code, message=text)


def serving(end: ContainerState, **spec: Any) -> Fleet:
    """A served version whose pods ended their optimising container like this."""
    fleet = Fleet(optimization=WANTED, **spec)
    fleet.serve()
    speak(fleet, "v1", end)
    fleet.tick()
    return fleet


def speak(fleet: Fleet, child: str, end: ContainerState) -> None:
    for pod in fleet.pods(child):
        fleet.world.pods.put(replace(pod, init_containers=(container("fetch", exit_code=0), end)))


def test_the_figures_of_the_pods_are_in_the_status() -> None:
    shown = serving(said(FOUND)).status.stable.optimization.to_json()
    assert shown == {
        "type": "Int8Dynamic",
        "used": True,
        "speedup": 1.4,
        "maxDifference": 0.02,
        "changedLabels": 0.004,
        "sizeBytes": 250,
        "reason": "",
        "message": "",
    }


def test_a_refusal_is_shown_and_the_original_serves() -> None:
    refused = FOUND.model_copy(update={"used": False, "reason": "AboveTolerance", "message": "by up to 0.3"})
    fleet = serving(said(refused))
    shown = fleet.status.stable.optimization
    assert (shown.used, shown.reason, shown.message) == (False, "AboveTolerance", "by up to 0.3")
    assert fleet.condition("Ready")[:2] == ("True", "Serving")


def test_nothing_is_written_twice() -> None:
    fleet = serving(said(FOUND))
    before = list(fleet.world.writer.log)
    fleet.tick(3)
    assert fleet.world.writer.log == before


def test_what_is_asked_for_no_more_is_shown_no_more() -> None:
    fleet = serving(said(FOUND))
    fleet.change(optimization=None)
    fleet.tick()
    assert fleet.status.stable.optimization is None
    assert "optimization" not in fleet.deployment.status.to_json()["stable"]


@pytest.mark.parametrize("text", ["", "no JSON", '{"type": "Int4"}'])
def test_words_that_are_none_change_nothing(text: str) -> None:
    fleet = serving(said(FOUND))
    speak(fleet, "v1", said(text))
    fleet.tick()
    assert fleet.status.stable.optimization.speedup == 1.4


def test_a_required_optimisation_that_is_refused_keeps_the_version_from_getting_ready() -> None:
    fleet = Fleet(optimization={**WANTED, "required": True})
    end = said(termination("OptimizationRefused", "0.3 (AboveTolerance)"), exit_code=42)
    fleet.broken["v1"] = {"pod": {"init_containers": (container("fetch", exit_code=0), end)}}
    fleet.version(1)
    fleet.step()
    fleet.tick(3)
    assert fleet.condition("Ready") == ("False", "OptimizationRefused", "0.3 (AboveTolerance)")
    assert fleet.condition("Stalled")[:2] == ("True", "OptimizationRefused")


def test_an_optimisation_that_takes_too_much_memory_says_so() -> None:
    fleet = Fleet(optimization=WANTED)
    end = container("optimize", exit_code=137, terminated_reason="OOMKilled")
    fleet.broken["v1"] = {"pod": {"init_containers": (container("fetch", exit_code=0), end)}}
    fleet.version(1)
    fleet.step()
    fleet.tick(3)
    status, reason, message = fleet.condition("Ready")
    assert (status, reason) == ("False", "OutOfMemory")
    assert "optimize needs more memory than spec.server.resources allows" in message
