"""Manual pages (``man(7)``) from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from dicom2fhir import __version__
from dicom2fhir.cli import cli


def man_page(name: str, command: click.Command) -> str:
    """The page of a command, such as ``dicom2fhir-convert``; that of a group lists its commands."""
    program, _, rest = name.partition("-")
    context = click.Context(cli, info_name=program, **cli.context_settings)
    if command is not cli:
        context = click.Context(command, info_name=rest, parent=context)
    return "\n".join(_lines(name, command, context)) + "\n"


def _lines(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f'.TH {_text(name.upper())} 1 "" "dicom2fhir {__version__}"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(command.get_short_help_str(200))}"
    yield ".SH SYNOPSIS"
    yield _text(command.get_usage(context).removeprefix("Usage: "))
    yield ".SH DESCRIPTION"
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    yield ".SH OPTIONS"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]) or "\\&")
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            if found is not None:
                yield from (".TP", f"\\fB{_text(each)}\\fR", _text(found.get_short_help_str(200)))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from (_text(" ".join(paragraph.split())), ".PP")


def _text(text: str) -> str:
    """Text in which nothing is a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
