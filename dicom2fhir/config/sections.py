"""The sections of the configuration and their options.

``Field(description=...)`` is the only place where an option is documented; ``config.example.toml`` is made from it.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dicom2fhir.config import kinds
from dicom2fhir.config.places import state_directory

FhirVersion = Literal["DSTU2", "1.4.0", "STU3", "3.2.0", "R4", "R4B", "R5", "R6"]
PatientMode = Literal["link", "ensure", "upsert"]
Format = Literal["json", "xml"]
Place = Literal["contained", "referenced"]
LinkMode = Literal["link", "identifier"]
_ELEMENT_BYTES = 40
"""As the reader of headers counts it."""


class Section(BaseModel):
    """A table of options: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number belongs; pydantic takes them for 1 and 0."""
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class Receiver(Section):
    """``[receiver]``."""

    enabled: bool = Field(True, description="Whether to listen for C-STORE at all.")
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Anything but this machine's own needs networks, calling_ae_titles or"
        ' tls_client_ca, or open = true. "0.0.0.0" and "::" mean all.',
    )
    port: int = Field(11112, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    ae_title: kinds.AeTitle = Field("DICOM2FHIR", description="AE title of the bridge, up to 16 characters.")
    require_called_ae_title: bool = Field(
        True, description="Whether to refuse associations that call another AE title than ours."
    )
    calling_ae_titles: kinds.AeTitles = Field((), description="AE titles that may send; empty: all.")
    networks: kinds.Networks = Field(
        (), description='Networks and addresses that may connect, such as "10.1.0.0/16"; empty: all.'
    )
    open: bool = Field(False, description="Whether everybody who reaches the port may send, if no list says otherwise.")
    tls_certificate: kinds.OptionalPath = Field(
        None,
        description="Certificate for TLS, with its chain, as a PEM file; then only TLS is spoken (1.2 or later, PS3.15"
        " B.12). Empty: no TLS.",
        examples=["/etc/dicom2fhir/tls.crt"],
    )
    tls_key: kinds.OptionalPath = Field(
        None,
        description="Its private key, a PEM file without passphrase; empty: it stands in the same file.",
        examples=["/etc/dicom2fhir/tls.key"],
    )
    tls_client_ca: kinds.OptionalPath = Field(
        None,
        description="Certificates (PEM) of those who sign senders' certificates; then senders must have one.",
        examples=["/etc/dicom2fhir/modalities-ca.crt"],
    )
    reuse_port: bool = Field(
        False,
        description="Whether several bridges, each with a store of its own, may share the port (SO_REUSEPORT).",
    )
    max_associations: int = Field(64, ge=1, le=10_000, description="Associations at the same time; more are rejected.")
    max_associations_per_peer: int = Field(
        48, ge=1, le=10_000, description="The same from one address, so that nobody takes them all."
    )
    max_waiting: int = Field(
        512,
        ge=1,
        le=10_000,
        description="Connections that have not asked for an association yet, or ended theirs and do not close; the"
        " oldest of the address that has most of them makes room for the next.",
    )
    max_waiting_per_peer: int = Field(256, ge=1, le=10_000, description="The same from one address.")
    acse_timeout_s: kinds.Seconds = Field(
        30, description="Time for a peer that has connected to ask for an association, with the TLS handshake."
    )
    dimse_timeout_s: kinds.Seconds = Field(
        30, description="Time for a PDU that has begun to arrive whole, and for a sender to take an answer."
    )
    network_timeout_s: kinds.Seconds = Field(
        60, description="Time that an association may stay silent before it is aborted."
    )
    min_bytes_per_s: float = Field(
        1024,
        ge=0,
        allow_inf_nan=False,
        description="A message that takes longer than dimse_timeout_s must come at this rate on average.",
    )
    max_associate_bytes: int = Field(
        262_144, ge=4_096, le=16_777_216, description="Longest association request (A-ASSOCIATE-RQ)."
    )
    max_pdu_bytes: int = Field(
        131_072,
        ge=4_096,
        le=16_777_216,
        description="Longest P-DATA-TF that senders may send (PS3.8 D.1).",
    )
    max_header_bytes: int = Field(
        67_108_864, ge=65_536, description="Longest data set up to Pixel Data; a longer one is refused with C000."
    )
    max_held_bytes: int = Field(
        134_217_728,
        ge=65_536,
        description="Memory for what is read and decoded of data sets, of all associations together, each one's first"
        " MiB not counted; what needs more is refused with A700, which senders repeat.",
    )
    max_elements: int = Field(
        300_000,
        ge=1_000,
        description="Elements in it, those in sequences too, without frames after the first; sequences and what is"
        " decoded count several times. At worst they take a quarter of a second of a processor.",
    )
    max_sequence_depth: int = Field(32, ge=4, le=100, description="Sequences within sequences.")
    max_value_bytes: int = Field(
        1_048_576, ge=1_024, description="A longer value is left out, with a note that names its attribute."
    )
    max_inflated_bytes: int = Field(
        67_108_864, ge=65_536, description="Longest deflated data set up to Pixel Data, once it is inflated."
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        rules = self.networks or self.calling_ae_titles or self.tls_client_ca
        if self.enabled and not (rules or self.open or kinds.is_loopback(self.host)):
            raise ValueError(
                f"host = {self.host!r} can be reached by other machines: say who may send with networks = [...] or"
                " calling_ae_titles = [...], or set open = true, or listen on 127.0.0.1"
            )
        if (self.tls_key or self.tls_client_ca) and not self.tls_certificate:
            raise ValueError("tls_certificate must be set, because tls_key or tls_client_ca is")
        largest = _ELEMENT_BYTES * self.max_elements + 4 * self.max_value_bytes
        if self.max_held_bytes < largest:
            raise ValueError(
                f"max_held_bytes must not be less than {largest}: data sets of max_elements and max_value_bytes would"
                " never be taken"
            )
        return self


class Folder(Section):
    """``[folders.NAME]``."""

    path: kinds.LocalPath = Field(description="The folder, with all below it.", examples=["/srv/dicom/inbox"])
    watch: Literal["auto", "native", "poll"] = Field(
        "auto",
        description="How new files are noticed: by the system's notices (native), by looking again and again (poll: for"
        " network shares), or whichever works (auto).",
    )
    stable_s: kinds.Seconds = Field(
        2, description="A file is taken when its size and time have not changed for so long."
    )
    incomplete_s: kinds.Seconds = Field(
        600,
        description="A file that ends too early is left alone until it has not changed for so long; it is refused"
        " then. Where that cannot be told (a data set without pixel data, or deflated), the file is taken at once and"
        " moved or deleted only then.",
    )
    rescan_s: kinds.Seconds = Field(60, description="How often the whole folder is looked through.")
    poll_s: kinds.Seconds = Field(5, description="The same without the system's notices.")
    ignore: kinds.Texts = Field(
        (".*", "*.part", "*.partial", "*.tmp", "*.filepart", "*.crdownload"),
        description="Names (or paths below the folder) of files and folders to pass over; * ? [] as in a shell.",
    )
    afterwards: Literal["keep", "delete", "move"] = Field(
        "keep", description="What becomes of a file once it is stored. Move needs move_to."
    )
    move_to: kinds.OptionalPath = Field(
        None, description='Folder for stored files when afterwards = "move"; not inside a watched one.'
    )
    rejected_to: kinds.OptionalPath = Field(
        None,
        description="Folder for refused files, each with a reason file; not inside a watched one. Empty: they stay, and"
        " the reason is in the store.",
    )
    max_file_bytes: int = Field(8_589_934_592, ge=1, description="A larger file is refused.")

    @model_validator(mode="after")
    def _movable(self) -> Self:
        if self.afterwards == "move" and self.move_to is None:
            raise ValueError('move_to must be set, because afterwards = "move"')
        return self


class Store(Section):
    """``[store]``."""

    directory: kinds.LocalPath = Field(
        default_factory=lambda: state_directory(os.environ),
        description="Folder of the store, on a local disk. Without it: $STATE_DIRECTORY (systemd); else the"
        " service's, /var/lib/dicom2fhir, for every command that reads /etc/dicom2fhir/config.toml; else"
        " ~/.local/state/dicom2fhir.",
        examples=["/var/lib/dicom2fhir"],
    )
    quiet_period_s: float = Field(
        30,
        ge=0,
        le=86_400,
        description="A study is sent when nothing new has come for so long and nobody is sending it.",
    )
    max_wait_s: float = Field(
        900, ge=0, le=604_800, description="A study is sent after so long even if more keeps coming."
    )
    min_free_bytes: kinds.Bytes = Field(
        536_870_912, description="With less free space on its disk the bridge takes nothing more (A700: senders retry)."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_wait_s < self.quiet_period_s:
            raise ValueError(
                f"max_wait_s = {self.max_wait_s:g} must not be less than quiet_period_s = {self.quiet_period_s:g}"
            )
        return self


class Fhir(Section):
    """``[fhir]``."""

    version: kinds.Version[Literal["auto", FhirVersion]] = Field(
        "auto",
        description="FHIR version (name or number); auto asks the server's /metadata, and means R4 for files. A server"
        " of another version is sent nothing, and its studies wait (R4 and R4B count as one).",
    )
    profile: str = Field(
        "none",
        min_length=1,
        description="Profile: osiris, mii-bildgebung, mado, eu-imaging, ips (`dicom2fhir profiles list`), the path of a"
        " file of your own, or none. The version must be one of its own; auto takes it.",
    )
    profile_missing: Literal["default", "omit", "sentinel", "refuse"] = Field(
        "default",
        description="When a value that the profile requires is missing: omit (leave out what needs it; the profile is"
        " claimed only when nothing is missing), sentinel (write the profile's placeholder), refuse (do not write the"
        " study); default is the profile's own choice.",
    )
    time_zone: kinds.Zone = Field(
        "",
        description='Time zone of times without Timezone Offset From UTC (0008,0201), such as "Europe/Paris". Empty:'
        " only the date is written.",
    )
    format: Format = Field(
        "json",
        description="What is written: json or xml. Servers are sent this, but must answer in JSON: one that speaks only"
        " XML cannot be a destination.",
    )
    patient: Literal["auto", PatientMode] = Field(
        "auto",
        description="Patient: link (refer to it, never write it), ensure (create when absent, never change), upsert"
        " (create or update); auto is link for servers and ensure for files.",
    )
    order: LinkMode = Field(
        "link",
        description="Reference to the order (basedOn; order up to 1.4.0): link (look it up by accession number and"
        " refer to its id where the server has exactly one and it is not another patient's, because few servers search"
        " references by identifier; else refer to it by accession number, until a later revision or"
        " `dicom2fhir relink` finds it), identifier (refer to it by accession number, without looking, as always in"
        " files).",
    )
    encounter: LinkMode = Field("link", description="The same for the encounter, by Admission ID.")
    practitioner: Place = Field(
        "contained",
        description="Whether people stand inside the ImagingStudy or as Practitioners of their own, which searches find"
        " by name (referrer.name) where servers search nothing contained. People whose identification code has no"
        " coding scheme, or who have none, are known by their names as written, and that code: those who are written"
        " alike share a Practitioner, another spelling is another one.",
    )
    organization: Place = Field(
        "contained",
        description="The same for institutions, but those without an institution code with its scheme stay inside.",
    )
    location: Place = Field(
        "contained",
        description="The same for departments and rooms; DICOM has no identifiers of them, so that they stay inside.",
    )
    device: Place = Field(
        "contained", description="The same for modalities, but those without serial number and Device UID stay inside."
    )
    accession_identifier: bool = Field(
        False,
        description="R5 and R6: whether accession numbers stand in ImagingStudy.identifier too. These versions have"
        " them in basedOn only, as identifiers of references, which few servers search.",
    )
    max_instances: Annotated[
        Annotated[int, Field(ge=0)] | None, BeforeValidator(lambda value: None if value == "none" else value)
    ] = Field(
        None,
        description='Studies with more instances are written without the list of them (counts stay right); "none": no'
        " limit, 0: never a list.",
    )
    give_up_after_s: kinds.Seconds = Field(
        86_400,
        description="A study that fails again and again (HTTP 500, no answer in time...) is refused when it has done so"
        " for this long while the server accepted others; an outage does not count. `dicom2fhir retry` tries again.",
    )
    validation: Literal["sample", "always", "never"] = Field(
        "sample",
        description="How often fhir.resources checks what is about to be sent: always, never, or one study in 100"
        " (sample), the first one too where anything is set in [fhir], [systems] or [pacs].",
    )


class Systems(Section):
    """``[systems]``: issuer, as it stands in DICOM -> identifier system."""

    patient_id_default: kinds.Uri = Field("", description="System of a Patient ID that names no issuer.")
    accession_number_default: kinds.Uri = Field("", description="System of an Accession Number that names no issuer.")
    admission_id_default: kinds.Uri = Field("", description="System of an Admission ID that names no issuer.")
    specimen_default: kinds.Uri = Field("", description="System of a Specimen Identifier that names no issuer.")
    study_id: kinds.Uri = Field("", description="System of Study ID, which never names an issuer.")
    patient_id: kinds.UriTable = Field(
        {},
        description="Issuer of Patient ID (0010,0021), case-sensitive -> system.",
        examples=[{"HOSPITAL A": "urn:oid:1.2.3.4"}],
    )
    accession_number: kinds.UriTable = Field(
        {},
        description="Issuer of Accession Number Sequence (0008,0051): Local Namespace (0040,0031) or Universal Entity"
        " ID (0040,0032) -> system.",
        examples=[{"RIS": "https://hospital.example/accession"}],
    )
    admission_id: kinds.UriTable = Field(
        {},
        description="The same for Issuer of Admission ID Sequence (0038,0014).",
        examples=[{"HIS": "https://hospital.example/admission"}],
    )
    specimen: kinds.UriTable = Field(
        {},
        description="The same for Issuer of the Specimen Identifier Sequence (0040,0562).",
        examples=[{"LIS": "https://hospital.example/specimen"}],
    )
    coding_schemes: kinds.UriTable = Field(
        {},
        description="Coding Scheme Designator (0008,0102), private ones above all -> system; people's and institutions'"
        " codes too.",
        examples=[{"99LOCAL": "https://hospital.example/codes"}],
    )

    def with_default(
        self, table: Literal["patient_id", "accession_number", "admission_id", "specimen"]
    ) -> dict[str, str]:
        """One of the tables, with the default system under the key ``""`` if there is one."""
        systems: dict[str, str] = getattr(self, table)
        default: str = getattr(self, f"{table}_default")
        return {**({"": default} if default else {}), **systems}


class Pacs(Section):
    """``[pacs]``."""

    dicomweb_url: kinds.DicomwebUrl = Field(
        "",
        description='DICOMweb base address of the archive, such as "https://pacs.example/dicom-web" (without /studies):'
        " written as Endpoint. Empty: no Endpoint.",
    )
    availability: Literal["auto", "ONLINE", "NEARLINE", "OFFLINE", "none"] = Field(
        "auto",
        description="Instance Availability of instances that state none, for FHIR versions up to 3.2.0; auto is ONLINE"
        " when dicomweb_url is set, else it is left out.",
    )
    endpoint_name: str = Field("DICOMweb", min_length=1, max_length=200, description="Name of that Endpoint.")


class Log(Section):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged at least.")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="Auto: text on a terminal, JSON lines elsewhere."
    )
