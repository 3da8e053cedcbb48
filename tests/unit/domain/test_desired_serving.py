"""What serves one version."""

from __future__ import annotations

from typing import Any

import pytest

from homeostat.api.deployment import Track
from homeostat.api.kinds import MODEL_DEPLOYMENT, Deployment, Resource
from homeostat.api.meta import Meta
from homeostat.domain.desired.serving import (
    CLOSED,
    GRACE_SECONDS,
    Scale,
    ServerPod,
    autoscaler,
    bounds,
    disruption_budget,
    front_service,
    service_url,
    version_service,
    workload,
)
from homeostat.domain.desired.serving_options import TEMPLATE, not_carried
from homeostat.domain.revision import digest
from homeostat.server.cli import _parser
from homeostat.server.settings import Settings

POD = ServerPod("IfNotPresent", ("registry:5000",))
MODEL = "sha256:" + "a" * 64
ON = Scale()
TLS = {"tls": {"secretRef": {"name": "flights-tls"}}}
OLD = Track(child="v7", number=7, digest=MODEL, uri=f"oci://registry:5000/ml/flights@{MODEL}", image="server:1")
TRACK = OLD.model_copy(update={"template": TEMPLATE})


def deployment(**more: Any) -> Deployment:
    meta = Meta.read({"namespace": "ml", "name": "flights", "uid": "u1"})
    spec = {"model": {"trainingRef": {"name": "flights"}}, **more}
    return Resource("ModelDeployment", meta, MODEL_DEPLOYMENT.spec.model_validate(spec), MODEL_DEPLOYMENT.status())


def made(scale: Scale = ON, role: str = "stable", track: Track = TRACK, **more: Any) -> dict[str, Any]:
    return workload(deployment(**more), track, role, scale, POD)


def template(track: Track = TRACK, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = made(track=track, **more)["spec"]["template"]
    return found


# changed on purpose? keep the old template for tracks that were made with it, or every upgrade restarts all pods
PINNED = {
    (None, None): "sha256:605270bfbca5f3504ca943f930325673df0d7bc360768669f0d4c57017dd55f8",
    (None, 2): "sha256:3a6d94280a6ce93e7b7e90c5df8600b786917b9fb0895b6ef80d207dc679250e",
    (2, None): "sha256:9d1c3ea23725c9696d0f7b94a658cca3375534c4543819d8b696ff7164f30634",
    (2, 2): "sha256:9ef009875d202716fcc318f6f3543ecedbfb38e323435d64eff9c8dc9adddd3d",
}


@pytest.mark.parametrize(("revision", "workers"), PINNED)
def test_the_template_of_a_version_is_pinned_so_an_upgraded_operator_restarts_no_pod(
    revision: int | None, workers: int | None
) -> None:
    track = OLD.model_copy(update={"template": revision})
    server = {} if workers is None else {"server": {"workers": workers}}
    assert digest(template(track, **server)) == PINNED[revision, workers]


def test_pods_of_before_keep_their_template_whatever_their_image_cannot_do() -> None:
    wanted = {"server": {"threads": 2, "tls": {"secretRef": {"name": "t"}}}, "optimization": {"type": "Graph"}}
    assert template(OLD, **wanted) == template(OLD)
    assert not_carried(deployment(**wanted).spec, OLD) == (
        *("spec.server.threads", "spec.server.tls", "spec.optimization"),
    )
    assert not_carried(deployment(**wanted).spec, TRACK) == ()
    assert not_carried(deployment(server={"workers": 3}).spec, OLD) == ()


def test_what_the_track_pins_wins_over_the_installation() -> None:
    pinned = TRACK.model_copy(update={"pull_policy": POD.pull_policy, "plain_http": POD.plain_http})
    changed = ServerPod("Always", ())
    assert workload(deployment(), pinned, "stable", ON, changed) == made()
    assert workload(deployment(), TRACK, "stable", ON, changed) != made()


def test_the_role_stands_on_the_deployment_only() -> None:
    stable, previous = made(role="stable"), made(role="previous")
    assert stable["metadata"]["annotations"]["homeostat.dev/track"] == "stable"
    assert stable["spec"] == previous["spec"]
    assert "annotations" not in stable["spec"]["template"]["metadata"]


def test_pods_are_selected_by_model_and_version() -> None:
    wanted = {"homeostat.dev/model": "flights", "homeostat.dev/version": "v7"}
    assert made()["spec"]["selector"] == {"matchLabels": wanted}
    assert wanted.items() <= template()["metadata"]["labels"].items()
    assert version_service(deployment(), "v7", is_open=True)["spec"]["selector"] == wanted
    assert disruption_budget(deployment(), "v7")["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": wanted}}


def test_a_closed_service_selects_a_version_that_no_pod_has() -> None:
    for manifest in (version_service(deployment(), "v7", is_open=False), front_service(deployment(), "")):
        assert manifest["spec"]["selector"]["homeostat.dev/version"] == CLOSED
    assert front_service(deployment(), "v7")["metadata"]["name"] == "flights"
    assert service_url(deployment(), TRACK) == "http://flights-v7.ml.svc:8080"
    assert service_url(deployment()) == "http://flights.ml.svc:8080"


def test_services_have_both_ports_and_say_what_is_spoken_there() -> None:
    """Pods without the port are no endpoints of it: connections are refused, and REST goes on."""
    for manifest in (version_service(deployment(), "v7", is_open=True), front_service(deployment(), "v7")):
        ports = {p["name"]: (p["port"], p["targetPort"], p["appProtocol"]) for p in manifest["spec"]["ports"]}
        assert ports == {"http": (8080, "http", "http"), "grpc": (8081, "grpc", "kubernetes.io/h2c")}
    secure = front_service(deployment(server=TLS), "v7")["spec"]["ports"]
    assert [p["appProtocol"] for p in secure] == ["https", "https"]


def test_replicas_are_never_written_under_an_autoscaler() -> None:
    assert "replicas" not in made()["spec"]
    assert made(replicas=3)["spec"]["replicas"] == 3
    assert made(Scale(idle=True))["spec"]["replicas"] == 0
    assert made(Scale(idle=True), replicas=3)["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("spec", "floor", "wanted"),
    [
        ({}, 0, (1, 3)),
        ({}, 2, (2, 3)),
        ({}, 9, (3, 3)),
        ({"autoscaling": {"minReplicas": 4, "maxReplicas": 8}}, 2, (4, 8)),
        ({"replicas": 2}, 9, (2, 2)),
    ],
)
def test_a_floor_raises_the_fewest_pods_up_to_the_most(
    spec: dict[str, Any], floor: int, wanted: tuple[int, int]
) -> None:
    assert bounds(deployment(**spec), Scale(floor=floor)) == wanted


def test_a_pinned_autoscaler_takes_no_pod_away() -> None:
    free, pinned = (autoscaler(deployment(), "v7", Scale(pinned=p))["spec"] for p in (False, True))
    assert "behavior" not in free
    assert pinned["behavior"] == {"scaleDown": {"selectPolicy": "Disabled"}}
    assert free["scaleTargetRef"]["name"] == "flights-v7"
    assert free["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}


def test_the_pod_keeps_the_restricted_standard_and_has_no_token() -> None:
    pod = template()["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        secured = container["securityContext"]
        assert secured["readOnlyRootFilesystem"] is True
        assert secured["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]


def test_the_model_is_fetched_by_digest_and_its_failure_says_why() -> None:
    init = template()["spec"]["initContainers"][0]
    assert init["args"] == [
        *("fetch", "--uri", TRACK.uri, "--digest", MODEL, "--to", "/model"),
        *("--plain-http", "registry:5000"),
    ]
    assert init["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_server_takes_the_arguments_that_it_gets() -> None:
    server = template(server={"workers": 2})["spec"]["containers"][0]
    options = _parser().parse_args(server["args"][1:])
    assert (options.name, options.version, options.deployment_uid) == ("flights", "v7", "u1")
    assert (options.workers, options.digest) == (2, MODEL)
    ports = {p["name"]: p["containerPort"] for p in server["ports"]}
    assert ports == {"http": options.port, "grpc": options.grpc_port, "admin": options.admin_port}
    mounts = {m["name"]: m["mountPath"] for m in server["volumeMounts"]}
    assert options.route_file == f"{mounts['pod']}/route"
    assert options.model_dir == mounts["model"]


def test_the_route_is_read_from_the_pods_own_annotation() -> None:
    volume = next(v for v in template()["spec"]["volumes"] if v["name"] == "pod")
    field = volume["downwardAPI"]["items"][0]
    assert field == {"path": "route", "fieldRef": {"fieldPath": "metadata.annotations['homeostat.dev/route']"}}


def test_a_pod_that_cannot_serve_lives_on_to_say_why_and_gets_time_to_leave() -> None:
    server = template()["spec"]["containers"][0]
    paths = {p: server[f"{p}Probe"]["httpGet"]["path"] for p in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}
    settings = Settings("", "", "")
    assert (
        template()["spec"]["terminationGracePeriodSeconds"] == GRACE_SECONDS > settings.lame_duck + settings.drain + 5
    )


def test_every_child_belongs_to_the_deployment() -> None:
    children = (made(), front_service(deployment(), "v7"), disruption_budget(deployment(), "v7"))
    for child in (
        *children,
        autoscaler(deployment(), "v7", Scale()),
        version_service(deployment(), "v7", is_open=True),
    ):
        owner = child["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["kind"], owner["controller"]) == ("u1", "ModelDeployment", True)
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "homeostat"


def test_changed_settings_of_the_pod_change_the_template() -> None:
    changed = {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    for track in (TRACK, OLD):
        assert template(track, server=changed) != template(track)
        assert template(track, bake={"duration": "1m"}) == template(track)
