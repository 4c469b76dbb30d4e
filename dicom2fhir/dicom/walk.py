"""Walks over a data set, element by element, by their lengths, including sequences (PS3.5 section 7).

A walk can stop anywhere and continue when more bytes arrive, without walking over elements twice. Damage only affects
the innermost sequence or item whose end is known; the data set is refused only if the next element cannot be found.
"""

from __future__ import annotations

from dicom2fhir.dicom.element_walk import ElementWalk
from dicom2fhir.dicom.walk_state import Damaged, Short
from dicom2fhir.errors import CannotUnderstand

_ENDLESS = 1 << 62


class Walk(ElementWalk):
    """One pass over one data set.

    Attributes
    ----------
    data
        The available bytes. Positions are relative to the first of them.
    offset
        Position of ``data`` in the data set.
    elements_left
        Rest of the budget.
    guesses
        Number of elements whose meaning depends on other bytes than their own.
    is_final
        Whether the data set ends at the end of ``data``.
    is_waiting
        Whether more bytes are needed.
    ended_at
        Position of the first element after the header, when the walk has reached it.
    explicit
        Whether elements have VRs; set by :meth:`begin`.
    """

    @property
    def is_in_sequence(self) -> bool:
        """Whether the walk is within a sequence."""
        return bool(self._open)

    def forget(self, count: int) -> None:
        """Drop the first ``count`` bytes, which were walked over."""
        self.data = self.data[count:]
        self.offset += count
        self._open = [sequence.shifted(count) for sequence in self._open]

    def elements(self, pos: int, until: int) -> int:
        """Walk from ``pos`` to ``until``, or to the end of the element that begins before it.

        Returns
        -------
        int
            The position: before ``until`` if the walk waits for more bytes or has ended, and after the end of ``data``
            if the bytes up to the position are not needed.

        Raises
        ------
        CannotUnderstand
            The position of the next element cannot be determined.
        BudgetExceeded
            There are too many elements, or sequences within sequences.
        """
        self.is_waiting = False
        try:
            return self._elements(
                pos, until, _ENDLESS, False, self.explicit, self._unpack, self._wanted, self._taken, 0
            )
        except Short as short:
            self.is_waiting = True
            return short.pos
        except Damaged as damage:
            raise CannotUnderstand(f"The end of {self._name(damage.pos)} cannot be determined.") from None

    def element(self, pos: int) -> int:
        """Walk over one element; see :meth:`elements`."""
        return self.elements(pos, pos + 1)

    def rest(self, pos: int) -> CannotUnderstand | None:
        """The error if bytes are left over when the data set has ended."""
        if pos <= len(self.data) and not self.is_in_sequence and not self.data[pos:].strip(b"\0"):
            return None  # nothing, or padding that is too short for an element
        return CannotUnderstand(f"The data set ends within {self._name(pos)}.")

    def _name(self, pos: int) -> str:
        """The element at a position, for messages."""
        where = f"at byte {self.offset + pos}"
        if pos + 8 > len(self.data):
            return f"an element {where}"
        group, element, _ = self._unpack[1](self.data, pos)
        return f"the element ({group:04X},{element:04X}) {where}"
