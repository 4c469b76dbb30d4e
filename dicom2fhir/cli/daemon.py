"""``serve``, ``check-config``, ``echo`` and ``demo``."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import click

from dicom2fhir import config
from dicom2fhir.cli.options import (
    config_in_force,
    config_option,
    json_option,
    load_settings,
    put_json,
    state_dir_option,
)
from dicom2fhir.cli.service_user import service_user
from dicom2fhir.config import locations
from dicom2fhir.config.needed_files import needs
from dicom2fhir.errors import ConfigError, ServerUnavailable
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.ops import logs
from dicom2fhir.system import permissions
from dicom2fhir.system.systemd_unit import interpreter, read_unit, shut_out
from dicom2fhir.wiring.store_options import store_address

_PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@config_option
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--ae-title", help="AE title of the bridge.")
@click.option(
    "--watch", "folders", type=click.Path(path_type=Path), multiple=True, help="Folder to watch; may be repeated."
)
@click.option("--fhir-url", help="Base URL of a FHIR server to deliver to.")
@click.option("--fhir-version", help=f"auto, {', '.join(DIALECTS)}.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder to write Bundles to.")
@state_dir_option
@click.option("--quiet-period", type=float, help="Seconds without a new instance before a study is sent.")
@click.option("--max-wait", type=float, help="Longest time in seconds before a study is sent.")
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
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP reloads the configuration."""
    destinations: dict[str, object] = {}
    if fhir_url:
        destinations["server"] = {"type": "fhir", "url": fhir_url}
    if output_dir:
        destinations["files"] = {"type": "file", "directory": str(output_dir.absolute())}
    # until the daemon handles SIGHUP, the signal would end the process
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    load = partial(
        load_settings,
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
    settings = load()
    logs.configure(settings.log.level, settings.log.format)
    # imported here and below: the DICOM libraries take longer to load than a help text to show
    from dicom2fhir.daemon import Daemon

    Daemon(settings, load).run()


@click.command("check-config")
@config_option
@click.option(
    "--online",
    is_flag=True,
    help="Also query the FHIR servers: what they support, and whether they accept the credentials.",
)
@click.option(
    "--user",
    "user_name",
    help="User whose file permissions are checked; only root may name another user.  [default: for root, the"
    " owner of the store or the service's user]",
)
@json_option
def check_config(config_file: Path | None, online: bool, user_name: str | None, as_json: bool) -> None:
    """Check the configuration, the file permissions of the service's user and, with --online, the FHIR servers."""
    from dicom2fhir.cli import tables
    from dicom2fhir.cli.output import Page
    from dicom2fhir.wiring import parts

    config_file = config_in_force(config_file)
    settings = load_settings(config_file)
    config.require_inputs_and_destinations(settings)
    parts.require_opentelemetry(settings)
    is_service = locations.is_system_config(config_file)
    unit = read_unit() if is_service else None
    user = service_user(user_name, settings, config_file, unit)
    wanted = [*needs(settings, config_file), *(interpreter(unit) if is_service else ())]
    try:
        found = permissions.faults(wanted, user)
    except PermissionError as error:
        raise click.UsageError(f"--user {user.name}: {error}") from None
    found += shut_out(wanted, unit) if unit else []
    exposed = permissions.open_to_others(settings.store.directory)
    doubts = [*config.warnings(settings), *exposed, *(str(fault) for fault in found if fault.is_missing)]
    errors = [str(fault) for fault in found if not fault.is_missing]
    plans = [parts.plan(settings, name, online) for name in settings.destinations]
    store = str(store_address(settings))
    if as_json:
        put_json({"store": store, "user": user.name, "errors": errors, "warnings": doubts, "destinations": plans})
    else:
        verdict = "is valid" if not errors else "could be read"
        click.echo(f"The configuration {verdict}. The store is {store}. File permissions were checked for {user.name}.")
        for said in errors:
            click.echo(f"error: {said}")
        for doubt in doubts:
            click.echo(f"warning: {doubt}")
        if plans:
            Page().print(tables.plans_table(plans))
    if errors:
        raise ConfigError(f"The daemon would not work as user {user.name}; see above.")
    if any(plan["error"] for plan in plans):
        raise ServerUnavailable("At least one FHIR server cannot be used; see above.")


@click.command()
@config_option
@click.option("--host", help="Host to call.  [default: the configured receiver]")
@click.option("--port", type=int)
@click.option("--called-ae", help="Called AE title.  [default: the configured receiver's]")
@click.option("--calling-ae", help="Calling AE title.  [default: the first of receiver.calling_ae_titles, or ECHOSCU]")
@click.option("--tls/--no-tls", default=None, help="Whether to use TLS.  [default: as the configured receiver]")
@click.option(
    "--ca-file", type=_PEM, help="CA certificates to trust.  [default: the configured receiver's, or the system's]"
)
@click.option("--tls-certificate", type=_PEM, help="Client certificate, for a receiver that requires one.")
@click.option("--tls-key", type=_PEM, help="Private key of the client certificate.  [default: in the same file]")
def echo(
    config_file: Path | None,
    host: str | None,
    port: int | None,
    called_ae: str | None,
    calling_ae: str | None,
    tls: bool | None,
    ca_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Check that a DICOM receiver responds (C-ECHO)."""
    from dicom2fhir.receive.dimse import verification

    receiver = load_settings(config_file).receiver
    own = receiver.tls_certificate
    # the bridge's own certificate need not name the address that is used here
    secured = verification.Secured(
        ca_file or own,
        any_name=ca_file is None and own is not None,
        certificate=tls_certificate or (own if receiver.tls_client_ca else None),
        key=tls_key if tls_certificate else receiver.tls_key,
    )
    host = host or verification.own_address(receiver.host, receiver.networks)
    port, called_ae = port or receiver.port, called_ae or receiver.ae_title
    calling_ae = calling_ae or next(iter(receiver.calling_ae_titles), "ECHOSCU")
    speaks_tls = own is not None if tls is None else tls
    took_s = verification.echo(host, port, called_ae, calling_ae, secured if speaks_tls else None)
    click.echo(f"{called_ae} at {host}:{port} responded in {took_s * 1000:.0f} ms")


@click.command()
@click.option("--keep-running", is_flag=True, help="Keep receiving until Ctrl-C.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write Bundles to.  [default: a temporary folder]",
)
def demo(keep_running: bool, output_dir: Path | None) -> None:
    """Convert synthetic studies with a temporary daemon, a C-STORE sender and a watched folder."""
    from dicom2fhir.cli.output import Page
    from dicom2fhir.demo.run import Demo

    Demo(Page(), output_dir).run(keep_running)
