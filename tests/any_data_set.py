"""DICOM files of any content: every attribute that the bridge takes, valid or not, in every script and encoding.

They are made by a seed, which Hypothesis gives: nested strategies took a hundred times as long as what they test.
"""

# ruff: noqa: RUF001 (patients have names in many scripts)

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from random import Random
from typing import Any

from pydicom import config, dcmwrite, uid
from pydicom.dataset import FileMetaDataset

from dicom2fhir.dicom.attributes import FUNCTIONAL_GROUPS, HOLDERS, LEVELS, Attribute
from dicom2fhir.synthetic import dataset

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
