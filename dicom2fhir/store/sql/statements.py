"""Named statements, run on one connection. Each database has them under the same names, many in the same words."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from importlib import resources
from typing import Any

Row = tuple[Any, ...]


def statements_of(package: str) -> Mapping[str, str]:
    """The statements of a database by name: of its own ``queries.sql``, and those that are the same in all of them."""
    texts = (resources.files(one).joinpath("queries.sql").read_text("utf-8") for one in (__package__, package))
    same, own = map(by_name, texts)
    return {**same, **own}


def by_name(text: str) -> Mapping[str, str]:
    """The statements of a ``queries.sql``; each begins with a line ``-- name: NAME``."""
    _, *parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], (body.strip() for body in parts[1::2]), strict=True))


class Statements(ABC):
    """A connection with the named statements, for one operation.

    Attributes
    ----------
    wake
        Set by an operation that may have made the next due time earlier.
    claims_of
        UIDs of the studies for which the operation takes or ends a claim.
    """

    def __init__(self) -> None:
        self.wake = False
        self.claims_of: set[str] = set()

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Run the block in a transaction; within another transaction it becomes part of that one."""

    @abstractmethod
    def one(self, name: str, /, **parameters: object) -> Row | None:
        """The first row, or None."""

    @abstractmethod
    def all(self, name: str, /, **parameters: object) -> list[Row]:
        """Every row."""

    @abstractmethod
    def run(self, name: str, /, **parameters: object) -> int:
        """Change rows; their number."""

    @abstractmethod
    def run_many(self, name: str, rows: Iterable[Mapping[str, object]], /) -> None:
        """Run a statement once for each mapping of parameters."""

    @abstractmethod
    def insert(self, name: str, /, **parameters: object) -> int:
        """Add a row to a table with numbered rows; its number."""

    @abstractmethod
    def writes_of_others(self, owns: bool) -> int:
        """A number that is another one if another process may have written since the last call.

        ``owns``: whether this process alone takes claims; if not, it counts as another process for the one that does.
        """
