"""What `python3 deploy/local COMMAND` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploy.local import checks, cluster, images, record, status
from deploy.local.layout import Layout


def up(checkout: Path, *, rebuild: bool = False) -> int:
    """Bring the cluster up."""
    del rebuild
    checks.own_cluster("up")
    checks.root("up")
    with record.alone():
        cluster.up(Layout(checkout))
    return 0


def down(checkout: Path, *, rebuild: bool = False) -> int:
    """Take the cluster down."""
    del rebuild
    checks.own_cluster("down")
    checks.root("down")
    with record.alone():
        cluster.down(Layout(checkout))
    return 0


def show(checkout: Path, *, rebuild: bool = False) -> int:
    """Show components, node and pods; 3 when the cluster is not healthy."""
    del rebuild
    return status.show(Layout(checkout))


def build_images(checkout: Path, *, rebuild: bool = False) -> int:
    """Build the product's images and bring them into the cluster."""
    checks.root("images")
    with record.alone():
        images.build_all(Layout(checkout), rebuild=rebuild)
    return 0


COMMANDS: dict[str, Callable[..., int]] = {"up": up, "down": down, "status": show, "images": build_images}
