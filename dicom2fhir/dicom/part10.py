"""DICOM files: file meta information, and the header of the data set behind it (PS3.10 section 7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from dicom2fhir.dicom.header import (
    DEFAULT_BUDGETS,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    LONG_VRS,
    VRS,
    Budgets,
    Wanted,
    is_explicit,
)
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.dicom.runs import Memory
from dicom2fhir.errors import CannotUnderstand, NotAnInstance, NotDicom
from dicom2fhir.model import Origin, Raw, Received

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_FIRST_READ_BYTES = 16 * 1024
_LONGEST_READ_BYTES = 1024 * 1024
_META_GROUP = b"\x02\x00"
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = _META_ELEMENTS = (0x0002, 0x0003, 0x0010)
_META_HEADER = struct.Struct("<2xH2sH").unpack_from
"""Element, VR and short length."""
_LONG = struct.Struct("<L").unpack_from
_PREAMBLE_BYTES = 128


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What was wanted of a DICOM file's data set, and what the file meta information says of it."""

    taken: Raw
    transfer_syntax: str
    sop_class: str
    sop_instance: str

    def received(self, origin: Origin) -> Received:
        """The file as what came in."""
        return Received(self.taken, self.transfer_syntax, origin, self.sop_class, self.sop_instance)


def read_file(
    file: BinaryIO, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS, memory: Memory | None = None
) -> FileHeader:
    """Read a DICOM file up to Pixel Data, from the file's present position.

    Files without preamble or file meta information are read too; the first element tells their encoding.

    Parameters
    ----------
    wanted
        What to take of the data set.
    memory
        Of the files before.

    Raises
    ------
    NotDicom
        Neither a DICOM file nor a bare data set.
    NotAnInstance
        A DICOMDIR.
    CannotUnderstand, BudgetExceeded
        It begins like DICOM and goes wrong, or ends too early.
    """
    data = file.read(_FIRST_READ_BYTES)
    start = _PREAMBLE_BYTES + 4 if data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM" else 0
    meta, pos = _read_meta(data, start)
    transfer_syntax = meta.get(_TRANSFER_SYNTAX, "") or _guess(data, pos, bool(start))
    if meta.get(_SOP_CLASS) == MEDIA_STORAGE_DIRECTORY or data[pos : pos + 2] in (b"\x04\x00", b"\x00\x04"):
        raise NotAnInstance
    reader = HeaderReader(transfer_syntax, wanted, budgets, memory)
    reader.write(memoryview(data)[pos:])
    size = _FIRST_READ_BYTES
    while not reader.is_complete and (data := file.read(size)):
        reader.write(data)
        size = min(2 * size, _LONGEST_READ_BYTES)
    return FileHeader(reader.end(), transfer_syntax, meta.get(_SOP_CLASS, ""), meta.get(_SOP_INSTANCE, ""))


def _read_meta(data: bytes, start: int) -> tuple[dict[int, str], int]:
    """File meta information, Explicit VR Little Endian (PS3.10 section 7.1), and where the data set begins.

    Of elements of group 0002 only :data:`_META_ELEMENTS` are taken, by their numbers.
    """
    found: dict[int, slice] = {}
    pos = start
    explicit = is_explicit(data, start, True)
    while data[pos : pos + 2] == _META_GROUP:
        if len(data) < pos + 12:
            raise CannotUnderstand("The file ends within its file meta information.")
        element, vr, length = _META_HEADER(data, pos)
        if not explicit:
            (length,) = _LONG(data, pos + 4)
        elif vr in LONG_VRS:
            (length,) = _LONG(data, pos + 8)
            pos += 4
        pos += 8
        found[element] = slice(pos, pos + length)
        pos += length
    if pos > len(data):
        raise CannotUnderstand("The file ends within its file meta information, or that is longer than 16 KiB.")
    return {
        element: data[found[element]].decode("ascii", "replace").strip("\0 ")
        for element in _META_ELEMENTS
        if element in found
    }, pos


def _guess(data: bytes, pos: int, has_preamble: bool) -> str:
    """The encoding of a data set that nobody declares, by its first element."""
    if len(data) < pos + 8:
        raise CannotUnderstand("The file has no data set.") if has_preamble else NotDicom
    little, big = struct.unpack_from("<H", data, pos)[0], struct.unpack_from(">H", data, pos)[0]
    explicit = data[pos + 4 : pos + 6] in VRS
    # a data set begins with group 0008 (SOP Common); a DICOMDIR with group 0004; 0002 was passed already
    if little in (0x0004, 0x0008):
        if explicit:
            return EXPLICIT_VR_LITTLE_ENDIAN
        if struct.unpack_from("<L", data, pos + 4)[0] < _FIRST_READ_BYTES:
            return IMPLICIT_VR_LITTLE_ENDIAN
    if big in (0x0004, 0x0008) and explicit:
        return EXPLICIT_VR_BIG_ENDIAN
    if has_preamble or pos:
        return EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    raise NotDicom
