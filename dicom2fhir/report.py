"""What the reading commands show: one function gives the facts as JSON, one as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dicom2fhir.fhir.mapping import Trace
from dicom2fhir.model import Mapped
from dicom2fhir.store.base import DeliveryStatus, Rejection, State, Stats, StudyStatus

STATE_STYLES = {State.DELIVERED: "green", State.REFUSED: "bold red", State.SENDING: "cyan", State.WAITING: "yellow"}


def _moment(at: float | None) -> str:
    """Seconds since the epoch as local time, to the second."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _iso(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else None


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        numeric = column in ("Series", "Instances", "Revision", "Tries")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def status_json(stats: Stats, studies: Iterable[StudyStatus], rejections: Iterable[Rejection]) -> dict[str, Any]:
    """``status --json``."""
    facts = asdict(stats)
    facts["oldest_undelivered_at"] = _iso(stats.oldest_undelivered_at)
    return {
        "stats": facts,
        "studies": [study_json(study) for study in studies],
        "rejections": [
            {
                "at": _iso(rejection.at),
                "origin": rejection.origin.kind,
                "calling_ae": rejection.origin.calling_ae,
                "peer": rejection.origin.peer,
                "path": rejection.origin.path,
                "reason": rejection.reason,
            }
            for rejection in rejections
        ],
    }


def study_json(study: StudyStatus) -> dict[str, Any]:
    """One study of ``status --json``."""
    facts = asdict(study)
    facts["first_at"], facts["last_at"] = _iso(study.first_at), _iso(study.last_at)
    for shown, delivery in zip(facts["deliveries"], study.deliveries, strict=True):
        shown["due_at"], shown["delivered_at"] = _iso(delivery.due_at), _iso(delivery.delivered_at)
    return facts


def status_tables(stats: Stats, studies: Sequence[StudyStatus], rejections: Sequence[Rejection]) -> RenderableType:
    """``status``."""
    parts: list[RenderableType] = [_stats_table(stats)]
    if studies:
        parts += [Text(), studies_table(studies)]
    if rejections:
        table = _table("When", "From", "Why", title="Refused when they came in")
        for rejection in rejections:
            origin = rejection.origin
            table.add_row(_moment(rejection.at), origin.path or f"{origin.calling_ae}@{origin.peer}", rejection.reason)
        parts += [Text(), table]
    return Group(*parts)


def _stats_table(stats: Stats) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("Studies", str(stats.studies))
    table.add_row("Series", str(stats.series))
    table.add_row("Instances", str(stats.instances))
    for state in State:
        table.add_row(Text(f"  {state.value}", style=STATE_STYLES[state]), str(getattr(stats, state.value)))
    table.add_row("Refused instances", str(stats.rejected))
    table.add_row("Skipped files", str(stats.skipped))
    if stats.oldest_undelivered_at:
        table.add_row("Oldest undelivered", _moment(stats.oldest_undelivered_at))
    return table


def studies_table(studies: Iterable[StudyStatus]) -> Table:
    """A row for each study and destination."""
    table = _table("Study", "Series", "Instances", "Revision", "Destination", "State", "Tries", "Last word")
    for study in studies:
        first = [study.study_uid, str(study.series), str(study.instances), str(study.revision)]
        for delivery in study.deliveries:
            table.add_row(*first, delivery.destination, _state(delivery), str(delivery.attempts), _last_word(delivery))
            first = ["", "", "", ""]
        if not study.deliveries:
            table.add_row(*first, "", "", "", "no destination")
    return table


def _state(delivery: DeliveryStatus) -> Text:
    return Text(delivery.state.value, style=STATE_STYLES[delivery.state])


def _last_word(delivery: DeliveryStatus) -> str:
    if delivery.reason:
        return delivery.reason
    if delivery.state is State.DELIVERED:
        return f"revision {delivery.delivered_revision} at {_moment(delivery.delivered_at)}"
    return f"due {_moment(delivery.due_at)}"


def plans_table(plans: Iterable[Mapping[str, Any]]) -> Table:
    """``check-config``: what will be done at each destination."""
    table = _table("Destination", "Target", "FHIR", "Patient", "Ids", "Server")
    for plan in plans:
        said = Text(plan["error"], style="bold red") if plan["error"] else plan["server"]
        table.add_row(plan["name"], plan["target"], plan["version"], plan["patient"], plan["ids"], said)
    return table


def explain_json(mapped: Mapped, traces: Iterable[Trace]) -> dict[str, Any]:
    """``explain --json``."""
    return {
        "elements": [
            {
                "element": trace.rule.concept if trace.element is None else _path(trace),
                "exists": trace.element is not None,
                "attributes": list(trace.rule.attributes),
                "given": list(trace.given),
                "value": trace.value,
                "rule": trace.rule.how,
            }
            for trace in traces
        ],
        "notes": [asdict(note) for note in mapped.notes],
    }


def _path(trace: Trace) -> str:
    """Where the element is in the dialect's ImagingStudy."""
    level, _, _ = trace.rule.concept.rpartition(".")
    return {"": "", "series": "series.", "instance": "series.instance."}[level] + (trace.element or "")


def explain_tables(mapped: Mapped, traces: Iterable[Trace]) -> RenderableType:
    """``explain``: every element, where it came from, and what was dropped and why."""
    table = _table("Element", "Attributes", "Value")
    missing = []
    for trace in traces:
        if trace.element is None:
            missing.append(f"{trace.rule.concept} ({', '.join(trace.given)})")
        else:
            table.add_row(
                _path(trace) or "", ", ".join(trace.given) or Text(trace.rule.how, style="dim"), _short(trace)
            )
    parts: list[RenderableType] = [table]
    if missing:
        parts += [Text(), Text("Not in this FHIR version: " + "; ".join(missing), style="dim")]
    if mapped.notes:
        notes = _table("Where", "What", title="Dropped or replaced")
        for note in mapped.notes:
            notes.add_row(note.where, Text(note.text, style="yellow" if note.level == "warning" else ""))
        parts += [Text(), notes]
    return Group(*parts)


def _short(trace: Trace) -> RenderableType:
    if trace.value is None:
        return Text("-" if not trace.given else "left out", style="dim" if not trace.given else "yellow")
    return Text(_plain(trace.value))


def _plain(value: Any) -> str:
    """A FHIR value in one line, with the words that tell it apart."""
    match value:
        case list():
            return "; ".join(_plain(one) for one in value)
        case dict():
            for keys in (("concept",), ("coding", "text"), ("actor",), ("identifier", "display"), ("display", "code")):
                found = [_plain(value[key]) for key in keys if key in value]
                if found:
                    return " ".join(found)
            return str(value.get("value") or value.get("reference") or value.get("text") or value)
        case _:
            return str(value)
