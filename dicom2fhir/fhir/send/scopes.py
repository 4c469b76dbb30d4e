"""Which of the scopes that were asked for an access token does not have.

Source: RFC 6749, section 3.3; SMART App Launch 2.2, "Scopes and launch context".
"""

from __future__ import annotations

import re

_SMART = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]*)\.(read|write|\*|(?=[cruds])c?r?u?d?s?)(?:\?.*)?")
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}


def missing_scopes(asked: str, granted: str) -> list[str]:
    """The words of ``asked`` that ``granted`` does not cover.

    An authorization server may answer with other words for the same: the permissions of a resource one by one, or the
    resources that it has instead of ``*``. Which resources it has is not known here, so that any of them is enough.

    Parameters
    ----------
    asked, granted
        Scopes, separated by blanks.
    """
    words = granted.split()
    return [word for word in asked.split() if word not in words and not _is_covered(word, words)]


def _is_covered(asked: str, granted: list[str]) -> bool:
    wanted = _SMART.fullmatch(asked)
    if not wanted:
        return False
    found = set()
    for have in filter(None, map(_SMART.fullmatch, granted)):
        if have[1] == wanted[1] and (have[2] in ("*", wanted[2]) or wanted[2] == "*"):
            found |= _permissions(have[3])
    return _permissions(wanted[3]) <= found


def _permissions(text: str) -> set[str]:
    return set(_VERSION_1.get(text, text))
