"""The input of a rule: one node of a study, and the state of the study's mapping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import tzinfo

from dicom2fhir.fhir.mapping.document_nodes import Document, DoseValue
from dicom2fhir.fhir.mapping.options import MappingOptions
from dicom2fhir.fhir.mapping.selection import SelectedInstance, SelectedSeries, SelectedStudy
from dicom2fhir.fhir.version.datatypes import (
    Concept,
    concept,
    date_time,
    deterministic_id,
    first_item,
    offset,
    one,
    zone_of,
)
from dicom2fhir.fhir.version.dialect import Dialect
from dicom2fhir.mapped_resources import Entry
from dicom2fhir.model import (
    Attrs,
    Instance,
    Note,
    NoteLevel,
    ProcedureStep,
    Resource,
    Series,
    Study,
    items_of,
    texts_of,
)


class MappingContext:
    """The state of one study's mapping: contained and other resources, notes."""

    def __init__(self, study: Study, dialect: Dialect, options: MappingOptions) -> None:
        self.study = study if options.ian == "always" else _without_notifications(study)
        self.dialect = dialect
        self.options = options
        self.notes: dict[Note, None] = dict.fromkeys(study.notes)
        self.contained: dict[str, Resource] = {}
        self.entries: dict[str, Entry] = {}
        self.zone = zone_of(one(study.attrs.get("TimezoneOffsetFromUTC")), options.time_zone)
        self._scheme_uids = {
            one(item.get("CodingSchemeDesignator")): one(item.get("CodingSchemeUID"))
            for item in items_of(study.attrs.get("CodingSchemeIdentificationSequence"))
            if item.get("CodingSchemeUID")
        }

    def for_other_resource(self) -> MappingContext:
        """A context with the same study and notes, for a resource that has its own contained resources."""
        other = MappingContext(self.study, self.dialect, self.options)
        other.notes = self.notes
        return other

    def schemes(self, designator: str) -> str:
        """The system of a Coding Scheme Designator; see :data:`dicom2fhir.fhir.version.datatypes.Schemes`."""
        return self.options.systems.of_coding_scheme(designator, self._scheme_uids)

    def note(self, level: NoteLevel, where: str, text: str) -> None:
        """Note that something was dropped or replaced."""
        self.notes[Note(level, where, text)] = None

    def lacks(self, path: str, what: str) -> None:
        """Note that the FHIR version has no ``what``, which the study needs at ``path``."""
        self.note("version", path, f"{self.dialect.name} has no {what}")

    def contain(self, resource: Resource) -> Resource:
        """Contain a resource in the ImagingStudy and return the reference to it; equal ones are contained once."""
        # the id is made from the content, so that it does not change when the study gets more instances
        name = f"{resource['resourceType'].lower()}-{deterministic_id(repr(resource)).replace('-', '')[:12]}"
        self.contained[name] = {"resourceType": resource["resourceType"], "id": name, **self.dialect.adapt(resource)}
        return {"reference": f"#{name}", "type": resource["resourceType"]}

    def add(self, entry: Entry) -> Resource:
        """Add a separate resource and return the reference to it; equal ones are added once."""
        self.entries[entry.resource["id"]] = replace(entry, resource=self.dialect.adapt(entry.resource))
        return {"reference": entry.placeholder, "type": entry.resource["resourceType"]}


def _without_notifications(study: Study) -> Study:
    """The study as its instances alone describe it."""
    series = (
        replace(one, instances=tuple(replace(instance, stated=()) for instance in one.instances))
        for one in study.series
    )
    return replace(study, series=tuple(series))


Node = (
    Study | Series | Instance | ProcedureStep | Document | SelectedStudy | SelectedSeries | SelectedInstance | DoseValue
)


@dataclass(slots=True)
class MappingSource:
    """One node as the input of its rules: a study, series, instance or procedure step, or what a document selects or
    says."""

    context: MappingContext
    node: Node
    attrs: Attrs
    series_uid: str = ""
    """Set for an instance."""

    def text(self, keyword: str) -> str:
        """The first value of an attribute, or ``""``."""
        value = self.attrs.get(keyword)
        return value if isinstance(value, str) else one(value)

    def texts(self, keyword: str) -> list[str]:
        """All values of an attribute that is not a sequence."""
        return texts_of(self.attrs.get(keyword))

    def items(self, keyword: str) -> list[Attrs]:
        """All items of a sequence."""
        return items_of(self.attrs.get(keyword))

    def item(self, keyword: str) -> Attrs | None:
        """The first item of a sequence."""
        return first_item(self.attrs, keyword)

    def concepts(self, *keywords: str) -> list[Concept]:
        """The distinct codes of code sequences."""
        found = (concept(item, self.context.schemes) for keyword in keywords for item in self.items(keyword))
        return list(dict.fromkeys(one_concept for one_concept in found if one_concept))

    def aside(self) -> MappingSource:
        """The same node in a separate context, whose resources and notes are not kept."""
        context = self.context
        return replace(self, context=MappingContext(context.study, context.dialect, context.options))

    @property
    def zone(self) -> tzinfo | None:
        """The time zone of this node's dates: a reporting workstation may use a different one from the scanner's."""
        return zone_of(self.text("TimezoneOffsetFromUTC"), None) or self.context.zone

    def moment(self, date_keyword: str, time_keyword: str) -> str | None:
        """A date and its time as ``dateTime``; an invalid date or time is noted."""
        da, tm = self.text(date_keyword), self.text(time_keyword)
        if not da:
            return None
        value = date_time(da, tm, self.zone)
        if value is None:
            self.note(date_keyword, "is not a date; left out")
        elif tm and "T" not in value:
            why = "is not a time" if self.zone else "has no time zone: set fhir.time_zone"
            self.note(time_keyword, f"{why}; only the date is written")
        if self.text("TimezoneOffsetFromUTC") and not offset(self.text("TimezoneOffsetFromUTC")):
            self.note("TimezoneOffsetFromUTC", "is not an offset; left out")
        return value

    def note(self, where: str, text: str) -> None:
        """Add a warning about an attribute."""
        self.context.note("warning", where, text)
