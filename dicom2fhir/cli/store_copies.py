"""``store backup``, ``store restore`` and ``store migrate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dicom2fhir.cli.options import config_option, given_store, json_option, put_json, state_dir_option
from dicom2fhir.ops.status import moment


@click.group()
def store() -> None:
    """Copy the store, restore a copy of it, and move it to a database."""


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@state_dir_option
def backup(file: Path, config_file: Path | None, state_dir: Path | None) -> None:
    """Copy the store to FILE, a new file, as it is at this moment; the daemon may be running.

    The copy contains patient data, and only its owner may read it.
    """
    from dicom2fhir.store.sqlite.copies import back_up

    path = given_store(config_file, state_dir).path
    with _bar("copying") as on_progress:
        newest = back_up(path, file.absolute(), on_progress)
    click.echo(f"{path} was copied to {file}; {_last(newest)}")


@store.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def restore(file: Path, config_file: Path | None, state_dir: Path | None, yes: bool) -> None:
    """Put FILE, made by `dicom2fhir store backup`, in the place of the store. Stop the daemon before.

    The present store is renamed, not deleted. What was received after the copy was made must be sent again.
    """
    from dicom2fhir.store.sqlite.copies import restore as restore_copy

    path = given_store(config_file, state_dir).path
    if not yes and sys.stdin.isatty():
        click.confirm(f"Put {file} in the place of {path}?", abort=True, err=True)
    with _bar("restoring") as on_progress:
        newest, aside = restore_copy(path, file.absolute(), on_progress)
    click.echo(f"{path} is now {file}; {_last(newest)}. Have what was received later sent again.")
    if aside:
        click.echo(f"The store before it is {aside}; delete it when nobody needs it: it contains patient data.")


@store.command()
@click.argument("url")
@config_option
@state_dir_option
@json_option
def migrate(url: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Move the store from its file to the PostgreSQL database URL, which has no tables. Stop the daemon before.

    What was moved is compared in the end; until then, a daemon refuses the database. The file is not changed. If the
    command is interrupted, run it again: it continues. The password may be in ~/.pgpass instead of URL.
    """
    from dicom2fhir.wiring.store_options import require_psycopg

    require_psycopg()
    from dicom2fhir.store.migration.move import move

    path = given_store(config_file, state_dir).path
    with _steps() as on_progress:
        summary = move(path, url, on_progress)
    if as_json:
        put_json(summary.as_json())
        return
    click.echo("\n".join(summary.lines()))


def _last(newest: float | None) -> str:
    return "it has no studies" if newest is None else f"the last instance in it was received at {moment(newest)}"


@contextmanager
def _bar(step: str) -> Iterator[Callable[[int, int], None]]:
    with _steps() as on_progress:
        yield lambda done, total: on_progress(step, done, total)


@contextmanager
def _steps() -> Iterator[Callable[[str, int, int], None]]:
    """One bar; what it says may change."""
    from dicom2fhir.cli.output import Page
    from dicom2fhir.cli.progress_bars import progress

    with progress(Page(stderr=True)) as bar:
        task = bar.add_task("")
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)
