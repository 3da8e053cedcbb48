"""Workers: take a key, reconcile it under a deadline, tell the queue how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, TypeVar

from homeostat.runtime.outcome import Outcome, RequeueAfter
from homeostat.runtime.queue import KeyedQueue

K = TypeVar("K", bound=Hashable)

DEADLINE_SECONDS: Final = 60.0
HELD_BACK_SECONDS: Final = 0.2


async def work(
    queue: KeyedQueue[K],
    reconcile: Callable[[K], Awaitable[Outcome]],
    failed: Callable[[K, Exception], float | None],
    allowed: Callable[[], bool],
) -> None:
    """Work until cancelled. Nothing is taken from the queue while `allowed()` is false.

    failed: told of each error; returns the least seconds until the next try, or None to give the key up.
    """
    while True:
        while not allowed():  # noqa: ASYNC110 a Lease runs out without an event
            await asyncio.sleep(HELD_BACK_SECONDS)
        key = await queue.get()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                outcome = await reconcile(key)
        except asyncio.CancelledError:
            queue.failed(key)
            raise
        except Exception as error:  # noqa: BLE001 one object's error must not end the worker
            least = failed(key, error)
            if least is None:
                queue.forget(key)
            else:
                queue.failed(key, retry_after=least)
        else:
            queue.done(key, again_after=outcome.seconds if isinstance(outcome, RequeueAfter) else None)
