"""Exceptions that stop a walk over a data set, and its state within sequences while it waits for more bytes."""

from __future__ import annotations

from typing import NamedTuple

from dicom2fhir.dicom.data_elements import Wanted
from dicom2fhir.dicom.element_encoding import Unpack
from dicom2fhir.model import Raw


class Stop(Exception):
    """The walk cannot continue at the element or item at ``pos``."""

    def __init__(self, pos: int) -> None:
        super().__init__()
        self.pos = pos


class Short(Stop):
    """More bytes are needed."""


class Damaged(Stop):
    """The element or item and the bytes after it cannot be read."""


class OpenItem(NamedTuple):
    """An item whose end was not reached.

    Attributes
    ----------
    stop
        It ends at or before this position.
    is_delimited
        Whether a delimiter ends it.
    explicit
        Whether its elements have VRs.
    taken
        The values that were taken from it.
    """

    stop: int
    is_delimited: bool
    explicit: bool
    taken: Raw


class OpenSequence(NamedTuple):
    """A sequence whose end was not reached.

    Attributes
    ----------
    tag, start
        Tag and position of its element.
    limit
        It ends at or before this position.
    is_delimited
        Whether a delimiter ends it.
    explicit
        Whether elements have VRs; None if that is determined for each item.
    wanted
        What is wanted from each item.
    items
        The values that were taken from each item.
    into
        The values that were taken from the data set or item that contains the sequence.
    depth
        Nesting depth of its items.
    item
        The open item; None between two items.
    """

    tag: int
    start: int
    limit: int
    is_delimited: bool
    explicit: bool | None
    unpack: Unpack
    wanted: Wanted
    items: list[Raw]
    into: Raw
    depth: int
    item: OpenItem | None = None

    def shifted(self, count: int) -> OpenSequence:
        """The sequence with positions relative to a byte that is ``count`` bytes later."""
        item = self.item and self.item._replace(stop=self.item.stop - count)
        return self._replace(start=self.start - count, limit=self.limit - count, item=item)
