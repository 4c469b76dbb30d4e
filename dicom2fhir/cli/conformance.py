"""``conformance``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from dicom2fhir.cli.options import config_option, load_settings, put_json, version_option


@click.command()
@config_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["markdown", "html", "fhir"]),
    default="markdown",
    show_default=True,
    help="A DICOM Conformance Statement (PS3.2 annex N, edition 2024b) as Markdown or HTML, or a FHIR"
    " CapabilityStatement.",
)
@version_option
@click.option("--destination", metavar="NAME", help="The FHIR server whose options the CapabilityStatement has.")
def conformance(
    config_file: Path | None, format_: Literal["markdown", "html", "fhir"], version: str | None, destination: str | None
) -> None:
    """Write what the bridge conforms to, as it is configured: to senders (DICOM) and to servers (FHIR)."""
    settings = load_settings(config_file, {"fhir": {"version": version}})
    if destination is not None and destination not in settings.destinations:
        known = ", ".join(settings.destinations) or "none"
        raise click.UsageError(f"there is no destination {destination} in the configuration; known: {known}")
    today = datetime.now(UTC).date().isoformat()
    if format_ == "fhir":
        from dicom2fhir.conformance.fhir_client import capability_statement
        from dicom2fhir.wiring import options

        patient = settings.patient_mode(destination) if destination else "link"
        dialect = options.dialect(settings.fhir.version, options.load_profile(settings.fhir.profile))
        put_json(capability_statement(dialect, options.mapping_options(settings, patient, destination or ""), today))
        return
    if not settings.receiver.enabled:
        raise click.UsageError("receiver.enabled is false: there is no DICOM service to describe; see --format fhir")
    # imported here: the DICOM libraries take longer to load than the rest
    from dicom2fhir.conformance import dicom_statement, document
    from dicom2fhir.wiring import parts

    made = dicom_statement.statement(parts.listen(settings), today)
    click.echo(document.markdown(made) if format_ == "markdown" else document.to_html(made), nl=False)
