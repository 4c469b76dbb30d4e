"""HTTP responses that count received bytes, because heads, chunks and trailers have no limits of their own."""

from __future__ import annotations

import io
import socket
from http.client import HTTPResponse, parse_headers
from typing import Any

from dicom2fhir.errors import ServerUnavailable

_SPARE_BYTES = 256 * 1024
"""For heads, interim responses, trailers and bytes that are read ahead."""
_SHARE_OF_CHUNKS = 16
"""The chunk lengths of a body may take 1/16 of its size: they need less if chunks have 100 bytes or more."""


class Meter:
    """The number of bytes that one answer may still take; it grows with the body."""

    def __init__(self) -> None:
        self._left = 0

    def begin(self) -> None:
        """Begin a new answer."""
        self._left = _SPARE_BYTES

    def expect(self, body_bytes: int) -> None:
        """Allow this many more bytes of a body."""
        self._left += body_bytes + body_bytes // _SHARE_OF_CHUNKS

    def count(self, received_bytes: int) -> None:
        """Count received bytes.

        Raises
        ------
        ServerUnavailable
            There are more than the body allows.
        """
        self._left -= received_bytes
        if self._left < 0:
            raise ServerUnavailable(
                "the response consists of headers, interim responses, chunk lengths or trailers only"
            )


class _MeteredSocket(io.RawIOBase):
    def __init__(self, wire: io.RawIOBase, meter: Meter) -> None:
        self._wire = wire
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._wire.readinto(buffer)
        self._meter.count(count or 0)
        return count

    def close(self) -> None:
        self._wire.close()
        super().close()


class MeteredResponse(HTTPResponse):
    """Counts its bytes, and skips all interim responses (RFC 9110 section 15.2), not only 100 (Continue)."""

    def __init__(self, meter: Meter, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_MeteredSocket(self.fp.detach(), meter))

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            parse_headers(self.fp)
