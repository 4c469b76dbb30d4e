"""Convert DICOM values to FHIR datatypes: dates, numbers, names, codes, identifiers.

Every function takes text from :mod:`dicom2fhir.dicom.decode` (decoded, no padding) and returns None if the text has no
valid equivalent in FHIR; the caller notes what was dropped. The patterns are those of the datatypes pages of each FHIR
version; ``spec`` means PS3.5 section 6.2 for the value representation named.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from unicodedata import east_asian_width
from zoneinfo import ZoneInfo

from dicom2fhir.fhir.version.code_tables import identifier_types, snomed_ct
from dicom2fhir.model import Attrs, Resource, Value, items_of, texts_of

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED_CT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
_SNOMED_RT = "http://snomed.info/srt"
DICOM_UID = "urn:dicom:uid"
URI = "urn:ietf:rfc:3986"

_NAMESPACE = uuid.UUID("6f3f7b2e-8d0e-5c55-9a42-0d1c0f2b6a11")
"""Namespace of every deterministic id (RFC 9562 section 5.5). Changing it would duplicate every study."""

CODING_SCHEMES: Mapping[str, str] = {
    "ACR": "urn:oid:2.16.840.1.113883.6.76",
    "C4": "http://www.ama-assn.org/go/cpt",
    "CPT4": "http://www.ama-assn.org/go/cpt",
    "DCM": DCM,
    "FMA": "http://sig.biostr.washington.edu/projects/fm/AboutFM.html",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10P": "http://www.cms.gov/Medicare/Coding/ICD10",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "IBSI": "https://ibsi.readthedocs.io/en/latest/",
    "ICDO3": "http://terminology.hl7.org/CodeSystem/icd-o-3",
    "LN": LOINC,
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "RADLEX": "http://radlex.org",
    "SCT": SNOMED_CT,
    "SRT": _SNOMED_RT,
    "SNM3": _SNOMED_RT,
    "99SDM": _SNOMED_RT,
    "UCUM": "http://unitsofmeasure.org",
    "UMLS": "http://terminology.hl7.org/CodeSystem/umls",
}
"""Coding Scheme Designator -> FHIR system (PS3.16 section 8, HL7 Terminology)."""

_SCHEME_UIDS: Mapping[str, str] = {
    "1.2.840.10008.2.16.4": "DCM",
    "2.16.840.1.113883.6.1": "LN",
    "2.16.840.1.113883.6.8": "UCUM",
    "2.16.840.1.113883.6.51": "SNM3",
    "2.16.840.1.113883.6.53": "99SDM",
    "2.16.840.1.113883.6.96": "SCT",
    "2.16.840.1.113883.6.256": "RADLEX",
}
"""Coding Scheme UID -> designator (PS3.16 table 8-1), for data sets that use their own designator for one of these."""


@dataclass(frozen=True, slots=True)
class Coding:
    """One code; ``system`` is empty if it is not known."""

    code: str
    system: str = ""
    display: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Concept:
    """Codes with the same meaning, or text if there is no code."""

    codings: tuple[Coding, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class NamingSystems:
    """The systems of identifiers, by their issuers in DICOM.

    Attributes
    ----------
    patient_id, accession_number, admission_id, specimen
        Issuer (Issuer of Patient ID, or the Local Namespace Entity ID or Universal Entity ID of an issuer sequence) ->
        URI. The key ``""`` is for identifiers without an issuer.
    study_id
        System of Study ID; empty: none.
    organization
        Institution Name (0008,0080) -> identifier of the organization, as ``system|value``. The key ``""`` is for all
        others.
    coding_schemes
        Coding Scheme Designator -> URI; has priority over :data:`CODING_SCHEMES`.
    """

    patient_id: Mapping[str, str] = field(default_factory=dict)
    accession_number: Mapping[str, str] = field(default_factory=dict)
    admission_id: Mapping[str, str] = field(default_factory=dict)
    specimen: Mapping[str, str] = field(default_factory=dict)
    study_id: str = ""
    organization: Mapping[str, str] = field(default_factory=dict)
    coding_schemes: Mapping[str, str] = field(default_factory=dict)

    def of_organization(self, name: str) -> str:
        """The configured identifier of the institution with a name, as ``system|value``; empty if there is none."""
        return self.organization.get(name) or self.organization.get("", "")

    def of_coding_scheme(self, designator: str, uids: Mapping[str, str]) -> str:
        """The system of a Coding Scheme Designator; ``uids``: designator -> Coding Scheme UID in the data set."""
        uid = uids.get(designator, "") if designator else ""
        standard = CODING_SCHEMES.get(designator) or CODING_SCHEMES.get(_SCHEME_UIDS.get(uid, ""))
        return self.coding_schemes.get(designator) or standard or (oid(uid) if uid else "")


Schemes = Callable[[str], str]
"""Coding Scheme Designator -> system, ``""`` if it is not known."""


def deterministic_id(*parts: str) -> str:
    """A resource id (UUIDv5): the same parts always give the same id."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def oid(uid: str) -> str:
    """A UID in the form of FHIR's ``oid`` and ``uri``."""
    return f"urn:oid:{uid}"


_DA = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)", re.ASCII)


def fhir_date(da: str) -> str | None:
    """DA (``YYYYMMDD``, or ACR-NEMA's ``YYYY.MM.DD``) -> ``date``; None if there is no such day."""
    match = _DA.fullmatch(da)
    if not match:
        return None
    try:
        return date(*(int(part) for part in match.groups() if part)).isoformat()
    except ValueError:
        return None


_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


def offset(text: str) -> timezone | None:
    """(0008,0201) Timezone Offset From UTC, or the suffix of a DT: between -1200 and +1400, also written ``+HH:MM``."""
    match = _OFFSET.fullmatch(text)
    if not match or int(match[3]) > 59:
        return None
    minutes = (int(match[2]) * 60 + int(match[3])) * (-1 if match[1] == "-" else 1)
    return timezone(timedelta(minutes=minutes)) if -12 * 60 <= minutes <= 14 * 60 else None


_TM = re.compile(r"(\d\d)(?:[: ]?(\d\d)(?:[: ]?(\d\d)(?:[.,](?:(\d*)|-\d+)|(\d+))?|[.,])?)?", re.ASCII)
"""A TM, an ACR-NEMA time with colons, and other forms that occur: spaces, a comma, a dot without a fraction, a fraction
without a dot, a negative fraction."""
_FRACTION_DIGITS = 6
"""Of a TM; further digits are cut."""


def date_time(da: str, tm: str, zone: tzinfo | None) -> str | None:
    """DA and TM -> ``dateTime``.

    Only the date is returned without a zone, without a time, or with a time without minutes: FHIR requires an offset
    with every time, and a guessed one could be wrong. Second 60 becomes 59, which the pattern of every FHIR version
    allows.
    """
    day = fhir_date(da)
    if day is None:
        return None
    match = _TM.fullmatch(tm)
    if zone is None or not match or match[2] is None:
        return day
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return day
    second = min(second, 59)
    moment = datetime.fromisoformat(day).replace(hour=hour, minute=minute, second=second, tzinfo=zone)
    fraction = (match[4] or match[5] or "")[:_FRACTION_DIGITS].rstrip("0")
    at = moment.utcoffset() or timedelta()
    sign, minutes = ("-", -at) if at < timedelta() else ("+", at)
    hours, rest = divmod(int(minutes.total_seconds()) // 60, 60)
    return f"{day}T{hour:02}:{minute:02}:{second:02}{'.' + fraction if fraction else ''}{sign}{hours:02}:{rest:02}"


_DT = re.compile(r"(\d{4})(\d\d)?(\d\d)?([^+-]*)([+-]\d\d:?\d\d)?", re.ASCII)


def date_time_of_dt(dt: str, zone: tzinfo | None) -> str | None:
    """DT -> ``dateTime``; its own offset has priority over ``zone``, and it may end after the year or the month.

    If the part after the day is not a valid time, only the date is returned.
    """
    match = _DT.fullmatch(dt)
    if not match:
        return None
    year, month, day, rest, own = match.groups()
    tm = rest.strip()
    if day is None:
        if year == "0000" or (month and not 1 <= int(month) <= 12) or tm:
            return None
        return f"{year}-{month}" if month else year
    return date_time(year + month + day, tm, (offset(own) if own else None) or zone)


def zone_of(timezone_offset: str, configured: ZoneInfo | None) -> tzinfo | None:
    """The time zone of a data set: its own offset, else the configured zone (whose offset depends on the date)."""
    return offset(timezone_offset) or configured


def decimal(text: str) -> Decimal | None:
    """DS, IS or FD as text -> a finite number that JSON can represent."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 300 else None


def unsigned_int(text: str) -> int | None:
    """IS -> ``unsignedInt`` (0 to 2**31-1); ``+3`` and ``3.0`` occur and are accepted."""
    match = re.fullmatch(r"\+?(\d{1,12})(?:\.0*)?", text, re.ASCII)
    value = int(match[1]) if match else -1
    return value if 0 <= value < 2**31 else None


_SEX = {"M": "male", "F": "female", "O": "other"}


def gender(sex: str) -> str | None:
    """(0010,0040) Patient's Sex -> AdministrativeGender."""
    return _SEX.get(sex.upper())


_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_GROUPS = ("ABC", "IDE", "SYL")
"""Alphabetic, ideographic, phonetic (PS3.5 section 6.2.1)."""


def human_names(pn: str) -> list[Resource]:
    """PN -> one HumanName for each component group that is not empty; if there are several, each has its
    representation."""
    groups = pn.split("=")[:3]
    names = [(name, kind) for group, kind in zip(groups, _GROUPS, strict=False) if (name := _human_name(group, kind))]
    if len(names) > 1 or any(kind != "ABC" for _, kind in names):
        for name, kind in names:
            name["extension"] = [{"url": _REPRESENTATION, "valueCode": kind}]
    return [name if "extension" not in name else {"extension": name.pop("extension"), **name} for name, _ in names]


def _human_name(group: str, kind: str) -> Resource | None:
    """One component group: ``family^given^middle^prefix^suffix``."""
    components = [" ".join(component.split()) for component in group.split("^")]
    family, given, middle, prefix, suffix = (components + [""] * 5)[:5]
    in_order = (family, given, middle) if kind != "ABC" or _is_east_asian(family + given) else (given, middle, family)
    text = " ".join(part for part in (prefix, *in_order, suffix) if part)
    if not text:
        return None
    name: Resource = {"text": text}
    if family:
        name["family"] = family
    if given or middle:
        name["given"] = [part for part in (given, middle) if part]
    if prefix:
        name["prefix"] = [prefix]
    if suffix:
        name["suffix"] = [suffix]
    return name


def _is_east_asian(name: str) -> bool:
    """Whether a name has Han, Kana or Hangul, which also occur in the first group: its family name comes first."""
    return any(east_asian_width(character) in "WFH" for character in name)


_URI = re.compile("[A-Za-z][A-Za-z0-9+.-]*:")


def coding(item: Attrs, schemes: Schemes) -> Coding | None:
    """A Code Sequence item (PS3.3 section 8.8) -> Coding; None if it has no code."""
    urn = item.get("URNCodeValue")
    value = item.get("CodeValue") or item.get("LongCodeValue") or urn
    meaning = one(item.get("CodeMeaning"))
    if not value:
        return None
    designator = one(item.get("CodingSchemeDesignator"))
    code = " ".join(one(value).split())
    system = schemes(designator) or (URI if value is urn and _URI.match(code) else "")
    version = one(item.get("CodingSchemeVersion"))
    if system in (SNOMED_CT, _SNOMED_RT):
        return _snomed(Coding(code, system, meaning, version))
    return Coding(code, system, meaning, version)


def _snomed(given: Coding) -> Coding:
    """A code of SNOMED CT; codes of SNOMED RT style, which DICOM has replaced (PS3.16 Annex O), are converted.

    The form of the code decides, not the designator: codes of SNOMED CT consist of digits only.
    """
    if given.code.isascii() and given.code.isdigit():
        return replace(given, system=SNOMED_CT)
    concept_id = snomed_ct().get(given.code.upper())
    if concept_id:
        return Coding(concept_id, SNOMED_CT, given.display)  # the version was that of the other coding scheme
    return replace(given, system=_SNOMED_RT)


def concept(item: Attrs, schemes: Schemes) -> Concept | None:
    """A Code Sequence item -> its code, or only its Code Meaning if it has no code."""
    found = coding(item, schemes)
    if found:
        return Concept((found,))
    meaning = one(item.get("CodeMeaning"))
    return Concept(text=meaning) if meaning else None


def one(value: Iterable[str | Attrs] | None) -> str:
    """The first value that is not empty; ``""`` if there is none."""
    if isinstance(value, str):
        return value
    return next(filter(None, texts_of(value)), "") if value else ""


def first_item(attrs: Attrs, keyword: str) -> Attrs | None:
    """The first item of a sequence."""
    return next(iter(items_of(attrs.get(keyword))), None)


def several(value: Value | None) -> list[str | Attrs]:
    """The values of an attribute, or the items of a sequence."""
    if not value:
        return []
    return [value] if isinstance(value, str) else [*value]


_UNIVERSAL = {"ISO": "urn:oid:{}", "UUID": "urn:uuid:{}", "URI": "{}", "DNS": "http://{}"}
"""Universal Entity ID Type (0040,0033) -> URI."""
_ABSOLUTE_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*:\S+")


def issuer_system(table: Mapping[str, str], local: str, qualifiers: Attrs | None = None) -> tuple[str, str]:
    """The system of an identifier, and the name of its issuer.

    The table is searched by the local name, then by the universal id; then the universal id itself is used. For an
    issuer without a system, one is made from its name: two issuers never share a system.
    """
    universal = one((qualifiers or {}).get("UniversalEntityID"))
    local = local or one((qualifiers or {}).get("LocalNamespaceEntityID"))
    for name in (local, universal):
        if name and name in table:
            return table[name], local or universal
    if universal:
        pattern = _UNIVERSAL.get(one((qualifiers or {}).get("UniversalEntityIDType")).upper(), "")
        system = pattern.format(universal)
        if _ABSOLUTE_URI.fullmatch(system):
            return system, local or universal
    if local or universal:
        return f"urn:uuid:{deterministic_id('issuer', local or universal)}", local or universal
    return table.get("", ""), ""


def identifier(value: str, system: str, type_code: str = "", issuer: str = "", use: str = "") -> Resource:
    """An Identifier; a ``type_code`` that is not in HL7 v2 table 0203 becomes ``type.text``."""
    result: Resource = {}
    if use:
        result["use"] = use
    if type_code in identifier_types():
        result["type"] = {"coding": [{"system": V2_0203, "code": type_code}]}
    elif type_code:
        result["type"] = {"text": type_code}
    if system:
        result["system"] = system
    result["value"] = value
    if issuer:
        result["assigner"] = {"display": issuer}
    return result


V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
"""Identifier types."""
V3_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
CONNECTION_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
ENDPOINT_PAYLOAD_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
