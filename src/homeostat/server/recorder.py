"""The worker's side of the counters: what the request path writes, and the flush that bins staged rows."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Baseline, Signature
from homeostat.server.counters import (
    BATCH_BOUNDS,
    CODES,
    LATENCY_BOUNDS,
    NOT_COUNTED_TRACKS,
    OUTCOMES,
    REFUSALS,
    STAGED_ROWS,
    TRACKS,
    NameTable,
    Slot,
)
from homeostat.stats import profile

FLUSH_ROWS: Final = 512
TRACK: Final = {name: i for i, name in enumerate(TRACKS)}
_CODE: Final = {code: i for i, code in enumerate(CODES)}
_OUTCOME: Final = {name: i for i, name in enumerate(OUTCOMES)}
_BUCKETS: Final = len(LATENCY_BOUNDS) + 1


class Recorder:
    """Counts for one worker. Rows go to a staging ring in shared memory; `flush` adds them to the cells of the baseline."""

    def __init__(
        self, slot: Slot, signature: Signature | None, baseline: Baseline | None, *, rows: bool = True
    ) -> None:
        self._slot, self._q, self._d, self._at = slot, slot.q, slot.d, slot.at
        self._forwards, self._feedback = NameTable(slot, "forwards"), NameTable(slot, "feedback")
        self._shape = shape = slot.layout.shape
        self._on = rows and (bool(shape.features) or shape.predictions > 0)
        self._numbers = self._view("stage_numbers", np.float32, (STAGED_ROWS, shape.numbers))
        self._strings = self._view("stage_strings", np.int16, (STAGED_ROWS, shape.strings))
        self._cells = self._view("stage_cells", np.int16, (STAGED_ROWS,))
        self._tracks = self._view("stage_tracks", np.uint8, (STAGED_ROWS,))
        size = slot.layout.binned_words
        self._binned = self._view("binned", np.int64, (2, size))
        self._columns, self._levels = _plan(signature, baseline)
        self._edges = baseline.prediction.edges if baseline else ()

    def _view(self, name: str, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape))
        return np.frombuffer(self._slot.raw, kind, count, self._at[name] * 8).reshape(shape)

    def answered(self, track: int, code: int) -> None:
        """One request was answered with this status."""
        place = self._at["requests"] + track * len(CODES) + _CODE.get(code, len(CODES) - 1)
        self._q[place] += 1

    def served(self, track: int, rows: int, seconds: float) -> None:
        """One request ran the model: its rows, and its time inside the server."""
        q, at = self._q, self._at
        q[at["rows"] + track] += rows
        q[at["latency"] + track * _BUCKETS + bisect_left(LATENCY_BOUNDS, seconds)] += 1
        q[at["latency_ns"] + track] += int(seconds * 1e9)

    def ran(self, rows: int, seconds: float) -> None:
        """One call of the runtime."""
        q, at = self._q, self._at
        q[at["inference"] + bisect_left(LATENCY_BOUNDS, seconds)] += 1
        q[at["inference_ns"]] += int(seconds * 1e9)
        q[at["batches"] + bisect_left(BATCH_BOUNDS, rows)] += 1
        q[at["batch_rows"]] += rows

    def outcome(self, version: str, outcome: str) -> None:
        """How a request without hop header ended, under the side that was drawn for it."""
        self._q[self._forwards.place(version) + _OUTCOME[outcome]] += 1

    def labelled(self, version: str, *, wrong: bool, squared_error: float) -> None:
        """One label of a prediction of `version` arrived."""
        place = self._feedback.place(version)
        self._q[place] += 1
        self._q[place + 1] += wrong
        self._d[place + 2] += squared_error

    def refused(self, why: str) -> None:
        """One label that counts for nothing."""
        self._q[self._at["refused"] + REFUSALS.index(why)] += 1

    def score_cell(self, score: float) -> int:
        """Cell of a value of a regression."""
        return bisect_left(self._edges, score) if self._edges else 0

    def stage(self, numbers: NDArray[Any], strings: Sequence[Sequence[str]], cells: Sequence[int], tracks: Any) -> None:
        """Copy rows to the ring. numbers: (n, f) float32; strings: n rows; cells: n score cells; tracks: one, or (n,)."""
        if not self._on:
            return
        rows = len(cells)
        for start in range(0, rows, FLUSH_ROWS):
            end = min(start + FLUSH_ROWS, rows)
            some = tracks if isinstance(tracks, int) else tracks[start:end]
            self._stage(numbers[start:end], strings[start:end], cells[start:end], some)

    def _stage(
        self, numbers: NDArray[Any], strings: Sequence[Sequence[str]], cells: Sequence[int], tracks: Any
    ) -> None:
        staged, rows = self._slot.get("staged"), len(cells)
        if staged % STAGED_ROWS + rows > STAGED_ROWS:  # not around the corner in one piece
            cut = STAGED_ROWS - staged % STAGED_ROWS
            ahead, behind = (tracks, tracks) if isinstance(tracks, int) else (tracks[:cut], tracks[cut:])
            self._stage(numbers[:cut], strings[:cut], cells[:cut], ahead)
            self._stage(numbers[cut:], strings[cut:], cells[cut:], behind)
            return
        if staged + rows - self._flushed() > STAGED_ROWS:
            self.flush()
        start = staged % STAGED_ROWS
        if self._shape.numbers:
            self._numbers[start : start + rows] = numbers
        for place, levels in enumerate(self._levels):
            if levels:
                other = levels["\0other"]
                self._strings[start : start + rows, place] = [levels.get(row[place], other) for row in strings]
        self._cells[start : start + rows] = cells
        self._tracks[start : start + rows] = tracks
        self._slot.put("staged", staged + rows)  # only now do the rows exist

    def _flushed(self) -> int:
        return int(self._binned[self._slot.get("flips") & 1, 0])

    def waiting(self) -> int:
        """Staged rows that no cell has yet."""
        return self._slot.get("staged") - self._flushed() if self._on else 0

    def flush(self) -> None:
        """Add the staged rows to the cells; they are counted at the instant of the flip, all or none."""
        if self.waiting() <= 0:
            return
        flips = self._slot.get("flips")
        now, following = self._binned[flips & 1], self._binned[1 - (flips & 1)]
        following[:] = now
        begin, end = int(now[0]), self._slot.get("staged")
        for start, stop in _pieces(begin, end):
            self._count(following, slice(start, stop))
        following[0] = end
        self._slot.put("flips", flips + 1)

    def _count(self, sums: NDArray[np.int64], ring: slice) -> None:
        tracks, place = self._tracks[ring], 2
        judged = ~np.isin(tracks, [TRACK[t] for t in NOT_COUNTED_TRACKS])
        if self._shape.features:
            sums[1] += int(judged.sum())
            for (kind, column, edges), size in zip(self._columns, self._shape.features, strict=True):
                if kind == "number":
                    counted = profile.number_counts(self._numbers[ring, column][judged], edges)
                else:
                    counted = profile.count_cells(self._strings[ring, column][judged], size)
                sums[place : place + size] += counted
                place += size
        size = self._shape.predictions
        if size:
            cells = tracks.astype(np.int64) * size + np.clip(self._cells[ring], 0, size - 1)
            sums[place:] += np.bincount(cells, minlength=len(TRACKS) * size)


def _pieces(begin: int, end: int) -> list[tuple[int, int]]:
    """The ring's positions from `begin` to `end`, in one or two pieces."""
    start, rows = begin % STAGED_ROWS, end - begin
    if start + rows <= STAGED_ROWS:
        return [(start, start + rows)]
    return [(start, STAGED_ROWS), (0, start + rows - STAGED_ROWS)]


def _plan(
    signature: Signature | None, baseline: Baseline | None
) -> tuple[list[tuple[str, int, tuple[float, ...]]], list[dict[str, int]]]:
    """Per feature of the baseline its kind, its column and edges; per string column the cell of each level."""
    columns = signature.columns if signature else ()
    places = {kind: [c.name for c in columns if c.type == kind] for kind in ("number", "string")}
    levels: list[dict[str, int]] = [{} for _ in places["string"]]
    plan: list[tuple[str, int, tuple[float, ...]]] = []
    for feature in baseline.features if baseline else ():
        if feature.kind == "number":
            plan.append(("number", places["number"].index(feature.name), feature.edges))
            continue
        column = places["string"].index(feature.name)
        cells = {level: i for i, level in enumerate(feature.levels)}
        cells.setdefault("", len(feature.levels))
        levels[column] = {**cells, "\0other": len(feature.levels) + 1}
        plan.append(("category", column, ()))
    return plan, levels
