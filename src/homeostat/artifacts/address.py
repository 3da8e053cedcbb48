"""`oci://host[:port]/repository[:tag][@sha256:…]` as its parts."""

import re
from dataclasses import dataclass
from typing import Final

from homeostat.errors import ArtifactError

SCHEME: Final = "oci://"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an artifact is. `tag` and `digest` are empty when the address has none."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def reference(self) -> str:
        """What selects the manifest: the digest when there is one, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.host}/{self.repository}{tag}{digest}"


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None


def parse(uri: str) -> Address:
    """The address's parts. Raises ArtifactError `AddressInvalid` with the part that is wrong."""
    if not uri.startswith(SCHEME):
        raise _invalid(uri, "it has to begin with oci://")
    host, slash, rest = uri.removeprefix(SCHEME).partition("/")
    if not slash or not _HOST.fullmatch(host):
        raise _invalid(uri, "after oci:// come host[:port], a slash and the repository")
    name, at, digest = rest.partition("@")
    if at and not is_digest(digest):
        raise _invalid(uri, "after @ comes sha256: and 64 hex digits")
    repository, colon, tag = name.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(uri, "a repository is lower-case words with . _ - between them, separated by /")
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(uri, "a tag is 1 to 128 letters, digits, . _ -")
    return Address(host, repository, tag, digest)


def _invalid(uri: str, because: str) -> ArtifactError:
    return ArtifactError("AddressInvalid", f"{uri[:200]!r} is no artifact address: {because} (oci://host/name:tag)")
