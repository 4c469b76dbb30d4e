"""What files are read by, in a short text: files that another reader read may tell more when they are read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import blake2b

from dicom2fhir.dicom.attributes import LEVELS, SPECIFIC_CHARACTER_SET, UIDS, Attribute
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS

READER_REVISION = 2
"""Of the code that reads and decodes. Raise it with a change after which a file may give another record than before, or
be read that was refused; a change of the attribute table counts by itself. 0.1.0 kept no fingerprint."""


@cache
def fingerprint() -> str:
    """The reader of this version: equal for versions that make equal records of equal files."""
    table = [f"{level}: {line}" for level, attributes in LEVELS.items() for line in _lines(attributes)]
    table += [*_lines((*UIDS, SPECIFIC_CHARACTER_SET)), repr(sorted(FUNCTIONAL_GROUPS.items()))]
    digest = blake2b("\n".join(table).encode(), digest_size=8).hexdigest()
    return f"{READER_REVISION}-{digest}"


def _lines(attributes: Iterable[Attribute]) -> Iterator[str]:
    """What matters of attributes for a record; which of several values stands for a study is decided after that."""
    for attribute in attributes:
        yield repr(replace(attribute, pick="common", follows="", others_to=""))
