"""DICOM files of any content: every attribute that the bridge takes, valid or not, in every script and encoding.

They are made by a seed, which Hypothesis gives: nested strategies took a hundred times as long as what they test.
"""

# ruff: noqa: RUF001 (patients have names in many scripts)

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from io import BytesIO
from random import Random
from typing import Any

from pydicom import config, dcmread, dcmwrite, uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset

from dicom2fhir.demo.synthetic import dataset
from dicom2fhir.dicom.attributes import LEVELS, Attribute
from dicom2fhir.dicom.data_elements import LONG_VRS
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS, HOLDERS

SYNTAXES = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
SCRIPTS = {
    "ISO_IR 6": "abcXYZ019 .,'-",
    "ISO_IR 100": "abÄÖéñ 1",
    "ISO_IR 126": "abαβΩ 1",
    "ISO_IR 144": "abЖф 1",
    "ISO_IR 13": "abﾔﾏ1",
    "GB18030": "ab王小东誠許 1",
    "ISO_IR 192": "abÄ王🩻 1",
    "\\ISO 2022 IR 149": "ab홍길동 1",
    "\\ISO 2022 IR 87": "ab山田太郎 1",
}
TEXT_VRS = {"LO": 64, "SH": 16, "ST": 200, "LT": 200, "UT": 200, "UC": 200}
ASCII_VRS = {"CS": "ABC_1 ", "DA": "0123456789.", "TM": "0123456789.:", "DT": "0123456789+-.", "UR": "abc:/1"}
SEVERAL = {"LO", "SH", "UC", "CS", "PN", "IS", "DS", "US", "UL", "FD"}


def _value(vr: str, alphabet: str, random: Random) -> Any:
    """A value of one VR, valid or not; padding, empty values and several values among them."""

    def one() -> Any:
        if vr == "UI":
            return random.choice(["1.2.840.10008.5.1.4.1.1.2", "1.2.03", "2.25.123456789", ""])
        if vr == "IS":
            return str(random.randint(-5, 2**31))
        if vr == "DS":
            return random.choice(["0.7", "-1", "1e3", "", "120.50"])
        if vr in ("US", "UL"):
            return random.randint(0, 2**16 - 1)
        if vr == "FD":
            return random.choice([0.0, 0.8, -2.5e-7, 1e300, float("inf")])
        letters = ASCII_VRS.get(vr) or alphabet + ("^" if vr == "PN" else "")
        written = "".join(random.choices(letters, k=random.randint(0, min(TEXT_VRS.get(vr, 14), 40))))
        return written.strip() if vr == "PN" else written

    return [one() for _ in range(random.randint(2, 3))] if vr in SEVERAL and random.random() < 0.3 else one()


def _data_set(attributes: Sequence[Attribute], alphabet: str, random: Random) -> dict[str, Any]:
    chosen = random.sample(attributes, min(len(attributes), random.randint(0, 12)))
    return {
        a.keyword: [_data_set(a.items, alphabet, random) for _ in range(random.randint(0, 2))]
        if a.vr == "SQ"
        else _value(a.vr, alphabet, random)
        for a in chosen
    }


EVERYTHING = [attribute for attributes in LEVELS.values() for attribute in attributes]
OF_FRAMES = [
    attribute for level in ("series", "instance") for own in LEVELS[level] for attribute in (own, *own.instead)
]


def _held(alphabet: str, random: Random) -> dict[str, Any]:
    """Functional groups and similar sequences, with some of what they may hold."""
    return {
        holder: [{random.choice([*FUNCTIONAL_GROUPS]): [_data_set(OF_FRAMES, alphabet, random)]}]
        for holder in HOLDERS
        if random.random() < 0.2
    }


def any_file(charset: str, seed: int, syntax: uid.UID = uid.ExplicitVRLittleEndian, undefined: bool = False) -> bytes:
    """A file with some of the attributes that the bridge takes, chosen and filled by ``seed``.

    Parameters
    ----------
    undefined
        Whether sequences are of undefined length.
    """
    random = Random(seed)
    made = _data_set(EVERYTHING, SCRIPTS[charset], random) | _held(SCRIPTS[charset], random)
    whole = {
        "SpecificCharacterSet": charset.split("\\"),
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        **{keyword: value for keyword, value in made.items() if keyword != "SOPClassUID"},
        "SOPInstanceUID": "1.2.3",
        "StudyInstanceUID": "1.2.1",
        "SeriesInstanceUID": "1.2.2",
    }
    written = dataset(whole)
    for element in written.iterall():
        element.is_undefined_length = element.VR == "SQ" and undefined
    written.preamble = bytes(128)
    written.file_meta = FileMetaDataset()
    written.file_meta.TransferSyntaxUID = syntax
    written.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    written.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3")
    buffer = BytesIO()
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        dcmwrite(buffer, written)
    return buffer.getvalue()


# The same in odd encodings ------------------------------------------------------------------------------------------

_UNDEFINED = 0xFFFFFFFF
_END_OF_ITEM = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
DAMAGED_SEQUENCES = (
    b"CT HEAD ",
    bytes(8),
    b"\xfe\xff",
    struct.pack("<HHL", 0xFFFE, 0xE000, 3000) + b"x" * 8,
    struct.pack("<HHL", 0xFFFE, 0xE000, 12) + struct.pack("<HH2sH", 0x0008, 0x0100, b"SH", 90) + b"C1  ",
    struct.pack("<HH2sH", 0x0008, 0x0100, b"SH", 2) + b"C1",
)
"""What stands where items must be."""


def odd_file(charset: str, seed: int, damage: str = "") -> bytes:
    """What :func:`any_file` gives, in Explicit VR Little Endian written as no standard asks for but pydicom reads.

    Parameters
    ----------
    damage
        Keyword of a sequence whose value is to be damaged, or put there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = any_file(charset, seed, undefined=True)
        made = dcmread(BytesIO(data))
    random = Random(seed)
    meta = data[: data.index(struct.pack("<HH2s", 0x0008, 0x0005, b"CS"))]
    if damage:
        tag = Dataset()
        setattr(tag, damage, [])
        made[damage] = tag[damage]
        value = random.choice(DAMAGED_SEQUENCES)
        damaged = {int(made[damage].tag): _explicit(int(made[damage].tag), b"SQ", value)}
    else:
        damaged = {}
    written = _odd_elements(made, random, True, damaged)
    repeated = _implicit(0x00020010, b"1.2.840.10008.1.2.1\0") if random.random() < 0.2 else b""
    return meta + repeated + written + bytes(random.choice((0, 0, 3, 8, 512)))


def _explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    tail = struct.pack("<HL", 0, length) if vr in LONG_VRS else struct.pack("<H", length)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + tail + value


def _implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def _odd_elements(made: Dataset, random: Random, is_explicit: bool, damaged: dict[int, bytes] | None = None) -> bytes:
    """The elements of a data set or item, and others among them; only at top level may single ones have no VR."""
    written = b""
    for tag in sorted(made.keys()):
        if damaged is not None and tag > 0x00080018 and random.random() < 0.1:
            written += _nobodys(tag, random)
        if damaged and tag in damaged:
            written += damaged[tag]
            continue
        element = made.get_item(tag)
        if element.VR == "SQ":
            written += _odd_sequence(int(tag), element.value, random, is_explicit)
            continue
        value = _as_written(element)
        # pydicom takes lengths from 66 to 90 for VRs; of no length, with a group length of (0008,0000) behind it, an
        # element reads like one with a blank VR and a length of 32 bits
        may_be_implicit = damaged is not None and tag > 0x00080018 and 0 < len(value) < 0x42
        if not is_explicit or (may_be_implicit and random.random() < 0.1):
            written += _implicit(int(tag), value)
        elif random.random() < 0.1 and tag != 0x00080005:
            written += _explicit(int(tag), b"UN", value)
        else:
            written += _explicit(int(tag), str(element.VR).encode(), value)
    return written


def _as_written(element: Any) -> bytes:
    """The bytes of a value; pydicom has decoded Specific Character Set already."""
    if isinstance(element, RawDataElement):
        return element.value or b""
    names = [element.value] if isinstance(element.value, str) else element.value or ()
    written = "\\".join(names).encode()
    return written + b" " * (len(written) % 2)


def _odd_sequence(tag: int, items: Sequence[Dataset], random: Random, is_explicit: bool) -> bytes:
    """A sequence and its items, each of known or of undefined length; in UN they are in Implicit VR."""
    vr = random.choice((b"SQ", b"SQ", b"UN"))
    inside = is_explicit and vr == b"SQ"
    value = b""
    for item in items:
        content = _odd_elements(item, random, inside)
        is_open = random.random() < 0.5
        value += _implicit(0xFFFEE000, content, _UNDEFINED if is_open else None) + (_END_OF_ITEM if is_open else b"")
    is_open = random.random() < 0.5
    value += _END_OF_SEQUENCE if is_open else b""
    length = _UNDEFINED if is_open else None
    return _explicit(tag, vr, value, length) if is_explicit else _implicit(tag, value, length)


def _nobodys(tag: int, random: Random) -> bytes:
    """An element that nobody wants and that may stand before another."""
    group = tag >> 16
    private = (group - 1) << 16 | 0x1010
    nested = _implicit(0xFFFEE000, _explicit(private, b"LO", b"x "), _UNDEFINED) + _END_OF_ITEM + _END_OF_SEQUENCE
    return random.choice(
        (
            _explicit(group << 16, b"UL", struct.pack("<L", 99)),
            _explicit(private, b"SQ", nested, _UNDEFINED),
            _explicit(private, b"SQ", b"no items"),
            _explicit(private, b"XX", b"1234"),
            _explicit(private, b"UN", random.randbytes(20)),
            _implicit(private, b"12"),
        )
    )
