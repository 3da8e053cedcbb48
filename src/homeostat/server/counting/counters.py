"""Counters in shared memory: one slot per worker, one writer per slot, monotone over the worker's restarts.

All words have 8 bytes and a store of one is atomic, so a reader needs no lock and a killed writer leaves no half number.
Sums over rows (features, predictions) are kept twice: a flush fills the idle copy and then flips; a worker killed in
between counts no row twice, and its successor flushes the rows that were staged but not yet counted.
"""

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

LATENCY_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TRACKS: Final = ("stable", "candidate", "holdback", "shadow", "fallback", "chosen")
NOT_COUNTED_TRACKS: Final = ("shadow", "fallback")  # their rows are counted where the answer came from
CODES: Final = (200, 400, 404, 405, 408, 413, 415, 429, 431, 500, 502, 503, 504, 0)
PROTOCOLS: Final = ("rest", "grpc", "v1", "invocations")
REFUSALS: Final = ("damaged", "foreign", "label", "malformed", "duplicate", "late")
OUTCOMES: Final = ("ok", "failed", "busy")
LANES: Final = 8
AGREEMENT: Final = ("agreed", "differed", "failed")
TURNED_AWAY: Final = ("queue", "deadline", "wait", "connections", "bodies", "header", "body", "time", "malformed")
DROPPED: Final = ("payload", "mirror", "span")
LABEL_SUMS: Final = ("labels", "wrong", "squared_error", "error", "absolute_error")  # the last three are floats
LABEL_CELLS: Final = 64  # score cells by which labels are counted; what lies above goes to the last
EXEMPLAR_WORDS: Final = 6  # 32 hex digits of a trace id, seconds, time; both floats
SEEN_WAYS: Final = 8
SEEN_SETS: Final = 1 << 14
STAGED_ROWS: Final = 2048
NAMES: Final = 256
_NAME_WORDS: Final = 6
_MESSAGE_WORDS: Final = 96
_TABLES: Final = {  # words beside the name
    "forwards": len(OUTCOMES) * (1 + LANES),  # without a lane, then by lane
    "feedback": len(LABEL_SUMS) + 2 * LABEL_CELLS,
    "agreement": len(AGREEMENT),
}
_CONTROL: Final = (
    "state",
    "epoch",
    "heartbeat",
    "staged",
    "flips",
    "queued",
    "connections",
    "restarts",
    "answered",
    "used",
)
BUCKETS: Final = len(LATENCY_BOUNDS) + 1
COUNTERS: Final = {  # what is summed over workers word by word; `queued` and `connections` are control words
    "requests": len(PROTOCOLS) * len(TRACKS) * len(CODES),
    "rows": len(TRACKS),
    "latency": len(TRACKS) * BUCKETS,
    "latency_ns": len(TRACKS),
    "inference": BUCKETS,
    "inference_ns": 1,
    "batches": len(BATCH_BOUNDS) + 1,
    "batch_rows": 1,
    "cache": 2,
    "terminated": 1,
    "turned_away": len(TURNED_AWAY),
    "dropped": len(DROPPED),
    "refused": len(REFUSALS),
}
LOADING, READY, FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the size of a slot. features: cells of each feature; predictions: score cells.

    gram: features whose products are summed; projections: cells of each projection.
    """

    numbers: int = 0
    strings: int = 0
    features: tuple[int, ...] = ()
    predictions: int = 0
    gram: int = 0
    projections: tuple[int, ...] = ()

    @property
    def signed(self) -> tuple[int, int]:
        """Where in `sums` the words begin and end that may be below zero: scores and their products."""
        begin = 2 + sum(self.features)
        return begin, begin + self.gram * (self.gram + 3) // 2

    @property
    def sums(self) -> dict[str, int]:
        """What is summed over rows, in the order in which it lies in `binned`, and its words."""
        return {
            "staged": 1,
            "rows": 1,
            "cells": sum(self.features),
            "gram": self.gram,
            "products": self.gram * (self.gram + 1) // 2,
            "projections": sum(self.projections),
            "predictions": len(TRACKS) * self.predictions,
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in a slot, in words. `binned` has two copies of `binned_words`."""

    shape: Shape
    at: dict[str, int] = field(default_factory=dict)
    words: int = 0
    binned_words: int = 0

    @classmethod
    def of(cls, shape: Shape) -> "Layout":
        """The layout for a model of this shape."""
        sizes = {
            **dict.fromkeys(_CONTROL, 1),
            "message": _MESSAGE_WORDS,
            **COUNTERS,
            **{name: NAMES * (_NAME_WORDS + words) for name, words in _TABLES.items()},
            "exemplars": len(TRACKS) * BUCKETS * EXEMPLAR_WORDS,
            "binned": 2 * sum(shape.sums.values()),
            "stage_numbers": (STAGED_ROWS * shape.numbers * 4 + 7) // 8,
            "stage_strings": (STAGED_ROWS * shape.strings * 2 + 7) // 8,
            "stage_cells": STAGED_ROWS * 2 // 8,
            "stage_tracks": STAGED_ROWS // 8,
        }
        at, place = {}, 0
        for name, size in sizes.items():
            at[name] = place
            place += size
        return cls(shape, at, place, sum(shape.sums.values()))


def shared_memory(layout: Layout, workers: int) -> int:
    """A file descriptor of zeroed memory for that many slots; it lives as long as a process has it open."""
    descriptor = os.memfd_create("homeostat-counters")
    os.ftruncate(descriptor, _size(layout, workers))
    return descriptor


def map_slots(descriptor: int, layout: Layout, workers: int) -> "list[Slot]":
    """All slots of that memory."""
    whole = memoryview(mmap.mmap(descriptor, _size(layout, workers)))
    size = layout.words * 8
    seen = whole[size * workers :].cast("Q")
    return [Slot(whole[i * size : (i + 1) * size], layout, seen) for i in range(workers)]


def _size(layout: Layout, workers: int) -> int:
    return layout.words * 8 * workers + SEEN_SETS * SEEN_WAYS * 8


class Slot:
    """One worker's counters. `q` are its words as integers, `d` the same as floats, `raw` the same as bytes.

    seen: serials of labelled predictions, one table for all workers (`server.seen`).
    """

    def __init__(self, raw: memoryview, layout: Layout, seen: memoryview) -> None:
        self.raw, self.layout, self.at, self.seen = raw, layout, layout.at, seen
        self.q, self.d = raw.cast("q"), raw.cast("d")

    def get(self, name: str) -> int:
        """One control word."""
        return self.q[self.at[name]]

    def put(self, name: str, value: int) -> None:
        """Write one control word."""
        self.q[self.at[name]] = value

    def words(self, name: str, size: int) -> list[int]:
        """`size` integers from where `name` begins."""
        start = self.at[name]
        return self.q[start : start + size].tolist()

    def say(self, reason: str, message: str) -> None:
        """Leave a reason for the supervisor: why this worker is not ready."""
        text = f"{reason}\0{message}".encode()[: _MESSAGE_WORDS * 8]
        start = self.at["message"] * 8
        self.raw[start : start + _MESSAGE_WORDS * 8] = text.ljust(_MESSAGE_WORDS * 8, b"\0")

    def said(self) -> tuple[str, str]:
        """Reason and message that the worker left; both empty when it left none."""
        start = self.at["message"] * 8
        text = bytes(self.raw[start : start + _MESSAGE_WORDS * 8]).rstrip(b"\0").decode("utf-8", "ignore")
        reason, _, message = text.partition("\0")
        return reason, message

    def binned(self) -> bytes:
        """A consistent copy of the sums over rows, in the order of `Shape.sums`, 8 bytes each."""
        size = self.layout.binned_words
        while True:
            flips = self.get("flips")
            start = self.at["binned"] + (flips & 1) * size
            copy = self.q[start : start + size].tobytes()
            if self.get("flips") == flips:
                return copy


class NameTable:
    """Counters by a name that is known only when it appears: at most `NAMES` names, what comes later is `other`.

    Each entry has a name of up to 48 bytes and the table's number of words. places: first words of the names known here.
    """

    def __init__(self, slot: Slot, table: str) -> None:
        self._slot, self._start, self.words = slot, slot.at[table], _TABLES[table]
        self.places = {name: self._entry(i) for i, name in enumerate(self._names())}

    def place(self, name: str) -> int:
        """Index of the first word of `name`."""
        found = self.places.get(name)
        return found if found is not None else self._add(name)

    def items(self) -> list[tuple[str, int]]:
        """Names in the table with the index of their first word, read anew: another process may have added some."""
        return [(name, self._entry(i)) for i, name in enumerate(self._names())]

    def _entry(self, i: int) -> int:
        return self._start + i * (_NAME_WORDS + self.words) + _NAME_WORDS

    def _names(self) -> list[str]:
        names: list[str] = []
        for i in range(NAMES):
            start = (self._entry(i) - _NAME_WORDS) * 8
            name = bytes(self._slot.raw[start : start + _NAME_WORDS * 8]).rstrip(b"\0")
            if not name:
                break
            names.append(name.decode("utf-8", "replace"))
        return names

    def _add(self, name: str) -> int:
        used = len(self.places)
        if used >= NAMES - 1 and name != "other":
            return self.place("other")
        entry = self._entry(used)
        text = name.encode()[: _NAME_WORDS * 8]
        start = (entry - _NAME_WORDS) * 8
        self._slot.raw[start : start + _NAME_WORDS * 8] = text.ljust(_NAME_WORDS * 8, b"\0")
        self.places[name] = entry
        return entry


def totals(columns: Sequence[Sequence[int]]) -> list[int]:
    """Sum over slots, word by word."""
    if len(columns) == 1:
        return list(columns[0])
    return list(map(sum, zip(*columns, strict=True)))


def count_totals(copies: Sequence[bytes]) -> list[int]:
    """Sum over copies of the same words, none below zero, of which no sum reaches 2^63.

    Added as one long number each: no carry leaves a word, and it is four times as fast as word by word.
    """
    whole = sum(int.from_bytes(copy, "little") for copy in copies)
    return memoryview(whole.to_bytes(len(copies[0]), "little")).cast("q").tolist()
