"""Reads SOP instances one after the other, and reuses the parts that they have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets
from dicom2fhir.dicom.decode import DecodedCache, decode_instance
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.part10 import FileHeader, read_file
from dicom2fhir.dicom.reader import HeaderReader, without_limit
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.model import InstanceRecord, Received


class InstanceReader:
    """Reads the headers of instances, and decodes them.

    The instances of a series repeat most of their header. Parts that are equal to the last header are neither read nor
    decoded again, and the records share them. A reader is for one thread: each association, watched folder and worker
    process has its own.
    """

    def __init__(self, budgets: Budgets = DEFAULT_BUDGETS) -> None:
        self._budgets = budgets
        self._headers = HeaderCache()
        self._decoded = DecodedCache()

    def open_header(self, transfer_syntax: str, hold: Callable[[int], object] = without_limit) -> HeaderReader:
        """Begin to read a data set that arrives in pieces; see :class:`~dicom2fhir.dicom.reader.HeaderReader`."""
        return HeaderReader(transfer_syntax, WANTED, self._budgets, self._headers, hold)

    def read_file(self, file: BinaryIO) -> FileHeader:
        """Read the header of a file; see :func:`dicom2fhir.dicom.part10.read_file`."""
        return read_file(file, WANTED, self._budgets, self._headers)

    def decode(self, received: Received) -> InstanceRecord:
        """Decode an instance; see :func:`dicom2fhir.dicom.decode.decode_instance`."""
        return decode_instance(received, self._decoded)
