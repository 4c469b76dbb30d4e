"""The private key with which the bridge identifies itself to an authorization server (``private_key_jwt``).

RFC 7523 section 2.2, and SMART App Launch, client authentication with asymmetric keys
(https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html). This module needs the extra ``oauth``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from authlib.oauth2.rfc7523 import private_key_jwt_sign
from joserfc.errors import InvalidKeyTypeError, JoseError
from joserfc.jwk import ECKey, RSAKey

from dicom2fhir.errors import ConfigError

_LIFETIME_S = 240
"""SMART allows five minutes; the clocks of the two machines may differ."""
_MIN_RSA_BITS = 2048
_USABLE = "must be an RSA key of at least 2048 bits, for RS384, or an EC key on P-384, for ES384"


class ClientKey:
    """A private key; the file is read each time, so that a new key is used at once.

    Parameters
    ----------
    path
        In PEM without a passphrase, or as a JSON Web Key.
    key_id
        ``kid`` of the key; empty: that of the JSON Web Key, else its thumbprint (RFC 7638).
    """

    def __init__(self, path: Path, key_id: str = "") -> None:
        self.path = path
        self.key_id = key_id

    def assertion(self, client_id: str, audience: str) -> str:
        """A signed statement that the bearer is this client.

        Raises
        ------
        ConfigError
            The key cannot be used.
        """
        key, algorithm = self._read()
        header = {"kid": self._id_of(key), "typ": "JWT"}
        signed: str = private_key_jwt_sign(
            key, client_id, audience, alg=algorithm, header=header, expires_in=_LIFETIME_S
        )
        return signed

    def public(self) -> dict[str, Any]:
        """The public key as a JSON Web Key (RFC 7517), to be registered at the authorization server.

        Raises
        ------
        ConfigError
            The key cannot be used.
        """
        key, algorithm = self._read()
        return {
            **key.as_dict(private=False),
            "kid": self._id_of(key),
            "alg": algorithm,
            "use": "sig",
            "key_ops": ["verify"],
        }

    def _id_of(self, key: RSAKey | ECKey) -> str:
        return self.key_id or key.kid or key.thumbprint()

    def _read(self) -> tuple[RSAKey | ECKey, str]:
        """The key and its algorithm."""
        named = f"private_key_file = {str(self.path)!r}"
        try:
            text = self.path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"{named} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{named} is neither PEM nor a JSON Web Key") from None
        try:
            key = _imported(text)
        except (ValueError, TypeError, KeyError, JoseError):  # the text of these may quote the key
            raise ConfigError(f"{named} is no private key without a passphrase, in PEM or as a JSON Web Key") from None
        if not key.is_private:
            raise ConfigError(f"{named} is a public key; the private one is needed")
        if isinstance(key, RSAKey) and key.raw_value.key_size >= _MIN_RSA_BITS:
            return key, "RS384"
        if isinstance(key, ECKey) and key.curve_name == "P-384":
            return key, "ES384"
        raise ConfigError(f"{named} {_USABLE}")


def _imported(text: str) -> RSAKey | ECKey:
    """The key in a text, in either form."""
    if text.startswith("{"):
        found = json.loads(text)
        return ECKey.import_key(found) if found.get("kty") == "EC" else RSAKey.import_key(found)
    try:
        return RSAKey.import_key(text)
    except InvalidKeyTypeError:
        return ECKey.import_key(text)
