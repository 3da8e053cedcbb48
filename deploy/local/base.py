"""The base image of a machine without a registry: Debian with Python, made by debootstrap and kept in buildah's storage."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.local import layout
from deploy.local.progress import Problem, call, follow, step

SUITE = "bookworm"  # Python 3.11, what the locked requirements are made for
PACKAGES = "python3,python3-venv"
NEEDLESS = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)
FIX = "see that the Debian package index can be reached (`apt-get update`), or name a base image of your own: make images BASE=IMAGE"


def buildah() -> list[str]:
    """The buildah command with a storage of its own, outside of the checkout, so that layers outlive it."""
    return [
        "buildah",
        "--root",
        str(layout.cache() / "buildah"),
        "--runroot",
        str(layout.BUILD),
        "--storage-driver",
        "overlay",
    ]


def image() -> str:
    """Name of the base image, made now when it is not there; $BASE names another one."""
    if given := os.environ.get("BASE"):
        return given
    name = f"localhost/homeostat/base:{SUITE}-{layout.fingerprint(PACKAGES, *NEEDLESS, platform.machine())}"
    if subprocess.run([*buildah(), "inspect", "--type", "image", name], capture_output=True, check=False).returncode:
        with step(f"base image: Debian {SUITE} with Python, by debootstrap") as current:
            _make(name, current.say)
    return name


def mirror() -> str:
    """The package index that this machine uses for the base's Debian release."""
    try:
        lines = call(
            ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Identifier: Packages"], fix=FIX
        ).splitlines()
    except Problem:
        lines = []
    for line in lines:
        codename, address = line.split(" ", 1)
        if codename == SUITE:
            return address
    raise Problem(
        f"this machine has no package index of Debian {SUITE}",
        "name a base image with Python 3.11 and venv: make images BASE=IMAGE",
    )


def _make(name: str, said: object) -> None:
    assert callable(said)
    layout.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=layout.cache()) as folder:
        root, context = Path(folder, "root"), Path(folder, "context")
        context.mkdir()
        follow(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, mirror()],
            layout.cache() / "log" / "debootstrap.log",
            said,
            fix=FIX,
        )
        for part in NEEDLESS:
            for entry in (root / part).glob("*"):
                shutil.rmtree(
                    entry, ignore_errors=True
                ) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        said("packing")
        call(
            [
                "tar",
                "-C",
                root,
                "--one-file-system",
                "--exclude=./proc/*",
                "--exclude=./sys/*",
                "--exclude=./dev/*",
                "-cf",
                context / "base.tar",
                ".",
            ],
            fix=FIX,
        )
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        call(
            [*buildah(), "bud", "--isolation", "chroot", "-q", "-t", name, context],
            fix="free some disk space, then run `make images` again",
        )
