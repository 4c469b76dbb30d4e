"""``pause`` and ``resume``: whether studies are sent to a destination."""

from __future__ import annotations

from pathlib import Path

import click

from dicom2fhir.cli.options import config_option, given_store, require_destination, state_dir_option


@click.command()
@click.argument("destination")
@config_option
@state_dir_option
def pause(destination: str, config_file: Path | None, state_dir: Path | None) -> None:
    """Send nothing to DESTINATION until `dicom2fhir resume`, also after a restart.

    Reception continues, and the studies wait. A study that is being sent now is completed.
    """
    store = given_store(config_file, state_dir).attach()
    try:
        require_destination(store, destination)
        changed = store.pause(destination)
    finally:
        store.close()
    was = "is paused" if changed else "was paused already"
    click.echo(f"{destination} {was}; continue with `dicom2fhir resume {destination}`")


@click.command()
@click.argument("destination")
@config_option
@state_dir_option
def resume(destination: str, config_file: Path | None, state_dir: Path | None) -> None:
    """Send to DESTINATION again what has waited since `dicom2fhir pause`."""
    store = given_store(config_file, state_dir).attach()
    try:
        require_destination(store, destination)
        changed = store.resume(destination)
    finally:
        store.close()
    click.echo(f"{destination} {'is no longer paused' if changed else 'was not paused'}")
