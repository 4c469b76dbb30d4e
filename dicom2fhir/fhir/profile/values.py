"""Where a profile's values come from: attributes of a node, of what it lies in, or of what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal

from dicom2fhir.fhir.mapping.context import MappingContext, MappingSource
from dicom2fhir.fhir.mapping.date_times import day_from, day_until, earliest, moment, moment_of_dt
from dicom2fhir.fhir.mapping.imaging_study import modality_of
from dicom2fhir.fhir.profile.codes import coded
from dicom2fhir.fhir.profile.model import Profile
from dicom2fhir.fhir.profile.paths import values_at
from dicom2fhir.fhir.profile.plausible_ranges import is_plausible
from dicom2fhir.fhir.profile.template import (
    ExtensionPart,
    FirstValue,
    ReferenceTo,
    TemplateObject,
    ValueSource,
    is_attribute,
)
from dicom2fhir.fhir.version.datatypes import (
    Concept,
    coding,
    concept,
    date_time,
    date_time_of_dt,
    decimal,
    human_names,
    identifier,
    one,
    several,
)
from dicom2fhir.fhir.version.dialects import codeable_concept
from dicom2fhir.model import Attrs, Instance, Json, Resource, Series, items_of

_UCUM = "http://unitsofmeasure.org"
_LONGEST_S = 24 * 60 * 60
"""With a longer acquisition the day of an injection is not known."""
_YES = {"YES": True, "NO": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class ProfiledNode:
    """A node of the study, and the JSON that it became.

    Attributes
    ----------
    study_json, json
        The ImagingStudy, and the part of it that the node became.
    target
        ``@target`` of an added resource: the reference that now leads to it.
    """

    context: MappingContext
    study_json: Resource
    json: Resource
    profile: Profile
    series: Series | None = None
    series_json: Resource | None = None
    instance: Instance | None = None
    target: Resource | None = None

    @property
    def modality(self) -> str:
        """Of the series; empty for the study."""
        if self.series is None:
            return ""
        found = modality_of(self.series.attrs)
        return found.codings[0].code if found.codings else found.text

    # Attributes ------------------------------------------------------------------------------------------------------

    def given(self, keyword: str) -> list[str | Attrs]:
        """The values of an attribute: of this node, else of what it lies in, else what most of what it holds has."""
        name, _, inner = keyword.partition("/")
        found: list[str | Attrs] = []
        for attrs in self._above():
            if found := several(attrs.get(name)):
                break
        else:
            found = self._common(name)
        if inner:
            items = (item for item in found if not isinstance(item, str))
            found = next((values for item in items if (values := several(item.get(inner)))), [])
        return self._plausible(inner or name, found)

    def _plausible(self, keyword: str, found: list[str | Attrs]) -> list[str | Attrs]:
        """The values, unless one of them is out of the attribute's plausible range."""
        if all(is_plausible(keyword, value) for value in found if isinstance(value, str)):
            return found
        self.context.note("warning", keyword, "is outside the plausible range; left out")
        return []

    def _above(self) -> Iterator[Attrs]:
        if self.instance:
            yield self.instance.attrs
        if self.series:
            yield self.series.attrs
        yield self.context.study.attrs
        yield self.context.study.patient

    def _common(self, name: str) -> list[str | Attrs]:
        """What most of the node's series or instances give; of several that are as frequent, the first."""
        if self.instance:
            return []
        nodes: tuple[Series | Instance, ...] = self.series.instances if self.series else self.context.study.series
        found = [values for node in nodes if (values := several(node.attrs.get(name)))]
        if not found and not self.series:
            for series in self.context.study.series:
                found += [values for instance in series.instances if (values := several(instance.attrs.get(name)))]
        if not found:
            return []
        (frequent, _), *_ = Counter(map(repr, found)).most_common(1)
        return next(values for values in found if repr(values) == frequent)

    def mapping_sources(self) -> Iterator[MappingSource]:
        """This node and all that it holds, as the rules of the mapping see them."""
        study = self.context.study
        if self.instance:
            yield MappingSource(self.context, self.instance, self.instance.attrs)
            return
        if not self.series:
            yield MappingSource(self.context, study, study.attrs)
        for series in (self.series,) if self.series else study.series:
            yield MappingSource(self.context, series, series.attrs)
            zone = {"TimezoneOffsetFromUTC": series.attrs.get("TimezoneOffsetFromUTC", "")}
            for instance in series.instances:
                yield MappingSource(self.context, instance, {**zone, **instance.attrs})

    # Values ----------------------------------------------------------------------------------------------------------

    def value(self, wanted: ValueSource) -> Sequence[Json]:
        """What a profile asks for, in FHIR's datatype; several where the attribute has several, none without any."""
        if wanted.modalities and self.modality not in wanted.modalities:
            return []
        if wanted.present:
            return [True] if any(self.given(source) for source in wanted.from_) else []
        found: Sequence[Json]
        for source in wanted.from_:
            if source.startswith("@"):
                found = self._element(source[1:], wanted)
            elif source.startswith("$"):
                found = self._option(source, wanted)
            elif wanted.since:
                found = self._seconds(source, wanted)
            elif wanted.type == "Period":
                found = self._period(source, wanted)
            elif wanted.type in ("dateTime", "date"):
                found = self._time_of_day(source, wanted) if _is_time_of_day(source) else self._earliest(source)
            else:
                found = self._converted(source, wanted)
            if found:
                return found if wanted.index is None else found[:1]
        return []

    def knows(self, template: object) -> bool:
        """Whether the data set says anything of what a template or an extension asks for."""
        match template:
            case ExtensionPart() if template.part or template.resource:
                fits = not template.modalities or self.modality in template.modalities
                return fits and (any(map(self.knows, template.part)) or any(map(self.knows_of, template.resource)))
            case ValueSource():
                attributes = tuple(filter(is_attribute, template.from_))
                return bool(attributes) and bool(self.value(template.model_copy(update={"from_": attributes})))
            case FirstValue():
                return any(map(self.knows, template.first))
            case ReferenceTo():
                return any(map(self.knows_of, template.resource))
            case TemplateObject():
                return any(map(self.knows, template.values()))
            case list():
                return any(map(self.knows, template))
        return False

    def knows_of(self, name: str) -> bool:
        """Whether the data set says anything of one of the profile's resources."""
        return self.knows(self.profile.resource[name].value)

    def _element(self, path: str, wanted: ValueSource) -> list[Json]:
        if path == "target":
            return [self.target] if self.target else []
        if path.startswith("series.instance.") and self.instance is not None:
            found = values_at(self.json, path.removeprefix("series.instance."))
        elif path.startswith("series.") and self.series_json is not None:
            found = values_at(self.series_json, path.removeprefix("series."))
        else:
            found = values_at(self.study_json, path)
        if wanted.type in ("Coding", "CodeableConcept"):
            found = [coded(value, wanted.type) for value in found]
        return [value for position, value in enumerate(found) if value not in found[:position]]

    def _option(self, source: str, wanted: ValueSource) -> list[Json]:
        options = self.context.options
        if source == "$systems.organization":
            value = options.systems.of_organization(one(self.given("InstitutionName")))
        else:
            value = options.of(source.removeprefix("$"))
        if wanted.type == "Identifier" and "|" in value:
            system, _, value = value.partition("|")
            return [identifier(value, system)]
        return [value] if value else []

    def _earliest(self, source: str) -> list[str]:
        """A date with its time, or a DT: the earliest of the node and of what it holds."""
        found = earliest(
            date_time_of_dt(own, zone) if time is None else date_time(own, time, zone) if time else None
            for own, time, zone in self._dated(source)
        )
        return [found] if found else []

    def _dated(self, source: str) -> Iterator[tuple[str, str | None, tzinfo | None]]:
        """Of the node and what it holds: date, time and zone; the time is None for a DT or TM."""
        date_keyword, plus, time_keyword = source.partition("+")
        for inner in self.mapping_sources():
            if own := _in(inner.attrs, date_keyword):
                time = _in(inner.attrs, time_keyword) or one(self.given(time_keyword)) if plus else None
                yield own, time, inner.zone

    def _time_of_day(self, source: str, wanted: ValueSource) -> list[str]:
        """A TM with its day, see :attr:`~dicom2fhir.fhir.profile.template.ValueSource.not_after`."""
        time = one(self.given(source))
        found = date_time(self._day_of(source, time, wanted), time, self.zone) if time else None
        return [found] if found else []

    def _day_of(self, source: str, time: str, wanted: ValueSource) -> str:
        last = self._moment(wanted.not_after, max)
        if last is None:
            return one(self.given("SeriesDate")) or one(self.given("StudyDate"))
        lasting = decimal(one(self.given(wanted.lasting))) if wanted.lasting else None
        day = day_until(time, last, float(lasting) if lasting and 0 < lasting < _LONGEST_S else 0)
        if day < last.date().isoformat().replace("-", ""):
            self.context.note("info", _leaf(source), "is later than the acquisition; taken as the day before")
        return day

    def _begin(self, source: str, wanted: ValueSource) -> datetime | None:
        """The moment of a DT, or of a TM with its day."""
        if not _is_time_of_day(source):
            return self._moment((source,), min)
        time = one(self.given(source))
        return moment(self._day_of(source, time, wanted), time, self.zone)

    def _period(self, source: str, wanted: ValueSource) -> list[Resource]:
        """From a time of day to another one that comes within half a day after it."""
        start = self._time_of_day(source, wanted)
        if not start:
            return []
        begin = self._begin(source, wanted)
        until = one(self.given(wanted.until)) if begin and wanted.until else ""
        end = date_time(day_from(until, begin), until, self.zone) if begin and until else None
        if until and not end:
            self.context.note("warning", _leaf(wanted.until), "is not a time after the start; left out")
        return [{"start": start[0], "end": end} if end else {"start": start[0]}]

    def _seconds(self, source: str, wanted: ValueSource) -> list[Json]:
        end = self._moment((source,), min)
        begins = (begin for since in wanted.since if (begin := self._begin(since, wanted)))
        begin = next(begins, None)
        if begin is None or end is None:
            return []
        if end < begin:
            self.context.note("warning", _leaf(source), "is before the start; the duration is left out")
            return []
        return [self._quantity(_number(Decimal(str((end - begin).total_seconds()))), wanted.unit)]

    @property
    def zone(self) -> tzinfo | None:
        """Of the node's dates."""
        return next(self.mapping_sources()).zone

    def _moment(self, sources: Iterable[str], pick: Callable[[Iterable[datetime]], datetime]) -> datetime | None:
        """The earliest or the latest moment of the node and of what it holds, of the first source that has any."""
        return next((pick(found) for source in sources if (found := set(self._moments(source)))), None)

    def _moments(self, source: str) -> Iterator[datetime]:
        for own, time, zone in self._dated(source):
            if time is not None:
                found = moment(own, time, zone)
            elif _is_time_of_day(source):
                found = moment(one(self.given("SeriesDate")) or one(self.given("StudyDate")), own, zone)
            else:
                found = moment_of_dt(own, zone)
            if found:
                yield found

    def _converted(self, source: str, wanted: ValueSource) -> Sequence[Json]:
        given = self.given(source)
        if wanted.index is not None:
            given = given[wanted.index : wanted.index + 1]
        if wanted.type in ("string", "url", "code"):
            # several values of one attribute as DICOM writes them; an item of a sequence by its meaning
            texts = [text for value in given if (text := self._text(value))]
            if wanted.listed:
                return [f"[{', '.join(texts)}]"] if texts else []
            return texts if wanted.many or not texts else ["\\".join(texts)]
        converted = [value for text in given if (value := self._convert(text, wanted)) is not None]
        if len(converted) < sum(isinstance(value, str) for value in given):
            self.context.note("warning", _leaf(source), f"cannot be a FHIR {wanted.type}; left out")
        return converted

    def _text(self, value: str | Attrs) -> str:
        if isinstance(value, str):
            return value.strip()
        found = concept(value, self.context.schemes)
        return (found.text or found.codings[0].display or found.codings[0].code) if found else ""

    def _convert(self, value: str | Attrs, wanted: ValueSource) -> Json:
        if wanted.type in ("CodeableConcept", "Coding"):
            found = Concept(text=value) if isinstance(value, str) else concept(value, self.context.schemes)
            if not found or wanted.type == "CodeableConcept":
                return codeable_concept(found) if found and (found.codings or found.text) else None
            if found.codings:
                first: Resource = codeable_concept(found)["coding"][0]
                return first
            return {"display": found.text} if wanted.codes else None
        if wanted.type == "Identifier":
            code = None if isinstance(value, str) else coding(value, self.context.schemes)
            return identifier(code.code, code.system) if code else None
        if not isinstance(value, str):
            return None
        if wanted.type == "HumanName":
            return next(iter(human_names(value)), None)
        if wanted.type == "boolean":
            return _YES.get(value.upper())
        number = decimal(value)
        if number is None:
            return None
        number *= Decimal(str(wanted.factor)) if wanted.factor != 1 else 1
        if wanted.type == "integer":
            whole = int(number.to_integral_value(ROUND_HALF_UP))
            return whole if -(2**31) <= whole < 2**31 else None
        return self._quantity(_number(number), wanted.unit) if wanted.type == "Quantity" else _number(number)

    def _quantity(self, value: int | float, unit: str) -> Resource:
        if not unit:
            return {"value": value}
        return {"value": value, "unit": self.profile.units.get(unit, unit), "system": _UCUM, "code": unit}


def _in(attrs: Attrs, keyword: str) -> str:
    name, _, inner = keyword.partition("/")
    value = attrs.get(name)
    return one([one(item.get(inner)) for item in items_of(value)]) if inner else one(value)


def _number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() and abs(number) < 2**53 else float(number)


def _leaf(source: str) -> str:
    """The keyword of the attribute itself."""
    return source.rpartition("/")[2]


def _is_time_of_day(source: str) -> bool:
    """Whether a source is a TM alone: DICOM's names of DT end in DateTime."""
    return "+" not in source and not source.endswith("DateTime")
