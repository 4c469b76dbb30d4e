"""The section of the configuration for the web page."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from dicom2fhir.config import value_types
from dicom2fhir.config.secret_files import read_secret
from dicom2fhir.config.sections import SettingsTable
from dicom2fhir.errors import ConfigError
from dicom2fhir.web.options import Face

_FACE = Face()
"""Its fields declare the defaults."""
_MIN_TOKEN_CHARACTERS = 16


class WebSettings(SettingsTable):
    """``[web]``."""

    enabled: bool = Field(True, description="Whether to serve the web page and the HTTP API.")
    host: str = Field(
        _FACE.host,
        description="Address to listen on. An address that other machines can reach requires token or token_file."
        ' "0.0.0.0" and "::" mean all addresses of this machine.',
    )
    port: int = Field(
        _FACE.port,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0 chooses a free port. While another program uses the port, the bridge"
        " works without the page, and tries again.",
    )
    server_names: value_types.Texts = Field(
        _FACE.server_names,
        description="Host names in the address of the page, besides host, localhost and the names of this machine, for"
        ' example "bridge.hospital.example". Requests to other names are refused (DNS rebinding).',
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="Token that gives access, at least 16 characters; prefer a credential or token_file. Without"
        " it the page can only be read, and only from this machine. Every change, and every request from"
        " another machine or through a proxy, needs it.",
    )
    token_file: value_types.OptionalPath = Field(
        None, description="File that contains the token.", examples=["/etc/dicom2fhir/web-token"]
    )
    show_identifiers: bool = Field(
        _FACE.show_identifiers,
        description="Whether names, birth dates and identifiers of patients, and accession numbers, are shown on the"
        " page and in the API, and patients can be searched.",
    )
    tls_certificate: value_types.OptionalPath = Field(
        None,
        description="TLS certificate with its chain, a PEM file. If it is set, only TLS connections are accepted."
        " Empty: no TLS.",
        examples=["/etc/dicom2fhir/web.crt"],
    )
    tls_key: value_types.OptionalPath = Field(
        None,
        description="Private key of tls_certificate, a PEM file without passphrase. Empty: the key is in the"
        " certificate file.",
        examples=["/etc/dicom2fhir/web.key"],
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        given = self.token.get_secret_value()
        if given and self.token_file:
            raise ValueError("only one of token and token_file may be set")
        if given and len(given) < _MIN_TOKEN_CHARACTERS:
            raise ValueError(f"token must have at least {_MIN_TOKEN_CHARACTERS} characters")
        if self.enabled and not (given or self.token_file or value_types.is_loopback(self.host)):
            raise ValueError(
                f"host = {self.host!r} can be reached by other machines: set token_file, or listen on 127.0.0.1"
            )
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_certificate must be set, because tls_key is")
        return self

    def secret(self) -> str:
        """The token, or an empty text; a file is read each time, so that a new one is used.

        Raises
        ------
        ConfigError
            The file cannot be read, is empty, or its text is too short.
        """
        if self.token_file is None:
            return self.token.get_secret_value()
        text = read_secret(self.token_file, "web.token_file")
        if len(text) < _MIN_TOKEN_CHARACTERS:
            raise ConfigError(
                f"web.token_file = {str(self.token_file)!r}: the token must have at least {_MIN_TOKEN_CHARACTERS}"
                " characters"
            )
        return text
