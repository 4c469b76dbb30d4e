"""Points in time, and the day of a DICOM time (TM) that has no date.

If the time zone is not known, a moment is a local time. Moments of one data set can be compared in both cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo

from dicom2fhir.fhir.version.datatypes import date_time, date_time_of_dt


def moment(da: str, tm: str, zone: tzinfo | None) -> datetime | None:
    """DA and TM; None unless both the day and the time are known."""
    return _parsed(date_time(da, tm, zone or UTC), zone)


def moment_of_dt(dt: str, zone: tzinfo | None) -> datetime | None:
    """DT; None unless it includes a time."""
    return _parsed(date_time_of_dt(dt, zone or UTC), zone)


def _parsed(text: str | None, zone: tzinfo | None) -> datetime | None:
    if text is None or "T" not in text:
        return None
    found = datetime.fromisoformat(text)
    try:
        return found.astimezone(zone) if zone else found.replace(tzinfo=None)
    except OverflowError:
        return None


def is_before(first: str, second: str) -> bool:
    """Whether one ``dateTime`` is before another, in the precision that both have."""
    if "T" in first and "T" in second:
        return datetime.fromisoformat(first) < datetime.fromisoformat(second)
    precise = min(len(first), len(second), len("2024-03-11"))
    return first[:precise] < second[:precise]


def earliest(found: Iterable[str | None]) -> str | None:
    """The earliest of several ``dateTime`` values."""
    first = None
    for text in sorted(filter(None, found)):
        if first is None or is_before(text, first):
            first = text
    return first


def day_until(tm: str, last: datetime, lasting_s: float = 0) -> str:
    """The day (DA) of a time of day at most 24 hours before ``last`` (or its end, ``lasting_s`` later).

    Parameters
    ----------
    lasting_s
        Duration of the event that starts at ``last``.

    Returns
    -------
    str
        Empty if the calendar has no such day.
    """
    try:
        last += timedelta(seconds=lasting_s)
    except OverflowError:
        return ""
    same = _on_day_of(last, tm, "00")
    return _day(last, -1) if same and same > last else _day(last)


def day_from(tm: str, first: datetime) -> str:
    """The day (DA) of a time of day at most 12 hours after ``first``; empty if the nearest one is before ``first``."""
    same = _on_day_of(first, tm, "59")
    if not same or same >= first:
        return _day(first)
    return _day(first, 1) if first - same > timedelta(hours=12) else ""


def _on_day_of(day: datetime, tm: str, minute: str) -> datetime | None:
    """A time of day; an hour without minutes (PS3.5 table 6.2-1) is its first minute as a start, its last as an end."""
    return moment(_day(day), f"{tm}{minute}" if len(tm) == 2 else tm, day.tzinfo)


def _day(of: datetime, days: int = 0) -> str:
    try:
        return (of.date() + timedelta(days)).isoformat().replace("-", "")
    except OverflowError:
        return ""
