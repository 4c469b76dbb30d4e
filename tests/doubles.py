"""Stand-ins for parts of the way out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Job, Outcome


class FunctionMapper(StudyMapper):
    """Maps as a function says."""

    def __init__(self, function: Callable[[Study, Dialect], Mapped]) -> None:
        super().__init__(MappingOptions())
        self._function = function

    def map(self, study: Study, dialect: Dialect) -> Mapped:
        return self._function(study, dialect)


class OneByOne(ABC):
    """A destination that learns of a study when it is the next one to be delivered."""

    @abstractmethod
    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        """Deliver one study."""

    def deliver_all(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield self.deliver(job.study, job.base, job.again)
