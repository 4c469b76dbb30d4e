"""A fingerprint of the reader: files that were read with another one may give more data when they are read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import blake2b

from dicom2fhir.dicom.attributes import LEVELS, SPECIFIC_CHARACTER_SET, UIDS, Attribute
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS

READER_REVISION = 2
"""Revision of the code that reads and decodes. Raise it with a change after which a file may give another record, or a
refused file may be read. Changes of the attribute table are detected automatically. 0.1.0 stored no fingerprint."""


@cache
def fingerprint() -> str:
    """The fingerprint of this version: equal for versions that make equal records from equal files."""
    table = [f"{level}: {line}" for level, attributes in LEVELS.items() for line in _lines(attributes)]
    table += [*_lines((*UIDS, SPECIFIC_CHARACTER_SET)), repr(sorted(FUNCTIONAL_GROUPS.items()))]
    table += [f"{sop_class}: {line}" for sop_class, content in CONTENT.items() for line in _lines(content)]
    digest = blake2b("\n".join(table).encode(), digest_size=8).hexdigest()
    return f"{READER_REVISION}-{digest}"


def _lines(attributes: Iterable[Attribute]) -> Iterator[str]:
    """The properties of attributes that affect a record; the value for a study is chosen later."""
    for attribute in attributes:
        yield repr(replace(attribute, pick="common", follows="", others_to="", noted_as=""))
