"""The tables of commands that show what is in the store or in the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dicom2fhir.ops.daemon_state import DestinationState
from dicom2fhir.ops.status import DaemonView, Overview, check_of_store, moment, why
from dicom2fhir.store.statuses import DeliveryStatus, DestinationStatus, State, Stats, StudyStatus
from dicom2fhir.system.text import counted, printable

STATE_STYLES = {
    State.DELIVERED: "green",
    State.REFUSED: "bold red",
    State.SENDING: "cyan",
    State.WAITING: "yellow",
    State.EXCLUDED: "dim",
}


def table_of(*columns: str, title: str | None = None) -> Table:
    """A table whose last column is as wide as the terminal allows; the other columns do not wrap."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    return table


def as_it_stands(value: str, style: str = "") -> Text:
    """Literal text: what peers and servers sent is neither markup nor a control sequence for a terminal."""
    return Text(printable(value, keep="\n"), style)


def status_tables(seen: Overview) -> RenderableType:
    """``status``."""
    parts: list[RenderableType] = [as_it_stands(line, "bold red") for line in seen.attention]
    parts += [Text()] if parts else []
    parts += [_daemon_table(seen.daemon), Text(), _stats_table(seen.stats)]
    if seen.destinations:
        parts += [Text(), _destinations_table(seen.destinations, seen.daemon)]
    if seen.studies:
        parts += [Text(), study_tables(seen.studies, seen.daemon, seen.at)]
    if seen.rejections:
        table = table_of("When", "Refused on reception")
        for rejection in seen.rejections:
            origin = rejection.origin
            where = Text(printable(origin.path or f"{origin.calling_ae}@{origin.peer}"))
            said = f"{rejection.kind}: {rejection.reason}" if rejection.kind else rejection.reason
            table.add_row(moment(rejection.at), Text("\n").join([where, as_it_stands(said, "yellow")]))
        parts += [Text(), table]
    return Group(*parts)


def _daemon_table(daemon: DaemonView) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    said = daemon.said
    if not daemon.running or said is None:
        table.add_row("Daemon", "running" if daemon.running else "not running")
        return table
    table.add_row("Daemon", f"running since {moment(said.started_at)} (process {said.pid}, version {said.version})")
    if said.listening:
        table.add_row("Listening", f"{said.listening}, {counted(said.associations, 'association')} open")
    if said.web:
        table.add_row("Web page", said.web)
    for name, obstacle in sorted((said.folders or {}).items()):
        table.add_row("Folder", f"{name}: {obstacle or 'watched'}")
    if disk := said.disk:
        intake = "reception stopped" if disk.intake_stopped else "receiving"
        table.add_row("Disk", f"{disk.free_bytes:,} bytes free, at least {disk.min_free_bytes:,} required: {intake}")
    if said.store_check:
        table.add_row("Store check", as_it_stands(check_of_store(said.store_check)))
    for kind, number in sorted((said.refused or {}).items()):
        table.add_row("Rejected", as_it_stands(f"{number} x {kind}"))
    return table


def _stats_table(stats: Stats) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("Studies", str(stats.studies))
    table.add_row("Series", str(stats.series))
    table.add_row("Instances", str(stats.instances))
    table.add_row("Deliveries", str(stats.waiting + stats.sending + stats.delivered + stats.refused + stats.excluded))
    for state in State:
        table.add_row(Text(f"  {state.value}", style=STATE_STYLES[state]), str(getattr(stats, state.value)))
    table.add_row("Refused instances", str(stats.rejected))
    for kind, number in stats.rejected_by_kind.items():
        table.add_row(f"  {kind or 'unknown kind'}", str(number))
    table.add_row("Skipped files", str(stats.skipped))
    if stats.outdated:
        table.add_row("Read by another version", str(stats.outdated))
    if stats.oldest_undelivered_at:
        table.add_row("Oldest undelivered", moment(stats.oldest_undelivered_at))
    return table


def _destinations_table(destinations: Iterable[DestinationStatus], daemon: DaemonView) -> Table:
    table = table_of("Destination", "State and mapping")
    for one in destinations:
        said = _standing(one, daemon.destination(one.name)).append(
            as_it_stands(f"\n{one.fingerprint or 'unknown mapping'}")
        )
        if number := sum(one.others.values()):
            made = ", ".join(f"{count} with {other or 'an unknown one'}" for other, count in one.others.items())
            were = f"{counted(number, 'delivery')} {'was' if number == 1 else 'were'}"
            said.append("\n").append(as_it_stands(f"{were} made with another mapping: {made}", "yellow"))
            said.append(as_it_stands(f"\ndicom2fhir retry --all --remap --destination {one.name}", "yellow"))
        table.add_row(as_it_stands(one.name), said)
    return table


def _standing(one: DestinationStatus, found: DestinationState | None) -> Text:
    """The state of a destination, the reason and the time of the next attempt."""
    if one.paused_at is not None:
        return as_it_stands(f"paused since {moment(one.paused_at)}: dicom2fhir resume {one.name}", "bold red")
    if found is None:
        return Text("unknown", "dim")
    if found.state == "untried":
        return Text("not used since the daemon started")
    if found.until is None:
        return Text(f"up since {moment(found.since)}", "green")
    until = f"next try at {moment(found.until)}"
    return as_it_stands(f"{found.state} since {moment(found.since)}, {until}: {found.reason}", "bold red")


def study_tables(studies: Sequence[StudyStatus], daemon: DaemonView, now: float) -> RenderableType:
    """Each study with a row for each destination; a UID has its own line, so that it can be copied."""
    named = [delivery.destination for study in studies for delivery in study.deliveries]
    parts: list[RenderableType] = []
    for study in studies:
        counts = [counted(study.series, "series"), counted(study.instances, "instance"), f"revision {study.revision}"]
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, min_width=max(map(len, named), default=0))
        table.add_column(no_wrap=True, min_width=max(map(len, State)))
        table.add_column(overflow="fold")
        for delivery in study.deliveries:
            table.add_row(
                as_it_stands(delivery.destination),
                _state(delivery),
                as_it_stands(_last_word(delivery, study, daemon, now)),
            )
        if not study.deliveries:
            table.add_row("no destination")
        parts += [as_it_stands(study.study_uid, "bold"), Text("  " + ", ".join(counts))]
        parts += [as_it_stands(f"  {line}") for line in _stated(study)]
        parts.append(Padding(table, (0, 0, 0, 2)))
    return Group(*parts)


def _stated(study: StudyStatus) -> Iterator[str]:
    """What archives and modalities state of a study."""
    if study.stated:
        yield f"IAN: availability of {counted(study.stated, 'instance')} stated"
    if study.steps:
        missing = f"; {counted(study.missing, 'listed instance')} missing" if study.missing else ""
        yield f"MPPS: {', '.join(step.status for step in study.steps)}{missing}"
    if study.rejected:
        reasons = (" ".join((each.code, *(f"({words})" for words in each.modifiers))) for each in study.rejections)
        yield f"{counted(study.rejected, 'instance')} rejected by rejection notes: {', '.join(reasons)}"
    if study.asked_to_reject:
        yield (
            f"{counted(study.asked_to_reject, 'rejection note')} not applied: the origin may not reject"
            " (receiver.rejection_notes_from)"
        )
    if study.without_content:
        yield (
            f"{counted(study.without_content, 'document')} without its content: larger than fhir.embed_documents or"
            " receiver.max_elements allows, or damaged"
        )


def _state(delivery: DeliveryStatus) -> Text:
    return Text(delivery.state.value, style=STATE_STYLES[delivery.state])


def _last_word(delivery: DeliveryStatus, study: StudyStatus, daemon: DaemonView, now: float) -> str:
    if delivery.state is State.DELIVERED:
        by_identifier = (
            f"; not found on the server, referred to by identifier: {delivery.reason}" if delivery.reason else ""
        )
        unclaimed = f"; {delivery.unclaimed}" if delivery.unclaimed else ""
        refused = f"; not accepted by the server:\n{delivery.refused}" if delivery.refused else ""
        said = f"revision {delivery.delivered_revision} at {moment(delivery.delivered_at)}"
        return f"{said}{by_identifier}{unclaimed}{refused}"
    return why(delivery, study, daemon, now)


def due_table(due: Mapping[str, int]) -> Table:
    """``relink``: how many deliveries are due at each destination."""
    table = table_of("Destination", "Due now")
    for name, count in due.items():
        table.add_row(as_it_stands(name), f"{count:,}")
    return table


def plans_table(plans: Iterable[Mapping[str, Any]]) -> Table:
    """``check-config``: the plan for each destination."""
    table = table_of("Destination", "Plan")
    for plan in plans:
        profile = f", profile {plan['profile']}" if plan["profile"] else ""
        said = as_it_stands(f"{plan['target']}\nFHIR {plan['version']}{profile}, patient: {plan['patient']}")
        if plan["ids"]:
            said.append(f", ids: {plan['ids']}")
        for word in ("only", "except"):
            for key, patterns in plan[word].items():
                said.append("\n").append(as_it_stands(f"{word} {key}: {', '.join(patterns)}"))
        for fact, style in (("server", ""), ("token", ""), ("warning", "yellow"), ("error", "bold red")):
            if words := plan[fact]:
                said.append("\n").append(as_it_stands(words, style))
        table.add_row(as_it_stands(plan["name"]), said)
    return table
