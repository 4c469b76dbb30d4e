"""All settings together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom2fhir.config.kinds import Name
from dicom2fhir.config.sections import (
    AnyDestination,
    Fhir,
    FhirVersion,
    Folder,
    Format,
    Log,
    Pacs,
    PatientMode,
    Receiver,
    Store,
    Systems,
)


class Settings(BaseSettings):
    """All settings, made by :func:`dicom2fhir.config.load`; ``Settings()`` reads neither files nor the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    receiver: Receiver = Field(Receiver(), description="C-STORE in.")
    folders: dict[Name, Folder] = Field({}, description="Folders that are watched, each with a name of its own.")
    store: Store = Field(default_factory=lambda: Store(), description="What is kept until it is delivered, and when.")
    fhir: Fhir = Field(Fhir(), description="What is written; destinations may differ in version and patient.")
    systems: Systems = Field(Systems(), description="Identifier systems, absolute URIs.")
    pacs: Pacs = Field(Pacs(), description="Where the images can be had.")
    destinations: dict[Name, AnyDestination] = Field(
        {}, description="FHIR out: where studies go, each with a name of its own."
    )
    log: Log = Field(Log(), description="Messages, on standard error.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load`` hands over: it reads the sources itself, to say where a wrong value stands."""
        return (init_settings,)

    def fhir_version(self, destination: str) -> Literal["auto", FhirVersion]:
        """The FHIR version in force for a destination; never ``auto`` for files."""
        version = self.version_set(destination)
        return "R4" if version == "auto" and self.destinations[destination].type == "file" else version

    def version_set(self, destination: str) -> Literal["auto"] | FhirVersion:
        """What is set for a destination, ``auto`` as it stands."""
        chosen = self.destinations[destination]
        return self.fhir.version if chosen.version == "inherit" else chosen.version

    def profile(self, destination: str) -> str:
        """The name or path of the profile in force for a destination, or ``none``."""
        chosen = self.destinations[destination]
        return self.fhir.profile if chosen.profile == "inherit" else chosen.profile

    def format(self, destination: str) -> Format:
        """The format in force for a destination."""
        chosen = self.destinations[destination]
        return self.fhir.format if chosen.format == "inherit" else chosen.format

    def patient_mode(self, destination: str) -> PatientMode:
        """The patient mode in force for a destination."""
        chosen = self.destinations[destination]
        mode = self.fhir.patient if chosen.patient == "inherit" else chosen.patient
        if mode == "auto":
            return "ensure" if chosen.type == "file" else "link"
        return mode
