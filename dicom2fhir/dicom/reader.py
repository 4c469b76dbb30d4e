"""Reads a data set while it arrives: the wanted values of its header are taken, the rest is skipped."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable

from dicom2fhir.dicom.completeness import HEAD_BYTES, Rest
from dicom2fhir.dicom.data_elements import (
    DEFAULT_BUDGETS,
    DEFLATED,
    ELEMENT_BYTES,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Budgets,
    Wanted,
)
from dicom2fhir.dicom.element_encoding import BIG, LITTLE, data_set_start, is_explicit
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.walk import Walk
from dicom2fhir.errors import BudgetExceeded, CannotUnderstand
from dicom2fhir.model import Raw

_FIRST_LOOK_BYTES = 15 * 1024
"""Most headers are shorter. The first 16 KiB of a file contain this much after its file meta information."""
_SPARE_BYTES = 512
"""How much longer than the previous header a header may be for the first look to include all of it."""
_LOOK_GROWTH = 2
"""Factor by which the data must grow before the next look: all looks together copy at most twice as much as the last
one."""
_KEPT_BYTES = 128 * 1024
"""Headers up to this length are kept whole; of longer ones only the part that is still needed."""
_DEFLATED_AT_ONCE, _INFLATED_AT_ONCE = 4 * 1024, 64 * 1024
"""Bytes inflated at once, before and after: inflating may enlarge a data set a thousand times."""


def without_limit(_held_bytes: int) -> None:
    """Accept any use of memory within the budgets."""


class HeaderReader:
    """Takes the wanted values from one data set, which may arrive in pieces.

    Elements are not walked over again when more bytes arrive.

    Parameters
    ----------
    transfer_syntax
        Its Transfer Syntax UID. An unknown one is read as Explicit VR Little Endian, the encoding of all encapsulated
        transfer syntaxes.
    wanted
        The tags to take; see :data:`~dicom2fhir.dicom.data_elements.Wanted`.
    cache
        Of the headers that were read before this one, one after the other.
    hold
        Called with the maximum memory of the data set in bytes whenever that changes; its errors propagate.
    """

    def __init__(
        self,
        transfer_syntax: str,
        wanted: Wanted,
        budgets: Budgets = DEFAULT_BUDGETS,
        cache: HeaderCache | None = None,
        hold: Callable[[int], object] = without_limit,
    ) -> None:
        self.transfer_syntax = transfer_syntax
        self._wanted = wanted
        self._budgets = budgets
        self._cache = cache
        self._hold = hold
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if transfer_syntax in DEFLATED else None
        first = cache.length + _SPARE_BYTES if cache and cache.length else _FIRST_LOOK_BYTES
        self._look_at_bytes = min(first, self._longest + 1)
        self._data = bytearray()
        self._walk = Walk(transfer_syntax == EXPLICIT_VR_BIG_ENDIAN, budgets, wanted)
        self._is_begun = False
        self._pos = 0
        self._taken: Raw = {}
        self._error: CannotUnderstand | None = None
        self._head = b""
        self.is_complete = False
        """Whether no more bytes are needed."""

    @property
    def _longest(self) -> int:
        """Maximum length of the header in bytes."""
        budgets = self._budgets
        return budgets.header_bytes if self._inflate is None else min(budgets.header_bytes, budgets.inflated_bytes)

    def write(self, piece: bytes | memoryview) -> None:
        """Add the next bytes of the data set."""
        piece = memoryview(piece)
        if self._inflate is None:
            self._take(piece)
            return
        for at in range(0, len(piece), _DEFLATED_AT_ONCE):
            if self.is_complete or self._inflate.eof:
                break
            self._inflate_some(self._inflate, piece[at : at + _DEFLATED_AT_ONCE])

    def _inflate_some(self, inflate: zlib._Decompress, piece: bytes | memoryview) -> None:
        before = inflate.copy()
        try:
            while piece and not self.is_complete and not inflate.eof:
                self._take(memoryview(inflate.decompress(piece, _INFLATED_AT_ONCE)))
                piece, before = inflate.unconsumed_tail, inflate.copy()
        except zlib.error as error:
            self._inflate_up_to_damage(before, piece)
            if not self.is_complete:
                self._end(CannotUnderstand(f"The deflated data set cannot be inflated: {error}."))

    def _inflate_up_to_damage(self, inflate: zlib._Decompress, piece: bytes | memoryview) -> None:
        """Inflate as much as possible, so that the result does not depend on the sizes of the pieces."""
        with contextlib.suppress(zlib.error):
            for at in range(len(piece)):
                self._take(memoryview(inflate.decompress(piece[at : at + 1])))
        if not self.is_complete:
            self._walk_on(bytes(self._data))

    def _take(self, piece: memoryview) -> None:
        while piece and not self.is_complete:
            room = self._look_at_bytes - len(self._data)
            self._data += piece[:room]
            piece = piece[room:]
            if len(self._data) == self._look_at_bytes:
                self._look()

    def _look(self) -> None:
        """Walk over the bytes that have arrived since the last look."""
        walk = self._walk
        self._walk_on(bytes(self._data))
        if self.is_complete:
            return
        most = self._longest
        if walk.offset + len(self._data) > most:
            what = "deflated data set inflates to more than" if self._inflate else "header is longer than"
            self._end(BudgetExceeded(f"The {what} {most} bytes."))
        done = min(self._pos, len(self._data))
        if walk.offset + done > _KEPT_BYTES:
            walk.forget(done)
            self._pos -= done
            del self._data[:done]
        walk.data = b""  # the copy is needed during the walk only
        self._look_at_bytes = min(max(_LOOK_GROWTH * len(self._data), _FIRST_LOOK_BYTES), most + 1 - walk.offset)
        self._hold(2 * self._look_at_bytes + self._taken_bytes)  # twice, because it is copied for the next look

    @property
    def _taken_bytes(self) -> int:
        return ELEMENT_BYTES * (self._budgets.elements - self._walk.elements_left)

    def _walk_on(self, data: bytes) -> None:
        walk = self._walk
        walk.data = data
        try:
            if not self._is_begun and not self._begin(data):
                return
            if self._cache is not None:
                self._pos = self._cache.jump(walk, self._pos, self._taken)
            self._pos = walk.elements(self._pos, len(data))
        except CannotUnderstand as error:
            self._end(error)
        else:
            if walk.ended_at is not None:
                self._end()

    def _begin(self, data: bytes) -> bool:
        """Determine how elements are encoded; False if more bytes are needed."""
        walk = self._walk
        big = self.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN
        unpack = BIG if big else LITTLE
        declared = self.transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
        self._pos = data_set_start(data, self._pos, unpack)
        explicit = is_explicit(data, self._pos, declared, walk.is_final, self._budgets.value_bytes, unpack)
        if explicit is None:
            return False
        walk.begin(explicit, self._taken)
        if self._pos:
            self._cache = None  # it compares headers from their first byte on
        if self._cache is not None:
            self._cache.begin((explicit, big, self._wanted, self._budgets))
        self._is_begun = True
        return True

    def _end(self, error: CannotUnderstand | None = None) -> None:
        """Stop reading."""
        self.is_complete = True
        self._error = error
        ended_at = self._walk.ended_at
        if error is None and self._cache is not None:
            self._cache.finish(self._walk, self._pos if ended_at is None else ended_at)
        if ended_at is not None and ended_at >= 0:
            self._head = bytes(self._data[ended_at : ended_at + HEAD_BYTES])
        self._data.clear()
        self._walk.data = b""
        if error is not None:
            self._taken.clear()
        self._hold(self._taken_bytes if error is None else 0)

    def rest(self, begin: int) -> Rest | None:
        """What follows the header of a data set that begins at ``begin``; None if that is not known."""
        walk = self._walk
        if walk.ended_at is None or self._inflate is not None:
            return None
        big = self.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN
        return Rest(begin + walk.offset + walk.ended_at, walk.explicit, big, self._head)

    def end(self) -> Raw:
        """The wanted values, after the whole data set was written.

        Raises
        ------
        CannotUnderstand
            It is not a data set, or ends within an element before Pixel Data.
        BudgetExceeded
            A limit is exceeded.
        BridgeError
            An error of ``hold``; :meth:`write` raises it, too.
        """
        if not self.is_complete:
            is_cut = self._inflate is not None and not self._inflate.eof
            self._walk.is_final = not is_cut
            self._walk_on(bytes(self._data))
            if not self.is_complete:
                cut = CannotUnderstand("The deflated data set ends too early.")
                self._end(cut if is_cut else self._walk.rest(self._pos))
        if self._error is not None:
            raise self._error
        return self._taken


def scan(data: bytes, transfer_syntax: str, wanted: Wanted, budgets: Budgets = DEFAULT_BUDGETS) -> Raw:
    """Take the wanted values from a data set in memory.

    Raises
    ------
    CannotUnderstand, BudgetExceeded
        As :meth:`HeaderReader.end`.
    """
    reader = HeaderReader(transfer_syntax, wanted, budgets)
    reader.write(data)
    return reader.end()
