"""Reloading the configuration: the options of each part, and which parts change."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom2fhir.config import FhirDestinationSettings, Settings, require_inputs_and_destinations
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.receive.dimse.options import Listen
from dicom2fhir.receive.folder.options import Watch
from dicom2fhir.wiring import options, parts
from dicom2fhir.wiring.credentials import require_extras

AT_START: Mapping[str, Collection[str]] = {
    "receiver": ("enabled", "host", "port", "reuse_port"),
    "store": ("directory", "url", "quiet_period_s", "max_wait_s", "min_free_bytes"),
    "tracing": ("endpoint", "share"),
}
"""Section -> options that take effect only when the daemon starts."""


@dataclass(frozen=True, slots=True)
class Route:
    """All options of the workers of a destination.

    Of files for TLS, which are read when a connection is opened, the state is included. Contents of other files are
    not: they are read for each request.
    """

    sections: tuple[object, ...]
    profile: Profile | None
    tls_files: tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The options of all parts of a daemon; parts whose options are equal need not be replaced."""

    settings: Settings
    listen: Listen
    folders: Mapping[str, tuple[Watch, Budgets]]
    routes: Mapping[str, Route]
    web: tuple[object, ...]
    """All options of the web page, with the versions of its certificate files."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of parts that differ between two configurations."""

    gone: tuple[str, ...]
    changed: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def to_stop(self) -> tuple[str, ...]:
        """Parts that run now and must stop."""
        return self.gone + self.changed

    @property
    def to_start(self) -> tuple[str, ...]:
        """Parts that must start."""
        return self.changed + self.new


def blueprint(settings: Settings) -> Blueprint:
    """The options of all parts.

    Raises
    ------
    ConfigError
        There is no input or no destination, or a profile cannot be used.
    """
    require_inputs_and_destinations(settings)
    budgets = options.budgets(settings)
    return Blueprint(
        settings,
        parts.listen(settings),
        {name: (parts.watch(folder), budgets) for name, folder in settings.folders.items()},
        {name: _route(settings, name) for name in settings.destinations},
        (settings.web, _version_of(settings.web.tls_certificate), _version_of(settings.web.tls_key)),
    )


def _route(settings: Settings, name: str) -> Route:
    destination = settings.destinations[name]
    sections = destination, settings.fhir, settings.systems, settings.pacs, settings.resources
    require_extras(settings, name)
    files: tuple[Path | None, ...] = ()
    if isinstance(destination, FhirDestinationSettings):
        files = (destination.ca_file, destination.tls_certificate, destination.tls_key, destination.oauth2.ca_file)
    return Route(sections, parts.profile_of(settings, name), tuple(map(_version_of, files)))


def _version_of(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None if there is none now, which is reported when it is used."""
    try:
        status = os.stat(file) if file else None
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if status else None


def difference(old: Mapping[str, object], new: Mapping[str, object]) -> Difference:
    """Which parts were removed, changed and added."""
    return Difference(
        tuple(name for name in old if name not in new),
        tuple(name for name in old if name in new and old[name] != new[name]),
        tuple(name for name in new if name not in old),
    )


def needs_restart(started: Settings, new: Settings) -> list[str]:
    """Options that have changed since the start and need a restart."""
    return [
        f"{section}.{option}"
        for section, names in AT_START.items()
        for option in names
        if getattr(getattr(started, section), option) != getattr(getattr(new, section), option)
    ]
