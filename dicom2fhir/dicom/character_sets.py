"""Text by Specific Character Set (0008,0005): PS3.3 section C.12.1.1.2 and PS3.5 section 6.1.2.

Only the Defined Terms and a closed list of aliases name a character set. Python has more codecs, but some of them are
not character sets, and one takes time quadratic in the length. No function here raises, whatever the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Encodings = tuple[str, ...]
"""Python codecs: first the one for text before any escape sequence, then those for the other values."""

_ASCII = "ascii"
DEFAULT: Encodings = (_ASCII,)
"""ISO_IR 6, if no character set is named."""

_REGISTERED: Mapping[str, str] = {
    "6": _ASCII,
    "13": "shift_jis",
    "58": "gb2312",
    "87": "iso2022_jp",
    "100": "latin_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "149": "euc_kr",
    "159": "iso2022_jp_2",
    "166": "tis_620",
    "192": "utf_8",
    "203": "iso8859_15",
}
"""ISO registration number of tables C.12-2 to C.12-5 -> codec. The single bytes of Shift JIS are JIS X 0201."""
_ONLY_EXTENDED = frozenset({"58", "87", "149", "159"})
"""Multi-byte character sets that need code extensions (table C.12-4)."""
_TERM = re.compile(r"ISO(?:2022)?IR([0-9]+)")
_OTHERS: Mapping[str, str] = {
    "GB18030": "gb18030",
    "GBK": "gbk",
    # found in files instead of a Defined Term
    "ISO2022GBK": "gbk",
    "ISO202258": "gb2312",
    "GB2312": "gb2312",
    "UTF8": "utf_8",
    "ASCII": _ASCII,
    "USASCII": _ASCII,
    "LATIN1": "latin_1",
    "ISO88591": "latin_1",
    "ISO88592": "iso8859_2",
    "ISO88593": "iso8859_3",
    "ISO88594": "iso8859_4",
    "ISO88595": "iso8859_5",
    "ISO88596": "iso8859_6",
    "ISO88597": "iso8859_7",
    "ISO88598": "iso8859_8",
    "ISO88599": "iso8859_9",
    "ISO885915": "iso8859_15",
    "WINDOWS1250": "cp1250",
    "WINDOWS1251": "cp1251",
    "WINDOWS1252": "cp1252",
    "WINDOWS1253": "cp1253",
    "WINDOWS1254": "cp1254",
    "TIS620": "tis_620",
    "SHIFTJIS": "shift_jis",
    "EUCKR": "euc_kr",
    "BIG5": "big5",
}
"""Other names, without separators -> codec."""
_SEPARATORS = str.maketrans("", "", " _-")
_STAND_ALONE = frozenset({"utf_8", "gbk", "gb18030"})
"""Multi-byte character sets without code extensions (table C.12-5)."""

_ESCAPES: Mapping[bytes, str] = {
    b"\x1b(B": _ASCII,
    b"\x1b(J": "shift_jis",
    b"\x1b)I": "shift_jis",
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620",
    b"\x1b-b": "iso8859_15",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)A": "gb2312",
    b"\x1b$)C": "euc_kr",
}
"""Escape sequence of tables C.12-3 and C.12-4 -> codec."""
_KNOWING_ESCAPES = frozenset({"iso2022_jp", "iso2022_jp_2"})
"""Codecs that interpret the escape sequences themselves."""
_PARTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_RESETS = re.compile(rb"[\r\n\t\f]")
"""Characters that end the effect of an escape sequence (PS3.5 section 6.1.2.5.3). The delimiters of PN are the same in
every G0 set."""

_BYTES_A_STEP = 16
"""This many bytes that are not in their character set take as long to decode as one escape sequence with its text."""
_C1 = re.compile("[\x80-\x9f]")
"""Control characters that DICOM does not use (PS3.5 section 6.1.3): text with them is not in the character set."""
_STRAY = {0xDC00 + byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0x100)}
"""Code point from the error handler ``surrogateescape`` -> character of the byte in Windows-1252, or in Latin-1."""


def defined_terms() -> tuple[str, ...]:
    """The Defined Terms of tables C.12-2 to C.12-5 that are read."""
    extended = [f"ISO 2022 IR {number}" for number, codec in _REGISTERED.items() if codec not in _STAND_ALONE]
    single = [f"ISO_IR {number}" for number in _REGISTERED if number not in _ONLY_EXTENDED]
    return (*single, *extended, "GB18030", "GBK")


def encodings(names: Sequence[str]) -> tuple[Encodings, str]:
    """The codecs for the values of Specific Character Set, and what is wrong with these values, or ``""``.

    The case and the separators of a term are ignored ("ISO-IR 100", "iso_ir_100").
    """
    found = [_encoding(name) for name in names]
    known = [encoding for encoding in found if encoding]
    problem = "" if len(known) == len(found) else "names an unknown character set"
    # text begins in the character set of the first value, even if that is unknown
    first = found[0] or _ASCII
    alone = next((encoding for encoding in known if encoding in _STAND_ALONE), "")
    if not alone:
        return tuple(dict.fromkeys([first, *known])), problem
    if len(set(known)) > 1:
        problem = "combines a character set with others although it must be the only one; only it is used"
    return (alone,), problem


def _encoding(name: str) -> str:
    """The codec of one term; ``""`` if it is unknown."""
    plain = name.translate(_SEPARATORS).upper()
    if not plain:
        return _ASCII
    term = _TERM.fullmatch(plain)
    return (_REGISTERED if term else _OTHERS).get(term[1] if term else plain, "")


def decode(value: bytes, by: Encodings, steps: int) -> tuple[str, bool, int]:
    """Decode text in the named character sets, or else in one that it appears to be in.

    Parameters
    ----------
    steps
        Budget for escape sequences and stray bytes, each of which costs a call. A value that needs more is decoded as
        UTF-8 or else as Latin-1, which accepts any bytes.

    Returns
    -------
    tuple[str, bool, int]
        The text, whether it was in the named character sets, and the steps that are left.
    """
    has_escapes = b"\x1b" in value
    if not has_escapes:
        text = _as_named(value, by[0])
        if text is not None:
            return text, True, steps
    taken = value.count(b"\x1b") + len(value) // _BYTES_A_STEP
    if taken > steps:
        return _quickly(value), False, steps
    text = _as_named(value, by[0]) if has_escapes else None
    return (_guessed(value, by), False, steps - taken) if text is None else (text, True, steps - taken)


def _quickly(value: bytes) -> str:
    try:
        return value.decode("utf_8")
    except UnicodeError:
        return value.decode("latin_1")


def _as_named(value: bytes, first: str) -> str | None:
    """Decode text in the named character sets; None if it is not in them."""
    try:
        text = (
            "".join(_part(part, first) for part in _PARTS.findall(value)) if b"\x1b" in value else value.decode(first)
        )
    except UnicodeError:
        return None
    return None if _C1.search(text) else text


def _part(part: bytes, first: str) -> str:
    """Decode text up to the next escape sequence, by the one at its beginning."""
    if not part.startswith(b"\x1b"):
        return part.decode(first)
    code = part[: 4 if part.startswith((b"\x1b$(", b"\x1b$)")) else 3]
    encoding = _ESCAPES.get(code)
    if encoding is None:
        raise UnicodeError("unknown escape sequence")
    if encoding in _KNOWING_ESCAPES:
        return part.decode(encoding)
    reset = _RESETS.search(part)
    end = reset.start() if reset else len(part)
    return part[len(code) : end].decode(encoding) + part[end:].decode(first)


def _guessed(value: bytes, by: Encodings) -> str:
    """Decode each part by its escape sequence, or else in the character set that it appears to be in."""
    if b"\x1b" not in value:
        return _looks_like(value, by)
    return "".join(_guessed_part(part, by) for part in _PARTS.findall(value))


def _guessed_part(part: bytes, by: Encodings) -> str:
    try:
        return _part(part, by[0])
    except UnicodeError:
        return _looks_like(part, by)


def _looks_like(value: bytes, by: Encodings) -> str:
    """Try UTF-8 first, because other text is hardly ever valid UTF-8; then the other named sets; then the first."""
    for encoding in ("utf_8", *by[1:]):
        try:
            text = value.decode(encoding)
        except UnicodeError:
            continue
        if not _C1.search(text):
            return text
    first = "cp1252" if by[0] in (_ASCII, "latin_1") else by[0]
    try:
        return value.decode(first, "surrogateescape").translate(_STRAY)
    except UnicodeError:  # ISO 2022 codecs report more than the stray bytes, which the error handler rejects
        return value.decode("latin_1")
