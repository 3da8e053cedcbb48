"""A year of flights through Homeostat on the local cluster: train, serve, drift, retrain, a bad version, rollback.

    make demo        (or, with cluster, images and installation there: .venv/bin/python examples/flights/demo.py)

Exit code 0 when every claim of the summary holds, 1 when one does not or the demo is stuck, 2 when the cluster is not
there, 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from examples.flights import story  # noqa: E402 the path is set above
from examples.flights.cluster import MODEL, NAMESPACE, Cluster, Trouble, connect, fresh_namespace  # noqa: E402
from examples.flights.data import months_of, write_windows  # noqa: E402
from examples.flights.ending import WORK, end, stuck  # noqa: E402
from examples.flights.operator_writes import Writes  # noqa: E402
from examples.flights.replay import RATE, Replay  # noqa: E402
from examples.flights.state import moments  # noqa: E402
from examples.flights.story import Move, Told  # noqa: E402
from examples.flights.view import Scene, View, view  # noqa: E402
from examples.flights.year import NAMES, Year  # noqa: E402

HERE: Final = Path(__file__).resolve().parent
MONTH_SECONDS: Final = 28  # a month lasts that long, a little less than the monitor's window
LOOK_SECONDS: Final = 0.7
FIRST_SECONDS: Final = 180.0  # until version 1 serves
PHASE_SECONDS: Final = {
    "waiting for drift, retraining and promotions": 330.0,
    "a harmful change is in: the canary has to find out": 180.0,
    "the change is taken back; the year goes on": 330.0,
}


class Demo:
    """The whole run. `scene` is what the view shows."""

    def __init__(self, cluster: Cluster, scene: Scene, shown: View) -> None:
        self.cluster, self.scene, self._view = cluster, scene, shown
        self.months = months_of()
        self.year = Year({m: len(rows) for m, rows in self.months.items() if m > 2}, RATE * MONTH_SECONDS)
        self.told = Told()
        self.writes = Writes(cluster)
        self._deadline = 0.0

    async def run(self) -> None:
        """Everything until the traffic ends. Raises Trouble."""
        await self._prepare()
        await self._until_served()
        self.scene.year = self.year
        replay = Replay(await self.cluster.front(), MODEL, self.months, self.year)
        self.scene.seen = replay.seen
        self._enter("waiting for drift, retraining and promotions")
        self._view.say(f"traffic starts: {RATE} rows a second, a month in {MONTH_SECONDS} s; labels follow 3 s later")
        try:
            await self._year(replay)
        except BaseExceptionGroup as group:
            raise _first_trouble(group) from group
        await self._look()

    async def _year(self, replay: Replay) -> None:
        """Traffic, looks and the story side by side; ends when the story has."""
        async with asyncio.TaskGroup() as group:
            traffic = group.create_task(replay.run())
            shows = [group.create_task(self._show()), group.create_task(self._watch())]
            await self._tell()
            replay.stop()
            await traffic
            for task in shows:
                task.cancel()

    async def _prepare(self) -> None:
        self.scene.phase = "an empty namespace, data of January and February, three files"
        if await fresh_namespace():
            self._view.say(f"namespace {NAMESPACE} of an earlier demo is gone")
        self.windows = await asyncio.to_thread(write_windows, self.months, WORK / "data")
        await self.writes.begin()
        await self._push(2)
        for name in ("training", "deployment", "monitor"):
            await self.cluster.apply(HERE / f"{name}.yaml")
        self._view.say("kubectl apply -f training.yaml -f deployment.yaml -f monitor.yaml")

    async def _push(self, month: int) -> None:
        digest = await self.cluster.push(self.windows[month])
        self._view.say(f"{NAMES[month - 2]} and {NAMES[month - 1]} pushed as flights:latest ({digest[:19]})")

    async def _until_served(self) -> None:
        self.scene.phase = "version 1 is trained and started"
        until = self.scene.elapsed + FIRST_SECONDS
        while not self.scene.state.serving:
            await self._look()
            self._view.show()
            if self.scene.elapsed > until:
                raise await stuck("version 1 serves", FIRST_SECONDS, self.scene.state)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        before, self.scene.state = self.scene.state, await self.cluster.look()
        for text in moments(before, self.scene.state):
            self._view.say(text)

    async def _watch(self) -> None:
        """Look at the cluster again and again; one look may fail, five in a row may not."""
        failed = 0
        while True:
            try:
                await self._look()
                failed = 0
            except Trouble:
                failed += 1
                if failed == 5:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def _show(self) -> None:
        while True:
            self._view.show()
            await asyncio.sleep(0.25)

    def _enter(self, phase: str) -> None:
        self.scene.phase = phase
        self._deadline = self.scene.elapsed + PHASE_SECONDS[phase]

    async def _tell(self) -> None:
        """Push each month when it is over, and make the story's moves."""
        known = self.year.known
        while True:
            await asyncio.sleep(0.2)
            if self.year.known > known:
                known = self.year.known
                await self._push(known)
            move = story.next_move(self.scene.state, self.told, self.year.month, over=self.year.over)
            if move is Move.END:
                return
            if move is not Move.NOTHING:
                await self._make(move)
            if self.scene.elapsed > self._deadline:
                raise await stuck(self.scene.phase, PHASE_SECONDS[self.scene.phase], self.scene.state)

    async def _make(self, move: Move) -> None:
        original = HERE / "training.yaml"
        before = original.read_text()
        if move is Move.HARM:
            newest = max((v.number for v in self.scene.state.versions), default=0)
            changed = WORK / "training.yaml"
            changed.write_text(story.harmed(before))
            self.told = replace(self.told, harmed=_now(), before=newest)
            await self.cluster.apply(changed)
            self._enter("a harmful change is in: the canary has to find out")
            self._view.say("a user changes training.yaml and loosens its gate:")
            for line in story.changed_lines(before, changed.read_text()):
                self._view.say(f"  {line}")
        else:
            self.told = replace(self.told, reverted=_now())
            await self.cluster.apply(original)
            self._enter("the change is taken back; the year goes on")
            self._view.say("the change is reverted: kubectl apply -f training.yaml")
        self.year.slow = move is Move.HARM


def _now() -> datetime:
    """To the millisecond, downwards, as the operator writes instants."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


async def play() -> int:
    """Run the demo; returns the exit code."""
    try:
        cluster = await connect()
    except Trouble as trouble:
        return _tell(trouble, 2)
    scene = Scene()
    try:
        with view(scene) as shown:
            demo = Demo(cluster, scene, shown)
            await demo.run()
        return await end(cluster, scene, demo.told, demo.months, demo.writes)
    except Trouble as trouble:
        return _tell(trouble, 1)


def _first_trouble(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first Trouble of tasks that failed together; the whole group when it is something else."""
    troubles = group.subgroup(Trouble)
    if troubles is None:
        return group
    found: BaseException = troubles
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _tell(trouble: Trouble, code: int) -> int:
    print(f"error: {trouble}\n  fix: {trouble.fix}", file=sys.stderr)
    return code


def main() -> int:
    """Run until the end or Ctrl-C."""
    try:
        return asyncio.run(play())
    except KeyboardInterrupt:
        print(f"\ninterrupted: what was made is in namespace {NAMESPACE}; run this again, or take it down: make down")
        return 130


if __name__ == "__main__":
    sys.exit(main())
