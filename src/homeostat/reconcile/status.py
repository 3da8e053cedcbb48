"""From status models to what is patched."""

from collections.abc import Iterable
from typing import Any

from homeostat.api.base import ApiModel
from homeostat.api.meta import ConditionStatus, format_instant, parse_instant
from homeostat.domain.conditions import Condition


def read_conditions(statuses: Iterable[ConditionStatus]) -> tuple[Condition, ...]:
    """The conditions of a status, for `with_condition`."""
    return tuple(
        Condition(s.type, s.status, s.reason, s.message, parse_instant(s.last_transition_time), s.observed_generation)
        for s in statuses
    )


def written_conditions(conditions: Iterable[Condition]) -> tuple[ConditionStatus, ...]:
    """The conditions as a status holds them."""
    return tuple(
        ConditionStatus(
            type=c.type,
            status=c.status,
            reason=c.reason,
            message=c.message,
            last_transition_time=format_instant(c.last_transition_time),
            observed_generation=c.observed_generation,
        )
        for c in conditions
    )


def status_patch(old: ApiModel, new: ApiModel) -> dict[str, Any]:
    """The merge patch that makes `old` into `new`: all of `new`, and null for keys that it no longer has.

    Equal to `old.to_json()` when nothing changed.
    """
    return _merged(old.to_json(), new.to_json())


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        patch[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return patch
