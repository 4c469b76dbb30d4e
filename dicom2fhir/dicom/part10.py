"""DICOM files: file meta information, and the header of the data set after it (PS3.10 section 7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from dicom2fhir.dicom.completeness import Rest
from dicom2fhir.dicom.data_elements import (
    DEFAULT_BUDGETS,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    LONG_VRS,
    VRS,
    Budgets,
    Wanted,
)
from dicom2fhir.dicom.element_encoding import LITTLE, own_encoding
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.errors import BudgetExceeded, CannotUnderstand, NotAnInstance, NotDicom
from dicom2fhir.model import Note, Origin, Raw, Received
from dicom2fhir.sop_classes import MEDIA_STORAGE_DIRECTORY

_FIRST_READ_BYTES = 16 * 1024
_LONGEST_READ_BYTES = 1024 * 1024
_META_GROUP = b"\x02\x00"
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = _META_ELEMENTS = (0x0002, 0x0003, 0x0010)
_LONG = struct.Struct("<L").unpack_from
_META_HEADER_BYTES = 12
"""Size of tag, VR and length of an element with a 32-bit length; at least as many bytes follow the last short one."""
_LONGEST_META_BYTES = 1024
_MOST_META_ELEMENTS = 1000
_CUT_META = "The file ends within its file meta information."
_PREAMBLE_BYTES = 128


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The wanted values of a DICOM file's data set, and its file meta information."""

    taken: Raw
    transfer_syntax: str
    sop_class: str
    sop_instance: str
    rest: Rest | None = field(default=None, compare=False)
    """What follows the header; its position is relative to where reading began, and is not compared."""

    def received(self, origin: Origin, notes: tuple[Note, ...] = ()) -> Received:
        """The file as a received instance."""
        return Received(self.taken, self.transfer_syntax, origin, self.sop_class, self.sop_instance, notes)


def read_file(
    file: BinaryIO, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS, cache: HeaderCache | None = None
) -> FileHeader:
    """Read a DICOM file up to Pixel Data, from the file's present position.

    Files without preamble or file meta information are read, too; their encoding is guessed from the first element.

    Parameters
    ----------
    wanted
        What to take from the data set.
    cache
        Of the files that were read before this one.

    Raises
    ------
    NotDicom
        Neither a DICOM file nor a bare data set.
    NotAnInstance
        A DICOMDIR.
    CannotUnderstand, BudgetExceeded
        It begins like DICOM, but is invalid or ends too early.
    """
    data = file.read(_FIRST_READ_BYTES)
    has_preamble = data.startswith(b"DICM", _PREAMBLE_BYTES)
    start = _PREAMBLE_BYTES + 4 if has_preamble else 0
    has_meta = data.startswith(_META_GROUP, start)
    meta, rest, begin = _read_meta(file, data, start, budgets)
    transfer_syntax = meta.get(_TRANSFER_SYNTAX, "") or _guess(rest, has_preamble, has_meta)
    if meta.get(_SOP_CLASS) == MEDIA_STORAGE_DIRECTORY or bytes(rest[:2]) in (b"\x04\x00", b"\x00\x04"):
        raise NotAnInstance
    reader = HeaderReader(transfer_syntax, wanted, budgets, cache)
    reader.write(rest)
    size = _FIRST_READ_BYTES
    while not reader.is_complete and (data := file.read(size)):
        reader.write(data)
        size = min(2 * size, _LONGEST_READ_BYTES)
    taken = reader.end()
    sop_class, sop_instance = meta.get(_SOP_CLASS, ""), meta.get(_SOP_INSTANCE, "")
    return FileHeader(taken, transfer_syntax, sop_class, sop_instance, reader.rest(begin))


def _read_meta(file: BinaryIO, data: bytes, pos: int, budgets: Budgets) -> tuple[dict[int, str], memoryview, int]:
    """Read the file meta information, Explicit VR Little Endian (PS3.10 section 7.1).

    It may be of any length, because Private Information (0002,0102) may be. Elements of group 0002 at the beginning of
    the data set are treated as part of it, whatever their encoding.

    Returns
    -------
    dict
        Element number -> value of the first element of each of :data:`_META_ELEMENTS`.
    memoryview
        The bytes of the data set that were read.
    int
        Position of the data set.
    """
    found: dict[int, str] = {}
    passed = 0  # bytes before ``data``
    for _ in range(_MOST_META_ELEMENTS):
        if len(data) - pos < _META_HEADER_BYTES:
            passed += pos
            data, pos = data[pos:] + file.read(_FIRST_READ_BYTES), 0
        if not data.startswith(_META_GROUP, pos):
            return found, memoryview(data)[pos:], passed + pos
        if len(data) - pos < _META_HEADER_BYTES:
            break
        element = data[pos + 2] | data[pos + 3] << 8
        vr, length = own_encoding(data, pos, LITTLE)
        pos += 8
        if vr in LONG_VRS:
            (length,) = _LONG(data, pos)
            pos += 4
        if passed + pos + length > budgets.header_bytes:
            raise BudgetExceeded(f"The file meta information is longer than {budgets.header_bytes} bytes.")
        is_taken = element in _META_ELEMENTS and element not in found and length <= _LONGEST_META_BYTES
        while pos + length > len(data):
            kept = data[pos:] if is_taken else b""
            passed += pos if is_taken else len(data)
            length -= 0 if is_taken else len(data) - pos
            piece = file.read(_FIRST_READ_BYTES)
            if not piece:
                raise CannotUnderstand(_CUT_META)
            data, pos = kept + piece, 0
        if is_taken:
            found[element] = data[pos : pos + length].decode("ascii", "replace").partition("\0")[0].strip(" ")
        pos += length
    else:
        raise BudgetExceeded(f"The file meta information has more than {_MOST_META_ELEMENTS} elements.")
    raise CannotUnderstand(_CUT_META)


def _guess(data: memoryview, has_preamble: bool, has_meta: bool) -> str:
    """The encoding of a data set without a declared transfer syntax, guessed from its first element."""
    if len(data) < 8:
        raise CannotUnderstand("The file has no data set.") if has_preamble or has_meta else NotDicom
    little, big = struct.unpack_from("<H", data)[0], struct.unpack_from(">H", data)[0]
    explicit = bytes(data[4:6]) in VRS
    # a data set begins with group 0008 (SOP Common); a DICOMDIR with group 0004; 0002 was skipped before
    if little in (0x0004, 0x0008):
        if explicit:
            return EXPLICIT_VR_LITTLE_ENDIAN
        if struct.unpack_from("<L", data, 4)[0] < _FIRST_READ_BYTES:
            return IMPLICIT_VR_LITTLE_ENDIAN
    if big in (0x0004, 0x0008) and explicit:
        return EXPLICIT_VR_BIG_ENDIAN
    if has_preamble or has_meta:
        return EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    raise NotDicom
