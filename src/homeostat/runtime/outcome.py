"""How one reconcile ended, for the queue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to do until something changes."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Look again after this time, also when nothing changes."""

    seconds: float


Outcome = Done | RequeueAfter
