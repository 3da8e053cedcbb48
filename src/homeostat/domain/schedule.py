"""When a schedule is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from homeostat.api.meta import parse_instant


@dataclass(frozen=True, slots=True)
class Due:
    """The schedule now. at: the next (or the missed) time, None without a schedule. problem: why it cannot be read."""

    at: datetime | None = None
    problem: str = ""


def next_time(schedule: str, zone: str, after: datetime) -> Due:
    """The first time of `schedule` in `zone` that is later than `after`, in UTC. Total: what cannot be read is a problem."""
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Due(problem=f"spec.timeZone {zone!r} is no IANA time zone: use a name such as Europe/Berlin")
    try:
        found = next(CronSim(schedule, after.astimezone(place)))
    except (CronSimError, StopIteration) as error:
        fix = "write five fields, for example `0 3 * * 1`"
        return Due(problem=f"spec.schedule {schedule!r} is no time that comes: {error or 'never'}; {fix}")
    return Due(found.astimezone(UTC))


def due(schedule: str | None, zone: str, stored: str | None, now: datetime) -> Due:
    """The time to wait for (or that was missed: in the past). stored: `status.nextScheduleTime`.

    A stored time that is none of this schedule (it was changed) counts for nothing, so a new schedule never runs at once;
    times missed while nobody looked are made up by one run.
    """
    if schedule is None:
        return Due()
    if stored is not None:
        try:
            kept = parse_instant(stored)
        except ValueError:
            kept = None
        if kept is not None and next_time(schedule, zone, kept - timedelta(seconds=1)).at == kept:
            return Due(kept)
    return next_time(schedule, zone, now)
