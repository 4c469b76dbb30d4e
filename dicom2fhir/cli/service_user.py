"""The user whose permissions ``check-config`` checks."""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress
from pathlib import Path

import click

from dicom2fhir.config import Settings, locations
from dicom2fhir.system import permissions
from dicom2fhir.system.systemd_unit import Unit

_NAME = "dicom2fhir"


def service_user(
    given: str | None, settings: Settings, config_file: Path | None, unit: Unit | None
) -> permissions.User:
    """The user of the daemon: the named one; for root, the owner of the store; otherwise the unit's user.

    Anybody but root can only answer for themselves, and only the service's own configuration is the unit's matter.
    """
    groups = _groups(unit)
    if given is not None:
        try:
            return permissions.user_of(pwd.getpwnam(given), groups)
        except KeyError:
            raise click.BadParameter(f"there is no user {given!r}", param_hint="--user") from None
    if os.geteuid() != 0:
        return permissions.present_user()
    with suppress(OSError):
        owner = os.stat(settings.store.directory)
        if owner.st_uid != 0:
            return permissions.user_by_id(owner.st_uid, owner.st_gid, groups)
    if not locations.is_system_config(config_file):
        return permissions.present_user()
    name = (unit and unit.last("User")) or _NAME
    with suppress(KeyError):
        return permissions.user_of(pwd.getpwnam(name), groups)
    return permissions.dynamic_user(name, groups)


def _groups(unit: Unit | None) -> list[int]:
    found = []
    for name in unit.words("SupplementaryGroups") if unit else ():
        with suppress(KeyError):  # systemd does not start the service then, and reports it
            found.append(int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid)
    return found
