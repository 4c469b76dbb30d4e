"""Walks over elements and the items of sequences within the bytes that have arrived (PS3.5 section 7)."""

from __future__ import annotations

from dicom2fhir.dicom.data_elements import (
    DELIMITERS,
    ENCAPSULATED_DOCUMENT,
    ITEM,
    ITEM_DELIMITER,
    ITEM_GROUP,
    LAST_ELEMENTS,
    LONG_VRS,
    PER_FRAME_FUNCTIONAL_GROUPS,
    SEQUENCE_DELIMITER,
    SEQUENCE_VRS,
    SHORT_VRS,
    UNDEFINED,
    VRS,
    Budgets,
    Wanted,
    WantedContent,
    WantedOfClasses,
    WantedOfConcepts,
)
from dicom2fhir.dicom.element_encoding import (
    BIG,
    FIRST_DATA_GROUP,
    LITTLE,
    Unpack,
    behind_sequence_delimiter,
    encoding_in_un,
    measure,
    own_encoding,
    value_at,
)
from dicom2fhir.dicom.substitutes import CUT, DAMAGED, NO_VALUE, TOO_LONG
from dicom2fhir.dicom.walk_state import Damaged, OpenItem, OpenSequence, Short
from dicom2fhir.dicom.wrong_vr import recoded
from dicom2fhir.errors import BudgetExceeded
from dicom2fhir.model import Raw

_FIRST_BULK_GROUP = 0x0042
_UNKNOWN_VR_COST, _SEQUENCE_COST, _ITEM_COST, _VALUE_COST = 4, 2, 8, 4
"""Additional cost, in elements of the budget, of an element of unknown VR, a sequence, an item and a value that are
taken, because they take longer to read or to decode."""
_ITEM_ELEMENT, _END_ELEMENT = ITEM & 0xFFFF, SEQUENCE_DELIMITER & 0xFFFF
_BYTES_OF_AN_ELEMENT = 8
"""This many bytes of a value that is taken count as one more element, because they will be decoded."""
_NOTHING: Wanted = {}


class ElementWalk:
    """The part of :class:`~dicom2fhir.dicom.walk.Walk` that walks, until ``Short`` or ``Damaged`` stops it.

    It keeps its state within sequences, so that it can continue when more bytes have arrived.
    """

    def __init__(self, big: bool, budgets: Budgets, wanted: Wanted) -> None:
        self.data = b""
        self.offset = self.guesses = 0
        self.budgets = budgets
        self.elements_left = budgets.elements
        self.is_final = self.is_waiting = False
        self.ended_at: int | None = None
        self._unpack = BIG if big else LITTLE
        self._wanted = wanted
        self._open: list[OpenSequence] = []
        """Sequences in which the walk waits for more bytes, the innermost first."""

    def begin(self, explicit: bool, taken: Raw) -> None:
        """Set whether elements have VRs, and where to put the wanted values."""
        self.explicit = explicit
        self._taken = taken

    def _elements(
        self,
        pos: int,
        until: int,
        limit: int,
        is_delimited: bool,
        explicit: bool,
        unpack: Unpack,
        wanted: Wanted,
        taken: Raw,
        depth: int,
    ) -> int:
        """Walk over the elements of the data set, or of an item that ends at or before ``limit``."""
        if self._open:
            pos = self._items(pos, *self._open.pop())
            if self.ended_at is not None:
                return pos
        data = self.data
        edge = min(limit, len(data))
        with_vr, without_vr, long = unpack
        longest = self.budgets.value_bytes
        left = self.elements_left
        while pos < until:
            start, before = pos, left
            if pos + 8 > edge:
                raise self._stop(start, pos + 8, limit, left)
            if explicit:
                group, element, vr, length = with_vr(data, pos)
            else:
                group, element, length = without_vr(data, pos)
                vr = b""
            tag = group << 16 | element
            left -= 1
            if left < 0:
                self._refuse_elements()
            if not FIRST_DATA_GROUP <= group < _FIRST_BULK_GROUP:
                if not depth and tag in LAST_ELEMENTS and (tag != PER_FRAME_FUNCTIONAL_GROUPS or not wanted.get(tag)):
                    self.elements_left = before
                    if tag == ENCAPSULATED_DOCUMENT and self.budgets.document_bytes:
                        self._take_document(start, wanted.get(tag))
                    self.ended_at = start
                    return start
                if group == ITEM_GROUP and depth:
                    self.elements_left = left
                    if is_delimited and tag in DELIMITERS:
                        # if the item's own delimiter is missing, the next one shows that it has ended
                        return pos + 8 if tag == ITEM_DELIMITER else pos
                    if tag not in DELIMITERS or tag == ITEM:
                        raise Damaged(start)
                if group == ITEM_GROUP or group < FIRST_DATA_GROUP:
                    vr, length = own_encoding(data, pos, unpack)
            pos += 8
            if vr in SHORT_VRS:  # most elements
                pass
            elif vr in LONG_VRS:
                if pos + 4 > edge:
                    raise self._stop(start, pos + 4, limit, before)
                (length,) = long(data, pos)
                pos += 4
            elif vr:
                measured = measure(data, start, limit, self.is_final, longest, unpack)
                if measured is None:
                    raise self._stop(start, start + 8, limit, before)
                pos, length = measured
                left -= _UNKNOWN_VR_COST
                self.guesses += 1
                vr = b""
            inner = wanted.get(tag, _NOTHING)
            stop = pos + length
            if inner is _NOTHING and stop <= edge:
                pos = stop
                continue
            if stop > edge:
                if length == UNDEFINED:
                    if group == ITEM_GROUP:
                        raise Damaged(start)
                    if pos + 8 > edge:
                        raise self._stop(start, pos + 8, limit, before)
                    self.elements_left = left - _SEQUENCE_COST
                    pos = self._open_end(start, pos, limit, vr, explicit, unpack, inner, taken, tag, depth, before)
                    if self.ended_at is not None:
                        return pos
                    left = self.elements_left
                    continue
                if stop > limit:
                    self.elements_left = left
                    raise Damaged(start)
                if (inner is None or type(inner) is bytes) and length <= longest:
                    raise self._stop(start, stop, limit, before)
            if inner is None or isinstance(inner, bytes):
                if vr == b"SQ" and length:
                    taken[tag] = NO_VALUE
                elif length > longest:
                    taken[tag] = TOO_LONG
                else:
                    taken[tag] = data[pos:stop]
                    if inner and vr and vr != inner:  # rare
                        taken[tag] = recoded(data[pos:stop], vr, inner, unpack is BIG)
                    left -= _VALUE_COST + length // _BYTES_OF_AN_ELEMENT
            elif inner:
                if isinstance(inner, (WantedOfClasses, WantedOfConcepts)):
                    self.guesses += 1
                    if not (inner := inner.of(self._taken, taken)):
                        pos = stop
                        continue
                items: list[Raw] = []
                taken[tag] = items
                if length:
                    if vr not in SEQUENCE_VRS:
                        taken[tag] = DAMAGED
                    else:
                        self.elements_left = left - _SEQUENCE_COST
                        is_unknown = explicit and vr == b"UN"
                        has_vrs, order = encoding_in_un(data, pos, unpack) if is_unknown else (explicit, unpack)
                        pos = self._items(pos, tag, start, stop, False, has_vrs, order, inner, items, taken, depth + 1)
                        if self.ended_at is not None:
                            return pos
                        left = self.elements_left
                        continue
            pos = stop
        self.elements_left = left
        return pos

    def _take_document(self, start: int, wanted: object) -> None:
        """Take the content of an encapsulated document, if it is short enough; the header ends before it in any case.

        Nothing is taken if the data set ends within it.
        """
        if not isinstance(wanted, WantedOfClasses) or not wanted.of(self._taken, {}):
            return
        budgets = self.budgets
        begin, length = value_at(self.data, start, self.explicit, self._unpack) or (0, 0)
        stop, cost = begin + length, _VALUE_COST + length // _BYTES_OF_AN_ELEMENT
        is_too_long = self.offset + stop > min(budgets.header_bytes, budgets.inflated_bytes)
        is_too_long |= self.elements_left - cost < budgets.elements * WantedContent.left
        if begin and (is_too_long or length > budgets.document_bytes):
            self._taken[ENCAPSULATED_DOCUMENT] = TOO_LONG
        elif begin and stop <= len(self.data):
            self._taken[ENCAPSULATED_DOCUMENT] = self.data[begin:stop]
            self.elements_left -= cost
        elif not self.is_final:
            raise Short(start)

    def _stop(self, start: int, needed: int, limit: int, left: int) -> Exception:
        """The exception to wait for the bytes up to ``needed``, or for damage if ``limit`` is before that."""
        self.elements_left = left
        return Damaged(start) if needed > limit else Short(start)

    def _open_end(
        self,
        start: int,
        pos: int,
        limit: int,
        vr: bytes,
        explicit: bool,
        unpack: Unpack,
        wanted: Wanted | WantedOfClasses | WantedOfConcepts | bytes | None,
        into: Raw,
        tag: int,
        depth: int,
        before: int,
    ) -> int:
        """Walk over a value of undefined length."""
        if isinstance(wanted, (WantedOfClasses, WantedOfConcepts)):
            self.guesses += 1
            wanted = wanted.of(self._taken, into)
        has_vrs, order = (explicit, unpack) if vr != b"UN" else encoding_in_un(self.data, pos, unpack)
        group, element, _ = order[1](self.data, pos)
        is_sequence = group << 16 | element in (ITEM, SEQUENCE_DELIMITER)
        items: list[Raw] = []
        if wanted is None or isinstance(wanted, bytes):
            into[tag] = NO_VALUE
            wanted = _NOTHING
        elif wanted:
            into[tag] = items if is_sequence else DAMAGED
        if is_sequence:
            return self._items(pos, tag, start, limit, True, has_vrs, order, wanted, items, into, depth + 1)
        most = min(pos + self.budgets.value_bytes, limit)
        end = behind_sequence_delimiter(self.data, pos, most, order)  # without items nothing is nested
        if end is not None:
            return end
        if self.is_final or len(self.data) >= most:
            raise Damaged(start)
        self.elements_left = before
        raise Short(start)

    def _items(
        self,
        pos: int,
        tag: int,
        start: int,
        limit: int,
        is_delimited: bool,
        explicit: bool | None,
        unpack: Unpack,
        wanted: Wanted,
        items: list[Raw],
        into: Raw,
        depth: int,
        item: OpenItem | None = None,
    ) -> int:
        """Walk over the items of a sequence, beginning with ``item`` if given; see :class:`OpenSequence`."""
        if depth > self.budgets.depth:
            raise BudgetExceeded(f"Sequences are nested deeper than {self.budgets.depth}.")
        data = self.data
        edge = min(limit, len(data))
        left = self.elements_left
        header = unpack[1]
        least = None
        if isinstance(wanted, WantedContent):
            least = int(wanted.left * self.budgets.elements)
        if is_in_item := item is not None:
            stop, is_open, has_vrs, taken = item
        try:
            while is_in_item or is_delimited or pos < limit:
                if not is_in_item:
                    if pos + 8 > edge:
                        raise self._stop(pos, pos + 8, limit, left)
                    group, element, length = header(data, pos)
                    begin = pos + 8
                    left -= 1
                    if left < 0:
                        self._refuse_elements()
                    if group != ITEM_GROUP or element != _ITEM_ELEMENT:
                        self.elements_left = left
                        if group << 16 | element not in DELIMITERS:
                            raise Damaged(pos)
                        pos = begin
                        if is_delimited and element == _END_ELEMENT:
                            return pos
                        continue  # a superfluous delimiter
                    is_open = length == UNDEFINED
                    stop = limit if is_open else begin + length
                    if stop > limit:
                        self.elements_left = left
                        raise Damaged(pos)
                    if not wanted and not is_open:
                        pos = stop
                        continue
                    if explicit is not None:
                        has_vrs = explicit
                    elif begin + 6 > edge and begin + 6 <= stop:
                        raise self._stop(pos, begin + 6, limit, left + 1)
                    else:
                        has_vrs = data[begin + 4 : begin + 6] in VRS
                    is_in_item, taken = True, {}
                    if wanted:
                        items.append(taken)
                        left -= _ITEM_COST
                        if least is None:
                            if len(items) == self.budgets.items:
                                wanted = _NOTHING
                        elif left < least:
                            items[-1], wanted = CUT, _NOTHING
                    self.elements_left = left
                    pos = begin
                try:
                    pos = self._elements(pos, stop, stop, is_open, has_vrs, unpack, wanted, taken, depth)
                except Damaged:
                    if is_open:
                        raise
                    if wanted:
                        into[tag], wanted = DAMAGED, _NOTHING
                    pos = stop
                is_in_item = False
                left = self.elements_left
                if tag == PER_FRAME_FUNCTIONAL_GROUPS and depth == 1:
                    self.ended_at = start
                    return pos
        except Short:
            item = OpenItem(stop, is_open, has_vrs, taken) if is_in_item else None
            self._open.append(
                OpenSequence(tag, start, limit, is_delimited, explicit, unpack, wanted, items, into, depth, item)
            )
            raise
        except Damaged:
            is_of_frames = tag == PER_FRAME_FUNCTIONAL_GROUPS and depth == 1
            if is_delimited and not is_of_frames:
                raise
            if wanted:
                into[tag] = DAMAGED
            if is_of_frames:
                self.ended_at = start
            return limit
        self.elements_left = left
        return pos

    def _refuse_elements(self) -> None:
        raise BudgetExceeded(f"The data set has more than {self.budgets.elements} elements.")
