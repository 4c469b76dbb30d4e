"""``profiles``."""

from __future__ import annotations

from pathlib import Path

import click

from dicom2fhir.cli import mapping_tables
from dicom2fhir.cli.options import json_option, put_json
from dicom2fhir.cli.output import Page
from dicom2fhir.wiring import options


@click.group()
def profiles() -> None:
    """List, show and check profiles: additional requirements of a country or a project."""


@profiles.command("list")
@json_option
def list_profiles(as_json: bool) -> None:
    """List the profiles that are included."""
    found = [options.profile(name) for name in options.profile_names()]
    if as_json:
        shown = {"name", "title", "unverified", "versions"}
        put_json([one.model_dump(mode="json", include=shown) for one in found])
    else:
        Page().print(mapping_tables.profiles_table(found))


@profiles.command("show")
@click.argument("name")
@json_option
def show_profile(name: str, as_json: bool) -> None:
    """Show what the profile NAME (or a file) requires, and what is not known about it."""
    found = options.profile(name)
    if as_json:
        put_json(found.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    else:
        Page().print(mapping_tables.profile_tables(found))


@profiles.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check_profile(file: Path) -> None:
    """Check your own profile FILE."""
    found = options.profile(str(file.absolute()))
    click.echo(f"{found.name} is valid: {found.title}, for FHIR {', '.join(found.versions)}")
