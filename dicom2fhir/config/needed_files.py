"""The files and folders in the settings that the daemon uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dicom2fhir.config import locations
from dicom2fhir.config.destinations import FhirDestinationSettings, FileDestinationSettings
from dicom2fhir.config.settings import Settings
from dicom2fhir.system.permissions import Need, Use

_STORE_FILES = ("store.db", "store.db-wal", "store.db-shm", "store.db.lock")


def needs(settings: Settings, config_file: Path | None = None) -> list[Need]:
    """All files and folders, with the option that names each."""
    found = [Need("--config", config_file.absolute(), Use.READ)] if config_file else []
    found += [
        *_of_receiver(settings),
        *_of_web(settings),
        *_of_folders(settings),
        *_of_store(settings),
        *_of_destinations(settings),
    ]
    return [need for need in found if not _is_from_systemd(need)]


def _of_receiver(settings: Settings) -> Iterator[Need]:
    receiver = settings.receiver
    for option in ("tls_certificate", "tls_key", "tls_client_ca"):
        path: Path | None = getattr(receiver, option)
        if receiver.enabled and path:
            yield Need(f"receiver.{option}", path, Use.READ)


def _of_web(settings: Settings) -> Iterator[Need]:
    web = settings.web
    for option in ("token_file", "tls_certificate", "tls_key"):
        path: Path | None = getattr(web, option)
        if web.enabled and path:
            yield Need(f"web.{option}", path, Use.READ)


def _of_folders(settings: Settings) -> Iterator[Need]:
    for name, folder in settings.folders.items():
        takes_away = folder.afterwards != "keep" or folder.rejected_to
        yield Need(f"folders.{name}.path", folder.path, Use.EMPTY if takes_away else Use.WATCH)
        if folder.afterwards == "move" and folder.move_to:
            yield Need(f"folders.{name}.move_to", folder.move_to, Use.FILL)
        if folder.rejected_to:
            yield Need(f"folders.{name}.rejected_to", folder.rejected_to, Use.FILL)


def _of_store(settings: Settings) -> Iterator[Need]:
    directory = settings.store.directory
    yield Need("store.directory", directory, Use.FILL)
    for name in () if settings.store.url.get_secret_value() else _STORE_FILES:
        yield Need("store.directory", directory / name, Use.UPDATE)


def _is_from_systemd(need: Need) -> bool:
    """Whether systemd creates it or gives it to the service's user: the state directory and its contents."""
    if need.use not in (Use.FILL, Use.UPDATE) or not need.path.is_relative_to(locations.SERVICE_STATE):
        return False
    try:
        return os.stat(locations.SERVICE_STATE).st_uid == 0
    except OSError:
        return True


def _of_destinations(settings: Settings) -> Iterator[Need]:
    if _is_file(settings.fhir.profile):
        yield Need("fhir.profile", Path(settings.fhir.profile).absolute(), Use.READ)
    for name, destination in settings.destinations.items():
        if _is_file(destination.profile):
            yield Need(f"destinations.{name}.profile", Path(destination.profile).absolute(), Use.READ)
        if isinstance(destination, FileDestinationSettings):
            yield Need(f"destinations.{name}.directory", destination.directory, Use.FILL)
            continue
        yield from _of_server(f"destinations.{name}", destination)


def _of_server(table: str, destination: FhirDestinationSettings) -> Iterator[Need]:
    for option in ("password_file", "token_file", "ca_file", "tls_certificate", "tls_key"):
        if path := getattr(destination, option):
            yield Need(f"{table}.{option}", path, Use.READ)
    for option in ("client_secret_file", "private_key_file", "ca_file"):
        if path := getattr(destination.oauth2, option):
            yield Need(f"{table}.oauth2.{option}", path, Use.READ)
    for header, path in destination.header_files.items():
        yield Need(f"{table}.header_files.{header}", path, Use.READ)


def _is_file(profile: str) -> bool:
    return profile.endswith(".toml") or "/" in profile
