"""A destination that is a directory: one transaction Bundle per study revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom2fhir.errors import NotExpressible, NothingToWrite
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.send.bundle import standalone
from dicom2fhir.fhir.send.last_sent import Base, digest
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.fhir.version.formats import Format, dump
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Job, Outcome, Refused, Retry, Withheld
from dicom2fhir.system.durable import make_directory, replacing

_LATE_PART = (
    "the store has forgotten earlier instances of this study, and a file with the late ones alone would be taken for"
    " the whole; run `dicom2fhir forget` for this study, then have all of it sent again"
)


class FileDestination:
    """Writes ``<id of the ImagingStudy>.<revision>.json`` or ``.xml``; a reader never sees an incomplete file.

    Parameters
    ----------
    directory
        Created if it does not exist, for the owner only: the files contain patient data.
    dialect
        The FHIR version that is written.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        mapper: StudyMapper,
        dialect: Dialect,
        format_: Format = "json",
    ) -> None:
        self.name = name
        self._directory = directory
        self._mapper = mapper
        self._dialect = dialect
        self._format = format_

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Deliver studies one after another."""
        for job in jobs:
            yield self.deliver(job.study, job.base, job.again)

    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        """Write the study, unless ``base`` shows that the same was written before and ``again`` is False."""
        if study.conflict:
            return Refused((study.conflict,), answered=False)
        if study.is_late_part:
            return Refused((_LATE_PART,), answered=False)
        try:
            mapped = self._mapper.map(study, self._dialect)
        except NotExpressible as error:
            return Refused((str(error),), answered=False)
        except NothingToWrite as error:
            return Withheld(str(error))
        remote_id = str(mapped.entries[0].resource["id"])
        last = Base.from_bytes(base, self._dialect.name)
        retracted = last.retractions(mapped)
        own = [*(one.entries[0].resource for one in mapped.secondary), *(entry.resource for entry in retracted)]
        written = [entry.resource for entry in mapped.everything if entry.write is not Write.LINK]
        now = Base(
            remote_id,
            digest(mapped),
            {resource["id"]: resource for resource in (*written, *own)},
            self._dialect.name,
            secondary={resource["id"]: resource["id"] for resource in own},
        )
        if last.digest == now.digest and not again:
            return Delivered(base, False, mapped.fingerprint, answered=False, unclaimed=mapped.unclaimed)
        try:
            content = dump(standalone(mapped, retracted), self._dialect.name, self._format)
            make_directory(self._directory, 0o700)
            target = self._directory / f"{remote_id}.{study.revision}.{self._format}"
            # The same name for all revisions: a study has one writer at a time; a crash leaves at most one such file.
            with replacing(target, f".{remote_id}.tmp") as file:
                file.write(content)
        except NotExpressible as error:
            return Refused((str(error),), answered=False)
        except OSError as error:
            reason = (
                f"{self._directory} cannot be written to: {error.strerror}; check that it exists, and its permissions"
            )
            return Retry(reason, whole_destination=True)
        return Delivered(now.to_bytes(), fingerprint=mapped.fingerprint, unclaimed=mapped.unclaimed)
