"""``tail``: what comes and goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import orjson

from dicom2fhir.cli.options import config_option, given_store, state_dir_option
from dicom2fhir.ops.activity import Activity, Event
from dicom2fhir.ops.status import moment
from dicom2fhir.system.text import printable

_LOOK_EVERY_S = 1.0


@click.command()
@config_option
@state_dir_option
@click.option("--lines", "-n", type=click.IntRange(0), default=10, show_default=True, help="Events to begin with.")
@click.option("--once", is_flag=True, help="Do not wait for further events.")
@click.option(
    "--answers", is_flag=True, help="Also show what destinations said and why input was refused; may name patients."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each event.")
def tail(
    config_file: Path | None, state_dir: Path | None, lines: int, once: bool, answers: bool, as_json: bool
) -> None:
    """Show what arrives and what is delivered, one line each, until Ctrl-C.

    A study that arrives is shown as soon as the daemon has indexed it, usually within a second.
    """
    store = given_store(config_file, state_dir).open_readonly()
    try:
        activity = Activity(store)
        first = activity.look()
        _print(first[len(first) - min(lines, len(first)) :], answers, as_json)
        while not once:
            time.sleep(_LOOK_EVERY_S)
            _print(activity.look(), answers, as_json)
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        store.close()


def _print(events: Sequence[Event], answers: bool, as_json: bool) -> None:
    for event in events:
        if as_json:
            facts = asdict(event)
            if not answers:
                del facts["answer"]
            click.echo(orjson.dumps(facts))
        else:
            click.echo(line_of(event, answers))


def line_of(event: Event, answers: bool) -> str:
    """One line of text."""
    answer = " ".join(event.answer.split()) if answers else ""
    parts = (moment(event.at), f"{event.kind:<9}", event.study_uid, event.destination, event.text, answer)
    return printable("  ".join(part for part in parts if part))
