"""What the flags about payloads say, checked. No numpy here: the supervisor reads them too."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from homeostat.artifacts import address
from homeostat.errors import ArtifactError
from homeostat.server.settings import Settings

REASON: Final = "PayloadSettings"
MIN_SALT, MAX_SALT = 16, 64  # bytes of a BLAKE2b key
_DEFAULTS: Final = {"file": (10_000, 300.0), "oci": (10_000, 300.0), "http": (100, 1.0)}  # rows, seconds


@dataclass(frozen=True, slots=True)
class Options:
    """Where payloads go, and in what portions.

    place: a folder, `oci://host/repository`, or a URL. rows: of one file or request. seconds: a file or request waits so
    long for them. salt: key of the hashes, empty when nothing is hashed.
    """

    kind: Literal["file", "oci", "http"]
    place: str
    rows: int
    seconds: float
    drop: frozenset[str]
    hash: frozenset[str]
    salt: bytes


def options(settings: Settings) -> Options:
    """Raises ArtifactError `PayloadSettings` that names the flag and the fix."""
    kind, place = _place(settings.payload_to)
    drop, hashed = frozenset(settings.payload_drop), frozenset(settings.payload_hash)
    if both := sorted(drop & hashed):
        raise refused(f"column {both[0]!r} is in --payload-drop and in --payload-hash: name it once")
    salt = _salt(settings.payload_salt_file) if hashed else b""
    if kind != "http" and find_spec("pyarrow") is None:
        raise refused(
            f"--payload-to {settings.payload_to}: parquet files need pyarrow: install homeostat[payloads], or send "
            "events to an http:// or https:// address"
        )
    rows, seconds = _DEFAULTS[kind]
    return Options(kind, place, settings.payload_rows or rows, settings.payload_seconds or seconds, drop, hashed, salt)


def refused(because: str) -> ArtifactError:
    """What a pod says that it is not ready for."""
    return ArtifactError(REASON, because)


def check_columns(wanted: Options, names: list[str]) -> None:
    """Each column to drop or to hash is an input of the model. Raises ArtifactError `PayloadSettings`."""
    for flag, columns in (("--payload-drop", wanted.drop), ("--payload-hash", wanted.hash)):
        if unknown := sorted(columns - set(names)):
            some = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
            raise refused(f"{flag} {unknown[0]}: the model has no such input; it has {some}")


def _place(to: str) -> tuple[Literal["file", "oci", "http"], str]:
    wanted = "file:///folder, oci://host/repository, http://… or https://…"
    scheme, _, rest = to.partition("://")
    if scheme == "file":
        found = urlsplit(to)
        if found.netloc or len(found.path) < 2 or found.query or found.fragment:
            raise refused(f"--payload-to {to}: a folder is written file:///folder, with three slashes")
        return "file", unquote(found.path)
    if scheme == "oci":
        return "oci", _repository(to)
    if scheme in {"http", "https"} and urlsplit(to).hostname:
        return "http", to
    raise refused(f"--payload-to {to}: expected {wanted}" if rest else f"--payload-to {to!r} is no address: {wanted}")


def _repository(to: str) -> str:
    try:
        found = address.parse(to)
    except ArtifactError as error:
        raise refused(f"--payload-to: {error.because}") from error
    if found.tag or found.digest:
        raise refused(f"--payload-to {to}: leave tag and digest out; each file gets a tag of its own")
    return str(found)


def _salt(file: str) -> bytes:
    if not file:
        raise refused(f"--payload-hash needs --payload-salt-file: {MIN_SALT} to {MAX_SALT} secret bytes")
    try:
        salt = Path(file).read_bytes().strip()
    except OSError as error:
        raise refused(f"--payload-salt-file {file} cannot be read: {error.strerror or error}") from error
    if not MIN_SALT <= len(salt) <= MAX_SALT:
        raise refused(f"--payload-salt-file {file} has {len(salt)} bytes; {MIN_SALT} to {MAX_SALT} are needed")
    return salt
