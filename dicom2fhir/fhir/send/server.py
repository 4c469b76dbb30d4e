"""A destination that is a FHIR server: find what it holds, merge, and write what differs in one transaction.

One delivery goes like this:

1. Map the study. The same as last time? Then nothing is sent and the server is not even asked.
2. Look up the ImagingStudy and the other resources (patient, endpoint...) at once: :mod:`dicom2fhir.fhir.send.find`.
   For studies that are delivered one after another this is done before the first of them.
3. Merge what was found with ours, and send what differs in one transaction: :mod:`dicom2fhir.fhir.send.delivery`. A
   conflict means to begin again at 2 for this study alone. A refusal may mean that a linked resource has gone since it
   was looked up: so it is believed the second time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog

from dicom2fhir.errors import (
    Ambiguous,
    EditConflict,
    Misshapen,
    NotExpressible,
    ServerRefused,
    ServerUnavailable,
)
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.creation import Course
from dicom2fhir.fhir.send.delivery import Delivery
from dicom2fhir.fhir.send.find import Lookup, Writing
from dicom2fhir.fhir.send.last_sent import Base, digest
from dicom2fhir.fhir.send.recognition import Recognised, Recognition
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.model import Delivered, Job, Outcome, Refused, Retry, Study

_CONFLICT_TRIES = 7
_CONFLICT_PAUSE_S = 0.05
"""HAPI under eight concurrent writers lets everybody through within 7 tries, 50 ms x try apart."""

log = structlog.get_logger(__name__)


class FhirDestination:
    """Writes studies to one FHIR server. May be used from several threads, for one study by one at a time.

    Parameters
    ----------
    choice
        Which FHIR version is written, by what the server says of itself.
    budget_s
        After this time no further request of a delivery is begun: with the client's ``timeout_s``, the longest that
        :meth:`deliver` takes.
    format_
        Of what is sent; answers are asked for in JSON.
    """

    def __init__(
        self,
        name: str,
        client: FhirClient,
        mapper: StudyMapper,
        choice: DialectChoice,
        *,
        budget_s: float = 240.0,
        format_: Format = "json",
    ) -> None:
        self.name = name
        self._client = client
        self._mapper = mapper
        self._recognition = Recognition(name, client, choice, format_)
        self._budget_s = budget_s
        self._ids_by_server = False
        self._writing = Writing()

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Deliver studies one after another; what the server has of them is looked up at once before the first.

        Each is written by itself, as if it were delivered alone. What somebody else writes after the look-up is an edit
        conflict, as it is when only one study is delivered.
        """
        ahead = self._look_ahead(jobs)
        for job in jobs:
            yield self._deliver(job, ahead.pop(job.study.uid, None))

    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        """Bring the server up to this revision of one study; see :class:`dicom2fhir.model.Job`.

        What the mapper raises is let through, but for NotExpressible.
        """
        return self._deliver(Job(study, base, again), None)

    def _look_ahead(self, jobs: Sequence[Job]) -> dict[str, Delivery]:
        """Begin deliveries by UID, as far as that goes well; what goes wrong is told when it is their turn."""
        begun: dict[str, Delivery] = {}
        if len(jobs) < 2:
            return begun
        try:
            server = self._recognition.server()
            for job in jobs:
                if not job.study.conflict:
                    begun[job.study.uid] = self._begin(job, server)
            lookup = Lookup(self._client, time.monotonic() + self._client.timeout_s, server.batches)
            lookup.prepare([one for delivery in begun.values() if delivery.is_due for one in delivery.wanted()])
        except Exception:  # whatever it is, the delivery that it belongs to meets it again
            return begun
        for delivery in begun.values():
            delivery.lookup.know(lookup)
        return begun

    def _begin(self, job: Job, server: Recognised) -> Delivery:
        mapped = self._mapper.map(job.study, server.dialect)
        last = Base.from_bytes(job.base, server.dialect.name)
        now = digest(mapped)
        return Delivery(
            destination=self.name,
            client=self._client,
            server=server,
            mapped=mapped,
            digest=now,
            is_due=job.again or last.digest != now,
            last=last,
            lookup=Lookup(self._client, time.monotonic() + self._budget_s, server.batches),
            course=Course(ids_by_server=self._ids_by_server, looks_again=job.again),
        )

    def _deliver(self, job: Job, begun: Delivery | None) -> Outcome:
        if job.study.conflict:
            return Refused((job.study.conflict,), answered=False)
        try:
            server = self._recognition.server()
            if begun is None or begun.server is not server:
                begun = self._begin(job, server)
            if not begun.is_due:
                mapped = begun.mapped
                unlinked = begun.last.unlinked(mapped)
                return Delivered(job.base, False, mapped.fingerprint, answered=False, unlinked=unlinked)
            begun.lookup.deadline = time.monotonic() + self._budget_s
            return self._try_until_settled(begun)
        except ServerUnavailable as error:  # NotAuthorised too
            self._recognition.forget()
            return Retry(str(error), error.after_s, not error.alive, unclear=error.unclear, issues=error.issues)
        except EditConflict as error:
            return Retry(str(error), issues=error.issues)
        except ServerRefused as error:
            return Refused(error.issues)
        except (Ambiguous, Misshapen) as error:
            return Refused((str(error), *error.issues))
        except NotExpressible as error:
            return Refused((str(error),), answered=False)

    def _try_until_settled(self, delivery: Delivery) -> Delivered:
        course = delivery.course
        conflicts = 0
        refusal: ServerRefused | None = None
        while True:
            try:
                delivered = self._try_once(delivery)
            except EditConflict:
                conflicts += 1
                course.failures += 1
                if conflicts == _CONFLICT_TRIES:
                    raise
                time.sleep(_CONFLICT_PAUSE_S * conflicts * (1 + random.random()))  # noqa: S311 (no secret)
            except ServerRefused as error:
                delivery.server.shared.clear()
                # one that could not be looked up again may be what is refused
                delivery.last = replace(delivery.last, links={})
                course.failures += 1
                if course.ids_by_server and refusal:
                    raise refusal from error
                if refusal and not course.guessed_ids:
                    raise
                course.ids_by_server = course.ids_by_server or refusal is not None
                refusal = error
            else:
                if course.ids_by_server and not self._ids_by_server:
                    self._ids_by_server = True
                    log.warning("server.ids_refused", destination=self.name)
                return delivered
            delivery.lookup.forget()

    def _try_once(self, delivery: Delivery) -> Delivered:
        alone = delivery.shared()
        while True:
            with self._writing.hold(alone, delivery.lookup.deadline):
                plan = delivery.plan()
                if plan.missing() <= alone:
                    return delivery.carry_out(plan)
            alone |= plan.missing()  # gone, or forgotten meanwhile: somebody may be creating it just now
            delivery.lookup.forget()
