"""Decodes the values of a header into an :class:`~dicom2fhir.model.InstanceRecord`."""

from __future__ import annotations

import marshal
import re
import struct
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeGuard

from dicom2fhir.dicom import character_sets
from dicom2fhir.dicom.attributes import LEVELS, SPECIFIC_CHARACTER_SET, UIDS, Attribute, Level
from dicom2fhir.dicom.character_sets import DEFAULT, Encodings
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.data_elements import EXPLICIT_VR_BIG_ENDIAN
from dicom2fhir.dicom.functional_groups import flattened, has_holders, unreadable
from dicom2fhir.dicom.substitutes import CUT, TOO_LONG
from dicom2fhir.errors import Mismatch, MissingUID
from dicom2fhir.model import Attrs, InstanceRecord, Note, Raw, Received, Value, texts_of

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs to which Specific Character Set applies (PS3.5 section 6.1.2.2)."""
_ONE_VALUE_VRS = frozenset({"LT", "ST", "UR", "UT"})
"""VRs in which a backslash is an ordinary character (PS3.5 table 6.2-1)."""
_NUMBERS: Mapping[str, str] = {"US": "H", "UL": "I", "FL": "f", "FD": "d"}
"""Binary VRs in the attribute table -> format character of :mod:`struct`."""
_NO_SEQUENCE = "cannot be read as a sequence; left out"
_TOO_LONG = "is longer than max_value_bytes; left out"
_TOO_LONG_DOCUMENT = "is longer than fhir.embed_documents or max_elements allows; left out"
_NOT_TEXT = frozenset({"SQ", "OB", *_NUMBERS})
_USUAL_ENCODINGS = {b"ISO_IR 6": DEFAULT, b"ISO_IR 100": ("latin_1",), b"ISO_IR 192": ("utf_8",)}
"""Most files name no other character set."""
_DECODED_AT_MOST = 1000
"""Of a SOP instance, values of an attribute and items of a sequence."""
_WHOLE = 100_000
"""Of a SOP instance, numbers of attributes that are decoded whole; they take 0.1 s."""
_FLOAT = struct.Struct("f")
_STEPS = 2500
"""Budget of :func:`.character_sets.decode` for the text of one level; a page of Japanese text takes a few hundred."""
_CONTROLS = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0xFFFE, 0xFFFF])
"""Characters that are not allowed in XML and in a FHIR string; TAB, CR and LF stay."""

_LONGEST_UID = 64
_FHIR_ID = re.compile(rf"[A-Za-z0-9\-.]{{1,{_LONGEST_UID}}}")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
"""A UID by PS3.5 section 9.1, and FHIR's ``oid`` without its prefix."""


_REPEATED: Mapping[Level, tuple[int, ...]] = {
    level: (SPECIFIC_CHARACTER_SET.tag, *(a.tag for own in LEVELS[level] for a in (own, *own.instead)))
    for level in ("patient", "study", "series")
}
"""Level -> tags of all elements that it is decoded from; the instances of a series repeat their values."""
_REPLACEABLE: Mapping[Level, tuple[Attribute, ...]] = {
    level: tuple(a for a in attributes if a.instead) for level, attributes in LEVELS.items()
}
_REPLACING: Mapping[Level, frozenset[int]] = {
    level: frozenset(other.tag for a in attributes for other in a.instead) for level, attributes in _REPLACEABLE.items()
}
_Decoded = tuple[Attrs, tuple[Note, ...]]
_CACHE_BYTES = 256 * 1024
"""Undecoded values; those of one series take about 1 kB."""
_MARSHAL_VERSION = 2
"""The last version in which equal values give equal bytes; later ones mark objects that are referenced twice."""


class _Decoder:
    """Decodes the values of one data set and notes what could not be decoded.

    Parameters
    ----------
    most
        Maximum number of values of an attribute and of items of a sequence; the rest is left out with a note.
    """

    def __init__(self, big_endian: bool, most: int = _DECODED_AT_MOST) -> None:
        self.notes: list[Note] = []
        self.most = most
        self.whole_left = _WHOLE
        self.order = ">" if big_endian else "<"
        self.steps_left = _STEPS

    def encodings(self, raw: Raw, inherited: Encodings) -> Encodings:
        """Python codecs for Specific Character Set; items inherit them (PS3.5 section 7.5.3)."""
        value = raw.get(SPECIFIC_CHARACTER_SET.tag)
        if not isinstance(value, bytes):
            if value:
                self.items(value, SPECIFIC_CHARACTER_SET, inherited)  # adds a note
            return inherited
        usual = _USUAL_ENCODINGS.get(value.rstrip(b"\0 "))
        if usual:
            return usual
        names = self.text(value, SPECIFIC_CHARACTER_SET, DEFAULT)
        if not names:
            return inherited
        found, problem = character_sets.encodings([names] if isinstance(names, str) else names)
        if problem:
            self.warn(SPECIFIC_CHARACTER_SET, problem)
        return found

    def warn(self, attribute: Attribute, text: str) -> None:
        """Add a warning about a value that was left out or changed."""
        self.notes.append(Note("warning", attribute.noted_as or attribute.keyword, text))

    def bounded(self, number: int, what: str, attribute: Attribute) -> int:
        """How many of ``number`` values or items are decoded; adds a note if not all are."""
        if number > self.most:
            self.warn(attribute, f"{what} after the first {self.most} left out")
        return min(number, self.most)

    def level(self, level: Level, raw: Raw, encodings: Encodings) -> dict[str, Value]:
        """The attributes of a level; one without a value is replaced by its first ``instead`` attribute with one."""
        self.steps_left = _STEPS  # per level, because the decoded level is reused for other instances
        result = self.attrs(raw, LEVELS[level], encodings)
        if raw.keys().isdisjoint(_REPLACING[level]):
            return result
        for attribute in _REPLACEABLE[level]:
            if attribute.keyword not in result and (value := self.instead(raw, attribute, encodings)):
                result[attribute.keyword] = value
        return result

    def attrs(self, raw: Raw, attributes: Iterable[Attribute], encodings: Encodings) -> dict[str, Value]:
        """Keyword -> decoded value, without the empty ones."""
        result: dict[str, Value] = {}
        for attribute in attributes:
            value = raw.get(attribute.tag)
            if not value:
                continue
            if attribute.vr not in _NOT_TEXT and isinstance(value, bytes) and value.isascii():
                # most values, and most of the time of decoding
                plain = value.decode("ascii").rstrip("\0 ").lstrip(" ")
                if plain.isprintable() and "\\" not in plain:
                    if plain:
                        result[attribute.keyword] = plain
                    continue
            decoded = (
                self.text(value, attribute, encodings)
                if isinstance(value, bytes)
                else self.items(value, attribute, encodings)
            )
            if decoded:
                result[attribute.keyword] = decoded
        return result

    def instead(self, raw: Raw, attribute: Attribute, encodings: Encodings) -> Value | None:
        """The value of the first ``instead`` attribute that has one, in the unit of ``attribute``; None without one."""
        for other in attribute.instead:
            if other.tag in raw and (value := self.attrs(raw, (other,), encodings).get(other.keyword)):
                return _scaled(value, other.factor) if other.factor else value
        return None

    def items(self, raws: Sequence[Raw], attribute: Attribute, encodings: Encodings) -> list[Attrs]:
        """The items of a sequence that have any wanted attribute."""
        if attribute.vr != "SQ":
            too_long = _TOO_LONG_DOCUMENT if attribute.vr == "OB" else _TOO_LONG
            self.warn(attribute, too_long if raws == TOO_LONG else "is not valid for its VR; left out")
            return []
        if attribute.is_content:
            decoded = self.taken_content(raws, attribute)
        else:
            decoded = raws[: self.bounded(len(raws), "items", attribute)]
        found = (self.attrs(raw, attribute.items, self.encodings(raw, encodings)) for raw in decoded)
        return [item for item in found if item]

    def taken_content(self, raws: Sequence[Raw], attribute: Attribute) -> Sequence[Raw]:
        """The items of content that the reader took; adds a note if these are not all."""
        if not raws or raws[-1] is not CUT:
            return raws
        self.warn(attribute, "has more items than max_elements allows to take; the rest is left out")
        return raws[:-1]

    def text(self, value: bytes, attribute: Attribute, encodings: Encodings) -> str | list[str]:
        """One value or several, without padding; empty values before the last are kept, because positions matter."""
        if attribute.vr == "SQ":
            self.warn(attribute, _NO_SEQUENCE)
            return ""
        if attribute.vr == "OB":
            return b64encode(value).decode("ascii")
        if attribute.vr in _NUMBERS:
            return self.numbers(value, attribute)
        if value.isascii() and b"\x1b" not in value:
            # the same characters in all character sets of DICOM, except for a few of ISO 646 that are not used
            text = value.decode("ascii")
        elif attribute.vr in _TEXT_VRS:
            text, as_named, self.steps_left = character_sets.decode(value, encodings, self.steps_left)
            if not as_named:
                self.warn(attribute, "cannot be decoded with Specific Character Set")
        else:
            text = value.decode("latin-1")
        if attribute.vr in _ONE_VALUE_VRS or "\\" not in text:
            return self.cleaned(text, attribute)
        written = text.split("\\", self.most)
        parts = [self.cleaned(part, attribute) for part in written[: self.bounded(len(written), "values", attribute)]]
        while parts and not parts[-1]:
            parts.pop()
        return self.several(parts, attribute)

    def several(self, parts: list[str], attribute: Attribute) -> str | list[str]:
        """Values within the multiplicity of PS3.6: if one is allowed, equal values are merged and the first is used."""
        if attribute.many:
            return parts[0] if len(parts) == 1 else parts
        distinct = list(dict.fromkeys(filter(None, parts)))
        if len(distinct) > 1:
            if attribute.vr == "UI":
                return distinct  # do not guess which object is meant
            self.warn(attribute, "has several values; the first is used")
        return distinct[0] if distinct else ""

    def cleaned(self, value: str, attribute: Attribute) -> str:
        """A value without padding and control characters, cut at the first NUL: some writers append memory after it."""
        if value.isprintable():
            return value.strip()
        value, _, rest = value.partition("\0")
        if rest.strip("\0 "):
            self.warn(attribute, "contains a NUL; the rest is left out")
        return value.translate(_CONTROLS).strip()

    def numbers(self, value: bytes, attribute: Attribute) -> str | list[str]:
        """Binary numbers as text, like IS and DS."""
        kind = _NUMBERS[attribute.vr]
        size = struct.calcsize(kind)
        if len(value) % size:
            self.warn(attribute, "has an invalid length for its VR; left out")
            return ""
        if attribute.is_whole:
            if len(value) // size > min(self.most, self.whole_left):
                self.warn(attribute, "has more values than are decoded; left out")
                return ""
            self.whole_left -= len(value) // size
        count = self.bounded(len(value) // size, "values", attribute)
        numbers = struct.unpack_from(f"{self.order}{count}{kind}", value)
        parts = [*map(_single if kind == "f" else str, numbers)]
        return "\\".join(parts) if attribute.is_whole else self.several(parts, attribute)


def _single(number: float) -> str:
    """A short text of a number of single precision, which is the same number."""
    text = f"{number:.7g}"
    return text if _FLOAT.unpack(_FLOAT.pack(float(text)))[0] == number else f"{number:.9g}"


def _scaled(value: Value, factor: str) -> str | list[str]:
    """Numbers in another unit; empty text for a value that is not a number."""
    scaled = [_product(text, factor) for text in texts_of(value)]
    return scaled[0] if isinstance(value, str) else scaled


def _product(text: str, factor: str) -> str:
    try:
        return str((Decimal(text) * Decimal(factor)).normalize())
    except ArithmeticError:
        return ""


class DecodedCache:
    """Decoded patient, study and series levels of earlier instances, to be shared by records.

    For one thread. It is emptied when it is full.
    """

    def __init__(self) -> None:
        self._all: dict[bytes, _Decoded] = {}
        self._last: dict[Level, tuple[tuple[object, ...], _Decoded]] = {}
        self._room = _CACHE_BYTES

    def attrs(self, level: Level, raw: Raw, decoder: _Decoder, encodings: Encodings) -> Attrs:
        """The decoded attributes of a level, from the cache if possible."""
        values = (decoder.order, *map(raw.get, _REPEATED[level]))
        last = self._last.get(level)
        # values that the header cache supplied are the same objects as in the last instance: comparing them is fast
        if last is not None and last[0] == values:
            attrs, notes = last[1]
            decoder.notes += notes
            return attrs
        key = marshal.dumps((level, values), _MARSHAL_VERSION)
        found = self._all.get(key)
        if found is None:
            before = len(decoder.notes)
            found = decoder.level(level, raw, encodings), tuple(decoder.notes[before:])
            self._keep(key, found)
        else:
            decoder.notes += found[1]
        if len(key) <= _CACHE_BYTES:
            self._last[level] = values, found
        return found[0]

    def _keep(self, key: bytes, decoded: _Decoded) -> None:
        if len(key) > self._room:
            self._all.clear()
            self._room = _CACHE_BYTES
        if len(key) <= self._room:
            self._all[key] = decoded
            self._room -= len(key)


def decode_instance(received: Received, cache: DecodedCache | None = None) -> InstanceRecord:
    """Decode the values of a SOP instance that are stored.

    Parameters
    ----------
    cache
        Of the instances that were decoded before this one.

    Raises
    ------
    MissingUID
        The Study Instance, Series Instance, SOP Instance or SOP Class UID is missing or cannot be used in FHIR.
    Mismatch
        The C-STORE command names another SOP class or instance (PS3.4 section B.2.3, A900).
    """
    raw = received.taken
    cache = cache or DecodedCache()
    decoder = _Decoder(received.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN)
    notes = decoder.notes
    notes += received.notes
    if has_holders(raw):
        notes += (Note("warning", keyword, _NO_SEQUENCE) for keyword in unreadable(raw))
        raw = flattened(raw)
    encodings = decoder.encodings(raw, DEFAULT)
    patient = cache.attrs("patient", raw, decoder, encodings)
    study = cache.attrs("study", raw, decoder, encodings)
    series = cache.attrs("series", raw, decoder, encodings)
    instance = decoder.level("instance", raw, encodings)
    uids = decoder.attrs(raw, UIDS, encodings)
    _settle(uids, "SOPInstanceUID", received.sop_instance, received)
    _settle(instance, "SOPClassUID", received.sop_class, received)
    study_uid, series_uid, sop_uid = (
        _checked_uid(where, uids.get(where), notes)
        for where in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    sop_class = _checked_uid("SOPClassUID", instance.get("SOPClassUID"), notes)
    instance |= decoder.attrs(raw, CONTENT.get(sop_class, ()), encodings)
    return InstanceRecord(
        study_uid=study_uid,
        series_uid=series_uid,
        sop_uid=sop_uid,
        patient=patient,
        study=study,
        series=series,
        instance=instance,
        notes=tuple(dict.fromkeys(notes)),
    )


def decode_attributes(received: Received, attributes: Iterable[Attribute]) -> dict[str, Value]:
    """Decode some attributes of a data set: all of their values, and all items of sequences.

    A value that cannot be decoded is left out.
    """
    decoder = _Decoder(received.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, most=sys.maxsize)
    return decoder.attrs(received.taken, attributes, decoder.encodings(received.taken, DEFAULT))


def _settle(attrs: dict[str, Value], keyword: str, claimed: str, received: Received) -> None:
    """Fill in a UID that the data set lacks, from the command or from the file meta information."""
    found = attrs.get(keyword)
    if found == claimed:
        return
    claimed = claimed.partition("\0")[0].strip()
    if not found:
        if claimed:
            attrs[keyword] = claimed
    elif claimed and found != claimed and received.origin.kind == "dimse":
        raise Mismatch(f"{keyword} of the command and of the data set differ.")


def is_usable_uid(value: Value) -> TypeGuard[str]:
    """Whether a UID can be used in FHIR, though it may break the rules for UIDs (PS3.5 section 9.1)."""
    return isinstance(value, str) and _FHIR_ID.fullmatch(value) is not None


def _checked_uid(keyword: str, value: Value | None, notes: list[Note]) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST_UID and _OID.fullmatch(value):
        return value
    if not value:
        raise MissingUID(f"{keyword} is missing.")
    if not is_usable_uid(value):
        raise MissingUID(f"{keyword} is not a valid UID: up to 64 digits and dots.")
    notes.append(Note("warning", keyword, "breaks the rules for UIDs (PS3.5 section 9.1); used as it is"))
    return value
