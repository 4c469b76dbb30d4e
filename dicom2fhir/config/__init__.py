"""Settings: TOML file < credentials directory < environment < flags. Each error names option, place and remedy."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dicom2fhir.config import value_types
from dicom2fhir.config.credentials import OAuth2Settings
from dicom2fhir.config.destinations import (
    FhirDestinationSettings,
    FileDestinationSettings,
    SelectionSettings,
    option_names,
)
from dicom2fhir.config.example import render
from dicom2fhir.config.inputs import FolderSettings
from dicom2fhir.config.locations import state_directory
from dicom2fhir.config.sections import PatientMode, StoreSettings
from dicom2fhir.config.settings import Settings
from dicom2fhir.config.sources import (
    NAMED,
    Given,
    Key,
    Merged,
    credentials_in,
    read_credentials,
    read_environment,
    read_overrides,
    read_toml,
)
from dicom2fhir.config.web import WebSettings
from dicom2fhir.errors import ConfigError
from dicom2fhir.system.text import counted

__all__ = [
    "FhirDestinationSettings",
    "FileDestinationSettings",
    "FolderSettings",
    "PatientMode",
    "Settings",
    "example",
    "load",
    "require_inputs_and_destinations",
    "warnings",
]

_SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
_TABLES: Sequence[tuple[str, type[BaseModel]]] = (
    *_SECTIONS.items(),
    ("folders.NAME", FolderSettings),
    ("destinations.NAME", FhirDestinationSettings),
    ("destinations.NAME", FileDestinationSettings),
)
"""Every table with its options, by its name in messages."""
_SECRET = {
    name
    for model in (FhirDestinationSettings, OAuth2Settings, WebSettings)
    for name, field in model.model_fields.items()
    if field.annotation is SecretStr
}


def load(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    credentials: Mapping[str, Path] | None = None,
    sections: Collection[str] | None = None,
) -> Settings:
    """Read and check all sources.

    Parameters
    ----------
    path
        The TOML file, if there is one.
    overrides
        Nested tables with the values of flags; ``None`` stands for a flag that was not given.
    environ
        Instead of ``os.environ``. ``CREDENTIALS_DIRECTORY`` and ``STATE_DIRECTORY`` are read from it too.
    credentials
        Name -> file, where there is no ``CREDENTIALS_DIRECTORY``.
    sections
        The sections to read; the others are ignored and have their defaults. None: all.

    Raises
    ------
    ConfigError
        With all errors, one a line.
    """
    environ = os.environ if environ is None else environ
    merged = Merged()
    if path is not None:
        merged.put_all(read_toml(path))
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credentials = credentials_in(Path(directory))
    merged.put_all(read_credentials(credentials or {}, Settings.model_fields.keys(), merged))
    merged.put_all(read_environment(environ, merged))
    merged.put_all(read_overrides(overrides or {}))
    for name in merged.values.keys() - (merged.values if sections is None else sections):
        del merged.values[name]

    wrong = [_unknown((name,), merged) for name in merged.values if name not in Settings.model_fields]
    settings, invalid = _checked(merged, state_directory(environ, path))
    wrong += invalid or _contradictions(settings)
    if wrong:
        # "from None": pydantic's own error contains the values, including secrets
        raise ConfigError(
            f"The configuration is not usable ({counted(len(wrong), 'error')}):\n"
            + "\n".join(f"  {line}" for line in wrong)
        )
    return settings


def _checked(merged: Merged, state: Path) -> tuple[Settings, list[str]]:
    """The settings, and what is wrong with them.

    Only sections with values are checked: defaults are valid, and building pydantic's validators for all sections takes
    longer than converting a hundred files.
    """
    sections: dict[str, Any] = {"store": StoreSettings.model_construct(directory=state)}
    wrong: list[str] = []
    for name, field in Settings.model_fields.items():
        given = merged.values.get(name, {})
        if given == {}:
            continue
        if name == "store" and isinstance(given, dict):
            if given.get("url") and "directory" in given:
                wrong.append("store.url and store.directory: a store is either in a database or in a folder")
            given = {"directory": state, **given}
        try:
            kind: Any = field.annotation
            sections[name] = TypeAdapter(kind).validate_python(given)
        except ValidationError as error:
            wrong += [_explain((name, *details["loc"]), details, merged) for details in error.errors(include_url=False)]
    return Settings.model_construct(**sections), wrong


def example() -> str:
    """The text of ``config.example.toml``."""
    return render(
        Settings,
        {
            "folders": {"inbox": FolderSettings},
            "destinations": {"main": FhirDestinationSettings, "files": FileDestinationSettings},
        },
    )


def require_inputs_and_destinations(settings: Settings) -> None:
    """Check that there is an input and an output, which ``serve`` needs and ``status`` does not.

    Raises
    ------
    ConfigError
        With what to set.
    """
    wrong = []
    if not settings.receiver.enabled and not settings.folders:
        wrong.append("no input is configured: set receiver.enabled = true or add a [folders.NAME]")
    if not settings.destinations:
        wrong.append('no output is configured: add a [destinations.NAME] with url, or with type = "file" and directory')
    if wrong:
        raise ConfigError("\n".join(wrong))


def warnings(settings: Settings) -> list[str]:
    """What is valid but probably not intended, for ``check-config`` and the start of ``serve``."""
    return list(_warnings(settings))


def _warnings(settings: Settings) -> Iterator[str]:
    receiver = settings.receiver
    is_local = value_types.is_loopback(receiver.host)
    guarded = receiver.networks or receiver.calling_ae_titles or receiver.tls_client_ca or is_local
    if receiver.enabled and not is_local and value_types.are_everything(receiver.networks):
        shown = ", ".join(map(str, receiver.networks))
        yield f"receiver.networks = {shown}: every address may connect; list only the networks of your senders"
    if receiver.enabled and not guarded:
        yield "receiver.open = true: any peer that can reach the port may send; restrict senders with networks = [...]"
    if settings.store.forget_after_s is not None and settings.fhir.max_instances == 0:
        yield (
            "store.forget_after_s has no effect, because fhir.max_instances = 0: what comes late cannot be added to a"
            " study without a list of its instances"
        )
    web = settings.web
    if web.enabled and not web.tls_certificate and not value_types.is_loopback(web.host):
        yield f"web.host = {web.host!r}: the token is sent unencrypted; set web.tls_certificate"
    for name, folder in settings.folders.items():
        if folder.move_to and folder.afterwards != "move":
            yield f'folders.{name}.move_to has no effect, because afterwards = "{folder.afterwards}"'
    for table in ("patient_id", "accession_number", "admission_id", "specimen"):
        issuers: dict[str, str] = {}
        for issuer, system in getattr(settings.systems, table).items():
            if (first := issuers.setdefault(system, issuer)) != issuer:
                yield (
                    f"systems.{table}: {first!r} and {issuer!r} have the same system: equal ids of both are treated as"
                    " the same"
                )
    for name, destination in settings.destinations.items():
        if destination.only.calling_ae_title and settings.folders:
            yield (
                f"destinations.{name}.only.calling_ae_title: files from folders have no AE title, so that this"
                " destination does not get their studies"
            )
        if not isinstance(destination, FhirDestinationSettings):
            continue
        url = urlsplit(destination.url)
        if url.scheme == "http" and not value_types.is_loopback(url.hostname or ""):
            what = "patient data" if destination.auth == "none" else "credentials and patient data"
            yield f"destinations.{name}.url = {destination.url!r}: {what} are sent unencrypted; use https"
        token_url = urlsplit(destination.oauth2.token_url)
        if token_url.scheme == "http" and not value_types.is_loopback(token_url.hostname or ""):
            yield f"destinations.{name}.oauth2.token_url: credentials are sent unencrypted; use https"


def _contradictions(settings: Settings) -> Iterator[str]:
    watched = [(f"folders.{name}", folder.path, folder.ignore) for name, folder in settings.folders.items()]
    written = [("store.directory", settings.store.directory)]
    for name, folder in settings.folders.items():
        written += [(f"folders.{name}.move_to", folder.move_to)] if folder.move_to else []
        written += [(f"folders.{name}.rejected_to", folder.rejected_to)] if folder.rejected_to else []
    for name, destination in settings.destinations.items():
        if isinstance(destination, FileDestinationSettings):
            written.append((f"destinations.{name}.directory", destination.directory))
    yield from value_types.overlaps(watched, written)
    if settings.store.forget_after_s is not None:
        for name, destination in settings.destinations.items():
            if isinstance(destination, FileDestinationSettings):
                yield (
                    f'store.forget_after_s: destinations.{name} has type = "file", and what comes late of a forgotten'
                    " study cannot be added to a file; remove one of the two"
                )


def _options(table: Key, merged: Merged) -> list[str]:
    """The names of the options that a table may have."""
    match table:
        case ():
            return list(Settings.model_fields)
        case ("folders", _):
            return list(FolderSettings.model_fields)
        case ("destinations", _, "only" | "except"):
            return option_names(SelectionSettings)
        case ("destinations", _, "oauth2"):
            return option_names(OAuth2Settings)
        case ("destinations", name):
            kind = merged.values["destinations"][name].get("type")
            return option_names(FileDestinationSettings if kind == "file" else FhirDestinationSettings)
        case (section,) if model := _SECTIONS.get(section):
            return list(model.model_fields)
    return []


def _where(given: Given | None) -> str:
    return f" ({given.origin})" if given else ""


def _unknown(key: Key, merged: Merged) -> str:
    *table, name = key
    near = difflib.get_close_matches(name, _options(tuple(table), merged), n=1)
    if not near:
        found = [f"{table_name}.{name}" for table_name, model in _TABLES if name in model.model_fields]
        near = sorted(found, key=lambda option: not option.startswith(f"{key[0]}."))[:1]
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"{_spell(key)}: unknown option{hint}{_where(merged.given(key))}"


def _spell(key: Key) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in key)


def _show(key: Key, merged: Merged) -> str:
    """The value as `` = "text"``; empty for tables, secrets and credentials."""
    given = merged.given(key)
    if key[-1] in _SECRET or key[2:3] == ("headers",) or (given and given.hidden):
        return ""
    value: object = merged.values
    for part in key:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.isdigit():
            value = value[int(part)]
    if isinstance(value, Path):
        value = str(value)
    if value is None or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, str):
        value = re.sub(r"(//).*@|[?].*", r"\1***", value, flags=re.DOTALL)  # a URL may contain a secret
        return f" = {json.dumps(value[:100], ensure_ascii=not value.isprintable())}"
    return f" = {json.dumps(value)}"


def _explain(where: tuple[int | str, ...], details: ErrorDetails, merged: Merged) -> str:
    """The message for one of pydantic's errors."""
    key = tuple(str(part) for part in where)
    if key[0] == "destinations" and len(key) > 2 and key[2] in ("fhir", "file"):
        key = (*key[:2], *key[3:])  # pydantic puts the type into the path
    kind, message = details["type"], details["msg"]
    if key[-1] == "[key]":
        key = key[:-1]
        if key[0] in NAMED and len(key) > 2:
            said = re.sub("^Value error, ", "", message)
        else:
            said = "names consist of a-z, 0-9, - and single _" if key[0] in NAMED else "an issuer must not be empty"
        return f"{_spell(key)}: {said}{_where(merged.given(key))}"
    if kind == "extra_forbidden":
        return _unknown(key, merged)
    if kind == "missing":
        return f"{_spell(key)}: must be set{_where(merged.given(key[:-1]))}"
    if kind == "union_tag_invalid":
        key, message = (*key, "type"), "must be 'fhir' or 'file'"
    elif kind in ("union_tag_not_found", "model_type", "model_attributes_type", "dict_type"):
        message = f"must be a table, [{_spell(key)}]"
    message = re.sub("^[A-Z][a-z]+ should", "must", message.removeprefix("Value error, "))
    shown = "" if kind == "value_error" and message.startswith(("host =", "max_wait_s =")) else _show(key, merged)
    return f"{_spell(key)}{shown}: {message}{_where(merged.given(key))}"
