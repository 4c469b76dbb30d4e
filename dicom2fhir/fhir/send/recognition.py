"""Which FHIR server answers at an address, and its capabilities: requested once for all workers of a destination."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from dicom2fhir.errors import ConfigError, ServerUnavailable
from dicom2fhir.fhir.mapper import DialectChoice
from dicom2fhir.fhir.send.capabilities import Capabilities
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.find import Batches
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.fhir.version.formats import Format

_UNFIT_PAUSE_S = 60.0
"""For a server of the wrong FHIR version: a person has to change the server or the configuration."""
_ASK_AGAIN_S = 600.0
"""A server may be upgraded without a failed request, if nothing is sent to it meanwhile."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A server that can be written to.

    Attributes
    ----------
    batches
        Whether it supports batches, as far as known.
    shared
        Resources on it that several studies refer to: identity -> literal reference, and our content at that time.
        Discarded with the rest, because they may be deleted on the server.
    """

    capabilities: Capabilities
    dialect: Dialect
    batches: Batches
    asked_at: float
    """Time on ``time.monotonic``."""
    shared: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, ...]:
        """Differs between servers and between releases of one server; text from the server, not to be logged."""
        found = self.capabilities
        return found.fhir_version, found.software, found.software_version, found.of("ImagingStudy").ids


class Recognition:
    """Requests a server's ``/metadata``, and keeps the answer for a limited time; thread-safe."""

    def __init__(self, destination: str, client: FhirClient, choice: DialectChoice, format_: Format) -> None:
        self._destination = destination
        self._client = client
        self._choice = choice
        self._format = format_
        self._lock = threading.Lock()
        self._known: Recognised | None = None
        self._last: Recognised | None = None
        """Kept when ``_known`` is discarded."""
        self._asking: Future[Recognised] | None = None

    def server(self) -> Recognised:
        """The server; concurrent callers wait for one request and share its answer or failure.

        Raises
        ------
        ServerUnavailable
            There is no server, or its version cannot be written.
        """
        with self._lock:
            known = self._known
            if known is not None and time.monotonic() - known.asked_at < _ASK_AGAIN_S:
                return known
            asking, is_ours = self._asking, self._asking is None
            if asking is None:
                asking = self._asking = Future()
        if is_ours:
            try:
                asking.set_result(self._ask())
            except BaseException as error:
                asking.set_exception(error)
            finally:
                with self._lock:
                    self._asking = None
        return asking.result()

    def forget(self) -> None:
        """Discard the answer: the server was unavailable, and may be a different one when it is back."""
        with self._lock:
            self._known = None

    def _ask(self) -> Recognised:
        found = self._client.capabilities()
        try:
            dialect = self._choice.dialect(found.fhir_version)
        except ConfigError as error:
            said = f"The server uses FHIR {found.named_version}: {error}"
            raise ServerUnavailable(said, _UNFIT_PAUSE_S) from None
        self._client.speak(dialect, self._format)
        server = Recognised(found, dialect, Batches(self._destination, found.batch), time.monotonic())
        if self._last is not None and self._last.identity == server.identity:
            server = Recognised(found, dialect, self._last.batches, server.asked_at)
        else:
            self._log(server)
        with self._lock:
            self._known = self._last = server
        return server

    def _log(self, server: Recognised) -> None:
        found = server.capabilities
        log.info(
            "server.recognised",
            destination=self._destination,
            fhir_version=found.named_version,
            dialect=server.dialect.name,
            ids=found.of("ImagingStudy").ids,
            transaction=found.transaction,
        )
