"""``settle`` and ``forget``: decisions about single studies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dicom2fhir.cli.exit_status import EXIT_FAILED
from dicom2fhir.cli.options import (
    config_option,
    given_store,
    json_option,
    put_json,
    require_studies,
    state_dir_option,
)
from dicom2fhir.dicom.patients import NamedPatient, Verdict
from dicom2fhir.errors import StudyBusy
from dicom2fhir.ops import settlement
from dicom2fhir.store.statuses import StudyStatus
from dicom2fhir.system.text import counted, printable


@click.command()
@click.argument("study")
@config_option
@state_dir_option
@click.option(
    "--keep", type=click.IntRange(1), metavar="N", help="Patient N is right, for all instances that are kept."
)
@click.option(
    "--drop",
    type=click.IntRange(1),
    metavar="N",
    multiple=True,
    help="Leave out the instances of patient N, for example because they were resent under another Study Instance UID.",
)
@click.option("--undo", is_flag=True, help="Undo the decision.")
@click.option("--show-identifiers", is_flag=True, help="Show names, IDs and birth dates in full.")
@json_option
def settle(
    study: str,
    config_file: Path | None,
    state_dir: Path | None,
    keep: int | None,
    drop: tuple[int, ...],
    undo: bool,
    show_identifiers: bool,
    as_json: bool,
) -> None:
    """Resolve a patient conflict: the instances of STUDY (its Study Instance UID) name several patients.

    Without --keep or --drop it lists the patients with numbers. The decision also applies to instances that arrive
    later; another patient is a new conflict. The study is then sent as a new revision.
    """
    if undo and (keep or drop):
        raise click.UsageError("--undo cannot be combined with --keep or --drop")
    address = given_store(config_file, state_dir)
    changes = bool(undo or keep or drop)
    store = address.attach() if changes else address.open_readonly()
    try:
        require_studies(store, [study])
        patients = store.patients(study)
        if changes:
            store.settle(study, {} if undo else _verdicts(patients, keep, drop))
            patients = store.patients(study)
        assembled = store.study(study)
    finally:
        store.close()
    conflict = assembled.conflict if assembled else ""
    shown = settlement.described(patients, show_identifiers)
    if as_json:
        put_json({"store": str(address), "study_uid": study, "conflict": conflict, "patients": shown})
        return
    for one in shown:
        words = [counted(one.pop("instances"), "instance"), one.pop("verdict") or "not resolved"]
        click.echo(f"Patient {one.pop('number')}: {', '.join(words)}")
        for name, value in one.items():
            click.echo(printable(f"  {name}: {value}"))
    click.echo(conflict or "There is no conflict.")
    if changes:
        click.echo("The study is due now, as a new revision.")
    elif not show_identifiers:
        click.echo("Identifiers are masked; --show-identifiers shows them.")


def _verdicts(patients: Sequence[NamedPatient], keep: int | None, drop: Sequence[int]) -> dict[str, Verdict]:
    """The verdict on each patient, by its number."""
    if not settlement.is_settleable(patients):
        raise click.ClickException("the instances name one patient: there is no conflict to resolve")
    try:
        return settlement.verdicts(patients, keep, drop)
    except LookupError as error:
        raise click.UsageError(str(error)) from None
    except ValueError as error:
        raise click.UsageError(f"{error}: use --keep") from None


@click.command()
@click.argument("studies", nargs=-1, required=True)
@config_option
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def forget(
    studies: tuple[str, ...], config_file: Path | None, state_dir: Path | None, yes: bool, as_json: bool
) -> None:
    """Remove STUDIES (Study Instance UIDs) from the store. Nothing is removed from any FHIR server.

    If instances are received again, the study is created again. Files are not imported again automatically, neither
    from a watched folder nor by backfill: use `dicom2fhir backfill --again`. A study that is being sent now is not
    removed. What rejection notes stated of its instances stays known.
    """
    address = given_store(config_file, state_dir)
    store = address.attach()
    forgotten, busy = [], []
    try:
        require_studies(store, studies)
        found = {study: status for study in studies if (status := store.study_status(study))}
        if not yes and sys.stdin.isatty():
            what = counted(len(found), "study")
            instances = counted(sum(status.instances for status in found.values()), "instance")
            click.confirm(f"Remove {what} ({instances}) from {address}? It cannot be undone.", abort=True, err=True)
        for study, status in found.items():
            try:
                if store.forget(study):
                    forgotten.append(status)
            except StudyBusy:
                busy.append(study)
    finally:
        store.close()
    if as_json:
        put_json({"store": str(address), "forgotten": [_forgotten(one) for one in forgotten], "busy": busy})
    else:
        for one in forgotten:
            click.echo(f"{one.study_uid} was removed: {counted(one.instances, 'instance')}")
            if there := _delivered_to(one):
                click.echo(f"  already delivered, and not removed there: {', '.join(there)}")
    for study in busy:
        click.echo(f"{study} is being sent now; try again in a moment", err=True)
    if busy:
        raise click.exceptions.Exit(EXIT_FAILED)


def _forgotten(study: StudyStatus) -> dict[str, Any]:
    return {
        "study_uid": study.study_uid,
        "series": study.series,
        "instances": study.instances,
        "stays_at": _delivered_to(study),
    }


def _delivered_to(study: StudyStatus) -> list[str]:
    return [delivery.destination for delivery in study.deliveries if delivery.delivered_revision]
