"""What several commands share: options, settings, output."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import orjson

from dicom2fhir import config
from dicom2fhir.config import Settings, locations
from dicom2fhir.fhir.version.names import NUMBERS, canonical
from dicom2fhir.system.text import printable
from dicom2fhir.wiring.store_options import StoreAddress, store_address

if TYPE_CHECKING:
    from dicom2fhir.store.sql.store import SqlStore

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., object])


_CONFIG_HELP = f"Configuration file.  [default: {locations.SYSTEM_CONFIG} if it exists]"


def config_option(command: CommandFunction) -> CommandFunction:
    """``--config``."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=_CONFIG_HELP,
    )(command)


def json_option(command: CommandFunction) -> CommandFunction:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON.")(command)


def profile_option(command: CommandFunction) -> CommandFunction:
    """``--profile``."""
    return click.option(
        "--profile",
        "profile_name",
        metavar="NAME|PATH",
        help="Profile name or file, or none; see `dicom2fhir profiles list`.",
    )(command)


class _FhirVersionChoice(click.Choice):  # type: ignore[type-arg]  # generic from click 8.2 on
    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        return super().convert(canonical(str(value)), param, ctx)


def version_option(command: CommandFunction) -> CommandFunction:
    """``--fhir``."""
    return click.option(
        "--fhir",
        "version",
        type=_FhirVersionChoice(list(NUMBERS)),
        help="FHIR version, by name or number.  [default: R4]",
    )(command)


def state_dir_option(command: CommandFunction) -> CommandFunction:
    """``--state-dir``."""
    return click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the store.")(
        command
    )


def moment_since(since: str | None) -> float | None:
    """The value of ``--since`` (:func:`dicom2fhir.jobs.backfill.moment`) in seconds since the epoch."""
    from dicom2fhir.jobs.backfill import moment

    try:
        return moment(since, time.time()) if since else None
    except ValueError:
        raise click.BadParameter(f"{since!r} is neither a date nor a duration", param_hint="--since") from None


def load_settings(
    config_file: Path | None, overrides: Mapping[str, object] | None = None, sections: Collection[str] | None = None
) -> Settings:
    """The settings, with the values of flags; ``sections``: only these.

    Raises
    ------
    ConfigError
        As :func:`dicom2fhir.config.load`.
    """
    config_file = config_in_force(config_file)
    if not locations.is_system_config(config_file):
        return config.load(config_file, overrides, sections=sections)
    from dicom2fhir.system.systemd_unit import read_unit

    # the unit's environment and credentials apply to every command, so that all have the service's configuration
    unit = read_unit()
    environ, credentials = (unit.environ, unit.credentials) if unit else ({}, {})
    readable = {name: path for name, path in credentials.items() if os.access(path, os.R_OK)}
    return config.load(config_file, overrides, {**environ, **os.environ}, readable, sections)


def config_in_force(config_file: Path | None) -> Path | None:
    """The given file, otherwise the service's if it exists."""
    if config_file is None and locations.SYSTEM_CONFIG.exists():
        return locations.SYSTEM_CONFIG
    return config_file


def store_of(settings: Settings) -> StoreAddress:
    """The store; also written to standard error, because a user may have several stores."""
    address = store_address(settings)
    click.echo(printable(f"store: {address}"), err=True)
    return address


def given_store(config_file: Path | None, state_dir: Path | None) -> StoreAddress:
    """The store, for commands that need no other settings: these may be invalid."""
    if state_dir is None:
        return store_of(load_settings(config_file, sections=("store",)))
    return store_of(config.load(None, {"store": {"directory": str(state_dir.absolute())}}, {}))


def require_studies(store: SqlStore, studies: Iterable[str]) -> None:
    """Check that studies are in the store, before anything is changed."""
    unknown = [study for study in studies if store.study_status(study) is None]
    if unknown:
        raise click.ClickException("\n".join(f"there is no study {study} in {store.location}" for study in unknown))


def require_destination(store: SqlStore, destination: str) -> None:
    """Check that a destination is in the store, before anything is changed."""
    known = sorted(one.name for one in store.destinations())
    if destination not in known:
        raise click.ClickException(
            f"there is no destination {destination} in {store.location}; known: {', '.join(known) or 'none'}"
        )


def put_json(facts: object) -> None:
    """Write facts to standard output, for machines."""
    click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
