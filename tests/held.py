"""How much memory an object holds."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any


def held_bytes(held: object) -> int:
    """Bytes of an object and of all that it refers to, but for classes and modules."""
    seen: dict[int, Any] = {}
    left: list[Any] = [held]
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType):
            seen[id(one)] = one
            left += gc.get_referents(one)
    return sum(map(sys.getsizeof, seen.values()))
