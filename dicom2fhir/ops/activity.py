"""What comes and goes, as one event for each change of a study, attempt of a delivery, and refusal on reception.

It is read from the store, so that it needs nothing of the daemon. It contains no patient data, except
:attr:`Event.answer`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from dicom2fhir.store.statuses import Rejection
from dicom2fhir.store.study_search import FoundStudy, Position, StudyAttempt, StudyFilter
from dicom2fhir.system.text import counted

_AT_ONCE = 200
"""Events of each kind that one look shows; more than happens within a second."""
_REMEMBERED = 10_000
"""Studies whose numbers are kept between looks. A change of another one shows all of its instances as new."""
_COMMIT_S = 5.0
"""An event may become visible this long after its time: its transaction waited for others."""

EventKind = Literal["received", "written", "unchanged", "failed", "refused", "excluded", "rejected"]
"""``rejected``: an instance or a file that was not stored. The others but ``received`` are ends of deliveries."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of ``tail``.

    Attributes
    ----------
    at
        Seconds since the epoch.
    study_uid, destination
        Empty where they do not apply.
    text
        What happened, without patient data.
    answer
        The words of the destination; may contain patient data.
    """

    at: float
    kind: EventKind
    study_uid: str
    destination: str
    text: str
    answer: str = ""


class ActivitySource(Protocol):
    """What is read from the store."""

    def find_studies(self, wanted: StudyFilter, after: Position | None = None, limit: int = 50) -> Sequence[FoundStudy]:
        """Studies, latest change first."""

    def recent_attempts(self, since: float, limit: int = 100) -> Sequence[StudyAttempt]:
        """The latest attempts, newest first."""

    def rejections(self, limit: int = 100) -> Sequence[Rejection]:
        """The latest refusals, newest first."""


class Activity:
    """The events since the last look.

    The first look gives the last change of each of the latest studies, as there is no earlier state to compare with.
    """

    def __init__(self, store: ActivitySource) -> None:
        self._store = store
        self._instances: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Study Instance UID -> revision and instances when it was seen last; the one seen longest ago is first."""
        self._shown: set[object] = set()
        """Attempts and rejections of the last look; the next one finds some of them again."""
        self._since = 0.0

    def look(self) -> list[Event]:
        """The events since the last look, oldest first."""
        studies = [
            event for one in self._store.find_studies(StudyFilter(), limit=_AT_ONCE) for event in self._seen(one)
        ]
        attempts = self._store.recent_attempts(self._since, _AT_ONCE)
        rejections = self._store.rejections(_AT_ONCE)
        new_attempts = [_of_attempt(one) for one in attempts if one not in self._shown]
        new_rejections = [_of_rejection(one) for one in rejections if one not in self._shown]
        self._shown = {*attempts, *rejections}
        self._since = max((one.attempt.at for one in attempts), default=self._since + _COMMIT_S) - _COMMIT_S
        return sorted([*studies, *new_attempts, *new_rejections], key=lambda event: event.at)

    def _seen(self, found: FoundStudy) -> Iterator[Event]:
        """What has arrived of a study since it was seen last."""
        study = found.status
        revision, instances = self._instances.get(study.study_uid, (-1, 0))
        self._instances[study.study_uid] = study.revision, study.instances
        self._instances.move_to_end(study.study_uid)
        if len(self._instances) > _REMEMBERED:
            self._instances.popitem(last=False)
        if study.revision == revision:
            return
        more = study.instances - instances
        news = f"+{counted(more, 'instance')}" if more > 0 else "changed"
        held = f"{counted(study.instances, 'instance')} in {counted(study.series, 'series')}"
        modalities = "/".join(found.modalities)
        sources = ", ".join((*found.calling_ae_titles, *found.folders))
        origin = f"from {sources}" if sources else ""
        text = "  ".join(part for part in (modalities, f"{news} ({held})", origin) if part)
        yield Event(study.last_at, "received", study.study_uid, "", text)


def _of_attempt(found: StudyAttempt) -> Event:
    one = found.attempt
    times = f" ({counted(one.times, 'time')})" if one.times > 1 else ""
    text = f"revision {one.revision}{times}"
    return Event(one.at, one.outcome.value, found.study_uid, one.destination, text, one.answer)


def _of_rejection(one: Rejection) -> Event:
    origin = one.origin
    where = "a file" if origin.path else f"from {origin.calling_ae}@{origin.peer}"
    return Event(one.at, "rejected", "", "", f"{where}  {one.kind or 'unknown kind'}", one.reason)
