"""The container that makes a version's model cheaper."""

from __future__ import annotations

from typing import Any

from homeostat.api.deployment import Track
from homeostat.api.kinds import MODEL_DEPLOYMENT, Resource
from homeostat.api.meta import Meta
from homeostat.domain.desired.serving import Scale, ServerPod, workload
from homeostat.domain.desired.serving_options import TEMPLATE, not_carried
from homeostat.server.optimizing.optimize import _parser

MODEL = "sha256:" + "a" * 64
URI = f"oci://registry:5000/ml/flights@{MODEL}"
TRACK = Track(child="v7", number=7, digest=MODEL, uri=URI, image="server:1", template=TEMPLATE)
WANTED = {"type": "Int8Dynamic", "tolerance": 0.05}


def inits(track: Track = TRACK, **more: Any) -> list[dict[str, Any]]:
    meta = Meta.read({"namespace": "ml", "name": "flights", "uid": "u1"})
    spec = MODEL_DEPLOYMENT.spec.model_validate({"model": {"trainingRef": {"name": "flights"}}, **more})
    deployment = Resource("ModelDeployment", meta, spec, MODEL_DEPLOYMENT.status())
    pod = workload(deployment, track, "stable", Scale(), ServerPod("IfNotPresent", ("registry:5000",)))
    found: list[dict[str, Any]] = pod["spec"]["template"]["spec"]["initContainers"]
    return found


def test_a_model_is_made_cheaper_after_its_fetch_and_only_where_that_is_asked_for() -> None:
    assert [one["name"] for one in inits()] == ["fetch"]
    fetch, optimize = inits(optimization=WANTED)
    assert [fetch] == inits()
    assert (optimize["name"], optimize["image"]) == ("optimize", fetch["image"])
    options = _parser().parse_args(optimize["args"][1:])
    assert (options.type, options.tolerance, options.required) == ("Int8Dynamic", 0.05, False)
    assert (options.share_at, options.plain_http) == (URI, ["registry:5000"])
    assert str(options.model_dir) == optimize["volumeMounts"][0]["mountPath"]


def test_a_pod_that_shares_nothing_talks_to_no_registry_while_it_optimises() -> None:
    asked = inits(optimization={"type": "Graph", "share": False, "required": True})
    assert asked[1]["args"] == [
        *("optimize", "--model-dir", "/model", "--type", "Graph", "--tolerance", "0.01", "--required"),
    ]


def test_it_keeps_the_servers_bound_on_a_models_size() -> None:
    _, optimize = inits(optimization=WANTED, server={"limits": {"maxModel": "4Gi"}})
    assert _parser().parse_args(optimize["args"][1:]).max_model_bytes == 4 << 30


def test_pods_of_before_do_not_get_it_and_that_is_said() -> None:
    old = TRACK.model_copy(update={"template": None})
    assert [one["name"] for one in inits(old, optimization=WANTED)] == ["fetch"]
    spec = MODEL_DEPLOYMENT.spec.model_validate({"model": {"trainingRef": {"name": "f"}}, "optimization": WANTED})
    assert not_carried(spec, old) == ("spec.optimization",)
    assert not_carried(spec, TRACK) == ()
