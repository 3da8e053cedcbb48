"""The prediction cache: rows that were predicted a moment ago are answered from memory, bit by bit as they were then.

It stands around the model, so everything behind it (ids, statistics, metrics, payloads) sees each row as before. A worker
has one model and a cache of its own, so no answer of one version is ever given for another.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from homeostat.server.inference.model import Model, Outputs
from homeostat.server.inference.rows import Table, TableReader
from homeostat.server.inference.tensors import TensorReader, Tensors
from homeostat.server.inference.work import Rows

ENTRY_BYTES: Final = 480  # what Python takes for an entry beside the bytes in it: measured about 420
_LONG: Final = 256  # bytes of a row; of a longer one the key holds the BLAKE2b digest
_DIGEST: Final = 32

Key = Any
Kind = tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]  # type and shape of a row's outputs
Pieces = tuple[Any, ...]  # per output: the row's bytes, or its objects
Entry = tuple[float, int, Kind, Pieces]  # expires, size


class Cached:
    """A `Model` that remembers at most `rows` rows and about `size` bytes, the least recently asked ones forgotten first.

    seconds: how long an answer may be given again. count: hears hits and misses in rows, once per call that went well.
    A model whose answers depend on the batch is asked again for anything but exactly the same request.
    """

    def __init__(
        self,
        model: Model,
        count: Callable[[int, int], None],
        *,
        rows: int,
        seconds: float,
        size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.graph, self.signature, self.batched = model.graph, model.signature, model.batched
        self.row_seconds = model.row_seconds
        self._model, self._count, self._clock = model, count, clock
        self._rows, self._seconds, self._most = rows, seconds, size
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._kind: Kind = ()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def reader(self) -> TableReader | TensorReader:
        """See Model."""
        return self._model.reader()

    def join(self, parts: Sequence[Any]) -> Any:
        """See Model."""
        return self._model.join(parts)

    def example(self, count: int) -> Rows:
        """See Model."""
        return self._model.example(count)

    def run(self, joined: Any, options: Any) -> Outputs:
        """See Model: what is not remembered runs in one call, each row once."""
        if not self.batched:
            return self._run_whole(joined, options)
        keys, now = keys_of(joined), self._clock()
        found = [self._look_up(key, now) for key in keys]
        missing = {key: place for place, key in enumerate(keys) if found[place] is None}
        if len(missing) == len(keys):  # nothing is known, and no row comes twice
            return self._run_all(joined, keys, options)
        if missing:
            outputs = self._model.run(picked(joined, list(missing.values())), options)
            learned = dict(zip(missing, self._learn(missing, outputs), strict=True))
            found = [entry or learned[key] for key, entry in zip(keys, found, strict=True)]
        entries = cast("list[Entry]", found)
        kind = entries[0][2]
        if any(entry[2] != kind for entry in entries):  # outputs of other shapes do not stand in one array
            return self._run_all(joined, keys, options)
        self._count(len(keys) - len(missing), len(missing))
        return [_together(place, kind, entries) for place in range(len(kind))]

    def _run_all(self, joined: Any, keys: Sequence[Key], options: Any) -> Outputs:
        outputs = self._model.run(joined, options)
        self._learn(keys, outputs)
        self._count(0, len(keys))
        return outputs

    def _run_whole(self, joined: Any, options: Any) -> Outputs:
        """A request as one entry: its outputs are arrays as the model gave them."""
        key = (joined.count, _shapes(joined), *keys_of(joined))
        entry = self._look_up(key, self._clock())
        if entry is not None:
            self._count(joined.count, 0)
            return list(entry[3])
        outputs = self._model.run(joined, options)
        size = ENTRY_BYTES + _size(key) + sum(map(_size, outputs))
        self._remember(key, (self._clock() + self._seconds, size, (), tuple(outputs)))
        self._count(0, joined.count)
        return outputs

    def _look_up(self, key: Key, now: float) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] < now:
            del self._entries[key]
            self.size -= entry[1]
            return None
        self._entries.move_to_end(key)
        return entry

    def _learn(self, keys: Sequence[Key] | dict[Key, int], outputs: Outputs) -> list[Entry]:
        """Remember one entry for each row of the outputs."""
        kind: Kind = tuple((one.dtype, one.shape[1:]) for one in outputs)
        kind = self._kind = self._kind if kind == self._kind else kind  # one object for all entries
        until, count = self._clock() + self._seconds, len(keys)
        same = ENTRY_BYTES + sum(one.nbytes for one in outputs if one.dtype.kind != "O") // count
        texts = [place for place, one in enumerate(outputs) if one.dtype.kind == "O"]
        found = []
        for key, pieces in zip(keys, zip(*[_pieces(one, count) for one in outputs], strict=True), strict=True):
            size = same + (len(key) if type(key) is bytes else _size(key))
            for place in texts:
                size += _size(pieces[place])
            entry = (until, size, kind, pieces)
            self._remember(key, entry)
            found.append(entry)
        return found

    def _remember(self, key: Key, entry: Entry) -> None:
        if entry[1] > self._most:
            return
        old = self._entries.pop(key, None)
        self._entries[key] = entry
        self.size += entry[1] - (old[1] if old else 0)
        while len(self._entries) > self._rows or self.size > self._most:
            self.size -= self._entries.popitem(last=False)[1][1]


def keys_of(rows: Table | Tensors) -> list[Key]:
    """One key per row: equal exactly when all bytes and texts of the rows are."""
    if isinstance(rows, Table):
        numbers = _cut(rows.numbers, rows.count)
        return list(zip(numbers, rows.strings, strict=True)) if rows.strings[0] else list(numbers)
    columns = [_row_keys(one, rows.count) for one in rows.arrays]
    return [(rows.key, *parts) for parts in zip(*columns, strict=True)]


def picked(rows: Table | Tensors, places: list[int]) -> Table | Tensors:
    """The rows at these places."""
    if isinstance(rows, Table):
        raw, width = rows.numbers, len(rows.numbers) // rows.count
        numbers = b"".join([raw[place * width : (place + 1) * width] for place in places])
        return Table(len(places), numbers, [rows.strings[place] for place in places])
    return Tensors(len(places), tuple(one[places] for one in rows.arrays))


def _row_keys(one: NDArray[Any], count: int) -> list[Any]:
    if one.dtype == object:
        return [tuple(row) for row in one.reshape(count, -1).tolist()]
    return _cut(one.tobytes(), count)


def _cut(raw: bytes, count: int) -> list[bytes]:
    """Equal parts, one per row; of a long one its digest."""
    width = len(raw) // count
    parts = [raw] if count == 1 else [raw[i * width : (i + 1) * width] for i in range(count)]
    return parts if width <= _LONG else [blake2b(part, digest_size=_DIGEST).digest() for part in parts]


def _shapes(rows: Table | Tensors) -> tuple[tuple[int, ...], ...]:
    return () if isinstance(rows, Table) else tuple(one.shape for one in rows.arrays)


def _pieces(output: NDArray[Any], count: int) -> list[Any]:
    if output.dtype == object:
        rows: list[Any] = output.reshape(count, -1).tolist()
        return rows
    raw = output.tobytes()
    width = len(raw) // count
    return [raw[i * width : (i + 1) * width] for i in range(count)]


def _together(place: int, kind: Kind, entries: Sequence[Entry]) -> NDArray[Any]:
    dtype, tail = kind[place]
    if dtype.kind == "O":
        flat = np.empty(sum(len(entry[3][place]) for entry in entries), dtype=object)
        flat[:] = [value for entry in entries for value in entry[3][place]]
    else:
        flat = np.frombuffer(b"".join([entry[3][place] for entry in entries]), dtype)
    return flat.reshape(len(entries), *tail)


def _size(part: Any) -> int:
    """Bytes of a key or piece beyond an entry's own."""
    if isinstance(part, bytes | str):
        return len(part)
    if isinstance(part, tuple | list):
        return sum(64 + _size(one) for one in part)
    if isinstance(part, np.ndarray):
        return part.nbytes + (sum(64 + _size(one) for one in part.ravel().tolist()) if part.dtype == object else 0)
    return 8
