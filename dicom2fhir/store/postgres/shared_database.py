"""An open database that several daemons share; knows nothing of the content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.store.options import Access
from dicom2fhir.store.postgres.agreement import declare
from dicom2fhir.store.postgres.database_clock import DatabaseClock
from dicom2fhir.store.postgres.node import DEAD_AFTER_S, NodeThread, node_name
from dicom2fhir.store.postgres.schema import (
    Connection,
    connect,
    location_of,
    migrate,
    require_finished,
    require_version,
)
from dicom2fhir.store.postgres.statements import PostgresStatements
from dicom2fhir.store.postgres.writer import PostgresWriter, WriteConnection
from dicom2fhir.store.sql.connection_pool import ConnectionPool
from dicom2fhir.store.sql.database import Database
from dicom2fhir.store.sql.statements import Statements
from dicom2fhir.store.statuses import Damage, Room


class SharedDatabase(Database):
    """See :class:`dicom2fhir.store.sql.database.Database`.

    Parameters
    ----------
    url
        The connection URL.
    directory
        See :attr:`dicom2fhir.store.sql.database.Database.directory`.
    access
        ``OWN``: a daemon, beside others.
    clock
        Is set by the clock of the server.
    take_over
        Run once by a daemon before any other read or write.
    release
        Releases what dead daemons had.
    on_roll_back, on_failure
        As of :class:`dicom2fhir.store.sql.writer.GroupWriter`.
    busy_timeout_s
        How long to wait for a lock of another transaction.

    Raises
    ------
    ConfigError
        It is not a URL of PostgreSQL, or the store is of another version.
    StoreUnavailable
        The server does not answer, or its settings do not protect what is acknowledged.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        access: Access,
        *,
        clock: DatabaseClock,
        take_over: Callable[[Statements], None],
        release: Callable[[Statements], None],
        on_roll_back: Callable[[], None],
        on_failure: Callable[[str], None],
        busy_timeout_s: float,
    ) -> None:
        super().__init__()
        self._location = location_of(url)
        self._directory = directory
        self._release = release
        self._forget_rows = on_roll_back
        self._clock_of_server = clock
        self._process = 0
        self._declared: Mapping[str, str] = {}
        self._commit_connection: WriteConnection | None = None
        open_ = partial(connect, url, busy_timeout_s=busy_timeout_s)
        self._pool: ConnectionPool[Connection] = ConnectionPool(lambda: open_(process=self._process, read_only=True))
        with ExitStack() as undo:
            undo.callback(self._pool.close)
            try:
                self._prepare(open_, access)
                if access is not Access.READ:
                    connection = WriteConnection(partial(open_, process=self._process, read_only=False))
                    self._commit_connection = connection
                    self._writer = PostgresWriter(
                        connection, on_commit=self._notify, on_roll_back=on_roll_back, on_failure=on_failure
                    )
                    undo.callback(self._writer.close)
                if access is Access.OWN:
                    self._become_a_node(open_, take_over, undo)
            except psycopg.Error as error:
                raise StoreUnavailable(f"The store {self._location} cannot be opened: {error}") from error
            self._undo = undo.pop_all()

    @property
    def location(self) -> str:
        """The URL without password and options."""
        return self._location

    @property
    def directory(self) -> Path:
        """The folder that was given."""
        return self._directory

    @property
    def room(self) -> Room | None:
        """None: the server looks after its disk."""
        return None

    @property
    def damages(self) -> Sequence[Damage]:
        """None: the server looks after its files."""
        return ()

    def acknowledge_damages(self) -> None:
        """There are none."""

    def look(self) -> None:
        """The server looks after its files, and the node's thread after the connection."""

    @property
    def is_unchecked(self) -> bool:
        """Nothing: the server looks after its files."""
        return False

    @property
    def check_progress(self) -> tuple[int, int]:
        """There are no parts."""
        return 0, 0

    def check_part(self, is_stopping: Callable[[], bool]) -> None:
        """Do nothing."""

    @property
    def is_owned(self) -> bool:
        """Whether at least one daemon uses the store."""
        with self._read() as sql:
            return sql.one("is_owned", dead_after_s=DEAD_AFTER_S) == (True,)

    def declare_destinations(self, destinations: Mapping[str, str], *, may_differ: bool) -> None:
        """See :meth:`dicom2fhir.store.sql.database.Database.declare_destinations`."""
        self._commit(partial(declare, destinations=destinations, may_differ=may_differ))
        self._declared = destinations

    def close(self) -> None:
        """See :meth:`dicom2fhir.store.sql.database.Database.close`; what this daemon had is released."""
        self._undo.close()

    def _prepare(self, open_: Callable[..., Connection], access: Access) -> None:
        with open_(read_only=access is Access.READ) as connection:
            require_finished(connection, self._location)
            if access is Access.OWN:
                migrate(connection, self._location)
            require_version(connection, self._location)
            self._clock_of_server.read(connection)
            if access is not Access.READ:
                (number,) = connection.execute("SELECT nextval('process_number')").fetchone() or (0,)
                self._process = int(str(number))

    def _become_a_node(
        self, open_: Callable[..., Connection], take_over: Callable[[Statements], None], undo: ExitStack
    ) -> None:
        def enter(sql: Statements) -> None:
            sql.run("enter_node", name=node_name())
            sql.run("forget_dead_nodes", dead_after_s=DEAD_AFTER_S)
            take_over(sql)
            sql.run("inherit_counters")

        self._commit(enter)
        undo.callback(self._leave)
        node = NodeThread(
            self._process,
            partial(open_, read_only=False),
            on_beat=self._beat,
            on_buried=self._come_back,
            on_due=self._call_subscribers,
            own_backend=lambda: self._commit_connection.backend if self._commit_connection else 0,
        )
        node.start()
        undo.callback(node.stop)

    def _come_back(self) -> None:
        def enter(sql: Statements) -> None:
            sql.run("enter_node", name=node_name())
            if self._declared:
                declare(sql, self._declared, may_differ=True)
            self._forget_rows()  # associations that it knows to hold a study do so no more

        self._commit(enter)

    def _leave(self) -> None:
        def leave(sql: Statements) -> None:
            sql.run("leave_node")
            self._release(sql)

        with suppress(StoreUnavailable):  # the others notice it by its heartbeat
            self._commit(leave)

    def _beat(self, connection: Connection) -> None:
        self._clock_of_server.read(connection)
        with self._read() as sql:
            if sql.one("is_somebody_gone", dead_after_s=DEAD_AFTER_S) != (True,):
                return
        self._commit(self._bury)

    def _bury(self, sql: Statements) -> None:
        sql.run("forget_dead_nodes", dead_after_s=DEAD_AFTER_S)
        self._release(sql)
        sql.run("inherit_counters")

    def _statements(self, connection: WriteConnection) -> Statements:
        return PostgresStatements(connection)

    @contextmanager
    def _read(self) -> Iterator[Statements]:
        connection = None
        try:
            connection = self._snapshot()
            yield PostgresStatements(connection)
        except psycopg.Error as error:
            raise StoreUnavailable(f"The store cannot be read: {error}") from error
        finally:
            if connection:
                self._pool.give_back(connection)

    def _snapshot(self) -> Connection:
        """A connection in a transaction; those that the server has closed are discarded."""
        connection = self._pool.borrow()
        try:
            connection.execute("BEGIN")
        except psycopg.OperationalError:
            connection.close()
            self._pool.discard_idle()
            connection = self._pool.borrow()
            connection.execute("BEGIN")
        return connection

    def _check_space(self) -> None:
        """The server refuses what it has no room for."""

    def _note_wake(self, sql: Statements) -> None:
        super()._note_wake(sql)
        if sql.wake and isinstance(sql, PostgresStatements):
            sql.notify()

    def _call_subscribers(self) -> None:
        self._wake = True
        self._notify()
