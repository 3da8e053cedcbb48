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
TRACKS: Final = ("stable", "candidate", "holdback", "shadow", "fallback")
NOT_COUNTED_TRACKS: Final = ("shadow", "fallback")  # their rows are counted where the answer came from
CODES: Final = (200, 400, 404, 405, 408, 413, 415, 429, 431, 500, 502, 503, 504, 0)
REFUSALS: Final = ("damaged", "foreign", "label", "malformed")
OUTCOMES: Final = ("ok", "failed", "busy")
STAGED_ROWS: Final = 2048
NAMES: Final = 256
_NAME_WORDS: Final = 6
_MESSAGE_WORDS: Final = 96
_CONTROL: Final = ("state", "epoch", "heartbeat", "staged", "flips", "queued", "connections", "restarts")
LOADING, READY, FAILED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the size of a slot. features: cells of each feature; predictions: score cells."""

    numbers: int = 0
    strings: int = 0
    features: tuple[int, ...] = ()
    predictions: int = 0


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
        buckets, entry = len(LATENCY_BOUNDS) + 1, _NAME_WORDS + 3
        binned = 2 + sum(shape.features) + len(TRACKS) * shape.predictions
        sizes = {
            **dict.fromkeys(_CONTROL, 1),
            "message": _MESSAGE_WORDS,
            "requests": len(TRACKS) * len(CODES),
            "rows": len(TRACKS),
            "latency": len(TRACKS) * buckets,
            "latency_ns": len(TRACKS),
            "inference": buckets,
            "inference_ns": 1,
            "batches": len(BATCH_BOUNDS) + 1,
            "batch_rows": 1,
            "forwards": NAMES * entry,
            "feedback": NAMES * entry,
            "refused": len(REFUSALS),
            "binned": 2 * binned,
            "stage_numbers": (STAGED_ROWS * shape.numbers * 4 + 7) // 8,
            "stage_strings": (STAGED_ROWS * shape.strings * 2 + 7) // 8,
            "stage_cells": STAGED_ROWS * 2 // 8,
            "stage_tracks": STAGED_ROWS // 8,
        }
        at, place = {}, 0
        for name, size in sizes.items():
            at[name] = place
            place += size
        return cls(shape, at, place, binned)


def shared_memory(layout: Layout, workers: int) -> int:
    """A file descriptor of zeroed memory for that many slots; it lives as long as a process has it open."""
    descriptor = os.memfd_create("homeostat-counters")
    os.ftruncate(descriptor, max(layout.words * 8 * workers, mmap.PAGESIZE))
    return descriptor


def map_slots(descriptor: int, layout: Layout, workers: int) -> "list[Slot]":
    """All slots of that memory."""
    whole = memoryview(mmap.mmap(descriptor, max(layout.words * 8 * workers, mmap.PAGESIZE)))
    size = layout.words * 8
    return [Slot(whole[i * size : (i + 1) * size], layout) for i in range(workers)]


class Slot:
    """One worker's counters. `q` are its words as integers, `d` the same as floats, `raw` the same as bytes."""

    def __init__(self, raw: memoryview, layout: Layout) -> None:
        self.raw, self.layout, self.at = raw, layout, layout.at
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

    def binned(self) -> list[int]:
        """A consistent copy of the sums over rows: staged rows that are in, rows of features, cells, score cells by track."""
        size = self.layout.binned_words
        while True:
            flips = self.get("flips")
            start = self.at["binned"] + (flips & 1) * size
            copy = self.q[start : start + size].tolist()
            if self.get("flips") == flips:
                return copy


class NameTable:
    """Counters by a name that is known only when it appears: at most `NAMES` names, what comes later is `other`.

    Each entry has a name of up to 48 bytes and three words.
    """

    def __init__(self, slot: Slot, table: str) -> None:
        self._slot, self._start = slot, slot.at[table]
        self._places = {name: self._entry(i) for i, name in enumerate(self._names())}

    def place(self, name: str) -> int:
        """Index of the first of the three words of `name`."""
        found = self._places.get(name)
        return found if found is not None else self._add(name)

    def items(self) -> list[tuple[str, int]]:
        """Names in the table with the index of their first word, read anew: another process may have added some."""
        return [(name, self._entry(i)) for i, name in enumerate(self._names())]

    def _entry(self, i: int) -> int:
        return self._start + i * (_NAME_WORDS + 3) + _NAME_WORDS

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
        used = len(self._places)
        if used >= NAMES - 1 and name != "other":
            return self.place("other")
        entry = self._entry(used)
        text = name.encode()[: _NAME_WORDS * 8]
        start = (entry - _NAME_WORDS) * 8
        self._slot.raw[start : start + _NAME_WORDS * 8] = text.ljust(_NAME_WORDS * 8, b"\0")
        self._places[name] = entry
        return entry


def totals(columns: Sequence[Sequence[int]]) -> list[int]:
    """Sum over slots, word by word."""
    return [sum(words) for words in zip(*columns, strict=True)] if columns else []
