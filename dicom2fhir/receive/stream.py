"""A data set as it streams in: what stands before Pixel Data is kept, the rest goes by."""

from __future__ import annotations

from dicom2fhir.dicom.header import Budgets, header_length
from dicom2fhir.errors import BudgetExceeded, CannotUnderstand

_FIRST_LOOK_BYTES = 16 * 1024
_LOOK_GROWTH = 4
"""How much more there must be for another look: all looks together cost a third more than the last one."""


class HeaderStream:
    """Keeps a data set up to Pixel Data."""

    __slots__ = ("_budgets", "_data", "_error", "_look_at_bytes", "is_complete", "transfer_syntax")

    def __init__(self, transfer_syntax: str, budgets: Budgets) -> None:
        self.transfer_syntax = transfer_syntax
        self._budgets = budgets
        self._data = bytearray()
        self._look_at_bytes = min(_FIRST_LOOK_BYTES, budgets.header_bytes)
        self._error: CannotUnderstand | None = None
        self.is_complete = False
        """Whether what is still to come is of no use."""

    def write(self, piece: memoryview) -> None:
        """Take the next bytes of the data set."""
        while piece and not self.is_complete:
            room = self._look_at_bytes + 1 - len(self._data)
            self._data += piece[:room]
            if len(self._data) > self._look_at_bytes:
                self._look()
            piece = piece[room:]

    def _look(self) -> None:
        try:
            length = header_length(bytes(self._data), self.transfer_syntax, self._budgets)
        except BudgetExceeded as error:
            self._refuse(error)
            return
        except CannotUnderstand:
            length = len(self._data)  # perhaps only because the rest is still to come
        if length < len(self._data):
            del self._data[length:]
            self.is_complete = True
        elif len(self._data) > self._budgets.header_bytes:
            self._refuse(BudgetExceeded(f"The header is longer than {self._budgets.header_bytes} bytes."))
        self._look_at_bytes = min(_LOOK_GROWTH * self._look_at_bytes, self._budgets.header_bytes)

    def _refuse(self, error: CannotUnderstand) -> None:
        self._error = error
        self._data.clear()
        self.is_complete = True

    def header(self) -> bytes:
        """The data set up to Pixel Data, once all of it was written.

        Raises
        ------
        CannotUnderstand, BudgetExceeded
            It is no data set, or a limit is passed.
        """
        if self._error is not None:
            raise self._error
        data = bytes(self._data)
        return data if self.is_complete else data[: header_length(data, self.transfer_syntax, self._budgets)]
