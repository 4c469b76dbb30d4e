"""Where a store is: a file, or a database."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dicom2fhir.errors import ConfigError
from dicom2fhir.wiring.store_options import StoreAddress


def test_a_database_is_named_without_its_secrets() -> None:
    address = StoreAddress(Path("/state"), "postgresql://user:secret@db.example.org:5433/bridge?sslpassword=secret")
    assert str(address) == "postgresql://db.example.org:5433/bridge"
    with pytest.raises(ConfigError, match="pg_dump"):
        address.path  # noqa: B018


def test_a_file_lies_in_the_folder() -> None:
    assert str(StoreAddress(Path("/state"))) == "/state/store.db"


def test_without_psycopg_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'dicom2fhir-bridge\[postgres\]'"):
        StoreAddress(Path("/state"), "postgresql://db/bridge").own()
