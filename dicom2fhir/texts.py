"""Text of strangers on its way to a person."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Text as it stands, with what a terminal would obey or hide escaped, but for the characters of ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
