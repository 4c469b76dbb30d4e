"""How a client identifies itself at a token endpoint."""

from __future__ import annotations

from typing import Literal

ClientAuthentication = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"]
"""By the names of the IANA registry "OAuth Token Endpoint Authentication Methods"."""
