"""``config.example.toml``, generated from the options."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from dicom2fhir.config.sources import PREFIX

_HEAD = """\
Configuration of dicom2fhir: every option with its default value. To set an option, remove the
"# " before it, and before the [header] above it if there is one.

The same options can be given in these places; later ones override earlier ones:
  1. this file: dicom2fhir serve --config FILE
  2. systemd credentials, for secrets: files named like destinations__main__token
  3. environment variables named like DICOM2FHIR_RECEIVER__PORT; lists with commas, tables as JSON
  4. command-line options: dicom2fhir serve --help

Times are in seconds (_s), sizes in bytes (_bytes). An unknown option is an error.
Check with: dicom2fhir check-config
"""


def _toml(value: object) -> str:
    match value:
        case bool() | int():
            return json.dumps(value)
        case float():
            return f"{value:g}"
        case SecretStr():
            return '""'
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False)
        case tuple() | list():
            return f"[{', '.join(_toml(item) for item in value)}]"
    raise TypeError(f"no TOML for {type(value).__name__}")


def _bare(annotation: Any) -> Any:
    """The type without the metadata of :data:`typing.Annotated`, and without None."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return _bare(next(arm for arm in get_args(annotation) if arm is not NoneType))
    return annotation


def _kind(field: FieldInfo) -> str:
    """The type of an option in words, with its range."""
    bare = _bare(field.annotation)
    if get_origin(bare) is Literal:
        return " | ".join(json.dumps(value) for value in get_args(bare))
    if get_origin(bare) is tuple:
        return f"list of {'networks' if _bare(get_args(bare)[0]) is IPv4Network else 'strings'}"
    words = {bool: "true or false", int: "integer", float: "number", SecretStr: "string, secret", Path: "path"}
    word = words.get(bare, "string")
    limits = {
        name: getattr(part, name) for part in field.metadata for name in ("ge", "gt", "le") if hasattr(part, name)
    }
    low = f" from {limits['ge']}" if "ge" in limits else f" above {limits['gt']}" if "gt" in limits else ""
    high = f" to {limits['le']}" if "le" in limits else ""
    return f"{word}{low}{high}"


def _says(text: str) -> Iterator[str]:
    for line in text.splitlines():
        lead = len(line) - len(line.lstrip())
        for part in textwrap.wrap(line, 97, subsequent_indent=" " * lead, break_on_hyphens=False) or [""]:
            yield f"## {part}".rstrip()


def _option(name: str, field: FieldInfo, section: str) -> Iterator[str]:
    optional = not field.is_required()
    default = field.default if optional and field.default_factory is None else (field.examples or [""])[0]
    if default is None:
        default = "" if _bare(field.annotation) is Path else (field.examples or ["none"])[0]
    variable = f"{PREFIX}{section.replace('.', '__')}__{name}".upper()
    yield ""
    yield from _says(field.description or "")
    yield from _says(f"{_kind(field)}{'' if optional else '; required'} - {variable}")
    yield f"# {name} = {_toml(default)}"


def _section(section: str, model: type[BaseModel]) -> Iterator[str]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    tables = {name: field for name, field in fields.items() if get_origin(field.annotation) is dict}
    within = {name: kind for name, field in fields.items() if (kind := _table(field.annotation))}
    options = [(name, field) for name, field in fields.items() if name not in tables and name not in within]
    # "type" says which options there are: first.
    for name, field in sorted(options, key=lambda option: option[0] != "type"):
        yield from _option(name, field, section)
    for name, field in tables.items():
        yield ""
        yield from _says(f"{field.description}")
        yield f"# [{section}.{name}]"
        yield from (f"# {json.dumps(key)} = {_toml(value)}" for key, value in (field.examples or [{}])[0].items())
    for name, kind in within.items():
        yield ""
        yield from _says(f"{fields[name].description}")
        yield f"# [{section}.{name}]"
        yield from _section(f"{section}.{name}", kind)


def _table(annotation: object) -> type[BaseModel] | None:
    """The model of a table with options of its own."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def render(settings: type[BaseModel], named: Mapping[str, Mapping[str, type[BaseModel]]]) -> str:
    """The example file.

    Parameters
    ----------
    settings
        The model of all settings.
    named
        For each section that holds named tables, the tables to show: name -> model.
    """
    lines = list(_says(_HEAD))
    for section, field in settings.model_fields.items():
        lines += ["", "", *_says(field.description or "")]
        if section in named:
            for name, model in named[section].items():
                lines += [*([""] if lines[-1].startswith("# ") else []), f"# [{section}.{name}]"]
                lines += _section(f"{section}.{name}", model)
        else:
            model = field.annotation  # type: ignore[assignment]
            lines += [f"[{section}]", *_section(section, model)]
    return "\n".join(lines) + "\n"
