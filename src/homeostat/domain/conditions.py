"""Conditions as Kubernetes defines them; changing one is a pure function."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

MESSAGE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: `reason` in CamelCase, `message` one sentence with numbers, `last_transition_time` aware UTC."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int | None = None


def with_condition(old: tuple[Condition, ...], new: Condition) -> tuple[Condition, ...]:
    """`old` with `new` in its type's place, sorted by type.

    Keeps the last transition time while `status` stays. Returns `old` itself when nothing changed, so
    "was there a change" is `is`, not a deep compare. A message over 4,096 characters is cut.
    """
    if len(new.message) > MESSAGE_LIMIT:
        new = replace(new, message=new.message[: MESSAGE_LIMIT - 1] + "…")
    last = next((c for c in old if c.type == new.type), None)
    if last is not None and last.status == new.status:
        new = replace(new, last_transition_time=last.last_transition_time)
    if new == last:
        return old
    return tuple(sorted((*(c for c in old if c.type != new.type), new), key=lambda c: c.type))
