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

from dicom2fhir.config import value_types
from dicom2fhir.config.locations import state_directory
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.ops.log_names import LogFormat, LogLevel

FhirVersion = Literal["DSTU2", "1.4.0", "STU3", "3.2.0", "R4", "R4B", "R5", "R6"]
PatientMode = Literal["link", "ensure", "upsert"]
Containment = Literal["contained", "referenced"]
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


class ReceiverSettings(Section):
    """``[receiver]``."""

    enabled: bool = Field(True, description="Whether to listen for C-STORE.")
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. An address that other machines can reach requires networks,"
        ' calling_ae_titles, tls_client_ca or open = true. "0.0.0.0" and "::" mean all addresses of this'
        " machine.",
    )
    port: int = Field(11112, ge=0, le=65535, description="TCP port to listen on; 0 chooses a free port.")
    ae_title: value_types.AeTitle = Field("DICOM2FHIR", description="AE title of the bridge, up to 16 characters.")
    require_called_ae_title: bool = Field(
        True, description="Whether to reject associations whose called AE title is not ae_title."
    )
    calling_ae_titles: value_types.AeTitles = Field((), description="Calling AE titles that are accepted; empty: all.")
    networks: value_types.Networks = Field(
        (), description='Networks and addresses that may connect, for example "10.1.0.0/16"; empty: all.'
    )
    open: bool = Field(
        False, description="Whether any peer that can reach the port may send when no list restricts it."
    )
    tls_certificate: value_types.OptionalPath = Field(
        None,
        description="TLS certificate with its chain, a PEM file. If it is set, only TLS connections are accepted (1.2"
        " or later, PS3.15 B.12). Empty: no TLS.",
        examples=["/etc/dicom2fhir/tls.crt"],
    )
    tls_key: value_types.OptionalPath = Field(
        None,
        description="Private key of tls_certificate, a PEM file without passphrase. Empty: the key is in the"
        " certificate file.",
        examples=["/etc/dicom2fhir/tls.key"],
    )
    tls_client_ca: value_types.OptionalPath = Field(
        None,
        description="CA certificates (PEM) for the certificates of senders. If it is set, every sender must present a"
        " certificate.",
        examples=["/etc/dicom2fhir/modalities-ca.crt"],
    )
    reuse_port: bool = Field(
        False,
        description="Whether several bridges, each with its own store, may share the port (SO_REUSEPORT).",
    )
    max_associations: int = Field(
        64, ge=1, le=10_000, description="Largest number of concurrent associations; more are rejected."
    )
    max_associations_per_peer: int = Field(
        48,
        ge=1,
        le=10_000,
        description="Largest number of concurrent associations from one address, so that one peer cannot use all of"
        " them.",
    )
    max_waiting: int = Field(
        512,
        ge=1,
        le=10_000,
        description="Largest number of connections that have not requested an association yet, or whose association"
        " has ended but which are still open. Beyond it, the oldest connection of the address that has"
        " most of them is closed.",
    )
    max_waiting_per_peer: int = Field(256, ge=1, le=10_000, description="The same for one address.")
    acse_timeout_s: value_types.Seconds = Field(
        30, description="Time from connecting to the association request, including the TLS handshake."
    )
    dimse_timeout_s: value_types.Seconds = Field(
        30,
        description="Time for the rest of a PDU to arrive after its first byte, and for a sender to read a response.",
    )
    network_timeout_s: value_types.Seconds = Field(
        60, description="Time without data after which an association is aborted."
    )
    min_bytes_per_s: float = Field(
        1024,
        ge=0,
        allow_inf_nan=False,
        description="Lowest average rate of a message that takes longer than dimse_timeout_s.",
    )
    max_associate_bytes: int = Field(
        262_144, ge=4_096, le=16_777_216, description="Largest association request (A-ASSOCIATE-RQ)."
    )
    max_pdu_bytes: int = Field(
        131_072,
        ge=4_096,
        le=16_777_216,
        description="Largest P-DATA-TF PDU that senders may send (PS3.8 D.1).",
    )
    max_header_bytes: int = Field(
        67_108_864, ge=65_536, description="Largest data set up to Pixel Data; a larger one is refused with C000."
    )
    max_held_bytes: int = Field(
        134_217_728,
        ge=65_536,
        description="Memory for reading and decoding data sets, for all associations together; the first MiB of each"
        " association is not counted. A data set that needs more is refused with A700, and senders retry.",
    )
    max_elements: int = Field(
        300_000,
        ge=1_000,
        description="Largest number of elements in a data set up to Pixel Data, including those in sequences, without"
        " frames after the first. Sequences and decoded elements count several times. The limit"
        " corresponds to a quarter of a second of processor time at most.",
    )
    max_sequence_depth: int = Field(32, ge=4, le=100, description="Deepest nesting of sequences.")
    max_value_bytes: int = Field(
        1_048_576,
        ge=1_024,
        description="Largest value; a longer one is left out, with a note that names its attribute.",
    )
    max_inflated_bytes: int = Field(
        67_108_864, ge=65_536, description="Largest deflated data set up to Pixel Data, after inflating."
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        rules = self.networks or self.calling_ae_titles or self.tls_client_ca
        if self.enabled and not (rules or self.open or value_types.is_loopback(self.host)):
            raise ValueError(
                f"host = {self.host!r} can be reached by other machines: restrict senders with networks = [...] or"
                " calling_ae_titles = [...], or set open = true, or listen on 127.0.0.1"
            )
        if (self.tls_key or self.tls_client_ca) and not self.tls_certificate:
            raise ValueError("tls_certificate must be set, because tls_key or tls_client_ca is")
        largest = _ELEMENT_BYTES * self.max_elements + 4 * self.max_value_bytes
        if self.max_held_bytes < largest:
            raise ValueError(
                f"max_held_bytes must not be less than {largest}: data sets of max_elements and max_value_bytes would"
                " always be refused"
            )
        return self


class FolderSettings(Section):
    """``[folders.NAME]``."""

    path: value_types.LocalPath = Field(
        description="The folder to watch, with all its subfolders.", examples=["/srv/dicom/inbox"]
    )
    watch: Literal["auto", "native", "poll"] = Field(
        "auto",
        description="How new files are detected: by file system events (native), by polling (poll, for network"
        " shares), or by whichever works (auto).",
    )
    stable_s: value_types.Seconds = Field(
        2, description="A file is imported when its size and modification time have not changed for this long."
    )
    incomplete_s: value_types.Seconds = Field(
        600,
        description="A file that ends too early is left alone until it has not changed for this long; then it is"
        " refused. If the end cannot be determined (a data set without pixel data, or deflated), the file"
        " is imported at once, and moved or deleted after this time.",
    )
    rescan_s: value_types.Seconds = Field(60, description="How often the whole folder is scanned.")
    poll_s: value_types.Seconds = Field(5, description="The same when polling.")
    ignore: value_types.Texts = Field(
        (".*", "*.part", "*.partial", "*.tmp", "*.filepart", "*.crdownload"),
        description="Names (or paths below the folder) of files and folders to ignore; * ? [] work as in a shell.",
    )
    afterwards: Literal["keep", "delete", "move"] = Field(
        "keep", description="What to do with a file after its import; move requires move_to."
    )
    move_to: value_types.OptionalPath = Field(
        None, description='Folder for imported files when afterwards = "move"; it must not be inside a watched folder.'
    )
    rejected_to: value_types.OptionalPath = Field(
        None,
        description="Folder for refused files, each with a reason file; it must not be inside a watched folder."
        " Empty: refused files stay where they are, and the reason is in the store.",
    )
    max_file_bytes: int = Field(8_589_934_592, ge=1, description="Largest file; a larger one is refused.")

    @model_validator(mode="after")
    def _movable(self) -> Self:
        if self.afterwards == "move" and self.move_to is None:
            raise ValueError('move_to must be set, because afterwards = "move"')
        return self


class StoreSettings(Section):
    """``[store]``."""

    directory: value_types.LocalPath = Field(
        default_factory=lambda: state_directory(os.environ),
        description="Folder of the store, on a local disk. Default: $STATE_DIRECTORY (set by systemd); otherwise"
        " /var/lib/dicom2fhir, the service's, for every command that reads /etc/dicom2fhir/config.toml;"
        " otherwise ~/.local/state/dicom2fhir.",
        examples=["/var/lib/dicom2fhir"],
    )
    quiet_period_s: float = Field(
        30,
        ge=0,
        le=86_400,
        description="A study is sent when nothing new has arrived for this long and no sender is still sending it.",
    )
    max_wait_s: float = Field(
        900,
        ge=0,
        le=604_800,
        description="A study is sent after this time at the latest, even if instances are still arriving.",
    )
    min_free_bytes: value_types.Bytes = Field(
        536_870_912,
        description="Smallest free space on the disk of the store. Below it nothing is accepted (A700; senders retry).",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_wait_s < self.quiet_period_s:
            raise ValueError(
                f"max_wait_s = {self.max_wait_s:g} must not be less than quiet_period_s = {self.quiet_period_s:g}"
            )
        return self


class FhirSettings(Section):
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
        description="Profile: osiris, mii-bildgebung, mado, eu-imaging, ips (see `dicom2fhir profiles list`), the"
        " path of your own profile file, or none. The profile must support the FHIR version; auto chooses"
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
        False,
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
    give_up_after_s: value_types.Seconds = Field(
        86_400,
        description="A study that keeps failing (HTTP 500, timeouts...) is refused when it has done so for this long"
        " while the server accepted others; outages do not count. `dicom2fhir retry` tries again.",
    )
    validation: Literal["sample", "always", "never"] = Field(
        "sample",
        description="How often fhir.resources validates what is sent: always, never, or sample: one study in 100, and"
        " also the first one if anything is set in [fhir], [systems] or [pacs].",
    )


class SystemsSettings(Section):
    """``[systems]``: issuer, as it stands in DICOM -> identifier system."""

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
    coding_schemes: value_types.UriTable = Field(
        {},
        description="Coding Scheme Designator (0008,0102), mainly private ones -> system; also used for codes of"
        " people and institutions.",
        examples=[{"99LOCAL": "https://hospital.example/codes"}],
    )

    def with_default(
        self, table: Literal["patient_id", "accession_number", "admission_id", "specimen"]
    ) -> dict[str, str]:
        """One of the tables, with the default system under the key ``""`` if there is one."""
        systems: dict[str, str] = getattr(self, table)
        default: str = getattr(self, f"{table}_default")
        return {**({"": default} if default else {}), **systems}


class PacsSettings(Section):
    """``[pacs]``."""

    dicomweb_url: value_types.DicomwebUrl = Field(
        "",
        description='DICOMweb base URL of the archive, for example "https://pacs.example/dicom-web" (without'
        " /studies); it is written as Endpoint. Empty: no Endpoint.",
    )
    availability: Literal["auto", "ONLINE", "NEARLINE", "OFFLINE", "none"] = Field(
        "auto",
        description="Instance Availability of instances that do not state it, for FHIR versions up to 3.2.0; auto is"
        " ONLINE if dicomweb_url is set, otherwise it is left out.",
    )
    endpoint_name: str = Field("DICOMweb", min_length=1, max_length=200, description="Name of that Endpoint.")


class LogSettings(Section):
    """``[log]``."""

    level: LogLevel = Field("info", description="Lowest level that is logged.")
    format: LogFormat = Field(
        "auto", description="Format of log lines; auto is text on a terminal and JSON lines elsewhere."
    )
