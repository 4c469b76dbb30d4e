"""All settings together."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dicom2fhir.config.destinations import AnyDestinationSettings, FhirDestinationSettings
from dicom2fhir.config.inputs import FolderSettings, ReceiverSettings
from dicom2fhir.config.sections import (
    FhirSettings,
    LogSettings,
    PacsSettings,
    PatientMode,
    ResourceSettings,
    StoreSettings,
    SystemsSettings,
)
from dicom2fhir.config.tracing import TracingSettings
from dicom2fhir.config.value_types import Name
from dicom2fhir.config.web import WebSettings
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.fhir.version.names import FhirVersion


class Settings(BaseModel):
    """All settings, made by :func:`dicom2fhir.config.load`; ``Settings()`` reads neither files nor the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    receiver: ReceiverSettings = Field(
        default_factory=ReceiverSettings.model_construct, description="The DICOM receiver (C-STORE SCP)."
    )
    folders: dict[Name, FolderSettings] = Field({}, description="Watched folders, each with its own name.")
    store: StoreSettings = Field(
        default_factory=StoreSettings.model_construct, description="The store, and when studies are sent."
    )
    fhir: FhirSettings = Field(
        default_factory=FhirSettings.model_construct,
        description="The FHIR output; each destination may override version, profile, patient, format and"
        " give_up_after_s.",
    )
    resources: ResourceSettings = Field(
        default_factory=ResourceSettings.model_construct,
        description="What is written beside the ImagingStudy, and what is written of notifications; each destination"
        " may override it. A server that refuses such a resource still gets the ImagingStudy, and `status` names the"
        " refused one. A resource that is no longer made is marked as entered in error.",
    )
    systems: SystemsSettings = Field(
        default_factory=SystemsSettings.model_construct, description="Identifier systems, absolute URIs."
    )
    pacs: PacsSettings = Field(
        default_factory=PacsSettings.model_construct, description="Where the images can be retrieved."
    )
    destinations: dict[Name, AnyDestinationSettings] = Field(
        {}, description="Destinations of the FHIR output, each with its own name."
    )
    tracing: TracingSettings = Field(
        default_factory=TracingSettings.model_construct,
        description="Traces (OpenTelemetry): one for each study, from its reception to what servers answer.",
    )
    web: WebSettings = Field(
        default_factory=WebSettings.model_construct,
        description="The web page and the HTTP API: the state of the bridge, and what an operator can do.",
    )
    log: LogSettings = Field(default_factory=LogSettings.model_construct, description="Log, written to standard error.")

    @property
    def configures_mapping(self) -> bool:
        """Whether an option is set that changes the output of the mapping."""
        sections = self.fhir, self.systems, self.pacs, self.resources
        return any(section != type(section).model_construct() for section in sections)

    def fhir_version(self, destination: str) -> Literal["auto", FhirVersion]:
        """The FHIR version in force for a destination; never ``auto`` for files."""
        version = self.version_set(destination)
        return "R4" if version == "auto" and self.destinations[destination].type == "file" else version

    def version_set(self, destination: str) -> Literal["auto"] | FhirVersion:
        """The version that is set for a destination, which may be ``auto``."""
        chosen = self.destinations[destination]
        return self.fhir.version if chosen.version == "inherit" else chosen.version

    def profile(self, destination: str) -> str:
        """The name or path of the profile in force for a destination, or ``none``."""
        chosen = self.destinations[destination]
        return self.fhir.profile if chosen.profile == "inherit" else chosen.profile

    def resources_of(self, destination: str) -> ResourceSettings:
        """The resources beside the ImagingStudy for a destination."""
        return self.destinations[destination].resources.over(self.resources)

    def format(self, destination: str) -> Format:
        """The format in force for a destination."""
        chosen = self.destinations[destination]
        return self.fhir.format if chosen.format == "inherit" else chosen.format

    def give_up_after_s(self, destination: FhirDestinationSettings) -> float:
        """How long a study may fail at a server that accepts others."""
        chosen = destination.give_up_after_s
        return self.fhir.give_up_after_s if chosen is None else chosen

    def patient_mode(self, destination: str) -> PatientMode:
        """The patient mode in force for a destination."""
        chosen = self.destinations[destination]
        mode = self.fhir.patient if chosen.patient == "inherit" else chosen.patient
        if mode == "auto":
            return "ensure" if chosen.type == "file" else "link"
        return mode
