"""The sections of the configuration for destinations, and for the studies that each destination gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Discriminator, Field, SecretStr, Tag, model_validator

from dicom2fhir.config import value_types
from dicom2fhir.config.credentials import HeaderName, OAuth2Settings
from dicom2fhir.config.secret_files import read_secret
from dicom2fhir.config.sections import PatientMode, ResourceSettings, SettingsTable
from dicom2fhir.deliver.retry import RetryPolicy
from dicom2fhir.fhir.mapping.options import Choice, IfOffered, Switch
from dicom2fhir.fhir.send.deadlines import DEFAULT_TIMEOUT_S
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.fhir.version.names import FhirVersion


def option_names(model: type[BaseModel]) -> list[str]:
    """The names of a table's options as written in TOML: ``except`` is a keyword of Python."""
    return [field.alias or name for name, field in model.model_fields.items()]


class SelectionSettings(SettingsTable):
    """``[destinations.NAME.only]`` and ``[destinations.NAME.except]``; case and surrounding spaces are ignored."""

    modality: value_types.PatternList = Field(
        (), description="Modality (0008,0060) of a series; * ? [] work as in a shell."
    )
    institution: value_types.PatternList = Field(
        (), description="Institution Name (0008,0080), or code or meaning of Institution Code Sequence (0008,0082)."
    )
    department: value_types.PatternList = Field(
        (), description="Institutional Department Name (0008,1040), or the same of its Type Code Sequence (0008,1041)."
    )
    calling_ae_title: value_types.PatternList = Field(
        (), description="Calling AE title of a sender. Files have none, so that only never matches them."
    )

    def given(self) -> dict[str, tuple[str, ...]]:
        """The keys that are set."""
        return {key: patterns for key in type(self).model_fields if (patterns := getattr(self, key))}


class DestinationResourceSettings(SettingsTable):
    """``[destinations.NAME.resources]``."""

    key_objects: Literal["inherit", Choice] = Field("inherit", description="As resources.key_objects.")
    documents: Literal["inherit", IfOffered] = Field("inherit", description="As resources.documents.")
    diagnostic_reports: Literal["inherit", IfOffered] = Field("inherit", description="As resources.diagnostic_reports.")
    ian: Literal["inherit", Switch] = Field("inherit", description="As resources.ian.")
    registered: Literal["inherit", Switch] = Field("inherit", description="As resources.registered.")
    rejection_notes: Literal["inherit", Switch] = Field("inherit", description="As resources.rejection_notes.")
    dose_reports: Literal["inherit", IfOffered] = Field("inherit", description="As resources.dose_reports.")
    measurements: Literal["inherit", IfOffered] = Field("inherit", description="As resources.measurements.")
    procedures: Literal["inherit", IfOffered] = Field("inherit", description="As resources.procedures.")

    def over(self, general: ResourceSettings) -> ResourceSettings:
        """The options in force: those that are set here, else the general ones."""
        own = {name: value for name in type(self).model_fields if (value := getattr(self, name)) != "inherit"}
        return general.model_copy(update=own)


class DestinationSettings(SettingsTable):
    """The options of both types of destination."""

    version: value_types.Version[Literal["inherit", "auto", FhirVersion]] = Field(
        "inherit", description="As fhir.version, for this destination."
    )
    patient: Literal["inherit", "auto", PatientMode] = Field(
        "inherit", description="As fhir.patient, for this destination."
    )
    profile: str = Field("inherit", min_length=1, description="As fhir.profile, for this destination.")
    format: Literal["inherit", Format] = Field("inherit", description="As fhir.format, for this destination.")
    resources: DestinationResourceSettings = Field(
        default_factory=DestinationResourceSettings.model_construct,
        description="As resources, for this destination.",
    )
    only: SelectionSettings = Field(
        default_factory=SelectionSettings.model_construct,
        description="Send only studies in which each key that is set here matches at least one value; an empty list"
        " restricts nothing. `status` shows the other studies as excluded. What was sent before is not"
        " removed.",
    )
    except_: SelectionSettings = Field(
        default_factory=SelectionSettings.model_construct,
        alias="except",
        description="Do not send studies in which any key that is set here matches any value; this takes precedence"
        " over only.",
    )


class FhirDestinationSettings(DestinationSettings):
    """``[destinations.NAME]`` with ``type = "fhir"``."""

    type: Literal["fhir"] = Field("fhir", description="A FHIR server.")
    url: value_types.BaseUrl = Field(
        description="Base URL of the server. Requests use the proxies that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and"
        " NO_PROXY name, except to a server on this machine.",
        examples=["https://fhir.example/fhir"],
    )
    auth: Literal["none", "basic", "bearer", "oauth2"] = Field("none", description="Authentication method.")
    username: str = Field("", description='User name for auth = "basic".')
    password: SecretStr = Field(
        SecretStr(""), description='Password for auth = "basic"; prefer a credential or password_file.'
    )
    password_file: value_types.OptionalPath = Field(None, description="File that contains the password.")
    token: SecretStr = Field(SecretStr(""), description='Token for auth = "bearer"; prefer a credential or token_file.')
    token_file: value_types.OptionalPath = Field(
        None, description="File that contains the token; read for each request."
    )
    timeout_s: value_types.Seconds = Field(DEFAULT_TIMEOUT_S, description="Time for the server to respond.")
    workers: int = Field(2, ge=1, le=64, description="Number of studies sent concurrently.")
    ca_file: value_types.OptionalPath = Field(
        None,
        description="CA certificates (PEM) to trust instead of the system's. Without it, REQUESTS_CA_BUNDLE,"
        " SSL_CERT_FILE and SSL_CERT_DIR are used if they are set.",
    )
    tls_certificate: value_types.OptionalPath = Field(
        None,
        description="Client certificate with its chain (PEM), for servers that require one (mutual TLS); the token"
        " endpoint gets it, too.",
    )
    tls_key: value_types.OptionalPath = Field(
        None, description="Private key of the client certificate (PEM). Without it: in the same file."
    )
    retry_max_s: value_types.Seconds = Field(
        RetryPolicy().cap_s, description="Longest pause between attempts while the server cannot be reached."
    )
    give_up_after_s: value_types.InheritedSeconds = Field(
        None, description="As fhir.give_up_after_s, for this destination.", examples=["inherit"]
    )
    headers: dict[HeaderName, SecretStr] = Field(
        default_factory=dict,
        description="Other headers of each request to the FHIR server; secret values belong into header_files.",
        examples=[{"X-Tenant": "radiology"}],
    )
    header_files: dict[HeaderName, value_types.LocalPath] = Field(
        default_factory=dict,
        description="Headers whose values are in files, such as an API key; read for each request.",
        examples=[{"X-Api-Key": "/etc/dicom2fhir/api-key"}],
    )
    oauth2: OAuth2Settings = Field(
        default_factory=OAuth2Settings.model_construct,
        description='Access tokens of an authorization server, for auth = "oauth2".',
    )

    @model_validator(mode="after")
    def _signed(self) -> Self:
        wrong = []
        for kind, word, text, file in (
            ("basic", "password", self.password, self.password_file),
            ("bearer", "token", self.token, self.token_file),
        ):
            if text and file:
                wrong.append(f"only one of {word} and {word}_file may be set")
            if (text or file) and self.auth != kind:
                wrong.append(f'{word} is set but auth is "{self.auth}": set auth = "{kind}" or remove it')
            if self.auth == kind and not (text or file):
                wrong.append(f'{word} or {word}_file must be set, because auth = "{kind}"')
        if self.auth == "basic" and (not self.username or ":" in self.username):
            wrong.append('username must be set, without colon (RFC 7617), because auth = "basic"')
        if self.auth == "oauth2":
            wrong += self.oauth2.problems(has_certificate=self.tls_certificate is not None)
        elif self.oauth2 != OAuth2Settings():
            wrong.append(f'oauth2 is set but auth is "{self.auth}": set auth = "oauth2" or remove it')
        if self.tls_key and not self.tls_certificate:
            wrong.append("tls_certificate must be set with tls_key")
        wrong += self._wrong_headers()
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_headers(self) -> list[str]:
        names = [name.lower() for name in (*self.headers, *self.header_files)]
        wrong = [f"the header {name} is set twice" for name in dict.fromkeys(names) if names.count(name) > 1]
        if self.auth != "none" and "authorization" in names:
            wrong.append(f'the header authorization is set by auth = "{self.auth}"')
        return wrong

    def secret(self) -> str:
        """The password or token; a file is read each time, so that a new one is used.

        Raises
        ------
        ConfigError
            The file cannot be read or is empty.
        """
        word = "password" if self.auth == "basic" else "token"
        path: Path | None = getattr(self, f"{word}_file")
        if self.auth == "none" or path is None:
            value: SecretStr = getattr(self, word)
            return value.get_secret_value()
        return read_secret(path, f"{word}_file")


class FileDestinationSettings(DestinationSettings):
    """``[destinations.NAME]`` with ``type = "file"``."""

    type: Literal["file"] = Field("file", description="Files: one Bundle for each revision of a study.")
    directory: value_types.LocalPath = Field(
        description="Folder that the files are written to.", examples=["/srv/fhir/out"]
    )


def _destination_type(value: object) -> str | None:
    kind = value.get("type", "fhir") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if isinstance(kind, str) else None


AnyDestinationSettings = Annotated[
    Annotated[FhirDestinationSettings, Tag("fhir")] | Annotated[FileDestinationSettings, Tag("file")],
    Discriminator(_destination_type),
]
