"""Text for a person: numbers of things, and what strangers sent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable


def printable(text: str, keep: str = "") -> str:
    """Text as it stands, with what a terminal would obey or hide escaped, but for the characters of ``keep``.

    Bytes of a file's name that are no UTF-8 are written as bytes, however Python holds them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte, by the error handler "surrogateescape"
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def token(text: str) -> str:
    """What stands in a log for a text that may name a patient: equal for equal texts."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]


def quoted(issues: Iterable[str]) -> str:
    """A server's own words behind a message. For people, not for logs: they may echo patient data."""
    words = "; ".join(issues)
    return f"; it says: {words}" if words else ""


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``1 study``, ``2,000 studies``, ``2 series``, ``2 addresses``."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("series"):
        return noun
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
