"""Programs that come from the distribution's packages: found, else installed with apt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.local.progress import Problem, follow, step

CLUSTER: Mapping[str, str] = {  # program: Debian package
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "mount": "mount",
}
IMAGES: Mapping[str, str] = {"buildah": "buildah", "debootstrap": "debootstrap"}
PLUGINS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def complete_path() -> None:
    """Add the system folders to $PATH: a shell that became root by `su` lacks them."""
    known = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join([*known, *(folder for folder in SYSTEM_PATHS if folder not in known)])


def plugins() -> Path | None:
    """The folder that holds the CNI plugins `bridge` and `host-local`, or None."""
    return next((Path(folder) for folder in PLUGINS if Path(folder, "bridge").exists()), None)


def missing(wanted: Mapping[str, str]) -> list[str]:
    """Debian packages to install so that all of `wanted` is there, sorted."""
    absent = {package for program, package in wanted.items() if shutil.which(program) is None}
    if wanted is CLUSTER and plugins() is None:
        absent.add("containernetworking-plugins")
    return sorted(absent)


def install_command(names: list[str]) -> str:
    """What a person types to install these packages."""
    return f"apt-get update && apt-get install -y --no-install-recommends {' '.join(names)}"


def ensure(log: Path) -> None:
    """Install what is missing for the cluster and for images; raises Problem with the exact command when it cannot."""
    complete_path()
    absent = sorted({*missing(CLUSTER), *missing(IMAGES)})
    if not absent:
        return
    command = install_command(absent)
    if shutil.which("apt-get") is None:
        raise Problem(
            f"missing: {', '.join(absent)}, and this system has no apt-get",
            "install the packages of these names (Debian's) with the system's own package tool, then run this again",
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    fix = f"see that the package index can be reached, then run: {command}"
    with step(f"Debian packages {' '.join(absent)}") as current:
        follow(
            ["apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any"],
            log / "apt-update.log",
            current.say,
            fix=fix,
            env=environment,
        )
        follow(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *absent],
            log / "apt-install.log",
            current.say,
            fix=fix,
            env=environment,
        )
    if still := sorted({*missing(CLUSTER), *missing(IMAGES)}):
        raise Problem(
            f"apt-get installed, but the programs of {', '.join(still)} are not in $PATH",
            f"run: {install_command(still)}",
        )
