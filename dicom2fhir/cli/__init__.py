"""The command line: reads arguments, calls the package that does the work, and turns errors into exit statuses.

A command is imported when it is called, and imports what it needs: a short command must not wait for libraries that
only others use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from dicom2fhir import __version__
from dicom2fhir.cli.exit_status import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_IO,
    EXIT_NO_READER,
    EXIT_UNAVAILABLE,
)
from dicom2fhir.errors import BridgeError, ConfigError, NotReady, ServerUnavailable, StoreDamaged, StoreUnavailable
from dicom2fhir.system import terminal as standard_streams  # cli.terminal takes the name when it is loaded

_COMMANDS = {
    "backfill": "backfill.backfill",
    "check-config": "daemon.check_config",
    "conformance": "conformance.conformance",
    "convert": "convert_files.convert",
    "demo": "daemon.demo",
    "echo": "daemon.echo",
    "explain": "explain_file.explain",
    "forget": "interventions.forget",
    "jwks": "jwks.jwks",
    "pause": "destinations.pause",
    "profiles": "profiles.profiles",
    "relink": "relink.relink",
    "resume": "destinations.resume",
    "retry": "studies.retry",
    "serve": "daemon.serve",
    "settle": "interventions.settle",
    "status": "studies.status",
    "store": "store_copies.store",
    "tail": "tail.tail",
    "top": "top.top",
}
"""Name -> module and function here."""

_TRANSLATING = ("convert", "explain", "profiles")
"""Commands that log nothing themselves."""


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(EXIT_NO_READER) from None


class _Commands(click.Group):
    """The commands; each is imported when it is called.

    If the reader of the output closes it, the exit status is that of other programs; click would exit with status 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, function = _COMMANDS[cmd_name].partition(".")
        command: click.Command = getattr(import_module(f"{__name__}.{module}"), function)
        return command

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _reader_may_leave():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> object:
        with _reader_may_leave():
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dicom2fhir")
@click.pass_context
def cli(context: click.Context) -> None:
    """Bridge DICOM to FHIR: receive DICOM by C-STORE and from folders, write ImagingStudy to FHIR servers."""
    # logs go to standard error, results to standard output
    if context.invoked_subcommand in _TRANSLATING:
        from dicom2fhir.ops import lazy_logs

        lazy_logs.configure("error", "text")
    else:
        from dicom2fhir.ops import logs

        logs.configure("error", "text")


def main() -> None:
    """Run the command line and exit."""
    standard_streams.prepare()
    try:
        status = _run()
    except BrokenPipeError:  # of standard error
        status = EXIT_NO_READER
    unwritten = standard_streams.flush()
    if unwritten and not status:
        status = _report(unwritten)
    sys.exit(status)


def _run() -> int:
    """Run the command; the only place where an error becomes an exit status."""
    try:
        status = cli.main(prog_name="dicom2fhir", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        interrupted = isinstance(error.__cause__, KeyboardInterrupt)
        click.echo(f"dicom2fhir: {str(error) or ('interrupted' if interrupted else 'aborted')}", err=True)
        return EXIT_INTERRUPTED
    except (BridgeError, OSError) as error:
        return _report(error)


def _report(error: BridgeError | OSError) -> int:
    """Write the error to standard error; its exit status."""
    if isinstance(error, BrokenPipeError):
        return EXIT_NO_READER
    click.echo(f"dicom2fhir: {_message(error)}", err=True)
    return _exit_status(error)


def _message(error: BridgeError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _exit_status(error: BridgeError | OSError) -> int:
    match error:
        case ConfigError():
            return EXIT_CONFIG
        case ServerUnavailable():
            return EXIT_UNAVAILABLE
        case StoreUnavailable() | StoreDamaged() | NotReady() | OSError():
            return EXIT_IO
        case _:
            return EXIT_FAILED
