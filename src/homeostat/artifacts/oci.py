"""Push files to an OCI registry and pull them back; each byte is checked against its digest on the way."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlencode, urljoin

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from homeostat.artifacts import manifest as manifests
from homeostat.artifacts.address import Address, parse
from homeostat.artifacts.manifest import Blob, Manifest
from homeostat.artifacts.transport import CHUNK, Transport, unreachable
from homeostat.errors import ArtifactError

MAX_BYTES: Final = 16 << 30
_ACCEPT: Final = f"{manifests.MEDIA_TYPE}, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class Pulled:
    """An artifact on disk: the manifest's digest, and its files by name."""

    digest: str
    files: dict[str, Path]
    artifact_type: str = ""


class Client:
    """An OCI registry's artifacts.

    plain_http: hosts (`host:port`) without TLS; loopback never needs to be named.
    max_bytes: bound on the sum of the sizes of one pulled artifact.
    All methods raise ArtifactError: `AddressInvalid`, `ArtifactNotFound`, `RegistryUnreachable` (not permanent),
    `RegistryDenied`, `RegistryRefused`, `ManifestInvalid`, `TitleUnsafe`, `TooLarge`, `DigestMismatch`, `WriteFailed`.
    """

    def __init__(self, plain_http: tuple[str, ...] = (), *, max_bytes: int = MAX_BYTES) -> None:
        self._http = Transport(plain_http)
        self._max_bytes = max_bytes

    def resolve(self, uri: str) -> str:
        """The digest that `uri` names now."""
        return self._manifest(parse(uri))[0]

    def pull(self, uri: str, to: Path, *, untitled: str = "artifact") -> Pulled:
        """Write the artifact's files below `to` (made when missing).

        A file appears under its name only after its digest held. untitled: name for a single layer without one.
        """
        address = parse(uri)
        digest, content = self._manifest(address)
        layers = _named(content, untitled, uri)
        size = sum(layer.size for layer in layers)
        if size > self._max_bytes:
            raise ArtifactError("TooLarge", f"{uri} has {size} bytes; at most {self._max_bytes} are pulled")
        try:
            files = {layer.title: self._download(address, layer, to) for layer in layers}
        except OSError as error:
            raise ArtifactError(
                "WriteFailed", f"cannot write {uri} to {to}: {error.strerror or error}", permanent=False
            ) from error
        return Pulled(digest, files, content.artifact_type)

    def push(
        self,
        files: Mapping[str, Path],
        uri: str,
        artifact_type: str,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """Upload `files` (name to path) and return the manifest's digest; a tag in `uri` then points to it."""
        address = parse(uri)
        layers = []
        for title, path in files.items():
            if not manifests.safe_title(title):
                raise ArtifactError("TitleUnsafe", f"{title[:100]!r} cannot be a file's name in an artifact")
            try:
                layers.append(manifests.blob_of(path, title))
            except OSError as error:
                raise ArtifactError("FileUnreadable", f"cannot read {path}: {error.strerror or error}") from error
        for layer in layers:
            with files[layer.title].open("rb") as body:
                self._upload(address, layer, body)
        self._upload(address, Blob(manifests.sha256(manifests.EMPTY), len(manifests.EMPTY)), BytesIO(manifests.EMPTY))
        content = manifests.write(tuple(layers), artifact_type, annotations or {})
        digest = manifests.sha256(content)
        for reference in dict.fromkeys((digest, address.tag or digest)):
            url = f"{self._http.base(address)}/manifests/{reference}"
            self._expect(self._http.send("PUT", url, address, headers=_json_type(), body=content), address, 201)
        return digest

    def _manifest(self, address: Address) -> tuple[str, Manifest]:
        """The manifest and its digest, the digest of an address that has one checked."""
        url = f"{self._http.base(address)}/manifests/{address.reference}"
        answer = self._http.send("GET", url, address, headers={"Accept": _ACCEPT})
        if answer.status == 404:
            raise ArtifactError(
                "ArtifactNotFound", f"{address} does not exist: push it first (homeostat push FILE {address})"
            )
        content = b"".join(_chunks(answer, address, manifests.MAX_MANIFEST))
        digest = manifests.sha256(content)
        if address.digest and digest != address.digest:
            raise ArtifactError(
                "DigestMismatch", f"{address} came with digest {digest}: the registry's copy is damaged"
            )
        return digest, manifests.read(content, str(address))

    def _download(self, address: Address, layer: Blob, to: Path) -> Path:
        target = to / layer.title
        target.parent.mkdir(parents=True, exist_ok=True)
        answer = self._http.send("GET", f"{self._http.base(address)}/blobs/{layer.digest}", address)
        if answer.status == 404:
            raise ArtifactError(
                "ArtifactNotFound", f"{address} lists {layer.title}, but the registry lost {layer.digest}"
            )
        part = target.with_name(f".{target.name}.part")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for chunk in _chunks(answer, address, layer.size):
                    digest.update(chunk)
                    file.write(chunk)
            found = f"sha256:{digest.hexdigest()}"
            if found != layer.digest:
                raise ArtifactError(
                    "DigestMismatch", f"{layer.title} of {address} has digest {found}, the manifest says {layer.digest}"
                )
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def _upload(self, address: Address, blob: Blob, body: IO[bytes]) -> None:
        base = self._http.base(address)
        head = self._http.send("HEAD", f"{base}/blobs/{blob.digest}", address)
        if head.status == 200:
            return
        begun = self._expect(self._http.send("POST", f"{base}/blobs/uploads/", address, body=b""), address, 202)
        place = urljoin(f"{base}/blobs/uploads/", begun.headers.get("Location", ""))
        url = f"{place}{'&' if '?' in place else '?'}{urlencode({'digest': blob.digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        self._expect(self._http.send("PUT", url, address, headers=headers, body=body), address, 201)

    @staticmethod
    def _expect(answer: BaseHTTPResponse, address: Address, status: int) -> BaseHTTPResponse:
        if answer.status != status:
            raise ArtifactError(
                "RegistryRefused",
                f"registry {address.host} answered {answer.status} instead of {status} while {address.repository} was pushed",
            )
        return answer


def _named(content: Manifest, untitled: str, uri: str) -> tuple[Blob, ...]:
    if len(content.layers) == 1 and not content.layers[0].title:
        only = content.layers[0]
        return (Blob(only.digest, only.size, untitled),)
    if not content.layers or any(not layer.title for layer in content.layers):
        raise ArtifactError("ManifestInvalid", f"{uri} has files without a name: push it with `homeostat push` or oras")
    return content.layers


def _chunks(answer: BaseHTTPResponse, address: Address, most: int) -> Iterator[bytes]:
    """The body in pieces; more than `most` bytes raise, so that a lying registry fills no disk."""
    left = most
    try:
        for chunk in answer.stream(CHUNK, decode_content=False):
            left -= len(chunk)
            if left < 0:
                raise ArtifactError(
                    "TooLarge", f"{address.host} sends more than the {most} bytes allowed for {address}"
                )
            yield chunk
    except HTTPError as error:
        raise unreachable(address, error) from error
    finally:
        answer.release_conn()


def _json_type() -> dict[str, str]:
    return {"Content-Type": manifests.MEDIA_TYPE}
