"""What people see while the demo runs: a table that updates on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from examples.flights.replay import Seen
from examples.flights.state import State
from examples.flights.year import NAMES, Year
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EVENTS: Final = 9
QUIET_SECONDS: Final = 10.0  # without a terminal the numbers are said that often
COLOURS: Final = {
    "stable": "green",
    "candidate": "yellow",
    "quarantined": "red",
    "rolledback": "red",
    "Drift": "yellow",
}


@dataclass(slots=True)
class Scene:
    """Everything that is shown. events: (seconds since the start, sentence)."""

    began: float = field(default_factory=time.monotonic)
    phase: str = "starting"
    state: State = field(default_factory=State)
    seen: Seen = field(default_factory=Seen)
    year: Year | None = None
    events: list[tuple[float, str]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began


class View(Protocol):
    """Shows a scene."""

    def say(self, text: str) -> None:
        """Something happened."""

    def show(self) -> None:
        """Look at the scene again."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was."""


def view(scene: Scene) -> View:
    """A live table on a terminal, else lines."""
    return Screen(scene) if sys.stdout.isatty() else Lines(scene)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Lines:
    """One line an event, and the numbers now and then."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._said = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def say(self, text: str) -> None:
        self._scene.events.append((self._scene.elapsed, text))
        print(f"{clock(self._scene.elapsed):>6}  {text}", flush=True)

    def show(self) -> None:
        scene = self._scene
        if scene.year is None or scene.elapsed - self._said < QUIET_SECONDS:
            return
        self._said = scene.elapsed
        seen, state = scene.seen, scene.state
        flying = f", {state.candidate} {state.weight} %" if state.candidate else ""
        numbers = f"{seen.requests:,} requests, {seen.failed} failed, {state.stable}{flying}"
        print(f"{clock(scene.elapsed):>6}    {NAMES[scene.year.month - 1]} {numbers}", flush=True)


class Screen:
    """A table that is drawn anew a few times a second."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._live = Live(console=Console(), auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.show()
        self._live.transient = False
        self._live.stop()

    def say(self, text: str) -> None:
        self._scene.events.append((self._scene.elapsed, text))
        self.show()

    def show(self) -> None:
        self._live.update(draw(self._scene), refresh=True)


def draw(scene: Scene) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = [_head(scene)]
    if scene.state.versions:
        parts.append(_versions(scene))
    if scene.state.findings:
        parts.append(_findings(scene.state))
    parts.append(_events(scene))
    return Panel(
        Group(*parts), title="Homeostat · flights from New York, 2013", title_align="left", border_style="blue"
    )


def _head(scene: Scene) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text(clock(scene.elapsed), style="bold"), scene.phase)
    year, seen = scene.year, scene.seen
    if year is None:
        return grid
    bar = Table.grid(padding=(0, 1))
    slow = "  (the clock is slowed)" if year.slow else ""
    bar.add_row(
        Text(NAMES[year.month - 1], style="bold"), ProgressBar(total=1.0, completed=year.progress, width=48), slow
    )
    grid.add_row("year", bar)
    recent = sorted(seen.seconds[-1000:])
    fast = (
        f"p50 {1000 * recent[len(recent) // 2]:.1f} ms  p99 {1000 * recent[len(recent) * 99 // 100]:.1f} ms"
        if recent
        else ""
    )
    failed = Text(f"{seen.failed} failed", style="bold red" if seen.failed else "green")
    sent = Table.grid(padding=(0, 2))
    sent.add_row(f"{seen.requests:,} requests", failed, f"{seen.labels:,} labels", fast)
    grid.add_row("traffic", sent)
    return grid


def _versions(scene: Scene) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("VERSION", "ROLE", "TRIGGER", "ESTIMATOR", "HELD-OUT AUC", "ROWS ANSWERED"):
        table.add_column(title, justify="right" if title in {"HELD-OUT AUC", "ROWS ANSWERED"} else "left")
    for v in scene.state.versions[-8:]:
        role = scene.state.role(v)
        table.add_row(
            v.name,
            Text(role, style=COLOURS.get(role.split()[0], "dim")),
            v.trigger,
            v.estimator,
            "" if v.auc is None else f"{v.auc:.3f}",
            f"{scene.seen.answers[f'v{v.number}']:,}",
        )
    return table


def _findings(state: State) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("MONITOR", "VERDICT", "SCORE", "WHAT MOVED"):
        table.add_column(title)
    for f in state.findings:
        score = "" if f.score is None else f"{f.score:.3f}"
        table.add_row(f.name, Text(f.verdict, style=COLOURS.get(f.verdict, "")), score, ", ".join(f.moved))
    return table


def _events(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for seconds, text in scene.events[-EVENTS:]:
        table.add_row(Text(clock(seconds), style="dim"), Text(text, overflow="ellipsis", no_wrap=True))
    return Panel(table, title="events", title_align="left", border_style="dim")
