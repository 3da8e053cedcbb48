"""The route of this pod: read from a file that changes under us, and drawn from, request by request."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from homeostat.api.wire.route import Route

NO_ROUTE: Final = Route(epoch=0)
BLOCK: Final = 200
POLL_SECONDS: Final = 0.2


class Shares:
    """Blocked randomisation: each block of 200 draws holds the exact share, shuffled."""

    def __init__(self, weight: int, random_source: random.Random) -> None:
        self._random = random_source
        self._block = [True] * (weight * BLOCK // 100)
        self._block += [False] * (BLOCK - len(self._block))
        self._at = BLOCK

    def draw(self) -> bool:
        """Whether this request is the other side's."""
        if self._at == BLOCK:
            self._random.shuffle(self._block)
            self._at = 0
        self._at += 1
        return self._block[self._at - 1]


class Traffic:
    """The route that this worker applies. `changed` is called with each new one."""

    def __init__(self, file: str, changed: Callable[[Route], None]) -> None:
        self.route = NO_ROUTE
        self._file = Path(file) if file else None
        self._changed = changed
        self._text = ""
        self._random = random.Random()  # noqa: S311  shares of traffic are no secret
        self._shares = Shares(0, self._random)

    def draw(self) -> bool:
        """Whether this request is to be forwarded."""
        return bool(self.route.weight) and self._shares.draw()

    def reload(self) -> None:
        """Read the file; without a readable one nothing is forwarded."""
        if self._file is None:
            return
        try:
            text = self._file.read_text()
        except (OSError, UnicodeDecodeError):
            text = ""
        if text == self._text:
            return
        self._text = text
        self._apply(_parsed(text))

    def _apply(self, route: Route) -> None:
        before, self.route = self.route, route
        if (before.weight, before.target) != (route.weight, route.target):
            self._shares = Shares(route.weight, self._random)
        self._changed(route)


def _parsed(text: str) -> Route:
    if not text.strip():
        return NO_ROUTE
    try:
        route = Route.model_validate_json(text)
    except ValidationError as error:
        sys.stderr.write(f"route is not readable, nothing is forwarded: {error.errors()[0]['msg']}\n")
        return NO_ROUTE
    return route if route.target else route.model_copy(update={"weight": 0})
