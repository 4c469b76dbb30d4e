"""Where a walk over a data set stops, and where it stands within sequences while it waits for more bytes."""

from __future__ import annotations

from typing import NamedTuple

from dicom2fhir.dicom.data_elements import Wanted
from dicom2fhir.dicom.element_encoding import Unpack
from dicom2fhir.model import Raw


class Stop(Exception):
    """The walk does not go on from the element or item at ``pos``."""

    def __init__(self, pos: int) -> None:
        super().__init__()
        self.pos = pos


class Short(Stop):
    """More bytes are needed."""


class Damage(Stop):
    """It cannot be read, nor what follows it."""


class OpenItem(NamedTuple):
    """An item of which the end was not reached.

    Attributes
    ----------
    stop
        Where it ends at the latest.
    is_delimited
        Whether a delimiter ends it.
    explicit
        Whether its elements have VRs.
    taken
        What was taken of it.
    """

    stop: int
    is_delimited: bool
    explicit: bool
    taken: Raw


class OpenSequence(NamedTuple):
    """A sequence of which the end was not reached.

    Attributes
    ----------
    tag, start
        Of its element, and where that begins.
    limit
        Where it ends at the latest.
    is_delimited
        Whether a delimiter ends it.
    explicit
        Whether elements have VRs; None where each item shows that itself.
    wanted
        What is wanted of each item.
    items
        What was taken of each item.
    into
        What was taken of the data set or item that holds the sequence.
    depth
        How many sequences there are around its items.
    item
        None between two items.
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
        """The same, with positions that count from a later byte."""
        item = self.item and self.item._replace(stop=self.item.stop - count)
        return self._replace(start=self.start - count, limit=self.limit - count, item=item)
