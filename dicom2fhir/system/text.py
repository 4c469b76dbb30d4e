"""Text for display: counted nouns, and text from peers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable


def printable(text: str, keep: str = "") -> str:
    """Text with unprintable characters escaped, except those of ``keep``: a terminal would obey or hide them.

    Bytes of a file name that are not UTF-8 are written as bytes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte, by the error handler "surrogateescape"
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def token(text: str) -> str:
    """A hash that replaces a text in the log that may name a patient; equal for equal texts."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]


def quoted(issues: Iterable[str]) -> str:
    """The server's issues, to be appended to a message. Not for logs: they may echo patient data."""
    words = "; ".join(issues)
    return f"; the server says: {words}" if words else ""


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 study``, ``2,000 studies``, ``2 series``, ``2 addresses``."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("series"):
        return noun
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
