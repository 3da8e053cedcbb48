"""OCI manifests as we write and read them. No times in them: the same bytes give the same digest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from homeostat.artifacts.address import is_digest
from homeostat.artifacts.transport import CHUNK
from homeostat.errors import ArtifactError

MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
TITLE: Final = "org.opencontainers.image.title"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY: Final = b"{}"
MAX_MANIFEST: Final = 4 << 20
MAX_FILES: Final = 1000
_LAYER_TYPES: Final = {
    ".onnx": "application/vnd.onnx",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
}


@dataclass(frozen=True, slots=True)
class Blob:
    """A piece of content by its digest; `title` is its file name, empty when the manifest gives none."""

    digest: str
    size: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest lists."""

    artifact_type: str
    annotations: dict[str, str]
    layers: tuple[Blob, ...]


def sha256(content: bytes) -> str:
    """The digest of bytes: `sha256:…`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob_of(path: Path, title: str) -> Blob:
    """The file as blob; reads it once."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Blob(f"sha256:{digest.hexdigest()}", size, title)


def write(layers: tuple[Blob, ...], artifact_type: str, annotations: Mapping[str, str]) -> bytes:
    """The manifest's bytes, keys sorted."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE,
        "artifactType": artifact_type,
        "config": {"mediaType": EMPTY_TYPE, "digest": sha256(EMPTY), "size": len(EMPTY)},
        "layers": [
            {
                "mediaType": _LAYER_TYPES.get(Path(layer.title).suffix, "application/octet-stream"),
                "digest": layer.digest,
                "size": layer.size,
                "annotations": {TITLE: layer.title},
            }
            for layer in layers
        ],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def read(content: bytes, where: str) -> Manifest:
    """The manifest's parts, checked. Raises ArtifactError `ManifestInvalid` or `TitleUnsafe`."""
    try:
        body = json.loads(content)
        layers = tuple(_layer(entry, where) for entry in body["layers"])
        annotations = {str(k): str(v) for k, v in (body.get("annotations") or {}).items()}
        artifact_type = str(body.get("artifactType") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            "ManifestInvalid", f"{where} is no artifact with files (an image index, or a broken manifest): {error!r}"
        ) from error
    titles = [layer.title for layer in layers]
    if len(layers) > MAX_FILES or len(set(titles)) != len(titles):
        raise ArtifactError(
            "ManifestInvalid", f"{where} lists {len(layers)} files; at most {MAX_FILES}, each name once, are taken"
        )
    return Manifest(artifact_type, annotations, layers)


def safe_title(title: str) -> bool:
    """Whether `title` names a file inside of a folder: relative, no `..`, no hidden or odd characters."""
    parts = PurePosixPath(title).parts
    plain = title.isprintable() and "\\" not in title and "//" not in title and len(title) <= 255
    return bool(parts) and plain and all(p not in {"/", "..", "."} and not p.startswith(".") for p in parts)


def _layer(entry: dict[str, Any], where: str) -> Blob:
    title = str((entry.get("annotations") or {}).get(TITLE, ""))
    if title and not safe_title(title):
        raise ArtifactError(
            "TitleUnsafe", f"{where} names a file {title[:100]!r}: only plain relative names are written"
        )
    digest, size = entry["digest"], entry["size"]
    if not isinstance(size, int) or size < 0 or not is_digest(digest):
        raise ValueError(f"layer {title!r} has digest {digest!r} and size {size!r}")
    return Blob(digest, size, title)
