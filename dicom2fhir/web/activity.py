"""What was received and delivered in the last 24 hours, as a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom2fhir.ops.daemon_state import DiskState
from dicom2fhir.ops.status import moment
from dicom2fhir.store.study_search import MinuteCounts, StudySearch
from dicom2fhir.system.text import counted

_HOUR_S = 3600.0
_HOURS = 24
_STEP = 20
"""Width of an hour."""
_HEIGHT = 96


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart."""

    kind: str
    x: int
    y: int
    width: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Day:
    """Sums of the last hour and day; ``bars`` are scaled to the largest hour of their kind."""

    received_hour: int
    received_day: int
    delivered_hour: int
    delivered_day: int
    most_received: int
    most_delivered: int
    bars: Sequence[Bar]


def activity(store: StudySearch, now: float) -> Day:
    """The last 24 hours."""
    received, delivered = [0] * _HOURS, [0] * _HOURS
    for minute in store.counts(now - _HOURS * _HOUR_S):
        hour = _hour_of(minute, now)
        received[hour] += minute.received
        delivered[hour] += minute.delivered
    most_received, most_delivered = max(received), max(delivered)
    bars = [
        *_bars("received", "instance", received, most_received, now, 1),
        *_bars("sent", "study", delivered, most_delivered, now, _STEP // 2),
    ]
    return Day(received[-1], sum(received), delivered[-1], sum(delivered), most_received, most_delivered, bars)


def full_in_days(disk: DiskState, store_bytes: int, instances: int, received_day: int) -> float | None:
    """Days until reception stops for lack of space, if the store goes on to grow as in the last 24 hours.

    Parameters
    ----------
    store_bytes, instances
        Size of the store and what is in it: what one instance takes, on average.
    received_day
        Instances that were received in the last 24 hours.

    Returns
    -------
    float | None
        None if the store does not grow. Other users of the disk are not considered.
    """
    a_day = store_bytes * received_day / instances if instances else 0
    return max(disk.free_bytes - disk.min_free_bytes, 0) / a_day if a_day else None


def _hour_of(minute: MinuteCounts, now: float) -> int:
    """The last hour is the last one; a clock that was set back makes no other."""
    ago = int((now - minute.at) // _HOUR_S)
    return _HOURS - 1 - min(max(ago, 0), _HOURS - 1)


def _bars(kind: str, noun: str, hours: Sequence[int], most: int, now: float, offset: int) -> Iterator[Bar]:
    for number, count in enumerate(hours):
        if count:
            height = max(_HEIGHT * count // most, 1)
            begin = moment(now - (_HOURS - number) * _HOUR_S)
            title = f"{counted(count, noun)} in the hour from {begin}"
            yield Bar(kind, number * _STEP + offset, _HEIGHT + 3 - height, _STEP // 2 - 2, height, title)
