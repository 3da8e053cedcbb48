"""A circuit per target: after some failures in a row it stays away from the target for a short, growing time."""

from enum import Enum
from typing import Final, Generic, TypeVar

FAILURES_IN_A_ROW: Final = 5
FIRST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 2.0

Why = TypeVar("Why")


class Admit(Enum):
    """SEND: as usual. PROBE: send, and let nobody wait for it. HOLD: do not send."""

    SEND = 1
    PROBE = 2
    HOLD = 3


class Circuit(Generic[Why]):
    """Closed until `FAILURES_IN_A_ROW` sends in a row got no answer; then one probe at a time finds out when to close.

    A failed probe doubles the time until the next, up to `MOST_SECONDS`. Any answer closes the circuit: a target that
    answers, whatever it says, costs nobody time. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._row = 0
        self._hold = 0.0  # 0 while closed
        self._until = 0.0
        self._probing = False
        self.why: Why | None = None

    @property
    def closed(self) -> bool:
        """Whether everything is sent."""
        return not self._hold

    def admit(self, now: float) -> Admit:
        """What to do with a request. Each PROBE must be ended by `answered` or `failed`."""
        if not self._hold:
            return Admit.SEND
        if self._probing or now < self._until:
            return Admit.HOLD
        self._probing = True
        return Admit.PROBE

    def answered(self) -> None:
        """Something came back."""
        self._row, self._hold, self._probing, self.why = 0, 0.0, False, None

    def failed(self, now: float, why: Why, *, probe: bool) -> None:
        """Nothing came back. Sends from before the circuit opened that fail later change nothing."""
        if probe:
            self._probing = False
            self._open(now, why, min(2 * self._hold, MOST_SECONDS))
        elif self.closed:
            self._row += 1
            if self._row >= FAILURES_IN_A_ROW:
                self._open(now, why, FIRST_SECONDS)

    def forgone(self) -> None:
        """A probe ended without saying anything of the target; the next request probes."""
        self._probing = False

    def _open(self, now: float, why: Why, seconds: float) -> None:
        self._hold = seconds or FIRST_SECONDS  # a late answer may have closed it while the probe was on its way
        self._until = now + self._hold
        self.why = why
