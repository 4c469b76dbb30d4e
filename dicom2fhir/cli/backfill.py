"""``backfill``."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import TextColumn

from dicom2fhir.cli import tables
from dicom2fhir.cli.exit_status import EXIT_FAILED
from dicom2fhir.cli.options import (
    config_option,
    json_option,
    load_settings,
    moment_since,
    put_json,
    state_dir_option,
    store_of,
)
from dicom2fhir.cli.output import Page
from dicom2fhir.cli.progress_bars import progress
from dicom2fhir.config import Settings
from dicom2fhir.dicom.reader_fingerprint import fingerprint
from dicom2fhir.errors import NoStore
from dicom2fhir.jobs.backfill_sources import is_url
from dicom2fhir.jobs.objects import bucket_and_key, require_botocore
from dicom2fhir.wiring import options
from dicom2fhir.wiring.store_options import StoreAddress, store_options

if TYPE_CHECKING:
    from dicom2fhir.jobs.backfill_summary import Summary
    from dicom2fhir.store.sql.store import SqlStore

_BUSY_TIMEOUT_S = 60.0
"""How long to wait for the store. The daemon locks it for milliseconds, but an import has time."""


class _Source(click.Path):
    """A file, a folder or ``s3://bucket/prefix``."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See :meth:`click.ParamType.convert`."""
        if not is_url(value):
            return super().convert(value, param, ctx)
        if not bucket_and_key(value)[0]:
            self.fail(f"{value!r} names no bucket; write s3://bucket/prefix", param, ctx)
        require_botocore()
        return value


@click.command()
@click.argument("paths", nargs=-1, required=True, type=_Source(exists=True))
@config_option
@state_dir_option
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Number of processes that read headers.  [default: one per core]"
)
@click.option("--since", help="Only files modified since a date (2026-01-31) or within a duration (12h, 7d, 2w).")
@click.option(
    "--again",
    is_flag=True,
    help="Also read files that are already in the store, for example after an upgrade or `dicom2fhir forget`.",
)
@click.option("--no-archives", is_flag=True, help="Ignore zip and tar archives instead of reading the files in them.")
@click.option("--s3-endpoint", metavar="URL", help="Object store of s3://.  [default: as the AWS tools find it]")
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Have the workers of a Dask cluster read the headers, by its scheduler (tcp://host:8786).",
)
@click.option("--ignore-rejection-notes", is_flag=True, help="Treat rejection notes as key objects like any.")
@click.option("--dry-run", is_flag=True, help="Read and count files without writing to the store.")
@json_option
@click.pass_context
def backfill(
    context: click.Context,
    paths: tuple[str, ...],
    config_file: Path | None,
    state_dir: Path | None,
    workers: int | None,
    since: str | None,
    again: bool,
    no_archives: bool,
    s3_endpoint: str | None,
    dask: str | None,
    ignore_rejection_notes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import all DICOM files below PATHS, and in archives there, into the store, for the daemon to deliver.

    PATHS are files, folders or s3://bucket/prefix, which stands for all objects whose keys begin with the prefix.
    The daemon may run at the same time. An interrupted import continues when the same command is run again.
    """
    from dicom2fhir.jobs.backfill import Backfill

    settings = load_settings(config_file, {"store": {"directory": str(state_dir.absolute()) if state_dir else None}})
    since_s = moment_since(since)
    address = store_of(settings)
    console = Page(stderr=True)
    with ExitStack() as stack, progress(console, TextColumn("{task.fields[rate]}")) as bar:
        store = _open(address, settings, dry_run)
        if store:
            stack.callback(store.close)
        task = bar.add_task("reading", total=None, rate="")

        def show(summary: Summary, total: int | None) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=summary.files, total=total, rate=f"{speed:,.0f} files/s" if speed else "")

        run = Backfill(
            store,
            workers=workers or len(os.sched_getaffinity(0)),
            dry_run=dry_run,
            again=again,
            since=since_s,
            archives=not no_archives,
            s3_endpoint=s3_endpoint,
            dask=dask,
            attach=partial(address.attach, **_store_options(settings)) if dask and address.url else None,
            may_reject=not ignore_rejection_notes,
            budgets=options.budgets(settings),
            on_progress=show if console.is_terminal else None,
        )
        try:
            summary = run.run(paths)
        except KeyboardInterrupt:
            left = "nothing was written" if dry_run else "run the same command again to continue"
            raise click.Abort(f"interrupted; {left}") from None
        owned = store is not None and store.is_owned
    if as_json:
        put_json({"store": str(address)} | summary.as_json())
    else:
        for line in summary.lines(dry_run, owned):
            console.print(tables.as_it_stands(line), soft_wrap=True)
    if summary.failed:
        context.exit(EXIT_FAILED)


def _open(address: StoreAddress, settings: Settings, dry_run: bool) -> SqlStore | None:
    """The store, also while a daemon uses it; None for a dry run if there is no store."""
    if dry_run:
        with suppress(NoStore):
            return address.open_readonly(reader=fingerprint())
        return None
    return address.attach_or_make(**_store_options(settings))


def _store_options(settings: Settings) -> dict[str, Any]:
    return {"busy_timeout_s": _BUSY_TIMEOUT_S, "reader": fingerprint()} | store_options(settings)
