"""The sources of settings: file, credentials directory, environment, flags. Later sources override earlier ones.

Nothing here knows what the options mean. Each value carries its origin in words, for error messages.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom2fhir.errors import ConfigError

Key = tuple[str, ...]
"""The path of an option: ``("destinations", "main", "url")``."""

PREFIX = "DICOM2FHIR_"

NAMED = ("folders", "destinations")
"""Sections that hold named tables."""

# A Kubernetes service called "dicom2fhir" puts these into the environment of every pod of its namespace.
_SERVICE_LINK = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Given:
    """One value and its origin; ``hidden`` values (credentials) are never shown."""

    key: Key
    value: object
    origin: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """Nested tables of the values in force, and the :class:`Given` of each."""

    values: dict[str, Any] = field(default_factory=dict)
    givens: dict[Key, Given] = field(default_factory=dict)

    def put(self, given: Given) -> None:
        """Set one value; a table and a plain value of the same name replace each other."""
        table = self.values
        for depth, part in enumerate(given.key[:-1], start=1):
            inner = table.get(part)
            if not isinstance(inner, dict):
                table[part] = inner = {}
                self.givens.pop(given.key[:depth], None)
            table = inner
        if given.value == {} and isinstance(table.get(given.key[-1]), dict):
            return
        table[given.key[-1]] = given.value
        self.givens[given.key] = given

    def put_all(self, givens: Iterable[Given]) -> None:
        """Add one source; it overrides those before it."""
        for given in givens:
            self.put(given)

    def given(self, key: Key) -> Given | None:
        """What was given for ``key``, for the table around it or for something in it."""
        for end in range(len(key), 0, -1):
            if found := self.givens.get(key[:end]):
                return found
        return next((found for other, found in self.givens.items() if other[: len(key)] == key), None)

    def names(self, section: str) -> Collection[str]:
        """The names of the tables in one of the sections of :data:`NAMED`."""
        table = self.values.get(section)
        return table.keys() if isinstance(table, dict) else ()


def _flatten(value: object, key: Key) -> Iterator[tuple[Key, object]]:
    if isinstance(value, Mapping):
        if key:
            yield key, {}
        for name, inner in value.items():
            yield from _flatten(inner, (*key, str(name)))
    else:
        yield key, value


def _lines(text: str) -> dict[Key, int]:
    """Line numbers of the keys of a TOML text, without those inside arrays and inline tables."""
    found: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[[^\[\]]+\])\s*(#.*)?$", line)
        name = re.match(r"""\s*((?:[A-Za-z0-9_.\s-]|"[^"]*"|'[^']*')+)=""", line)
        try:
            if header:
                table = next(reversed([key for key, _ in _flatten(tomllib.loads(header[1]), ())]))
                found.setdefault(table, number)
            elif name:
                key = next(reversed([key for key, _ in _flatten(tomllib.loads(f"{name[1]}=0"), ())]))
                found.setdefault((*table, *key), number)
        except tomllib.TOMLDecodeError:
            continue  # a line of a multi-line string that looks like a key
    return found


def read_toml(path: Path) -> Iterator[Given]:
    """The values of a TOML file.

    Raises
    ------
    ConfigError
        The file cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The configuration file {path} is not UTF-8 text") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}") from None
    lines = _lines(text)
    for key, value in _flatten(tables, ()):
        line = next((lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in lines), None)
        yield Given(key, value, f"{path}, line {line}" if line else str(path))


def _settle(parts: list[str], known: Merged) -> Key:
    """Names and options become lower case; the keys of the tables in ``systems`` are DICOM's and do not change.

    Names of variables have no hyphens, so ``MY_PACS`` also means the table ``my-pacs`` of the file.
    """
    if parts[0].lower() == "systems":
        return (*(part.lower() for part in parts[:2]), *(["__".join(parts[2:])] if len(parts) > 2 else []))
    parts = [part.lower() for part in parts]
    if parts[0] in NAMED and len(parts) > 1 and parts[1] not in known.names(parts[0]):
        same = [name for name in known.names(parts[0]) if name.replace("-", "_") == parts[1]]
        parts[1] = same[0] if len(same) == 1 else parts[1]
    return tuple(parts)


def credentials_in(directory: Path) -> dict[str, Path]:
    """The files of a systemd credentials directory (systemd.exec(5)) by their names.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    try:
        return {path.name: path for path in sorted(directory.iterdir()) if path.is_file()}
    except OSError as error:
        raise ConfigError(f"The credentials in {directory} cannot be read: {error.strerror}") from None


def read_credentials(files: Mapping[str, Path], sections: Collection[str], known: Merged) -> Iterator[Given]:
    """The values of systemd's credentials: one file a value, ``section__option``.

    A unit may have other credentials: only names that start with one of ``sections`` are read.

    Raises
    ------
    ConfigError
        A credential cannot be read or is not text.
    """
    try:
        for name, path in files.items():
            parts = name.split("__")
            if len(parts) > 1 and parts[0].lower() in sections:
                value = path.read_text(encoding="utf-8").rstrip("\r\n")
                yield Given(_settle(parts, known), value, f"credential {name}", hidden=True)
    except OSError as error:
        raise ConfigError(f"The credential {error.filename} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The credential {path} is not UTF-8 text") from None


def read_environment(environ: Mapping[str, str], known: Merged) -> Iterator[Given]:
    """The values of variables such as ``DICOM2FHIR_RECEIVER__PORT``; a whole table may be given as a JSON object."""
    for name, value in sorted(environ.items()):
        rest = name[len(PREFIX) :]
        if not name.upper().startswith(PREFIX) or _SERVICE_LINK.fullmatch(rest):
            continue
        if rest.upper() == "PORT" and re.match(r"(tcp|udp)://", value):  # a service link too
            continue
        key = _settle(rest.split("__"), known)
        table: object = value
        if len(key) <= 2 and value.lstrip().startswith("{"):
            try:
                table = json.loads(value)
            except ValueError:
                table = value
        for inner, leaf in _flatten(table, key):
            yield Given(inner, leaf, f"environment variable {name}")


def read_overrides(overrides: Mapping[str, object]) -> Iterator[Given]:
    """The values of flags; ``None`` is a flag that was not given."""
    for key, value in _flatten(overrides, ()):
        if value is not None:
            yield Given(key, value, "command line")
