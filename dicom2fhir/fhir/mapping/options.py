"""The operator's settings for the mapping.

Apart from the mapping itself, because the configuration declares them, and every command loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.mapped_resources import Write

Choice = Literal["auto", "always", "never"]
Switch = Literal["always", "never"]
IfOffered = Literal["auto", "never"]
"""``auto``: to servers whose capabilities list the resource type."""


@dataclass(frozen=True, slots=True)
class MappingOptions:
    """The operator's settings for the mapping.

    Attributes
    ----------
    time_zone
        For dates and times without (0008,0201) Timezone Offset From UTC; None: such times are left out, dates stay.
    patient
        How the Patient is written.
    linked
        Which of ``order`` and ``encounter`` are looked up on the server; the reference is literal if exactly one is
        found.
    referenced
        Resource types among Practitioner, Organization, Location and Device that become separate resources if they
        have an identifier; all others are contained in the ImagingStudy.
    dicomweb_url
        Base URL of the archive's DICOMweb service, for an Endpoint; empty: none.
    retrieve_location_uid
        Of the archive, for profiles (0040,E011); empty: not known.
    viewer_url
        URL that opens a study in a web viewer, with ``{study_uid}`` or ``{accession}``; empty: none.
    availability
        Instance Availability of instances without one; None: left out.
    accession_identifier
        Whether the study's ``identifier`` also contains its accession numbers from R5 on, where ``basedOn`` has them.
    max_instances
        Studies with more instances than this are written without instance lists; None: never.
    embed_documents
        Longest encapsulated document in bytes whose content is written; 0: none.
    key_objects
        Whether resources for key objects are written: if the version has a resource of its own for them (``auto``),
        also as a Basic (``always``), or not.
    documents
        Whether a DocumentReference is written for each encapsulated document.
    diagnostic_reports
        Whether a DiagnosticReport is written for each encapsulated document that is a verified report.
    ian
        Whether what archives state of instances in Instance Availability Notifications is written.
    rejection_notes
        Whether what rejection notes took out of a study is left out.
    dose_reports
        Whether Observations for radiation dose reports are written, from R4 on.
    measurements
        Whether Observations for measurement reports are written, from R4 on, and from R5 on ImagingSelections for what
        was measured.
    procedures
        Whether a Procedure is written for each procedure step, from STU3 on.
    """

    time_zone: ZoneInfo | None = None
    systems: NamingSystems = field(default_factory=NamingSystems)
    patient: Write = Write.LINK
    linked: frozenset[str] = frozenset()
    referenced: frozenset[str] = frozenset()
    dicomweb_url: str = ""
    endpoint_name: str = "DICOMweb"
    retrieve_location_uid: str = ""
    viewer_url: str = ""
    availability: str | None = None
    accession_identifier: bool = False
    max_instances: int | None = None
    embed_documents: int = 0
    key_objects: Choice = "auto"
    documents: IfOffered = "auto"
    diagnostic_reports: IfOffered = "never"
    ian: Switch = "always"
    rejection_notes: Switch = "always"
    dose_reports: IfOffered = "auto"
    measurements: IfOffered = "never"
    procedures: IfOffered = "never"

    def of(self, name: str) -> str:
        """The value of an option of the archive by its name in the configuration (``pacs.dicomweb_url``)."""
        value: str = getattr(self, name.removeprefix("pacs."))
        return value
