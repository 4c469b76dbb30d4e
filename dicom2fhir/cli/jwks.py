"""``jwks``: the public keys of the bridge, for its registration at authorization servers."""

from __future__ import annotations

from pathlib import Path

import click

from dicom2fhir.cli.options import config_option, load_settings, put_json
from dicom2fhir.config import FhirDestinationSettings
from dicom2fhir.errors import ConfigError


@click.command()
@click.argument("destination", required=False)
@config_option
def jwks(destination: str | None, config_file: Path | None) -> None:
    """Print the public keys that belong to private_key_file, as a JSON Web Key Set (RFC 7517).

    They are to be registered at the authorization server. Without DESTINATION: those of all destinations.
    """
    from dicom2fhir.wiring.credentials import client_key

    configured = load_settings(config_file).destinations
    if destination and destination not in configured:
        raise click.UsageError(f"{destination}: no such destination; there is {', '.join(configured) or 'none'}")
    keys = {
        (key := client_key(settings).public())["kid"]: key
        for name, settings in configured.items()
        if destination in (None, name)
        if isinstance(settings, FhirDestinationSettings) and settings.oauth2.private_key_file
    }
    if not keys:
        raise ConfigError("no private key is configured: set private_key_file in [destinations.NAME.oauth2]")
    put_json({"keys": list(keys.values())})
