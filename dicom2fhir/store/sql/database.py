"""An open database: reading, writing, and telling those who wait for changes. It knows nothing of the content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.sql.writer import GroupWriter
from dicom2fhir.store.statuses import Damage, Room

T = TypeVar("T")
Item = TypeVar("Item")


class Database(ABC):
    """What a store needs of its database."""

    def __init__(self) -> None:
        self._writer: GroupWriter[Any] | None = None
        """None if it was opened to read."""
        self._subscribers: tuple[Callable[[], None], ...] = ()
        self._wake = False

    @property
    @abstractmethod
    def location(self) -> str:
        """Where it is, for messages; contains no secret."""

    @property
    @abstractmethod
    def directory(self) -> Path:
        """The folder on this machine for what the daemon says of itself."""

    @property
    @abstractmethod
    def room(self) -> Room | None:
        """The free space on the disk, if it is a disk of this machine; raises OSError if it does not answer."""

    @property
    @abstractmethod
    def damages(self) -> Sequence[Damage]:
        """Damage notices that were not acknowledged, oldest first."""

    @abstractmethod
    def acknowledge_damages(self) -> None:
        """Delete the notices of :attr:`damages`."""

    @abstractmethod
    def look(self) -> None:
        """Check that the store is still what was opened; called every second."""

    @property
    @abstractmethod
    def is_unchecked(self) -> bool:
        """Whether something is left for :meth:`check_part`."""

    @property
    @abstractmethod
    def check_progress(self) -> tuple[int, int]:
        """How many parts were checked by :meth:`check_part`, and how many there are; none before the first."""

    @abstractmethod
    def check_part(self, is_stopping: Callable[[], bool]) -> None:
        """Check a part of what was too large to be checked at the start; the store fails if that is damaged.

        Raises
        ------
        StoreUnavailable
            It cannot be read now, or ``is_stopping``; the part is left.
        """

    @property
    @abstractmethod
    def is_owned(self) -> bool:
        """Whether a daemon, this process or another, uses the store now."""

    @abstractmethod
    def declare_destinations(self, destinations: Mapping[str, str], *, may_differ: bool) -> None:
        """Tell other daemons that share the store which destinations this one has.

        Parameters
        ----------
        destinations
            A digest of the address of each.
        may_differ
            Whether these replace those of the others.

        Raises
        ------
        StoreInUse
            The destinations of another daemon are in force, and differ.
        """

    @property
    def failure(self) -> str | None:
        """Why the store can no longer be written; None if it can."""
        return self._writer.failure if self._writer else None

    def subscribe(self, callback: Callable[[], None]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.subscribe`."""
        self._subscribers = (*self._subscribers, callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """See :meth:`dicom2fhir.store.base.Store.unsubscribe`."""
        self._subscribers = tuple(one for one in self._subscribers if one != callback)

    @abstractmethod
    def close(self) -> None:
        """Commit waiting writes and close the database; a second call does nothing."""

    @abstractmethod
    def _statements(self, connection: Any) -> Statements:
        """The statements on a connection of the writer."""

    @abstractmethod
    def _read(self) -> AbstractContextManager[Statements]:
        """A snapshot of the store."""

    @abstractmethod
    def _check_space(self) -> None:
        """Raise :class:`~dicom2fhir.errors.OutOfSpace` if more instances must not be stored."""

    def _commit(self, operation: Callable[[Statements], T]) -> T:
        """Run an operation in a transaction; its value, after the commit."""

        def run(connection: Any) -> T:
            sql = self._statements(connection)
            value = operation(sql)
            self._note_wake(sql)
            return value

        return self._require_writer().run(run)

    def _commit_together(self, operation: Callable[[Any, Sequence[Item]], Sequence[T]], item: Item) -> T:
        """See :meth:`dicom2fhir.store.sql.writer.GroupWriter.run_together`."""
        return self._require_writer().run_together(operation, item)

    def _note_wake(self, sql: Statements) -> None:
        self._wake |= sql.wake

    def _require_writer(self) -> GroupWriter[Any]:
        if self._writer is None:
            raise StoreUnavailable(f"The store {self.location} was opened read-only")
        return self._writer

    def _notify(self) -> None:
        if self._wake:
            self._wake = False
            for callback in self._subscribers:
                callback()
