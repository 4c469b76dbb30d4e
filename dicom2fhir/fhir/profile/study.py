"""The ImagingStudy while a profile is applied to it: its levels, its identifiers and orders, its start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dicom2fhir.fhir.mapping.date_times import earliest
from dicom2fhir.fhir.profile.fill import put
from dicom2fhir.fhir.profile.model import ProfileCode
from dicom2fhir.fhir.profile.resource import ResourceInProfile
from dicom2fhir.fhir.profile.values import ProfiledNode
from dicom2fhir.fhir.version.datatypes import DICOM_UID
from dicom2fhir.model import Resource

LEVELS: Mapping[str, tuple[str, str]] = {
    "instance": ("series.instance.", ""),
    "series": ("series.", "instance"),
    "study": ("", "series"),
}
"""Level -> the beginning of its paths, and the element of the level below."""


class StudyInProfile(ResourceInProfile):
    """The ImagingStudy."""

    def level(self, level: str) -> Iterator[ProfiledNode]:
        """Each node of a level with its JSON; instances only where the mapping listed them."""
        profile = self.profile
        if level == "study":
            yield ProfiledNode(self.context, self.root, self.root, profile)
            return
        for series, json in zip(self.context.study.series, self.root.get("series", ()), strict=True):
            if level == "series":
                yield ProfiledNode(self.context, self.root, json, profile, series, json)
            else:
                for instance, inner in zip(series.instances, json.get("instance", ()), strict=False):
                    yield ProfiledNode(self.context, self.root, inner, profile, series, json, instance)

    def nodes_at(self, path: str) -> Iterator[tuple[ProfiledNode, str]]:
        """The nodes that have the element at a path, and its path in them."""
        level, prefix = next((level, prefix) for level, (prefix, _) in LEVELS.items() if path.startswith(prefix))
        yield from ((node, path.removeprefix(prefix)) for node in self.level(level))

    def write_elements(self) -> None:
        """Write the values of its elements."""
        for rule in filter(self.applies, self.profile.element):
            for node, path in self.nodes_at(rule.path):
                self.write(rule, node, path)

    def limit_elements(self) -> None:
        """Apply what the profile allows and requires of its elements."""
        for rule in filter(self.applies, self.profile.element):
            for node, path in self.nodes_at(rule.path):
                self.limit(rule, node, path)

    def extend_levels(self) -> None:
        """Write its extensions and those of its series and instances."""
        for extension in self.profile.extension:
            for node in self.level(extension.at):
                self.extend(extension, node)

    def identifiers(self) -> None:
        """Keep those that the profile allows, and add to their types."""
        rules = self.profile.identifiers
        kept = []
        for identifier in self.root.get("identifier", []):
            kind = _kind(identifier)
            if kind not in rules.allowed:
                self.context.note("info", "ImagingStudy.identifier", f"{kind}: not part of profile {self.profile.name}")
                continue
            if coding := rules.coding.get(kind):
                _add_type(identifier, coding)
            kept.append(identifier)
        if kept:
            self.root["identifier"] = kept
        if rules.one_accession:
            self._one_accession([identifier for identifier in kept if _kind(identifier) == "accession"])

    def _one_accession(self, accessions: list[Resource]) -> None:
        where = "ImagingStudy.identifier"
        if not accessions:
            self.unmet.setdefault(f"{where} (Accession Number)")
        for other in accessions[1:]:
            other["type"] = {"text": "Accession Number"}
            why = f"profile {self.profile.name} allows one accession number; further ones have no code in type"
            self.context.note("warning", where, why)

    def orders(self) -> None:
        """Keep the type of one order; see :class:`~dicom2fhir.fhir.profile.model.OrderRules`."""
        if self.profile.orders is None:
            return
        orders = self.root.get("basedOn", [])
        typed = [order for order in orders if order["identifier"].get("system")][:1]
        for order in typed:
            for coding in self.profile.orders.coding:
                _add_type(order["identifier"], coding)
        others = [order for order in orders if order not in typed]
        if self.profile.orders.others == "untyped":
            for order in others:
                order["identifier"].pop("type", None)
        elif others:
            self._keep_orders(typed, others)

    def _keep_orders(self, kept: list[Resource], others: list[Resource]) -> None:
        put(self.root, "basedOn", kept)
        said = f"profile {self.profile.name} allows one order, with a system"
        if self.profile.orders and self.profile.orders.others == "text":
            texts = [{"text": f"Accession Number: {order['identifier']['value']}"} for order in others]
            self.root["note"] = [*self.root.get("note", []), *texts]
            said += "; the accession numbers of the others are written as text in note"
        self.context.note("warning", "ImagingStudy.basedOn", said)

    def starts(self) -> None:
        """Start the study with its first series: the profile may have changed either."""
        placeholder = self.profile.sentinels.get("dateTime")
        series = (series.get("started") for series in self.root.get("series", []))
        if started := self.root.get("started"):
            self.root["started"] = earliest((started, *(one for one in series if one != placeholder)))


def _kind(identifier: Resource) -> str:
    if identifier.get("system") == DICOM_UID:
        return "uid"
    codings = identifier.get("type", {}).get("coding", [])
    return "accession" if any(coding.get("code") == "ACSN" for coding in codings) else "study-id"


def _add_type(identifier: Resource, coding: ProfileCode) -> None:
    type_ = identifier.setdefault("type", {})
    type_["coding"] = [*type_.get("coding", []), coding.as_json()]
