"""``explain``."""

from __future__ import annotations

from pathlib import Path

import click

from dicom2fhir.cli import mapping_tables
from dicom2fhir.cli.options import (
    config_option,
    json_option,
    load_settings,
    profile_option,
    put_json,
    version_option,
)
from dicom2fhir.cli.output import Page
from dicom2fhir.config import Settings
from dicom2fhir.errors import attempt
from dicom2fhir.jobs import conversion
from dicom2fhir.wiring import options
from dicom2fhir.wiring.translation import Explained, Translation


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@config_option
@version_option
@profile_option
@json_option
def explain(file: str, config_file: Path | None, version: str | None, profile_name: str | None, as_json: bool) -> None:
    """Show which attribute of FILE is mapped to which element, what is left out and why."""
    settings = load_settings(config_file, {"fhir": {"version": version, "profile": profile_name}})
    explained = attempt(_explained, file, settings)
    if as_json:
        put_json(explained.document())
    else:
        Page().print(
            mapping_tables.explain_tables(
                explained.mapped, explained.traces, list(explained.rejection.lines()) if explained.rejection else ()
            )
        )


def _explained(file: str, settings: Settings) -> Explained:
    return Translation(settings).explain(conversion.instance_of(conversion.named_file(file), options.budgets(settings)))
