"""The worker's side of the counters: what the request path writes, and the flush that bins staged rows."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Baseline, Signature
from homeostat.server.counting.binning import Binning, Piece
from homeostat.server.counting.counters import (
    BATCH_BOUNDS,
    BUCKETS,
    CODES,
    DROPPED,
    EXEMPLAR_WORDS,
    LABEL_CELLS,
    LABEL_SUMS,
    LATENCY_BOUNDS,
    OUTCOMES,
    PROTOCOLS,
    REFUSALS,
    STAGED_ROWS,
    TRACKS,
    TURNED_AWAY,
    NameTable,
    Slot,
)
from homeostat.server.counting.seen import Seen

FLUSH_ROWS: Final = 512
TRACK: Final = {name: i for i, name in enumerate(TRACKS)}
PROTOCOL: Final = {name: i for i, name in enumerate(PROTOCOLS)}
_DRAWS: Final = 1024  # at once, for sampled rows
_CODE: Final = {code: i for i, code in enumerate(CODES)}
_CODES: Final = len(CODES)
_OTHER: Final = len(CODES) - 1
_BY_PROTOCOL: Final = len(TRACKS) * len(CODES)
_LANE: Final = len(OUTCOMES)
_OUTCOME: Final = {name: i for i, name in enumerate(OUTCOMES)}
_REFUSAL: Final = {name: i for i, name in enumerate(REFUSALS)}
_TURNED_AWAY: Final = {name: i for i, name in enumerate(TURNED_AWAY)}
_DROPPED: Final = {name: i for i, name in enumerate(DROPPED)}


class Recorder:
    """Counts for one worker. Rows go to a staging ring in shared memory; `flush` adds them to the cells of the baseline.

    seen: which predictions have their label already; one table for the pod.
    """

    def __init__(
        self, slot: Slot, signature: Signature | None, baseline: Baseline | None, *, rows: bool = True
    ) -> None:
        self._slot, self._q, self._d, at = slot, slot.q, slot.d, slot.at
        self._at = at
        self._requests, self._rows, self._latency = at["requests"], at["rows"], at["latency"]
        self._latency_ns, self._cache, self._turned_away = at["latency_ns"], at["cache"], at["turned_away"]
        self._forwards, self._feedback = NameTable(slot, "forwards"), NameTable(slot, "feedback")
        self._agreement = NameTable(slot, "agreement")
        self._sides = self._forwards.places
        self.seen = Seen(slot.seen)
        slot.put("used", 1)
        self._shape = shape = slot.layout.shape
        self._on = rows and (bool(shape.features) or shape.predictions > 0)
        self._numbers = self._view("stage_numbers", np.float32, (STAGED_ROWS, shape.numbers))
        self._strings = self._view("stage_strings", np.int16, (STAGED_ROWS, shape.strings))
        self._cells = self._view("stage_cells", np.int16, (STAGED_ROWS,))
        self._tracks = self._view("stage_tracks", np.uint8, (STAGED_ROWS,))
        self._binned = self._view("binned", np.int64, (2, slot.layout.binned_words))
        self._staged = slot.get("staged")  # this worker's alone from now on, so kept here too
        self._binned_rows = int(self._binned[slot.get("flips") & 1, 0])
        self._levels = _levels(signature, baseline)
        self._binning = Binning(shape, signature, baseline)
        self._edges = baseline.prediction.edges if baseline else ()

    def _view(self, name: str, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape))
        return np.frombuffer(self._slot.raw, kind, count, self._at[name] * 8).reshape(shape)

    def answered(self, track: int, code: int, protocol: int = 0) -> None:
        """One request was answered with this status. protocol: place in `PROTOCOLS`."""
        self._q[self._requests + protocol * _BY_PROTOCOL + track * _CODES + _CODE.get(code, _OTHER)] += 1

    def served(self, track: int, rows: int, seconds: float, trace: bytes = b"") -> None:
        """One request ran the model: its rows, and its time inside the server. trace: 32 hex digits, of a traced one."""
        q = self._q
        bucket = track * BUCKETS + bisect_left(LATENCY_BOUNDS, seconds)
        q[self._rows + track] += rows
        q[self._latency + bucket] += 1
        q[self._latency_ns + track] += int(seconds * 1e9)
        if trace:
            self._remember(bucket, seconds, trace)

    def served_together(self, track: int, rows: int, seconds: Sequence[float]) -> None:
        """The untraced requests of one batch, all under the same track: their rows together, the time of each."""
        q, start = self._q, self._latency + track * BUCKETS
        q[self._rows + track] += rows
        q[self._latency_ns + track] += int(sum(seconds) * 1e9)
        first, last = bisect_left(LATENCY_BOUNDS, min(seconds)), bisect_left(LATENCY_BOUNDS, max(seconds))
        if first == last:
            q[start + first] += len(seconds)
            return
        for one in seconds:
            q[start + bisect_left(LATENCY_BOUNDS, one)] += 1

    def _remember(self, bucket: int, seconds: float, trace: bytes) -> None:
        """The bucket's newest exemplar. Its time is written last and cleared first: a reader never takes a half one."""
        place = self._at["exemplars"] + bucket * EXEMPLAR_WORDS
        self._d[place + 5] = 0.0
        self._slot.raw[place * 8 : place * 8 + 32] = trace[:32].ljust(32, b"\0")
        self._d[place + 4] = seconds
        self._d[place + 5] = time.time()

    def ran(self, rows: int, seconds: float) -> None:
        """One call of the runtime."""
        q, at = self._q, self._at
        q[at["inference"] + bisect_left(LATENCY_BOUNDS, seconds)] += 1
        q[at["inference_ns"]] += int(seconds * 1e9)
        q[at["batches"] + bisect_left(BATCH_BOUNDS, rows)] += 1
        q[at["batch_rows"]] += rows

    def outcome(self, version: str, outcome: str, lane: int = -1) -> None:
        """How a request without hop header ended, under the side that was drawn for it. lane: 0 … 7, of a sticky key."""
        place = (self._sides.get(version) or self._forwards.place(version)) + _OUTCOME[outcome]
        if lane >= 0:
            place += _LANE * (lane + 1)
        self._q[place] += 1

    def compared(self, version: str, agreed: int, differed: int, failed: int) -> None:
        """Mirrored requests that `version` answered as we did, otherwise, or not."""
        q, place = self._q, self._agreement.place(version)
        for i, count in enumerate((agreed, differed, failed)):
            if count:
                q[place + i] += count

    def cached(self, hits: int, misses: int) -> None:
        """Rows that the prediction cache answered, and that it did not."""
        self._q[self._cache] += hits
        self._q[self._cache + 1] += misses

    def dropped(self, what: str, n: int = 1) -> None:
        """So many did not fit a bounded buffer. what: one of `DROPPED`."""
        self._q[self._at["dropped"] + _DROPPED[what]] += n

    def refused_request(self, why: str) -> None:
        """One request was turned away by a bound. why: one of `TURNED_AWAY`."""
        self._q[self._turned_away + _TURNED_AWAY[why]] += 1

    def terminated(self, n: int = 1) -> None:
        """So many calls of the runtime were ended by the deadline."""
        self._q[self._at["terminated"]] += n

    def labelled(
        self,
        version: str,
        *,
        wrong: bool,
        squared_error: float,
        error: float = 0.0,
        cell: int = 0,
        positive: bool = False,
    ) -> None:
        """One label of a prediction of `version` arrived.

        error: value minus label, of a regression. cell: score cell of the prediction. positive: what calibration counts
        (`api.wire.stats.Feedback`).
        """
        q, d, place = self._q, self._d, self._feedback.place(version)
        q[place] += 1
        q[place + 1] += wrong
        d[place + 2] += squared_error
        if error:
            d[place + 3] += error
            d[place + 4] += abs(error)
        place += len(LABEL_SUMS) + 2 * min(cell, LABEL_CELLS - 1)
        q[place] += 1
        q[place + 1] += positive

    def refused(self, why: str) -> None:
        """One label that counts for nothing. why: one of `REFUSALS`."""
        self._q[self._at["refused"] + _REFUSAL[why]] += 1

    def score_cell(self, score: float) -> int:
        """Cell of a value of a regression."""
        return bisect_left(self._edges, score) if self._edges else 0

    def stage(self, numbers: NDArray[Any], strings: Sequence[Sequence[str]], cells: Sequence[int], tracks: Any) -> None:
        """Copy rows to the ring. numbers: (n, f) float32; strings: n rows; cells: n score cells; tracks: one, or (n,)."""
        if not self._on:
            return
        rows = len(cells)
        if rows <= FLUSH_ROWS:
            self._stage(numbers, strings, cells, tracks)
            return
        for start in range(0, rows, FLUSH_ROWS):
            end = min(start + FLUSH_ROWS, rows)
            some = tracks if isinstance(tracks, int) else tracks[start:end]
            self._stage(numbers[start:end], strings[start:end], cells[start:end], some)

    def _stage(
        self, numbers: NDArray[Any], strings: Sequence[Sequence[str]], cells: Sequence[int], tracks: Any
    ) -> None:
        rows, start = len(cells), self._staged % STAGED_ROWS
        end = start + rows
        if end > STAGED_ROWS:  # not around the corner in one piece
            cut = STAGED_ROWS - start
            ahead, behind = (tracks, tracks) if isinstance(tracks, int) else (tracks[:cut], tracks[cut:])
            self._stage(numbers[:cut], strings[:cut], cells[:cut], ahead)
            self._stage(numbers[cut:], strings[cut:], cells[cut:], behind)
            return
        while self._staged + rows - self._binned_rows > STAGED_ROWS:
            self.flush_some()
        if self._shape.numbers:
            self._numbers[start:end] = numbers
        for place, levels in enumerate(self._levels):
            if levels:
                other = levels["\0other"]
                self._strings[start:end, place] = [levels.get(row[place], other) for row in strings]
        self._cells[start:end] = cells
        self._tracks[start:end] = tracks
        self._staged += rows
        self._q[self._at["staged"]] = self._staged  # only now do the rows exist

    def waiting(self) -> int:
        """Staged rows that no cell has yet."""
        return self._staged - self._binned_rows if self._on else 0

    def flush(self) -> None:
        """Add all staged rows to the cells."""
        while self.flush_some():
            pass

    def flush_some(self) -> bool:
        """Add at most `FLUSH_ROWS` staged rows; they are counted at the instant of the flip, all or none. Whether more wait."""
        if self.waiting() <= 0:
            return False
        flips = self._slot.get("flips")
        now, following = self._binned[flips & 1], self._binned[1 - (flips & 1)]
        following[:] = now
        begin = self._binned_rows
        start = begin % STAGED_ROWS
        rows = min(self._staged - begin, FLUSH_ROWS, STAGED_ROWS - start)
        ring = slice(start, start + rows)
        self._binning.add(
            following, Piece(self._numbers[ring], self._strings[ring], self._cells[ring], self._tracks[ring])
        )
        following[0] = begin + rows
        self._slot.put("flips", flips + 1)
        self._binned_rows = begin + rows
        return self._binned_rows < self._staged


class SampledRecorder(Recorder):
    """The same, but each row enters features and scores with probability `share`, above 0 to 1, independent of all others.

    Everything that is counted by request (requests, rows, latency, outcomes, labels) stays exact. random: by default
    seeded by the operating system, so no two processes draw alike.
    """

    def __init__(
        self,
        slot: Slot,
        signature: Signature | None,
        baseline: Baseline | None,
        *,
        rows: bool = True,
        share: float,
        random: np.random.Generator | None = None,
    ) -> None:
        super().__init__(slot, signature, baseline, rows=rows)
        self._gaps = _gaps(random or np.random.default_rng(), share)
        self._ahead = next(self._gaps) - 1  # rows to let pass before the next one that is drawn

    def stage(self, numbers: NDArray[Any], strings: Sequence[Sequence[str]], cells: Sequence[int], tracks: Any) -> None:
        """Copy the rows that are drawn to the ring; arguments as `Recorder.stage` has them."""
        if not self._on:
            return
        rows, ahead = len(cells), self._ahead
        if ahead >= rows:
            self._ahead = ahead - rows
            return
        kept = []
        while ahead < rows:
            kept.append(ahead)
            ahead += next(self._gaps)
        self._ahead = ahead - rows
        mine = tracks if isinstance(tracks, int) else tracks[kept]
        super().stage(numbers[kept], [strings[i] for i in kept], [cells[i] for i in kept], mine)


def _gaps(random: np.random.Generator, share: float) -> Iterator[int]:
    """Distances of drawn rows: as if a coin were thrown for each row, with one throw for each that is drawn."""
    while True:
        yield from random.geometric(share, _DRAWS).tolist()


def recorder(
    slot: Slot, signature: Signature | None, baseline: Baseline | None, *, rows: bool = True, sample: float = 1.0
) -> Recorder:
    """A worker's recorder. rows: whether rows are counted at all; sample: share of them, decided here, once."""
    if sample < 1.0:
        return SampledRecorder(slot, signature, baseline, rows=rows, share=sample)
    return Recorder(slot, signature, baseline, rows=rows)


def _levels(signature: Signature | None, baseline: Baseline | None) -> list[dict[str, int]]:
    """Per string column the cell of each level; empty for a column that is no feature of the baseline."""
    names = [c.name for c in signature.columns if c.type == "string"] if signature else []
    levels: list[dict[str, int]] = [{} for _ in names]
    for feature in baseline.features if baseline else ():
        if feature.kind == "category":
            cells = {level: i for i, level in enumerate(feature.levels)}
            cells.setdefault("", len(feature.levels))
            levels[names.index(feature.name)] = {**cells, "\0other": len(feature.levels) + 1}
    return levels
