"""`images`: the product's images from one Dockerfile, with layers cached, imported into the cluster under tags of their content."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import archive, base, cluster, containerd, exchange, layout, packages
from deploy.local import build as go
from deploy.local.layout import Layout
from deploy.local.progress import Problem, follow, step

TARGETS = ("operator", "server", "trainer")
OPERATOR_SIDE = {"operator", "reconcile", "cluster", "domain", "signals", "runtime"}
FOREIGN: Mapping[
    str, frozenset[str]
] = {  # folders of src/homeostat that an image never imports: a change there is no new image
    "operator": frozenset({"server", "trainer"}),
    "server": frozenset({*OPERATOR_SIDE, "trainer"}),
    "trainer": frozenset({*OPERATOR_SIDE, "server"}),
}
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
BUILD_FIX = "read the log named above; when the package index could not be reached, set pip's index settings (PIP_INDEX_URL, PIP_CERT) and run `make images` again"


@dataclass(frozen=True, slots=True)
class Image:
    """One image to be in the cluster: `tag` is made of everything that goes into it."""

    name: str
    tag: str

    @property
    def reference(self) -> str:
        return f"homeostat/{self.name}:{self.tag}"

    @property
    def names(self) -> list[str]:
        """As containerd normalises them: the content tag and `dev`."""
        return [f"docker.io/{self.reference}", f"docker.io/homeostat/{self.name}:dev"]


def wanted(of: Layout) -> list[Image]:
    """Every image as the sources are now."""
    source = of.checkout / "src" / "homeostat"
    shared = [of.checkout / "Dockerfile", of.checkout / "pyproject.toml", of.sources / "build-requirements.txt"]
    found = []
    for name in TARGETS:
        parts = [
            part for part in sorted(source.iterdir()) if part.name not in FOREIGN[name] and part.name != "__pycache__"
        ]
        requirements = of.checkout / "requirements" / f"{name}.txt"
        found.append(
            Image(
                name,
                f"dev-{layout.fingerprint(name, os.environ.get('BASE', base.SUITE), *shared, requirements, *parts)}",
            )
        )
    output = go.MODULES["registry"].output(of)
    found.append(
        Image(
            "registry", f"dev-{layout.fingerprint(output.name, of.sources / 'registry.yml', of.sources / 'archive.py')}"
        )
    )
    return found


def build_all(of: Layout, *, rebuild: bool) -> None:
    """Build and import what is not in the cluster yet, and write `.local/images.json`; raises Problem."""
    began = time.monotonic()
    packages.complete_path()
    if not layout.CONTAINERD_SOCKET.exists() or not containerd.answers():
        raise Problem("the cluster is not running, so images have nowhere to go", "run `make up` first")
    binary = go.binaries(go.MODULES["registry"], of) / "registry"
    go.link(binary, of)
    images = wanted(of)
    present = containerd.images()
    absent = [image for image in images if rebuild or not set(image.names) <= present]
    before = json.loads(of.images.read_text()) if of.images.exists() else {}
    now = {image.name: image.reference for image in images}
    if not absent and before == now:
        print(f"all images are there already ({time.monotonic() - began:.1f} s)")
        return
    packages.ensure(layout.cache() / "log")
    of.state.mkdir(parents=True, exist_ok=True)
    products = [image for image in absent if image.name != "registry"]
    if len(products) < len(absent):
        _registry(of, images[-1], binary)
    if products:
        with exchange.registry(binary):
            for image in products:
                _product(of, image)
    of.images.write_text(json.dumps(now, indent=1) + "\n")
    _forget(of, images, list(before.values()))
    print(f"images after {time.monotonic() - began:.1f} s: {' '.join(now.values())}")


def _registry(of: Layout, image: Image, binary: Path) -> None:
    with step("image registry"):
        files = {"registry": (binary, 0o755), "etc/distribution/config.yml": (of.sources / "registry.yml", 0o644)}
        manifest, blobs = archive.single_layer(
            files, ["/registry", "serve", "/etc/distribution/config.yml"], ["OTEL_TRACES_EXPORTER=none"]
        )
        _import(of, image, manifest, len(blobs[manifest.removeprefix("sha256:")]), blobs)


def _product(of: Layout, image: Image) -> None:
    start_from = base.image()
    settings = _pip_settings()
    local_name = f"localhost/homeostat/{image.name}:dev"
    with step(f"image {image.name}") as current:
        follow(
            [
                *base.buildah(),
                "bud",
                "--isolation",
                "chroot",
                "--layers",
                "--format",
                "oci",
                "--target",
                image.name,
                "-t",
                local_name,
                "--build-arg",
                f"BASE={start_from}",
                "--build-arg",
                "PIP_CONFIG_FILE=/build/pip.conf",
                "--build-arg",
                "PIP_CACHE_DIR=/build/cache",
                "-v",
                f"{settings}:/build",
                of.checkout,
            ],
            layout.cache() / "log" / f"image-{image.name}.log",
            current.say,
            fix=BUILD_FIX,
        )
        current.say("handing it to containerd")
        exchange.move(local_name, image.names)


def _pip_settings() -> Path:
    """A folder that the build sees as /build: pip's settings of this machine (index, proxy, certificates) and its cache."""
    folder = layout.cache() / "pip"
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    read = configparser.ConfigParser(interpolation=None)
    home = Path.home()
    read.read(
        [
            "/etc/pip.conf",
            home / ".pip/pip.conf",
            home / ".config/pip/pip.conf",
            os.environ.get("PIP_CONFIG_FILE", "/dev/null"),
        ]
    )
    known = dict(read["global"]) if read.has_section("global") else {}
    known |= {
        key.removeprefix("PIP_").lower().replace("_", "-"): value
        for key, value in os.environ.items()
        if key.startswith("PIP_")
    }
    lines = [f"{name} = {known[name]}" for name in PIP_SETTINGS if name in known]
    certificates = known.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if certificates and Path(certificates).is_file():
        shutil.copyfile(certificates, folder / "certificates.pem")
        lines.append("cert = /build/certificates.pem")
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return folder


def _import(of: Layout, image: Image, manifest: str, size: int, blobs: Mapping[str, bytes | Path]) -> None:
    target = of.state / f"{image.name}.tar"
    archive.write(target, manifest, size, image.names, blobs)
    containerd.load(target)
    target.unlink()


def _used(of: Layout) -> set[str]:
    """Images that pod templates name: a served version keeps its image over many builds, and there is nowhere to pull it from."""
    path = "jsonpath={range .items[*]}{..image}{' '}{end}"
    return set(cluster.kubectl(of, "get", "deployments,jobs,pods", "-A", "-o", path).split())


def _forget(of: Layout, images: Sequence[Image], before: Sequence[str]) -> None:
    """Remove images of content tags that are neither current, nor the ones before, nor named by anything in the cluster."""
    kept = {name for image in images for name in image.names} | {f"docker.io/{name}" for name in (*before, *_used(of))}
    ours = tuple(f"docker.io/homeostat/{image.name}:dev-" for image in images)
    containerd.remove(sorted(name for name in containerd.images() if name.startswith(ours) and name not in kept))
    containerd.remove(containerd.unnamed())
