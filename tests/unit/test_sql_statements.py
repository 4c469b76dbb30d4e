"""The databases of stores have the same statements, each in its own words."""

from __future__ import annotations

from importlib import resources

from dicom2fhir.store.postgres.schema import queries as in_postgres
from dicom2fhir.store.sql.statements import by_name
from dicom2fhir.store.sqlite.schema import queries as in_sqlite

OF_ONE_PROCESS = {"attached_writes", "count_attached_write", "revisions"}
"""What one process needs to know of the others that write the file, and of its loss."""
OF_SEVERAL_DAEMONS = {
    *("enter_node", "leave_node", "is_owned"),
    *("is_somebody_gone", "forget_dead_nodes", "inherit_counters"),
    *("declare", "declared_last", "agree"),
}
OF_A_DATABASE_FAR_AWAY = {"arrive_known"}
"""Several statements in one round trip."""


def test_a_statement_of_one_database_is_there_in_the_other() -> None:
    assert in_sqlite().keys() - in_postgres().keys() == OF_ONE_PROCESS
    assert in_postgres().keys() - in_sqlite().keys() == OF_SEVERAL_DAEMONS | OF_A_DATABASE_FAR_AWAY


def test_a_statement_stands_once_if_it_is_the_same_in_both_databases() -> None:
    same, sqlite, postgres = (
        by_name(resources.files(f"dicom2fhir.store.{room}").joinpath("queries.sql").read_text("utf-8"))
        for room in ("sql", "sqlite", "postgres")
    )
    assert same.keys().isdisjoint(sqlite.keys() | postgres.keys())
    assert {name for name in sqlite.keys() & postgres.keys() if sqlite[name].split() == postgres[name].split()} == set()
