"""The command line: reads arguments, calls the room that does the work, and turns errors into exit statuses."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from dicom2fhir import __version__, config, convert, report, translation
from dicom2fhir.config import Settings
from dicom2fhir.errors import (
    BridgeError,
    ConfigError,
    NotExpressible,
    ServerUnavailable,
    StoreDamaged,
    StoreUnavailable,
)
from dicom2fhir.fhir.bundle import standalone
from dicom2fhir.fhir.dialects import DIALECTS
from dicom2fhir.fhir.formats import Format, dump
from dicom2fhir.fhir.mapping import trace_study
from dicom2fhir.fhir.traces import trace_profile
from dicom2fhir.ops import logs
from dicom2fhir.store.base import State

SYSTEM_CONFIG = Path("/etc/dicom2fhir/config.toml")

EXIT_FAILED = 1
EXIT_UNAVAILABLE = 69
EXIT_IO = 74
EXIT_CONFIG = 78
"""As in sysexits.h: EX_UNAVAILABLE, EX_IOERR, EX_CONFIG."""

Command = TypeVar("Command", bound=Callable[..., Any])


def main() -> None:
    """Run the command line; the one place where an error becomes an exit status."""
    try:
        status = cli.main(prog_name="dicom2fhir", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (BridgeError, OSError) as error:
        click.echo(f"dicom2fhir: {error}", err=True)
        sys.exit(_exit_status(error))


def _exit_status(error: BridgeError | OSError) -> int:
    match error:
        case ConfigError():
            return EXIT_CONFIG
        case ServerUnavailable():
            return EXIT_UNAVAILABLE
        case StoreUnavailable() | StoreDamaged() | OSError():
            return EXIT_IO
        case _:
            return EXIT_FAILED


def _config_option(command: Command) -> Command:
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"Configuration file.  [default: {SYSTEM_CONFIG} if it is there]",
    )(command)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="For machines.")(command)


def _profile_option(command: Command) -> Command:
    return click.option(
        "--profile", "profile_name", metavar="NAME|PATH", help="A profile, or none; `dicom2fhir profiles list`."
    )(command)


def _state_dir_option(command: Command) -> Command:
    return click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the store.")(
        command
    )


def _load(config_file: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    if config_file is None and SYSTEM_CONFIG.exists():
        config_file = SYSTEM_CONFIG
    return config.load(config_file, overrides)


def _patient(settings: Settings) -> translation.PatientMode:
    """The patient mode of commands that write Bundles which have to stand alone."""
    return "ensure" if settings.fhir.patient == "auto" else settings.fhir.patient


def _put(facts: Any) -> None:
    click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dicom2fhir")
def cli() -> None:
    """Bridge DICOM to FHIR: C-STORE and folders in, ImagingStudy on a FHIR server out."""
    logs.configure("error", "text")  # on standard error: not among what a command writes to standard output


@cli.command()
@_config_option
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--ae-title", help="AE title of the bridge.")
@click.option("--watch", "folders", type=click.Path(path_type=Path), multiple=True, help="A folder to watch.")
@click.option("--fhir-url", help="Base URL of a FHIR server to deliver to.")
@click.option("--fhir-version", help=f"auto, {', '.join(DIALECTS)}.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="A folder to deliver Bundles to.")
@_state_dir_option
@click.option("--quiet-period", type=float, help="Seconds without a new instance after which a study is sent.")
@click.option("--max-wait", type=float, help="Seconds after which a study is sent at the latest.")
def serve(
    config_file: Path | None,
    host: str | None,
    port: int | None,
    ae_title: str | None,
    folders: tuple[Path, ...],
    fhir_url: str | None,
    fhir_version: str | None,
    output_dir: Path | None,
    state_dir: Path | None,
    quiet_period: float | None,
    max_wait: float | None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    destinations: dict[str, Any] = {}
    if fhir_url:
        destinations["server"] = {"type": "fhir", "url": fhir_url}
    if output_dir:
        destinations["files"] = {"type": "file", "directory": str(output_dir.absolute())}
    settings = _load(
        config_file,
        {
            "receiver": {"host": host, "port": port, "ae_title": ae_title},
            "folders": {f"watch-{n}": {"path": str(path.absolute())} for n, path in enumerate(folders, 1)},
            "fhir": {"version": fhir_version},
            "destinations": destinations,
            "store": {
                "directory": str(state_dir.absolute()) if state_dir else None,
                "quiet_period_s": quiet_period,
                "max_wait_s": max_wait,
            },
        },
    )
    logs.configure(settings.log.level, settings.log.format)
    # here and below: loading what speaks DICOM takes longer than most commands
    from dicom2fhir.daemon import Daemon

    Daemon(settings).run()


@cli.command("convert")
@click.argument("paths", nargs=-1, required=True)
@_config_option
@click.option("--fhir", "version", type=click.Choice(list(DIALECTS)), help="FHIR version.  [default: R4]")
@_profile_option
@click.option(
    "--patient", type=click.Choice(["link", "ensure", "upsert"]), help="How the Patient is written.  [default: ensure]"
)
@click.option("--time-zone", help="Zone of times that name none, such as Europe/Paris.")
@click.option(
    "--as",
    "shape",
    type=click.Choice(["bundle", "resources"]),
    default="bundle",
    show_default=True,
    help="One transaction Bundle per study, or one resource per line (bulk-data NDJSON; XML likewise).",
)
@click.option("--format", "format_", type=click.Choice(["json", "xml"]), help="JSON or XML.  [default: json]")
@click.option("-o", "--output-dir", type=click.Path(path_type=Path, file_okay=False), help="One file per study there.")
@click.pass_context
def convert_command(
    context: click.Context,
    paths: tuple[str, ...],
    config_file: Path | None,
    version: str | None,
    profile_name: str | None,
    patient: translation.PatientMode | None,
    time_zone: str | None,
    shape: str,
    format_: Format | None,
    output_dir: Path | None,
) -> None:
    """Turn DICOM files into FHIR: files, folders, zip archives, - for standard input."""
    fhir = {"version": version, "profile": profile_name, "patient": patient, "time_zone": time_zone, "format": format_}
    settings = _load(config_file, {"fhir": fhir})
    profile = translation.load_profile(settings.fhir.profile)
    dialect = translation.dialect(settings.fhir.version, profile)
    mapping = translation.mapper(settings, _patient(settings), profile)
    console = Console(stderr=True)
    problems = 0

    def tell(name: str, reason: str) -> None:
        nonlocal problems
        problems += 1
        console.print(report.as_it_stands(f"{name}: {reason}"), soft_wrap=True)

    with ExitStack() as stack, _progress(console) as progress:
        found = list(convert.sources(paths, sys.stdin.buffer, tell, stack))
        task = progress.add_task("reading", total=len(found))
        reading = convert.read(found, tell, lambda: progress.advance(task), translation.budgets(settings))
        task = progress.add_task("mapping", total=len(reading.studies))
        out = sys.stdout.buffer
        indent = out.isatty() or output_dir is not None
        if out.isatty() and output_dir is None:
            progress.stop()  # it would erase lines of what is now written to the same terminal
        for study in convert.assembled(reading):
            progress.advance(task)
            if study.conflict:
                tell(study.uid, study.conflict)
                continue
            try:
                mapped = mapping(study, dialect)
                resources = [standalone(mapped)] if shape == "bundle" else convert.as_resources(mapped)
                content = b"".join(
                    dump(resource, dialect.name, settings.fhir.format, indent and shape == "bundle")
                    for resource in resources
                )
            except NotExpressible as error:
                tell(study.uid, str(error))
                continue
            if output_dir:
                suffix = settings.fhir.format if shape == "bundle" else f"nd{settings.fhir.format}"
                convert.write_file(output_dir, f"{mapped.entries[0].resource['id']}.{suffix}", content)
            else:
                out.write(content)
        out.flush()
    if output_dir or problems or reading.skipped:
        told = [f"{_count(reading.read, 'instance')} of {_count(len(reading.studies), 'study')}"]
        if reading.skipped:
            told.append(f"{_count(reading.skipped, 'other file')} skipped")
        if problems:
            told.append(_count(problems, "problem"))
        written = f"; written to {output_dir}" if output_dir else ""
        console.print(", ".join(told) + written, highlight=False, markup=False, soft_wrap=True)
    if problems or not reading.read:
        if not reading.read:
            console.print("nothing was converted: no SOP instance found", highlight=False)
        context.exit(EXIT_FAILED)


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    """A progress bar, on a terminal only; ``columns`` are put before the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@cli.command("backfill")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_config_option
@_state_dir_option
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that read headers.  [default: one a core]")
@click.option("--since", help="Only files modified since a date (2026-01-31) or for so long (12h, 7d, 2w).")
@click.option("--dry-run", is_flag=True, help="Read and count, write nothing.")
@_json_option
@click.pass_context
def backfill_command(
    context: click.Context,
    paths: tuple[Path, ...],
    config_file: Path | None,
    state_dir: Path | None,
    workers: int | None,
    since: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take archives into the store: all DICOM files below PATHS, for the daemon to deliver.

    The daemon may run meanwhile. A run that was interrupted goes on where it was when the same command is given again.
    """
    from dicom2fhir import backfill

    settings = _load(config_file, {"store": {"directory": str(state_dir.absolute()) if state_dir else None}})
    try:
        since_s = backfill.moment(since, time.time()) if since else None
    except ValueError:
        raise click.BadParameter(f"{since!r} is neither a date nor a duration", param_hint="--since") from None
    console = Console(stderr=True)
    with ExitStack() as stack, _progress(console, TextColumn("{task.fields[rate]}")) as progress:
        store = backfill.open_store(
            translation.store_path(settings),
            read_only=dry_run,
            quiet_period_s=settings.store.quiet_period_s,
            max_wait_s=settings.store.max_wait_s,
            min_free_bytes=settings.store.min_free_bytes,
        )
        if store:
            stack.callback(store.close)
        task = progress.add_task("reading", total=None, rate="")

        def show(summary: backfill.Summary, total: int | None) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=summary.files, total=total, rate=f"{speed:,.0f} files/s" if speed else "")

        summary = backfill.Backfill(
            store,
            workers=workers or len(os.sched_getaffinity(0)),
            dry_run=dry_run,
            since=since_s,
            budgets=translation.budgets(settings),
            on_progress=show if console.is_terminal else None,
        ).run(paths)
        owned = store is not None and store.is_owned
    if as_json:
        _put(summary.as_json())
    else:
        for line in summary.lines(dry_run, owned):
            console.print(report.as_it_stands(line), soft_wrap=True)
    if summary.failed:
        context.exit(EXIT_FAILED)


@cli.command()
@click.option("--keep-running", is_flag=True, help="Go on receiving until Ctrl-C.")
@click.option("--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the Bundles go.")
def demo(keep_running: bool, output_dir: Path | None) -> None:
    """Watch synthetic studies become FHIR: a daemon, a C-STORE sender and a watched folder, all temporary."""
    from dicom2fhir.demo import Demo

    Demo(Console(), output_dir).run(keep_running)


@cli.command("check-config")
@_config_option
@click.option("--online", is_flag=True, help="Also ask the FHIR servers what they offer.")
@_json_option
def check_config(config_file: Path | None, online: bool, as_json: bool) -> None:
    """Check the configuration, and with --online the FHIR servers."""
    from dicom2fhir import assembly

    settings = _load(config_file)
    config.require_roads(settings)
    doubts = config.warnings(settings)
    plans = [assembly.plan(settings, name, online) for name in settings.destinations]
    if as_json:
        _put({"warnings": doubts, "destinations": plans})
    else:
        click.echo(f"The configuration is sound. The store is {translation.store_path(settings)}.")
        for doubt in doubts:
            click.echo(f"warning: {doubt}")
        if plans:
            Console().print(report.plans_table(plans))
    if any(plan["error"] for plan in plans):
        raise ServerUnavailable("Not every FHIR server can be used; see above.")


@cli.command()
@click.argument("study", required=False)
@_config_option
@_state_dir_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only studies in this state.")
@click.option(
    "--limit", type=click.IntRange(0), default=20, show_default=True, help="How many studies and rejections to show."
)
@_json_option
def status(
    study: str | None, config_file: Path | None, state_dir: Path | None, state: str | None, limit: int, as_json: bool
) -> None:
    """Show what was received and delivered, or where one STUDY (its Study Instance UID) stands."""
    from dicom2fhir.store.sqlite import SqliteStore

    store = SqliteStore.open_readonly(_store(config_file, state_dir))
    try:
        if study:
            found = store.study_status(study)
            if found is None:
                raise click.ClickException(f"there is no study {study} in {store.path}")
            studies = [found]
        else:
            studies = list(store.studies(State(state) if state else None, limit))
        rejections = [] if study or state else list(store.rejections(limit))
        stats, destinations = store.stats(), store.destinations()
    finally:
        store.close()
    if as_json:
        _put(report.study_json(studies[0]) if study else report.status_json(stats, destinations, studies, rejections))
    elif study:
        Console().print(report.study_tables(studies))
    else:
        Console().print(report.status_tables(stats, destinations, studies, rejections))


@cli.command()
@click.argument("studies", nargs=-1)
@_config_option
@_state_dir_option
@click.option("--destination", help="Only this destination.")
@click.option("--all", "everything", is_flag=True, help="Every study that is refused or waits.")
@click.option("--remap", is_flag=True, help="With --all: every study that was delivered, too.")
def retry(
    studies: tuple[str, ...],
    config_file: Path | None,
    state_dir: Path | None,
    destination: str | None,
    everything: bool,
    remap: bool,
) -> None:
    """Send STUDIES (Study Instance UIDs) again now, or with --all whatever is refused or waits.

    After a change of FHIR version, profile or mapping, --all --remap sends every study anew.
    """
    if bool(studies) == everything:
        raise click.UsageError("name studies, or use --all")
    if remap and not everything:
        raise click.UsageError("--remap goes with --all; a study that is named is sent anew in any case")
    from dicom2fhir.store.sqlite import SqliteStore

    store = SqliteStore.attach(_store(config_file, state_dir))
    try:
        every_state = remap or bool(studies)
        count = sum(store.requeue(study, destination, all_states=every_state) for study in studies or (None,))
    finally:
        store.close()
    due = f"{_count(count, 'delivery')} {'is' if count == 1 else 'are'} due now"
    click.echo(due if count else f"{due}: nothing matched")
    if not count and studies:
        raise click.exceptions.Exit(EXIT_FAILED)


def _store(config_file: Path | None, state_dir: Path | None) -> Path:
    overrides = {"store": {"directory": str(state_dir.absolute()) if state_dir else None}}
    return translation.store_path(_load(config_file, overrides))


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@_config_option
@click.option("--fhir", "version", type=click.Choice(list(DIALECTS)), help="FHIR version.  [default: R4]")
@_profile_option
@_json_option
def explain(file: str, config_file: Path | None, version: str | None, profile_name: str | None, as_json: bool) -> None:
    """Show which attribute of FILE feeds which element, and what was dropped and why."""
    settings = _load(config_file, {"fhir": {"version": version, "profile": profile_name}})
    profile = translation.load_profile(settings.fhir.profile)
    dialect = translation.dialect(settings.fhir.version, profile)
    study = convert.study_of(file, translation.budgets(settings))
    policy = translation.policy(settings, _patient(settings))
    mapped, traces = trace_study(study, dialect, policy)
    if profile:
        mapped = translation.conformed(settings, mapped, study, dialect, policy, profile)
        traces += trace_profile(profile, mapped, study)
    if as_json:
        _put(report.explain_json(mapped, traces))
    else:
        Console().print(report.explain_tables(mapped, traces))


@cli.group()
def profiles() -> None:
    """What a country or a project asks beyond a FHIR version: list, show, check."""


@profiles.command("list")
@_json_option
def list_profiles(as_json: bool) -> None:
    """List the profiles that come along."""
    found = [translation.profile(name) for name in translation.profile_names()]
    if as_json:
        _put([{"name": one.name, "title": one.title, "versions": one.versions} for one in found])
    else:
        Console().print(report.profiles_table(found))


@profiles.command("show")
@click.argument("name")
@_json_option
def show_profile(name: str, as_json: bool) -> None:
    """Show what the profile NAME (or a file) asks for, and what is not known of it."""
    found = translation.profile(name)
    if as_json:
        _put(found.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    else:
        Console().print(report.profile_tables(found))


@profiles.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check_profile(file: Path) -> None:
    """Check a profile FILE of your own."""
    found = translation.profile(str(file.absolute()))
    click.echo(f"{found.name} is sound: {found.title}, for FHIR {', '.join(found.versions)}")


@cli.command()
@_config_option
@click.option("--host", help="Whom to ask.  [default: the configured receiver]")
@click.option("--port", type=int)
@click.option("--called-ae", help="AE title to call.")
@click.option("--calling-ae", default="ECHOSCU", show_default=True, help="AE title to call by.")
def echo(config_file: Path | None, host: str | None, port: int | None, called_ae: str | None, calling_ae: str) -> None:
    """Ask a receiver whether it is there (C-ECHO)."""
    from dicom2fhir.receive import echo as verification

    receiver = _load(config_file).receiver
    host, port, called_ae = host or receiver.host, port or receiver.port, called_ae or receiver.ae_title
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what went wrong is in the error that comes of it
    took_s = verification.echo(host, port, called_ae, calling_ae)
    click.echo(f"{called_ae} at {host}:{port} answered in {took_s * 1000:.0f} ms")
