"""Opens the store that the settings name.

Apart from the mapping's options, because commands that only ask the store are not to wait for the mapping to load.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom2fhir.errors import ConfigError, NoStore, StoreInUse
from dicom2fhir.store.options import Access

if TYPE_CHECKING:
    from dicom2fhir.config import Settings
    from dicom2fhir.store.sql.store import SqlStore


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is.

    Attributes
    ----------
    directory
        The folder of the file; with a database, of what the daemon says of itself.
    url
        The database; empty if it is a file.
    """

    directory: Path
    url: str = ""

    @property
    def path(self) -> Path:
        """The store's file.

        Raises
        ------
        ConfigError
            It is in a database.
        """
        if self.url:
            raise ConfigError("The store is in a database, not in a file: use the tools of PostgreSQL (pg_dump)")
        return self.directory / "store.db"

    def __str__(self) -> str:
        if not self.url:
            return str(self.path)
        require_psycopg()
        from dicom2fhir.store.postgres.schema import location_of

        return location_of(self.url)

    def own(self, **options: Any) -> SqlStore:
        """Open it for a daemon."""
        return self._open(Access.OWN, **options)

    def attach(self, **options: Any) -> SqlStore:
        """Open it for short writes, whether a daemon runs or not."""
        return self._open(Access.ATTACH, **options)

    def open_readonly(self, **options: Any) -> SqlStore:
        """Open it to read, whether a daemon runs or not."""
        return self._open(Access.READ, **options)

    def attach_or_make(self, **options: Any) -> SqlStore:
        """As :meth:`attach`; a store that does not exist is made."""
        try:
            return self.attach(**options)
        except NoStore:
            with suppress(StoreInUse):  # a daemon makes it at this moment
                self.own(**options).close()
        return self.attach(**options)

    def _open(self, access: Access, **options: Any) -> SqlStore:
        if self.url:
            require_psycopg()
            from dicom2fhir.store.postgres.store import PostgresStore

            options.pop("min_free_bytes", None)
            return PostgresStore(self.url, self.directory, access=access, **options)
        from dicom2fhir.store.sqlite.store import SqliteStore

        return SqliteStore(self.path, access=access, **options)


def require_psycopg() -> None:
    """Raise :class:`ConfigError` if what a store in a database needs is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigError(
            "A store in PostgreSQL needs psycopg; install it with: pip install 'dicom2fhir-bridge[postgres]'"
        ) from None


def store_address(settings: Settings) -> StoreAddress:
    """The store of the settings."""
    return StoreAddress(settings.store.directory, settings.store.url.get_secret_value())


def store_options(settings: Settings) -> dict[str, Any]:
    """The options of a store on which all processes that open it must agree."""
    return {name: getattr(settings.store, name) for name in ("quiet_period_s", "max_wait_s", "min_free_bytes")}
