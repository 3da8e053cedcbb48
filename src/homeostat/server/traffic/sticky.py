"""Which side a key is on, and its lane: two independent parts of one salted hash."""

from hashlib import blake2b
from typing import Final

from homeostat.api.wire.route import LANES

_BITS: Final = 48
_SPACE: Final = 1 << _BITS


class Keys:
    """Splits keys by the share of the new version.

    share: percent of the keys that belong to the new version; one more percent only adds keys. salt: any text.
    """

    def __init__(self, share: int, salt: str) -> None:
        self._limit = share * _SPACE // 100
        self._hash = blake2b(key=blake2b(salt.encode(), digest_size=32).digest(), digest_size=8)

    def place(self, key: bytes) -> tuple[bool, int]:
        """Whether the key belongs to the new version, and its lane in 0 … 7."""
        found = self._hash.copy()
        found.update(key)
        number = int.from_bytes(found.digest(), "little")
        return number & (_SPACE - 1) < self._limit, (number >> _BITS) % LANES


def cookie(header: bytes, name: bytes) -> bytes:
    """Value of one cookie in a `Cookie` header; empty when it is not there."""
    for pair in header.split(b";"):
        found, sign, value = pair.strip().partition(b"=")
        if sign and found == name:
            return value
    return b""
