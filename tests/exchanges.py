"""What the bridge asks a FHIR server for, request by request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import orjson

from dicom2fhir.fhir.send.http import Answer, Http


@contextmanager
def recorded() -> Iterator[list[str]]:
    """All HTTP exchanges of the block: ``GET``, or the type of the Bundle that was posted."""
    seen: list[str] = []
    exchange = Http.exchange

    def record(self: Http, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        seen.append(orjson.loads(body)["type"] if body else f"{method} {url.rpartition('/')[2].partition('?')[0]}")
        return exchange(self, method, url, headers, body)

    with patch.object(Http, "exchange", record):
        yield seen
