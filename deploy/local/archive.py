"""Container images made of plain files, without a build tool: an OCI layout in a tar file."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.layout import NON_ROOT

Blobs = dict[str, bytes]  # digest without algorithm: content


def single_layer(
    files: Mapping[str, tuple[Path, int]], command: Sequence[str], environment: Sequence[str] = ()
) -> tuple[str, Blobs]:
    """An image `FROM scratch` of `{path inside: (file, mode)}`. Returns the manifest's digest and all blobs; same input, same digest."""
    layer_stream = io.BytesIO()
    with tarfile.open(fileobj=layer_stream, mode="w") as layer:
        for inside, (source, mode) in sorted(files.items()):
            content = source.read_bytes()
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            layer.addfile(entry, io.BytesIO(content))
    blobs: Blobs = {}

    def add(content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    layer_descriptor = add(layer_stream.getvalue(), "application/vnd.oci.image.layer.v1.tar")
    config = add(
        _json(
            {
                "architecture": _architecture(),
                "os": "linux",
                "config": {
                    "User": f"{NON_ROOT}:{NON_ROOT}",
                    "Entrypoint": list(command[:1]),
                    "Cmd": list(command[1:]),
                    "Env": list(environment),
                },
                "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
            }
        ),
        "application/vnd.oci.image.config.v1+json",
    )
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = _json({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer_descriptor]})
    return str(add(manifest, media_type)["digest"]), blobs


def _architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write(target: Path, manifest: str, size: int, names: Sequence[str], blobs: Mapping[str, bytes | Path]) -> None:
    """Write an importable tar: an index that names one manifest (`sha256:…`, `size` bytes) `names`, and the given blobs.

    Blobs that the receiving containerd has already may be left out.
    """
    descriptor = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**descriptor, "annotations": {"io.containerd.image.name": name}} for name in names],
    }
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        for digest, content in sorted(blobs.items()):
            _add(archive, f"blobs/sha256/{digest}", content)
        _add(archive, "index.json", _json(index))


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    if isinstance(content, Path):
        archive.add(content, name)
        return
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
