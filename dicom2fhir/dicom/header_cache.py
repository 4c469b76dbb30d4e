"""A cache of the elements that the headers of a series have in common: a walk skips elements that it knows.

A header of a series repeats the previous one except for a few elements. At the top level of a data set, elements with
equal bytes have equal meaning. So where a run of known elements repeats, the values that were taken from it are reused,
at the cost of a comparison of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, Budgets, Wanted
from dicom2fhir.dicom.walk import Walk
from dicom2fhir.model import Raw

_REMEMBERED_BYTES = 128 * 1024
_REMEMBERED_ELEMENTS = 4000
"""Longer headers are not cached. Most headers of single images have 2 to 100 kB and 60 to 400 elements, which count as
200 to 1000."""
_WORTH = 0.75
"""Share of elements that must be known for runs to be used; with fewer, a plain walk is hardly slower."""
_SPARE = 1
"""How many more elements may come before a run than in the earlier header."""
_TRIES = 3
"""Headers to learn from until one is as expected; a series with similar headers needs two."""
_PAUSES = (2, 16, 128)
"""Headers that are walked without learning after the first, second, and any later failure to learn."""

Encoding = tuple[bool, bool, Wanted, Budgets]
"""Parameters of a walk on which the meaning of bytes depends: explicit VRs, big endian, wanted elements, limits."""


@dataclass(slots=True)
class _Run:
    """Consecutive elements.

    Attributes
    ----------
    gap
        Number of other elements before it.
    data
        Empty for an element whose meaning depends on the bytes after it.
    count
        Number of elements, including those in sequences.
    """

    data: bytes
    taken: Raw
    count: int
    gap: int


class HeaderCache:
    """Elements that were the same in the last headers; for one reader at a time."""

    def __init__(self) -> None:
        self._encoding: Encoding = (True, False, {}, DEFAULT_BUDGETS)
        self._known: frozenset[bytes] = frozenset()
        """First the elements of the last header; then those of them that were in every later header."""
        self._runs: list[_Run] = []
        self._at = self._gap = 0
        """Index of the next run in the present header, and how many elements were walked over since the last run."""
        self._tries = self._pause = self._pauses = 0
        self.length = 0
        """Expected length of the next header in bytes; 0 if unknown."""

    def begin(self, encoding: Encoding) -> None:
        """Begin a header."""
        self._at = self._gap = 0
        if encoding != self._encoding:
            if self._known:
                self._forget()
            self._encoding = encoding

    def jump(self, walk: Walk, pos: int, taken: Raw) -> int:
        """Continue the walk at ``pos`` while runs are left; the position where that ended.

        Raises
        ------
        CannotUnderstand, BudgetExceeded
            As :meth:`Walk.elements`.
        """
        data = walk.data
        runs = self._runs
        end = len(data)
        while self._at < len(runs) and pos < end:
            run = runs[self._at]
            if data.startswith(run.data, pos) and run.count <= walk.elements_left and not walk.is_in_sequence:
                taken.update(run.taken)
                walk.elements_left -= run.count
                pos += len(run.data)
                self._at += 1
                self._gap = 0
            elif self._gap < run.gap + _SPARE:
                pos = walk.element(pos)
                if walk.is_waiting or walk.ended_at is not None:
                    break
                self._gap += 1
            else:
                break
        return pos

    def finish(self, walk: Walk, length: int) -> None:
        """End a header that could be read; learn from it if it was not as expected."""
        if self._runs and self._at == len(self._runs):
            self._tries = self._pauses = 0
        elif self._pause:
            self._pause -= 1
        elif (
            self._tries == _TRIES
            or walk.offset + length > _REMEMBERED_BYTES
            or walk.budgets.elements - walk.elements_left > _REMEMBERED_ELEMENTS
        ):
            self._forget()
        else:
            self._tries += 1
            self._learn(self._elements(walk, length))
            self.length = length

    def _elements(self, before: Walk, length: int) -> list[_Run]:
        """Walk over a header again, element by element; leave out data whose meaning depends on the bytes after it."""
        explicit, big, wanted, budgets = self._encoding
        walk = Walk(big, budgets, wanted)
        walk.data, walk.is_final = before.data, before.is_final
        found = []
        pos = 0
        while pos < length:
            start, left, guesses = pos, walk.elements_left, walk.guesses
            taken: Raw = {}
            walk.begin(explicit, taken)
            pos = walk.element(pos)
            exact = walk.guesses == guesses
            found.append(_Run(before.data[start:pos] if exact else b"", taken, left - walk.elements_left, 0))
        return found

    def _learn(self, elements: list[_Run]) -> None:
        """Make runs of the elements that were known before; if they are few, replace the known elements."""
        known = frozenset(element.data for element in elements if element.data)
        same = known & self._known
        if len(same) >= _WORTH * len(elements):
            self._known = same
            self._runs = _joined(elements, same)
        else:
            self._known = known
            self._runs = []

    def _forget(self) -> None:
        """Start again after a pause; each pause is longer than the one before."""
        self._known = frozenset()
        self._runs = []
        self.length = self._tries = 0
        self._pause = _PAUSES[self._pauses]
        self._pauses = min(self._pauses + 1, len(_PAUSES) - 1)


def _joined(elements: list[_Run], known: frozenset[bytes]) -> list[_Run]:
    """The runs of known elements."""
    runs = []
    gap = 0
    for is_known, some in groupby(elements, lambda element: element.data in known):
        together = list(some)
        if is_known:
            taken: Raw = {}
            for element in together:
                taken.update(element.taken)
            data = b"".join(element.data for element in together)
            runs.append(_Run(data, taken, sum(element.count for element in together), gap))
        else:
            gap = len(together)
    return runs
