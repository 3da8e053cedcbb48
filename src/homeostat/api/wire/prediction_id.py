"""Prediction ids: what a late label needs, in the id itself. Nothing is stored, so a label may come weeks later.

Text form: URL-safe base64 without padding of

    format (1 byte, =1) | owner (4) | length of version (1) | version | time (4) | serial (8) | score (4) | label mark (2) | cell (1) | CRC-32 (4)

owner: CRC-32 of the deployment's uid, so that ids of other deployments are told from damaged ones.
"""

import binascii
import re
import struct
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from zlib import crc32

FORMAT: Final = 1
MAX_VERSION: Final = 48
_HEAD: Final = struct.Struct(">BIB")
_TAIL: Final = struct.Struct(">IQfHB")
_CHECK: Final = struct.Struct(">I")
_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{30,100}")
_VERSION: Final = re.compile(r"v[0-9]{1,9}(-[0-9a-f]{6})?|v[0-9a-f]{6}")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


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
    """Makes ids of one version. serial_start: 64 bits, random per process, so that no two processes give the same id."""

    __slots__ = ("_crc", "_prefix", "_serial")

    def __init__(self, deployment_uid: str, version: str, serial_start: int) -> None:
        name = version.encode()
        if not 1 <= len(name) <= MAX_VERSION:
            raise ValueError(f"version {version!r} must have 1 to {MAX_VERSION} bytes")
        self._prefix = _HEAD.pack(FORMAT, crc32(deployment_uid.encode()), len(name)) + name
        self._crc = crc32(self._prefix)
        self._serial = serial_start

    def mint(self, time: int, score: float, label_mark: int, cell: int) -> bytes:
        """One id as ASCII text."""
        self._serial = serial = (self._serial + 1) & 0xFFFFFFFFFFFFFFFF
        tail = _TAIL.pack(time, serial, score, label_mark, cell)
        body = self._prefix + tail + _CHECK.pack(crc32(tail, self._crc))
        return binascii.b2a_base64(body, newline=False).translate(_URL_SAFE, b"=")


def read(text: str, deployment_uid: str) -> PredictionId | Refusal:
    """What the id says, or why it counts for nothing. Total: any text gives an answer."""
    if not _TEXT.fullmatch(text) or len(text) % 4 == 1:
        return Refusal.DAMAGED
    body = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(body) < _HEAD.size + 1 + _TAIL.size + _CHECK.size:
        return Refusal.DAMAGED
    kind, owner, length = _HEAD.unpack_from(body)
    (check,) = _CHECK.unpack_from(body, len(body) - _CHECK.size)
    whole = len(body) == _HEAD.size + length + _TAIL.size + _CHECK.size
    if kind != FORMAT or not whole or crc32(body[: -_CHECK.size]) != check:
        return Refusal.DAMAGED
    if owner != crc32(deployment_uid.encode()):
        return Refusal.FOREIGN
    version = body[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace")
    if not _VERSION.fullmatch(version):  # it becomes a counter's name
        return Refusal.DAMAGED
    time, serial, score, label_mark, cell = _TAIL.unpack_from(body, _HEAD.size + length)
    return PredictionId(version, time, serial, score, label_mark, cell)
