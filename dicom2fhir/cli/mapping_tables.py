"""The tables of ``explain`` and ``profiles``; they need the mapping, which takes longer to load than other tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dicom2fhir.cli.tables import as_it_stands, table_of
from dicom2fhir.fhir.mapping.rule import Trace
from dicom2fhir.fhir.profile.description import elements_of, parts_of, unverified
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.mapped_resources import Mapped

_NOTE_STYLES = {"warning": "yellow", "info": "", "version": "yellow"}


def profiles_table(profiles: Iterable[Profile]) -> Table:
    """``profiles list``."""
    table = table_of("Profile", "FHIR", "Title")
    for profile in profiles:
        title = as_it_stands(profile.title)
        if reason := unverified(profile):
            title.append("\n").append(as_it_stands(reason, "yellow"))
        table.add_row(profile.name, ", ".join(profile.versions), title)
    return table


def profile_tables(profile: Profile) -> RenderableType:
    """``profiles show``: description, elements, extensions."""
    versions = "\n".join(
        f"FHIR {version}: {url or 'no profile is claimed'}" for version, url in profile.versions.items()
    )
    title = "\n".join(filter(None, (profile.title, unverified(profile))))
    head = f"{title}\n\n{versions}\nIf a required value is missing: {profile.missing}\n\n{profile.doc.strip()}\n"
    elements = table_of("Element", "Requirement")
    for path, sources, asked in elements_of(profile):
        source = [f"from {', '.join(sources)}"] if sources else []
        elements.add_row(path, as_it_stands("; ".join([*source, *asked]) or "-"))
    extensions = table_of("Extension", "From")
    for extension in profile.extension:
        for path, part in parts_of(extension):
            datatype = f"{part.type}{' ' + part.unit if part.unit else ''}{', required' if part.required else ''}"
            origin = ", ".join(part.from_) or f"resource {', '.join(part.resource)}"
            extensions.add_row(path, as_it_stands(f"{origin} ({datatype})"))
    parts: list[RenderableType] = [as_it_stands(head), elements]
    return Group(*parts, Text(), extensions) if profile.extension else Group(*parts)


def explain_tables(mapped: Mapped, traces: Iterable[Trace], rejects: Sequence[str] = ()) -> RenderableType:
    """``explain``: each element with its attributes, what a rejection note does, then what was left out and why."""
    table = table_of("Element", "Value and source")
    for trace in traces:
        if trace.element is not None:
            source = as_it_stands("from " + ", ".join(trace.given) if trace.given else trace.rule.how, "dim")
            table.add_row(trace.path, Text("\n").join([_short(trace), source]))
    parts: list[RenderableType] = [table]
    if rejects:
        parts += [Text(), *(as_it_stands(line, "yellow") for line in rejects)]
    if mapped.unclaimed:
        parts += [Text(), as_it_stands(f"The ImagingStudy {mapped.unclaimed}.", "bold yellow")]
    if mapped.notes:
        notes = table_of("Left out or replaced")
        for note in mapped.notes:
            notes.add_row(as_it_stands(note.where + "\n  ").append(as_it_stands(note.text, _NOTE_STYLES[note.level])))
        parts += [Text(), notes]
    return Group(*parts)


def _short(trace: Trace) -> Text:
    """The element's values, one a line."""
    if trace.value is None:
        return Text("left out", style="yellow") if trace.given else Text("-", style="dim")
    values = trace.value if isinstance(trace.value, list) else [trace.value]
    return Text("\n").join(as_it_stands(_plain(value)) for value in values)


def _plain(value: Any) -> str:
    """A FHIR value in one line, by its distinguishing parts."""
    match value:
        case list():
            return "; ".join(_plain(one) for one in value)
        case {"url": str(url), "extension": list(parts)}:
            return f"{url.rpartition('/')[2]}: {_plain(parts)}"
        case {"url": str(url)}:
            return f"{url.rpartition('/')[2]} {_plain(next(v for key, v in value.items() if key != 'url'))}"
        case dict():
            for keys in (("concept",), ("coding", "text"), ("actor",), ("identifier", "display"), ("display", "code")):
                found = [_plain(value[key]) for key in keys if key in value]
                if found:
                    return " ".join(found)
            return str(value.get("value") or value.get("reference") or value.get("text") or value)
        case _:
            return str(value)
