"""The promises, checked from outside: nothing acknowledged is lost, nothing is there twice, nothing is invented.

Knows DICOM's UIDs and FHIR's ImagingStudy (R4 and later), and nothing of the program under test.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_STUDY_UID_SYSTEM = "urn:dicom:uid"
_SHOWN = 5
"""Examples in a message."""


class Instance(NamedTuple):
    """A SOP instance, by the UIDs that tell it from others."""

    study: str
    series: str
    uid: str


class Ledger:
    """What was sent and what was acknowledged, written to a file as it happens.

    May be used by several threads.

    Attributes
    ----------
    sent
        It grows while others send, because what is kept is compared with what was sent until then.
    """

    def __init__(self, path: Path) -> None:
        self.sent: set[Instance] = set()
        self._acknowledged: set[Instance] = set()
        self._path = path
        self._lock = threading.Lock()

    @property
    def acknowledged(self) -> frozenset[Instance]:
        """What has been answered with Success (0000), or taken from a watched folder that removes what it has taken.

        As it is now, because what is kept is read later: an instance that is acknowledged meanwhile would seem lost.
        """
        with self._lock:
            return frozenset(self._acknowledged)

    @property
    def acknowledgements(self) -> int:
        """The number of :attr:`acknowledged`."""
        return len(self._acknowledged)

    def send(self, instance: Instance) -> None:
        """Note an instance before it is sent."""
        self._note(self.sent, "sent", instance)

    def acknowledge(self, instance: Instance) -> None:
        """Note an instance whose sender need not send it again."""
        self._note(self._acknowledged, "acknowledged", instance)

    def _note(self, instances: set[Instance], what: str, instance: Instance) -> None:
        with self._lock:
            instances.add(instance)
            with self._path.open("a") as file:
                file.write(json.dumps([what, *instance]) + "\n")


def instances_of(study: dict[str, Any]) -> list[Instance]:
    """The instances that an ImagingStudy lists."""
    return [
        Instance(_study_uid(study), series["uid"], instance["uid"])
        for series in study.get("series", [])
        for instance in series.get("instance", [])
    ]


def breaches(
    *,
    sent: Iterable[Instance],
    acknowledged: Iterable[Instance],
    delivered: Iterable[dict[str, Any]] = (),
    stored: Iterable[Instance] = (),
    refused: Iterable[Instance] = (),
) -> list[str]:
    """What does not hold; empty when all does.

    Parameters
    ----------
    sent
        Every instance that was sent, whether an answer came or not.
    acknowledged
        Those whose senders were told Success.
    delivered
        Every ImagingStudy that the FHIR server holds.
    stored
        What the bridge keeps, as its rows are: an instance that is there twice is listed twice.
    refused
        What was put before a person.
    """
    studies, kept = list(delivered), list(stored)
    listed = [instance for study in studies for instance in instances_of(study)]
    there = {*listed, *kept, *refused}
    return [
        *_told("acknowledged and lost", set(acknowledged) - there),
        *_told("never sent", there - set(sent)),
        *_told("several ImagingStudy resources for the study", _repeated(map(_study_uid, studies))),
        *_told("listed twice", _repeated(listed)),
        *_told("stored twice", _repeated(kept)),
        *(breach for study in studies for breach in _wrong_counts(study)),
    ]


def check(
    *,
    sent: Iterable[Instance],
    acknowledged: Iterable[Instance],
    delivered: Iterable[dict[str, Any]] = (),
    stored: Iterable[Instance] = (),
    refused: Iterable[Instance] = (),
) -> None:
    """Fail with all :func:`breaches`."""
    found = breaches(sent=sent, acknowledged=acknowledged, delivered=delivered, stored=stored, refused=refused)
    assert not found, "\n".join(found)


def _study_uid(study: dict[str, Any]) -> str:
    uids = [one["value"] for one in study.get("identifier", []) if one.get("system") == _STUDY_UID_SYSTEM]
    return uids[0].removeprefix("urn:oid:") if len(uids) == 1 else f"{len(uids)} Study Instance UIDs"


def _repeated(values: Iterable[Any]) -> set[Any]:
    return {value for value, count in Counter(values).items() if count > 1}


def _wrong_counts(study: dict[str, Any]) -> Iterator[str]:
    series = study.get("series", [])
    right = {
        "numberOfSeries": len(series),
        "numberOfInstances": sum(len(one.get("instance", [])) for one in series),
    }
    for name, count in right.items():
        if study.get(name) != count:
            yield f"{name} of {_study_uid(study)} is {study.get(name)} and should be {count}"
    for one in series:
        if one.get("numberOfInstances") != len(one.get("instance", [])):
            yield f"numberOfInstances of the series {one['uid']} is {one.get('numberOfInstances')}"
    for uid in _repeated(one["uid"] for one in series):
        yield f"the series {uid} stands twice in {_study_uid(study)}"


def _told(what: str, found: set[Any]) -> Iterator[str]:
    if found:
        yield f"{what}: {len(found)}, such as {sorted(found)[:_SHOWN]}"
