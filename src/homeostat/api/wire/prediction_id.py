"""Prediction ids: what a late label needs, in the id itself. Nothing is stored, so a label may come weeks later.

Text form: URL-safe base64 without padding of

    format (1 byte) | owner (4) | length of version (1) | version | time (4) | serial (8) | score (4) | label mark (2) | cell (1) | check

owner: CRC-32 of the deployment's uid, so that ids of other deployments are told from damaged ones.
format 1: check is a CRC-32 (4 bytes): finds accidents, and anybody can make one.
format 2: check is BLAKE2b keyed with the deployment's secret, cut to 8 bytes: only who has the key can make one.
With a key only format 2 counts, without one only format 1: an id whose check nobody can make sure of is `damaged`.
"""

import binascii
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final
from zlib import crc32

PLAIN, KEYED = 1, 2
MAX_VERSION: Final = 48
MIN_KEY, MAX_KEY = 16, 64
_HEAD: Final = struct.Struct(">BIB")
_TAIL: Final = struct.Struct(">IQfHB")
_CHECK: Final = struct.Struct(">I")
_MAC_SIZE: Final = 8
_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{30,110}")
_VERSION: Final = re.compile(r"v[0-9]{1,9}(-[0-9a-f]{6})?|v[0-9a-f]{6}")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


class Refusal(StrEnum):
    """Why an id counts for nothing."""

    DAMAGED = "damaged"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class PredictionId:
    """What one prediction was.

    version: child name of the version that made it (`v7`). time: Unix seconds. serial: unique among predictions of the version.
    score: P(last label) for two classes, P(predicted label) for more, else the value. cell: its cell of the baseline.
    label_mark: `mark` of the predicted label; 0 for a regression.
    """

    version: str
    time: int
    serial: int
    score: float
    label_mark: int
    cell: int


def mark(label: str) -> int:
    """16 bits of a label's text: enough to tell whether a given label is the predicted one."""
    return crc32(label.encode()) & 0xFFFF


class Mint:
    """Makes ids of one version.

    serial_start: 64 bits, random per process, so that no two processes give the same id.
    key: `MIN_KEY` to `MAX_KEY` bytes, the deployment's secret; without one the check is a CRC.
    """

    __slots__ = ("_crc", "_mac", "_prefix", "_serial", "mint")

    def __init__(self, deployment_uid: str, version: str, serial_start: int, key: bytes = b"") -> None:
        name = version.encode()
        if not 1 <= len(name) <= MAX_VERSION:
            raise ValueError(f"version {version!r} must have 1 to {MAX_VERSION} bytes")
        self._prefix = _HEAD.pack(KEYED if key else PLAIN, crc32(deployment_uid.encode()), len(name)) + name
        self._crc = crc32(self._prefix)
        self._mac = _keyed(key, self._prefix) if key else None
        self._serial = serial_start
        self.mint = self._mint_keyed if key else self._mint_plain
        """mint(time, score, label_mark, cell): one id as ASCII text. cell: 0 … 255."""

    def _mint_plain(self, time: int, score: float, label_mark: int, cell: int) -> bytes:
        self._serial = serial = (self._serial + 1) & 0xFFFFFFFFFFFFFFFF
        tail = _TAIL.pack(time, serial, score, label_mark, cell)
        body = self._prefix + tail + _CHECK.pack(crc32(tail, self._crc))
        return binascii.b2a_base64(body, newline=False).translate(_URL_SAFE, b"=")

    def _mint_keyed(self, time: int, score: float, label_mark: int, cell: int) -> bytes:
        self._serial = serial = (self._serial + 1) & 0xFFFFFFFFFFFFFFFF
        tail = _TAIL.pack(time, serial, score, label_mark, cell)
        body = self._prefix + tail + _mac(self._mac, tail)
        return binascii.b2a_base64(body, newline=False).translate(_URL_SAFE, b"=")


def _keyed(key: bytes, start: bytes = b"") -> Any:
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise ValueError(f"a key of {len(key)} bytes; {MIN_KEY} to {MAX_KEY} are needed")
    return blake2b(start, key=key, digest_size=_MAC_SIZE)


def _mac(started: Any, rest: bytes) -> bytes:
    state = started.copy()
    state.update(rest)
    digest: bytes = state.digest()
    return digest


class Reader:
    """Reads ids of one deployment. key: as the `Mint`'s."""

    __slots__ = ("_check_size", "_format", "_mac", "_owner")

    def __init__(self, deployment_uid: str, key: bytes = b"") -> None:
        self._owner = crc32(deployment_uid.encode())
        self._format, self._check_size = (KEYED, _MAC_SIZE) if key else (PLAIN, _CHECK.size)
        self._mac = _keyed(key) if key else None

    def read(self, text: str) -> PredictionId | Refusal:
        """What the id says, or why it counts for nothing. Total: any text gives an answer."""
        body = _decoded(text)
        end = len(body) - self._check_size
        if end < _HEAD.size + 1 + _TAIL.size:
            return Refusal.DAMAGED
        kind, owner, length = _HEAD.unpack_from(body)
        if kind != self._format or end != _HEAD.size + length + _TAIL.size:
            return Refusal.DAMAGED
        foreign = owner != self._owner
        if not self._holds(body[:end], body[end:]):  # another deployment's key is not ours: its ids cannot hold
            return Refusal.FOREIGN if foreign and self._mac is not None else Refusal.DAMAGED
        if foreign:
            return Refusal.FOREIGN
        version = body[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace")
        if not _VERSION.fullmatch(version):  # it becomes a counter's name
            return Refusal.DAMAGED
        time, serial, score, label_mark, cell = _TAIL.unpack_from(body, _HEAD.size + length)
        return PredictionId(version, time, serial, score, label_mark, cell)

    def _holds(self, said: bytes, check: bytes) -> bool:
        if self._mac is None:
            return _CHECK.pack(crc32(said)) == check
        return compare_digest(_mac(self._mac, said), check)


def _decoded(text: str) -> bytes:
    """The bytes; none when the text is no base64 of ours."""
    if not _TEXT.fullmatch(text) or len(text) % 4 == 1:
        return b""
    return binascii.a2b_base64(text.encode().translate(_STANDARD) + b"==")


def read(text: str, deployment_uid: str, key: bytes = b"") -> PredictionId | Refusal:
    """What one id says; `Reader` is faster for many. Total: any text gives an answer."""
    return Reader(deployment_uid, key).read(text)
