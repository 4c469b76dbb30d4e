"""What a configuration makes of studies that are in no store: ``convert``, ``explain`` and the Python API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypedDict

from dicom2fhir.config import PatientMode, Settings
from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.mapper import log_finding
from dicom2fhir.fhir.mapping.engine import trace_study
from dicom2fhir.fhir.mapping.rule import Trace
from dicom2fhir.mapped_resources import Mapped
from dicom2fhir.model import InstanceRecord, Note, Study
from dicom2fhir.wiring import options
from dicom2fhir.wiring.explained_rejection import ExplainedRejection, explained_rejection


class ExplainedElement(TypedDict):
    """One rule of the mapping, applied to an instance.

    ``element`` is its path and ``exists`` says whether the FHIR version has it. ``attributes`` are the keywords that
    the rule reads, ``given`` those of them that have a value, ``value`` is what was written (None: nothing),
    and ``rule`` says how.
    """

    element: str
    exists: bool
    attributes: list[str]
    given: list[str]
    value: object
    rule: str


class Explanation(TypedDict):
    """What becomes of an instance: the document of ``dicom2fhir explain --json``.

    ``notes`` say what was left out or replaced (``level``, ``where``, ``text``), ``unclaimed`` why the ImagingStudy
    does not claim its profile, ``rejection_note`` what the instance rejects.
    """

    elements: list[ExplainedElement]
    notes: list[dict[str, str]]
    unclaimed: str
    rejection_note: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class Explained:
    """An instance, mapped, with the result of each rule."""

    mapped: Mapped
    traces: list[Trace]
    rejection: ExplainedRejection | None

    def document(self) -> Explanation:
        """For machines."""
        return {
            "elements": [_explained(trace) for trace in self.traces],
            "notes": [asdict(note) for note in self.mapped.notes],
            "unclaimed": self.mapped.unclaimed,
            "rejection_note": asdict(self.rejection) if self.rejection else None,
        }


def _explained(trace: Trace) -> ExplainedElement:
    return {
        "element": trace.path,
        "exists": trace.element is not None,
        "attributes": list(trace.rule.attributes),
        "given": list(trace.given),
        "value": trace.value,
        "rule": trace.rule.how,
    }


class Translation:
    """The FHIR version, the profile and the mapping that settings choose.

    Parameters
    ----------
    on_finding
        Called with the Study Instance UID and what is wrong with the resources.

    Raises
    ------
    ConfigError
        The profile cannot be used, or does not support the FHIR version.
    """

    def __init__(self, settings: Settings, on_finding: Callable[[str, Note], None] = log_finding) -> None:
        self._settings = settings
        self._profile = options.load_profile(settings.fhir.profile)
        self.dialect = options.dialect(settings.fhir.version, self._profile)
        self._mapper = options.mapper(settings, self._patient, self._profile, on_finding)

    @property
    def _patient(self) -> PatientMode:
        """A Bundle that is not for a certain server has to be complete in itself."""
        return "ensure" if self._settings.fhir.patient == "auto" else self._settings.fhir.patient

    def map(self, study: Study) -> Mapped:
        """The resources of a study.

        Raises
        ------
        NotExpressible
            There are two patients in the study.
        """
        if study.conflict:
            raise NotExpressible(study.conflict)
        return self._mapper.map(study, self.dialect)

    def explain(self, record: InstanceRecord) -> Explained:
        """What becomes of a study of this instance alone."""
        study = assemble(record.study_uid, 1, [record])
        mapped, traces = trace_study(study, self.dialect, options.mapping_options(self._settings, self._patient))
        if self._profile:
            from dicom2fhir.fhir.profile.trace import trace_profile  # here, because it is not needed without a profile

            mapped = self._mapper.conformed(mapped, study, self.dialect)
            traces += trace_profile(self._profile, mapped, study, self.dialect.name)
        return Explained(mapped, traces, explained_rejection(record, self._settings, self.dialect))
