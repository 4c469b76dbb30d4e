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
from dicom2fhir.dicom.reader import HeaderReader, scan
from dicom2fhir.dicom.runs import Memory
from dicom2fhir.errors import CannotUnderstand, NotAnInstance, NotDicom
from dicom2fhir.model import Raw

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_FIRST_READ_BYTES = 16 * 1024
_LONGEST_READ_BYTES = 1024 * 1024
_META_TAGS: Wanted = {0x00020002: None, 0x00020003: None, 0x00020010: None}
_PREAMBLE_BYTES = 128


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What was wanted of a DICOM file's data set, and what the file meta information says of it."""

    taken: Raw
    transfer_syntax: str
    sop_class: str
    sop_instance: str


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
    transfer_syntax = meta.get(0x00020010, "") or _guess(data, pos, bool(start))
    if meta.get(0x00020002) == MEDIA_STORAGE_DIRECTORY or data[pos : pos + 2] in (b"\x04\x00", b"\x00\x04"):
        raise NotAnInstance
    reader = HeaderReader(transfer_syntax, wanted, budgets, memory)
    reader.write(memoryview(data)[pos:])
    size = _FIRST_READ_BYTES
    while not reader.is_complete and (data := file.read(size)):
        reader.write(data)
        size = min(2 * size, _LONGEST_READ_BYTES)
    return FileHeader(reader.end(), transfer_syntax, meta.get(0x00020002, ""), meta.get(0x00020003, ""))


def _read_meta(data: bytes, start: int) -> tuple[dict[int, str], int]:
    """File meta information, Explicit VR Little Endian (PS3.10 section 7.1), and where the data set begins."""
    end = start
    explicit = is_explicit(data, start, True)
    while data[end : end + 2] == b"\x02\x00":
        if len(data) < end + 12:
            raise CannotUnderstand("The file ends within its file meta information.")
        if not explicit or data[end + 4 : end + 6] in LONG_VRS:
            (length,) = struct.unpack_from("<L", data, end + (8 if explicit else 4))
            end += (12 if explicit else 8) + length
        else:
            (length,) = struct.unpack_from("<H", data, end + 6)
            end += 8 + length
    if end > len(data):
        raise CannotUnderstand("The file ends within its file meta information, or that is longer than 16 KiB.")
    raw = scan(data[start:end], EXPLICIT_VR_LITTLE_ENDIAN, _META_TAGS)
    return {
        tag: value.decode("ascii", "replace").strip("\0 ") for tag, value in raw.items() if isinstance(value, bytes)
    }, end


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
