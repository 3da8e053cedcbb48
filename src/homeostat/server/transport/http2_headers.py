"""HPACK's blocks of one connection: decoded by the library, remembered, or read by ourselves where that is quicker."""

from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from homeostat.server.transport.http2_frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Broken, Head, Pair, read_head

_TABLE: Final = 4096  # bytes of HPACK's dynamic table
_STATIC: Final = 61  # entries of the static one
_CACHED_BLOCKS: Final = 64
_CACHED_BYTES: Final = 2048  # of a block that is remembered


class _Table(HeaderTable):
    """HPACK's dynamic table, which says when it changed."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Bytes that the entries may take."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, value: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.__set__(self, value)  # type: ignore[attr-defined]


class Headers:
    """Header blocks of one connection.

    A block that neither changed the dynamic table nor came after such a change means what it meant the last time.
    """

    def __init__(self, header_bytes: int) -> None:
        # a list that is somewhat too long is one request's error, one that is much too long the connection's
        self._decoder = Decoder(max_header_list_size=2 * header_bytes)
        self._decoder.max_allowed_table_size = _TABLE
        self._table = self._decoder.header_table = _Table()
        self._heads: dict[bytes, Head] = {}
        self._changes = 0

    def request(self, block: bytes) -> Head:
        """The block of a request. Raises Broken."""
        if self._table.changes == self._changes:
            found = self._heads.get(block)
            if found is not None:
                return found
        else:
            self._heads.clear()
            self._changes = self._table.changes
        head = read_head(self.decode(block))
        if self._table.changes == self._changes and len(block) <= _CACHED_BYTES:
            if len(self._heads) >= _CACHED_BLOCKS:
                self._heads.clear()
            self._heads[block] = head
        return head

    def decode(self, block: bytes) -> list[Pair]:
        """Names and values. Raises Broken: after an error the table is not the client's any more."""
        try:
            pairs = self._plain(block)
            return [(bytes(n), bytes(v)) for n, v in self._decoder.decode(block, raw=True)] if pairs is None else pairs
        except OversizedHeaderListError:
            raise Broken(ENHANCE_YOUR_CALM, "the header list is far too large") from None
        except (HPACKError, ValueError, IndexError) as error:
            raise Broken(COMPRESSION_ERROR, f"malformed header block: {error}") from None

    def _plain(self, block: bytes) -> list[Pair] | None:
        """What the library makes of a block of small numbers only, several times as fast; None for any other.

        It matters for clients that send something new with every request, such as a trace's id. Raises HPACKError.
        """
        pairs: list[Pair] = []
        added: list[Pair] = []
        at, end, table = 0, len(block), self._table
        while at < end:
            byte = block[at]
            at += 1
            if byte & 0x80:
                if byte in {0x80, 0xFF} or (added and byte > 0x80 + _STATIC):  # ours have not moved the table yet
                    return None
                pairs.append(table.get_by_index(byte & 0x7F))
                continue
            index, most = (byte & 0x3F, 0x3F) if byte & 0x40 else (byte & 0x0F, 0x0F)
            if byte & 0x60 == 0x20 or index == most or (added and index > _STATIC):
                return None
            name: bytes | None = table.get_by_index(index)[0] if index else None
            if name is None:
                name, at = _string(block, at)
            value, at = _string(block, at) if name is not None else (None, at)
            if name is None or value is None:
                return None
            pairs.append((name, value))
            if byte & 0x40:
                added.append((name, value))
        if sum(len(n) + len(v) + 32 for n, v in pairs) > self._decoder.max_header_list_size:
            raise OversizedHeaderListError
        for pair in added:
            table.add(*pair)
        return pairs


def _string(block: bytes, at: int) -> tuple[bytes | None, int]:
    """A string of fewer than 127 bytes and where it ends; None when it is longer or not all there."""
    size = block[at] if at < len(block) else 127
    end = at + 1 + (size & 127)
    if size & 127 == 127 or end > len(block):
        return None, at
    text = block[at + 1 : end]
    return (decode_huffman(text) if size & 128 else text), end
