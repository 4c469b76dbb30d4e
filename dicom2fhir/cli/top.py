"""``top``: a live view in the terminal."""

from __future__ import annotations

import select
import shutil
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicom2fhir.cli.options import config_option, given_store, state_dir_option
from dicom2fhir.cli.tail import line_of
from dicom2fhir.ops import status as bridge
from dicom2fhir.ops.activity import Activity, Event
from dicom2fhir.ops.status import Overview, moment
from dicom2fhir.store.statuses import DestinationStatus, State, Stats
from dicom2fhir.system.text import counted, printable

if TYPE_CHECKING:
    from dicom2fhir.store.sql.store import SqlStore

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_KEPT_EVENTS = 200
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Alternate screen without a cursor, and back (xterm control sequences; terminals without them ignore these)."""
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@config_option
@state_dir_option
@click.option("--once", is_flag=True, help="Show the present state once and end.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates.",
)
def top(config_file: Path | None, state_dir: Path | None, once: bool, every: float) -> None:
    """Watch reception and deliveries in the terminal until q or Ctrl-C.

    The view names no patients, and does not show what destinations said: see `dicom2fhir status`.
    """

    if not once and not sys.stdout.isatty():
        raise click.UsageError("standard output is no terminal; use --once, or `dicom2fhir tail`")
    store = given_store(config_file, state_dir).open_readonly()
    try:
        view = View(store)
        if once:
            click.echo("\n".join(view.lines(time.time())))
        else:
            _run(view, every)
    finally:
        store.close()


def _run(view: View, every_s: float) -> None:
    with _screen():
        while True:
            width, height = shutil.get_terminal_size()
            shown = [line[:width] for line in view.lines(time.time(), height - 1)]
            text = "".join(f"{line}{_TO_END_OF_LINE}\r\n" for line in shown)
            click.echo(f"{_HOME}{text}{_TO_END}", nl=False)
            if _quits(every_s):
                return


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal without echo and with each key at once; it is restored in any case."""
    settings = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        if settings:
            tty.setcbreak(sys.stdin)
        click.echo(_ENTER, nl=False)
        yield
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        click.echo(_LEAVE, nl=False)
        if settings:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)


def _quits(wait_s: float) -> bool:
    """Wait for the next update; whether q was pressed, or standard input ended."""
    if not sys.stdin.isatty():
        time.sleep(wait_s)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(readable) and sys.stdin.read(1) in ("q", "Q", "")


class View:
    """What is shown; keeps the events, and the counts of the last update for rates."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._activity = Activity(store)
        self._events: deque[Event] = deque(maxlen=_KEPT_EVENTS)
        self._before: tuple[float, int] | None = None

    def lines(self, now: float, height: int = 40) -> list[str]:
        """The lines of one update, at most ``height``, with the latest events last."""
        seen = bridge.overview(self._store, None, 0, now)
        self._events.extend(self._activity.look())
        head = [
            f"dicom2fhir top   {moment(now)}   {_daemon(seen)}",
            self._traffic(seen.stats, now),
            _deliveries(seen, now),
            *_attention(seen),
            "",
            *(_destination(one, seen) for one in seen.destinations),
            "",
        ]
        head = [printable(line) for line in head]
        room = max(height - len(head), 0)
        events = [*self._events][-room:] if room else []
        return [*head, *(line_of(event, answers=False) for event in events)][:height]

    def _traffic(self, stats: Stats, now: float) -> str:
        minutes = self._store.counts(now - _DAY_S)
        hour = [one for one in minutes if one.at > now - _HOUR_S]
        rate = ""
        if self._before and now > self._before[0]:
            per_s = max(stats.instances - self._before[1], 0) / (now - self._before[0])
            rate = f"{per_s:,.1f} instances/s now, "
        self._before = now, stats.instances
        received = (
            f"{sum(one.received for one in hour):,} in an hour, {sum(one.received for one in minutes):,} in a day"
        )
        sent = f"{sum(one.delivered for one in hour):,} in an hour, {sum(one.delivered for one in minutes):,} in a day"
        return f"Received     {rate}{received}   Delivered  {sent}"


def _daemon(seen: Overview) -> str:
    if problem := bridge.not_receiving(seen.daemon):
        return problem.upper()
    said = seen.daemon.said
    if said is None or not said.listening:
        return "daemon running"
    return f"listening on {said.listening}, {counted(said.associations, 'association')} open"


def _deliveries(seen: Overview, now: float) -> str:
    states = "  ".join(f"{getattr(seen.stats, state.value):,} {state.value}" for state in State)
    oldest = seen.stats.oldest_undelivered_at
    return f"Deliveries   {states}" + (f"   oldest waits {_duration(now - oldest)}" if oldest else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _attention(seen: Overview) -> list[str]:
    number = len(seen.attention)
    needs = "needs" if number == 1 else "need"
    return [f"Attention    {counted(number, 'thing')} {needs} attention: dicom2fhir status"] if number else []


def _destination(one: DestinationStatus, seen: Overview) -> str:
    found = seen.daemon.destination(one.name)
    state, more = ("unknown", "") if found is None else (found.state, "")
    if found is not None:
        until = f", next try {moment(found.until)}" if found.until else ""
        more = f"since {moment(found.since)}{until}   {found.written:,} written  {found.failed:,} failed"
    if one.paused_at is not None:
        state, more = "paused", f"since {moment(one.paused_at)} by `dicom2fhir pause`"
    return f"{one.name:<20} {state:<8} {more}".rstrip()
