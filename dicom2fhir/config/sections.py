"""The sections of the configuration and their options.

``Field(description=...)`` is the only place where an option is documented; ``config.example.toml`` is made from it.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dicom2fhir.config import value_types
from dicom2fhir.config.locations import state_directory
from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.fhir.mapping.options import Choice, IfOffered, MappingOptions, Switch
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.fhir.version.names import FhirVersion
from dicom2fhir.fhir.version.validate import ValidationMode
from dicom2fhir.ops.log_names import LogFormat, LogLevel
from dicom2fhir.store.options import (
    DEFAULT_MAX_WAIT_S,
    DEFAULT_MIN_FREE_BYTES,
    DEFAULT_QUIET_PERIOD_S,
    DEFAULT_SEAL_AFTER_S,
)

PatientMode = Literal["link", "ensure", "upsert"]
Containment = Literal["contained", "referenced"]
LinkMode = Literal["link", "identifier"]
SecondsOrOff = Annotated[
    Annotated[float, Field(gt=0, le=86_400 * 3_660)] | None,
    BeforeValidator(lambda value: None if value == "off" else value),
]

_MAPPING, _RETRY = MappingOptions(), RetryPolicy()
"""Their fields declare the defaults."""


class SettingsTable(BaseModel):
    """A table of options: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false where a number belongs; pydantic takes them for 1 and 0."""
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class StoreSettings(SettingsTable):
    """``[store]``."""

    directory: value_types.LocalPath = Field(
        default_factory=lambda: state_directory(os.environ),
        description="Folder of the store, on a local disk. Default: $STATE_DIRECTORY (set by systemd); otherwise"
        " /var/lib/dicom2fhir, the service's, for every command that reads /etc/dicom2fhir/config.toml;"
        " otherwise ~/.local/state/dicom2fhir.",
        examples=["/var/lib/dicom2fhir"],
    )
    url: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL database that several daemons share, instead of directory (extra postgres; see"
        " docs/scale.md): postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Prefer a credential. All daemons need the same"
        " [store] and [destinations].",
        examples=["postgresql://dicom2fhir@db.example.org/dicom2fhir"],
    )
    quiet_period_s: float = Field(
        DEFAULT_QUIET_PERIOD_S,
        ge=0,
        le=86_400,
        description="A study is sent when nothing new has arrived for this long and no sender is still sending it.",
    )
    max_wait_s: float = Field(
        DEFAULT_MAX_WAIT_S,
        ge=0,
        le=604_800,
        description="A study is sent after this time at the latest, even if instances are still arriving.",
    )
    min_free_bytes: value_types.Bytes = Field(
        DEFAULT_MIN_FREE_BYTES,
        description="Smallest free space on the disk of the store. Below it nothing is accepted (A700; senders retry)."
        " With url, the server refuses what it has no room for.",
    )
    seal_after_s: SecondsOrOff = Field(
        DEFAULT_SEAL_AFTER_S,
        description="Store a study in less space when every destination has it, and it has not changed for this long"
        ' (docs/forgetting.md); 604800 is 7 days. Nothing else changes. "off": studies stay as they are.',
    )
    forget_after_s: SecondsOrOff = Field(
        None,
        description="Forget a study when every destination has had it, and nothing has happened to it, for this long"
        " (docs/forgetting.md); 7776000 is 90 days. It stays on the servers, and what comes later is added there."
        ' Destinations must be servers. "off": the store keeps every study.',
        examples=["off"],
    )

    @field_validator("url", mode="after")
    @classmethod
    def _postgresql(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return url

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_wait_s < self.quiet_period_s:
            raise ValueError(
                f"max_wait_s = {self.max_wait_s:g} must not be less than quiet_period_s = {self.quiet_period_s:g}"
            )
        return self


class FhirSettings(SettingsTable):
    """``[fhir]``."""

    version: value_types.Version[Literal["auto", FhirVersion]] = Field(
        "auto",
        description="FHIR version (name or number). auto reads it from the server's /metadata, and means R4 for"
        " files. Nothing is sent to a server of another version, and its studies wait (R4 and R4B count as"
        " one version).",
    )
    profile: str = Field(
        "none",
        min_length=1,
        description="Profile: a name that `dicom2fhir profiles list` shows, such as osiris or us-core, the path of"
        " your own profile file, or none. The profile must support the FHIR version; auto chooses"
        " a version that it supports.",
    )
    profile_missing: Literal["default", "omit", "sentinel", "refuse"] = Field(
        "default",
        description="What to do when a value that the profile requires is missing: omit (leave out the elements that"
        " need it, and claim the profile only if nothing is missing), sentinel (write the profile's"
        " placeholder), refuse (do not write the study), or default (the profile's own choice).",
    )
    time_zone: value_types.Zone = Field(
        "",
        description='Time zone of times without Timezone Offset From UTC (0008,0201), for example "Europe/Paris".'
        " Empty: only the date is written.",
    )
    format: Format = Field(
        "json",
        description="Format of the output: json or xml. Requests to servers use this format, but responses must be"
        " JSON: a server that supports only XML cannot be a destination.",
    )
    patient: Literal["auto", PatientMode] = Field(
        "auto",
        description="How the Patient is handled: link (refer to it, never write it), ensure (create it if absent,"
        " never change it), upsert (create or update it); auto is link for servers and ensure for files.",
    )
    order: LinkMode = Field(
        "link",
        description="Reference to the order (basedOn; order up to 1.4.0). link: search the server by accession"
        " number, and refer to the order's id if the server has exactly one and it does not belong to"
        " another patient, because few servers search references by identifier; otherwise refer to it by"
        " accession number, until a later revision or `dicom2fhir relink` finds it. identifier: refer to"
        " it by accession number without a search, as is always done in files.",
    )
    encounter: LinkMode = Field("link", description="The same for the encounter, by Admission ID.")
    practitioner: Containment = Field(
        "contained",
        description="Whether people are contained in the ImagingStudy or written as separate Practitioners, which can"
        " be searched by name (referrer.name) on servers that do not search contained resources. People"
        " without an identification code, or whose code has no coding scheme, are identified by the name"
        " as written, and that code: people written alike share a Practitioner; another spelling is"
        " another Practitioner.",
    )
    organization: Containment = Field(
        "contained",
        description="The same for institutions; those without an institution code with its coding scheme stay"
        " contained.",
    )
    location: Containment = Field(
        "contained",
        description="The same for departments and rooms; they stay contained, because DICOM has no identifiers for"
        " them.",
    )
    device: Containment = Field(
        "contained", description="The same for modalities; those without serial number and Device UID stay contained."
    )
    accession_identifier: bool = Field(
        _MAPPING.accession_identifier,
        description="R5 and R6: whether accession numbers are also written to ImagingStudy.identifier. These versions"
        " have them only in basedOn, as identifiers of references, which few servers search.",
    )
    max_instances: Annotated[
        Annotated[int, Field(ge=0)] | None, BeforeValidator(lambda value: None if value == "none" else value)
    ] = Field(
        None,
        description="Largest number of instances that are listed; a study with more is written without the list (the"
        ' counts stay right). "none": no limit, 0: never a list.',
    )
    embed_documents: int = Field(
        _MAPPING.embed_documents,
        ge=0,
        description="Largest encapsulated document (PDF, CDA, STL, OBJ, MTL) in bytes whose content is written to its"
        " DocumentReference, with its hash; 0: none. The content is kept in the store. A document may be as large"
        " as five bytes for each of receiver.max_elements; a larger one is written without its content. Of documents"
        " that were received before, read the files again.",
    )
    give_up_after_s: value_types.Seconds = Field(
        _RETRY.give_up_after_s,
        description="A study that keeps failing (HTTP 500, timeouts...) is refused when it has done so for this long"
        " while the server accepted others; outages do not count. `dicom2fhir retry` tries again.",
    )
    validation: ValidationMode = Field(
        "sample",
        description="How often fhir.resources validates what is sent: always, never, or sample: one study in 100, and"
        " also the first one if anything is set in [fhir], [systems] or [pacs].",
    )


class ResourceSettings(SettingsTable):
    """``[resources]``."""

    key_objects: Choice = Field(
        _MAPPING.key_objects,
        description="Key object selections as resources: auto: if the FHIR version has one of its own"
        " (ImagingSelection, ImagingManifest, ImagingObjectSelection); always: in R4 and R4B also as a Basic"
        " with the extensions of an ImagingSelection; never.",
    )
    documents: IfOffered = Field(
        _MAPPING.documents,
        description="Encapsulated documents (PDF, CDA, STL, OBJ, MTL) as DocumentReference, from STU3 on: auto: to"
        " servers that offer the type; never.",
    )
    diagnostic_reports: IfOffered = Field(
        _MAPPING.diagnostic_reports,
        description="Encapsulated documents also as DiagnosticReport, from R4 on, if they are VERIFIED and their title"
        " is one of a diagnostic imaging report (PS3.16 CID 7000): auto: to servers that offer the type; never.",
    )
    ian: Switch = Field(
        _MAPPING.ian,
        description="What archives state of instances (IAN, receiver.ian): always: availability, status and endpoints"
        " of the ImagingStudy follow it; never.",
    )
    registered: Switch = Field(
        "always",
        description="A study that a procedure step announces (MPPS, receiver.mpps): always: it is sent before its first"
        " instance arrives, as registered or cancelled, without series. FHIR versions before R4 have no status for it."
        " No profile is required of it; never: only with instances.",
    )
    rejection_notes: Switch = Field(
        _MAPPING.rejection_notes,
        description="Rejection notes (IOCM): always: rejected instances are left out, and a study that is rejected as a"
        " whole gets the status for it; never: the study is written as if there were none.",
    )
    dose_reports: IfOffered = Field(
        _MAPPING.dose_reports,
        description="Radiation dose reports (X-ray and radiopharmaceutical) as Observations, from R4 on: auto: in"
        " files, and on servers that offer this type; never.",
    )
    measurements: IfOffered = Field(
        _MAPPING.measurements,
        description="Measurement reports (TID 1500) as Observations, from R4 on, and from R5 on what was measured as"
        " ImagingSelections: auto: in files, and on servers that offer these types; never.",
    )
    procedures: IfOffered = Field(
        _MAPPING.procedures,
        description="Procedure steps (MPPS, receiver.mpps) as Procedure, from STU3 on: auto: in files, and on servers"
        " that offer this type; never.",
    )


class SystemsSettings(SettingsTable):
    """``[systems]``: issuer, as written in DICOM -> identifier system."""

    patient_id_default: value_types.Uri = Field("", description="Identifier system of a Patient ID without an issuer.")
    accession_number_default: value_types.Uri = Field(
        "", description="Identifier system of an Accession Number without an issuer."
    )
    admission_id_default: value_types.Uri = Field(
        "", description="Identifier system of an Admission ID without an issuer."
    )
    specimen_default: value_types.Uri = Field(
        "", description="Identifier system of a Specimen Identifier without an issuer."
    )
    study_id: value_types.Uri = Field("", description="Identifier system of Study ID, which never has an issuer.")
    patient_id: value_types.UriTable = Field(
        {},
        description="Issuer of Patient ID (0010,0021), case-sensitive -> system.",
        examples=[{"HOSPITAL A": "urn:oid:1.2.3.4"}],
    )
    accession_number: value_types.UriTable = Field(
        {},
        description="Issuer of Accession Number Sequence (0008,0051): Local Namespace (0040,0031) or Universal Entity"
        " ID (0040,0032) -> system.",
        examples=[{"RIS": "https://hospital.example/accession"}],
    )
    admission_id: value_types.UriTable = Field(
        {},
        description="The same for Issuer of Admission ID Sequence (0038,0014).",
        examples=[{"HIS": "https://hospital.example/admission"}],
    )
    specimen: value_types.UriTable = Field(
        {},
        description="The same for Issuer of the Specimen Identifier Sequence (0040,0562).",
        examples=[{"LIS": "https://hospital.example/specimen"}],
    )
    organization_default: value_types.OptionalToken = Field(
        "", description="Identifier of an institution that is not in [systems.organization], as system|value."
    )
    organization: value_types.TokenTable = Field(
        {},
        description="Institution Name (0008,0080), case-sensitive -> identifier of the organization, as system|value,"
        " in addition to Institution Code Sequence (0008,0082).",
        examples=[{"HOSPITAL A": "http://finess.sante.gouv.fr|750000001"}],
    )
    coding_schemes: value_types.UriTable = Field(
        {},
        description="Coding Scheme Designator (0008,0102), mainly private ones -> system; also used for codes of"
        " people and institutions.",
        examples=[{"99LOCAL": "https://hospital.example/codes"}],
    )

    def with_default(
        self, table: Literal["patient_id", "accession_number", "admission_id", "specimen", "organization"]
    ) -> dict[str, str]:
        """One of the tables, with its default under the key ``""`` if there is one."""
        given: dict[str, str] = getattr(self, table)
        default: str = getattr(self, f"{table}_default")
        return {**({"": default} if default else {}), **given}


class PacsSettings(SettingsTable):
    """``[pacs]``."""

    dicomweb_url: value_types.DicomwebUrl = Field(
        _MAPPING.dicomweb_url,
        description='DICOMweb base URL of the archive, for example "https://pacs.example/dicom-web" (without'
        " /studies); it is written as Endpoint. Empty: no Endpoint.",
    )
    availability: Literal["auto", "ONLINE", "NEARLINE", "OFFLINE", "none"] = Field(
        "auto",
        description="Instance Availability of instances that do not state it, for FHIR versions up to 3.2.0; auto is"
        " ONLINE if dicomweb_url is set, otherwise it is left out.",
    )
    endpoint_name: str = Field(
        _MAPPING.endpoint_name, min_length=1, max_length=200, description="Name of that Endpoint."
    )
    retrieve_location_uid: value_types.Uid = Field(
        _MAPPING.retrieve_location_uid,
        description="Retrieve Location UID (0040,E011) of the archive. Profile mado writes it to that Endpoint and"
        " requires it; without it, the data sets may state it.",
    )
    viewer_url: value_types.ViewerUrl = Field(
        _MAPPING.viewer_url,
        description="URL that opens a study in a web viewer, written as a second Endpoint of each study, from STU3 on."
        " {study_uid} and {accession} stand for its Study Instance UID and accession number, for example"
        ' "https://viewer.example/?study={study_uid}". Empty: no such Endpoint.',
    )


class LogSettings(SettingsTable):
    """``[log]``."""

    level: LogLevel = Field("info", description="Lowest level that is logged.")
    format: LogFormat = Field(
        "auto", description="Format of log lines; auto is text on a terminal and JSON lines elsewhere."
    )
