"""``status`` and ``retry``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicom2fhir.cli import tables
from dicom2fhir.cli.exit_status import EXIT_FAILED
from dicom2fhir.cli.options import (
    config_option,
    given_store,
    json_option,
    put_json,
    require_destination,
    require_studies,
    state_dir_option,
)
from dicom2fhir.cli.output import Page
from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.ops import status as bridge
from dicom2fhir.store.statuses import State, StudyStatus
from dicom2fhir.store.study_search import StudyFilter
from dicom2fhir.system.text import counted

if TYPE_CHECKING:
    from dicom2fhir.store.sql.store import SqlStore

_EXAMPLES = 20
"""Studies that ``retry --remap`` lists."""


@click.command()
@click.argument("study", required=False)
@config_option
@state_dir_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only studies in this state.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Number of studies and of rejections to show.",
)
@click.option(
    "--outdated",
    is_flag=True,
    help="Only studies that another version of dicom2fhir read; reading their files again may give more.",
)
@click.option("--check", is_flag=True, help="Exit with 1 when something needs attention.")
@click.option(
    "--acknowledge", is_flag=True, help="Acknowledge the damage of the store that is shown now; it is not shown again."
)
@json_option
def status(
    study: str | None,
    config_file: Path | None,
    state_dir: Path | None,
    state: str | None,
    limit: int,
    outdated: bool,
    check: bool,
    acknowledge: bool,
    as_json: bool,
) -> None:
    """Show the state of the daemon, of reception and deliveries, or of one STUDY.

    STUDY is a Study Instance UID or an Accession Number.
    """
    if (check or acknowledge) and (study or outdated):
        raise click.UsageError("--check and --acknowledge cannot be combined with a study or --outdated")
    store = given_store(config_file, state_dir).open_readonly(reader=fingerprint())
    try:
        if study:
            _show_study(store, study, limit, as_json)
            return
        if outdated:
            _list_outdated(store, limit, as_json)
            return
        seen = bridge.overview(store, State(state) if state else None, limit)
    finally:
        store.close()
    if as_json:
        put_json(bridge.as_json(seen))
    else:
        Page().print(tables.status_tables(seen))
    if acknowledge:
        store.acknowledge_damages()
        click.echo(f"acknowledged: {counted(len(seen.damages), 'damage')} of the store", err=True)
    if check and seen.attention:
        raise click.exceptions.Exit(EXIT_FAILED)


def _list_outdated(store: SqlStore, limit: int, as_json: bool) -> None:
    found, count = [study.study_uid for study in store.outdated_studies(limit)], store.stats().outdated
    if as_json:
        put_json({"store": store.location, "outdated": count, "studies": found})
        return
    for uid in found:
        click.echo(uid)
    if count > len(found):
        click.echo(f"... and {count - len(found):,} more: see --limit", err=True)


def _with_accession_number(store: SqlStore, number: str, limit: int) -> list[StudyStatus]:
    """Read one by one: a search leaves out what is counted only for a study that is asked for."""
    uids = [one.status.study_uid for one in store.find_studies(StudyFilter(accession_number=number), limit=limit)]
    return [status for uid in uids if (status := store.study_status(uid))]


def _show_study(store: SqlStore, study: str, limit: int, as_json: bool) -> None:
    now = time.time()
    known = store.study_status(study)
    found = [known] if known else _with_accession_number(store, study, limit)
    if not found and (forgotten_at := store.forgotten_at(study)):
        _show_forgotten(store, study, forgotten_at, as_json)
        return
    if not found:
        raise click.ClickException(f"there is no study with this UID or Accession Number in {store.location}")
    daemon = bridge.daemon_of(store, now)
    if not as_json:
        Page().print(tables.study_tables(found, daemon, now))
    elif len(found) == 1:
        put_json({"store": store.location} | bridge.study_json(found[0], daemon, now))
    else:
        put_json({"store": store.location, "studies": [bridge.study_json(one, daemon, now) for one in found]})


def _show_forgotten(store: SqlStore, study: str, at: float, as_json: bool) -> None:
    if as_json:
        put_json({"store": store.location, "study_uid": study, "forgotten_at": at})
    else:
        click.echo(
            f"{study} was forgotten on {datetime.fromtimestamp(at, UTC):%Y-%m-%d}, because every destination had had it"
            " for store.forget_after_s. It stays there."
        )


@click.command()
@click.argument("studies", nargs=-1)
@config_option
@state_dir_option
@click.option("--destination", help="Only this destination.")
@click.option("--all", "everything", is_flag=True, help="Every study that is refused, also in part, or waiting.")
@click.option("--remap", is_flag=True, help="With --all: also every study that was delivered.")
def retry(
    studies: tuple[str, ...],
    config_file: Path | None,
    state_dir: Path | None,
    destination: str | None,
    everything: bool,
    remap: bool,
) -> None:
    """Send STUDIES (Study Instance UIDs) again now, or with --all every study that is refused, also in part, or
    waiting.

    After a change of FHIR version, profile or mapping, --all --remap sends every study again.
    """
    if bool(studies) == everything:
        raise click.UsageError("name studies or use --all")
    if remap and not everything:
        raise click.UsageError("--remap requires --all; studies that are named are sent again in any case")
    store = given_store(config_file, state_dir).attach(reader=fingerprint())
    try:
        require_known(store, studies, destination)
        every_state = remap or bool(studies)
        count = sum(store.requeue(study, destination, all_states=every_state) for study in studies or (None,))
        outdated, examples = store.stats().outdated, store.outdated_studies(_EXAMPLES)
    finally:
        store.close()
    click.echo(f"{counted(count, 'delivery')} {'is' if count == 1 else 'are'} due now")
    if remap and outdated:
        click.echo(
            f"{counted(outdated, 'study')} {'was' if outdated == 1 else 'were'} read by another version of dicom2fhir. "
            "Reading their files again may give more: dicom2fhir backfill --again PATHS."
        )
        for study in examples:
            click.echo(f"  {study.study_uid}")
        if outdated > len(examples):
            click.echo(f"  ... and {outdated - len(examples):,} more: dicom2fhir status --outdated")


def require_known(store: SqlStore, studies: Iterable[str], destination: str | None) -> None:
    """Check that the studies and the destination are in the store, before anything is changed."""
    if destination is not None:
        require_destination(store, destination)
    require_studies(store, studies)
