"""A destination that is a FHIR server: look up resources, merge, and write the changes in one transaction.

The steps of a delivery:

1. Map the study. If the result is the same as last time, nothing is sent and nothing is looked up.
2. Look up the ImagingStudy and the other resources (Patient, Endpoint...) in one batch:
   :mod:`dicom2fhir.fhir.send.find`. For studies that are delivered one after another, this is done once before the
   first of them.
3. Merge them with ours, and send the changes in one transaction: :mod:`dicom2fhir.fhir.send.delivery`. After a
   conflict, repeat from step 2 for this study only. A refusal counts only the second time: a linked resource may have
   been deleted since the look-up.
4. The same for the secondary resources of the study: :mod:`dicom2fhir.fhir.send.study_delivery`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from dicom2fhir.errors import (
    Ambiguous,
    BridgeError,
    BridgeFault,
    EditConflict,
    Misshapen,
    NotAuthorised,
    NotExpressible,
    NothingToWrite,
    ServerRefused,
    ServerUnavailable,
    log_fields,
)
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.creation import Course
from dicom2fhir.fhir.send.delivery import Delivery, Written
from dicom2fhir.fhir.send.find import Lookup, Writing
from dicom2fhir.fhir.send.last_sent import Base, digest
from dicom2fhir.fhir.send.recognition import Recognised, Recognition
from dicom2fhir.fhir.send.study_delivery import Part, StudyDelivery
from dicom2fhir.fhir.send.unsettled import Unsettled
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Job, Outcome, Refused, Retry, Withheld

_CONFLICT_TRIES = 7
_CONFLICT_PAUSE_S = 0.05
"""With eight concurrent writers, HAPI accepts all of them within 7 tries, 50 ms x try apart."""

log = structlog.get_logger(__name__)


class FhirDestination:
    """Writes studies to one FHIR server; thread-safe, but a study must be delivered by one thread at a time.

    Parameters
    ----------
    choice
        Selects the FHIR version, from the server's capabilities.
    budget_s
        After this time a delivery starts no further request: together with the client's ``timeout_s``, the maximum
        duration of :meth:`deliver`.
    format_
        Format of requests; answers are requested in JSON.
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
        self._unsettled = Unsettled()

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Deliver studies one after another; their resources are looked up in one batch before the first.

        Each study is written separately, as if it were delivered alone. A write by another client after the look-up is
        an edit conflict, as in the delivery of a single study.
        """
        ahead = self._look_ahead(jobs)
        for job in jobs:
            yield self._deliver(job, ahead.pop(job.study.uid, None))

    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        """Bring the server up to this revision of one study; see :class:`dicom2fhir.outcomes.Job`.

        Exceptions of the mapper are passed on, except NotExpressible and NothingToWrite.
        """
        return self._deliver(Job(study, base, again), None)

    def _look_ahead(self, jobs: Sequence[Job]) -> dict[str, StudyDelivery]:
        """Begin deliveries, by UID, and look up their resources together.

        A failure is not raised here: a delivery that was not begun, or lacks an answer, meets it in its turn.
        """
        begun: dict[str, StudyDelivery] = {}
        if len(jobs) < 2:
            return begun
        try:
            server = self._recognition.server()
            for job in jobs:
                if not job.study.conflict:
                    with suppress(NothingToWrite):
                        begun[job.study.uid] = self._begin(job, server)
        except Exception:  # the delivery that it belongs to raises it again
            return begun
        lookup = Lookup(self._client, time.monotonic() + self._client.timeout_s, server.batches)
        try:
            lookup.prepare([one for delivery in begun.values() if delivery.is_due for one in delivery.wanted_ahead()])
        except BridgeError:
            return begun
        except Exception as error:  # a delivery alone may not meet it, and nobody would learn of it
            log.error("server.batch_failed", destination=self.name, **log_fields(BridgeFault(error)))
            return begun
        for delivery in begun.values():
            delivery.lookup.know(lookup)
        return begun

    def _begin(self, job: Job, server: Recognised) -> StudyDelivery:
        mapped = self._mapper.map(job.study, server.dialect)
        last = Base.from_bytes(job.base, server.dialect.name)
        now = digest(mapped)
        return StudyDelivery(
            destination=self.name,
            client=self._client,
            server=server,
            mapped=mapped,
            digest=now,
            is_due=job.again or last.digest != now or "ImagingStudy" in last.unlinked(mapped),
            last=last,
            lookup=Lookup(self._client, time.monotonic() + self._budget_s, server.batches),
            course=Course(self._unsettled, ids_by_server=self._ids_by_server, looks_again=job.again),
            is_late_part=job.study.is_late_part,
        )

    def _deliver(self, job: Job, begun: StudyDelivery | None) -> Outcome:
        if job.study.conflict:
            return Refused((job.study.conflict,), answered=False)
        try:
            server = self._recognition.server()
            if begun is None or begun.server is not server:
                begun = self._begin(job, server)
            if not begun.is_due:
                return begun.unchanged(job.base)
            begun.lookup.deadline = time.monotonic() + self._budget_s
            self._settle(begun, begun.main())
            self._settle_secondary(begun)
            return begun.delivered()
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
        except NothingToWrite as error:
            return Withheld(str(error))

    def _settle(self, study: StudyDelivery, delivery: Delivery) -> None:
        study.record(delivery, self._try_until_settled(delivery))

    def _settle_secondary(self, study: StudyDelivery) -> None:
        """Deliver the secondary resources together; if that is refused, one by one without those that are refused."""
        study.refused += study.not_offered()
        parts = study.parts()
        if len(parts) > 1:
            if self._refusal(study, parts) is None:
                return
            study.lookup.forget()
        for part in parts:
            if error := self._refusal(study, [part]):
                self._leave_out(study, part, error)

    def _refusal(self, study: StudyDelivery, parts: list[Part]) -> BridgeError | None:
        """Deliver secondary resources; why the server refuses them, or None."""
        try:
            self._settle(study, study.secondary(parts))
        except (ServerRefused, Ambiguous, Misshapen) as error:
            return error
        except NotAuthorised as error:
            if not error.unclear:
                raise  # the credentials, not the resources
            return error
        except ServerUnavailable as error:
            # it has just accepted the ImagingStudy, so it is up
            error.alive = error.alive or (study.is_main_written and error.unclear)
            raise
        return None

    def _leave_out(self, study: StudyDelivery, part: Part, error: BridgeError) -> None:
        resource_type = part[0].resource["resourceType"]
        said = dict.fromkeys((str(error), *error.issues))
        study.refused.append(f"{resource_type}: {'; '.join(said)}")
        log.warning("resource.refused", destination=self.name, type=resource_type, kind=error.kind)

    def _try_until_settled(self, delivery: Delivery) -> Written:
        course = delivery.course
        conflicts = 0
        refusal: ServerRefused | None = None
        while True:
            try:
                written = self._try_once(delivery)
            except EditConflict:
                conflicts += 1
                course.failures += 1
                if conflicts == _CONFLICT_TRIES:
                    raise
                time.sleep(_CONFLICT_PAUSE_S * conflicts * (1 + random.random()))  # noqa: S311 (no secret)
            except ServerRefused as error:
                delivery.server.shared.clear()
                # a linked resource that could not be looked up may be the reason of the refusal
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
                return written
            delivery.lookup.forget()

    def _try_once(self, delivery: Delivery) -> Written:
        alone = delivery.shared()
        while True:
            with self._writing.hold(alone, delivery.lookup.deadline):
                plan = delivery.plan()
                if plan.missing() <= alone:
                    return delivery.carry_out(plan)
            alone |= plan.missing()  # deleted, or discarded meanwhile: another thread may be creating it
            delivery.lookup.forget()
