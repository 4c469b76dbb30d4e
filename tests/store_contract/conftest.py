"""Every test of the contract runs against every kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store_contract.bench import EVERY_KIND, KINDS, Bench


@pytest.fixture(params=EVERY_KIND)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(KINDS[request.param](tmp_path))
    yield made
    made.store.close()
