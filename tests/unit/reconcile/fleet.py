"""A deployment with pods that start, apply routes and count requests, on our ports in memory. Time passes by `tick`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from homeostat.api.meta import Key, format_instant
from homeostat.api.names import ANNOTATION_ROUTE, LABEL_MODEL, LABEL_TRAINING, LABEL_VERSION, request_annotation
from homeostat.api.wire.route import Route
from homeostat.api.wire.stats import Feedback, Outcomes, PodStats, State
from homeostat.cluster.observed import ObservedDeployment, ObservedPod
from homeostat.reconcile.deployment import reconcile
from homeostat.runtime.outcome import Outcome
from unit.reconcile.memory import World, container, meta_of, pod, resource

KEY = Key("ModelDeployment", "ml", "flights")
CANARY = {"strategy": {"canary": {"steps": [{"weight": 20, "duration": "10s"}, {"weight": 50, "duration": "10s"}]}}}
SHORT = {**CANARY, "bake": {"duration": "10s", "holdback": 5}, "progressDeadline": "60s"}
FOLLOWS = {"model": {"trainingRef": {"name": "flights"}}}


def sha(number: int) -> str:
    return f"sha256:{number:064x}"


class Fleet:
    """rate: requests a second. failing: share of failed requests by child. wrong: share of wrong labels by child."""

    def __init__(self, **spec: Any) -> None:
        self.world = World()
        self.spec = {**FOLLOWS, **SHORT, **spec}
        self.rate = 200
        self.failing: dict[str, float] = {}
        self.wrong: dict[str, float] = {}
        self.broken: dict[str, dict[str, Any]] = {}  # child: how its pods do not get Ready
        self.slow: set[str] = set()  # pods that are not Ready (any more)
        self.deaf: set[str] = set()  # pods that do not see their route
        self.counted: dict[str, dict[str, list[int]]] = {}
        self.labels: dict[str, dict[str, list[int]]] = {}
        self.opened = False  # whether the front has ever served
        self.lost_by: list[str] = []  # requests that no version could answer
        self.applied: dict[str, Route] = {}
        training = {"trainer": {"sklearn": {"estimator": "X", "target": "y"}}, "data": {"train": {"uri": "x"}}}
        self.world.trainings.put(resource("ModelTraining", meta_of("ml", "flights"), training))
        self.world.deployments.put(resource("ModelDeployment", meta_of("ml", "flights"), self.spec))

    def version(self, number: int, digest: str = "", training: str = "flights") -> None:
        spec = {
            "number": number,
            "artifact": {"uri": f"oci://registry:5000/ml/{training}@{sha(number)}", "digest": digest or sha(number)},
            "baselineDigest": sha(900 + number),
            "lineage": {"trainingRef": training, "run": number, "trigger": {"type": "Spec"}},
        }
        meta = meta_of("ml", f"{training}-{number}", labels={LABEL_TRAINING: training})
        self.world.versions.put(resource("ModelVersion", meta, spec))

    def change(self, **spec: Any) -> None:
        self.spec = {**self.spec, **spec}
        found = self.deployment
        meta = replace(found.meta, generation=found.meta.generation + 1)
        self.world.deployments.put(resource("ModelDeployment", meta, self.spec, found.status.to_json()))

    def ask(self, verb: str, text: str = "please") -> None:
        found = self.deployment
        marks = {**found.meta.annotations, request_annotation(verb): text}
        self.world.deployments.put(replace(found, meta=replace(found.meta, annotations=marks)))

    @property
    def deployment(self) -> Any:
        return self.world.deployments.get("ml", "flights")

    @property
    def status(self) -> Any:
        return self.deployment.status

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next(c for c in self.status.conditions if c.type == kind)
        return found.status, found.reason, found.message

    @property
    def front(self) -> str:
        return self.world.services.get("ml", "flights").selector[LABEL_VERSION]

    def is_open(self, child: str) -> bool:
        found = self.world.services.get("ml", f"flights-{child}")
        return found is not None and found.selector[LABEL_VERSION] == child

    def pods(self, child: str) -> list[ObservedPod]:
        found = self.world.pods.labelled("ml", LABEL_MODEL, "flights")
        return [p for p in found if p.meta.labels[LABEL_VERSION] == child]

    def route(self, child: str) -> Route | None:
        text = self.pods(child)[0].meta.annotations.get(ANNOTATION_ROUTE)
        return None if text is None else Route.model_validate_json(text)

    def step(self) -> Outcome:
        return asyncio.run(reconcile(KEY, self.world))

    def tick(self, seconds: int = 1) -> None:
        """Seconds of life: kubelet and autoscaler, traffic, one reconcile."""
        for _ in range(seconds):
            self.world.clock.pass_(1)
            self.live()
            self.traffic()
            self.step()

    def until(self, phase: str, most: int = 400) -> None:
        """Tick until the rollout is in `phase` ('' for none)."""
        for _ in range(most):
            rollout = self.status.rollout
            if (rollout.phase if rollout else "") == phase:
                return
            self.tick()
        raise AssertionError(f"{phase!r} not reached: {self.status.to_json()}")

    def serve(self, number: int = 1) -> None:
        """From nothing to a settled first version."""
        self.version(number)
        self.step()
        self.until("")
        self.tick(2)

    def live(self) -> None:
        """Autoscalers, deployments and kubelets do their part."""
        for workload in self.world.workloads.all():
            hpa = self.world.hpas.get("ml", workload.meta.name)
            wanted = max(workload.replicas, hpa.min_replicas) if hpa and workload.replicas else workload.replicas
            self._pods(replace(workload, replicas=wanted))
        known = {w.meta.labels[LABEL_VERSION] for w in self.world.workloads.all()}
        for place, found in list(self.world.pods.rows.items()):
            if found.meta.labels[LABEL_VERSION] not in known:
                del self.world.pods.rows[place]

    def _pods(self, workload: ObservedDeployment) -> None:
        child = workload.meta.labels[LABEL_VERSION]
        self.world.workloads.put(
            replace(workload, updated_replicas=workload.replicas, total_replicas=workload.replicas)
        )
        present = self.pods(child)
        for gone in present[workload.replicas :]:
            del self.world.pods.rows["ml", gone.meta.name]
        for number in range(len(present), workload.replicas):
            self._start(child, f"flights-{child}-{number}")
        for found in self.pods(child):
            self._report(child, found)

    def _start(self, child: str, name: str) -> None:
        labels = {LABEL_MODEL: "flights", LABEL_VERSION: child}
        how = self.broken.get(child, {})
        now = self.world.clock.now()
        made = pod(meta_of("ml", name, labels=labels, created=now), "rs", "Running", container("server"))
        ready = not how and name not in self.slow
        self.world.pods.put(replace(made, ready=ready, ready_since=now if ready else None, **how.get("pod", {})))

    def _report(self, child: str, found: ObservedPod) -> None:
        uid, text = found.meta.uid, found.meta.annotations.get(ANNOTATION_ROUTE)
        if text is not None and found.meta.name not in self.deaf:
            self.applied[uid] = Route.model_validate_json(text)
        how = self.broken.get(child, {})
        ready = not how and found.meta.name not in self.slow
        if found.ready != ready:
            self.world.pods.put(replace(found, ready=ready, ready_since=self.world.clock.now() if ready else None))
        forwards = self.counted.setdefault(uid, {})
        self.world.signals.scraped[uid] = self.world.clock.monotonic()
        self.world.signals.stats[uid] = PodStats(
            model="flights",
            version=child,
            start=format_instant(found.meta.created),
            now=self.world.clock.monotonic(),
            state=how.get("state", State(reason="Ready")),
            route_epoch=self.applied[uid].epoch if uid in self.applied else 0,
            forwards={name: Outcomes(ok=n[0], failed=n[1], busy=n[2]) for name, n in forwards.items()},
            feedback={v: Feedback(labels=n[0], wrong=n[1]) for v, n in self.labels.get(uid, {}).items()},
        )

    def traffic(self) -> None:
        """One second of requests at the front Service; each pod splits as its route says."""
        service = self.world.services.get("ml", "flights")
        front = [] if service is None else [p for p in self.pods(service.selector[LABEL_VERSION]) if p.ready]
        self.opened = self.opened or bool(front)
        if service is not None and self.opened and not front:
            self.lost_by.append(f"{self.world.clock.monotonic()}: no Ready pod behind {service.selector}")
        for found in front:
            self._requests(found, self.rate // len(front))

    def _requests(self, found: ObservedPod, count: int) -> None:
        uid, own = found.meta.uid, found.meta.labels[LABEL_VERSION]
        route = self.applied.get(uid, Route(epoch=0))
        sent = count * route.weight // 100 if route.target else 0
        for child, share in ((route.version, sent), (own, count - sent)):
            if not share:
                continue
            dead = child != own and not (self.is_open(child) and any(p.ready for p in self.pods(child)))
            failed = share if dead else round(share * self.failing.get(child, 0.0))
            outcomes = self.counted.setdefault(uid, {}).setdefault(child, [0, 0, 0])
            outcomes[0] += share - failed
            outcomes[1] += failed
            labels = self.labels.setdefault(uid, {}).setdefault(child, [0, 0])
            labels[0] += share
            labels[1] += round(share * self.wrong.get(child, 0.1))

    def told(self) -> list[str]:
        return [reason for reason, _ in self.world.writer.events]


def termination(reason: str, message: str) -> str:
    return json.dumps({"reason": reason, "message": message})
