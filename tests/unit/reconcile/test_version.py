"""A version: accepted, and who uses it."""

import asyncio

from homeostat.api.meta import Key
from homeostat.reconcile.version import reconcile
from unit.reconcile.memory import World, meta_of, resource

DIGEST = "sha256:" + "a" * 64
SPEC = {"number": 1, "artifact": {"uri": "oci://r/x", "digest": DIGEST, "format": "ONNX"}}


def test_a_version_is_accepted_and_shows_who_uses_it() -> None:
    world = World()
    world.versions.put(resource("ModelVersion", meta_of("ml", "flights-1"), SPEC))
    track = {"versionName": "flights-1", "child": "v1", "digest": DIGEST, "uri": "oci://r/x", "image": "server:1"}
    follows = {"model": {"trainingRef": {"name": "flights"}}}
    world.deployments.put(resource("ModelDeployment", meta_of("ml", "flights"), follows, {"stable": track}))
    world.deployments.put(resource("ModelDeployment", meta_of("elsewhere", "flights"), follows, {"stable": track}))
    asyncio.run(reconcile(Key("ModelVersion", "ml", "flights-1"), world))
    status = world.versions.get("ml", "flights-1").status
    assert status.deployments == ("flights (stable)",)
    ready = next(c for c in status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason, ready.message) == ("True", "Accepted", "used by flights (stable)")


def test_a_version_looked_at_again_is_not_written_again() -> None:
    world = World()
    world.versions.put(resource("ModelVersion", meta_of("ml", "flights-1"), SPEC))
    for _ in range(2):
        asyncio.run(reconcile(Key("ModelVersion", "ml", "flights-1"), world))
    assert world.writer.count("status ModelVersion") == 1
