"""The service's systemd unit: its environment, and which files the service can see and write (systemd.exec(5))."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dicom2fhir.system.permissions import AccessFault, Need, Use

NAME = "dicom2fhir.service"
FOLDERS = tuple(
    Path(folder)
    for folder in (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    )
)
"""The folders of units; the first has precedence (systemd.unit(5))."""

_HOMES = ("/home", "/root", "/run/user")
_SYSTEM = {"strict": ("/",), "full": ("/usr", "/boot", "/efi", "/etc"), "yes": ("/usr", "/boot", "/efi")}
_OWN = {
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
    "RuntimeDirectory": "/run",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """The settings of ``[Service]``: name -> assigned values, in order, since the last empty assignment."""

    assigned: dict[str, tuple[str, ...]]

    def last(self, name: str) -> str:
        """The value of a setting with a single value."""
        return next(iter(reversed(self.assigned.get(name, ()))), "")

    def words(self, name: str) -> list[str]:
        """The values of a setting that is a list."""
        return [word for value in self.assigned.get(name, ()) for word in value.split()]

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the service's environment that configure the bridge."""
        state = [f"/var/lib/{word.split(':')[0]}" for word in self.words("StateDirectory")]
        found = {"STATE_DIRECTORY": state[0]} if state else {}
        for value in self.assigned.get("Environment", ()):
            with suppress(ValueError):  # an unclosed quotation mark: systemd ignores it, too
                pairs = (word.partition("=") for word in shlex.split(value))
                found |= {name: text for name, _, text in pairs if name.upper().startswith("DICOM2FHIR_")}
        return found

    @property
    def credentials(self) -> dict[str, Path]:
        """Name -> file of the credentials that are plain files."""
        pairs = (value.partition(":") for value in self.assigned.get("LoadCredential", ()))
        return {name: Path(path) for name, _, path in pairs if path.startswith("/")}

    @property
    def writable(self) -> list[str]:
        """Folders that the service may write to although the file system is read-only for it."""
        own = [f"{root}/{name.split(':')[0]}" for option, root in _OWN.items() for name in self.words(option)]
        named = [path.lstrip("-+") for option in ("ReadWritePaths", "BindPaths") for path in self.words(option)]
        return [*own, *(path.split(":")[-1] for path in named)]


def read_unit(folders: Sequence[Path] | None = None) -> Unit | None:
    """The unit with its drop-ins; None if there is none that can be read.

    Parameters
    ----------
    folders
        Instead of :data:`FOLDERS`.
    """
    folders = FOLDERS if folders is None else folders
    file = next((folder / NAME for folder in folders if (folder / NAME).is_file()), None)
    if file is None:
        return None
    drop_ins: dict[str, Path] = {}
    for folder in reversed(folders):
        drop_ins |= {path.name: path for path in (folder / f"{NAME}.d").glob("*.conf")}
    assigned: dict[str, tuple[str, ...]] = {}
    for path in (file, *(drop_ins[name] for name in sorted(drop_ins))):
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            return None
        for name, value in _assignments(text):
            assigned[name] = (*assigned.get(name, ()), value) if value else ()
    return Unit(assigned)


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == "[Service]" and "=" in stripped and stripped[0] not in "#;":
            name, _, value = stripped.partition("=")
            yield name.strip(), value.strip()


def interpreter(unit: Unit | None) -> list[Need]:
    """The Python of this installation, unless the unit starts another one: a virtual environment only links to it."""
    program = Path(next(iter(unit.last("ExecStart").split()), "").lstrip("-+!@:")) if unit else None
    if program and not program.is_relative_to(sys.prefix):
        return []
    return [Need("ExecStart", Path(os.path.realpath(sys.executable)), Use.READ)]


def shut_out(needs: Sequence[Need], unit: Unit) -> list[AccessFault]:
    """The files and folders that the unit's sandbox hides from the service or makes read-only."""
    return [AccessFault(need.option, str(need.path), said) for need in needs if (said := _shut_out(need, unit))]


def _shut_out(need: Need, unit: Unit) -> str:
    real = Path(os.path.realpath(need.path))
    paths = [need.path, real]

    def lies_in(folders: Sequence[str]) -> str:
        return next((folder for folder in folders for path in paths if path.is_relative_to(folder)), "")

    homes = unit.last("ProtectHome")
    home = lies_in(_HOMES)
    if home and homes in ("yes", "true", "1", "on", "tmpfs"):
        return f"the service does not see {home} (ProtectHome={homes} in its unit)"
    temporary = lies_in(("/tmp", "/var/tmp"))  # noqa: S108 (a name, not a file)
    if temporary and unit.last("PrivateTmp") in ("yes", "true", "1", "on", "disconnected"):
        return f"the service has its own {temporary} (PrivateTmp= in its unit)"
    read_only = (home and homes == "read-only") or lies_in(_SYSTEM.get(_level(unit), ()))
    if need.use.writes and read_only and not lies_in(unit.writable):
        return f"read-only for the service: add ReadWritePaths={need.path} to its unit (systemctl edit {NAME})"
    return ""


def _level(unit: Unit) -> str:
    level = unit.last("ProtectSystem")
    return "yes" if level in ("true", "1", "on") else level
