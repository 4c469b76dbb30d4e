"""``relink``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
from rich.progress import Progress

from dicom2fhir.cli import tables
from dicom2fhir.cli.options import config_option, given_store, json_option, moment_since, put_json, state_dir_option
from dicom2fhir.cli.output import Page
from dicom2fhir.cli.progress_bars import progress
from dicom2fhir.cli.studies import require_known


@click.command()
@click.argument("studies", nargs=-1)
@config_option
@state_dir_option
@click.option("--destination", help="Only this destination.")
@click.option("--all", "everything", is_flag=True, help="Every study.")
@click.option("--since", help="Every study that changed since a date (2026-01-31) or within a duration (12h, 7d, 2w).")
@json_option
def relink(
    studies: tuple[str, ...],
    config_file: Path | None,
    state_dir: Path | None,
    destination: str | None,
    everything: bool,
    since: str | None,
    as_json: bool,
) -> None:
    """Search again for resources that STUDIES (Study Instance UIDs) could not refer to when they were delivered.

    An order, encounter or patient that the server did not have is referred to by identifier, which few servers
    search. Studies that still have such a reference become due now, and get a literal reference if exactly one
    resource is found. Other studies, and those that are waiting or refused, are not changed. To repeat searches that
    were successful, use `dicom2fhir retry`.
    """
    if [bool(studies), everything, since is not None].count(True) != 1:
        raise click.UsageError("name studies, or use --all or --since")

    since_s = moment_since(since) or 0.0
    address = given_store(config_file, state_dir)
    console = Page(stderr=True)
    with closing(address.attach()) as store, progress(console) as bar:
        require_known(store, studies, destination)
        due = {
            name: sum(store.relink(name, study, since_s, _shown(bar, name)) for study in studies or (None,))
            for name in ([destination] if destination else [one.name for one in store.destinations()])
        }
    if as_json:
        put_json({"store": str(address), "due": due})
    else:
        Page().print(tables.due_table(due))


def _shown(bar: Progress, name: str) -> Callable[[int, int], None]:
    """A callback that shows the progress at a destination."""
    task = bar.add_task(name, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)
