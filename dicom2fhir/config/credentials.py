"""The options of a destination that are for its credentials."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from dicom2fhir.config import value_types
from dicom2fhir.config.secret_files import read_secret
from dicom2fhir.config.sections import SettingsTable
from dicom2fhir.fhir.send.client_authentication import ClientAuthentication

_OURS = frozenset(
    {"accept", "accept-encoding", "cache-control", "connection", "content-length", "content-type", "cookie", "expect"}
    | {"host", "if-match", "if-modified-since", "if-none-exist", "if-none-match", "prefer", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "user-agent"}
)
"""Headers that the bridge sets itself, and those of the connection."""


def _header(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", name):
        raise ValueError("must be the name of an HTTP header (RFC 9110 section 5.1)")
    if name.lower() in _OURS:
        raise ValueError("is a header that the bridge sets itself")
    return name


HeaderName = Annotated[str, AfterValidator(_header)]


class OAuth2Settings(SettingsTable):
    """``[destinations.NAME.oauth2]``."""

    token_url: value_types.OptionalUrl = Field(
        "",
        description="Token endpoint. Without it, the FHIR server names it in .well-known/smart-configuration.",
    )
    client_id: str = Field("", description="Client id, from the registration of the bridge.")
    client_authentication: Literal["auto", ClientAuthentication] = Field(
        "auto",
        description="How the bridge identifies itself: auto is private_key_jwt with private_key_file, and otherwise"
        " client_secret_basic. tls_client_auth uses tls_certificate alone (RFC 8705).",
    )
    client_secret: SecretStr = Field(
        SecretStr(""), description="Client secret; prefer a credential or client_secret_file."
    )
    client_secret_file: value_types.OptionalPath = Field(None, description="File that contains the client secret.")
    private_key_file: value_types.OptionalPath = Field(
        None,
        description="Private key (PEM without a passphrase, or JSON Web Key) for private_key_jwt, as SMART Backend"
        " Services require it: RSA for RS384, EC on P-384 for ES384. `dicom2fhir jwks` prints the public key. Needs the"
        " extra oauth: pip install 'dicom2fhir-bridge[oauth]'.",
    )
    key_id: str = Field("", description="Key id (kid) of that key. Without it: that of a JSON Web Key, or a hash.")
    scope: str = Field(
        "",
        description="Requested scope, such as system/ImagingStudy.cruds system/Patient.rs; SMART servers require it.",
    )
    audience: str = Field("", description="Requested audience, for servers that ask for this parameter.")
    resource: value_types.Uri = Field(
        "", description="Requested resource (RFC 8707), often the URL of the FHIR server."
    )
    assertion_audience: str = Field(
        "", description="Audience (aud) of what the private key signs. Without it: the token endpoint."
    )
    ca_file: value_types.OptionalPath = Field(
        None, description="CA certificates (PEM) to trust at the token endpoint. Without it: as for the FHIR server."
    )

    @property
    def authentication(self) -> ClientAuthentication:
        """The method in force."""
        if self.client_authentication != "auto":
            return self.client_authentication
        return "private_key_jwt" if self.private_key_file else "client_secret_basic"

    def problems(self, has_certificate: bool) -> list[str]:
        """What is missing or contradicts.

        Parameters
        ----------
        has_certificate
            Whether the destination has a tls_certificate.
        """
        wrong = []
        has_secret = bool(self.client_secret or self.client_secret_file)
        if not self.client_id:
            wrong.append('oauth2.client_id must be set, because auth = "oauth2"')
        if self.client_secret and self.client_secret_file:
            wrong.append("only one of oauth2.client_secret and oauth2.client_secret_file may be set")
        if has_secret and self.private_key_file:
            wrong.append("only one of a client secret and oauth2.private_key_file may be set")
        match self.authentication:
            case "private_key_jwt" if not self.private_key_file:
                wrong.append("oauth2.private_key_file must be set for private_key_jwt")
            case "tls_client_auth" if not has_certificate:
                wrong.append("tls_certificate must be set for tls_client_auth")
            case "client_secret_basic" | "client_secret_post" if not has_secret:
                wrong.append("oauth2.client_secret_file, client_secret or private_key_file must be set")
        return wrong

    def secret(self) -> str:
        """The client secret; a file is read each time.

        Raises
        ------
        ConfigError
            The file cannot be read.
        """
        if self.client_secret_file is None:
            return self.client_secret.get_secret_value()
        return read_secret(self.client_secret_file, "client_secret_file")
