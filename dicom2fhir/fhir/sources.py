"""Where a profile's values come from: attributes of a node, of what it lies in, or of what it holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from dicom2fhir.fhir.dialects import codeable_concept
from dicom2fhir.fhir.meanings import modality_of
from dicom2fhir.fhir.profile import First, Group, Made, Part, Refer, Value
from dicom2fhir.fhir.scope import Context, Scope
from dicom2fhir.fhir.values import Concept, concept, date_time, date_time_of_dt, one, several
from dicom2fhir.model import Attrs, Instance, Resource, Series

_UCUM = "http://unitsofmeasure.org"
_YES = {"YES": True, "NO": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the study and what became of it.

    Attributes
    ----------
    study_json, json
        The ImagingStudy, and the part of it that the node became.
    resources
        Those that the profile adds.
    """

    context: Context
    study_json: Resource
    json: Resource
    resources: Mapping[str, Made]
    series: Series | None = None
    series_json: Resource | None = None
    instance: Instance | None = None

    @property
    def modality(self) -> str:
        """Of the series; empty for the study."""
        if self.series is None:
            return ""
        found = modality_of(self.series.attrs)
        return found.codings[0].code if found.codings else found.text

    # Attributes ------------------------------------------------------------------------------------------------------

    def given(self, keyword: str) -> list[Any]:
        """The values of an attribute: of this node, else of what it lies in, else what most of what it holds has."""
        name, _, inner = keyword.partition("/")
        found: list[Any] = []
        for attrs in self._above():
            if found := several(attrs.get(name)):
                break
        else:
            found = self._common(name)
        if inner:
            found = next((values for item in found if (values := several(item.get(inner)))), [])
        return found

    def _above(self) -> Iterator[Attrs]:
        if self.instance:
            yield self.instance.attrs
        if self.series:
            yield self.series.attrs
        yield self.context.study.attrs
        yield self.context.study.patient

    def _common(self, name: str) -> list[Any]:
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

    def scopes(self) -> Iterator[Scope]:
        """This node and all that it holds, as the rules of the mapping see them."""
        study = self.context.study
        if self.instance:
            yield Scope(self.context, self.instance, self.instance.attrs)
            return
        if not self.series:
            yield Scope(self.context, study, study.attrs)
        for series in (self.series,) if self.series else study.series:
            yield Scope(self.context, series, series.attrs)
            zone = {"TimezoneOffsetFromUTC": series.attrs.get("TimezoneOffsetFromUTC", "")}
            for instance in series.instances:
                yield Scope(self.context, instance, {**zone, **instance.attrs})

    # Values ----------------------------------------------------------------------------------------------------------

    def value(self, wanted: Value) -> list[Any]:
        """What a profile asks for, in FHIR's datatype; several where the attribute has several, none without any."""
        if wanted.modalities and self.modality not in wanted.modalities:
            return []
        if wanted.present:
            return [True] if any(self.given(source) for source in wanted.from_) else []
        for source in wanted.from_:
            if source.startswith("@"):
                found = self._element(source[1:])
            elif wanted.since:
                found = self._seconds(source, wanted)
            elif wanted.type in ("dateTime", "date"):
                found = self._earliest(source)
            else:
                found = self._converted(source, wanted)
            if found:
                return found if wanted.index is None else found[:1]
        return []

    def first(self, wanted: First) -> list[Any]:
        """What the first of several has."""
        return next((found for one_wanted in wanted.first if (found := self.value(one_wanted))), [])

    def knows(self, template: Any) -> bool:
        """Whether the data set says anything of what a template or an extension asks for."""
        match template:
            case Part() if template.part or template.resource:
                fits = not template.modalities or self.modality in template.modalities
                return fits and (any(map(self.knows, template.part)) or any(map(self.knows_of, template.resource)))
            case Value():
                attributes = tuple(source for source in template.from_ if not source.startswith("@"))
                return bool(attributes) and bool(self.value(template.model_copy(update={"from_": attributes})))
            case First():
                return any(map(self.knows, template.first))
            case Refer():
                return any(map(self.knows_of, template.resource))
            case Group():
                return any(map(self.knows, template.values()))
            case list():
                return any(map(self.knows, template))
        return False

    def knows_of(self, name: str) -> bool:
        """Whether the data set says anything of one of the profile's resources."""
        return self.knows(self.resources[name].value)

    def _element(self, path: str) -> list[Any]:
        node: Any = self.study_json
        if path.startswith("series."):
            node, path = self.series_json or {}, path.removeprefix("series.")
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return several(node) if not isinstance(node, dict) else [node]

    def _earliest(self, source: str) -> list[str]:
        """A date with its time, or a DT: the earliest of the node and of what it holds."""
        date_keyword, _, time_keyword = source.partition("+")
        moments = set()
        for scope in self.scopes():
            own = _in(scope.attrs, date_keyword)
            if not own:
                continue
            if time_keyword:
                time = _in(scope.attrs, time_keyword) or one(self.given(time_keyword))
                moments.add(date_time(own, time, scope.zone) if time else None)
            else:
                moments.add(date_time_of_dt(own, scope.zone))
        found = min(filter(None, moments), default=None)
        return [found] if found else []

    def _seconds(self, source: str, wanted: Value) -> list[Any]:
        begin = _clock(one(self.given(wanted.since)))
        ends = [end for scope in self.scopes() if (end := _clock(_in(scope.attrs, source))) is not None]
        if begin is None or not ends or min(ends) < begin:
            return []
        return [_quantity(_number(min(ends) - begin), wanted.unit)]

    def _converted(self, source: str, wanted: Value) -> list[Any]:
        given = self.given(source)
        if wanted.index is not None:
            given = given[wanted.index : wanted.index + 1]
        if wanted.type in ("string", "url", "code"):
            # several values of one attribute as DICOM writes them; an item of a sequence by its meaning
            texts = [text for value in given if (text := self._text(value))]
            if wanted.listed:
                return [f"[{', '.join(texts)}]"] if texts else []
            return ["\\".join(texts)] if texts and not (isinstance(wanted, Part) and wanted.many) else texts
        converted = (self._convert(value, wanted) for value in given)
        return [value for value in converted if value is not None]

    def _text(self, value: Any) -> str:
        if isinstance(value, dict):
            found = concept(value, self.context.schemes)
            return (found.text or found.codings[0].display or found.codings[0].code) if found else ""
        return str(value).strip()

    def _convert(self, value: Any, wanted: Value) -> Any:
        if wanted.type in ("CodeableConcept", "Coding"):
            found = concept(value, self.context.schemes) if isinstance(value, dict) else Concept(text=str(value))
            if not found or wanted.type == "CodeableConcept":
                return codeable_concept(found) if found and (found.codings or found.text) else None
            return codeable_concept(found)["coding"][0] if found.codings else None
        if isinstance(value, dict):
            return None
        if wanted.type == "boolean":
            return _YES.get(value.upper())
        number = decimal(value)
        if number is None:
            return None
        number *= Decimal(str(wanted.factor)) if wanted.factor != 1 else 1
        if wanted.type == "integer":
            whole = int(number.to_integral_value(ROUND_HALF_UP))
            return whole if -(2**31) <= whole < 2**31 else None
        return _quantity(_number(number), wanted.unit) if wanted.type == "Quantity" else _number(number)


def _in(attrs: Attrs, keyword: str) -> str:
    name, _, inner = keyword.partition("/")
    values = several(attrs.get(name))
    return one([one(item.get(inner)) for item in values]) if inner else one(values)


def decimal(text: str) -> Decimal | None:
    """DS, IS or a written FD -> a finite number that JSON can hold."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 300 else None


def _number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() and abs(number) < 2**53 else float(number)


def _quantity(value: int | float, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": _UCUM, "code": unit} if unit else {"value": value}


def _clock(tm: str) -> Decimal | None:
    """TM -> seconds since midnight."""
    digits = tm.replace(":", "")
    if len(digits) < 6 or not digits[:6].isdigit():
        return None
    seconds = decimal(digits[4:])
    if seconds is None or not math.isfinite(seconds):
        return None
    return Decimal(int(digits[:2]) * 3600 + int(digits[2:4]) * 60) + seconds
