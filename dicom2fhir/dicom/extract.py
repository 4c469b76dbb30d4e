"""From a header's values to an :class:`~dicom2fhir.model.InstanceRecord`; values are decoded here.

pydicom knows the character sets. Its own ``decode_bytes`` reports failures by :mod:`warnings`, which threads cannot
 catch safely; so its tables and codecs are used here and its loop is not.
"""

from __future__ import annotations

import codecs
import marshal
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dicom2fhir.dicom.attributes import LEVELS, SPECIFIC_CHARACTER_SET, UIDS, Attribute, Level
from dicom2fhir.dicom.header import EXPLICIT_VR_BIG_ENDIAN
from dicom2fhir.errors import Mismatch, MissingUID
from dicom2fhir.model import Attrs, InstanceRecord, Note, Raw, Received

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Those whose encoding Specific Character Set governs (PS3.5 section 6.1.2.2)."""
_ONE_VALUE_VRS = frozenset({"LT", "ST", "UR", "UT"})
"""Those in which a backslash is an ordinary character (PS3.5 table 6.2-1)."""
_NUMBERS: Mapping[str, str] = {"US": "H", "UL": "I", "FD": "d"}
"""The binary VRs among those taken, as :mod:`struct` names them."""
_NOT_TEXT = frozenset({"SQ", *_NUMBERS})
_USUAL_ENCODINGS = {b"ISO_IR 6": ("ascii",), b"ISO_IR 100": ("latin_1",), b"ISO_IR 192": ("utf_8",)}
"""Most files name no other character set; loading pydicom for its table takes as long as reading a thousand files."""
_STAND_ALONE = frozenset({"ISO_IR 192", "GBK", "GB18030"})
"""Multi-byte character sets without code extensions, which must be alone (PS3.3 C.12.1.1.2)."""
_DEFAULT_ENCODING = "ascii"
"""Of ISO_IR 6, alone or by default; pydicom says Latin-1, which would never fail and so hide UTF-8."""
_DECODED_AT_MOST = 1000
"""Values of one attribute and items of one sequence; the rest is left out with a note."""
_CONTROLS = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
"""What neither XML nor FHIR's string may hold; TAB, CR and LF stay."""

_LONGEST_UID = 64
_FHIR_ID = re.compile(rf"[A-Za-z0-9\-.]{{1,{_LONGEST_UID}}}")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
"""A UID by PS3.5 section 9.1, and FHIR's ``oid`` without its prefix."""


_REPEATED: Mapping[Level, tuple[int, ...]] = {
    level: (SPECIFIC_CHARACTER_SET.tag, *(a.tag for a in LEVELS[level])) for level in ("patient", "study", "series")
}
"""What the instances of a series have in common: the tags of all that it is decoded from."""
_Decoded = tuple[Attrs, tuple[Note, ...]]
_KNOWN_BYTES = 256 * 1024
"""Undecoded values; those of one series take about 1 kB."""
_MARSHAL_VERSION = 2
"""The last in which equal values always give equal bytes; later ones mark objects that are referred to twice."""


class _Decoder:
    """Decodes the values of one data set and notes what could not be decoded."""

    def __init__(self, big_endian: bool) -> None:
        self.notes: list[Note] = []
        self.order = ">" if big_endian else "<"

    def encodings(self, raw: Raw, inherited: Sequence[str]) -> Sequence[str]:
        """Python encodings by Specific Character Set (PS3.3 C.12.1.1.2); items inherit them (PS3.5 section 7.5.3)."""
        value = raw.get(SPECIFIC_CHARACTER_SET.tag)
        if not isinstance(value, bytes):
            return inherited
        usual = _USUAL_ENCODINGS.get(value.strip(b"\0 "))
        if usual:
            return usual
        names = [n.strip(" \0") for n in value.decode("ascii", "replace").split("\\")]
        if not any(names):
            return inherited
        if names[0] in _STAND_ALONE:
            names = names[:1]
        from pydicom.charset import python_encoding

        found = [self.encoding(name, python_encoding) for name in names]
        return [_DEFAULT_ENCODING] if found == [python_encoding["ISO_IR 6"]] else found

    def encoding(self, name: str, table: Mapping[str, str]) -> str:
        """The Python encoding of one Defined Term, forgiving its separators ("ISO-IR 100", "ISO_IR_100", "UTF-8")."""
        known = table.get(name) or table.get(
            re.sub(r"^ISO[ _-]IR[ _-]?", "ISO_IR ", re.sub(r"^ISO[ _-]?2022[ _-]IR[ _-]?", "ISO 2022 IR ", name))
        )
        if known:
            return known
        self.notes.append(Note("warning", "SpecificCharacterSet", "names an unknown character set"))
        try:
            return codecs.lookup(name).name
        except LookupError:
            return _DEFAULT_ENCODING

    def attrs(self, raw: Raw, attributes: Iterable[Attribute], encodings: Sequence[str]) -> dict[str, Any]:
        """Keyword -> decoded value, without the empty ones."""
        result: dict[str, Any] = {}
        for attribute in attributes:
            value = raw.get(attribute.tag)
            if not value:
                continue
            if attribute.vr not in _NOT_TEXT and isinstance(value, bytes) and value.isascii():
                # most values, and most of the time of decoding
                plain = value.decode("ascii").strip("\0 ")
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

    def items(self, raws: Sequence[Raw], attribute: Attribute, encodings: Sequence[str]) -> list[Attrs]:
        """The items of a sequence that hold anything wanted."""
        if len(raws) > _DECODED_AT_MOST:
            self.notes.append(Note("warning", attribute.keyword, f"items after the first {_DECODED_AT_MOST} left out"))
        found = (self.attrs(raw, attribute.items, self.encodings(raw, encodings)) for raw in raws[:_DECODED_AT_MOST])
        return [item for item in found if item]

    def text(self, value: bytes, attribute: Attribute, encodings: Sequence[str]) -> str | list[str]:
        """One value, or several (empty ones stay among them: positions matter), stripped of padding."""
        if attribute.vr == "SQ":
            self.notes.append(Note("warning", attribute.keyword, "is not a sequence; left out"))
            return ""
        if attribute.vr in _NUMBERS:
            return self.numbers(value, attribute)
        if value.isascii() and b"\x1b" not in value:
            # the same characters in every character set that DICOM knows but for a few of ISO 646 that nobody uses so
            text = value.decode("ascii")
        elif attribute.vr in _TEXT_VRS:
            text = self.decode(value, attribute, encodings)
        else:
            text = value.decode("latin-1")
        if not text.isprintable():
            text = text.translate(_CONTROLS)
        if attribute.vr in _ONE_VALUE_VRS or "\\" not in text:
            return text.strip()
        parts = [part.strip() for part in text.split("\\")[:_DECODED_AT_MOST]]
        while parts and not parts[-1]:
            parts.pop()
        return parts[0] if len(parts) == 1 else parts

    def numbers(self, value: bytes, attribute: Attribute) -> str | list[str]:
        """Binary numbers, written as IS and DS would be."""
        kind = _NUMBERS[attribute.vr]
        size = struct.calcsize(kind)
        if len(value) % size:
            self.notes.append(Note("warning", attribute.keyword, "has a length that its VR cannot have; left out"))
            return ""
        count = min(len(value) // size, _DECODED_AT_MOST)
        parts = [str(number) for number in struct.unpack_from(f"{self.order}{count}{kind}", value)]
        return parts[0] if len(parts) == 1 else parts

    def decode(self, value: bytes, attribute: Attribute, encodings: Sequence[str]) -> str:
        """Text in whatever the character set says, or in what it looks like when that fails; never an error."""
        try:
            if b"\x1b" not in value:
                return value.decode(encodings[0])
            return "".join(_decode_part(part, encodings) for part in _PARTS.findall(value))
        except (UnicodeError, LookupError):
            self.notes.append(Note("warning", attribute.keyword, "does not decode by Specific Character Set"))
        try:
            return value.decode("utf-8")
        except UnicodeError:
            return value.decode("latin-1" if encodings[0] == _DEFAULT_ENCODING else encodings[0], "replace")


_PARTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_KNOWING_ESCAPES = frozenset({"iso2022_jp", "iso2022_jp_2"})
"""Codecs that read the escape sequences themselves; pydicom counts iso_ir_58 among them, which does not."""
_RESETS = re.compile(rb"[\r\n\t\f]")
"""What ends an escape sequence's reach (PS3.5 section 6.1.2.5.3); the delimiters of PN are in every G0 set alike."""


def _decode_part(part: bytes, encodings: Sequence[str]) -> str:
    """Text up to the next escape sequence, by the one that it begins with (PS3.3 tables C.12-3 and C.12-4)."""
    if not part.startswith(b"\x1b"):
        return part.decode(encodings[0])
    from pydicom.charset import CODES_TO_ENCODINGS

    code = part[: 4 if part.startswith((b"\x1b$(", b"\x1b$)")) else 3]
    encoding = CODES_TO_ENCODINGS[code]
    if encoding in _KNOWING_ESCAPES:
        return part.decode(encoding)
    reset = _RESETS.search(part)
    end = reset.start() if reset else len(part)
    return part[len(code) : end].decode(encoding) + part[end:].decode(encodings[0])


class Known:
    """What the patient, study and series of earlier instances were decoded to, so that records share it.

    For one thread. It begins anew when it is full.
    """

    __slots__ = ("_all", "_last", "_room")

    def __init__(self) -> None:
        self._all: dict[bytes, _Decoded] = {}
        self._last: dict[Level, tuple[tuple[Any, ...], _Decoded]] = {}
        self._room = _KNOWN_BYTES

    def attrs(self, level: Level, raw: Raw, decoder: _Decoder, encodings: Sequence[str]) -> Attrs:
        """Decode the attributes of a level, unless that was done."""
        values = (decoder.order, *map(raw.get, _REPEATED[level]))
        last = self._last.get(level)
        # of what a reader jumped over the objects are the same as in the last instance, so this compares addresses
        if last is not None and last[0] == values:
            attrs, notes = last[1]
            decoder.notes += notes
            return attrs
        key = marshal.dumps((level, values), _MARSHAL_VERSION)
        found = self._all.get(key)
        if found is None:
            before = len(decoder.notes)
            found = decoder.attrs(raw, LEVELS[level], encodings), tuple(decoder.notes[before:])
            self._keep(key, found)
        else:
            decoder.notes += found[1]
        if len(key) <= _KNOWN_BYTES:
            self._last[level] = values, found
        return found[0]

    def _keep(self, key: bytes, decoded: _Decoded) -> None:
        if len(key) > self._room:
            self._all.clear()
            self._room = _KNOWN_BYTES
        if len(key) <= self._room:
            self._all[key] = decoded
            self._room -= len(key)


def extract(received: Received, known: Known | None = None) -> InstanceRecord:
    """Decode what the bridge keeps of a SOP instance.

    Parameters
    ----------
    known
        Kept by the caller from one instance to the next.

    Raises
    ------
    MissingUID
        One of Study, Series, SOP Instance or SOP Class UID is missing or cannot be an identifier in FHIR.
    Mismatch
        The C-STORE command names another SOP class or instance (PS3.4 section B.2.3, A900).
    """
    raw = received.taken
    known = known or Known()
    decoder = _Decoder(received.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN)
    notes = decoder.notes
    encodings = decoder.encodings(raw, [_DEFAULT_ENCODING])
    patient = known.attrs("patient", raw, decoder, encodings)
    study = known.attrs("study", raw, decoder, encodings)
    series = known.attrs("series", raw, decoder, encodings)
    instance = decoder.attrs(raw, LEVELS["instance"], encodings)
    uids = decoder.attrs(raw, UIDS, encodings)
    _settle(uids, "SOPInstanceUID", received.sop_instance, received)
    _settle(instance, "SOPClassUID", received.sop_class, received)
    for where in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        _check_uid(where, uids.get(where), notes)
    _check_uid("SOPClassUID", instance.get("SOPClassUID"), notes)
    return InstanceRecord(
        study_uid=uids["StudyInstanceUID"],
        series_uid=uids["SeriesInstanceUID"],
        sop_uid=uids["SOPInstanceUID"],
        patient=patient,
        study=study,
        series=series,
        instance=instance,
        notes=tuple(notes),
    )


def _settle(attrs: dict[str, Any], keyword: str, claimed: str, received: Received) -> None:
    """Fill in what the data set leaves out by what the command or the file meta information says of it."""
    found = attrs.get(keyword)
    if not found:
        if claimed:
            attrs[keyword] = claimed
    elif claimed and found != claimed and received.origin.kind == "dimse":
        raise Mismatch(f"{keyword} of the command and of the data set differ.")


def _check_uid(keyword: str, value: Any, notes: list[Note]) -> None:
    if isinstance(value, str) and len(value) <= _LONGEST_UID and _OID.fullmatch(value):
        return
    if not value:
        raise MissingUID(f"{keyword} is missing.")
    if not isinstance(value, str) or not _FHIR_ID.fullmatch(value):
        raise MissingUID(f"{keyword} is not a usable UID: up to 64 digits and dots.")
    notes.append(Note("warning", keyword, "breaks the rules for UIDs (PS3.5 section 9.1); taken as it stands"))
