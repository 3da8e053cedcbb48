"""What serves one version of a model: Deployment, Service, PodDisruptionBudget, autoscaler; and the front Service.

A version's pod template depends on the spec's pod settings and on its track in status only: nothing that an operator's
upgrade changes may enter it (a test pins its digest). Whoever changes the template keeps this one for tracks that have it:
`Track.template` names a track's revision, new tracks and refreshed ones get the newest (`serving_options.TEMPLATE`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeostat.api.deployment import Autoscaling, Track
from homeostat.api.kinds import Deployment
from homeostat.api.names import (
    ANNOTATION_ROLE,
    ANNOTATION_ROUTE,
    GROUP,
    LABEL_MODEL,
    LABEL_VERSION,
    PORT_ADMIN,
    PORT_GRPC,
    PORT_REST,
)
from homeostat.api.serving import byte_size
from homeostat.domain.desired.common import (
    Manifest,
    container_security,
    http_probe,
    labels,
    owner_reference,
    pod_security,
    resources,
)
from homeostat.domain.desired.serving_options import (
    LEAST_MIB,
    arguments,
    is_secure,
    memory,
    mounted,
    mounts,
    options,
    template_of,
    volumes,
    workers,
)

ANNOTATION_MODEL_DIGEST: Final = f"{GROUP}/model-digest"
ANNOTATION_REPLICAS: Final = f"{GROUP}/replicas"  # what we applied; absent where an autoscaler owns the field
CLOSED: Final = "closed"  # a version that no pod has: children are called v…
FETCH: Final = "fetch"
OPTIMIZE: Final = "optimize"
SERVER: Final = "server"
MODEL_DIR: Final = "/model"
POD_DIR: Final = "/etc/homeostat/pod"
TMP: Final = "/tmp"  # noqa: S108 the pod's own emptyDir
GRACE_SECONDS: Final = 40  # the server's lame duck (5 s), drain (20 s) and their ends
PAYLOAD_GRACE_SECONDS: Final = 5  # what the payload logger may take after that
START_FAILURES: Final = 60  # seconds until the admin port answers; loading comes after, and may take its own time


@dataclass(frozen=True, slots=True)
class ServerPod:
    """What the installation says of serving pods, for tracks that do not say it themselves."""

    pull_policy: str
    plain_http: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """How many pods a version has. floor: least `minReplicas`; pinned: never fewer than now; idle: none at all.

    held: fixed number of before, kept until the autoscaler has written another: a field that its only owner drops is 1.
    """

    floor: int = 0
    pinned: bool = False
    idle: bool = False
    held: int = 0


def child_name(deployment: Deployment, child: str) -> str:
    """Name of a version's children."""
    return f"{deployment.meta.name}-{child}"


def service_url(deployment: Deployment, track: Track | None = None) -> str:
    """Base URL of a version's Service, or of the front Service."""
    name = child_name(deployment, track.child) if track is not None else deployment.meta.name
    scheme = "https" if is_secure(deployment.spec, track or deployment.status.stable) else "http"
    return f"{scheme}://{name}.{deployment.meta.namespace}.svc:{PORT_REST}"


def bounds(deployment: Deployment, scale: Scale) -> tuple[int, int]:
    """Fewest and most pods of a version that is not idle."""
    spec = deployment.spec
    if spec.replicas is not None:
        return spec.replicas, spec.replicas
    wanted = spec.autoscaling or Autoscaling()
    return min(max(wanted.min_replicas, scale.floor), wanted.max_replicas), wanted.max_replicas


def autoscaled(deployment: Deployment, scale: Scale) -> bool:
    """Whether a version has an autoscaler."""
    return deployment.spec.replicas is None and not scale.idle


def workload(deployment: Deployment, track: Track, role: str, scale: Scale, pod: ServerPod) -> Manifest:
    """The Deployment that serves one version, whatever its role is: that stands on the Deployment itself only."""
    selected = _selector(deployment, track.child)
    spec: Manifest = {
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selected},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": _labels(deployment, track.child)}, "spec": _pod(deployment, track, pod)},
    }
    marks = {ANNOTATION_ROLE: role, ANNOTATION_MODEL_DIGEST: track.digest}
    if not autoscaled(deployment, scale):
        spec["replicas"] = 0 if scale.idle else deployment.spec.replicas
    elif scale.held:  # else the autoscaler owns the field
        spec["replicas"] = scale.held
    if "replicas" in spec:
        marks[ANNOTATION_REPLICAS] = str(spec["replicas"])
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_metadata(deployment, track.child), "annotations": marks},
        "spec": spec,
    }


def version_service(deployment: Deployment, child: str, *, is_open: bool) -> Manifest:
    """A version's own Service, the target of forwards. Closed, it selects no pod."""
    return _service(deployment, _metadata(deployment, child), _selector(deployment, child if is_open else CLOSED))


def front_service(deployment: Deployment, child: str) -> Manifest:
    """The Service that clients use. child: the version that it selects; empty: none yet."""
    metadata = {
        "name": deployment.meta.name,
        "namespace": deployment.meta.namespace,
        "labels": labels(deployment.meta.name, "server", {LABEL_MODEL: deployment.meta.name}),
        "ownerReferences": [owner_reference(deployment.kind, deployment.meta)],
    }
    return _service(deployment, metadata, _selector(deployment, child or CLOSED))


def disruption_budget(deployment: Deployment, child: str) -> Manifest:
    """One pod of a version at a time may be evicted."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(deployment, child),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(deployment, child)}},
    }


def autoscaler(deployment: Deployment, child: str, scale: Scale) -> Manifest:
    """The HorizontalPodAutoscaler of a version; pinned, it does not take pods away."""
    fewest, most = bounds(deployment, scale)
    percent = (deployment.spec.autoscaling or Autoscaling()).cpu_percent
    target = {"type": "Utilization", "averageUtilization": percent}
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": child_name(deployment, child)},
        "minReplicas": fewest,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    if scale.pinned:
        spec["behavior"] = {"scaleDown": {"selectPolicy": "Disabled"}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(deployment, child),
        "spec": spec,
    }


def _selector(deployment: Deployment, child: str) -> dict[str, str]:
    return {LABEL_MODEL: deployment.meta.name, LABEL_VERSION: child}


def _labels(deployment: Deployment, child: str) -> dict[str, str]:
    return labels(deployment.meta.name, "server", _selector(deployment, child))


def _metadata(deployment: Deployment, child: str) -> Manifest:
    return {
        "name": child_name(deployment, child),
        "namespace": deployment.meta.namespace,
        "labels": _labels(deployment, child),
        "ownerReferences": [owner_reference(deployment.kind, deployment.meta)],
    }


def _service(deployment: Deployment, metadata: Manifest, selector: dict[str, str]) -> Manifest:
    """Both ports, whatever the pods have: on pods of before gRPC its port has no endpoint and refuses connections."""
    secure = is_secure(deployment.spec, deployment.status.stable)
    rest = {"name": "http", "port": PORT_REST, "targetPort": "http", "appProtocol": "https" if secure else "http"}
    spoken = "https" if secure else "kubernetes.io/h2c"
    grpc = {"name": "grpc", "port": PORT_GRPC, "targetPort": "grpc", "appProtocol": spoken}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": selector, "ports": [{**port, "protocol": "TCP"} for port in (rest, grpc)]},
    }


def _pinned(track: Track, pod: ServerPod) -> ServerPod:
    """What the track says, so that a changed installation restarts no pod; the installation's where it says nothing."""
    hosts = pod.plain_http if track.plain_http is None else track.plain_http
    return ServerPod(track.pull_policy or pod.pull_policy, hosts)


def _pod(deployment: Deployment, track: Track, installed: ServerPod) -> Manifest:
    pod = _pinned(track, installed)
    route = {"path": "route", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_ROUTE}']"}}
    server = options(deployment.spec, track)
    grace = GRACE_SECONDS + (PAYLOAD_GRACE_SECONDS if server.payload_logging is not None else 0)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": pod_security(),
        "topologySpreadConstraints": [_spread(deployment, track)],
        "initContainers": [
            _container(FETCH, deployment, track, pod, _fetch_args(track, pod)),
            *_optimizing(deployment, track, pod),
        ],
        "containers": [_server(deployment, track, pod)],
        "volumes": [
            {"name": "model", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "pod", "downwardAPI": {"items": [route]}},
            *volumes(mounted(server)),
        ],
    }


def _spread(deployment: Deployment, track: Track) -> Manifest:
    """Pods go to different nodes where they can."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(deployment, track.child)},
    }


def _container(name: str, deployment: Deployment, track: Track, pod: ServerPod, args: list[str]) -> Manifest:
    server = options(deployment.spec, track)
    return {
        "name": name,
        "image": track.image,
        "imagePullPolicy": pod.pull_policy,
        "args": args,
        "env": [{"name": "HOME", "value": TMP}],
        "resources": resources(
            server.resources, cpu="100m", memory=memory(server) if name == SERVER else f"{LEAST_MIB}Mi"
        ),
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "model", "mountPath": MODEL_DIR}, {"name": "tmp", "mountPath": TMP}],
    }


def _fetch_args(track: Track, pod: ServerPod) -> list[str]:
    return ["fetch", "--uri", track.uri, "--digest", track.digest, "--to", MODEL_DIR, *_plain_http(pod)]


def _plain_http(pod: ServerPod) -> list[str]:
    return [word for host in pod.plain_http for word in ("--plain-http", host)]


def _optimizing(deployment: Deployment, track: Track, pod: ServerPod) -> list[Manifest]:
    """The container that makes the model cheaper, when that is asked for."""
    wanted = deployment.spec.optimization
    if wanted is None or template_of(track) < 2:  # an image of before has no such command
        return []
    args = ["optimize", "--model-dir", MODEL_DIR, "--type", wanted.type, "--tolerance", f"{wanted.tolerance:g}"]
    args += ["--required"] if wanted.required else []
    limits = options(deployment.spec, track).limits
    if limits is not None and limits.max_model is not None:
        args += ["--max-model-bytes", str(byte_size(limits.max_model))]
    if wanted.share:
        args += ["--share-at", track.uri, *_plain_http(pod)]
    return [_container(OPTIMIZE, deployment, track, pod, args)]


def _server(deployment: Deployment, track: Track, pod: ServerPod) -> Manifest:
    server, new = options(deployment.spec, track), template_of(track) >= 2
    args = ["serve", "--model-dir", MODEL_DIR, "--name", deployment.meta.name, "--version", track.child]
    args += ["--deployment-uid", deployment.meta.uid, "--route-file", f"{POD_DIR}/route"]
    args += ["--workers", str(workers(server))]
    if new:
        args += ["--digest", track.digest, *arguments(server)]
        args += _plain_http(pod) if server.payload_logging is not None else []
    found = mounted(server)
    scheme = "HTTPS" if server.tls is not None and server.tls.admin else ""
    return {
        **_container(SERVER, deployment, track, pod, args),
        "ports": [
            {"name": "http", "containerPort": PORT_REST},
            *([{"name": "grpc", "containerPort": PORT_GRPC}] if new else []),
            {"name": "admin", "containerPort": PORT_ADMIN},
        ],
        **({"resizePolicy": [_in_place("cpu"), _in_place("memory")]} if new else {}),
        "startupProbe": http_probe("/livez", PORT_ADMIN, period=1, failures=START_FAILURES, scheme=scheme),
        "readinessProbe": http_probe("/readyz", PORT_ADMIN, period=2, failures=2, scheme=scheme),
        "livenessProbe": http_probe("/livez", PORT_ADMIN, period=10, timeout=5, scheme=scheme),
        "volumeMounts": [
            {"name": "model", "mountPath": MODEL_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": TMP},
            {"name": "pod", "mountPath": POD_DIR, "readOnly": True},
            *mounts(found),
        ],
    }


def _in_place(resource: str) -> Manifest:
    """A resized pod is not restarted: the server follows its limits."""
    return {"resourceName": resource, "restartPolicy": "NotRequired"}
