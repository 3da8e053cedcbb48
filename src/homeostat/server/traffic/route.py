"""The route of this pod: read from a file that changes under us, and drawn from, request by request."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from homeostat.api.wire.route import LANES, Route, Sticky
from homeostat.server.asked import Asked
from homeostat.server.traffic.sticky import Keys, cookie

NO_ROUTE: Final = Route(epoch=0)
BLOCK: Final = 200
POLL_SECONDS: Final = 0.2


class Draw(NamedTuple):
    """A request's side. lane: of its sticky key; -1: it has none. chosen: by the client, so it enters no comparison."""

    forward: bool
    lane: int = -1
    chosen: bool = False


HERE: Final = Draw(forward=False)
THERE: Final = Draw(forward=True)
_CHOSEN: Final = (Draw(forward=False, chosen=True), Draw(forward=True, chosen=True))
_KEYED: Final = tuple(tuple(Draw(forward, lane) for lane in range(LANES)) for forward in (False, True))


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


class Split:
    """How one route divides requests. The client's own choice comes first, then rules, then the key, then the block."""

    def __init__(self, route: Route, shares: Shares) -> None:
        self._shares = shares
        self._choices = {name.encode(): _CHOSEN[name == route.track] for name in route.choices}
        self._rules: dict[bytes, dict[bytes, Draw]] = {}
        for rule in route.rules:
            values = self._rules.setdefault(rule.header.encode(), {})
            values.setdefault(rule.exact.encode(), _CHOSEN[rule.track == route.track])
        self._order = [rule.header.encode() for rule in route.rules]
        self._key = _key_header(route.sticky)
        self._cookie = route.sticky.cookie.encode() if route.sticky else b""
        # both directions draw by the new version's share, so that no key changes side at the flip
        self._target_is_new = route.track == "candidate"
        share = route.weight if self._target_is_new else 100 - route.weight
        self._keys = Keys(share, route.sticky.salt if route.sticky else "")
        self._reads_headers = bool(self._rules or self._key)

    def draw(self, asked: Asked) -> Draw:
        """This request's side."""
        if self._choices:
            chosen = self._choices.get(asked.known.get(b"x-homeostat-track", b""))
            if chosen is not None:
                return chosen
        if self._reads_headers:
            found = self._by_headers(asked.headers)
            if found is not None:
                return found
        return THERE if self._shares.draw() else HERE

    def _by_headers(self, headers: list[tuple[bytes, bytes]]) -> Draw | None:
        seen: dict[bytes, bytes] = {}
        for given, value in headers:
            name = given.lower()
            if name == b"cookie" and name in seen:  # HTTP/2 may send each cookie by itself
                seen[name] += b";" + value
            else:
                seen.setdefault(name, value)
        for name in self._order:
            ruled = self._rules[name].get(seen.get(name, b"\0"))
            if ruled is not None:
                return ruled
        key = seen.get(self._key, b"") if self._key else b""
        if key and self._cookie:
            key = cookie(key, self._cookie)
        if not key:
            return None
        is_new, lane = self._keys.place(key)
        return _KEYED[is_new == self._target_is_new][lane]


def _key_header(sticky: Sticky | None) -> bytes:
    if sticky is None:
        return b""
    return sticky.header.encode() or b"cookie"


class Traffic:
    """The route that this worker applies. `changed` is called with each new one. splits: whether any request may leave."""

    def __init__(self, file: str, changed: Callable[[Route], None]) -> None:
        self.route = NO_ROUTE
        self.splits = False
        self._file = Path(file) if file else None
        self._changed = changed
        self._text = ""
        self._random = random.Random()  # noqa: S311  shares of traffic are no secret
        self._shares = Shares(0, self._random)
        self._split = Split(NO_ROUTE, self._shares)

    def draw(self, asked: Asked) -> Draw:
        """Which side this request is on."""
        return self._split.draw(asked)

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
        self.apply(_parsed(text))

    def apply(self, route: Route) -> None:
        """Go by this route from the next request on."""
        before, self.route = self.route, route
        if (before.weight, before.target) != (route.weight, route.target):
            self._shares = Shares(route.weight, self._random)
        self._split = Split(route, self._shares)
        self.splits = bool(route.target) and bool(route.weight or route.rules or route.choices)
        self._changed(route)


def _parsed(text: str) -> Route:
    if not text.strip():
        return NO_ROUTE
    try:
        route = Route.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        sys.stderr.write(f"route is not readable, nothing is forwarded: {where}: {first['msg']}\n")
        return NO_ROUTE
    return route if route.target else route.model_copy(update={"weight": 0})
