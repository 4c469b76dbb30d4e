"""A data set as it comes in: what is wanted of its header is taken, the rest goes by."""

from __future__ import annotations

import zlib

from dicom2fhir.dicom.header import (
    DEFAULT_BUDGETS,
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Budgets,
    Short,
    Walk,
    Wanted,
    cut,
    is_explicit,
)
from dicom2fhir.dicom.runs import Memory
from dicom2fhir.errors import BudgetExceeded, CannotUnderstand
from dicom2fhir.model import Raw

_FIRST_LOOK_BYTES = 15 * 1024
"""Most headers, and no more than the first 16 KiB of a file hold behind its file meta information."""
_SPARE_BYTES = 512
"""That a header may be longer than the one before, for the first look to see all of it."""
_LOOK_GROWTH = 2
"""How much more there must be for another look: all of them together cost at most twice the last one."""


class HeaderReader:
    """Takes what is wanted out of one data set, which may come in pieces.

    What was walked over is not walked again when more comes; a sequence of undefined length is, if it is not all there.

    Parameters
    ----------
    transfer_syntax
        Its Transfer Syntax UID; an unknown one is read as Explicit VR Little Endian, as all encapsulated ones are.
    wanted
        The tags to take; see :data:`~dicom2fhir.dicom.header.Wanted`.
    memory
        Of the headers before, which were read one after the other.
    """

    __slots__ = (
        "_budgets",
        "_data",
        "_error",
        "_explicit",
        "_is_deflated",
        "_look_at_bytes",
        "_memory",
        "_pos",
        "_taken",
        "_walk",
        "_wanted",
        "is_complete",
        "transfer_syntax",
    )

    def __init__(
        self,
        transfer_syntax: str,
        wanted: Wanted,
        budgets: Budgets = DEFAULT_BUDGETS,
        memory: Memory | None = None,
    ) -> None:
        self.transfer_syntax = transfer_syntax
        self._wanted = wanted
        self._budgets = budgets
        self._memory = memory
        self._is_deflated = transfer_syntax in DEFLATED
        self._look_at_bytes = budgets.header_bytes + 1
        if not self._is_deflated:
            first = memory.length + _SPARE_BYTES if memory and memory.length else _FIRST_LOOK_BYTES
            self._look_at_bytes = min(first, self._look_at_bytes)
        self._data = bytearray()
        self._walk = Walk(b"", transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, budgets)
        self._explicit: bool | None = None
        self._pos = 0
        self._taken: Raw = {}
        self._error: CannotUnderstand | None = None
        self.is_complete = False
        """Whether what is still to come is of no use."""

    def write(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the data set."""
        while piece and not self.is_complete:
            room = self._look_at_bytes - len(self._data)
            self._data += piece[:room]
            piece = piece[room:]
            if len(self._data) == self._look_at_bytes:
                self._look()

    def _look(self) -> None:
        most = self._budgets.header_bytes
        if not self._is_deflated:
            self._walk_on(bytes(self._data))
            self._walk.data = b""  # a copy is needed for as long as it is walked over only
        if len(self._data) > most and not self.is_complete:
            what = "deflated data set" if self._is_deflated else "header"
            self._end(BudgetExceeded(f"The {what} is longer than {most} bytes."))
        self._look_at_bytes = min(_LOOK_GROWTH * self._look_at_bytes, most + 1)

    def _walk_on(self, data: bytes) -> None:
        """Walk over what has come since."""
        walk, memory = self._walk, self._memory
        walk.data = data
        if self._explicit is None:
            self._explicit = is_explicit(data, 0, self.transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN)
            if memory is not None:
                memory.begin((self._explicit, walk.big, self._wanted, self._budgets))
        try:
            if memory is not None:
                self._pos = memory.jump(walk, self._pos, self._taken)
            self._pos = walk.elements(self._pos, len(data), len(data), self._explicit, self._wanted, self._taken)
        except Short as short:
            self._pos, walk.elements_left = short.args
        except CannotUnderstand as error:
            self._end(error)
        else:
            if self._pos < len(data):
                self._end()

    def _end(self, error: CannotUnderstand | None = None) -> None:
        """Take nothing more."""
        self.is_complete = True
        self._error = error
        if error is None and self._memory is not None:
            self._memory.finish(self._walk, self._pos)
        self._data.clear()
        self._walk.data = b""

    def end(self) -> Raw:
        """What was wanted, once all of the data set was written.

        Raises
        ------
        CannotUnderstand
            It is no data set, or ends within an element before Pixel Data.
        BudgetExceeded
            A limit is passed.
        """
        if not self.is_complete:
            data = bytes(self._data)
            if self._is_deflated:
                data = _inflate(data, self._budgets)
            self._walk_on(data)
            if not self.is_complete:
                missing = self._pos < len(data)
                self._end(CannotUnderstand(cut(data, self._pos, len(data), self._walk.big)) if missing else None)
        if self._error is not None:
            raise self._error
        return self._taken


def scan(data: bytes, transfer_syntax: str, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS) -> Raw:
    """Take what is wanted out of a data set that is in memory.

    Raises
    ------
    CannotUnderstand, BudgetExceeded
        As :meth:`HeaderReader.end`.
    """
    reader = HeaderReader(transfer_syntax, wanted, budgets)
    reader.write(data)
    return reader.end()


def _inflate(data: bytes, budgets: Budgets) -> bytes:
    """Inflate a data set (RFC 1951, no zlib header: PS3.5 A.5) up to the budget."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, budgets.inflated_bytes)
    except zlib.error as error:
        raise CannotUnderstand(f"The deflated data set cannot be inflated: {error}.") from None
    if inflater.unconsumed_tail:
        raise BudgetExceeded(f"The data set inflates to more than {budgets.inflated_bytes} bytes.")
    if not inflater.eof:
        raise CannotUnderstand("The deflated data set ends too early.")
    return inflated
